// SPDX-License-Identifier: MIT
/*
 * The heap behind both fronts: what is tried for a block that should be a whale.
 * Where none can be had (address space limited below the window, say) the next
 * allocator is asked; a free tells the two apart by address.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backend.h"
#include "compiler.h"
#include "env.h"
#include "heap.h"
#include "live.h"
#include "low.h"
#include "setup.h"
#include "sites.h"
#include "threshold.h"
#include "whale.h"
#include "window.h"

#define PAGE ((size_t)4096)

/* The first block that may be a whale finds out from what size on it is one. */
static void find_threshold(void)
{
	if (read_once(&hkm_threshold_state) == HKM_THRESHOLD_UNSET)
		hkm_threshold_read_environment();
}

static cold void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

bool hkm_heap_wants_whale(size_t size)
{
	find_threshold();
	if (size > PTRDIFF_MAX || size < hkm_threshold_now() ||
	    hkm_threshold_is_rating())
		return false;
	return likely(hkm_whale_is_open()) || hkm_setup_unasked();
}

/* Idle memory may be in the way of what cannot be made of it. */
static cold bool make_room(size_t size)
{
	return size <= hkm_window.size && hkm_whale_release(false);
}

static cold void *alloc_whale_again(size_t size, unsigned int flags)
{
	return make_room(size) ? hkm_whale_alloc(size, flags) : NULL;
}

/* @site is a constant 0 wherever time matters. */
static always_inline void *alloc_whale(unsigned int site, size_t size,
				       unsigned int flags)
{
	void *ptr;

	if (unlikely(!hkm_whale_is_open()) && !hkm_setup_unasked())
		return NULL;
	ptr = site ? hkm_whale_alloc_for(site, size, flags) :
		     hkm_whale_alloc(size, flags);
	return likely(ptr) ? ptr : alloc_whale_again(size, flags);
}

/*
 * A slot's alignment has huge pages for what is no whale, if it costs no block. It is
 * not what the program asked for: what it asks for is kept or fails.
 */
static cold void *alloc_elsewhere(size_t size)
{
	void *ptr = hkm_next.memalign(HKM_SLOT_SIZE, size);

	if (!ptr)
		ptr = hkm_next.memalign(sizeof(max_align_t), size);
	return ptr;
}

static always_inline void *malloc_whale(unsigned int site, size_t size)
{
	void *ptr;

	do {
		ptr = alloc_whale(site, size, 0);
		if (unlikely(!ptr))
			ptr = alloc_elsewhere(size);
	} while (unlikely(!ptr) && hkm_low_memory(size));
	return likely(ptr) ? ptr : no_memory();
}

static always_inline void *calloc_whale(unsigned int site, size_t size)
{
	void *ptr;

	do {
		ptr = alloc_whale(site, size, HKM_WHALE_ZERO);
		if (unlikely(!ptr))
			ptr = hkm_next.calloc(1, size);
	} while (unlikely(!ptr) && hkm_low_memory(size));
	return likely(ptr) ? ptr : no_memory();
}

static always_inline void *memalign_whale(unsigned int site, size_t align,
					  size_t size)
{
	unsigned int flags = 0;
	void *ptr;

	if (unlikely(!hkm_whale_is_open()))
		hkm_setup_unasked();	/* which reads what follows */
	if (align >= PAGE && !read_once(&hkm_aligned_from_region))
		flags |= HKM_WHALE_ANON;
	if (align > HKM_SLOT_SIZE / 2)
		flags |= HKM_WHALE_ALIGNED;
	if (align > HKM_LINE)
		flags |= HKM_WHALE_PLAIN;
	do {
		ptr = alloc_whale(site, size, flags);
		if (unlikely(!ptr))
			ptr = hkm_next.memalign(align, size);
	} while (unlikely(!ptr) && hkm_low_memory(size));
	return likely(ptr) ? ptr : no_memory();
}

/*
 * No whale is aligned to more than a slot. What nobody can have at all the program is
 * not asked for: the next allocator says why.
 */
static cold void *memalign_beyond(size_t align, size_t size)
{
	void *ptr;

	find_threshold();
	if (size < hkm_threshold_now() || align > (size_t)1 << 46)
		return hkm_next.memalign(align, size);
	do {
		ptr = hkm_next.memalign(align, size);
		if (!ptr && make_room(size))
			ptr = hkm_next.memalign(align, size);
	} while (!ptr && hkm_low_memory(size));
	return ptr ? ptr : no_memory();
}

/*
 * The slow way, for all that may be a whale while more than its size matters: it is
 * measured while thresholds are rated, and has a site where sites are on.
 */
static cold void *malloc_slowly(size_t size, const void *caller)
{
	struct hkm_rated op;
	void *ptr;

	find_threshold();
	hkm_threshold_begin(&op, size);
	ptr = size < hkm_threshold_now() ? hkm_next.malloc(size) :
					   malloc_whale(hkm_site(caller), size);
	hkm_threshold_end(&op, ptr, size);
	return ptr;
}

static cold void *calloc_slowly(size_t size, const void *caller)
{
	struct hkm_rated op;
	void *ptr;

	find_threshold();
	hkm_threshold_begin(&op, size);
	ptr = size < hkm_threshold_now() ? hkm_next.calloc(1, size) :
					   calloc_whale(hkm_site(caller), size);
	hkm_threshold_end(&op, ptr, size);
	return ptr;
}

static cold void *memalign_slowly(size_t align, size_t size, const void *caller)
{
	struct hkm_rated op;
	void *ptr;

	find_threshold();
	hkm_threshold_begin(&op, size);
	if (size < hkm_threshold_now())
		ptr = hkm_next.memalign(align, size);
	else
		ptr = memalign_whale(hkm_site(caller), align, size);
	hkm_threshold_end(&op, ptr, size);
	return ptr;
}

void *hkm_heap_malloc(size_t size, const void *caller)
{
	if (unlikely(size > PTRDIFF_MAX))
		return no_memory();
	if (unlikely(!hkm_threshold_is_fixed()))
		return malloc_slowly(size, caller);
	if (unlikely(size < read_once(&hkm_threshold)))
		return hkm_next.malloc(size);
	return malloc_whale(0, size);
}

void *hkm_heap_calloc(size_t size, const void *caller)
{
	if (unlikely(size > PTRDIFF_MAX))
		return no_memory();
	if (unlikely(!hkm_threshold_is_fixed()))
		return calloc_slowly(size, caller);
	if (unlikely(size < read_once(&hkm_threshold)))
		return hkm_next.calloc(1, size);
	return calloc_whale(0, size);
}

void *hkm_heap_memalign(size_t align, size_t size, const void *caller)
{
	if (unlikely(size > PTRDIFF_MAX))
		return no_memory();
	if (unlikely(align > HKM_SLOT_SIZE))
		return memalign_beyond(align, size);
	if (unlikely(!hkm_threshold_is_fixed()))
		return memalign_slowly(align, size, caller);
	if (unlikely(size < read_once(&hkm_threshold)))
		return hkm_next.memalign(align, size);
	return memalign_whale(0, align, size);
}

/* A block of any size for realloc(), which keeps the old one if it fails. */
static void *alloc_any(size_t size, const void *caller)
{
	if (size < hkm_threshold_now())
		return hkm_next.malloc(size);
	return hkm_heap_malloc(size, caller);
}

static void *realloc_whale(void *old, size_t size, const void *caller)
{
	size_t room = hkm_whale_size(old, "realloc");
	void *ptr;

	if (!size) {
		hkm_whale_free(old, "realloc");
		return NULL;
	}
	if (unlikely(size > PTRDIFF_MAX))
		return no_memory();
	/* A block a little below the threshold may be back above it soon. */
	if (size >= hkm_threshold_now() / 2) {
		ptr = hkm_whale_resize(old, size, true);
		if (ptr)
			return ptr;
	}
	ptr = alloc_any(size, caller);
	if (!ptr)
		return hkm_whale_resize(old, size, false);
	memcpy(ptr, old, size < room ? size : room);
	hkm_whale_free(old, "realloc");
	return ptr;
}

static void *move_into_whale(void *whale, void *old, size_t size)
{
	size_t room = hkm_next.usable_size(old);

	memcpy(whale, old, size < room ? size : room);
	read_once(&hkm_next.free)(old);
	return whale;
}

/* A block of the next allocator that grows into a whale. */
static void *realloc_into_whale(void *old, size_t size, const void *caller)
{
	void *ptr;

	if (unlikely(size > PTRDIFF_MAX))
		return no_memory();
	if (!old)
		return hkm_heap_malloc(size, caller);
	if (size < hkm_threshold_now())
		return hkm_next.realloc(old, size);
	do {
		ptr = alloc_whale(hkm_site(caller), size, 0);
		if (likely(ptr))
			return move_into_whale(ptr, old, size);
		ptr = hkm_next.realloc(old, size);
	} while (!ptr && hkm_low_memory(size));
	return ptr ? ptr : no_memory();
}

static void *realloc_any(void *old, size_t size, const void *caller)
{
	return hkm_window_has(old) ? realloc_whale(old, size, caller) :
				     realloc_into_whale(old, size, caller);
}

/* What is left where a whale was is nobody's; one that has moved is its last caller's. */
static void *realloc_sited(void *old, size_t size, const void *caller)
{
	unsigned int site = hkm_window_has(old) ? hkm_site_take(old) : 0;
	void *ptr = realloc_any(old, size, caller);

	if (hkm_window_has(ptr))
		hkm_site_set(ptr, hkm_site(caller));
	else if (!ptr && size && site)
		hkm_site_set(old, site);
	return ptr;
}

static cold void *realloc_slowly(void *old, size_t size, const void *caller)
{
	struct hkm_rated op;
	void *ptr;

	find_threshold();
	hkm_threshold_begin(&op, size);
	ptr = realloc_sited(old, size, caller);
	hkm_threshold_end(&op, ptr, size);
	return ptr;
}

void *hkm_heap_realloc(void *old, size_t size, const void *caller)
{
	if (unlikely(!hkm_threshold_is_fixed()))
		return realloc_slowly(old, size, caller);
	return realloc_any(old, size, NULL);
}

static cold void free_slowly(void *ptr)
{
	size_t size = hkm_whale_size(ptr, "free");
	struct hkm_rated op;

	hkm_threshold_begin(&op, size);
	hkm_whale_free_sited(ptr, "free");
	hkm_threshold_end(&op, NULL, size);
}

void hkm_heap_free(void *ptr)
{
	if (unlikely(!hkm_threshold_is_fixed()))
		free_slowly(ptr);
	else
		hkm_whale_free(ptr, "free");
}

size_t hkm_heap_usable_size(void *ptr)
{
	return hkm_whale_size(ptr, "malloc_usable_size");
}

/* ---- all of it ---------------------------------------------------------------- */

bool hkm_heap_trim(void)
{
	return hkm_whale_release(false) > 0;
}

/* Whales are to mallinfo() what libc's own mapped blocks are. */
struct mallinfo2 hkm_heap_info(void)
{
	struct mallinfo2 info = { 0 };
	struct hkm_heap_stats st;

	if (hkm_next.info)
		info = hkm_next.info();
	hkm_whale_heap_stats(&st);
	info.hblks += st.live;
	info.hblkhd += st.live_bytes + st.idle_bytes;
	info.fordblks += st.idle_bytes;
	info.keepcost += st.idle_bytes;
	return info;
}

void hkm_heap_print_stats(void)
{
	struct hkm_heap_stats st;

	if (hkm_next.stats)
		hkm_next.stats();
	hkm_whale_heap_stats(&st);
	hkm_message("%llu bytes in %llu whales in use, %llu bytes idle",
		    (unsigned long long)st.live_bytes,
		    (unsigned long long)st.live,
		    (unsigned long long)st.idle_bytes);
}

void hkm_set_limit(size_t bytes)
{
	if (!hkm_whale_is_open())
		hkm_setup_unasked();
	hkm_whale_set_limit(bytes);
}

size_t hkm_release_all(void)
{
	return hkm_whale_release(false);
}

int hkm_pin(void *ptr, int on)
{
	if (!hkm_window_has(ptr))
		return -EINVAL;
	hkm_whale_pin(ptr, on);
	return 0;
}

void hkm_stats(struct hkm_heap_stats *st)
{
	hkm_whale_heap_stats(st);
	hkm_threshold_stats(st);
}
