// SPDX-License-Identifier: MIT
/*
 * Anonymous memory to other addresses: by mremap(2), which moves page tables, not
 * bytes.
 *
 * It is not always the cheaper way. The kernel flushes the TLB for it, and the
 * program then pays for each page that the processor had known. With huge pages
 * these are few: on an Intel Xeon under KVM a move takes 7 us with all its calls, where
 * a slot of new memory takes 61, and more while others use the machine. In a guest on
 * an AMD EPYC new memory was found to be cheaper, perhaps because the hypervisor had
 * small pages below the huge ones: then one is 512 entries of the TLB all the same, and
 * each walk goes through two sets of tables. What it is like here can only be
 * measured, and once is enough.
 *
 * A run is several mappings to the kernel where it has moved and grown before, or
 * the program has changed places in it (mprotect, madvise). Only one is moved at a
 * time, and never with a call that could fail because there are more (sys.h).
 */
#include <stdint.h>
#include <string.h>

#include "backend.h"
#include "checker.h"
#include "moving.h"
#include "sys.h"
#include "timing.h"
#include "window.h"

#define PAGE 4096

/* What a processor's TLB may know: two thousand pages, in slots. */
#define KNOWN 4

size_t hkm_one_mapping(char *from, size_t size)
{
	size_t nr = size >> HKM_SLOT_SHIFT;

	while (nr && !hkm_sys_is_one_mapping(from, nr << HKM_SLOT_SHIFT))
		nr /= 2;
	return nr << HKM_SLOT_SHIFT;
}

/*
 * What a move leaves is as open as before, but no longer locked, if it was: a new
 * mapping takes its place, which is locked if all that come are (mlockall).
 */
bool hkm_move_mapping(char *to, char *from, size_t size)
{
	if (!hkm_window_may_move())
		return false;
	if (!hkm_sys_mremap_away(from, size, to)) {
		hkm_window_shut(from, size);
		return true;
	}
	hkm_window_mend(to, size);
	return false;
}

void hkm_move_pages(char *to, char *from, size_t size)
{
	size_t at, n;

	if (hkm_one_mapping(from, size) == size &&
	    hkm_move_mapping(to, from, size))
		return;
	hkm_checker_used(from, size);
	hkm_checker_used(to, size);
	for (at = 0; at < size; at += n) {
		n = hkm_one_mapping(from + at, size - at);
		if (n && hkm_move_mapping(to + at, from + at, n))
			continue;
		if (!n)
			n = HKM_SLOT_SIZE;
		memcpy(to + at, from + at, n);
	}
	hkm_checker_unused(from, size);
}

/* ---- what it costs --------------------------------------------------------------- */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Cycles to write to each page of a slot. */
static uint64_t touch(char *slot)
{
	uint64_t begin = hkm_timing_begin();

	for (size_t at = 0; at < HKM_SLOT_SIZE; at += PAGE)
		write_once(slot + at, 0);
	return hkm_timing_begin() - begin;
}

/* Cycles of a move, or UINT64_MAX where it failed. */
static uint64_t move(char *to, char *from)
{
	uint64_t begin = hkm_timing_begin();

	if (hkm_one_mapping(from, HKM_SLOT_SIZE) != HKM_SLOT_SIZE ||
	    !hkm_move_mapping(to, from, HKM_SLOT_SIZE))
		return UINT64_MAX;
	return hkm_timing_begin() - begin;
}

/* There and back: what disturbs the one may not disturb the other. */
static bool measure(char *to, char *from)
{
	uint64_t new = touch(to), warm = touch(to), there, back, after;

	warm = min(warm, touch(to));
	there = move(from, to);
	if (there == UINT64_MAX)
		return false;
	after = touch(from);
	warm = min(warm, touch(from));
	back = move(to, from);
	if (back == UINT64_MAX)
		return false;
	after = min(after, touch(to));
	return min(there, back) + KNOWN * (after - min(after, warm)) < new;
}

bool hkm_moving_pays(char *to, char *from)
{
	bool pays;

	hkm_checker_used(to, HKM_SLOT_SIZE);
	hkm_checker_used(from, HKM_SLOT_SIZE);
	pays = measure(to, from);
	hkm_checker_unused(to, HKM_SLOT_SIZE);
	hkm_checker_unused(from, HKM_SLOT_SIZE);
	return pays;
}
