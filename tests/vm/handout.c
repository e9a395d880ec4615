// SPDX-License-Identifier: GPL-2.0
/* HANDOUT: a run is handed out whole or not at all, and reads as zero. */
#include "hkr_test.h"
#include "harness.h"

#define NR_SLOTS	16

FIXTURE(arena)
{
	struct arena a;
};

FIXTURE_SETUP(arena)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
}

FIXTURE_TEARDOWN(arena)
{
	struct hkr_stats st = stats_of(&self->a);

	/* what was handed out is still, or left by one of these doors */
	EXPECT_EQ(st.handed_out, st.handouts - st.dropped - st.trimmed -
				 st.moved - st.reclaimed - st.served_idle);
	EXPECT_LE(st.resident, st.handed_out);
	EXPECT_LE(st.idle, st.resident);
	arena_close(&self->a);
}

TEST_F(arena, commit_backs_the_run_at_once)
{
	struct hkr_handout_req req = {
		.nr_slots = 3, .flags = COMMIT, .node = HKR_NODE_ANY,
	};
	struct arena *a = &self->a;
	struct hkr_stats st;
	uint64_t i;

	ASSERT_EQ(0, hkr_request(a, &req));
	EXPECT_EQ(3, req.nr_zeroed);
	st = stats_of(a);
	EXPECT_EQ(NR_SLOTS, st.nr_slots);
	EXPECT_EQ(3, st.handed_out);
	EXPECT_EQ(3, st.resident);
	EXPECT_EQ(3, st.handouts);
	EXPECT_EQ(3, st.user_charged);
	EXPECT_EQ(0, st.idle);
	EXPECT_EQ(0, st.faults);
	EXPECT_EQ(3, st.served_clean + st.served_dirty + st.served_new);
	EXPECT_EQ((st.served_dirty + st.served_new) * SLOT,
		  st.bytes_zeroed_inline);
	EXPECT_EQ(3, sysfs("resident"));
	for (i = req.first; i < req.first + 3; i++) {
		EXPECT_EQ(HKR_WORD_BUSY, word_state(a, i));
		EXPECT_TRUE(all_zero(slot_of(a, i), SLOT));
		fill(slot_of(a, i), i);
		EXPECT_TRUE(filled(slot_of(a, i), i));
	}
	EXPECT_EQ(3, stats_of(a).faults);
}

TEST_F(arena, without_commit_memory_comes_at_the_first_touch)
{
	struct arena *a = &self->a;
	long first = handout(a, 3, 0);

	ASSERT_LE(0, first);
	EXPECT_EQ(3, stats_of(a).handed_out);
	EXPECT_EQ(0, stats_of(a).resident);
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, first));

	EXPECT_TRUE(all_zero(slot_of(a, first + 1), SLOT));
	EXPECT_EQ(1, stats_of(a).resident);
	EXPECT_EQ(1, stats_of(a).faults);
	EXPECT_EQ(0, recycle(a, DROP, first, 3));
	EXPECT_EQ(0, stats_of(a).resident);
}

TEST_F(arena, runs_do_not_overlap)
{
	uint32_t lengths[] = { 3, 5, 1, 7 };
	unsigned int owner[NR_SLOTS] = { };
	struct arena *a = &self->a;
	unsigned int i, k;
	long first;

	for (i = 0; i < 4; i++) {
		first = handout(a, lengths[i], 0);
		ASSERT_LE(0, first);
		ASSERT_GE(NR_SLOTS, first + lengths[i]);
		for (k = first; k < first + lengths[i]; k++) {
			EXPECT_EQ(0, owner[k]);
			owner[k] = i + 1;
		}
	}
	EXPECT_EQ(NR_SLOTS, stats_of(a).handed_out);
}

TEST_F(arena, at_hands_out_the_named_run)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 5, 2, COMMIT));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 4));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 5));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 6));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 7));
	EXPECT_EQ(0, handout_at(a, NR_SLOTS - 1, 1, COMMIT));
	EXPECT_EQ(0, handout_at(a, 0, 1, 0));
}

TEST_F(arena, at_leaves_what_is_handed_out_of_the_run_as_it_is)
{
	struct hkr_handout_req req = {
		.nr_slots = 6, .flags = AT | COMMIT, .node = HKR_NODE_ANY,
		.first = 2,
	};
	struct arena *a = &self->a;
	uint64_t busy, idle;

	ASSERT_EQ(0, handout_at(a, 4, 2, COMMIT));
	fill(slot_of(a, 4), 1);
	fill(slot_of(a, 5), 2);
	mark_idle(a, 5);
	busy = word_of(a, 4);
	idle = word_of(a, 5);

	ASSERT_EQ(0, hkr_request(a, &req));
	EXPECT_EQ(2, req.first);
	EXPECT_EQ(4, req.nr_zeroed);
	EXPECT_EQ(busy, word_of(a, 4));
	EXPECT_EQ(idle, word_of(a, 5));
	EXPECT_TRUE(filled(slot_of(a, 4), 1));
	EXPECT_TRUE(filled(slot_of(a, 5), 2));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 2));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 7));
	EXPECT_TRUE(all_zero(slot_of(a, 2), 2 * SLOT));
	EXPECT_TRUE(all_zero(slot_of(a, 6), 2 * SLOT));
	EXPECT_EQ(6, stats_of(a).handed_out);
	EXPECT_EQ(6, stats_of(a).handouts);
	EXPECT_EQ(6, stats_of(a).resident);
}

TEST_F(arena, at_a_run_that_is_handed_out_already_is_eexist)
{
	struct arena *a = &self->a;
	struct hkr_stats before;

	ASSERT_EQ(0, handout_at(a, 4, 4, COMMIT));
	before = stats_of(a);
	EXPECT_EQ(-EEXIST, handout_at(a, 4, 4, COMMIT));
	EXPECT_EQ(-EEXIST, handout_at(a, 5, 1, 0));
	EXPECT_TRUE(same_stats(a, &before));
}

TEST_F(arena, outside_of_it_is_erange)
{
	struct arena *a = &self->a;
	struct hkr_stats before = stats_of(a);

	EXPECT_EQ(-EINVAL, handout(a, 0, 0));
	EXPECT_EQ(-EINVAL, handout_at(a, 3, 0, COMMIT));
	EXPECT_EQ(-ERANGE, handout(a, NR_SLOTS + 1, COMMIT));
	EXPECT_EQ(-ERANGE, handout(a, ~0U, COMMIT));
	EXPECT_EQ(-ERANGE, handout_at(a, NR_SLOTS, 1, COMMIT));
	EXPECT_EQ(-ERANGE, handout_at(a, NR_SLOTS - 1, 2, COMMIT));
	EXPECT_EQ(-ERANGE, handout_at(a, ~0ULL, 1, COMMIT));
	EXPECT_EQ(-ERANGE, handout_at(a, ~0ULL, 2, COMMIT));
	EXPECT_EQ(-ERANGE, handout_at(a, 1ULL << 32, 1, COMMIT));
	EXPECT_TRUE(same_stats(a, &before));
}

TEST_F(arena, without_a_run_that_is_long_enough_is_enospc)
{
	struct arena *a = &self->a;
	struct hkr_stats before;
	int i;

	/* every other slot: half is free, and no two together */
	for (i = 0; i < NR_SLOTS; i += 2)
		ASSERT_EQ(0, handout_at(a, i, 1, 0));
	before = stats_of(a);
	EXPECT_EQ(-ENOSPC, handout(a, 2, COMMIT));
	EXPECT_TRUE(same_stats(a, &before));
	for (i = 0; i < NR_SLOTS; i += 2)
		EXPECT_LE(0, handout(a, 1, 0));
	EXPECT_EQ(-ENOSPC, handout(a, 1, 0));
	EXPECT_EQ(0, recycle(a, DROP, 7, 2));
	EXPECT_EQ(7, handout(a, 2, 0));
}

TEST_F(arena, on_a_node_that_is_not_online_is_enxio)
{
	int bad[] = { -2, 63, 64, 1023, 1024, 1 << 20, INT32_MAX, INT32_MIN };
	struct hkr_handout_req req;
	struct hkr_stats before = stats_of(&self->a);
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		req = (struct hkr_handout_req){
			.nr_slots = 1, .flags = COMMIT, .node = bad[i],
		};
		EXPECT_EQ(-ENXIO, hkr_request(&self->a, &req)) {
			TH_LOG("node %d", bad[i]);
		}
	}
	EXPECT_TRUE(same_stats(&self->a, &before));
	req = (struct hkr_handout_req){
		.nr_slots = 1, .flags = COMMIT, .node = 0,
	};
	EXPECT_EQ(0, hkr_request(&self->a, &req));
}

TEST_F(arena, batch_has_a_result_for_each_request)
{
	struct hkr_handout_req req[] = {
		{ .nr_slots = 2, .flags = COMMIT, .node = -1 },
		{ .nr_slots = 0, .node = -1 },
		{ .nr_slots = 1, .flags = 1U << 30, .node = -1 },
		{ .nr_slots = NR_SLOTS, .node = -1 },
		{ .nr_slots = 1, .flags = AT, .first = NR_SLOTS, .node = -1 },
		{ .nr_slots = 3, .node = -1 },
	};
	struct hkr_handout call = {
		.size = sizeof(call), .nr = 6, .reqs = (uintptr_t)req,
	};
	int i;

	for (i = 0; i < 6; i++)
		req[i].result = 77;
	EXPECT_EQ(2, hkr_call(self->a.fd, HKR_IOC_HANDOUT, &call));
	EXPECT_EQ(0, req[0].result);
	EXPECT_EQ(2, req[0].nr_zeroed);
	EXPECT_EQ(-EINVAL, req[1].result);
	EXPECT_EQ(-EOPNOTSUPP, req[2].result);
	EXPECT_EQ(-ENOSPC, req[3].result);
	EXPECT_EQ(-ERANGE, req[4].result);
	EXPECT_EQ(0, req[5].result);
	EXPECT_EQ(5, stats_of(&self->a).handed_out);
	EXPECT_EQ(2, stats_of(&self->a).resident);
}

TEST_F(arena, longest_batch_is_met_as_far_as_there_is_room)
{
	static struct hkr_handout_req req[HKR_MAX_BATCH];
	struct hkr_handout call = {
		.size = sizeof(call), .nr = HKR_MAX_BATCH,
		.reqs = (uintptr_t)req,
	};
	int i, met = 0;

	for (i = 0; i < HKR_MAX_BATCH; i++)
		req[i] = (struct hkr_handout_req){ .nr_slots = 1, .node = -1 };
	EXPECT_EQ(NR_SLOTS, hkr_call(self->a.fd, HKR_IOC_HANDOUT, &call));
	for (i = 0; i < HKR_MAX_BATCH; i++) {
		if (!req[i].result)
			met++;
		else
			ASSERT_EQ(-ENOSPC, req[i].result);
	}
	EXPECT_EQ(NR_SLOTS, met);
}

TEST_F(arena, gets_a_new_generation_with_each_handout)
{
	struct arena *a = &self->a;
	uint32_t gen = word_gen(a, 3), next;
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, handout_at(a, 3, 1, 0));
		next = word_gen(a, 3);
		EXPECT_NE(gen, next);
		gen = next;
		ASSERT_EQ(0, recycle(a, DROP, 3, 1));
		EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 3));
		next = word_gen(a, 3);
		EXPECT_NE(gen, next);
		gen = next;
	}
}

TEST_HARNESS_MAIN
