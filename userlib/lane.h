/* SPDX-License-Identifier: MIT */
#ifndef HKM_LANE_H
#define HKM_LANE_H

/*
 * Lanes: what threads count of the heap, and where each begins to look (lane.c).
 * Safe from any thread, without a lock.
 */

#include <stdint.h>
#include <sys/single_threaded.h>

#include "compiler.h"
#include "thread.h"

/**
 * struct hkm_lane - what a thread counts, and where it looks first
 *
 * There are fewer lanes than there may be threads, so counters are added to
 * atomically; they mean something only as a sum over all lanes.
 */
struct hkm_lane {
	uint64_t hits;
	uint64_t misses;
	uint64_t puts;
	uint64_t joined;	/* puts when neighbours were last joined */
	uint64_t evictions;
	uint64_t lost;
	uint64_t cached;	/* runs */
	uint64_t idle;		/* slots */
	uint64_t live;		/* whales */
	uint64_t live_slots;
	uint64_t unchecked;	/* slots put since the cap was looked at */
	uint64_t seq;
	uint32_t line;
} __attribute__((aligned(128)));

struct hkm_lane *hkm_lane_assign(void);

static inline struct hkm_lane *hkm_lane(void)
{
	struct hkm_lane *lane = (struct hkm_lane *)(hkm_thread & ~HKM_IN_ANY);

	return likely(lane) ? lane : hkm_lane_assign();
}

/* A process that never started a thread needs no locked instruction. */
static inline void hkm_lane_add(uint64_t *counter, uint64_t by)
{
	if (__libc_single_threaded)
		write_once(counter, read_once(counter) + by);
	else
		__atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* hkm_lane_sum - of all lanes */
void hkm_lane_sum(struct hkm_lane *sum);
uint64_t hkm_lane_sum_idle(void);

#endif /* HKM_LANE_H */
