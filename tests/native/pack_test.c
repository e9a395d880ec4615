// SPDX-License-Identifier: GPL-2.0
/*
 * Whales that share a slot: who gets which half, that neither sees the other, and
 * who has the slot when one goes.
 */
#include <linux/hakmem_region.h>

#include "churn.h"

#define HALF (SLOT / 2)
#define ODD (SLOT + HALF)	/* the most that may share */

static char *odd(int byte)
{
	char *p = hkm_malloc(ODD);

	check(p);
	memset(p, byte, ODD);
	return p;
}

/* a low one and a high one, full of 1 and 2 */
static void pair(char **low, char **high)
{
	*low = odd(1);
	*high = odd(2);
	check(is_whale(*low));
	check(*high == *low + ODD);
}

static void two_share_three_slots(void)
{
	char *low, *high;

	no_device();
	pair(&low, &high);
	check_int(stats().live, 2);
	check_int(stats().live_bytes, 3 * SLOT);
	check_int(hkm_malloc_usable_size(low), ODD);
	check_int(hkm_malloc_usable_size(high), ODD);
	check(all_bytes(low, ODD, 1));
	check(all_bytes(high, ODD, 2));
	hkm_free(low);
	hkm_free(high);
	check_int(stats().live, 0);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 3 * SLOT);
	/* nothing of it is left behind: the three are one run again */
	check(hkm_malloc(3 * SLOT) == low);
}

static void tails_of_longer_ones_are_shared_too(void)
{
	char *low, *high;

	no_device();
	low = hkm_malloc(7 * SLOT + 1);
	high = hkm_malloc(3 * SLOT + HALF);
	check(high == low - colour_of(low) + 7 * SLOT + HALF);
	check_int(stats().live_bytes, 11 * SLOT);
	check_int(room_of(low), 7 * SLOT + HALF);
	check_int(hkm_malloc_usable_size(high), 3 * SLOT + HALF);
	/* more than half, a whole number of slots, and one of nine slots do not */
	check(is_whale(hkm_malloc(ODD + 1)));
	check(is_whale(hkm_malloc(2 * SLOT)));
	check_int(room_of(hkm_malloc(8 * SLOT + 1)), 9 * SLOT);
}

static void place_of_a_low_one_is_taken_again(void)
{
	char *low, *high;

	no_device();
	pair(&low, &high);
	hkm_free(low);
	check_int(stats().idle_bytes, SLOT);
	check_int(stats().live_bytes, 2 * SLOT);
	check(odd(3) == low);
	check_int(stats().idle_bytes, 0);
	check_int(stats().live_bytes, 3 * SLOT);
	check_int(stats().ring.hits, 1);
	check(all_bytes(high, ODD, 2));
}

static void place_of_a_high_one_is_taken_again(void)
{
	char *low, *high;

	no_device();
	pair(&low, &high);
	hkm_free(high);
	check_int(stats().idle_bytes, SLOT);
	check(odd(3) == high);
	check_int(stats().ring.hits, 1);
	check(all_bytes(low, ODD, 1));
}

/* only what is needed of a longer idle run, at the end that is beside the half */
static void rest_of_an_idle_run_stays(void)
{
	char *low, *high;

	no_device();
	low = hkm_malloc(3 * SLOT + HALF);
	high = hkm_malloc(3 * SLOT + HALF);
	memset(high, 2, 3 * SLOT + HALF);
	hkm_free(low);
	check_int(stats().idle_bytes, 3 * SLOT);
	check(hkm_malloc(2 * SLOT) == low);
	/* one slot is left, in front of the half */
	check(odd(5) == low + 2 * SLOT);
	check_int(stats().idle_bytes, 0);
	check(all_bytes(high, 3 * SLOT + HALF, 2));
}

static void calloc_clears_its_own_half_only(void)
{
	char *low, *high, *p;

	no_device();
	pair(&low, &high);
	hkm_free(low);
	p = hkm_calloc(1, ODD);
	check(p == low);
	check(all_bytes(p, ODD, 0));
	check(all_bytes(high, ODD, 2));
	memset(p, 1, ODD);
	hkm_free(high);
	p = hkm_calloc(1, ODD);
	check(p == high);
	check(all_bytes(p, ODD, 0));
	check(all_bytes(low, ODD, 1));
}

static void alignment_is_kept(void)
{
	char *low, *p;

	no_device();
	low = odd(1);
	p = hkm_memalign(SLOT, ODD);
	check(is_whale(p) && p != low);
	check(hkm_memalign(HALF, ODD) == p + ODD);
}

static void realloc_copies_what_is_shared(void)
{
	char *low, *high, *p;

	no_device();
	pair(&low, &high);
	check(hkm_realloc(low, SLOT + 1) == low);
	check(hkm_realloc(high, SLOT + 1) == high);
	p = hkm_realloc(low, 2 * SLOT);
	check(p && p != low);
	check(all_bytes(p, ODD, 1));
	check(all_bytes(high, ODD, 2));
	low = odd(3);
	check(low != p);
	check(all_bytes(high, ODD, 2));
	check(all_bytes(p, ODD, 1));
}

static void one_that_grows_is_not_joined(void)
{
	char *p;

	no_device();
	p = odd(1);
	check(hkm_realloc(p, 2 * SLOT) == p);
	check_int(hkm_malloc_usable_size(p), 2 * SLOT);
	check(is_whale(odd(2)));
	check(all_bytes(p, ODD, 1));
}

static void high_ones_grow_and_shrink(void)
{
	char *low, *high;

	no_device();
	pair(&low, &high);
	check(hkm_realloc(high, 2 * SLOT + HALF) == high);
	check_int(hkm_malloc_usable_size(high), 2 * SLOT + HALF);
	check_int(stats().live_bytes, 4 * SLOT);
	memset(high, 2, 2 * SLOT + HALF);
	check(hkm_realloc(high, ODD) == high);
	check_int(hkm_malloc_usable_size(high), ODD);
	check_int(stats().live_bytes, 3 * SLOT);
	check_int(stats().idle_bytes, SLOT);
	check(hkm_realloc(high, HALF) == high);
	check_int(hkm_malloc_usable_size(high), ODD);
	check(all_bytes(low, ODD, 1));
	hkm_free(low);
	hkm_free(high);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 4 * SLOT);
}

static void low_ones_shrink_to_before_what_is_shared(void)
{
	char *low, *high, *p;

	no_device();
	low = hkm_malloc(4 * SLOT + HALF);
	high = odd(2);
	check(high == low + 4 * SLOT + HALF);
	memset(low, 1, 4 * SLOT + HALF);
	check_int(stats().live_bytes, 6 * SLOT);
	/* half a slot is not worth it */
	check(hkm_realloc(low, 4 * SLOT) == low);
	check_int(hkm_malloc_usable_size(low), 4 * SLOT + HALF);
	check_int(stats().idle_bytes, 0);
	check(hkm_realloc(low, 2 * SLOT) == low);
	check_int(hkm_malloc_usable_size(low), 2 * SLOT);
	check_int(stats().live_bytes, 4 * SLOT);
	check_int(stats().idle_bytes, 2 * SLOT);
	/* all that it left is another's, up to the half */
	p = hkm_malloc(2 * SLOT + HALF);
	check(p == low + 2 * SLOT);
	memset(p, 3, 2 * SLOT + HALF);
	check_int(stats().idle_bytes, 0);
	check(all_bytes(low, 2 * SLOT, 1));
	check(all_bytes(high, ODD, 2));
	hkm_free(p);
	hkm_free(high);
	hkm_free(low);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 6 * SLOT);
}

static void batches_may_free_them(void)
{
	char *low, *high;
	void *both[2];

	no_device();
	pair(&low, &high);
	both[0] = high;
	both[1] = low;
	hkm_free_batch(both, 2);
	check_int(stats().live_bytes, 0);
	check_int(stats().ring.cached, 1);
	check_int(stats().idle_bytes, 3 * SLOT);
}

static void nothing_is_shared_unless_wanted(void)
{
	no_device();
	setenv("HAKMEM_PACK", "0", 1);
	odd(1);
	check(is_whale(odd(2)));
	check_int(room_of(odd(3)), 2 * SLOT);
}

static void nothing_is_shared_among_guards(void)
{
	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	odd(1);
	check(is_whale(odd(2)));
}

/* ---- misuse ---------------------------------------------------------------------- */

static size_t offset_of_misuse;
static bool free_it_first;

static void misuse(void)
{
	char *low, *high;

	no_device();
	pair(&low, &high);
	dprintf(2, "%p\n", (void *)low);
	if (free_it_first)
		hkm_free(low + offset_of_misuse);
	hkm_free(low + offset_of_misuse);
}

static void check_aborts(size_t offset, bool twice, const char *message)
{
	offset_of_misuse = offset;
	free_it_first = twice;
	check_child_aborts(misuse, "hkm_free", offset, message);
}

static void wrong_frees_are_reported(void)
{
	check_aborts(0, true, "double free");
	check_aborts(ODD, true, "double free");
	check_aborts(SLOT, false, "not the start of a block");
	check_aborts(HALF, false, "not the start of a block");
	check_aborts(ODD + HALF, false, "not the start of a block");
	check_aborts(ODD + SLOT, false, "not the start of a block");
}

/* ---- with the device --------------------------------------------------------------- */

static void kernel_takes_what_is_beside_a_half(void)
{
	char *low, *high;

	with_device();
	fake.max_slots = 8;
	pair(&low, &high);
	check(!strcmp(stats().backend, "region"));
	hkm_free(low);
	/* the slot that they shared is not idle; the other one comes back */
	check_int(fake_reclaim(0, 3), 1);
	check(odd(3) == low);
	check_int(fake.at_handouts, 2);
	check_int(stats().lost, 0);
	hkm_free(low);
	/* not while it is being taken */
	check(fake_reclaim_begin(0));
	low = odd(3);
	check(low != high - ODD);
	check_int(stats().lost, 1);
	fake_reclaim_end(0, true);
	check(all_bytes(high, ODD, 2));
	hkm_free(high);
	hkm_free(low);
	check_int(stats().live_bytes, 0);
	hkm_shutdown();
	for (size_t i = 0; i < 8; i++)
		check(!fake_is_taken(i));
}

static char *goes_meanwhile;

static void free_and_fail(void)
{
	hkm_free(goes_meanwhile);
	fake.handout_error = -ENOMEM;
}

/* who joins in vain is the last to leave: the slot is idle, not lost */
static void last_to_leave_has_the_slot(void)
{
	char *p;

	with_device();
	fake.max_slots = 8;
	goes_meanwhile = odd(1);
	fake.before_at = free_and_fail;
	p = odd(2);
	check_int(fake.at_handouts, 1);
	fake.before_at = NULL;
	fake.handout_error = 0;
	check_int(stats().live, 1);
	check_int(stats().live_bytes, 2 * SLOT);
	check_int(stats().idle_bytes, 2 * SLOT);
	hkm_free(p);
	check_int(stats().live_bytes, 0);
	hkm_shutdown();
	for (size_t i = 0; i < 8; i++)
		check(!fake_is_taken(i));
}

static void idle_pair_is_the_kernels(void)
{
	char *low, *high;

	with_device();
	fake.max_slots = 8;
	pair(&low, &high);
	hkm_free(high);
	hkm_free(low);
	check_int(fake_reclaim(0, 3), 3);
}

static void exchange_leaves_the_other_half_alone(void)
{
	char *low, *high, *p;

	with_device();
	setenv("HAKMEM_CALLOC_EXCHANGE", "1", 1);
	fake.max_slots = 8;
	pair(&low, &high);
	fake_set_clean(8);
	hkm_free(low);
	p = hkm_calloc(1, ODD);
	check(p == low);
	check(all_bytes(p, ODD, 0));
	check(all_bytes(high, ODD, 2));
	check_int(fake.fresh, 0);
}

/* ---- threads ------------------------------------------------------------------------ */

#define ROUNDS 4000

static void *churn(void *arg)
{
	uint32_t draw = (uint32_t)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		size_t at;
		char *p;

		draw = draw * 1664525 + 1013904223;
		at = draw >> 16 & 0xffff;
		p = hkm_malloc(at % 5 ? ODD : at % 2 ? SLOT : 2 * SLOT);
		check(p);
		churn_leave(p, (unsigned int)at);
	}
	return NULL;
}

static void threads_share_and_lose_nothing(void)
{
	no_device();
	churn_run(churn);
}

static void threads_share_the_devices_slots(void)
{
	with_device();
	fake.max_slots = 256;
	churn_run(churn);
	hkm_shutdown();
	for (size_t i = 0; i < 256; i++)
		check(!fake_is_taken(i));
}

static const struct tap_case cases[] = {
	CASE(two_share_three_slots),
	CASE(tails_of_longer_ones_are_shared_too),
	CASE(place_of_a_low_one_is_taken_again),
	CASE(place_of_a_high_one_is_taken_again),
	CASE(rest_of_an_idle_run_stays),
	CASE(calloc_clears_its_own_half_only),
	CASE(alignment_is_kept),
	CASE(realloc_copies_what_is_shared),
	CASE(one_that_grows_is_not_joined),
	CASE(high_ones_grow_and_shrink),
	CASE(low_ones_shrink_to_before_what_is_shared),
	CASE(batches_may_free_them),
	CASE(nothing_is_shared_unless_wanted),
	CASE(nothing_is_shared_among_guards),
	CASE(wrong_frees_are_reported),
	CASE(kernel_takes_what_is_beside_a_half),
	CASE(last_to_leave_has_the_slot),
	CASE(idle_pair_is_the_kernels),
	CASE(exchange_leaves_the_other_half_alone),
	CASE(threads_share_and_lose_nothing),
	CASE(threads_share_the_devices_slots),
};

TAP_MAIN(cases)
