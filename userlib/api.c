// SPDX-License-Identifier: MIT
/*
 * The front for programs that link the library: hkm_malloc() and so on.
 *
 * What is not a whale is libc's, or whoever defines malloc() in this process;
 * so a block of hkm_malloc() below the threshold may be given to free(), and a
 * block of malloc() to hkm_free(). The device is used where it opens: the
 * program was written for this library, and its manual says what fork() means.
 */
#include <stdlib.h>

#include "family.h"
#include "report.h"

size_t hkm_threshold = HKM_THRESHOLD_MIN;

struct hkm_next hkm_next = {
	.malloc = malloc,
	.free = free,
	.calloc = calloc,
	.realloc = realloc,
	.memalign = memalign,
	.usable_size = malloc_usable_size,
	.trim = malloc_trim,
	.info = mallinfo2,
	.stats = malloc_stats,
};

const struct hkm_front hkm_front = {
	.prefix = "hkm_",
	.source = HKM_SOURCE_AUTO,
	.names = true,
};

void *hkm_malloc(size_t size)
{
	return family_malloc(size, CALLER);
}

void hkm_free(void *ptr)
{
	int saved;

	if (hkm_window_has(ptr)) {
		hkm_heap_free(ptr);
		return;
	}
	saved = errno;	/* libc before 2.33 changes it */
	read_once(&hkm_next.free)(ptr);
	errno = saved;
}

void hkm_free_sized(void *ptr, size_t size)
{
	(void)size;
	hkm_free(ptr);
}

void hkm_free_aligned_sized(void *ptr, size_t align, size_t size)
{
	(void)align;
	(void)size;
	hkm_free(ptr);
}

void *hkm_calloc(size_t nr, size_t size)
{
	return family_calloc(nr, size, CALLER);
}

void *hkm_realloc(void *ptr, size_t size)
{
	return family_realloc(ptr, size, CALLER);
}

void *hkm_reallocarray(void *ptr, size_t nr, size_t size)
{
	return family_reallocarray(ptr, nr, size, CALLER);
}

void *hkm_memalign(size_t align, size_t size)
{
	return family_memalign(align, size, CALLER);
}

void *hkm_aligned_alloc(size_t align, size_t size)
{
	return family_aligned_alloc(align, size, CALLER);
}

int hkm_posix_memalign(void **ptr, size_t align, size_t size)
{
	return family_posix_memalign(ptr, align, size, CALLER);
}

void *hkm_valloc(size_t size)
{
	return family_valloc(size, CALLER);
}

void *hkm_pvalloc(size_t size)
{
	return family_pvalloc(size, CALLER);
}

size_t hkm_malloc_usable_size(void *ptr)
{
	return family_usable_size(ptr);
}

int hkm_malloc_trim(size_t pad)
{
	return family_trim(pad);
}

struct mallinfo2 hkm_mallinfo2(void)
{
	return hkm_heap_info();
}

void hkm_dump_heap_stats(FILE *out)
{
	char text[HKM_REPORT_ROOM];

	hkm_report_text(text, sizeof(text));
	fputs(text, out ? out : stderr);
}

int hkm_stats_json(FILE *out)
{
	char text[HKM_REPORT_ROOM];

	if (!out)
		out = stderr;
	hkm_report_json(text, sizeof(text));
	/* a stream of wide characters fails without it */
	errno = 0;
	return fputs(text, out) == EOF || fflush(out) ? -(errno ?: EIO) : 0;
}

void hkm_malloc_stats(void)
{
	hkm_heap_print_stats();
}
