// SPDX-License-Identifier: GPL-2.0
/*
 * Each trace event says what was done, and to whom. Enabled through tracefs, one
 * event at a time; with none enabled nothing is traced.
 */
#include "tracefs.h"
#include <sys/uio.h>
#include "harness.h"

#define NR		8
#define NR_SLOTS	256
#define DEBUGFS		"/sys/kernel/debug/hakmem_region/"

FIXTURE(owner)
{
	struct arena a;
};

FIXTURE_SETUP(owner)
{
	if (access(EVENTS "enable", F_OK))
		SKIP(return, "no trace events in this kernel");
	ASSERT_EQ(0, trace_enable(NULL, false));
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	ASSERT_EQ(0, trace_clear());
}

FIXTURE_TEARDOWN(owner)
{
	EXPECT_EQ(0, trace_enable(NULL, false));
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(owner, is_not_traced_unasked)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 16, 2, 0));
	ASSERT_EQ(0, touch(slot_of(a, 16), true));
	ASSERT_EQ(0, recycle(a, DROP, 16, 2));
	mark_idle(a, 0);
	ASSERT_EQ(1, trim(a, 0, 0));
	EXPECT_EQ(0, trace_count(NULL, "%s", ""));
}

TEST_F(owner, handout_names_the_run_and_the_result)
{
	struct arena *a = &self->a, other;

	ASSERT_EQ(0, trace_enable("hkr_handout", true));
	ASSERT_EQ(0, handout_at(a, 16, 2, COMMIT));
	EXPECT_EQ(1, trace_count("hkr_handout",
				 " owner=%d first=16 nr=2 flags=commit|at node=-1 unzeroed=0 result=0",
				 getpid()));
	EXPECT_EQ(-EEXIST, handout_at(a, 16, 2, 0));
	EXPECT_EQ(1, trace_count("hkr_handout",
				 " nr=2 flags=at node=-1 unzeroed=0 result=%d",
				 -EEXIST));
	mark_idle(a, 0);
	ASSERT_LE(0, handout(a, 1, COMMIT | FROM_IDLE));
	EXPECT_EQ(1, trace_count("hkr_handout",
				 " flags=commit|from_idle node=-1 unzeroed=1 result=0"));
	/* arenas are told apart */
	ASSERT_EQ(0, arena_open(&other, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&other, 16, 3, 0));
	EXPECT_NE(trace_number("hkr_handout", " nr=2 ", "arena"),
		  trace_number("hkr_handout", " nr=3 ", "arena"));
	EXPECT_EQ(4, trace_count(NULL, "%s", ""));
	arena_close(&other);
}

TEST_F(owner, recycle_names_the_mode_and_the_result)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 32, 1, 0));
	ASSERT_EQ(0, trace_enable("hkr_recycle", true));
	ASSERT_EQ(0, recycle(a, FRESH, 0, 2));
	ASSERT_EQ(0, recycle_to(a, MOVE, 2, 1, 32));
	ASSERT_EQ(0, recycle(a, IDLE, 3, 1));
	ASSERT_EQ(0, recycle(a, DROP, 4, 3));
	ASSERT_EQ(-ENXIO, recycle(a, DROP, 100, 1));
	EXPECT_EQ(1, trace_count("hkr_recycle",
				 " owner=%d mode=fresh first=0 nr=2 to=0 result=0",
				 getpid()));
	EXPECT_EQ(1, trace_count("hkr_recycle",
				 " mode=move first=2 nr=1 to=32 result=0"));
	EXPECT_EQ(1, trace_count("hkr_recycle",
				 " mode=idle first=3 nr=1 to=0 result=0"));
	EXPECT_EQ(1, trace_count("hkr_recycle",
				 " mode=drop first=4 nr=3 to=0 result=0"));
	EXPECT_EQ(1, trace_count("hkr_recycle",
				 " mode=drop first=100 nr=1 to=0 result=%d",
				 -ENXIO));
	EXPECT_EQ(5, trace_count(NULL, "%s", ""));
}

/* ---- reclaim: who lost which slot, how old, and why ---- */

TEST_F(owner, reclaim_by_trim_tells_the_age)
{
	struct arena *a = &self->a;
	uint32_t start = a->header->epoch;
	long age;

	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
	mark_idle_at(a, 3, start - 20);
	ASSERT_EQ(1, trim(a, 0, 0));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " owner=%d comm=trace slot=3 ",
				 getpid()));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " why=trim"));
	EXPECT_EQ(0, trace_number("hkr_reclaim", " slot=3 ", "node"));
	age = trace_number("hkr_reclaim", " slot=3 ", "age");
	EXPECT_LE(20, age);
	/* the published epoch may be old */
	ASSERT_EQ(0, handout_at(a, 32, 1, 0));
	EXPECT_GE(20 + (a->header->epoch - start), age);
}

TEST_F(owner, reclaim_tells_why)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
	mark_idle(a, 0);
	ASSERT_LE(0, handout(a, 1, COMMIT | FROM_IDLE));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " slot=0 "));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " why=from_idle"));

	/* spare folios of the pool go first */
	mark_idle(a, 1);
	while (word_state(a, 1) == HKR_WORD_IDLE)
		ASSERT_EQ(0, trace_write(DEBUGFS "shrink", "64"));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " slot=1 "));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " why=trigger"));
	EXPECT_EQ(2, trace_count(NULL, "%s", ""));
}

TEST_F(owner, reclaim_by_decay_names_the_owner)
{
	struct arena a;
	long age;

	ASSERT_EQ(0, arena_open_decay(&a, NR_SLOTS, 200));
	ASSERT_EQ(0, handout_at(&a, 0, 2, COMMIT));
	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
	mark_idle(&a, 1);
	EXPECT_TRUE(sysfs_becomes("resident", NR + 1));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " owner=%d comm=trace slot=1 ",
				 getpid()));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " why=decay"));
	age = trace_number("hkr_reclaim", " slot=1 ", "age");
	EXPECT_LE(2, age);
	EXPECT_EQ(1, trace_count(NULL, "%s", ""));
	arena_close(&a);
}

/* ---- zero, orphan, fault ---- */

TEST_F(owner, zeroing_tells_who_waited)
{
	struct arena *a = &self->a;
	int i;

	ASSERT_EQ(0, trace_enable("hkr_zero", true));
	/* more than the pool has */
	ASSERT_EQ(0, handout_at(a, 32, 64, COMMIT));
	EXPECT_LE(1, trace_count("hkr_zero", " node=0 background=0 ns="));
	EXPECT_LT(0, trace_number("hkr_zero", " background=0 ", "ns"));
	ASSERT_EQ(0, recycle(a, DROP, 32, 64));
	for (i = 0; i < 2000; i++) {
		if (trace_count("hkr_zero", " node=0 background=1 ns=") > 0)
			break;
		usleep(10000);
	}
	EXPECT_LT(i, 2000);
}

TEST_F(owner, orphan_comes_and_goes)
{
	struct iovec iov = { slot_of(&self->a, 0), PAGE };
	struct arena *a = &self->a;
	char buf[PAGE];
	uint64_t pfn;
	int fd[2];

	*slot_of(a, 0) = 1;
	pfn = pfn_of(slot_of(a, 0));
	ASSERT_NE(0, pfn);
	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(PAGE, vmsplice(fd[1], &iov, 1, 0));
	ASSERT_EQ(0, trace_enable("hkr_orphan", true));
	ASSERT_EQ(0, recycle(a, DROP, 0, 1));
	EXPECT_EQ(1, trace_count("hkr_orphan", " pfn=%#lx uid=%u gone=0",
				 (unsigned long)pfn, getuid()));
	ASSERT_EQ(PAGE, read(fd[0], buf, sizeof(buf)));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_EQ(1, trace_count("hkr_orphan", " pfn=%#lx uid=%u gone=1",
				 (unsigned long)pfn, getuid()));
	close(fd[0]);
	close(fd[1]);
}

TEST_F(owner, fault_names_slot_page_and_result)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, trace_enable("hkr_fault", true));
	ASSERT_EQ(0, touch(slot_of(a, 1) + 3 * PAGE, false));
	ASSERT_EQ(0, touch(slot_of(a, 1) + 9 * PAGE, true));
	EXPECT_EQ(1, trace_count("hkr_fault",
				 " owner=%d slot=1 page=3 write=0 result=locked",
				 getpid()));
	*slot_of(a, 2) = 1;
	EXPECT_EQ(1, trace_count("hkr_fault", " slot=2 page=0 write=1 "));
	ASSERT_EQ(SIGBUS, touch(slot_of(a, 100), false));
	EXPECT_EQ(1, trace_count("hkr_fault",
				 " slot=100 page=0 write=0 result=sigbus"));
	EXPECT_EQ(3, trace_count(NULL, "%s", ""));
}

/* the last one: after it the pool takes nothing in for a minute */
TEST_F(owner, reclaim_of_a_node_that_goes)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
	mark_idle(a, 2);
	ASSERT_EQ(0, trace_write(DEBUGFS "drain", "0"));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " slot=2 "));
	EXPECT_EQ(1, trace_count("hkr_reclaim", " why=offline"));
	EXPECT_EQ(1, trace_count(NULL, "%s", ""));
}

TEST_HARNESS_MAIN
