/* SPDX-License-Identifier: MIT */
#ifndef HKM_LIVE_H
#define HKM_LIVE_H

/*
 * A live whale's length is kept in an array beside the window, one number for
 * each slot of which the one of the slot that the whale begins in counts: never
 * in the block, where an overrun of the program would reach it. The number says
 * LIVE from the moment the program gets the whale to the moment it frees it, and
 * changes by compare-and-swap, so of two frees of one whale exactly one succeeds.
 *
 * A whale may have half of a slot, at one of its ends (pack.c), and has at least one
 * slot beside it: so no two begin in one slot.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checker.h"
#include "compiler.h"
#include "run.h"
#include "source.h"

#define HKM_LIVE	(1U << 31)
#define HKM_LIVE_FREED	(1U << 30)
#define HKM_LIVE_PINNED (1U << 29)	/* goes with the run through the cache */
#define HKM_LIVE_LOW	(1U << 28)	/* its last slot is the lower half only */
#define HKM_LIVE_HIGH	(1U << 27)	/* its first slot is the upper half only */
#define HKM_LIVE_HALF	(HKM_LIVE_LOW | HKM_LIVE_HIGH)
#define HKM_LIVE_SLOTS	HKM_RUN_SLOTS

#define HKM_HALF_SLOT (HKM_SLOT_SIZE / 2)

extern uint32_t *hkm_live_numbers;

/* hkm_live_open - the array, once. 0 or -ENOMEM; under hkm_setup_lock */
int hkm_live_open(void);

/* hkm_live_wild - @ptr, of which the number is @number, is no live whale: abort */
__attribute__((noreturn)) void hkm_live_wild(const void *ptr, uint32_t number,
					     const char *who);

static inline size_t hkm_live_bytes(uint32_t number)
{
	size_t bytes = (size_t)(number & HKM_LIVE_SLOTS) << HKM_SLOT_SHIFT;

	return number & HKM_LIVE_HALF ? bytes - HKM_HALF_SLOT : bytes;
}

/*
 * hkm_live_begin - the whale of slot @first, with all that @number says, is the
 * program's; its address
 */
static inline void *hkm_live_begin(size_t first, uint32_t number)
{
	char *ptr = hkm_slot_address(first);

	if (number & HKM_LIVE_HIGH)
		ptr += HKM_HALF_SLOT;
	write_once(&hkm_live_numbers[first], HKM_LIVE | number);
	return hkm_checker_live(ptr, hkm_live_bytes(number));
}

/* hkm_live_look_up - the number of a live whale; @who is named in a complaint */
static inline uint32_t hkm_live_look_up(const void *ptr, const char *who)
{
	size_t in_slot = (uintptr_t)ptr % HKM_SLOT_SIZE;
	uint32_t number;

	if (unlikely(in_slot && in_slot != HKM_HALF_SLOT))
		hkm_live_wild(ptr, 0, who);
	number = load_acquire(&hkm_live_numbers)[hkm_slot_number(ptr)];
	if (unlikely(!(number & HKM_LIVE) ||
		     !!in_slot != !!(number & HKM_LIVE_HIGH)))
		hkm_live_wild(ptr, number, who);
	return number;
}

/*
 * hkm_live_change - from live to @new, once; what it was. Relaxed: the cache's
 * word is what publishes a run.
 */
static inline uint32_t hkm_live_change(const void *ptr, uint32_t new,
				       const char *who)
{
	uint32_t *number = &hkm_live_numbers[hkm_slot_number(ptr)];
	uint32_t old = hkm_live_look_up(ptr, who);

	if (unlikely(!__atomic_compare_exchange_n(number, &old, new, false,
						  __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED)))
		hkm_live_wild(ptr, old, who);
	return old;
}

#endif /* HKM_LIVE_H */
