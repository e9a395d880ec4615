# SPDX-License-Identifier: MIT
#
# hkbench, the benchmark.

HKBENCH_SRC := \
	tools/hkbench/backends.c \
	tools/hkbench/backends_keep.c \
	tools/hkbench/backends_region.c \
	tools/hkbench/batch.c \
	tools/hkbench/batch_ways.c \
	tools/hkbench/book.c \
	tools/hkbench/clock.c \
	tools/hkbench/cold.c \
	tools/hkbench/device.c \
	tools/hkbench/fork.c \
	tools/hkbench/goals.c \
	tools/hkbench/goals_memory.c \
	tools/hkbench/idle.c \
	tools/hkbench/idle_out.c \
	tools/hkbench/json.c \
	tools/hkbench/lane.c \
	tools/hkbench/loop.c \
	tools/hkbench/machine.c \
	tools/hkbench/main.c \
	tools/hkbench/peers.c \
	tools/hkbench/peers_out.c \
	tools/hkbench/peers_work.c \
	tools/hkbench/pressure.c \
	tools/hkbench/pressure_backends.c \
	tools/hkbench/pressure_out.c \
	tools/hkbench/pressure_owner.c \
	tools/hkbench/process.c \
	tools/hkbench/progress.c \
	tools/hkbench/reclaim.c \
	tools/hkbench/report.c \
	tools/hkbench/ring.c \
	tools/hkbench/scattered.c \
	tools/hkbench/syscount.c \
	tools/hkbench/zeroing.c

TOOLS += $(B)/hkbench

# Bound at start: the first operation of a process is not to time the dynamic linker.
$(B)/hkbench: $(HKBENCH_SRC:%.c=$(B)/obj/%.o) $(B)/libhakmem.a
	$(call say,LD,$@)
	$(Q)$(CC) $(HK_LDFLAGS) $(LDFLAGS) -Wl,-z,now -o $@ $^ -ljansson -luring -lm -ldl -pthread

INSTALL += install-hkbench
install-hkbench: $(B)/hkbench
	$(Q)install -D -m 755 $(B)/hkbench $(DESTDIR)$(PREFIX)/bin/hkbench
	$(Q)install -D -m 644 tools/hkbench/hkbench.1 \
		$(DESTDIR)$(PREFIX)/share/man/man1/hkbench.1
