# SPDX-License-Identifier: GPL-2.0
#
# Suite vm-debug: the programs of tests/vm on a kernel that checks itself, which get-kernel builds with
# the options in config.  It is one more kernel to build the module for, by the name debug, but not in
# KERNELS: nothing but this suite waits for it.

DEBUG_SUITES += vm-debug

DEBUG_KERNEL := build/kernels/debug/.version
DEBUG_KO := $(B)/kmod/debug/hakmem_region.ko $(VM_VARIANTS:%=$(B)/kmod/debug-%/hakmem_region.ko)
KDIR_debug ?= $(CURDIR)/build/kernels/debug

# Left alone where it is of this source and these options.
$(DEBUG_KERNEL): FORCE
	$(Q)tests/debug/get-kernel

$(DEBUG_KO): $(DEBUG_KERNEL)

check-vm-debug: vm-programs $(DEBUG_KO) $(LIB) $(TOOLS)
	@printf '  %-7s %s\n' VM 'the debug kernel'
	@sh tests/vm/run-suite debug $(abspath $(B)) $(VM_TESTS)

.PHONY: check-vm-debug
