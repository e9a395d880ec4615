// SPDX-License-Identifier: MIT
/*
 * Whales that share a slot.
 *
 * A block of 2.1 MiB has two slots, and both are backed by 2 MiB each as soon as
 * they are touched: it takes twice the memory that it asked for. So where a size
 * leaves at least half of its last slot, that half is offered to another such
 * whale, which begins there and goes on in the slots behind:
 *
 *	slot      n - 1       n       n + 1
 *	low     |########|####    |        |
 *	high    |        |    ####|########|
 *
 * Halves and no less, because only two whales can meet in a slot: each is at least
 * a slot long. All other slots are one whale's, as ever; a whale that is freed
 * leaves these to the cache of idle runs, and the shared one to who is left in it.
 *
 * A byte for each slot says which of its halves are somebody's, if it is one that
 * may be shared, and else 0. It changes by one atomic operation and arbitrates: a
 * half is had by who sets its bit while the other is set, and the slot by who
 * clears the last one. Acquire and release: what was done to a half by who left it
 * comes before what is done by who comes next.
 *
 * Company is looked for where the cache of idle runs has nothing, so a hit does not
 * pay for it. First comes half a slot that has idle slots beside it: what a whale
 * that was freed has left, where the other one stayed. Then, where the process may
 * grow, half a slot with nothing behind it, of those announced lately.
 */
#include "cache.h"
#include "lane.h"
#include "pack.h"
#include "supply.h"
#include "tables.h"

#define LOWER 1
#define UPPER 2

#define ANNOUNCED 64

bool hkm_pack_is_on;

/* A byte for each slot. */
static uint8_t *halves_of;

/* Slots; hints and no more. Slot 0 is nobody's last. */
static uint32_t announced[ANNOUNCED];
static unsigned int announcements;

void hkm_pack_open(bool on)
{
	if (!halves_of)
		halves_of = hkm_tables_halves();
	/* Release: pairs with the acquire in hkm_pack_half(). */
	store_release(&hkm_pack_is_on, on);
}

/* ---- halves -------------------------------------------------------------------- */

static bool change(size_t slot, uint8_t from, uint8_t to)
{
	return __atomic_compare_exchange_n(&halves_of[slot], &from, to,
					   false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* Is the slot now the caller's alone? As for counters, one thread needs no lock. */
static bool leave(size_t slot, uint8_t half)
{
	uint8_t *halves = &halves_of[slot];
	uint8_t left;

	if (__libc_single_threaded) {
		left = read_once(halves) & (uint8_t)~half;
		write_once(halves, left);
		return !left;
	}
	return !__atomic_and_fetch(halves, (uint8_t)~half,
				   __ATOMIC_ACQ_REL);
}

void hkm_pack_offer(size_t slot)
{
	store_release(&halves_of[slot], LOWER);
}

void hkm_pack_share(size_t slot)
{
	store_release(&halves_of[slot], LOWER | UPPER);
}

void hkm_pack_announce(size_t slot)
{
	unsigned int i = __atomic_fetch_add(&announcements, 1,
					    __ATOMIC_RELAXED);

	write_once(&announced[i % ANNOUNCED], (uint32_t)slot);
}

bool hkm_pack_withdraw(size_t slot)
{
	return change(slot, LOWER, 0);
}

struct hkm_run hkm_pack_leave(size_t first, uint32_t number)
{
	struct hkm_run run = { .first = first, .nr = number & HKM_LIVE_SLOTS };
	bool low = number & HKM_LIVE_LOW;
	size_t shared = low ? first + run.nr - 1 : first;

	if (leave(shared, low ? LOWER : UPPER))
		return run;
	run.nr--;
	if (!low) {
		run.first++;
		hkm_pack_announce(shared);
	}
	return run;
}

/* Half of @slot was had for nothing; who had the other half may have gone meanwhile. */
static void leave_again(size_t slot, uint8_t half)
{
	struct hkm_run run = { .first = slot, .nr = 1 };

	if (!leave(slot, half))
		return;
	hkm_lane_add(&hkm_lane()->live_slots, -1UL);
	hkm_run_make_idle(&run);
}

/* ---- company --------------------------------------------------------------------- */

/**
 * struct wanted - by a whale
 * @nr: slots beside the half
 * @aligned: it must be in the lower half
 */
struct wanted {
	size_t nr;
	bool aligned;
};

static bool is_offered_before(const struct hkm_run *run)
{
	return run->first && run->first != hkm_source_border &&
	       read_once(&halves_of[run->first - 1]) == LOWER;
}

static bool is_offered_behind(const struct hkm_run *run)
{
	size_t end = run->first + run->nr;

	return end < hkm_window.size >> HKM_SLOT_SHIFT &&
	       end != hkm_source_border &&
	       read_once(&halves_of[end]) == UPPER;
}

/* The smallest idle run that has half a slot beside it. */
static size_t rank(const struct hkm_run *run, size_t best, const void *arg)
{
	const struct wanted *wanted = arg;
	size_t rank = HKM_RUN_MAX - run->nr;

	if (run->nr < wanted->nr || rank <= best)
		return 0;
	if (!is_offered_behind(run) &&
	    (wanted->aligned || !is_offered_before(run)))
		return 0;
	return rank;
}

/* Of @run, which is the caller's, the @nr slots at that end; the others go back. */
static void take_end(struct hkm_run *run, size_t nr, bool last)
{
	struct hkm_run rest = *run;

	rest.nr = run->nr - nr;
	run->nr = nr;
	if (last)
		run->first += rest.nr;
	else
		rest.first += nr;
	if (rest.nr)
		hkm_run_put_back(&rest);
}

/* @run is idle slots in front of the upper half of one, or behind the lower. */
static uint32_t join(struct hkm_run *run, size_t nr, bool aligned)
{
	size_t end = run->first + run->nr;

	if (is_offered_behind(run) && change(end, UPPER, LOWER | UPPER)) {
		take_end(run, nr, true);
		if (hkm_run_confirm(run))
			return HKM_LIVE_LOW;
		leave_again(end, LOWER);
		return 0;
	}
	if (!aligned && is_offered_before(run) &&
	    change(run->first - 1, LOWER, LOWER | UPPER)) {
		take_end(run, nr, false);
		if (hkm_run_confirm(run))
			return HKM_LIVE_HIGH;
		leave_again(run->first - 1, UPPER);
		return 0;
	}
	hkm_run_put_back(run);
	return 0;
}

uint32_t hkm_pack_join_idle(size_t nr, size_t lowest, bool aligned,
			    struct hkm_run *run)
{
	struct wanted wanted = { .nr = nr - 1, .aligned = aligned };
	uint32_t half;

	if (!hkm_cache_get_best(lowest, rank, &wanted, run))
		return 0;
	half = join(run, nr - 1, aligned);
	run->nr = nr;
	if (half == HKM_LIVE_HIGH)
		run->first--;
	return half;
}

/* Is the upper half of the slot, with @nr new slots behind it, the caller's now? */
static bool join_behind(size_t slot, size_t nr)
{
	if (slot + 1 == hkm_source_border || !change(slot, LOWER, LOWER | UPPER))
		return false;
	if (hkm_supply_behind(slot, nr))
		return true;
	leave_again(slot, UPPER);
	return false;
}

uint32_t hkm_pack_join_new(size_t nr, size_t lowest, bool aligned,
			   struct hkm_run *run)
{
	if (aligned || hkm_supply_is_idle_first(nr - 1))
		return 0;
	for (int i = 0; i < ANNOUNCED; i++) {
		uint32_t slot = read_once(&announced[i]);

		if (!slot || slot < lowest)
			continue;
		if (join_behind(slot, nr - 1)) {
			*run = (struct hkm_run){ .first = slot, .nr = nr };
			return HKM_LIVE_HIGH;
		}
		/* Others may come; until they say so, it is not worth a look. */
		__atomic_compare_exchange_n(&announced[i], &slot, 0, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	return 0;
}
