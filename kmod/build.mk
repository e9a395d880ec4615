# SPDX-License-Identifier: GPL-2.0
#
# $(B)/kmod/<series>[-<variant>]/hakmem_region.ko, for each series in KERNELS.
#
# Kbuild writes beside the sources (6.1 knows no MO=), so it is given a tree of links to them.
#
# Variants are separate builds of the same sources:
#	planted		a module with a known bug (HKR_PLANT_LATE_LOCK), for the test that must see it
#	w1, sparse	for tests/static: all warnings, and sparse over every file

KMOD_ARGS_planted := KCFLAGS=-DHKR_PLANT_LATE_LOCK
KMOD_ARGS_w1 := W=1
KMOD_ARGS_sparse := C=2

# The newest headers of a series; KDIR_6.1=... overrides.  Those that get-kernel keeps under
# build/kernels it is asked to see to: they may still be in the cache, or be of the version before.
kmod_headers = $(shell tools/vm/get-kernel --headers $(1))
$(foreach k,$(KERNELS),$(eval KDIR_$(k) ?= $(call kmod_headers,$(k))))

KMOD_READY := $(foreach k,$(KERNELS),$(if $(KDIR_$(k)),$(k)))
KMOD_UNPACK := $(foreach k,$(KERNELS),$(if $(filter $(CURDIR)/build/kernels/%,$(KDIR_$(k))),unpack-$(k)))
KMOD_SRC := Kbuild $(wildcard kmod/*.[ch] uapi/*.h uapi/linux/*.h)

# Notes that say nothing about our code.
KMOD_NOISE := Skipping BTF generation|the compiler differs from the one used|The kernel was built by:|You are using:|^make\[

kmod: $(KMOD_READY:%=$(B)/kmod/%/hakmem_region.ko) ## the module, for each kernel whose headers are installed
	@$(foreach k,$(filter-out $(KMOD_READY),$(KERNELS)),echo \
		'no module for $(k): its headers are not installed; run: sh tools/hk deps';)

# The builds for warnings start afresh, since a file that is not compiled again does not warn again.
# Everything Kbuild says goes to $(@D)/log, from which the static checks read the warnings.  MAKEFLAGS
# loses what was set on our command line: CFLAGS or CC for user space are none of the kernel's.  Since
# the line runs under make -n too, it looks for that itself.
$(B)/kmod/%/hakmem_region.ko: $(KMOD_SRC) | $(KMOD_UNPACK)
	$(eval kmod_k := $(firstword $(subst -, ,$*)))
	$(eval kmod_variant := $(word 2,$(subst -, ,$*)))
	$(call say,KBUILD,$@)
	@test -n '$(KDIR_$(kmod_k))' || { \
		echo 'no headers for Linux $(kmod_k); run: sh tools/hk deps' >&2; exit 1; }
	$(if $(filter w1 sparse,$(kmod_variant)),@rm -rf $(@D))
	@mkdir -p $(@D)/kmod
	@find $(@D) -xtype l -delete
	@ln -sfn $(CURDIR)/Kbuild $(CURDIR)/uapi $(@D)/
	@ln -sf $(CURDIR)/kmod/*.[ch] $(@D)/kmod/
	+$(Q)case "$${MAKEFLAGS%% *}" in --*) ;; *n*) exit 0 ;; esac; \
		MAKEFLAGS="$${MAKEFLAGS%% -- *}" $(MAKE) -C $(KDIR_$(kmod_k)) M=$(abspath $(@D)) V=$(V) \
		$(KMOD_ARGS_$(kmod_variant)) modules >$(@D)/log 2>&1 || { \
		cat $(@D)/log >&2; exit 1; }
	@if [ '$(V)' = 1 ]; then cat $(@D)/log; fi
	@grep -E '(warning|error):' $(@D)/log | grep -vE '$(KMOD_NOISE)' >&2 || :
	@touch $@

$(KMOD_UNPACK): unpack-%:
	$(Q)tools/vm/get-kernel $*

# kmod is a directory too.
.PHONY: kmod $(KMOD_UNPACK)

# The sources for dkms, which builds them for the kernel that runs; the manual page; the udev rule, and
# before it the group that it names, which udev looks for as it reads the rule, or, for a package, what
# has systemd make that; the script for its trace events.
INSTALL += install-kmod
KMOD_DKMS := $(DESTDIR)/usr/src/hakmem_region-$(VERSION)
install-kmod:
	$(Q)install -d $(KMOD_DKMS)/kmod $(KMOD_DKMS)/uapi/linux
	$(Q)install -m 644 Kbuild $(KMOD_DKMS)
	$(Q)install -m 644 $(wildcard kmod/*.[ch]) $(KMOD_DKMS)/kmod
	$(Q)install -m 644 uapi/linux/hakmem_region.h $(KMOD_DKMS)/uapi/linux
	$(Q)sed 's/@VERSION@/$(VERSION)/' kmod/dkms.conf.in > $(KMOD_DKMS)/dkms.conf
ifeq ($(DESTDIR),)
	$(Q)PATH=$$PATH:/usr/sbin:/sbin; [ "$$(id -u)" != 0 ] || getent group hakmem >/dev/null || \
		groupadd --system hakmem || echo 'no group hakmem: only root can use the device' >&2
endif
	$(Q)install -D -m 644 kmod/60-hakmem-region.rules $(DESTDIR)/usr/lib/udev/rules.d/60-hakmem-region.rules
	$(Q)install -D -m 644 kmod/hakmem.sysusers $(DESTDIR)/usr/lib/sysusers.d/hakmem.conf
	$(Q)install -D -m 755 tools/hakmem-reclaim.bt $(DESTDIR)$(PREFIX)/sbin/hakmem-reclaim.bt
	$(Q)install -D -m 644 kmod/man/hakmem_region.4 $(DESTDIR)$(PREFIX)/share/man/man4/hakmem_region.4
