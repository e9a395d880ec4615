/* SPDX-License-Identifier: MIT */
#ifndef HKM_THRESHOLD_H
#define HKM_THRESHOLD_H

/*
 * From what size on a block is a whale: a size, or what turns out to cost least
 * (HKM_THRESHOLD_AUTO, threshold.c).
 *
 * hkm_threshold is what the fronts compare with: blocks below it are the next
 * allocator's, all else comes to the heap. While candidates are rated it is the
 * least of them, and the heap asks here. Otherwise nothing here is called.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

#include "compiler.h"
#include "elo.h"

_Static_assert(HKM_ELO_NR == HKM_THRESHOLDS, "hakmem.h says how many");

#define HKM_THRESHOLD_MIN ((size_t)512 << 10)
#define HKM_THRESHOLD_MAX ((size_t)1 << 40)

/* What is rated: this shifted by 0 to HKM_ELO_NR - 1. The prior is HKM_WHALE_MIN. */
#define HKM_THRESHOLD_CANDIDATE(i) (HKM_THRESHOLD_MIN << (i))
#define HKM_THRESHOLD_TOP	   HKM_THRESHOLD_CANDIDATE(HKM_ELO_NR - 1)

/* A candidate is in force for so many allocations, and the later of them count. */
#define HKM_THRESHOLD_WARM_UP	32
#define HKM_THRESHOLD_COUNTED	64
#define HKM_THRESHOLD_EPOCH	(HKM_THRESHOLD_WARM_UP + HKM_THRESHOLD_COUNTED)

/*
 * After so many allocations it is settled, and one that begins it. Such as another
 * thread keeps from being counted come on top.
 */
#define HKM_THRESHOLD_BOUND	(HKM_ELO_COSTS * HKM_THRESHOLD_EPOCH + 1)

/* Costs that differ by less than so many faults for each allocation are a draw. */
#define HKM_THRESHOLD_LEAST	8

/* of the front that is linked in; until it is set all large blocks come to the heap */
extern size_t hkm_threshold;

enum hkm_threshold_state {
	HKM_THRESHOLD_UNSET,	/* the environment has not been read */
	HKM_THRESHOLD_RATING,
	HKM_THRESHOLD_SITES,	/* fixed, but who asks for a whale matters (sites.h) */
	HKM_THRESHOLD_FIXED,	/* hkm_threshold is all there is to know */
};

/* Atomic. Hidden, so that looking at it is one instruction in a shared library. */
extern enum hkm_threshold_state hkm_threshold_state
	__attribute__((visibility("hidden")));

static inline bool hkm_threshold_is_fixed(void)
{
	return likely(read_once(&hkm_threshold_state) == HKM_THRESHOLD_FIXED);
}

static inline bool hkm_threshold_is_rating(void)
{
	return unlikely(read_once(&hkm_threshold_state) == HKM_THRESHOLD_RATING);
}

/* hkm_threshold_choose - @size, or HKM_THRESHOLD_AUTO: from now on, and from scratch */
void hkm_threshold_choose(size_t size);

/* hkm_threshold_read_environment - and choose what it says */
void hkm_threshold_read_environment(void);

/* hkm_threshold_now - in force */
size_t hkm_threshold_now(void);

/**
 * struct hkm_rated - an operation that is being measured, if it is
 * @begun: ns
 * @misses: of this thread's lane
 * @round: that this is part of
 * @counts: false inside another operation, or if nothing is rated
 */
struct hkm_rated {
	uint64_t begun;
	uint64_t misses;
	unsigned int round;
	bool counts;
};

/*
 * hkm_threshold_begin - a call for a block of @size bytes, or with one, that is
 *	never smaller than the least candidate
 * hkm_threshold_end - it is over; @ptr is what was allocated, of @size bytes, or
 *	NULL where nothing was
 */
void hkm_threshold_begin(struct hkm_rated *op, size_t size);
void hkm_threshold_end(const struct hkm_rated *op, const void *ptr, size_t size);

void hkm_threshold_stats(struct hkm_heap_stats *st);

#endif /* HKM_THRESHOLD_H */
