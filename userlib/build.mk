# SPDX-License-Identifier: MIT
#
# libhakmem: static, shared and its pkg-config file.  All three come from the same objects.

# 0 leaves every trace of timing out; hkm_timing_enable() then returns -EOPNOTSUPP.
HAKMEM_DEBUG_TIMING ?= 1
# 0 leaves out the probes, or what memory checkers are told; so does a missing header.
HAKMEM_PROBES ?= 1
HAKMEM_CHECKERS ?= 1
LEFT_OUT := -DHAKMEM_DEBUG_TIMING=$(HAKMEM_DEBUG_TIMING) -DHAKMEM_PROBES=$(HAKMEM_PROBES) \
	-DHAKMEM_CHECKERS=$(HAKMEM_CHECKERS)

LIBHAKMEM_SRC :=		\
	userlib/anon.c		\
	userlib/api.c		\
	userlib/batch.c		\
	userlib/cache.c		\
	userlib/capacity.c	\
	userlib/checker.c	\
	userlib/elo.c		\
	userlib/env.c		\
	userlib/heap.c		\
	userlib/lane.c		\
	userlib/leave.c		\
	userlib/live.c		\
	userlib/lock.c		\
	userlib/low.c		\
	userlib/machine.c	\
	userlib/moving.c	\
	userlib/owner.c		\
	userlib/pack.c		\
	userlib/process_ring.c	\
	userlib/region.c	\
	userlib/region_batch.c	\
	userlib/report.c	\
	userlib/resize.c	\
	userlib/ring.c		\
	userlib/setup.c		\
	userlib/sites.c		\
	userlib/source.c	\
	userlib/supply.c	\
	userlib/sys.c		\
	userlib/tables.c	\
	userlib/threshold.c	\
	userlib/timing.c	\
	userlib/trimmer.c	\
	userlib/whale.c		\
	userlib/window.c

# The preload object has a front of its own and no public calls.
PRELOAD_SRC := userlib/preload.c $(filter-out userlib/api.c userlib/batch.c userlib/process_ring.c,$(LIBHAKMEM_SRC))

LIBHAKMEM_MAN :=			\
	userlib/man/hkm_alloc_batch.3	\
	userlib/man/hkm_init.3		\
	userlib/man/hkm_malloc.3	\
	userlib/man/hkm_sys_mmap.3	\
	userlib/man/hkm_timing_enable.3	\
	userlib/man/hkm_whale_init.3	\
	userlib/man/libhakmem.7

LIBHAKMEM_OBJ := $(LIBHAKMEM_SRC:%.c=$(B)/obj/%.o)

LIB += $(B)/libhakmem.a
LIB += $(B)/libhakmem.pc
LIB += $(B)/libhakmem.so
LIB += $(B)/libhakmem_preload.so

$(B)/obj/userlib/%.o: HK_CPPFLAGS += $(LEFT_OUT)
$(B)/obj/userlib/%.o: HK_CFLAGS += -fPIC -fvisibility=hidden -ftls-model=initial-exec
$(B)/obj/userlib/api.o $(B)/obj/userlib/preload.o: HK_CFLAGS += -fno-builtin
PRELOAD_OBJ := $(PRELOAD_SRC:%.c=$(B)/obj/%.o)

$(sort $(LIBHAKMEM_OBJ) $(PRELOAD_OBJ)): $(B)/.left_out

$(B)/.left_out: FORCE
	@mkdir -p $(@D)
	@echo '$(LEFT_OUT)' | cmp -s - $@ || echo '$(LEFT_OUT)' > $@

$(B)/libhakmem.a: $(LIBHAKMEM_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libhakmem.so.1: $(LIBHAKMEM_OBJ) userlib/libhakmem.map
	$(call say,LD,$@)
	$(Q)$(CC) $(HK_LDFLAGS) $(LDFLAGS) -shared -Wl,-soname,libhakmem.so.1 -Wl,-z,defs -Wl,-z,nodelete \
		-Wl,--version-script=userlib/libhakmem.map -o $@ $(LIBHAKMEM_OBJ) -pthread

$(B)/libhakmem.so: $(B)/libhakmem.so.1
	$(Q)ln -sf $(<F) $@

$(B)/libhakmem_preload.so: $(PRELOAD_OBJ) userlib/preload.map
	$(call say,LD,$@)
	$(Q)$(CC) $(HK_LDFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(@F) -Wl,-z,defs -Wl,-z,nodelete \
		-Wl,--version-script=userlib/preload.map -o $@ $(PRELOAD_OBJ) -pthread

# It is about where make install puts things, which may be another place each time.
$(B)/libhakmem.pc: userlib/libhakmem.pc.in FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# A page is found by the name of each function that it is about.  /usr/local/lib, as what else is not
# /lib or /usr/lib, the loader knows from its cache only.
INSTALL += install-lib
install-lib: $(LIB)
	$(Q)install -d $(DESTDIR)$(PREFIX)/include/linux $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/share/man/man3 $(DESTDIR)$(PREFIX)/share/man/man7
	$(Q)install -m 644 userlib/include/hakmem.h $(DESTDIR)$(PREFIX)/include
	$(Q)install -m 644 uapi/linux/hakmem_region.h $(DESTDIR)$(PREFIX)/include/linux
	$(Q)install -m 644 $(B)/libhakmem.a $(DESTDIR)$(PREFIX)/lib
	$(Q)install -m 755 $(B)/libhakmem.so.1 $(DESTDIR)$(PREFIX)/lib
	$(Q)install -m 755 $(B)/libhakmem_preload.so $(DESTDIR)$(PREFIX)/lib
	$(Q)ln -sf libhakmem.so.1 $(DESTDIR)$(PREFIX)/lib/libhakmem.so
	$(Q)install -m 644 $(B)/libhakmem.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig
	$(Q)install -m 644 $(filter %.3,$(LIBHAKMEM_MAN)) $(DESTDIR)$(PREFIX)/share/man/man3
	$(Q)for page in $(notdir $(filter %.3,$(LIBHAKMEM_MAN))); do \
		sed -n '/^\.SH NAME/,/\\-/{/^\.SH/d;s/\\-.*//;s/[ ,][ ,]*/\n/g;p}' userlib/man/$$page | \
			while read -r name; do \
				[ -z "$$name" ] || [ "$$name.3" = "$$page" ] || \
					echo ".so man3/$$page" > $(DESTDIR)$(PREFIX)/share/man/man3/$$name.3; \
			done; \
	done
	$(Q)install -m 644 $(filter %.7,$(LIBHAKMEM_MAN)) $(DESTDIR)$(PREFIX)/share/man/man7
ifeq ($(DESTDIR),)
	$(Q)PATH=$$PATH:/usr/sbin:/sbin; [ "$$(id -u)" != 0 ] || ! command -v ldconfig >/dev/null || ldconfig || :
endif
