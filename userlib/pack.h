/* SPDX-License-Identifier: MIT */
#ifndef HKM_PACK_H
#define HKM_PACK_H

/*
 * Whales that share a slot (pack.c has the essay). Safe from any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compiler.h"
#include "live.h"
#include "run.h"

/* Of a longer whale half a slot is too little to look for company. */
#define HKM_PACK_SLOTS 8

/* Atomic. */
extern bool hkm_pack_is_on;

/*
 * hkm_pack_open - whales that are made from now on may share, or not; when there are
 * tables. Under hkm_setup_lock
 */
void hkm_pack_open(bool on);

/* hkm_pack_half - HKM_LIVE_LOW if a whale of @size bytes in @nr slots may share its last */
static inline uint32_t hkm_pack_half(size_t size, size_t nr)
{
	if (likely(nr - 2 > HKM_PACK_SLOTS - 2) ||
	    size > (nr << HKM_SLOT_SHIFT) - HKM_HALF_SLOT)
		return 0;
	return load_acquire(&hkm_pack_is_on) ? HKM_LIVE_LOW : 0;
}

/* hkm_pack_offer - the upper half of @slot, where a whale of ours ends, is free */
void hkm_pack_offer(size_t slot);

/* hkm_pack_share - both halves of @slot are somebody's: of two whales made at once */
void hkm_pack_share(size_t slot);

/* hkm_pack_announce - the same of one that has none idle behind it */
void hkm_pack_announce(size_t slot);

/* hkm_pack_withdraw - all of @slot is the whale's again, if nobody else is there */
bool hkm_pack_withdraw(size_t slot);

/*
 * hkm_pack_leave - what a whale that ends leaves: its slots, without the one that
 * is still another's
 */
struct hkm_run hkm_pack_leave(size_t first, uint32_t number);

/*
 * hkm_pack_join_idle - half a slot for a whale of @nr slots, and the idle ones
 * beside it; hkm_pack_join_new - the same with new ones behind it. Not below slot
 * @lowest, and beginning with a slot if @aligned. *run is then all of its slots;
 * HKM_LIVE_LOW or _HIGH, or 0 for none
 */
uint32_t hkm_pack_join_idle(size_t nr, size_t lowest, bool aligned,
			    struct hkm_run *run);
uint32_t hkm_pack_join_new(size_t nr, size_t lowest, bool aligned,
			   struct hkm_run *run);

#endif /* HKM_PACK_H */
