// SPDX-License-Identifier: MIT
/*
 * What Valgrind and AddressSanitizer know of whales.
 *
 * Both are found at run time. AddressSanitizer is there when the program brings
 * its functions, hence the weak references: the library itself need not be built
 * with it. Valgrind answers a request that is a no-op on a processor; its headers
 * are needed to ask, and where the library was built without them it is not.
 *
 *   live     AddressSanitizer: may be touched. Valgrind: a block, undefined
 *   idle     neither may be touched, whoever freed it is on record in Valgrind
 *   closed   as idle: the addresses stay so when the memory goes back to the
 *            kernel. Valgrind sees the system calls as well and agrees
 *
 * So a block that is freed is reported on until the same addresses are live again,
 * whatever the cache has done with its run in between: cut, joined, evicted, or
 * widened with closed slots. The kernel is no program, it may move what is idle.
 */
#include "checker.h"

#if HAKMEM_CHECKERS

#include <stdint.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_MALLOCLIKE_BLOCK(ptr, size, redzone, zeroed) ((void)0)
#define VALGRIND_FREELIKE_BLOCK(ptr, redzone) ((void)0)
#define VALGRIND_RESIZEINPLACE_BLOCK(ptr, old, size, redzone) ((void)0)
#define VALGRIND_MAKE_MEM_DEFINED(ptr, size) ((void)0)
#define VALGRIND_MAKE_MEM_UNDEFINED(ptr, size) ((void)0)
#endif

#define WEAK __attribute__((weak))

WEAK void __asan_poison_memory_region(const volatile void *ptr, size_t size);
WEAK void __asan_unpoison_memory_region(const volatile void *ptr, size_t size);

bool hkm_checker_is_here;

static bool has_asan(void)
{
	return __asan_poison_memory_region && __asan_unpoison_memory_region;
}

/*
 * A heap that is opened again finds what the first one found, and other threads
 * may be reading by then: nothing is written.
 */
void hkm_checker_find(void)
{
	const bool found = has_asan() || RUNNING_ON_VALGRIND;

	if (found != hkm_checker_is_here)
		hkm_checker_is_here = found;
}

static void poison(void *ptr, size_t size)
{
	if (has_asan())
		__asan_poison_memory_region(ptr, size);
}

static void unpoison(void *ptr, size_t size)
{
	if (has_asan())
		__asan_unpoison_memory_region(ptr, size);
}

cold void *hkm_checker_say_live(void *ptr, size_t size)
{
	unpoison(ptr, size);
	VALGRIND_MALLOCLIKE_BLOCK(ptr, size, 0, 0);
	return ptr;
}

cold void hkm_checker_say_zeroed(void *ptr, size_t size)
{
	(void)ptr;
	(void)size;
	VALGRIND_MAKE_MEM_DEFINED(ptr, size);
}

cold void hkm_checker_say_freed(void *ptr, size_t size)
{
	poison(ptr, size);
	VALGRIND_FREELIKE_BLOCK(ptr, 0);
}

cold void hkm_checker_say_resized(void *ptr, size_t old, size_t size)
{
	if (size < old)
		poison((char *)ptr + size, old - size);
	else
		unpoison((char *)ptr + old, size - old);
	VALGRIND_RESIZEINPLACE_BLOCK(ptr, old, size, 0);
}

/* What of the contents was undefined is not known any more. */
cold void hkm_checker_say_moved(void *ptr, size_t old, size_t size)
{
	unpoison(ptr, size);
	VALGRIND_MALLOCLIKE_BLOCK(ptr, size, 0, 1);
	VALGRIND_MAKE_MEM_UNDEFINED((char *)ptr + old, size - old);
}

cold void hkm_checker_say_used(void *ptr, size_t size)
{
	unpoison(ptr, size);
	VALGRIND_MAKE_MEM_DEFINED(ptr, size);
}

cold void hkm_checker_say_unused(void *ptr, size_t size)
{
	poison(ptr, size);
	VALGRIND_MAKE_MEM_NOACCESS(ptr, size);
}

#else

void hkm_checker_find(void)
{
}

#endif
