// SPDX-License-Identifier: GPL-2.0
/* RECYCLE: what happens to contents, words, memory and counters. */
#include "hkr_test.h"
#include "harness.h"

#define NR_SLOTS	16

/* Slots 0 to 3 are handed out and filled with their number. */
FIXTURE(arena)
{
	struct arena a;
	struct hkr_stats before;
};

FIXTURE_SETUP(arena)
{
	int i;

	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, 4, COMMIT));
	for (i = 0; i < 4; i++)
		fill(slot_of(&self->a, i), i);
	self->before = stats_of(&self->a);
}

FIXTURE_TEARDOWN(arena)
{
	struct hkr_stats st = stats_of(&self->a);

	EXPECT_EQ(st.handed_out, st.handouts - st.dropped - st.trimmed -
				 st.moved - st.reclaimed - st.served_idle);
	EXPECT_EQ(st.handed_out, st.user_charged);
	EXPECT_EQ(st.resident, sysfs("resident"));
	arena_close(&self->a);
}

TEST_F(arena, drop_gives_memory_and_slots_back)
{
	struct arena *a = &self->a;
	uint32_t gen = word_gen(a, 1);
	struct hkr_stats st;

	mark_idle(a, 2);
	ASSERT_EQ(0, recycle(a, DROP, 1, 2));
	st = stats_of(a);
	EXPECT_EQ(2, st.handed_out);
	EXPECT_EQ(2, st.resident);
	EXPECT_EQ(2, st.dropped);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 2));
	EXPECT_NE(gen, word_gen(a, 1));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 1), false));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 2), true));
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
	EXPECT_TRUE(filled(slot_of(a, 3), 3));
	EXPECT_EQ(-ENXIO, recycle(a, DROP, 1, 2));

	/* nothing is left of it */
	ASSERT_EQ(0, handout_at(a, 1, 2, COMMIT));
	EXPECT_TRUE(all_zero(slot_of(a, 1), 2 * SLOT));
	ASSERT_EQ(0, recycle(a, DROP, 1, 2));
	ASSERT_EQ(0, handout_at(a, 1, 2, 0));
	EXPECT_TRUE(all_zero(slot_of(a, 1), 2 * SLOT));
}

TEST_F(arena, drop_of_a_slot_without_memory_works)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 8, 1, 0));
	EXPECT_EQ(0, recycle(a, DROP, 8, 1));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 8), false));
	EXPECT_TRUE(self->before.resident == stats_of(a).resident);
}

TEST_F(arena, idle_keeps_contents_until_they_are_taken)
{
	struct arena *a = &self->a;
	uint32_t gen = word_gen(a, 1);
	long before = sysfs("epoch");
	uint64_t word;

	ASSERT_EQ(0, recycle(a, IDLE, 1, 2));
	word = word_of(a, 1);
	EXPECT_EQ(HKR_WORD_IDLE, HKR_WORD_STATE(word));
	EXPECT_EQ(gen, HKR_WORD_GEN(word));
	EXPECT_LE(before, (long)HKR_WORD_EPOCH(word));
	EXPECT_GE(sysfs("epoch"), (long)HKR_WORD_EPOCH(word));
	EXPECT_EQ(2, stats_of(a).idle);
	EXPECT_EQ(2, stats_of(a).idled);
	EXPECT_EQ(4, stats_of(a).resident);
	EXPECT_TRUE(sysfs_becomes("idle", 2));

	EXPECT_TRUE(take_again(a, 1, word));
	EXPECT_TRUE(filled(slot_of(a, 1), 1));
	EXPECT_TRUE(filled(slot_of(a, 2), 2));
	EXPECT_EQ(1, stats_of(a).idle);
	EXPECT_TRUE(sysfs_becomes("idle", 1));
}

TEST_F(arena, fresh_reads_zero_in_place)
{
	struct arena *a = &self->a;
	struct hkr_stats st;

	mark_idle(a, 2);
	ASSERT_EQ(0, recycle(a, FRESH, 1, 2));
	EXPECT_TRUE(all_zero(slot_of(a, 1), 2 * SLOT));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 1));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 2));
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
	EXPECT_TRUE(filled(slot_of(a, 3), 3));
	st = stats_of(a);
	EXPECT_EQ(4, st.resident);
	EXPECT_EQ(4, st.handed_out);
	EXPECT_EQ(2, st.refreshed);

	/* one alone, which is unmapped by another path */
	ASSERT_EQ(0, recycle(a, FRESH, 3, 1));
	EXPECT_TRUE(all_zero(slot_of(a, 3), SLOT));
	/* and one that had no memory has some */
	ASSERT_EQ(0, handout_at(a, 8, 1, 0));
	ASSERT_EQ(0, recycle(a, FRESH, 8, 1));
	EXPECT_EQ(5, stats_of(a).resident);
	EXPECT_TRUE(all_zero(slot_of(a, 8), SLOT));
}

TEST_F(arena, move_takes_contents_along)
{
	struct arena *a = &self->a;
	uint32_t gen;
	struct hkr_stats st;

	ASSERT_EQ(0, handout_at(a, 8, 2, 0));
	gen = word_gen(a, 8);
	/* one of the source has no memory, which moves as well */
	ASSERT_EQ(0, handout_at(a, 4, 1, 0));
	ASSERT_EQ(0, recycle_to(a, MOVE, 3, 2, 8));
	EXPECT_TRUE(filled(slot_of(a, 8), 3));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 8));
	EXPECT_NE(gen, word_gen(a, 8));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 3));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 4));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 3), false));
	st = stats_of(a);
	EXPECT_EQ(4, st.resident);
	EXPECT_EQ(5, st.handed_out);
	EXPECT_EQ(2, st.moved);
	EXPECT_EQ(0, st.bytes_zeroed_inline -
		     self->before.bytes_zeroed_inline);
	/* the target of nothing is zero */
	EXPECT_TRUE(all_zero(slot_of(a, 9), SLOT));
}

TEST_F(arena, move_back_and_forth_keeps_contents)
{
	struct arena *a = &self->a;
	int i;

	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, handout_at(a, i % 2 ? 0 : 8, 4, 0));
		ASSERT_EQ(0, recycle_to(a, MOVE, i % 2 ? 8 : 0, 4,
					i % 2 ? 0 : 8));
		EXPECT_TRUE(filled(slot_of(a, (i % 2 ? 0 : 8) + i % 4), i % 4));
	}
	for (i = 0; i < 4; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));
}

TEST_F(arena, move_to_an_unfit_place_changes_nothing)
{
	struct arena *a = &self->a;
	struct hkr_stats before;
	int i;

	ASSERT_EQ(0, handout_at(a, 4, 4, 0));
	before = stats_of(a);
	EXPECT_EQ(-EINVAL, recycle_to(a, MOVE, 0, 4, 2));	/* overlaps */
	EXPECT_EQ(-EINVAL, recycle_to(a, MOVE, 4, 3, 2));
	EXPECT_EQ(-EINVAL, recycle_to(a, MOVE, 0, 4, 0));
	EXPECT_EQ(-EINVAL, recycle_to(a, MOVE, 0, 0, 4));
	EXPECT_EQ(-EEXIST, recycle_to(a, MOVE, 0, 2, 2));	/* has memory */
	EXPECT_EQ(-EEXIST, recycle_to(a, MOVE, 0, 1, 3));
	EXPECT_EQ(-ENXIO, recycle_to(a, MOVE, 0, 2, 7));	/* 8 is free */
	EXPECT_EQ(-ENXIO, recycle_to(a, MOVE, 8, 1, 4));
	EXPECT_EQ(-ENXIO, recycle_to(a, MOVE, 0, 1, 9));
	EXPECT_EQ(-ERANGE, recycle_to(a, MOVE, 0, 2, NR_SLOTS - 1));
	EXPECT_EQ(-ERANGE, recycle_to(a, MOVE, 0, 1, ~0ULL));
	EXPECT_EQ(-ERANGE, recycle_to(a, MOVE, ~0ULL, 2, 4));
	EXPECT_TRUE(same_stats(a, &before));
	for (i = 0; i < 4; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));
}

TEST_F(arena, a_run_that_is_not_all_handed_out_is_left_alone)
{
	struct arena *a = &self->a;
	uint32_t mode;
	int i;

	for (mode = DROP; mode <= FRESH; mode++) {
		EXPECT_EQ(-EINVAL, recycle(a, mode, 0, 0));
		EXPECT_EQ(-ENXIO, recycle(a, mode, 0, 5));
		EXPECT_EQ(-ENXIO, recycle(a, mode, 9, 1));
		EXPECT_EQ(-ENXIO, recycle(a, mode, 0, NR_SLOTS));
		EXPECT_EQ(-ERANGE, recycle(a, mode, 0, NR_SLOTS + 1));
		EXPECT_EQ(-ERANGE, recycle(a, mode, NR_SLOTS, 1));
		EXPECT_EQ(-ERANGE, recycle(a, mode, ~0ULL, 2));
		EXPECT_EQ(-ERANGE, recycle(a, mode, 1ULL << 43, 1));
	}
	EXPECT_TRUE(same_stats(a, &self->before));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(HKR_WORD_BUSY, word_state(a, i));
		EXPECT_TRUE(filled(slot_of(a, i), i));
	}
}

TEST_F(arena, batch_has_a_result_for_each_range)
{
	struct hkr_range range[] = {
		{ .first = 0, .nr_slots = 1, .result = 77 },
		{ .first = 0, .nr_slots = 1, .result = 77 },
		{ .first = 99, .nr_slots = 1, .result = 77 },
		{ .first = 1, .nr_slots = 0, .result = 77 },
		{ .first = 2, .nr_slots = 2, .result = 77 },
	};
	struct hkr_recycle call = {
		.size = sizeof(call), .mode = DROP, .nr = 5,
		.ranges = (uintptr_t)range,
	};

	EXPECT_EQ(2, hkr_call(self->a.fd, HKR_IOC_RECYCLE, &call));
	EXPECT_EQ(0, range[0].result);
	EXPECT_EQ(-ENXIO, range[1].result);
	EXPECT_EQ(-ERANGE, range[2].result);
	EXPECT_EQ(-EINVAL, range[3].result);
	EXPECT_EQ(0, range[4].result);
	EXPECT_EQ(1, stats_of(&self->a).handed_out);
	EXPECT_TRUE(filled(slot_of(&self->a, 1), 1));
}

TEST_HARNESS_MAIN
