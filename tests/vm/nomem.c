// SPDX-License-Identifier: GPL-2.0
/*
 * Memory runs out before any cap does: ENOMEM, with nothing changed. settings
 * gives this program a small machine and caps beyond its memory.
 */
#include "reclaim.h"
#include "zeroing.h"
#include "harness.h"

FIXTURE(exhausted)
{
	struct arena a;
	long nr;
};

/* What the kernel itself can do without goes first: it must not come back later. */
static long take_all(struct arena *a)
{
	int refused = 0;
	long nr = 0;

	while (refused < 5 && nr < 512) {
		if (!handout_at(a, nr, 1, COMMIT)) {
			nr++;
			refused = 0;
			continue;
		}
		refused++;
		write_file("/proc/sys/vm/drop_caches", "3");
	}
	return nr;
}

FIXTURE_SETUP(exhausted)
{
	struct hkr_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, arena_open(&self->a, 512));
	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	/* more than there is memory */
	ASSERT_LE(512, info.open_limit);
	self->nr = take_all(&self->a);
	TH_LOG("%ld slots", self->nr);
	ASSERT_LE(8, self->nr);
	ASSERT_GT(512, self->nr);
}

FIXTURE_TEARDOWN(exhausted)
{
	EXPECT_EQ(0, set_param("zero_background", "1"));
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(exhausted, handout_is_enomem_and_changes_nothing)
{
	struct arena *a = &self->a;
	struct hkr_stats before;
	uint64_t word;
	long ret;

	/* the machine itself may have found a block meanwhile */
	do {
		before = stats_of(a);
		word = word_of(a, self->nr);
		ret = handout_at(a, self->nr, 1, COMMIT);
	} while (!ret && ++self->nr < 512);
	EXPECT_EQ(-ENOMEM, ret);
	EXPECT_EQ(-ENOMEM, handout(a, 512 - self->nr, COMMIT));
	EXPECT_TRUE(same_stats(a, &before));
	EXPECT_EQ(word, word_of(a, self->nr));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, self->nr), false));
}

TEST_F(exhausted, run_is_handed_out_whole_or_not_at_all)
{
	struct arena *a = &self->a;
	struct hkr_stats st;

	/* some memory is there, but not for all of the run */
	ASSERT_EQ(0, recycle(a, DROP, 0, 6));
	EXPECT_EQ(-ENOMEM, handout(a, 512 - self->nr, COMMIT));
	st = stats_of(a);
	EXPECT_EQ(self->nr - 6, st.handed_out);
	EXPECT_EQ(self->nr - 6, st.resident);
	/* what was gathered is back where it can be had */
	EXPECT_TRUE(all_in_place());
	EXPECT_EQ(0, handout_at(a, 0, 4, COMMIT));
	EXPECT_TRUE(all_zero(a->base, 4 * SLOT));
}

TEST_F(exhausted, fresh_is_enomem_and_keeps_contents)
{
	struct arena *a = &self->a;
	struct hkr_stats before;
	int i;

	for (i = 0; i < 4; i++)
		fill(slot_of(a, i), i);
	before = stats_of(a);
	/* all of them: the machine itself may have found a few blocks meanwhile */
	EXPECT_EQ(-ENOMEM, recycle(a, FRESH, 0, self->nr));
	EXPECT_TRUE(same_stats(a, &before));
	for (i = 0; i < 4; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));
	/* nor does MOVE or FROM_IDLE need any */
	ASSERT_EQ(0, handout_at(a, 511, 1, 0));
	EXPECT_EQ(0, recycle_to(a, MOVE, 0, 1, 511));
	EXPECT_TRUE(filled(slot_of(a, 511), 0));
	mark_idle(a, 511);
	EXPECT_EQ(0, handout_at(a, 0, 1, COMMIT | FROM_IDLE));
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
}

#define RECLAIM "hakmem_region/hkr_reclaim"

/* until one is of what somebody had; the machine itself may find a block before that */
static int gets_what_was_used(void *arg)
{
	struct arena b;
	long n = 0;

	if (arena_open(&b, 16))
		return 1;
	while (n < 16 && !stats_of(&b).served_dirty)
		if (handout_at(&b, n++, 1, COMMIT))
			return 2;
	if (stats_of(&b).served_dirty != 1)
		return 3;
	return all_zero(b.base, n * SLOT) ? 0 : 4;
}

/* what another process has idle, the oldest of it, before anybody gets ENOMEM */
TEST_F(exhausted, handout_takes_the_oldest_idle_slot_of_any_arena)
{
	struct arena *a = &self->a;
	long nr_gone = 0, i;

	ASSERT_EQ(0, keep_from_children(a));
	/* what is taken is to be found dirty: the thread would make it clean */
	ASSERT_EQ(0, set_param("zero_background", "0"));
	for (i = 0; i < 6; i++)
		fill(slot_of(a, i), i);
	/* before there is anything that the machine itself could take */
	ASSERT_EQ(0, trace_on(RECLAIM, "0"));
	for (i = 0; i < 4; i++)
		mark_idle_at(a, i, a->header->epoch - (i == 2 ? 20 : 10));
	ASSERT_TRUE(sampled_or_reclaimed(a, 4));
	/* the pool may have what is clean, for slots with single pages */
	EXPECT_EQ(0, sysfs("dirty"));
	EXPECT_EQ(0, in_child(gets_what_was_used, NULL));
	/* from here on nothing more goes */
	for (i = 0; i < 4; i++)
		nr_gone += !gets_again(a, i);
	trace_off(RECLAIM);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 2));
	EXPECT_EQ(1, trace_each("hkr_reclaim:", " why=handout", NULL, NULL));
	/* younger ones, if the machine itself needs none, and those in use are as they were */
	EXPECT_EQ(nr_gone, trace_each("hkr_reclaim:", "", NULL, NULL));
	EXPECT_TRUE(reclaimed_becomes(a, nr_gone));
	for (i = 0; i < 6; i++)
		EXPECT_TRUE((i < 4 && word_state(a, i) == HKR_WORD_EMPTY) ||
			    filled(slot_of(a, i), i));
}

/*
 * A touch may reclaim, so one succeeds now and then, even where the one before
 * did not. It is the answer that counts: memory, or SIGBUS and nothing changed.
 */
TEST_F(exhausted, touch_is_sigbus_and_can_be_repeated)
{
	struct arena *a = &self->a;
	long i = 448, resident, nr_bus = 0;
	int sig;

	ASSERT_EQ(0, handout_at(a, i, 64, 0));
	while (i < 512 && nr_bus < 3) {
		resident = stats_of(a).resident;
		sig = touch(slot_of(a, i), true);
		ASSERT_EQ(resident + !sig, stats_of(a).resident);
		if (sig)
			nr_bus++;
		else
			i++;
	}
	ASSERT_GT(512, i);
	ASSERT_EQ(0, recycle(a, DROP, 0, 2));
	EXPECT_EQ(0, touch(slot_of(a, i), true));
	EXPECT_TRUE(all_zero(slot_of(a, i), SLOT));
}

TEST_HARNESS_MAIN
