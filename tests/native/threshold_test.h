/* SPDX-License-Identifier: GPL-2.0 */
#ifndef THRESHOLD_TEST_H
#define THRESHOLD_TEST_H

#include "heap.h"
#include "heap_test.h"
#include "machine.h"
#include "report.h"
#include "threshold.h"
#include "window.h"

#define MIB ((size_t)1 << 20)
#define KIB ((size_t)1 << 10)

/* ---- a machine that is made up ------------------------------------------------ */

#define FAULT_NS 1000
#define HUGE_NS	 300000

/*
 * The first allocation has the library measure what a fault takes: after the two
 * readings around that, there are two for each of four tries, and two for each of
 * two huge pages if there are such.
 */
#define AROUND 2
#define TRIES  8
#define HUGE   4

static uint64_t now, faults;		/* what clock and counter say */
static int readings;
static uint64_t whale_ns, libc_ns;	/* what a call takes */
static bool is_libcs;			/* is it libc's block? */

static inline uint64_t clock_ns(void)
{
	int tries = AROUND + TRIES + (hkm_machine_learn().huge ? HUGE : 0);

	readings++;
	if (readings <= AROUND || readings % 2)
		return now;
	if (readings <= AROUND + TRIES)
		return now += 32 * FAULT_NS;
	if (readings <= tries)
		return now += HUGE_NS;
	return now += is_libcs ? libc_ns : whale_ns;
}

static inline uint64_t minor_faults(void)
{
	return faults;
}

/*
 * An allocator that costs nothing, for a sanitizer's may take long: places, which
 * are only reserved, of a size that is not a whale's.
 */
#define PLACES 64
#define PLACE  (33 * MIB + 4096)

static char *places;
static size_t used[PLACES];	/* bytes; atomic */

static inline void *next_malloc(size_t size)
{
	for (size_t i = 0; i < PLACES; i++) {
		size_t none = 0;

		if (__atomic_compare_exchange_n(&used[i], &none, size, false,
						__ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return places + i * PLACE;
	}
	return NULL;
}

static inline size_t place_of(void *ptr)
{
	size_t i = (size_t)((char *)ptr - places) / PLACE;

	check(i < PLACES && read_once(&used[i]));
	return i;
}

static inline void next_free(void *ptr)
{
	if (ptr)
		__atomic_store_n(&used[place_of(ptr)], 0, __ATOMIC_RELEASE);
}

static inline size_t next_size(void *ptr)
{
	return __atomic_load_n(&used[place_of(ptr)], __ATOMIC_RELAXED);
}

static inline void *next_calloc(size_t nr, size_t each)
{
	void *p = next_malloc(nr * each);

	return p ? memset(p, 0, nr * each) : NULL;
}

static inline void *next_memalign(size_t align, size_t size)
{
	(void)align;
	return next_malloc(size);
}

static inline void *next_realloc(void *ptr, size_t size)
{
	void *p = next_malloc(size);
	size_t had = ptr ? next_size(ptr) : 0;

	if (had)
		memcpy(p, ptr, had < size ? had : size);
	next_free(ptr);
	return p;
}

static inline void use_places(void)
{
	places = mmap(NULL, PLACES * PLACE + 2 * MIB, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(places != MAP_FAILED);
	/* no place begins where a whale could */
	places += -(uintptr_t)places % (2 * MIB) + 4096;
	hkm_next.malloc = next_malloc;
	hkm_next.free = next_free;
	hkm_next.calloc = next_calloc;
	hkm_next.realloc = next_realloc;
	hkm_next.memalign = next_memalign;
	hkm_next.usable_size = next_size;
}

static inline void made_up(void)
{
	use_places();
	no_device();
	setenv("HAKMEM_SOURCE", "anon", 1);
	setenv("HAKMEM_WHALE_THRESHOLD", "auto", 1);
	fake.clock_ns = clock_ns;
	fake.minor_faults = minor_faults;
}

static uint64_t whale_faults, libc_faults;	/* of a block that is written to */

/* One allocation, and its free. */
static inline void use(size_t size)
{
	char *p;

	is_libcs = size < hkm_threshold_now();
	p = hkm_malloc(size);
	check(p);
	faults += hkm_window_has(p) ? whale_faults : libc_faults;
	is_libcs = !hkm_window_has(p);
	hkm_free(p);
}

/* allocations until it is settled; the winner is what is in force then */
static inline int settle(size_t size)
{
	int n = 0;

	do {
		use(size);
		n++;
		check(n <= HKM_THRESHOLD_BOUND);
	} while (stats().threshold_is_rated);
	return n;
}

#endif /* THRESHOLD_TEST_H */
