// SPDX-License-Identifier: GPL-2.0
/*
 * Per-site caches: what one place has freed is kept for it, what is nobody's is for
 * all, and no place loses a block or has another's.
 */
#include "churn.h"
#include "sites.h"

#define MIB (1UL << 20)
#define noinline __attribute__((noinline))

/* Each call is a place of its own; the empty statement keeps it from being a jump. */
#define PLACE(name)						\
static noinline void *name(size_t size)				\
{								\
	void *p = hkm_malloc(size);				\
								\
	__asm__ volatile("" : "+r"(p));				\
	check(p);						\
	return p;						\
}

PLACE(large_place)
PLACE(small_place)

static noinline void *grow_place(void *p, size_t size)
{
	p = hkm_realloc(p, size);
	__asm__ volatile("" : "+r"(p));
	check(p);
	return p;
}

/* Where two places happened to be one site, that would be no mistake. */
static void with_sites(void)
{
	no_device();
	fake.tell_sites_apart = true;
	setenv("HAKMEM_SITES", "1", 1);
}

/* an idle run of @size that is the large place's */
static char *freed_by_large_place(size_t size)
{
	char *p = large_place(size);

	hkm_free(p);
	check_int(stats().idle_bytes, size);
	return p;
}

static void without_sites_an_idle_run_is_cut_for_all(void)
{
	char *p;

	no_device();
	p = freed_by_large_place(16 * MIB);
	check(small_place(2 * MIB) == p);
	check_int(stats().idle_bytes, 14 * MIB);
}

static void what_a_place_freed_is_kept_for_it(void)
{
	char *p, *other;

	with_sites();
	p = freed_by_large_place(16 * MIB);
	other = small_place(2 * MIB);
	check(is_whale(other));
	check(other + 2 * MIB <= p || other >= p + 16 * MIB);
	check_int(stats().idle_bytes, 16 * MIB);
	check_int(stats().ring.hits, 0);
	check(large_place(16 * MIB) == p);
	check_int(stats().ring.hits, 1);
	check_int(stats().idle_bytes, 0);
}

static void a_place_may_cut_what_is_its_own(void)
{
	char *p;

	with_sites();
	p = freed_by_large_place(16 * MIB);
	check(large_place(4 * MIB) == p);
	check_int(stats().idle_bytes, 12 * MIB);
	check(large_place(12 * MIB) == p + 4 * MIB);
}

/* a batch has no place */
static void what_is_nobodys_is_for_all(void)
{
	void *p;

	with_sites();
	check_int(hkm_alloc_batch(&p, 1, 4 * MIB), 1);
	hkm_free(p);
	check(large_place(2 * MIB) == p);
	check(small_place(2 * MIB) == (char *)p + 2 * MIB);
	check_int(stats().ring.hits, 2);
}

static void what_a_batch_frees_is_nobodys(void)
{
	void *p, *again;

	with_sites();
	p = again = large_place(4 * MIB);
	hkm_free_batch(&again, 1);
	check(small_place(2 * MIB) == p);
	again = large_place(2 * MIB);
	check(again == (char *)p + 2 * MIB);
	/* nor does one have a place that it had before */
	hkm_free_batch(&again, 1);
	check_int(hkm_alloc_batch(&again, 1, 2 * MIB), 1);
	check(again == (char *)p + 2 * MIB);
	hkm_free(again);
	check(small_place(2 * MIB) == again);
}

static void runs_of_two_places_are_not_joined(void)
{
	char *a, *b, *c;

	with_sites();
	a = large_place(2 * MIB);
	b = small_place(2 * MIB);
	c = b > a ? a : b;
	check(b == a + 2 * MIB || a == b + 2 * MIB);
	hkm_free(a);
	hkm_free(b);
	/* together they would do for either */
	check(large_place(4 * MIB) != c);
	check(small_place(4 * MIB) != c);
	check(large_place(2 * MIB) == a);
	check(small_place(2 * MIB) == b);
}

static void runs_of_one_place_are_joined(void)
{
	char *a[2];

	with_sites();
	/* one line: the same place both times */
	for (int i = 0; i < 2; i++)
		a[i] = large_place(2 * MIB);
	for (int i = 0; i < 2; i++)
		hkm_free(a[i]);
	check(large_place(4 * MIB) == (a[0] < a[1] ? a[0] : a[1]));
}

static void calloc_and_memalign_have_places(void)
{
	char *p;

	with_sites();
	p = freed_by_large_place(8 * MIB);
	check(hkm_calloc(1, 2 * MIB) != p);
	check(hkm_memalign(4096, 2 * MIB) != p);
	check(hkm_aligned_alloc(2 * MIB, 2 * MIB) != p);
	check(hkm_valloc(2 * MIB) != p);
	check(hkm_pvalloc(2 * MIB) != p);
	check(hkm_reallocarray(NULL, 2, 1 * MIB) != p);
	check_int(stats().idle_bytes, 8 * MIB);
}

static noinline void *zeroed_place(void)
{
	void *p = hkm_calloc(1, 2 * MIB);

	__asm__ volatile("" : "+r"(p));
	return p;
}

static void calloc_clears_what_its_place_had(void)
{
	char *p;

	with_sites();
	p = zeroed_place();
	memset(p, 1, 2 * MIB);
	hkm_free(p);
	check(zeroed_place() == p);
	check(all_bytes(p, 2 * MIB, 0));
}

/* what has moved is its last caller's; what it left behind is nobody's */
static void realloc_makes_it_the_callers(void)
{
	char *p, *wall, *q;

	with_sites();
	p = large_place(2 * MIB);
	wall = large_place(2 * MIB);
	memset(p, 7, 2 * MIB);
	q = grow_place(p, 4 * MIB);
	check(all_bytes(q, 2 * MIB, 7));
	hkm_free(q);
	check(large_place(4 * MIB) != q);
	check(grow_place(NULL, 4 * MIB) == q);
	hkm_free(wall);
}

static void realloc_that_fails_changes_nothing(void)
{
	char *p;

	with_sites();
	p = large_place(2 * MIB);
	memset(p, 7, 2 * MIB);
	check(!hkm_realloc(p, SIZE_MAX / 4));
	check(all_bytes(p, 2 * MIB, 7));
	hkm_free(p);
	/* still the large place's, and not nobody's */
	check(small_place(2 * MIB) != p);
	check(large_place(2 * MIB) == p);
}

static void init_turns_them_on_and_off(void)
{
	struct hkm_config cfg = { .sites = true };
	char *p;

	no_device();
	fake.tell_sites_apart = true;
	check_int(hkm_init(&cfg), 0);
	p = freed_by_large_place(4 * MIB);
	check(small_place(2 * MIB) != p);
	/* no second time: nothing changes */
	cfg.sites = false;
	check_int(hkm_init(&cfg), -EALREADY);
	check(small_place(2 * MIB) != p);
	check(large_place(4 * MIB) == p);
	hkm_shutdown();
	setenv("HAKMEM_SITES", "1", 1);
	check_int(hkm_init(&cfg), 0);
	p = freed_by_large_place(4 * MIB);
	check(small_place(2 * MIB) == p);
}

/* a place that allocates no more keeps nothing from being given back */
static void release_takes_all_of_them(void)
{
	with_sites();
	freed_by_large_place(16 * MIB);
	hkm_free(small_place(2 * MIB));
	check_int(stats().idle_bytes, 18 * MIB);
	hkm_release_all();
	check_int(stats().idle_bytes, 0);
}

static void limit_is_for_all_of_them(void)
{
	with_sites();
	hkm_set_limit(16 * MIB);
	hkm_free(large_place(16 * MIB));
	hkm_free(small_place(2 * MIB));
	/* the first that was freed went first, though it is another's */
	check_int(stats().idle_bytes, 2 * MIB);
}

static void guards_are_kept(void)
{
	char *p;

	with_sites();
	setenv("HAKMEM_GUARD", "1", 1);
	p = large_place(4 * MIB);
	hkm_free(p);
	check(small_place(4 * MIB) != p);
	check(large_place(4 * MIB) == p);
}

/* ---- halves, threads, the device ---- */

#define ODD	(SLOT + SLOT / 2)
#ifdef SANITIZED
#define ROUNDS	500
#else
#define ROUNDS	2000
#endif

static void those_that_share_a_slot_have_places(void)
{
	char *low, *high;

	with_sites();
	low = large_place(ODD);
	high = small_place(ODD);
	check(high == low + ODD);
	memset(low, 1, ODD);
	memset(high, 2, ODD);
	hkm_free(low);
	check(all_bytes(high, ODD, 2));
	hkm_free(high);
	check_int(stats().live, 0);
	check_int(stats().idle_bytes, 3 * SLOT);
	check_int(stats().live_bytes, 0);
}

/* what is idle beside half a slot is its place's, too */
static void no_place_takes_what_is_beside_its_half(void)
{
	char *low, *high;

	with_sites();
	low = large_place(ODD);
	high = small_place(ODD);
	check(high == low + ODD);
	hkm_free(low);
	check_int(stats().idle_bytes, SLOT);
	check(small_place(ODD) != low);
	check_int(stats().idle_bytes, SLOT);
	check(large_place(SLOT) == low);
}

static void *churn(void *arg)
{
	uint64_t state = (uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned int at = next_random(&state);
		size_t size = (1 + at % 3) * SLOT + (at % 5 ? 0 : SLOT / 2);
		char *p;

		switch (at / 16 % 4) {
		case 0:
			p = large_place(size);
			break;
		case 1:
			p = small_place(size);
			break;
		case 2:
			p = grow_place(small_place(size), size + SLOT);
			break;
		default:
			p = grow_place(large_place(size + SLOT), size);
			break;
		}
		churn_leave(p, at / 64);
	}
	return NULL;
}

static void threads_lose_nothing(void)
{
	with_sites();
	churn_run(churn);
}

static void threads_lose_nothing_on_the_device(void)
{
	with_device();
	setenv("HAKMEM_SITES", "1", 1);
	fake.max_slots = 256;
	churn_run(churn);
	hkm_shutdown();
	for (size_t i = 0; i < 256; i++)
		check(!fake_is_taken(i));
}

/* a slot that the kernel has emptied is as good as new, whosever it was */
static void device_keeps_them_apart(void)
{
	char *p;

	with_device();
	fake.tell_sites_apart = true;
	setenv("HAKMEM_SITES", "1", 1);
	fake.max_slots = 64;
	p = freed_by_large_place(16 * MIB);
	check(small_place(2 * MIB) != p);
	check(large_place(16 * MIB) == p);
}

/* code lies close together: its addresses must not be one site for that */
static void addresses_are_spread_over_the_sites(void)
{
	bool seen[256] = { false };
	unsigned int nr = 0;

	no_device();
	setenv("HAKMEM_SITES", "1", 1);
	check_int(hkm_site(NULL), 0);
	for (uintptr_t i = 0; i < 255; i++) {
		unsigned int site = hkm_site((void *)(0x555555554000 + 5 * i));

		check(site >= 1 && site <= 255);
		nr += !seen[site];
		seen[site] = true;
	}
	/* by chance it would be 161 */
	check(nr >= 140);
}

static const struct tap_case cases[] = {
	CASE(addresses_are_spread_over_the_sites),
	CASE(without_sites_an_idle_run_is_cut_for_all),
	CASE(what_a_place_freed_is_kept_for_it),
	CASE(a_place_may_cut_what_is_its_own),
	CASE(what_is_nobodys_is_for_all),
	CASE(what_a_batch_frees_is_nobodys),
	CASE(runs_of_two_places_are_not_joined),
	CASE(runs_of_one_place_are_joined),
	CASE(calloc_and_memalign_have_places),
	CASE(calloc_clears_what_its_place_had),
	CASE(realloc_makes_it_the_callers),
	CASE(realloc_that_fails_changes_nothing),
	CASE(init_turns_them_on_and_off),
	CASE(release_takes_all_of_them),
	CASE(limit_is_for_all_of_them),
	CASE(guards_are_kept),
	CASE(those_that_share_a_slot_have_places),
	CASE(no_place_takes_what_is_beside_its_half),
	CASE(threads_lose_nothing),
	CASE(threads_lose_nothing_on_the_device),
	CASE(device_keeps_them_apart),
};

TAP_MAIN(cases)
