// SPDX-License-Identifier: GPL-2.0
/*
 * What a memory checker is told: live blocks may be touched, all that was freed
 * may not. With AddressSanitizer the checker is the real one; else it is a table
 * here, which has the same two functions, so that the library takes it for one.
 */
#include "heap_test.h"
#include "run.h"
#include "window.h"

#ifdef __SANITIZE_ADDRESS__

#include <sanitizer/asan_interface.h>

static bool is_poisoned(const char *p)
{
	return __asan_address_is_poisoned(p);
}

#else

static bool poisoned[HKM_RUN_MAX];

static void set(const volatile void *ptr, size_t size, bool to)
{
	size_t at = (uintptr_t)ptr - hkm_window.base;

	check(!(at % SLOT) && !(size % SLOT) && at + size <= hkm_window.size);
	memset(&poisoned[at / SLOT], to, size / SLOT);
}

void __asan_poison_memory_region(const volatile void *ptr, size_t size);
void __asan_unpoison_memory_region(const volatile void *ptr, size_t size);

void __asan_poison_memory_region(const volatile void *ptr, size_t size)
{
	set(ptr, size, true);
}

void __asan_unpoison_memory_region(const volatile void *ptr, size_t size)
{
	set(ptr, size, false);
}

static bool is_poisoned(const char *p)
{
	return poisoned[((uintptr_t)p - hkm_window.base) / SLOT];
}

#endif

/* first and last byte of each of @nr slots */
static bool all_are(const char *p, size_t nr, bool as)
{
	for (size_t i = 0; i < nr; i++)
		if (is_poisoned(p + i * SLOT) != as ||
		    is_poisoned(p + (i + 1) * SLOT - 1) != as)
			return false;
	return true;
}

static bool all_open(const char *p, size_t nr)
{
	return all_are(p, nr, false);
}

static bool all_poisoned(const char *p, size_t nr)
{
	return all_are(p, nr, true);
}

/* ---- one block ---------------------------------------------------------------- */

static void a_freed_whale_is_poisoned_until_it_is_reused(void)
{
	char *p;

	no_device();
	p = hkm_malloc(3 * SLOT);
	check(all_open(p, 3));
	memset(p, 1, 3 * SLOT);
	hkm_free(p);
	check(all_poisoned(p, 3));
	check(hkm_malloc(3 * SLOT) == p);
	check(all_open(p, 3));
	check(all_bytes(p, 3 * SLOT, 1));
}

static void a_whale_of_the_device_is_too(void)
{
	char *p;

	with_device();
	p = hkm_malloc(3 * SLOT);
	check(all_open(p, 3));
	hkm_free(p);
	check(all_poisoned(p, 3));
	check_int(fake_reclaim(1, 1), 1);
	check(hkm_calloc(3, SLOT) == p);
	check(all_open(p, 3));
	check(all_bytes(p, 3 * SLOT, 0));
}

static void zeroes_are_written_to_what_is_live(void)
{
	char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	memset(p, 1, 2 * SLOT);
	hkm_free(p);
	check(hkm_calloc(2, SLOT) == p);
	check(all_open(p, 2));
	check(all_bytes(p, 2 * SLOT, 0));
}

static void what_goes_back_to_the_kernel_stays_poisoned(void)
{
	char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	hkm_free(p);
	check_int(hkm_release_all(), 2 * SLOT);
	check(all_poisoned(p, 2));
	check(hkm_malloc(SLOT) == p);
	check(all_open(p, 1));
	check(all_poisoned(p + SLOT, 1));
}

/* ---- runs that are cut, joined and made of others ------------------------------ */

static void the_rest_of_a_run_stays_poisoned(void)
{
	char *p;

	no_device();
	p = hkm_malloc(10 * SLOT);
	hkm_free(p);
	check(hkm_malloc(4 * SLOT) == p);
	check(all_open(p, 4));
	check(all_poisoned(p + 4 * SLOT, 6));
}

static void neighbours_are_one_block(void)
{
	char *p[3];

	no_device();
	for (int i = 0; i < 3; i++)
		p[i] = hkm_malloc(2 * SLOT);
	for (int i = 0; i < 3; i++)
		hkm_free(p[i]);
	check(hkm_malloc(6 * SLOT) == p[0]);
	check(all_open(p[0], 6));
	memset(p[0], 1, 6 * SLOT);
}

static void make_of_idle_memory(const char *thp)
{
	char *p, *q;

	no_device();
	setenv("HAKMEM_THP", thp, 1);
	p = hkm_malloc(2 * SLOT);
	check(is_whale(hkm_malloc(SLOT)));
	memset(p, 1, 2 * SLOT);
	hkm_free(p);
	q = hkm_malloc(6 * SLOT);
	check(q && q != p);
	check(all_open(q, 6));
	memset(q, 2, 6 * SLOT);
	check(all_poisoned(p, 2));
}

static void a_run_made_of_idle_memory_is_open(void)
{
	make_of_idle_memory("off");
	hkm_shutdown();
	make_of_idle_memory("on");
}

static void a_batch_is_as_many_blocks(void)
{
	void *p[8];
	char *first;

	no_device();
	check_int(hkm_alloc_batch(p, 8, 2 * SLOT), 8);
	first = p[0];
	for (int i = 0; i < 8; i++) {
		check(all_open(p[i], 2));
		memset(p[i], 1, 2 * SLOT);
	}
	hkm_free_batch(p, 8);
	check(all_poisoned(first, 16));
	check_int(hkm_alloc_batch(p, 3, 2 * SLOT), 3);
	for (int i = 0; i < 3; i++)
		check(all_open(p[i], 2));
	check(all_poisoned(first + 6 * SLOT, 10));
}

/* ---- realloc ------------------------------------------------------------------- */

static void only_the_end_of_a_resized_block_changes(void)
{
	char *p;

	no_device();
	p = hkm_malloc(8 * SLOT);
	memset(p, 1, 8 * SLOT);
	check(hkm_realloc(p, 3 * SLOT) == p);
	check(all_open(p, 3));
	check(all_poisoned(p + 3 * SLOT, 5));
	check(hkm_realloc(p, 5 * SLOT) == p);
	check(all_open(p, 5));
	check(all_poisoned(p + 5 * SLOT, 3));
	check(hkm_realloc(p, 8 * SLOT) == p);	/* idle slots */
	check(all_open(p, 8));
	check(hkm_realloc(p, 12 * SLOT) == p);	/* closed ones */
	check(all_open(p, 12));
	check(all_bytes(p, 3 * SLOT, 1));
}

static void what_a_moved_block_leaves_is_poisoned(void)
{
	char *p, *q;

	no_device();
	p = hkm_malloc(3 * SLOT);
	check(is_whale(hkm_malloc(SLOT)));
	memset(p, 1, 3 * SLOT);
	q = hkm_realloc(p, 7 * SLOT);
	check(q && q != p);
	check(all_open(q, 7));
	check(all_poisoned(p, 3));
	check(all_bytes(q, 3 * SLOT, 1));
}

/* where the kernel does not move it, the library copies to what was freed once */
static void a_block_in_pieces_moves_to_poisoned_slots(void)
{
	char *p, *q;

	no_device();
	p = hkm_malloc(3 * SLOT);
	check(is_whale(hkm_malloc(SLOT)));
	q = hkm_malloc(7 * SLOT);
	hkm_free(q);
	hkm_release_all();
	memset(p, 1, 3 * SLOT);
	fake.refuse_move = true;
	check(hkm_realloc(p, 7 * SLOT) == q);
	check(all_open(q, 7));
	check(all_poisoned(p, 3));
	check(all_bytes(q, 3 * SLOT, 1));
}

/* ---- all of it ------------------------------------------------------------------- */

#define BLOCKS 12

struct block {
	char *p;
	size_t nr;
	unsigned char full_of;
};

static void fill(struct block *b, uint64_t *seed)
{
	b->full_of = (unsigned char)next_random(seed);
	for (size_t i = 0; i < b->nr; i++)
		b->p[i * SLOT] = (char)b->full_of;
}

static bool is_full(const struct block *b, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if ((unsigned char)b->p[i * SLOT] != b->full_of)
			return false;
	return true;
}

static bool is_live(const struct block *blocks, const char *p)
{
	for (int i = 0; i < BLOCKS; i++)
		if (blocks[i].p && p >= blocks[i].p &&
		    p < blocks[i].p + blocks[i].nr * SLOT)
			return true;
	return false;
}

static void step(struct block *b, uint64_t *seed)
{
	size_t nr = 1 + next_random(seed) % 9, both;

	switch (next_random(seed) % 4) {
	case 0:
		hkm_free(b->p);
		b->p = NULL;
		return;
	case 1:
		hkm_free(b->p);
		b->p = hkm_calloc(nr, SLOT);
		b->full_of = 0;
		check(b->p);
		b->nr = nr;
		check(is_full(b, nr));
		break;
	default:
		both = !b->p ? 0 : b->nr < nr ? b->nr : nr;
		b->p = hkm_realloc(b->p, nr * SLOT);
		check(b->p);
		b->nr = nr;
		check(is_full(b, both));
	}
	b->nr = hkm_malloc_usable_size(b->p) / SLOT;
	fill(b, seed);
}

/* a slot is poisoned if it is nobody's and has been somebody's */
static void churn(uint64_t seed)
{
	static bool used[HKM_RUN_MAX];
	struct block blocks[BLOCKS] = { 0 };
	size_t end = 0;

	memset(used, 0, sizeof(used));
	for (int n = 0; n < 1000; n++) {
		struct block *b = &blocks[next_random(&seed) % BLOCKS];
		size_t at;

		step(b, &seed);
		if (n % 100 == 99)
			hkm_release_all();
		at = b->p ? ((uintptr_t)b->p - hkm_window.base) / SLOT : 0;
		for (size_t i = 0; b->p && i < b->nr; i++)
			used[at + i] = true;
		if (b->p && at + b->nr > end)
			end = at + b->nr;
		for (size_t i = 0; i < end; i++) {
			const char *p = (char *)hkm_window.base + i * SLOT;

			check(is_poisoned(p) == (used[i] &&
						 !is_live(blocks, p)));
		}
	}
}

static void any_order_of_calls_without_device(void)
{
	no_device();
	setenv("HAKMEM_THP", "off", 1);
	hkm_init(NULL);
	churn(1);
}

static void any_order_of_calls_with_the_device(void)
{
	with_device();
	hkm_init(NULL);
	churn(2);
}

/* ---- reports ----------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
static void read_after_free(void)
{
	volatile char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	p[SLOT] = 1;
	hkm_free((char *)p);
	p[SLOT + 1]++;
}

static void read_after_shrinking(void)
{
	volatile char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	check(hkm_realloc((char *)p, SLOT) == p);
	p[SLOT + 1]++;
}

static void check_reported(void (*misuse)(void))
{
	char text[16384];
	int status = run_child(misuse, text, sizeof(text));

	check(WIFEXITED(status) && WEXITSTATUS(status));
	check(strstr(text, "AddressSanitizer: use-after-poison"));
}

static void a_use_after_free_is_reported(void)
{
	check_reported(read_after_free);
	check_reported(read_after_shrinking);
}
#endif

static const struct tap_case cases[] = {
	CASE(a_freed_whale_is_poisoned_until_it_is_reused),
	CASE(a_whale_of_the_device_is_too),
	CASE(zeroes_are_written_to_what_is_live),
	CASE(what_goes_back_to_the_kernel_stays_poisoned),
	CASE(the_rest_of_a_run_stays_poisoned),
	CASE(neighbours_are_one_block),
	CASE(a_run_made_of_idle_memory_is_open),
	CASE(a_batch_is_as_many_blocks),
	CASE(only_the_end_of_a_resized_block_changes),
	CASE(what_a_moved_block_leaves_is_poisoned),
	CASE(a_block_in_pieces_moves_to_poisoned_slots),
	CASE(any_order_of_calls_without_device),
	CASE(any_order_of_calls_with_the_device),
#ifdef __SANITIZE_ADDRESS__
	CASE(a_use_after_free_is_reported),
#endif
};

TAP_MAIN(cases)
