/* SPDX-License-Identifier: MIT */
#ifndef HKM_CHECKER_H
#define HKM_CHECKER_H

/*
 * Memory checkers, which see every access of the program: Valgrind and
 * AddressSanitizer. They are told which blocks are the program's, so that they
 * report who touches an idle one.
 *
 * Nobody but who frees a block may say so, before it goes to the cache; and what
 * comes out of the cache is not to be touched by the library either before it is
 * live, unless it says that it will.
 */

#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"

#ifndef HAKMEM_CHECKERS
#define HAKMEM_CHECKERS 1
#endif

/*
 * Set before the first whale, and constant from then on. Hidden, so that looking
 * at it is one instruction in a shared library, too.
 */
#if HAKMEM_CHECKERS
extern bool hkm_checker_is_here __attribute__((visibility("hidden")));
#else
#define hkm_checker_is_here false
#endif

void hkm_checker_find(void);

/* Only where there is one. */
void *hkm_checker_say_live(void *ptr, size_t size);
void hkm_checker_say_zeroed(void *ptr, size_t size);
void hkm_checker_say_freed(void *ptr, size_t size);
void hkm_checker_say_resized(void *ptr, size_t old, size_t size);
void hkm_checker_say_moved(void *ptr, size_t old, size_t size);
void hkm_checker_say_used(void *ptr, size_t size);
void hkm_checker_say_unused(void *ptr, size_t size);

/*
 * hkm_checker_live - the program's from here on, contents undefined; @ptr, so that
 * the way of a hit has nothing to keep across a call
 */
static inline void *hkm_checker_live(void *ptr, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		return hkm_checker_say_live(ptr, size);
	return ptr;
}

/* hkm_checker_zeroed - @size bytes of a live block are zeroes */
static inline void hkm_checker_zeroed(void *ptr, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		hkm_checker_say_zeroed(ptr, size);
}

/* hkm_checker_freed - the program's no longer */
static inline void hkm_checker_freed(void *ptr, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		hkm_checker_say_freed(ptr, size);
}

/* hkm_checker_resized - a live block has another end */
static inline void hkm_checker_resized(void *ptr, size_t old, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		hkm_checker_say_resized(ptr, old, size);
}

/* hkm_checker_moved - the program's, with the @old bytes of one that was freed */
static inline void hkm_checker_moved(void *ptr, size_t old, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		hkm_checker_say_moved(ptr, old, size);
}

/* hkm_checker_used, _unused - what is not live the library reads and writes itself */
static inline void hkm_checker_used(void *ptr, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		hkm_checker_say_used(ptr, size);
}

static inline void hkm_checker_unused(void *ptr, size_t size)
{
	if (unlikely(hkm_checker_is_here))
		hkm_checker_say_unused(ptr, size);
}

#endif /* HKM_CHECKER_H */
