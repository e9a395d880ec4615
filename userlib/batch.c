// SPDX-License-Identifier: MIT
/*
 * Many blocks at once.
 *
 * What a program gets here are ordinary blocks, as if each had been asked for
 * by itself: each is freed by itself, or in any batch. What is shared is the way
 * to them. Whales of one batch lie side by side where that can be had: then they
 * are one run up to the moment that it is cut, for the cache one word, for the
 * kernel one range.
 *
 *   hits     runs of the whole batch, else of half of it, and so on; no call
 *   misses   on the device one HANDOUT with an entry for each block; anonymous
 *            memory is opened as one run
 *   frees    sorted by address, and neighbours made idle as one run; so the next
 *            batch finds them together, and one call is enough where idle memory
 *            is to go back at once
 *
 * Whales that may share their last slot (pack.c) are made in twos that share it: such
 * a batch takes a slot less for each two. One that is odd, or that is a hit by
 * itself, offers its half to others as if it had been asked for alone.
 *
 * Nothing here makes a ring of io_uring. Measured in the same run (hkbench
 * --scenario batch; QEMU's TCG, Linux 6.1 and 6.12), a command for each of 64
 * blocks takes 6 to 17 times as long as the array, because a worker has to wake up
 * for it, and one command with the array 2 to 6 times. libhakmem(7) has the table.
 *
 * A run leaves the cache whole when idle memory is too much or too old, so runs are
 * joined up to an eighth of what may be idle and no further.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "capacity.h"
#include "heap.h"
#include "lane.h"
#include "live.h"
#include "pack.h"
#include "probes.h"
#include "run.h"
#include "sites.h"
#include "source.h"
#include "supply.h"
#include "threshold.h"
#include "whale.h"

/* Anonymous blocks are made in runs of at most so many slots: none is a large one. */
#define SIDE_BY_SIDE 128

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* ---- allocation ---------------------------------------------------------------- */

/**
 * struct part - what a batch is cut into: a whale, or two that share a slot
 * @nr: slots
 * @each: slots of a whale; two have one less than twice that
 * @size: bytes of a whale
 * @half: HKM_LIVE_LOW where whales of this size may share their last slot, or 0
 */
struct part {
	size_t nr, each, size;
	uint32_t half;
};

static size_t whales_in(const struct part *part)
{
	return part->nr > part->each ? 2 : 1;
}

/* @run is a part. Its shared slot is said to be that before anybody has a pointer. */
static void begin_part(const struct hkm_run *run, const struct part *part,
		       void **ptrs)
{
	struct hkm_run high = {
		.first = run->first + part->each - 1,
		.nr = part->each,
		.flags = run->flags,
	};
	struct hkm_run low = *run;

	if (whales_in(part) == 1) {
		ptrs[0] = hkm_run_make_live(run, part->half, part->size);
		if (part->half)
			hkm_pack_offer(high.first);
		return;
	}
	low.nr = part->each;
	hkm_pack_share(high.first);
	ptrs[0] = hkm_run_make_live(&low, HKM_LIVE_LOW, part->size);
	ptrs[1] = hkm_run_make_live(&high, HKM_LIVE_HIGH, part->size);
}

/* @n parts out of a run that has that many, or a few slots more. */
static void cut(const struct hkm_run *run, const struct part *part, size_t n,
		void **ptrs)
{
	struct hkm_run one = { run->first, part->nr, run->flags };
	size_t left = run->nr - n * part->nr;
	size_t spare = part->half ? 0 : part->nr / 10;

	for (size_t i = 0; i < n; i++) {
		if (i == n - 1 && left <= spare)
			one.nr += left;
		begin_part(&one, part, ptrs + i * whales_in(part));
		one.first += one.nr;
	}
	if (left > spare) {
		one.nr = left;
		one.flags &= HKM_RUN_PINNED;
		hkm_run_make_idle(&one);
	}
}

/* As many at a time as there are side by side. */
static size_t from_cache(void **ptrs, size_t n, const struct part *part)
{
	size_t each = whales_in(part), k = HKM_RUN_SLOTS / part->nr, got = 0;
	struct hkm_run run;

	while (k && n - got >= each) {
		k = min(k, (n - got) / each);
		if (hkm_run_get_idle(part->nr * k, &run)) {
			cut(&run, part, k, ptrs + got);
			HKM_PROBE2(hit, ptrs[got],
				   part->nr * k << HKM_SLOT_SHIFT);
			got += each * k;
		} else {
			k /= 2;
		}
	}
	hkm_lane_add(&hkm_lane()->hits, got);
	return got;
}

/* One that is new has none idle beside it; a half of it is for who comes next. */
static void begin_new(const struct hkm_run *run, const struct part *part,
		      void **ptrs)
{
	begin_part(run, part, ptrs);
	if (part->half && whales_in(part) == 1)
		hkm_pack_announce(run->first + run->nr - 1);
}

/* The first of each part's pointers is its address until it is begun. */
static size_t from_region(void **ptrs, size_t n, const struct part *part)
{
	struct hkm_backend *be = hkm_source_region();
	size_t each = whales_in(part);
	int got;

	if (!be)
		return 0;
	got = hkm_supply_many(be, part->nr, hkm_run_may_be_idle(part->nr), ptrs,
			      (unsigned int)(n / each));
	if (got < 0) {
		hkm_source_failed(got);
		return 0;
	}
	/* From the last on, for the pointers of two go where one was. */
	for (size_t i = (size_t)got; i--;) {
		struct hkm_run run = {
			.first = hkm_slot_number(ptrs[i]), .nr = part->nr,
		};

		begin_new(&run, part, ptrs + i * each);
	}
	return (size_t)got * each;
}

static size_t from_anon(void **ptrs, size_t n, const struct part *part)
{
	size_t most = part->nr < SIDE_BY_SIDE ? SIDE_BY_SIDE / part->nr : 1;
	size_t each = whales_in(part), got = 0, k;
	struct hkm_backend *be = hkm_source_anon();
	struct hkm_run run;

	while (be && n - got >= each) {
		k = min(most, (n - got) / each);
		if (hkm_supply_from(be, part->nr * k, false, &run))
			break;
		if (k == 1)
			begin_new(&run, part, ptrs + got);
		else
			cut(&run, part, k, ptrs + got);
		got += each * k;
	}
	return got;
}

/* Two by two first, if at all, and what that leaves one by one. */
struct shape {
	struct part part[2];
	int first;
};

static size_t get_cached(void **ptrs, size_t n, const struct shape *shape)
{
	size_t got = 0;

	for (int i = shape->first; i < 2; i++)
		got += from_cache(ptrs + got, n - got, &shape->part[i]);
	return got;
}

static size_t make_new(void **ptrs, size_t n, const struct shape *shape)
{
	size_t got = 0;

	for (int i = shape->first; i < 2 && got < n; i++) {
		const struct part *part = &shape->part[i];

		if (n - got >= whales_in(part))
			got += from_region(ptrs + got, n - got, part);
		got += from_anon(ptrs + got, n - got, part);
	}
	return got;
}

/* Where runs are neither cut nor joined, every block is made by itself. */
static size_t alloc_whales(void **ptrs, size_t n, size_t size)
{
	size_t nr = hkm_slots_for(size), got;
	uint32_t half = hkm_pack_half(size, nr);
	struct shape shape = {
		.part = { { 2 * nr - 1, nr, size, half },
			  { nr, nr, size, half } },
		.first = half ? 0 : 1,
	};

	if (nr > HKM_WHALE_SLOTS || !hkm_cache_is_divisible())
		return 0;
	got = get_cached(ptrs, n, &shape);
	if (got == n)
		return n;
	HKM_PROBE1(miss, (n - got) * size);
	hkm_lane_add(&hkm_lane()->misses, n - got);
	if (hkm_cache_merge())
		got += get_cached(ptrs + got, n - got, &shape);
	if (got < n) {
		hkm_capacity_missed(nr, n - got);
		got += make_new(ptrs + got, n - got, &shape);
	}
	return got;
}

int hkm_alloc_batch(void **ptrs, size_t n, size_t size)
{
	size_t got = 0;

	if (n > INT_MAX)
		return -EINVAL;
	if (n && hkm_heap_wants_whale(size))
		got = alloc_whales(ptrs, n, size);
	for (; got < n; got++) {
		ptrs[got] = hkm_heap_malloc(size, NULL);
		if (!ptrs[got])
			break;
	}
	for (size_t i = got; i < n; i++)
		ptrs[i] = NULL;
	return got || !n ? (int)got : -ENOMEM;
}

/* ---- free ---------------------------------------------------------------------- */

/* By address. Not qsort(), which may call malloc(). */
static void sort(void **ptrs, size_t n)
{
	for (size_t gap = n / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11) {
		for (size_t i = gap; i < n; i++) {
			void *p = ptrs[i];
			size_t k = i;

			for (; k >= gap &&
			       (uintptr_t)ptrs[k - gap] > (uintptr_t)p;
			     k -= gap)
				ptrs[k] = ptrs[k - gap];
			ptrs[k] = p;
		}
	}
}

static bool may_join(const struct hkm_run *a, const struct hkm_run *b,
		     size_t most)
{
	return a->nr && a->first + a->nr == b->first &&
	       b->first != hkm_source_border && a->nr + b->nr <= most &&
	       !((a->flags | b->flags) & HKM_RUN_PINNED);
}

/* Where runs stay whole no two are neighbours: there is a guard between them. */
static void free_sorted(void **ptrs, size_t n)
{
	size_t most = min(hkm_run_limit() / 8, HKM_RUN_SLOTS);
	struct hkm_run run = { 0 };

	for (size_t i = 0; i < n; i++) {
		struct hkm_run next;

		/* What several places had is nobody's. */
		hkm_site_take(ptrs[i]);
		next = hkm_run_take_back(ptrs[i], "free_batch");

		if (may_join(&run, &next, most)) {
			run.nr += next.nr;
			continue;
		}
		if (run.nr)
			hkm_run_make_idle(&run);
		run = next;
	}
	if (run.nr)
		hkm_run_make_idle(&run);
}

void hkm_free_batch(void **ptrs, size_t n)
{
	bool single = hkm_threshold_is_rating();	/* each is measured */
	size_t nr = 0;

	for (size_t i = 0; i < n; i++) {
		if (hkm_window_has(ptrs[i]) && !single)
			ptrs[nr++] = ptrs[i];
		else
			hkm_free(ptrs[i]);
	}
	sort(ptrs, nr);
	free_sorted(ptrs, nr);
	for (size_t i = 0; i < n; i++)
		ptrs[i] = NULL;
}
