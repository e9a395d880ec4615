// SPDX-License-Identifier: GPL-2.0
/*
 * Whales that begin some cache lines into their first page: which do, that they stay
 * what they are there, and who can do without.
 */
#include "heap_test.h"

#define HALF (SLOT / 2)
#define PAGE ((size_t)4096)
#define N 64

/* the least that leaves a page unused, and so has a colour */
#define ROOMY(slots) ((slots) * SLOT - PAGE)

/* one that is, in a place where a colour is not 0 */
static char *coloured(size_t size)
{
	char *p;

	do {
		p = hkm_malloc(size);
		check(is_whale(p));
	} while (!colour_of(p));
	return p;
}

static int nr_colours(size_t size)
{
	bool seen[64] = { false };
	int nr = 0;

	for (int i = 0; i < N; i++) {
		char *p = hkm_malloc(size);

		check(is_whale(p));
		check(hkm_malloc_usable_size(p) >= size);
		nr += !seen[colour_of(p) / 64];
		seen[colour_of(p) / 64] = true;
	}
	return nr;
}

static void blocks_begin_at_many_lines(void)
{
	no_device();
	/* slots side by side, and such as are a power of two apart */
	check(nr_colours(ROOMY(2)) >= N / 2);
	check(nr_colours(ROOMY(16)) > N / 2);
	/* in halves of slots, too: two have three */
	check(nr_colours(SLOT + 1) >= N * 3 / 2 / 4);
}

static void without_room_there_is_no_colour(void)
{
	no_device();
	check_int(nr_colours(ROOMY(3) + 1), 1);
	check_int(nr_colours(3 * SLOT), 1);
	check_int(nr_colours(SLOT + HALF), 1);
}

static void a_block_may_be_used_to_its_end(void)
{
	char *p, *behind;

	no_device();
	p = coloured(ROOMY(3));
	check_int(room_of(p), 3 * SLOT);
	behind = hkm_malloc(SLOT);
	check(behind == p - colour_of(p) + 3 * SLOT);
	memset(behind, 2, SLOT);
	memset(p, 1, hkm_malloc_usable_size(p));
	check(all_bytes(behind, SLOT, 2));
}

static void the_same_place_is_the_same_colour(void)
{
	char *p, *again;

	no_device();
	p = coloured(ROOMY(3));
	for (int i = 0; i < 3; i++) {
		hkm_free(p);
		again = hkm_malloc(ROOMY(3) - (size_t)i * PAGE);
		check(again == p);
	}
	/* without a colour it is the whole run */
	hkm_free(p);
	check(hkm_malloc(3 * SLOT) == p - colour_of(p));
}

static void who_asks_for_an_alignment_has_it(void)
{
	static const size_t aligns[] = { 128, 4096, SLOT / 4, HALF, SLOT };

	no_device();
	for (int k = 0; k < 5; k++)
		for (int i = 0; i < 4; i++)
			check_int((uintptr_t)hkm_memalign(aligns[k], ROOMY(2)) %
				  aligns[k], 0);
	check_int((uintptr_t)hkm_valloc(ROOMY(2)) % 4096, 0);
	check_int((uintptr_t)hkm_pvalloc(ROOMY(2)) % 4096, 0);
}

static void calloc_clears_all_of_it(const char *exchange)
{
	char *p, *behind;

	setenv("HAKMEM_CALLOC_EXCHANGE", exchange, 1);
	p = coloured(ROOMY(3));
	behind = hkm_malloc(SLOT);
	memset(behind, 2, SLOT);
	memset(p, 1, hkm_malloc_usable_size(p));
	hkm_free(p);
	check(hkm_calloc(1, ROOMY(3)) == p);
	check(all_bytes(p, ROOMY(3), 0));
	check(all_bytes(behind, SLOT, 2));
}

static void calloc_clears_by_hand(void)
{
	no_device();
	calloc_clears_all_of_it("1G");
}

static void calloc_exchanges(void)
{
	no_device();
	calloc_clears_all_of_it("1");
}

static void calloc_exchanges_on_the_device(void)
{
	with_device();
	calloc_clears_all_of_it("1");
	check(!strcmp(stats().backend, "region"));
}

/* the last slot is as much a part of a block as the first */
static void calloc_exchanges_the_last_slot(void)
{
	char *p;

	no_device();
	setenv("HAKMEM_CALLOC_EXCHANGE", "1", 1);
	p = coloured(ROOMY(22));
	memset(p, 1, hkm_malloc_usable_size(p));
	hkm_free(p);
	/* a little longer than it needs to be, it has room for a colour */
	check(hkm_calloc(1, 20 * SLOT) == p);
	check_int(room_of(p), 22 * SLOT);
	check(all_bytes(p, 20 * SLOT, 0));
}

static void realloc_keeps_the_colour(void)
{
	char *p, *q;

	no_device();
	p = coloured(ROOMY(2));
	memset(p, 1, ROOMY(2));
	/* where it is, as long as there is room for size and colour */
	check(hkm_realloc(p, 2 * SLOT - colour_of(p)) == p);
	check_int(room_of(p), 2 * SLOT);
	check(hkm_realloc(p, 2 * SLOT + 1) == p);
	check_int(room_of(p), 3 * SLOT);
	check(hkm_realloc(p, ROOMY(2)) == p);
	check_int(room_of(p), 2 * SLOT);
	/* and elsewhere */
	check(hkm_malloc(SLOT));
	q = hkm_realloc(p, ROOMY(6));
	check(is_whale(q) && q != p);
	check_int(colour_of(q), colour_of(p));
	check_int(room_of(q), 6 * SLOT);
	check(all_bytes(q, ROOMY(2), 1));
	hkm_free(q);
}

/* a slot for no more than the colour: of a short block it is worth a copy */
static void realloc_takes_no_slot_for_a_colour(void)
{
	static const size_t from[] = { ROOMY(4), ROOMY(6) };
	size_t live;
	char *p;

	no_device();
	for (int i = 0; i < 2; i++) {
		p = coloured(from[i]);
		live = stats().live_bytes;
		memset(p, 1, from[i]);
		p = hkm_realloc(p, 4 * SLOT);
		check_int(room_of(p), 4 * SLOT);
		check_int(live - stats().live_bytes, i * 2 * SLOT);
		check(all_bytes(p, ROOMY(4), 1));
	}
	/* of a long one it is not, nor is it worth a failure */
	p = coloured(ROOMY(40));
	check(hkm_realloc(p, 40 * SLOT) == p);
	check_int(room_of(p), 41 * SLOT);
}

static void realloc_moves_them_on_the_device(void)
{
	char *p, *q;

	with_device();
	p = coloured(ROOMY(2));
	memset(p, 1, ROOMY(2));
	check(hkm_malloc(SLOT));
	q = hkm_realloc(p, ROOMY(6));
	check(is_whale(q) && q != p);
	check_int(fake.moves, 1);
	check(all_bytes(q, ROOMY(2), 1));
	check_int(room_of(q), 6 * SLOT);
	memset(q, 2, hkm_malloc_usable_size(q));
	hkm_free(q);
}

static void batches_have_colours(void)
{
	void *block[N];
	int plain = 0;

	no_device();
	check_int(hkm_alloc_batch(block, N, ROOMY(2)), N);
	for (int i = 0; i < N; i++) {
		check(is_whale(block[i]));
		check(hkm_malloc_usable_size(block[i]) >= ROOMY(2));
		memset(block[i], i, ROOMY(2));
		plain += !colour_of(block[i]);
	}
	check(plain < N / 8);
	for (int i = 0; i < N; i++)
		check(all_bytes(block[i], ROOMY(2), i));
	hkm_free_batch(block, N);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 2 * N * SLOT);
}

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>

/* in memory that was never anybody's, too */
static void what_is_in_front_of_one_is_nobodys(void)
{
	char *p;

	no_device();
	p = coloured(ROOMY(2));
	check(__asan_address_is_poisoned(p - 1));
	check(__asan_address_is_poisoned(p - colour_of(p)));
	check(!__asan_address_is_poisoned(p));
	check(!__asan_address_is_poisoned(p + hkm_malloc_usable_size(p) - 1));
}
#endif

static void none_where_they_are_not_wanted(void)
{
	no_device();
	setenv("HAKMEM_COLOUR", "0", 1);
	check_int(nr_colours(ROOMY(2)), 1);
	check_int(nr_colours(SLOT + 1), 1);
}

static void none_in_front_of_guards(void)
{
	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	check_int(nr_colours(ROOMY(2)), 1);
}

/* ---- misuse -------------------------------------------------------------------- */

static ptrdiff_t offset_of_misuse;
static bool free_it_first;

static void misuse(void)
{
	char *p;

	no_device();
	p = coloured(ROOMY(2));
	if (free_it_first)
		hkm_free(p);
	/* its slot, or so much behind its own begin */
	p = offset_of_misuse < 0 ? p - colour_of(p) : p + offset_of_misuse;
	dprintf(2, "%p\n", (void *)p);
	hkm_free(p);
}

static void check_aborts(ptrdiff_t offset, bool twice, const char *message)
{
	offset_of_misuse = offset;
	free_it_first = twice;
	check_child_aborts(misuse, "hkm_free", 0, message);
}

static void wrong_frees_are_reported(void)
{
	check_aborts(0, true, "double free");
	check_aborts(-1, false, "not the start of a block");
	check_aborts(64, false, "not the start of a block");
	check_aborts(1, false, "not the start of a block");
	check_aborts(1, true, "not the start of a block");
	check_aborts(HALF, false, "not the start of a block");
}

static const struct tap_case cases[] = {
	CASE(blocks_begin_at_many_lines),
	CASE(without_room_there_is_no_colour),
	CASE(a_block_may_be_used_to_its_end),
	CASE(the_same_place_is_the_same_colour),
	CASE(who_asks_for_an_alignment_has_it),
	CASE(calloc_clears_by_hand),
	CASE(calloc_exchanges),
	CASE(calloc_exchanges_on_the_device),
	CASE(calloc_exchanges_the_last_slot),
	CASE(realloc_keeps_the_colour),
	CASE(realloc_takes_no_slot_for_a_colour),
	CASE(realloc_moves_them_on_the_device),
	CASE(batches_have_colours),
#ifdef __SANITIZE_ADDRESS__
	CASE(what_is_in_front_of_one_is_nobodys),
#endif
	CASE(none_where_they_are_not_wanted),
	CASE(none_in_front_of_guards),
	CASE(wrong_frees_are_reported),
};

TAP_MAIN(cases)
