# SPDX-License-Identifier: GPL-2.0
#
# Tests of the library alone, on the machine that builds: no module, no VM.  The library and its
# tests are built again for each variant, below $(B)/native/, by this makefile with another B.

NATIVE_PROGS :=		\
	anon_test		\
	batch_test		\
	capacity_test		\
	checker_test		\
	colour_test		\
	config_test		\
	elo_test		\
	family_test		\
	fit_test		\
	front_test		\
	heap_shared_test	\
	heap_test		\
	low_test		\
	pack_test		\
	region_test		\
	report_test		\
	ring_test		\
	ring_threads_test	\
	seccomp_test		\
	shadow_test		\
	sites_test		\
	thp_test		\
	threshold_test		\
	threshold_threads_test	\
	timing_test		\
	trimmer_test		\
	window_test

# Each variant: its flags, and the programs that say something new there.
NATIVE_VARIANTS := plain asan tsan notiming

NATIVE_RUN_plain    := $(NATIVE_PROGS)
# A sanitizer has system calls of its own, and a malloc().
NATIVE_RUN_asan     := $(filter-out front_test seccomp_test,$(NATIVE_PROGS))
NATIVE_RUN_tsan     := batch_test heap_shared_test pack_test region_test ring_threads_test \
			sites_test threshold_test threshold_threads_test timing_test trimmer_test
NATIVE_RUN_notiming := ring_test timing_test

NATIVE_MAKE_plain    := B=$(B)
NATIVE_MAKE_asan     := B=$(B)/native/asan LDFLAGS='$(LDFLAGS) -fsanitize=address,undefined' \
	CFLAGS='$(CFLAGS) -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-DSANITIZED'
NATIVE_MAKE_tsan     := B=$(B)/native/tsan LDFLAGS='$(LDFLAGS) -fsanitize=thread' \
	CFLAGS='$(CFLAGS) -fsanitize=thread -DSANITIZED'
NATIVE_MAKE_notiming := B=$(B)/native/notiming HAKMEM_DEBUG_TIMING=0

NATIVE_DIR_plain    := $(B)
NATIVE_DIR_asan     := $(B)/native/asan
NATIVE_DIR_tsan     := $(B)/native/tsan
NATIVE_DIR_notiming := $(B)/native/notiming

NATIVE_BIN := $(NATIVE_PROGS:%=$(B)/tests/native/%)

TEST_PROGS += $(NATIVE_BIN)
SUITES += native
TAPS_native := $(NATIVE_VARIANTS:%=$(B)/check/native-%.tap)

# The stand-in for the device goes in front of these, see fakedev.h.
NATIVE_WRAP :=				\
	hkm_site			\
	hkm_sys_clock_ns		\
	hkm_sys_is_one_mapping		\
	hkm_sys_minor_faults		\
	hkm_sys_mmap			\
	hkm_sys_mremap_away		\
	hkm_sys_name			\
	hkm_sys_open_trigger		\
	hkm_sys_region_access		\
	hkm_sys_region_handout		\
	hkm_sys_region_info		\
	hkm_sys_region_open		\
	hkm_sys_region_recycle		\
	hkm_sys_region_setup		\
	hkm_sys_table			\
	hkm_sys_wait_trigger

$(B)/obj/tests/native/%.o: HK_CPPFLAGS += -Iuserlib
ifeq ($(HAKMEM_DEBUG_TIMING),0)
$(B)/obj/tests/native/%.o: HK_CPPFLAGS += -DWITHOUT_TIMING
endif

$(NATIVE_BIN): $(B)/tests/native/%: $(B)/obj/tests/native/%.o $(B)/obj/tests/native/fakedev.o \
		$(B)/libhakmem.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HK_LDFLAGS) $(LDFLAGS) $(NATIVE_WRAP:%=-Wl,--wrap=%) -o $@ \
		$(filter %.o,$^) $(filter %.a,$^) -pthread

# The preload object's front is there before the library is looked at for one.
$(B)/tests/native/front_test: $(B)/obj/userlib/preload.o

native-progs: $(NATIVE_BIN)

define native_variant
check-native-$(1):
	+$$(Q)$$(MAKE) --no-print-directory $$(NATIVE_MAKE_$(1)) native-progs $$(if $$(filter plain,$(1)),lib)
	$$(Q)CC='$$(CC)' sh tests/native/run $(1) $$(NATIVE_DIR_$(1)) $$(B)/check/native-$(1).tap \
		$$(NATIVE_RUN_$(1))
.PHONY: check-native-$(1)
endef
$(foreach v,$(NATIVE_VARIANTS),$(eval $(call native_variant,$(v))))

# Every variant runs, whatever the others did; a variant that does not build has no TAP file.
check-native: ## the library's tests, as they are and with sanitizers
	+@for v in $(NATIVE_VARIANTS); do \
		$(MAKE) --no-print-directory check-native-$$v || failed=1; done; [ -z "$$failed" ]
.PHONY: check-native native-progs
