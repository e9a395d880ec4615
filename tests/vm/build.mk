# SPDX-License-Identifier: GPL-2.0
#
# Suite vm: the programs of this directory on each kernel.  One program: make check-vm VM_TESTS=name

SUITES += vm
TAPS_vm := $(KERNELS:%=$(B)/check/vm-%.tap)
TEST_PROGS += vm-programs

VM_TESTS ?=
VM_VARIANTS := $(filter-out none,$(shell sed -n 's/^[^\#]*\.module=//p' tests/vm/settings | sort -u))
VM_KO := $(foreach k,$(KERNELS),$(B)/kmod/$(k)/hakmem_region.ko $(VM_VARIANTS:%=$(B)/kmod/$(k)-%/hakmem_region.ko))

# The kernel's source and its images are taken from Debian's packages as they are needed.
build/ktree/%/tools/testing/selftests/kselftest_harness.h:
	$(call say,KTREE,$(@:/tools/testing/selftests/kselftest_harness.h=))
	$(Q)sh tools/vm/get-ktree $*

vm-programs: $(KSELFTEST)/kselftest_harness.h $(LIB)
	@mkdir -p $(B)/tests/vm $(KSELFTEST)/vm
	+$(Q)MAKEFLAGS="$${MAKEFLAGS%% -- *}" $(MAKE) --no-print-directory -C tests/vm V=$(V) \
		KSELFTEST=$(abspath $(KSELFTEST)) OUTPUT=$(abspath $(B))/tests/vm TOP=$(CURDIR) \
		HKLIB=$(abspath $(filter %.a,$(LIB))) OVERRIDE_TARGETS=1 \
		TEST_CFLAGS='$(if $(filter 1,$(WERROR)),-Werror)' all

check-vm: vm-programs $(VM_KO) $(LIB) $(TOOLS) ## the VM tests on all kernels (VM_TESTS=name for one, KERNELS=6.12)
	@bad=0; for k in $(KERNELS); do \
		printf '  %-7s %s\n' VM "Linux $$k"; \
		sh tests/vm/run-suite $$k $(abspath $(B)) $(VM_TESTS) || bad=1; \
	done; exit $$bad

.PHONY: vm-programs check-vm
