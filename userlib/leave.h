/* SPDX-License-Identifier: MIT */
#ifndef HKM_LEAVE_H
#define HKM_LEAVE_H

/* Idle runs that leave the cache for good (leave.c). Safe from any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

#include "cache.h"
#include "compiler.h"

/* Atomic. Hidden, so that a free that looks at it makes no call. */
extern uint64_t hkm_leave_next_ms __attribute__((visibility("hidden")));

/* hkm_leave_open - how old they may become, and with which policy that counts */
void hkm_leave_open(const struct hkm_config *cfg);

/* hkm_leave_decay_ms - UINT64_MAX where age is not why they go */
uint64_t hkm_leave_decay_ms(void);

/*
 * These are for a run that somebody has taken out of the cache, or not put in.
 *
 * hkm_leave_for_others - there is no place for it
 * hkm_leave_closed - there is no cache
 */
void hkm_leave_for_others(const struct hkm_run *run);
void hkm_leave_closed(const struct hkm_run *run);

/* hkm_leave_to_limit - as many of the oldest as there are too many */
void hkm_leave_to_limit(void);

/* hkm_leave_all - how many slots */
size_t hkm_leave_all(bool pinned_too);

void hkm_leave_old(uint64_t now_ms);

static inline void hkm_leave_if_due(uint64_t now_ms)
{
	if (unlikely(now_ms >= read_once(&hkm_leave_next_ms)))
		hkm_leave_old(now_ms);
}

#endif /* HKM_LEAVE_H */
