# SPDX-License-Identifier: GPL-2.0
#
# Suite static: what can be said about the sources without running them.

SUITES += static
TAPS_static := $(B)/check/static.tap

STATIC_LOGS := $(foreach k,$(KERNELS),$(B)/kmod/$(k)-w1 $(B)/kmod/$(k)-sparse)

# The two kinds of build may fail, which is then a result: the script reads their logs.
check-static: $(KERNELS:%=build/ktree/%/tools/testing/selftests/kselftest_harness.h) ## builds with all warnings, sparse, checkpatch, shellcheck, headers alone, SPDX
	+@$(MAKE) -k --no-print-directory $(STATIC_LOGS:%=%/hakmem_region.ko) >/dev/null 2>&1 || :
	+@mkdir -p $(B)/check; $(MAKE) --no-print-directory B=$(B)/werror WERROR=1 lib tools tests \
		>$(B)/check/werror.log 2>&1; echo "exit $$?" >>$(B)/check/werror.log
	+@$(MAKE) --no-print-directory B=$(B)/bare WERROR=1 HAKMEM_PROBES=0 HAKMEM_CHECKERS=0 \
		HAKMEM_DEBUG_TIMING=0 lib >$(B)/check/bare.log 2>&1; echo "exit $$?" >>$(B)/check/bare.log
	$(Q)sh tests/static/run $(B) $(KERNELS)

.PHONY: check-static
