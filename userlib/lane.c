// SPDX-License-Identifier: MIT
/*
 * Lanes: counters that no two busy threads should have to share.
 *
 * A thread gets the next lane when it first asks, and has it for good; the 65th
 * shares the first one's. What it counts goes to its own cache lines, and what is
 * true of the heap is the sum over all lanes, in which each lane may be below zero:
 * a block that one thread has allocated counts as live in its lane, and is taken off
 * in that of who frees it.
 */
#include <string.h>

#include "lane.h"
#include "tables.h"

static uint64_t lanes_given;	/* to more threads than there are lanes, perhaps */
__thread uintptr_t hkm_thread;

/* In the order in which they are given. */
static inline struct hkm_lane *lane_at(size_t i)
{
	return &hkm_tables.lanes[HKM_NR_LANES - 1 - i];
}

cold struct hkm_lane *hkm_lane_assign(void)
{
	uint64_t nr = __atomic_fetch_add(&lanes_given, 1, __ATOMIC_RELAXED);
	uint32_t i = nr % HKM_NR_LANES;
	struct hkm_lane *lane = lane_at(i);

	hkm_thread = (uintptr_t)lane | (hkm_thread & HKM_IN_ANY);
	write_once(&lane->line, i);
	return lane;
}

/* Lanes with anything in them; the others are pages that need not be there. */
static size_t nr_given(void)
{
	uint64_t nr = read_once(&lanes_given);

	return nr < HKM_NR_LANES ? (size_t)nr : HKM_NR_LANES;
}

/*
 * Other threads go on while lanes are added up: of a block that has come by one lane,
 * which was already read, and has gone by another only the end may be seen. What is
 * less than nothing is nothing.
 */
static uint64_t not_negative(uint64_t sum)
{
	return (int64_t)sum < 0 ? 0 : sum;
}

void hkm_lane_sum(struct hkm_lane *sum)
{
	size_t nr = nr_given();

	memset(sum, 0, sizeof(*sum));
	for (size_t i = 0; i < nr; i++) {
		const struct hkm_lane *lane = lane_at(i);

		sum->hits += read_once(&lane->hits);
		sum->misses += read_once(&lane->misses);
		sum->puts += read_once(&lane->puts);
		sum->evictions += read_once(&lane->evictions);
		sum->lost += read_once(&lane->lost);
		sum->cached += read_once(&lane->cached);
		sum->idle += read_once(&lane->idle);
		sum->live += read_once(&lane->live);
		sum->live_slots += read_once(&lane->live_slots);
	}
	sum->cached = not_negative(sum->cached);
	sum->idle = not_negative(sum->idle);
	sum->live = not_negative(sum->live);
	sum->live_slots = not_negative(sum->live_slots);
}

uint64_t hkm_lane_sum_idle(void)
{
	size_t nr = nr_given();
	uint64_t idle = 0;

	for (size_t i = 0; i < nr; i++)
		idle += read_once(&lane_at(i)->idle);
	return not_negative(idle);
}
