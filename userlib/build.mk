# SPDX-License-Identifier: MIT
#
# libhakmem: static, shared and its pkg-config file.  All three come from the same objects.

# 0 leaves every trace of timing out; hkm_timing_enable() then returns -EOPNOTSUPP.
HAKMEM_DEBUG_TIMING ?= 1

LIBHAKMEM_SRC :=		\
	userlib/anon.c		\
	userlib/env.c		\
	userlib/heap.c		\
	userlib/lock.c		\
	userlib/process_ring.c	\
	userlib/region.c	\
	userlib/ring.c		\
	userlib/sys.c		\
	userlib/timing.c	\
	userlib/whale.c

LIBHAKMEM_MAN :=			\
	userlib/man/hkm_malloc.3	\
	userlib/man/hkm_sys_mmap.3	\
	userlib/man/hkm_timing_enable.3	\
	userlib/man/hkm_whale_init.3	\
	userlib/man/libhakmem.7

LIBHAKMEM_OBJ := $(LIBHAKMEM_SRC:%.c=$(B)/obj/%.o)

LIB += $(B)/libhakmem.a
LIB += $(B)/libhakmem.pc
LIB += $(B)/libhakmem.so

$(B)/obj/userlib/%.o: HK_CPPFLAGS += -DHAKMEM_DEBUG_TIMING=$(HAKMEM_DEBUG_TIMING)
$(B)/obj/userlib/%.o: HK_CFLAGS += -fPIC -fvisibility=hidden
$(LIBHAKMEM_OBJ): $(B)/.debug_timing

$(B)/.debug_timing: FORCE
	@mkdir -p $(@D)
	@echo $(HAKMEM_DEBUG_TIMING) | cmp -s - $@ || echo $(HAKMEM_DEBUG_TIMING) > $@

$(B)/libhakmem.a: $(LIBHAKMEM_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libhakmem.so.1: $(LIBHAKMEM_OBJ) userlib/libhakmem.map
	$(call say,LD,$@)
	$(Q)$(CC) $(HK_LDFLAGS) $(LDFLAGS) -shared -Wl,-soname,libhakmem.so.1 -Wl,-z,defs \
		-Wl,--version-script=userlib/libhakmem.map -o $@ $(LIBHAKMEM_OBJ) -pthread

$(B)/libhakmem.so: $(B)/libhakmem.so.1
	$(Q)ln -sf $(<F) $@

$(B)/libhakmem.pc: userlib/libhakmem.pc.in $(B)/.flags
	$(call say,GEN,$@)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

INSTALL += install-lib
install-lib: $(LIB)
	$(Q)install -d $(DESTDIR)$(PREFIX)/include/linux $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/share/man/man3 $(DESTDIR)$(PREFIX)/share/man/man7
	$(Q)install -m 644 userlib/include/hakmem.h $(DESTDIR)$(PREFIX)/include
	$(Q)install -m 644 uapi/linux/hakmem_region.h $(DESTDIR)$(PREFIX)/include/linux
	$(Q)install -m 644 $(B)/libhakmem.a $(DESTDIR)$(PREFIX)/lib
	$(Q)install -m 755 $(B)/libhakmem.so.1 $(DESTDIR)$(PREFIX)/lib
	$(Q)ln -sf libhakmem.so.1 $(DESTDIR)$(PREFIX)/lib/libhakmem.so
	$(Q)install -m 644 $(B)/libhakmem.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig
	$(Q)install -m 644 $(filter %.3,$(LIBHAKMEM_MAN)) $(DESTDIR)$(PREFIX)/share/man/man3
	$(Q)install -m 644 $(filter %.7,$(LIBHAKMEM_MAN)) $(DESTDIR)$(PREFIX)/share/man/man7
