// SPDX-License-Identifier: GPL-2.0
/*
 * Arenas that are charged to a memory cgroup: who is, that the limit holds, and
 * that a group which needs memory gets its own idle slots, and no others.
 * charge=auto here; the other modes are in charge.c.
 */
#include "group.h"
#include "reclaim.h"
#include "harness.h"

#define G		"/hkr"
#define NR_SLOTS	256
#define MIB		(1UL << 20)
/* what a group is charged ahead of use: 64 pages for each processor, some of them */
#define AHEAD		((long)MIB)

static long charged_arena(struct arena *a)
{
	long ret = arena_open(a, NR_SLOTS);

	return ret ?: a->setup.charged;
}

static void fill_run(struct arena *a, long first, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		fill(slot_of(a, first + i), first + i);
}

static int count_state(struct arena *a, int first, int nr, int state)
{
	int i, n = 0;

	for (i = 0; i < nr; i++)
		n += word_state(a, first + i) == state;
	return n;
}

FIXTURE(group)
{
	struct arena a;
};

FIXTURE_SETUP(group)
{
	self->a.fd = -1;
	ASSERT_EQ(0, group_delegate(""));
	ASSERT_EQ(0, group_make(G, 0));
}

FIXTURE_TEARDOWN(group)
{
	arena_close(&self->a);
	EXPECT_EQ(0, group_enter(""));
	EXPECT_EQ(0, group_remove(G));
	EXPECT_TRUE(sysfs_becomes("charged_folios", 0));
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(group, is_charged_where_a_limit_is_set)
{
	struct hkr_info info = { .size = sizeof(info) };

	EXPECT_EQ(0, charged_arena(&self->a));
	EXPECT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	EXPECT_TRUE(info.features & HKR_FEAT_CHARGE);
	arena_close(&self->a);

	ASSERT_EQ(0, group_enter(G));
	EXPECT_EQ(0, charged_arena(&self->a));
	arena_close(&self->a);
	ASSERT_EQ(0, group_make(G, 100));
	EXPECT_EQ(1, charged_arena(&self->a));
	arena_close(&self->a);
	ASSERT_EQ(0, group_write(G, "memory.max", "max"));
	ASSERT_EQ(0, group_write(G, "memory.high", "100M"));
	EXPECT_EQ(1, charged_arena(&self->a));
}

TEST_F(group, is_charged_for_a_limit_anywhere_above_it)
{
	ASSERT_EQ(0, group_make(G, 100));
	ASSERT_EQ(0, group_delegate(G));
	ASSERT_EQ(0, group_make(G "/below", 0));
	ASSERT_EQ(0, group_enter(G "/below"));
	EXPECT_EQ(1, charged_arena(&self->a));
	/* and memory reaches the limit */
	EXPECT_EQ(-ENOMEM, handout(&self->a, 60, COMMIT));
	EXPECT_EQ(0, handout(&self->a, 30, COMMIT));
	EXPECT_GE(group_read(G, "memory.current", NULL), 60L * MIB);
	arena_close(&self->a);
	ASSERT_EQ(0, group_enter(""));
	ASSERT_EQ(0, group_remove(G "/below"));
}

TEST_F(group, limit_holds_and_nobody_is_killed)
{
	struct arena *a = &self->a;
	long n = 0, last = 0, before = 0;
	struct hkr_stats st;

	ASSERT_EQ(0, group_make(G, 64));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	/* a refusal may leave room: what other processors had stocked comes back */
	while (last != -ENOMEM || before != -ENOMEM) {
		before = last;
		last = handout(a, 1, COMMIT);
		if (last < 0)
			continue;
		memset(slot_of(a, n++), 1, SLOT);
		ASSERT_GE(32, n);
		EXPECT_LE(group_read(G, "memory.current", NULL), 64L * MIB);
	}
	EXPECT_GE(n, 25);
	EXPECT_EQ(n, sysfs("charged_folios"));
	st = stats_of(a);
	EXPECT_EQ(n, st.resident);
	EXPECT_EQ(n, st.handed_out);
	EXPECT_EQ(n, st.served_new);
	/* a run is handed out whole or not at all, and nothing stays behind */
	EXPECT_EQ(0, recycle(a, DROP, 0, 4));
	EXPECT_EQ(-ENOMEM, handout(a, 6, COMMIT));
	EXPECT_EQ(n - 4, sysfs("charged_folios"));
	EXPECT_EQ(0, handout(a, 4, COMMIT));
	EXPECT_TRUE(all_zero(slot_of(a, 0), 4 * SLOT));
	/* new memory beside the old has no room either; the old is as it was */
	EXPECT_EQ(-ENOMEM, recycle(a, FRESH, 4, 4));
	EXPECT_EQ(1, *slot_of(a, 4));
	EXPECT_EQ(0, group_kills(G));
}

TEST_F(group, memory_goes_back_to_the_group_and_not_to_the_pool)
{
	struct arena *a = &self->a;
	long pool, before;

	ASSERT_EQ(0, group_make(G, 100));
	ASSERT_EQ(0, group_enter(G));
	pool = sysfs("pool_depth");
	before = group_read(G, "memory.current", NULL);
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(0, handout(a, 16, COMMIT));
	EXPECT_EQ(pool, sysfs("pool_depth"));
	fill_run(a, 0, 16);
	EXPECT_GE(group_read(G, "memory.current", NULL),
		  before + 32L * MIB - AHEAD);
	ASSERT_EQ(0, recycle(a, DROP, 0, 16));
	EXPECT_EQ(pool, sysfs("pool_depth"));
	EXPECT_EQ(0, sysfs("charged_folios"));
	EXPECT_LT(group_read(G, "memory.current", NULL), before + 4L * MIB);
}

TEST_F(group, handout_over_the_limit_takes_idle_slots_of_the_group_first)
{
	struct arena *a = &self->a, other, shared;
	int i;

	/* an arena outside the group: nothing of it is to go */
	ASSERT_EQ(0, charged_arena(&shared));
	ASSERT_EQ(0, handout(&shared, 4, COMMIT));
	for (i = 0; i < 4; i++)
		mark_idle_at(&shared, i, 0);

	ASSERT_EQ(0, group_make(G, 64));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(1, charged_arena(&other));
	ASSERT_EQ(0, handout(a, 20, COMMIT));
	ASSERT_EQ(0, handout(&other, 4, COMMIT));
	fill_run(a, 0, 20);
	/* the other arena of the group has the oldest */
	for (i = 0; i < 4; i++)
		mark_idle_at(&other, i, other.header->epoch - 50);
	for (i = 0; i < 12; i++)
		mark_idle(a, i);
	ASSERT_TRUE(sysfs_becomes("idle", 20));

	EXPECT_EQ(20, handout(a, 16, COMMIT));
	EXPECT_EQ(4, count_state(&other, 0, 4, HKR_WORD_EMPTY));
	EXPECT_EQ(4, count_state(&shared, 0, 4, HKR_WORD_IDLE));
	for (i = 0; i < 20; i++)
		if (word_state(a, i) != HKR_WORD_EMPTY)
			EXPECT_TRUE(filled(slot_of(a, i), i));
	EXPECT_GE(count_state(a, 0, 12, HKR_WORD_IDLE), 4);
	EXPECT_EQ(8, count_state(a, 12, 8, HKR_WORD_BUSY));
	/* one that asks for more than busy slots leave loses the idle ones too */
	EXPECT_EQ(-ENOMEM, handout(a, 24, COMMIT));
	EXPECT_EQ(8, count_state(a, 12, 8, HKR_WORD_BUSY));
	EXPECT_EQ(0, group_kills(G));
	arena_close(&other);
	arena_close(&shared);
}

/* the limit is met by the kernel, not by a call of ours */
TEST_F(group, process_in_need_gets_the_idle_slots_of_its_group)
{
	struct arena *a = &self->a, shared;
	int i, kept = 0;

	ASSERT_EQ(0, charged_arena(&shared));
	ASSERT_EQ(0, handout(&shared, 8, COMMIT));
	for (i = 0; i < 8; i++)
		mark_idle(&shared, i);
	ASSERT_EQ(0, group_make(G, 200));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(0, handout(a, 70, COMMIT));
	fill_run(a, 0, 70);
	for (i = 0; i < 70; i++)
		mark_idle(a, i);
	EXPECT_EQ(0, in_child(need, (void *)(150 * MIB)));
	EXPECT_EQ(0, group_kills(G));
	for (i = 0; i < 70; i++) {
		uint64_t seen = word_of(a, i);

		if (HKR_WORD_STATE(seen) != HKR_WORD_IDLE)
			continue;
		ASSERT_TRUE(take_again(a, i, seen));
		EXPECT_TRUE(filled(slot_of(a, i), i));
		kept++;
	}
	EXPECT_LE(kept, 25);
	EXPECT_EQ(70 - kept, stats_of(a).reclaimed);
	EXPECT_EQ(8, count_state(&shared, 0, 8, HKR_WORD_IDLE));
	arena_close(&shared);
}

#define MANY	32	/* arenas: twice as many as a call of the shrinker looks at */
#define EMPTY	80	/* before them, that have nothing: more than it comes past */

TEST_F(group, process_in_need_gets_what_is_idle_in_many_arenas)
{
	struct arena many[MANY], empty[EMPTY];
	int i, k, kept = 0;

	ASSERT_EQ(0, group_make(G, 200));
	ASSERT_EQ(0, group_enter(G));
	for (i = 0; i < EMPTY; i++)
		ASSERT_EQ(1, charged_arena(&empty[i]));
	for (i = 0; i < MANY; i++) {
		ASSERT_EQ(1, charged_arena(&many[i]));
		ASSERT_EQ(0, handout(&many[i], 2, COMMIT));
		for (k = 0; k < 2; k++)
			mark_idle(&many[i], k);
	}
	EXPECT_EQ(0, in_child(need, (void *)(170 * MIB)));
	EXPECT_EQ(0, group_kills(G));
	for (i = 0; i < MANY; i++) {
		kept += count_state(&many[i], 0, 2, HKR_WORD_IDLE);
		arena_close(&many[i]);
	}
	for (i = 0; i < EMPTY; i++)
		arena_close(&empty[i]);
	EXPECT_LE(kept, 15);
}

/* the machine's need reaches them too, group by group */
TEST_F(group, shrinkers_of_the_whole_machine_find_its_idle_slots)
{
	struct arena *a = &self->a;
	int i;

	ASSERT_EQ(0, group_make(G, 100));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(0, handout(a, 12, COMMIT));
	fill_run(a, 8, 4);
	for (i = 0; i < 8; i++)
		mark_idle(a, i);
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	EXPECT_EQ(8, count_state(a, 0, 8, HKR_WORD_EMPTY));
	EXPECT_TRUE(reclaimed_becomes(a, 8));
	for (i = 8; i < 12; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));
	/* and what they were is reported no longer */
	EXPECT_TRUE(sysfs_becomes("idle", 0));
	EXPECT_TRUE(reported_becomes(0));
}

/* memory.reclaim asks the shrinkers of one group */
TEST_F(group, reclaim_of_one_group_leaves_the_others_alone)
{
	struct arena *a = &self->a, other;
	int i;

	ASSERT_EQ(0, group_make(G, 200));
	ASSERT_EQ(0, group_make("/hkr2", 200));
	ASSERT_EQ(0, group_enter("/hkr2"));
	ASSERT_EQ(1, charged_arena(&other));
	ASSERT_EQ(0, handout(&other, 16, COMMIT));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(0, handout(a, 24, COMMIT));
	/* these are the older ones */
	for (i = 0; i < 16; i++)
		mark_idle_at(&other, i, other.header->epoch - 50);
	for (i = 0; i < 16; i++)
		mark_idle(a, i);
	ASSERT_TRUE(sysfs_becomes("idle", 32));
	/* it may say that it got less: what shrinkers free is not its count */
	group_write(G, "memory.reclaim", "30M");
	EXPECT_GE(count_state(a, 0, 16, HKR_WORD_EMPTY), 14);
	EXPECT_EQ(8, count_state(a, 16, 8, HKR_WORD_BUSY));
	EXPECT_EQ(16, count_state(&other, 0, 16, HKR_WORD_IDLE));
	group_write("/hkr2", "memory.reclaim", "8M");
	EXPECT_GE(count_state(&other, 0, 16, HKR_WORD_EMPTY), 4);
	arena_close(&other);
	EXPECT_EQ(0, group_remove("/hkr2"));
}

TEST_F(group, decay_and_trim_work_as_elsewhere)
{
	struct arena *a = &self->a;
	int i;

	ASSERT_EQ(0, group_make(G, 100));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(0, arena_open_decay(a, NR_SLOTS, 300));
	ASSERT_EQ(1, a->setup.charged);
	ASSERT_EQ(0, handout(a, 8, COMMIT));
	for (i = 0; i < 6; i++)
		mark_idle(a, i);
	EXPECT_TRUE(sysfs_becomes("charged_folios", 2));
	mark_idle(a, 6);
	EXPECT_EQ(1, trim(a, 0, 0));
	EXPECT_EQ(1, sysfs("charged_folios"));
}

/* a touch is charged too, to the owner */
TEST_F(group, sparse_run_is_charged_by_the_touch)
{
	struct arena *a = &self->a;
	long before;

	ASSERT_EQ(0, group_make(G, 64));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	before = group_read(G, "memory.current", NULL);
	ASSERT_EQ(0, handout(a, 128, 0));
	EXPECT_EQ(0, touch(slot_of(a, 3), true));
	EXPECT_EQ(0, touch(slot_of(a, 77), true));
	EXPECT_EQ(2, sysfs("charged_folios"));
	EXPECT_GE(group_read(G, "memory.current", NULL),
		  before + 4L * MIB - AHEAD);
}

/* the group ends while its slots live on: its parent has them then */
TEST_F(group, end_of_the_group_loses_nothing)
{
	struct arena *a = &self->a;
	int i;

	ASSERT_EQ(0, group_make(G, 100));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(0, handout(a, 8, COMMIT));
	fill_run(a, 0, 8);
	ASSERT_EQ(0, group_enter(""));
	ASSERT_EQ(0, group_remove(G));
	for (i = 0; i < 8; i++) {
		EXPECT_TRUE(filled(slot_of(a, i), i));
		mark_idle(a, i);
	}
	/* still found, by age */
	EXPECT_TRUE(sysfs_becomes("idle", 8));
	EXPECT_EQ(8, trim(a, 0, 0));
	EXPECT_EQ(0, handout(a, 2, COMMIT));
	EXPECT_EQ(0, group_make(G, 0));
}

/* a pinned page keeps its folio, and its charge, and goes to nobody else */
TEST_F(group, pinned_folio_stays_charged_until_it_is_free)
{
	struct arena *a = &self->a;
	struct iovec iov;
	int p[2];

	ASSERT_EQ(0, group_make(G, 100));
	ASSERT_EQ(0, group_enter(G));
	ASSERT_EQ(1, charged_arena(a));
	ASSERT_EQ(0, handout(a, 2, COMMIT));
	fill_run(a, 0, 2);
	ASSERT_EQ(0, pipe(p));
	iov = (struct iovec){ slot_of(a, 0), PAGE };
	ASSERT_EQ(PAGE, vmsplice(p[1], &iov, 1, 0));
	ASSERT_EQ(0, recycle(a, DROP, 0, 2));
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_EQ(1, sysfs("charged_folios"));
	close(p[0]);
	close(p[1]);
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_TRUE(sysfs_becomes("charged_folios", 0));
}

TEST_HARNESS_MAIN
