// SPDX-License-Identifier: GPL-2.0
/*
 * The window: how large it is, where it lands, and who is inside it.
 */
#include <sys/resource.h>

#include "backend.h"
#include "heap_test.h"
#include "window.h"

/* Is every page of the range mapped, and by nobody else's mapping? */
static bool is_mapped(char *at, size_t size)
{
	void *map = mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED_NOREPLACE, -1, 0);

	if (map != MAP_FAILED)
		munmap(map, size);
	return map == MAP_FAILED;
}

static void it_is_aligned_wherever_it_lands(void)
{
	char *base;

	fake.enabled = true;
	for (int off = 0; off < 2; off++) {
		fake.misalign = off;
		check_int(hkm_window_reserve(10, &base), 0);
		check_int((uintptr_t)base % SLOT, 0);
		check(is_mapped(base, 4096));
		check(is_mapped(base + 10 * SLOT - 4096, 4096));
		/* no slot has nothing behind it */
		check(is_mapped(base + 10 * SLOT, 4096));
	}
}

static void bad_sizes_are_refused(void)
{
	char *base;

	check_int(hkm_window_reserve(0, &base), -EINVAL);
	check_int(hkm_window_reserve(SIZE_MAX, &base), -EINVAL);
	check_int(hkm_window_reserve(((size_t)PTRDIFF_MAX >> HKM_SLOT_SHIFT) - 1,
				     &base), -ENOMEM);
}

static void it_suits_the_machine(void)
{
	size_t ram = hkm_sys_ram();

	check_int(hkm_window_open(true), 0);
	check(hkm_window.size >= ram || hkm_window.size >= 1024 * SLOT);
	check(hkm_window.size <= 2 * (ram + SLOT));
	check_int(hkm_window_open(true), 0);
}

static void nothing_is_inside_before_it_is_open(void)
{
	char *base;

	check(!hkm_window_has(NULL));
	check(!hkm_window_has((void *)-1));
	check_int(hkm_window_open(true), 0);
	base = (char *)hkm_window.base;
	check(!hkm_window_has(NULL));
	check(!hkm_window_has(base - 1));
	check(hkm_window_has(base));
	check(hkm_window_has(base + hkm_window.size - 1));
	check(!hkm_window_has(base + hkm_window.size));
}

/* never at load: a small block and a free need none */
static void the_first_whale_reserves_it(void)
{
	no_device();
	hkm_free(hkm_malloc(100));
	check_int(hkm_window.size, 0);
	hkm_free(hkm_malloc(SLOT));
	check(hkm_window.size);
}

static void device_has_the_low_half(void)
{
	char *low, *high;
	size_t half;

	with_device();
	fake.max_slots = 4096;
	low = hkm_malloc(SLOT);
	half = hkm_window.size / SLOT / 2;
	check(low == (char *)hkm_window.base);
	check_int(fake.nr_slots, half < 4096 ? half : 4096);
	fake.handout_error = -ENOMEM;
	high = hkm_malloc(SLOT);
	check(high == low + fake.nr_slots * SLOT);
	memset(high, 1, SLOT);
	hkm_free(low);
	hkm_free(high);
	check_int(stats().live_bytes, 0);
}

static void a_late_device_finds_no_room(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };

	no_device();
	hkm_free(hkm_malloc(SLOT));
	hkm_shutdown();
	with_device();
	check_int(hkm_init(&cfg), -EBUSY);
	check(is_whale(hkm_malloc(SLOT)));
	check(!strcmp(stats().backend, "anon"));
}

#ifndef SANITIZED	/* sanitizers need terabytes of address space */
static void it_follows_the_address_limit(void)
{
	struct rlimit limit = { (size_t)1 << 30, RLIM_INFINITY };

	check_int(setrlimit(RLIMIT_AS, &limit), 0);
	check_int(hkm_default_slots(), 256);
	check_int(hkm_window_open(true), 0);
	check(hkm_window.size <= 256 * SLOT);
	check(hkm_window.size >= 32 * SLOT);
}

static void it_is_halved_until_it_fits(void)
{
	struct rlimit limit = { (size_t)1 << 30, RLIM_INFINITY };
	size_t room = 700 * SLOT / 2;
	void *other;

	check_int(setrlimit(RLIMIT_AS, &limit), 0);
	other = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(other != MAP_FAILED);
	check_int(hkm_window_open(true), 0);
	check_int(hkm_window.size, 64 * SLOT);
}

/* the limit came after we had looked: others still need addresses */
static void it_leaves_half_of_a_limit_that_came_late(void)
{
	struct rlimit limit = { (size_t)4 << 30, RLIM_INFINITY };

	hkm_default_slots();
	check_int(setrlimit(RLIMIT_AS, &limit), 0);
	check_int(hkm_window_open(true), 0);
	check(hkm_window.size <= (size_t)2 << 30);
	check(mmap(NULL, (size_t)3 << 29, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

/* nothing of it may be charged to a limit on locked memory either */
static void it_bears_mlockall(void)
{
	struct rlimit limit = { 2 * SLOT, 2 * SLOT };
	char *p;

	no_device();
	check_int(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (!geteuid())		/* root has no such limit */
		check_int(setuid(65534), 0);
	check_int(mlockall(MCL_FUTURE), 0);
	p = hkm_malloc(SLOT);
	check(p);
	memset(p, 1, SLOT);
	hkm_free(p);
}
#endif

static const struct tap_case cases[] = {
	CASE(it_is_aligned_wherever_it_lands),
	CASE(bad_sizes_are_refused),
	CASE(it_suits_the_machine),
	CASE(nothing_is_inside_before_it_is_open),
	CASE(the_first_whale_reserves_it),
	CASE(device_has_the_low_half),
	CASE(a_late_device_finds_no_room),
#ifndef SANITIZED
	CASE(it_follows_the_address_limit),
	CASE(it_is_halved_until_it_fits),
	CASE(it_leaves_half_of_a_limit_that_came_late),
	CASE(it_bears_mlockall),
#endif
};

TAP_MAIN(cases)
