/* SPDX-License-Identifier: MIT */
#ifndef HKM_HEAP_H
#define HKM_HEAP_H

/*
 * The heap behind both fronts: whales, and what to do where there is none.
 */

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

/**
 * struct hkm_next - the allocator of everything that is not a whale
 *
 * libc for the linked library; for the preload object whatever comes after it.
 */
struct hkm_next {
	void *(*malloc)(size_t size);
	void (*free)(void *ptr);
	void *(*calloc)(size_t nr, size_t each);
	void *(*realloc)(void *ptr, size_t size);
	void *(*memalign)(size_t align, size_t size);
	size_t (*usable_size)(void *ptr);
	int (*trim)(size_t pad);
	struct mallinfo2 (*info)(void);
	void (*stats)(void);
};

/**
 * struct hkm_front - what differs between the fronts
 * @prefix: of the functions' names, for messages
 * @source: where whales come from unless somebody says otherwise
 * @features: HKR_FEAT_* that a device must have to be used unasked
 * @names: the window gets a name, unless somebody says otherwise
 */
struct hkm_front {
	const char *prefix;
	enum hkm_source source;
	uint64_t features;
	bool names;
};

/* of the front that is linked in */
extern struct hkm_next hkm_next;
extern const struct hkm_front hkm_front;

/*
 * hkm_heap_malloc, _calloc, _memalign - a block of @size bytes, a whale where
 * that can be had; with an @align of more than a slot it cannot. Not a power of two:
 * the next one.
 * @caller is where the program is told of it, or NULL (sites.h).
 */
void *hkm_heap_malloc(size_t size, const void *caller);
void *hkm_heap_calloc(size_t size, const void *caller);
void *hkm_heap_memalign(size_t align, size_t size, const void *caller);

/*
 * hkm_heap_wants_whale - are blocks of @size bytes whales, and may be had without
 * hkm_heap_malloc()? If so, the heap has been set up.
 */
bool hkm_heap_wants_whale(size_t size);

/* hkm_heap_realloc - where @ptr or the new block is a whale */
void *hkm_heap_realloc(void *ptr, size_t size, const void *caller);

/* hkm_heap_free, _usable_size - of a pointer into the window; abort on a wild one */
void hkm_heap_free(void *ptr);
size_t hkm_heap_usable_size(void *ptr);

/* hkm_heap_trim - give back every idle whale; were there any? */
bool hkm_heap_trim(void);

struct mallinfo2 hkm_heap_info(void);
void hkm_heap_print_stats(void);

#endif /* HKM_HEAP_H */
