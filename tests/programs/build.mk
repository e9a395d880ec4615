# SPDX-License-Identifier: GPL-2.0
#
# Real programs under the preload object, natively, and on the device of each kernel.

SUITES += programs

check-programs: $(B)/libhakmem_preload.so $(KMOD_READY:%=$(B)/kmod/%/hakmem_region.ko) ## real programs with the library preloaded: the same output
	$(Q)CC='$(CC)' DEVICE_KERNELS='$(KERNELS)' sh tests/programs/run $< $(B)/check/programs.tap

time-programs: $(B)/libhakmem_preload.so ## how long these take with the library and without, and whether that is within 3 % (PAIRS=10 PROGRAMS=name)
	$(Q)CC='$(CC)' sh tests/programs/run --time $(or $(PAIRS),10) $< $(PROGRAMS)
.PHONY: check-programs time-programs
