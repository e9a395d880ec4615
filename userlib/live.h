/* SPDX-License-Identifier: MIT */
#ifndef HKM_LIVE_H
#define HKM_LIVE_H

/*
 * Live whales: where they begin, how long they are, and whose.
 *
 * A live whale's length is kept in an array beside the window, one number for
 * each slot of which the one of the slot that the whale begins in counts: never
 * in the block, where an overrun of the program would reach it. The number says
 * LIVE from the moment the program gets the whale to the moment it frees it, and
 * changes by compare-and-swap, so of two frees of one whale exactly one succeeds.
 *
 * A whale may have half of a slot, at one of its ends (pack.c), and has at least one
 * slot beside it: so no two begin in one slot.
 *
 * Colours. Were all whales to begin with a page, then whatever a program looks at
 * once a page would be in the same few sets of a processor's caches, which go by
 * those bits of the address, and only so many blocks would fit as a set has lines.
 * So a whale that leaves a page of its part unused begins some lines later than it could.
 * How many goes by the area that its first slot is in: a page that serves again, in
 * a run that begins a little before or behind, has its lines where they were. Areas
 * of 8 MiB measured best of 2 to 32, and 64 colours better than 16 or 8 (libhakmem(7)
 * has what it is good for). After the colours of slabs (Bonwick, "The Slab
 * Allocator", 1994), and jemalloc's large blocks, which do the same within a page.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checker.h"
#include "compiler.h"
#include "run.h"
#include "source.h"
#include "tables.h"

#define HKM_LIVE	(1U << 31)
#define HKM_LIVE_FREED	(1U << 30)
#define HKM_LIVE_PINNED (1U << 29)	/* goes with the run through the cache */
#define HKM_LIVE_LOW	(1U << 28)	/* its last slot is the lower half only */
#define HKM_LIVE_HIGH	(1U << 27)	/* its first slot is the upper half only */
#define HKM_LIVE_HALF	(HKM_LIVE_LOW | HKM_LIVE_HIGH)
#define HKM_COLOUR_SHIFT 21
#define HKM_LIVE_COLOUR (63U << HKM_COLOUR_SHIFT) /* lines that it begins later */
#define HKM_LIVE_SLOTS	((1U << HKM_COLOUR_SHIFT) - 1)

/* A block of more is no whale; a run of a tenth more has a number still. */
#define HKM_WHALE_SLOTS ((size_t)1 << 20)

#define HKM_HALF_SLOT (HKM_SLOT_SIZE / 2)
#define HKM_LINE      ((size_t)64)
#define HKM_COLOURS   ((size_t)4096)	/* bytes that they are spread over */
#define HKM_AREA_SLOTS 4		/* that have the same */

extern uint32_t hkm_live_colours;	/* HKM_LIVE_COLOUR, or 0 where there are none */

/*
 * hkm_live_open - the array, once, and whether there are colours from now on. 0 or
 * -ENOMEM; under hkm_setup_lock
 */
int hkm_live_open(bool coloured);

/* hkm_live_wild - @ptr, of which the number is @number, is no live whale: abort */
__attribute__((noreturn)) void hkm_live_wild(const void *ptr, uint32_t number,
					     const char *who);

/* hkm_live_number - of the whale that begins in slot @first */
static inline uint32_t *hkm_live_number(size_t first)
{
	return load_acquire(&hkm_tables_live) - 1 - first;
}

/* hkm_live_colour - bytes */
static inline size_t hkm_live_colour(uint32_t number)
{
	return (number & HKM_LIVE_COLOUR) / (1U << HKM_COLOUR_SHIFT) * HKM_LINE;
}

/* hkm_live_offset - of its first byte, in its first slot */
static inline size_t hkm_live_offset(uint32_t number)
{
	return (number & HKM_LIVE_HIGH) / HKM_LIVE_HIGH * HKM_HALF_SLOT +
	       hkm_live_colour(number);
}

/* hkm_live_room - bytes in its slots, or its part of them */
static inline size_t hkm_live_room(uint32_t number)
{
	size_t bytes = (size_t)(number & HKM_LIVE_SLOTS) << HKM_SLOT_SHIFT;

	return number & HKM_LIVE_HALF ? bytes - HKM_HALF_SLOT : bytes;
}

/* hkm_live_bytes - of these, what is behind its first */
static inline size_t hkm_live_bytes(uint32_t number)
{
	return hkm_live_room(number) - hkm_live_colour(number);
}

/*
 * hkm_live_choose - the colour of a whale of @size bytes that is to begin in slot
 * @first, if there is room for one in what @number says
 */
static inline uint32_t hkm_live_choose(size_t first, uint32_t number,
				       size_t size)
{
	size_t area = first / HKM_AREA_SLOTS;
	/* Neighbours, and areas that are a power of two apart, mostly differ. */
	uint32_t fold = (uint32_t)(area ^ area >> 6 ^ area >> 12 ^ area >> 18);

	if (hkm_live_room(number) - size < HKM_COLOURS)
		return 0;
	return fold << HKM_COLOUR_SHIFT & read_once(&hkm_live_colours);
}

/*
 * hkm_live_begin - the whale of slot @first, with all that @number says, is the
 * program's; its address
 */
static inline void *hkm_live_begin(size_t first, uint32_t number)
{
	char *ptr = (char *)hkm_slot_address(first) + hkm_live_offset(number);

	write_once(hkm_live_number(first), HKM_LIVE | number);
	hkm_checker_unused(ptr - hkm_live_colour(number),
			   hkm_live_colour(number));
	return hkm_checker_live(ptr, hkm_live_bytes(number));
}

/* hkm_live_look_up - the number of a live whale; @who is named in a complaint */
static inline uint32_t hkm_live_look_up(const void *ptr, const char *who)
{
	uint32_t number = read_once(hkm_live_number(hkm_slot_number(ptr)));

	if (unlikely(!(number & HKM_LIVE) ||
		     (uintptr_t)ptr % HKM_SLOT_SIZE != hkm_live_offset(number)))
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
	uint32_t *number = hkm_live_number(hkm_slot_number(ptr));
	uint32_t old = hkm_live_look_up(ptr, who);

	if (unlikely(!__atomic_compare_exchange_n(number, &old, new, false,
						  __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED)))
		hkm_live_wild(ptr, old, who);
	return old;
}

#endif /* HKM_LIVE_H */
