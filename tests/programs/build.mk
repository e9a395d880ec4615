# SPDX-License-Identifier: GPL-2.0
#
# Real programs under the preload object, natively.

SUITES += programs

check-programs: $(B)/libhakmem_preload.so ## real programs with the library preloaded: the same output
	$(Q)CC='$(CC)' sh tests/programs/run $< $(B)/check/programs.tap

time-programs: $(B)/libhakmem_preload.so ## how long these take with the library and without (PAIRS=10 PROGRAMS=name)
	$(Q)CC='$(CC)' sh tests/programs/run --time $(or $(PAIRS),10) $< $(PROGRAMS)
.PHONY: check-programs time-programs
