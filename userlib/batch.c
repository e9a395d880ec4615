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

/* @n whales of @nr slots out of a run that has that many, or a few more. */
static void cut(const struct hkm_run *run, size_t nr, size_t n, void **ptrs)
{
	struct hkm_run whale = { run->first, nr, run->flags };
	size_t left = run->nr - n * nr;

	for (size_t i = 0; i < n; i++) {
		if (i == n - 1 && left <= nr / 10)
			whale.nr += left;
		ptrs[i] = hkm_run_make_live(&whale);
		whale.first += whale.nr;
	}
	if (left > nr / 10) {
		whale.nr = left;
		whale.flags &= HKM_RUN_PINNED;
		hkm_run_make_idle(&whale);
	}
}

/* As many at a time as there are side by side. */
static size_t from_cache(void **ptrs, size_t n, size_t nr)
{
	size_t k = HKM_RUN_SLOTS / nr, got = 0;
	struct hkm_run run;

	while (k && got < n) {
		k = min(k, n - got);
		if (hkm_run_get_idle(nr * k, &run)) {
			cut(&run, nr, k, ptrs + got);
			HKM_PROBE2(hit, ptrs[got],
				   nr * k << HKM_SLOT_SHIFT);
			got += k;
		} else {
			k /= 2;
		}
	}
	hkm_lane_add(&hkm_lane()->hits, got);
	return got;
}

static size_t from_region(void **ptrs, size_t n, size_t nr)
{
	struct hkm_backend *be = hkm_source_region();
	int got;

	if (!be)
		return 0;
	got = hkm_supply_many(be, nr, hkm_run_may_be_idle(nr), ptrs,
			      (unsigned int)n);
	if (got < 0) {
		hkm_source_failed(got);
		return 0;
	}
	for (int i = 0; i < got; i++) {
		struct hkm_run run = {
			.first = hkm_slot_number(ptrs[i]), .nr = nr,
		};

		hkm_run_make_live(&run);
	}
	return (size_t)got;
}

static size_t from_anon(void **ptrs, size_t n, size_t nr)
{
	size_t most = nr < SIDE_BY_SIDE ? SIDE_BY_SIDE / nr : 1, got, k;
	struct hkm_backend *be = hkm_source_anon();
	struct hkm_run run;

	for (got = 0; be && got < n; got += k) {
		k = min(most, n - got);
		if (hkm_supply_from(be, nr * k, false, &run))
			break;
		cut(&run, nr, k, ptrs + got);
	}
	return got;
}

/* Where runs are neither cut nor joined, every block is made by itself. */
static size_t alloc_whales(void **ptrs, size_t n, size_t size)
{
	size_t nr = hkm_slots_for(size), got;

	if (nr > HKM_RUN_SLOTS || !hkm_cache_is_divisible())
		return 0;
	got = from_cache(ptrs, n, nr);
	if (got == n)
		return n;
	HKM_PROBE1(miss, (n - got) * size);
	hkm_lane_add(&hkm_lane()->misses, n - got);
	if (hkm_cache_merge())
		got += from_cache(ptrs + got, n - got, nr);
	if (got < n) {
		hkm_capacity_missed(nr, n - got);
		got += from_region(ptrs + got, n - got, nr);
	}
	if (got < n)
		got += from_anon(ptrs + got, n - got, nr);
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
