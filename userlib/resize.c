// SPDX-License-Identifier: MIT
/*
 * Live whales of another size, for realloc().
 *
 * One that shrinks gives the slots at its end to the cache. One that grows gets the
 * slots behind it, where these are idle or nobody's, and otherwise other addresses
 * for the same memory. A whale that shares a slot (pack.c) does what its half
 * allows: nothing moves that is another's, too; where that is not enough NULL says
 * so, and the caller copies.
 */
#include "cache.h"
#include "capacity.h"
#include "lane.h"
#include "live.h"
#include "pack.h"
#include "whale.h"

static const char who[] = "realloc";

/* A number of the same whale, of @nr slots. */
static uint32_t with_slots(uint32_t number, size_t nr)
{
	return (number & ~HKM_LIVE_SLOTS) | (uint32_t)nr;
}

/* Where it is. */
static void *settle(void *ptr, uint32_t old, uint32_t number)
{
	uint64_t had = old & HKM_LIVE_SLOTS, has = number & HKM_LIVE_SLOTS;

	hkm_live_change(ptr, number, who);
	hkm_lane_add(&hkm_lane()->live_slots, has - had);
	hkm_checker_resized(ptr, hkm_live_bytes(old), hkm_live_bytes(number));
	return ptr;
}

static void *shrink(void *ptr, uint32_t old, size_t nr)
{
	struct hkm_run rest = {
		.first = hkm_slot_number(ptr) + nr,
		.nr = (old & HKM_LIVE_SLOTS) - nr,
	};

	if (!hkm_cache_is_divisible())
		return ptr;
	settle(ptr, old, with_slots(old, nr));
	write_once(hkm_live_number(rest.first), HKM_LIVE_FREED);
	hkm_run_make_idle(&rest);
	return ptr;
}

/* The slots behind the whale: idle ones, or such as its source can still give. */
static bool grow_here(void *ptr, size_t had, size_t nr)
{
	size_t first = hkm_slot_number(ptr), more = nr - had;
	struct hkm_backend *be = hkm_source_of(first);
	struct hkm_run run;

	if (first + had != hkm_source_border &&
	    hkm_cache_get_at(first + had, more, &run)) {
		if (run.nr > more) {
			struct hkm_run rest = {
				run.first + more, run.nr - more, run.flags,
			};

			hkm_run_put_back(&rest);
			run.nr = more;
		}
		if (hkm_run_confirm(&run))
			return true;
	}
	hkm_capacity_missed(more, 1);
	return !be->ops->extend(be, hkm_slot_address(first), had, more);
}

/* To other addresses, without copying. */
static void *move(void *ptr, uint32_t old, size_t nr)
{
	size_t had = old & HKM_LIVE_SLOTS, first = hkm_slot_number(ptr);
	struct hkm_backend *be = hkm_source_of(first);
	uint32_t number = with_slots(old, nr);
	void *from = hkm_slot_address(first), *to;
	char *now;

	/* The move gives the slots away; they may be live again before it returns. */
	hkm_live_change(ptr, HKM_LIVE_FREED, who);
	hkm_checker_freed(ptr, hkm_live_bytes(old));
	if (be->ops->move(be, from, had, nr, &to)) {
		to = from;
		number = old;
		nr = had;
	}
	hkm_lane_add(&hkm_lane()->live_slots, nr - had);
	write_once(hkm_live_number(hkm_slot_number(to)), number);
	now = (char *)to + hkm_live_offset(number);
	hkm_checker_moved(now, hkm_live_bytes(old), hkm_live_bytes(number));
	return nr > had ? now : NULL;
}

static void *resize_whole(void *ptr, uint32_t old, size_t nr)
{
	size_t had = old & HKM_LIVE_SLOTS;

	if (nr == had)
		return ptr;
	if (nr < had)
		return shrink(ptr, old, nr);
	if (grow_here(ptr, had, nr))
		return settle(ptr, old, with_slots(old, nr));
	return move(ptr, old, nr);
}

/* What is shared stays the other's, and the whale ends before it. */
static void *shrink_low(void *ptr, uint32_t old, size_t nr)
{
	uint32_t number = with_slots(old & ~HKM_LIVE_LOW, nr);
	struct hkm_run rest;

	if (!hkm_cache_is_divisible())
		return ptr;
	hkm_live_change(ptr, number, who);
	hkm_checker_resized(ptr, hkm_live_bytes(old), hkm_live_bytes(number));
	rest = hkm_pack_leave(hkm_slot_number(ptr), old);
	rest.first += nr;
	rest.nr -= nr;
	hkm_lane_add(&hkm_lane()->live_slots, -(uint64_t)rest.nr);
	write_once(hkm_live_number(rest.first), HKM_LIVE_FREED);
	hkm_run_make_idle(&rest);
	return ptr;
}

/*
 * All of its last slot is the whale's again, or another has come. Then half a slot is
 * not worth that it could not grow back into it.
 */
static void *resize_low(void *ptr, uint32_t old, size_t size)
{
	size_t had = old & HKM_LIVE_SLOTS, nr = hkm_slots_for(size);
	uint32_t whole = old & ~HKM_LIVE_LOW;

	if (nr == had && size <= hkm_live_room(old))
		return ptr;
	if (hkm_pack_withdraw(hkm_slot_number(ptr) + had - 1)) {
		settle(ptr, old, whole);
		return resize_whole(ptr, whole, nr);
	}
	if (nr + 1 < had)
		return shrink_low(ptr, old, nr);
	return size <= hkm_live_room(old) ? ptr : NULL;
}

/* What is behind its first slot is its own; one of those stays (live.h). */
static void *resize_high(void *ptr, uint32_t old, size_t size)
{
	size_t had = old & HKM_LIVE_SLOTS;
	size_t nr = hkm_slots_for(size + HKM_HALF_SLOT);

	if (nr < 2)
		nr = 2;
	if (nr == had)
		return ptr;
	if (nr < had)
		return shrink(ptr, old, nr);
	return grow_here(ptr, had, nr) ?
	       settle(ptr, old, with_slots(old, nr)) : NULL;
}

/* It would need a slot more, or keep one, for no more than its colour. */
static bool is_wasteful(size_t size, size_t colour)
{
	size_t nr = hkm_slots_for(size);

	return hkm_slots_for(size + colour) > nr && nr <= HKM_PACK_SLOTS;
}

void *hkm_whale_resize(void *ptr, size_t size, bool frugal)
{
	uint32_t old = hkm_live_look_up(ptr, who);

	if (frugal && is_wasteful(size, hkm_live_colour(old)))
		return NULL;
	/* The whale keeps its colour, and so from here on @size is of room. */
	size += hkm_live_colour(old);
	if (hkm_slots_for(size) > HKM_WHALE_SLOTS)
		return NULL;
	if (old & HKM_LIVE_LOW)
		return resize_low(ptr, old, size);
	if (old & HKM_LIVE_HIGH)
		return resize_high(ptr, old, size);
	return resize_whole(ptr, old, hkm_slots_for(size));
}
