/* SPDX-License-Identifier: MIT */
#ifndef HKM_RUN_H
#define HKM_RUN_H

/*
 * The steps of which a whale's life is made, for who makes many at a time
 * (batch.c), or makes one of something else (pack.c, resize.c). A run is nobody else's from the moment it is got or supplied to the
 * moment it is made idle; in between it is live or not.
 */

#include "backend.h"
#include "cache.h"

#define HKM_RUN_SLOTS (HKM_RUN_MAX - 1)	/* the longest */

static inline size_t hkm_slots_for(size_t size)
{
	return (size + HKM_SLOT_SIZE - 1) >> HKM_SLOT_SHIFT;
}

/* hkm_run_get_idle - of the cache, confirmed by its source: at least @nr slots */
bool hkm_run_get_idle(size_t nr, struct hkm_run *run);

/*
 * hkm_run_confirm - is a run that was taken out of the cache the caller's? If not it
 * is nobody's
 */
bool hkm_run_confirm(const struct hkm_run *run);

/* hkm_run_put_back - one that was taken out of the cache and not confirmed */
void hkm_run_put_back(const struct hkm_run *run);

/* hkm_run_may_be_idle - may @nr new slots be made of idle memory? */
bool hkm_run_may_be_idle(size_t nr);

/*
 * hkm_run_make_live - the program's, as a block of @size bytes; its address. @half: 0,
 * or HKM_LIVE_LOW or _HIGH; a slot that is shared counts for the low one
 */
void *hkm_run_make_live(const struct hkm_run *run, uint32_t half, size_t size);

/* hkm_run_take_back - the program's no longer; aborts if it was not */
struct hkm_run hkm_run_take_back(const void *ptr, const char *who);

/* hkm_run_make_idle - the cache's */
void hkm_run_make_idle(const struct hkm_run *run);

/* hkm_run_limit - slots that may be idle now */
size_t hkm_run_limit(void);

#endif /* HKM_RUN_H */
