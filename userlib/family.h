/* SPDX-License-Identifier: MIT */
#ifndef HKM_FAMILY_H
#define HKM_FAMILY_H

/*
 * The malloc family, once for both of its fronts: api.c (hkm_malloc and so on,
 * for programs that link the library) and preload.c (malloc and so on). A front
 * says who serves what is not a whale, and is otherwise these functions.
 *
 * What is on the way of a small block is one comparison and a jump.
 *
 * @caller is where the front's function returns to, CALLER there.
 */

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <unistd.h>

#include "compiler.h"
#include "heap.h"
#include "threshold.h"
#include "window.h"

#define CALLER __builtin_return_address(0)

/* Round up to pages: libc's meaning of pvalloc(). */
static inline bool whole_pages(size_t *size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (__builtin_add_overflow(*size, page - 1, size))
		return false;
	*size &= ~(page - 1);
	return true;
}

static inline void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

static inline void *family_malloc(size_t size, const void *caller)
{
	if (likely(size < read_once(&hkm_threshold)))
		return hkm_next.malloc(size);
	return hkm_heap_malloc(size, caller);
}

static inline void *family_calloc(size_t nr, size_t each, const void *caller)
{
	size_t size;

	if (unlikely(__builtin_mul_overflow(nr, each, &size)))
		return no_memory();
	if (likely(size < read_once(&hkm_threshold)))
		return hkm_next.calloc(nr, each);
	return hkm_heap_calloc(size, caller);
}

static inline void *family_realloc(void *ptr, size_t size, const void *caller)
{
	if (likely(size < read_once(&hkm_threshold)) && !hkm_window_has(ptr))
		return hkm_next.realloc(ptr, size);
	return hkm_heap_realloc(ptr, size, caller);
}

static inline void *family_reallocarray(void *ptr, size_t nr, size_t each,
				        const void *caller)
{
	size_t size;

	if (unlikely(__builtin_mul_overflow(nr, each, &size)))
		return no_memory();
	return family_realloc(ptr, size, caller);
}

static inline void *family_memalign(size_t align, size_t size,
				    const void *caller)
{
	if (likely(size < read_once(&hkm_threshold)))
		return hkm_next.memalign(align, size);
	return hkm_heap_memalign(align, size, caller);
}

static inline bool is_power_of_two(size_t n)
{
	return n && !(n & (n - 1));
}

/* C23 has it fail, and so has glibc since 2.38; before that it was memalign() */
static inline void *family_aligned_alloc(size_t align, size_t size,
					 const void *caller)
{
	if (unlikely(!is_power_of_two(align))) {
		errno = EINVAL;
		return NULL;
	}
	return family_memalign(align, size, caller);
}

/* errno is not how this one reports, so it is kept */
static inline int family_posix_memalign(void **ptr, size_t align, size_t size,
					const void *caller)
{
	int saved = errno;
	void *block;

	if (!is_power_of_two(align) || align % sizeof(void *))
		return EINVAL;
	block = family_memalign(align, size, caller);
	errno = saved;
	if (!block)
		return ENOMEM;
	*ptr = block;
	return 0;
}

static inline void *family_valloc(size_t size, const void *caller)
{
	return family_memalign((size_t)sysconf(_SC_PAGESIZE), size, caller);
}

static inline void *family_pvalloc(size_t size, const void *caller)
{
	if (!whole_pages(&size))
		return no_memory();
	return family_valloc(size, caller);
}

static inline size_t family_usable_size(void *ptr)
{
	if (hkm_window_has(ptr))
		return hkm_heap_usable_size(ptr);
	return hkm_next.usable_size(ptr);
}

/* 1 when memory went back, as libc's */
static inline int family_trim(size_t pad)
{
	int trimmed = hkm_heap_trim();

	return hkm_next.trim(pad) | trimmed;
}

#endif /* HKM_FAMILY_H */
