// SPDX-License-Identifier: GPL-2.0
/*
 * What happens before a block of a whale's size is NULL: idle memory goes, and
 * then the program is asked.
 */
#include <time.h>

#include "heap_test.h"
#include "window.h"

static int asked;
static size_t wanted;
static void *spare;

static int give_spare(size_t size, void *arg)
{
	asked++;
	wanted = size;
	check(arg == &spare);
	if (!spare)
		return 0;
	hkm_free(spare);
	spare = NULL;
	return 1;
}

/* asked for what cannot be had itself */
static int want_more(size_t size, void *arg)
{
	(void)arg;
	asked++;
	check(!hkm_malloc(size));
	hkm_free(hkm_malloc(100));
	return 0;
}

#ifndef SANITIZED	/* sanitizers need terabytes of address space */
static void the_program_is_asked_before_a_block_fails(void)
{
	void *p;

	no_device();
	limit_addresses(64);
	hkm_set_low_memory(give_spare, &spare);
	spare = hkm_malloc(25 * SLOT);
	p = hkm_malloc(20 * SLOT);
	check(hkm_window_has(spare) && p && !hkm_window_has(p));
	check_int(asked, 0);
	p = hkm_malloc(22 * SLOT);
	check(hkm_window_has(p));
	check_int(asked, 1);
	check_int(wanted, 22 * SLOT);
	/* it has nothing any more */
	errno = 0;
	check(!hkm_malloc(23 * SLOT));
	check_int(errno, ENOMEM);
	check_int(asked, 2);
	check(!hkm_calloc(1, 24 * SLOT));
	check(!hkm_memalign(4096, 25 * SLOT));
	check_int(asked, 4);
	hkm_set_low_memory(NULL, NULL);
	check(!hkm_malloc(22 * SLOT));
	check_int(asked, 4);
}

static void it_is_asked_before_realloc_fails(void)
{
	char *p;

	no_device();
	limit_addresses(64);
	hkm_set_low_memory(give_spare, &spare);
	spare = hkm_malloc(25 * SLOT);
	check(hkm_malloc(20 * SLOT));
	p = memset(hkm_malloc(1000), 1, 1000);
	p = hkm_realloc(p, 22 * SLOT);
	check(hkm_window_has(p) && all_bytes(p, 1000, 1));
	check_int(asked, 1);
	check_int(wanted, 22 * SLOT);
	/* it has nothing any more; the old block stays as it is */
	p = memset(hkm_malloc(1000), 2, 1000);
	errno = 0;
	check(!hkm_realloc(p, 23 * SLOT));
	check_int(errno, ENOMEM);
	check_int(asked, 2);
	check(all_bytes(p, 1000, 2));
	/* nor is it asked for a small one */
	check(!hkm_realloc(p, PTRDIFF_MAX + 1UL));
	check((p = hkm_realloc(p, 10000)));
	check_int(asked, 2);
	hkm_free(p);
}

/* what is aligned to more than a slot is no whale, but of a whale's size */
static void it_is_asked_before_a_great_alignment_fails(void)
{
	void *p;

	no_device();
	limit_addresses(64);
	hkm_set_low_memory(give_spare, &spare);
	hkm_free(hkm_malloc(3 * SLOT));
	spare = hkm_memalign(2 * SLOT, 20 * SLOT);
	check(spare && !hkm_window_has(spare));
	check_int(stats().idle_bytes, 3 * SLOT);
	p = hkm_memalign(2 * SLOT, 18 * SLOT);
	check(p && !((uintptr_t)p % (2 * SLOT)));
	check_int(stats().idle_bytes, 0);
	check_int(asked, 1);
	check_int(wanted, 18 * SLOT);
	errno = 0;
	check(!hkm_memalign(2 * SLOT, 19 * SLOT));
	check_int(errno, ENOMEM);
	check_int(asked, 2);
	check_int(hkm_posix_memalign(&p, 4 * SLOT, 19 * SLOT), ENOMEM);
	check_int(asked, 3);
	/* of no whale's size, or no alignment that there can be */
	check(!hkm_memalign(64 * SLOT, SLOT - 1));
	check(!hkm_memalign((size_t)1 << 63, SLOT));
	check_int(asked, 3);
}

static void it_is_not_asked_while_it_answers(void)
{
	no_device();
	limit_addresses(64);
	hkm_set_low_memory(want_more, NULL);
	check(!hkm_malloc(70 * SLOT));
	check_int(asked, 1);
	check(!hkm_malloc(70 * SLOT));
	check_int(asked, 2);
}

static void idle_memory_is_not_in_the_way(void)
{
	char *p;

	no_device();
	limit_addresses(64);
	hkm_set_low_memory(give_spare, &spare);
	hkm_free(hkm_malloc(25 * SLOT));
	p = hkm_calloc(1, 28 * SLOT);
	check(hkm_window_has(p));
	check_int(asked, 0);
}
#endif

static void it_is_asked_for_a_block_that_nobody_has(void)
{
	no_device();
	hkm_free(hkm_malloc(SLOT));
	hkm_set_low_memory(want_more, NULL);
	check(!hkm_malloc(PTRDIFF_MAX - SLOT));
	check_int(asked, 1);
	check_int(stats().idle_bytes, SLOT);	/* which would not have helped */
}

static void pressure_asks_too(void)
{
	char *p;

	no_device();
	setenv("HAKMEM_TRIM", "psi", 1);
	hkm_set_low_memory(give_spare, &spare);
	spare = hkm_malloc(3 * SLOT);
	memset(spare, 1, 3 * SLOT);
	p = spare;
	hkm_free(hkm_malloc(SLOT));
	__atomic_store_n(&fake.pressure, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 4000 && resident_pages(p, 3 * SLOT); i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
		__atomic_store_n(&fake.pressure, true, __ATOMIC_RELEASE);
	}
	check_int(resident_pages(p, 3 * SLOT), 0);
	check_int(wanted, 0);
}

static const struct tap_case cases[] = {
#ifndef SANITIZED
	CASE(the_program_is_asked_before_a_block_fails),
	CASE(it_is_asked_before_realloc_fails),
	CASE(it_is_asked_before_a_great_alignment_fails),
	CASE(it_is_not_asked_while_it_answers),
	CASE(idle_memory_is_not_in_the_way),
#endif
	CASE(it_is_asked_for_a_block_that_nobody_has),
	CASE(pressure_asks_too),
};

TAP_MAIN(cases)
