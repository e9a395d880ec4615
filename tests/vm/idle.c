// SPDX-License-Identifier: GPL-2.0
/* Idle slots: reuse by the owner, TRIM, and HANDOUT FROM_IDLE. */
#include "hkr_test.h"
#include "harness.h"

#define NR_SLOTS	16
#define NR		6

/* Slots 0 to 5 are handed out and filled with their number. */
FIXTURE(arena)
{
	struct arena a;
};

FIXTURE_SETUP(arena)
{
	int i;

	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++)
		fill(slot_of(&self->a, i), i);
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

/* epochs are counted only while memory is held: this arena holds some */
static void wait_epochs(struct arena *a, uint32_t nr)
{
	uint32_t start = a->header->epoch;

	while (a->header->epoch - start < nr)
		usleep(5000);
}

TEST_F(arena, reuse_by_its_owner_keeps_contents_and_asks_nobody)
{
	struct arena *a = &self->a;
	struct hkr_stats before = stats_of(a);
	uint64_t seen;
	int i;

	for (i = 0; i < 1000; i++) {
		mark_idle(a, i % NR);
		seen = word_of(a, i % NR);
		ASSERT_TRUE(take_again(a, i % NR, seen));
	}
	/* a word of an earlier generation does not take */
	mark_idle(a, 1);
	seen = word_of(a, 1);
	ASSERT_EQ(0, recycle(a, DROP, 1, 1));
	ASSERT_EQ(0, handout_at(a, 1, 1, COMMIT));
	mark_idle_at(a, 1, HKR_WORD_EPOCH(seen));
	EXPECT_FALSE(take_again(a, 1, seen));
	EXPECT_EQ(before.faults, stats_of(a).faults);
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
	EXPECT_TRUE(filled(slot_of(a, 5), 5));
}

TEST_F(arena, trim_takes_idle_slots_and_no_others)
{
	struct arena *a = &self->a;
	uint32_t gen = word_gen(a, 1);
	struct hkr_stats st;

	EXPECT_EQ(0, trim(a, 0, 0));
	mark_idle(a, 1);
	mark_idle(a, 4);
	/* one that was taken again in time */
	mark_idle(a, 5);
	ASSERT_TRUE(take_again(a, 5, word_of(a, 5)));
	EXPECT_EQ(2, trim(a, 0, 0));
	st = stats_of(a);
	EXPECT_EQ(2, st.trimmed);
	EXPECT_EQ(NR - 2, st.handed_out);
	EXPECT_EQ(NR - 2, st.resident);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	EXPECT_NE(gen, word_gen(a, 1));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 1), false));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 4), true));
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
	EXPECT_TRUE(filled(slot_of(a, 5), 5));
	EXPECT_EQ(0, trim(a, 0, 0));

	ASSERT_EQ(0, handout_at(a, 1, 1, COMMIT));
	EXPECT_TRUE(all_zero(slot_of(a, 1), SLOT));
}

TEST_F(arena, trim_takes_the_oldest_first_and_as_many_as_asked)
{
	struct arena *a = &self->a;
	int order[] = { 3, 0, 5, 1 };
	int i;

	for (i = 0; i < 4; i++) {
		mark_idle(a, order[i]);
		wait_epochs(a, 1);
	}
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(HKR_WORD_IDLE, word_state(a, order[i]));
		EXPECT_EQ(1, trim(a, 0, 1));
		EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, order[i]));
	}
	EXPECT_EQ(2, stats_of(a).handed_out);
}

TEST_F(arena, trim_by_age_leaves_the_younger)
{
	struct arena *a = &self->a;
	uint32_t ms = a->header->epoch_ms;
	long stamp, old;

	mark_idle(a, 2);
	mark_idle(a, 3);
	wait_epochs(a, 6);
	stamp = sysfs("epoch");
	mark_idle_at(a, 0, stamp);
	EXPECT_EQ(0, trim(a, 3600000, 0));
	EXPECT_EQ(0, trim(a, ~0ULL, 0));
	old = trim(a, 4 * ms, 0);
	EXPECT_LE(2, old);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 2));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 3));
	/* on a machine that stood still the younger one is old by now */
	if (sysfs("epoch") - stamp >= 4)
		return;
	EXPECT_EQ(2, old);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 0));
	EXPECT_EQ(1, trim(a, 0, 100));
}

TEST_F(arena, stamp_from_the_future_is_the_oldest)
{
	struct arena *a = &self->a;
	uint32_t now = a->header->epoch;

	mark_idle_at(a, 0, now);
	mark_idle_at(a, 1, (now - 1000) & HKR_WORD_EPOCH_MASK);
	mark_idle_at(a, 2, now + 1000);
	EXPECT_EQ(1, trim(a, 0, 1));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 2));
	EXPECT_EQ(1, trim(a, 0, 1));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	/* it gains nothing by age either */
	mark_idle_at(a, 3, now + 1000);
	EXPECT_EQ(1, trim(a, 1000000, 0));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 3));
}

TEST_F(arena, from_idle_takes_the_oldest_with_their_contents)
{
	struct hkr_handout_req req = {
		.nr_slots = 2, .flags = COMMIT | FROM_IDLE, .node = -1,
	};
	struct arena *a = &self->a;
	struct hkr_stats before = stats_of(a), st;
	uint32_t gen = word_gen(a, 4);

	mark_idle(a, 4);
	wait_epochs(a, 1);
	mark_idle(a, 0);
	wait_epochs(a, 1);
	mark_idle(a, 2);
	ASSERT_EQ(0, hkr_request(a, &req));
	EXPECT_EQ(0, req.nr_zeroed);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 4));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 0));
	EXPECT_NE(gen, word_gen(a, 4));
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 2));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 4), false));
	/* their memory, in some order */
	EXPECT_TRUE(filled(slot_of(a, req.first), 0) ||
		    filled(slot_of(a, req.first), 4));
	EXPECT_TRUE(filled(slot_of(a, req.first + 1), 0) ||
		    filled(slot_of(a, req.first + 1), 4));
	EXPECT_FALSE(filled(slot_of(a, req.first), 0) &&
		     filled(slot_of(a, req.first + 1), 0));
	st = stats_of(a);
	EXPECT_EQ(before.resident, st.resident);
	EXPECT_EQ(before.handed_out, st.handed_out);
	EXPECT_EQ(2, st.served_idle);
	EXPECT_EQ(before.bytes_zeroed_inline, st.bytes_zeroed_inline);
}

TEST_F(arena, from_idle_gets_the_rest_from_the_pool)
{
	struct hkr_handout_req req = {
		.nr_slots = 4, .flags = COMMIT | FROM_IDLE, .node = -1,
	};
	struct arena *a = &self->a;
	int i, nr_zero = 0, nr_old = 0;

	mark_idle(a, 3);
	ASSERT_EQ(0, hkr_request(a, &req));
	EXPECT_EQ(3, req.nr_zeroed);
	for (i = 0; i < 4; i++) {
		nr_zero += all_zero(slot_of(a, req.first + i), SLOT);
		nr_old += filled(slot_of(a, req.first + i), 3);
	}
	EXPECT_EQ(3, nr_zero);
	EXPECT_EQ(1, nr_old);
	EXPECT_EQ(NR + 3, stats_of(a).handed_out);
	EXPECT_EQ(NR + 3, stats_of(a).resident);
}

TEST_F(arena, from_idle_without_commit_is_einval)
{
	mark_idle(&self->a, 3);
	EXPECT_EQ(-EINVAL, handout(&self->a, 1, FROM_IDLE));
	EXPECT_EQ(HKR_WORD_IDLE, word_state(&self->a, 3));
}

/* what AT promises for slots that are handed out holds here too */
TEST_F(arena, from_idle_spares_the_run_that_it_fills)
{
	struct hkr_handout_req req = {
		.nr_slots = 4, .flags = COMMIT | FROM_IDLE | AT, .node = -1,
		.first = 4,
	};
	struct arena *a = &self->a;
	uint64_t word;

	mark_idle(a, 4);
	mark_idle(a, 5);
	wait_epochs(a, 1);
	mark_idle(a, 0);
	word = word_of(a, 5);
	ASSERT_EQ(0, hkr_request(a, &req));
	EXPECT_EQ(4, req.first);
	EXPECT_EQ(1, req.nr_zeroed);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 4));
	EXPECT_EQ(word, word_of(a, 5));
	EXPECT_TRUE(filled(slot_of(a, 4), 4));
	EXPECT_TRUE(filled(slot_of(a, 5), 5));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 0));
	EXPECT_EQ(7, stats_of(a).handed_out);
	EXPECT_EQ(7, stats_of(a).resident);
}

/* a slot that was never touched has nothing to give */
TEST_F(arena, from_idle_backs_the_whole_run_all_the_same)
{
	struct hkr_handout_req req = {
		.nr_slots = 2, .flags = COMMIT | FROM_IDLE, .node = -1,
	};
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 8, 2, 0));
	mark_idle(a, 8);
	mark_idle(a, 9);
	ASSERT_EQ(0, hkr_request(a, &req));
	EXPECT_EQ(2, req.nr_zeroed);
	EXPECT_EQ(NR + 2, stats_of(a).resident);
	EXPECT_EQ(0, stats_of(a).served_idle);
	EXPECT_TRUE(all_zero(slot_of(a, req.first), 2 * SLOT));
}

TEST_F(arena, is_idle_only_where_word_and_memory_agree)
{
	struct arena *a = &self->a;
	int i;

	/* words of slots that are not handed out, or have no memory */
	ASSERT_EQ(0, handout_at(a, 8, 1, 0));
	mark_idle(a, 8);
	for (i = 10; i < NR_SLOTS; i++)
		mark_idle(a, i);
	EXPECT_EQ(0, stats_of(a).idle);
	wait_epochs(a, 2);
	EXPECT_EQ(0, sysfs("idle"));
	mark_idle(a, 1);
	EXPECT_EQ(1, stats_of(a).idle);
	EXPECT_TRUE(sysfs_becomes("idle", 1));
	/* nor does TRIM believe them */
	EXPECT_LE(1, trim(a, 0, 0));
	EXPECT_EQ(NR - 1, stats_of(a).resident);
}

TEST_HARNESS_MAIN
