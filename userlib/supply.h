/* SPDX-License-Identifier: MIT */
#ifndef HKM_SUPPLY_H
#define HKM_SUPPLY_H

/*
 * New runs, for whom the cache has none.
 */

#include <stdbool.h>
#include <stddef.h>

#include "backend.h"
#include "cache.h"

/*
 * hkm_supply - a busy run of @nr slots, of the device or, where that has none or
 * with HKM_WHALE_ANON in @flags, of anonymous memory. Where it @may_be_idle
 * memory it is that in part. False: there is no memory.
 */
bool hkm_supply(size_t nr, unsigned int flags, bool may_be_idle,
		struct hkm_run *run);

/* hkm_supply_from - the same, of one backend; 0 or -errno */
int hkm_supply_from(struct hkm_backend *be, size_t nr, bool may_be_idle,
		    struct hkm_run *run);

/*
 * hkm_supply_many - @n runs of @nr slots each, of a backend that has
 * commit_many; their addresses to @runs. How many, or -errno.
 */
int hkm_supply_many(struct hkm_backend *be, size_t nr, bool may_be_idle,
		    void **runs, unsigned int n);

/*
 * hkm_supply_behind - @nr new slots behind slot @slot, which is busy: busy, too.
 * False: they are not free, or there is no memory
 */
bool hkm_supply_behind(size_t slot, size_t nr);

/* hkm_supply_is_idle_first - @nr new slots would be more than the process should have */
bool hkm_supply_is_idle_first(size_t nr);

/* hkm_supply_backend - of the last run; "none" before the first */
const char *hkm_supply_backend(void);

#endif /* HKM_SUPPLY_H */
