/* SPDX-License-Identifier: MIT */
#ifndef HKM_CACHE_H
#define HKM_CACHE_H

/*
 * Idle runs of the heap. Everything here is safe from any thread, and nothing
 * takes a lock or enters the kernel but hkm_cache_merge().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hakmem.h>

#include "compiler.h"

#define HKM_CACHE_DEFAULT 256	/* runs */

/* Slot numbers and lengths have 24 bits each: a window of 32 TiB. */
#define HKM_RUN_BITS 24
#define HKM_RUN_MAX ((size_t)1 << HKM_RUN_BITS)

#define HKM_RUN_ZERO	(1U << 0)	/* reads as zeroes */
#define HKM_RUN_PINNED	(1U << 1)	/* not to be evicted */

/* Above the flags, whose the run is: a site's (sites.h) from 1 on, or nobody's. */
#define HKM_RUN_SITE_SHIFT 8
#define HKM_RUN_SITES	255U

struct hkm_run {
	size_t first;		/* slot of the window */
	size_t nr;
	unsigned int flags;
};

/**
 * struct hkm_cache_config
 * @capacity: runs, 1 to 65536
 * @order: which run of a length is taken first
 * @whole: runs are neither split nor joined
 * @border: runs that meet at this slot are not joined
 * @evict: gets a run that made room for another
 */
struct hkm_cache_config {
	size_t capacity;
	enum hkm_order order;
	bool whole;
	size_t border;
	void (*evict)(const struct hkm_run *run);
};

/*
 * hkm_cache_open, _close - a closed cache takes no runs; what is in it stays
 * there and can be taken. Under hkm_setup_lock.
 */
void hkm_cache_open(const struct hkm_cache_config *cfg);
void hkm_cache_close(void);
size_t hkm_cache_capacity(void);
bool hkm_cache_is_divisible(void);

/* The clock of the cache's stamps; it costs no system call. */
static inline uint64_t hkm_cache_now_ms(void)
{
	struct timespec ts = { 0, 0 };

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* hkm_cache_put - false when the cache is closed: the run stays the caller's */
bool hkm_cache_put(const struct hkm_run *run, uint64_t now_ms);

/*
 * hkm_cache_get - take a run of @nr slots, or up to a tenth more; a part of a
 * larger one where there is none. None below slot @lowest.
 */
bool hkm_cache_get(size_t nr, size_t lowest, struct hkm_run *run);

/*
 * hkm_cache_get_of - the same of the runs of @site, else of nobody's. Runs of two
 * sites are never joined
 */
bool hkm_cache_get_of(unsigned int site, size_t nr, size_t lowest,
		      struct hkm_run *run);

/*
 * hkm_cache_get_at - take the @nr slots from @first on, where a run begins there
 * that is not pinned
 */
bool hkm_cache_get_at(size_t first, size_t nr, struct hkm_run *run);

/*
 * hkm_cache_get_best - of the runs that are not below slot @lowest and not pinned,
 * take the one that @rank gives most, all of it. @rank says 0 for a run that does not suit, and may
 * for one that it gives no more than @best
 */
bool hkm_cache_get_best(size_t lowest,
			size_t (*rank)(const struct hkm_run *run, size_t best,
				       const void *arg),
			const void *arg, struct hkm_run *run);

/*
 * hkm_cache_pop - take the run that has been idle longest, or @most slots from
 * its end, if that was before @before_ms, is not below slot @lowest and, unless
 * @pinned, not pinned. Nothing where runs are whole and that one is larger.
 */
bool hkm_cache_pop(uint64_t before_ms, size_t lowest, bool pinned, size_t most,
		   struct hkm_run *run);

/* hkm_cache_oldest - since when the run has been idle that a pop would take */
bool hkm_cache_oldest(size_t lowest, uint64_t *ms);

/* hkm_cache_merge - join neighbours; were there any? */
bool hkm_cache_merge(void);

#endif /* HKM_CACHE_H */
