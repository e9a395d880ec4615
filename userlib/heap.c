// SPDX-License-Identifier: MIT
/*
 * The heap behind both fronts: how it is set up, and what is tried for a block
 * that should be a whale.
 *
 * It is set up by the first whale, never at load: a program that links the
 * library and needs no whale pays nothing. Where a whale cannot be had (address
 * space limited below the window, say) the next allocator is asked; a free
 * tells the two apart by address.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "cache.h"
#include "env.h"
#include "heap.h"
#include "lock.h"
#include "low.h"
#include "machine.h"
#include "sites.h"
#include "sys.h"
#include "threshold.h"
#include "trimmer.h"
#include "whale.h"
#include "window.h"

#define PAGE ((size_t)4096)

/* Atomic, each for itself. */
static bool aligned_from_region;
static int trim_said = -1;	/* by the program, for good; enum hkm_trim or -1 */

static const char *const source_words[] = { "auto", "anon", "region", NULL };
static const char *const policy_words[] = {
	"decay", "keep", "dontneed", "free", NULL,
};
static const char *const order_words[] = { "hot", "fifo", NULL };
static const char *const aligned_words[] = { "anon", "region", NULL };
static const char *const trim_words[] = { "off", "thread", "psi", NULL };
static const char *const capacity_words[] = { "fixed", "auto", NULL };
static const char *const mode_words[] = { "minimal", "balanced", "fast", NULL };

/**
 * struct mode - HAKMEM_MODE: defaults that fit together
 * @policy: of idle anonymous whales
 * @share: the limit on idle bytes is one part in so many of memory
 */
static const struct mode {
	enum hkm_policy policy;
	unsigned int share;
} modes[] = {
	{ HKM_POLICY_DONTNEED, 64 },
	{ HKM_POLICY_DECAY, 8 },
	{ HKM_POLICY_KEEP, 4 },
};

/* What is 0 in @cfg and may be left to the environment is taken from there. */
static void fill_in(struct hkm_config *cfg, const struct mode *mode)
{
	size_t memory = hkm_machine_learn().memory, decay;

	if (!cfg->slots)
		hkm_env_number(HAKMEM_WHALE_SLOTS, 1, HKM_SLOTS_MAX,
			       HKM_CACHE_DEFAULT, &cfg->slots);
	if (!cfg->limit)
		hkm_env_bytes(HAKMEM_LIMIT, 0, PTRDIFF_MAX,
			      memory / mode->share, &cfg->limit);
	if (!cfg->exchange)
		hkm_env_bytes(HAKMEM_CALLOC_EXCHANGE, 1, PTRDIFF_MAX, 0,
			      &cfg->exchange);
	if (!cfg->decay_ms) {
		hkm_env_number(HAKMEM_DECAY_MS, 1, 1000 * 3600, 1000, &decay);
		cfg->decay_ms = (uint32_t)decay;
	}
}

static const struct mode *read_environment(struct hkm_config *cfg)
{
	const struct mode *mode;

	mode = &modes[hkm_env_choice(HAKMEM_MODE, mode_words, 1)];
	*cfg = (struct hkm_config){ 0 };
	cfg->source = (enum hkm_source)hkm_env_choice(HAKMEM_SOURCE,
						      source_words,
						      (int)hkm_front.source);
	cfg->policy = (enum hkm_policy)hkm_env_choice(HAKMEM_POLICY,
						      policy_words,
						      (int)mode->policy);
	cfg->order = (enum hkm_order)hkm_env_choice(HAKMEM_WHALE_ORDER,
						    order_words, 0);
	cfg->capacity = (enum hkm_capacity)hkm_env_choice(HAKMEM_CAPACITY,
							  capacity_words, 0);
	cfg->sites = hkm_env_flag(HAKMEM_SITES);
	return mode;
}

/* by the program */
static const struct mode *as_told(const struct hkm_config *cfg,
				  struct hkm_config *full)
{
	const struct mode *mode;

	mode = &modes[(cfg->mode ?: HKM_MODE_BALANCED) - HKM_MODE_MINIMAL];
	*full = *cfg;
	if (!full->policy)
		full->policy = mode->policy;
	return mode;
}

/*
 * What the program says goes before the environment, also if it says so while another
 * thread is in here: of two that exchange trim_said the later one sets what it is.
 */
static void set_trim(void)
{
	int said = read_once(&trim_said), how;

	do {
		how = said >= 0 ? said : hkm_env_choice(HAKMEM_TRIM,
							trim_words, 0);
		hkm_whale_set_trim((enum hkm_trim)how);
	} while (!__atomic_compare_exchange_n(&trim_said, &said, said, false,
					      __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
}

static int open_heap(struct hkm_config *cfg, const struct mode *mode)
{
	int err;

	fill_in(cfg, mode);
	write_once(&aligned_from_region,
		   hkm_env_choice(HAKMEM_ALIGNED, aligned_words, 0) == 1);
	hkm_lock(&hkm_setup_lock);
	err = hkm_whale_open(cfg);
	hkm_unlock(&hkm_setup_lock);
	if (!err)	/* without the lock, because it may start a thread */
		set_trim();
	return err;
}

static bool is_valid_threshold(size_t size)
{
	return !size || size == HKM_THRESHOLD_AUTO ||
	       (size >= HKM_THRESHOLD_MIN && size <= HKM_THRESHOLD_MAX);
}

static bool is_valid(const struct hkm_config *cfg)
{
	return (unsigned int)cfg->source <= HKM_SOURCE_REGION &&
	       (unsigned int)cfg->policy <= HKM_POLICY_FREE &&
	       (unsigned int)cfg->order <= HKM_FIFO &&
	       (unsigned int)cfg->capacity <= HKM_CAPACITY_AUTO &&
	       (unsigned int)cfg->mode <= HKM_MODE_FAST &&
	       (unsigned int)cfg->thp <= HKM_THP_OFF &&
	       cfg->slots <= HKM_SLOTS_MAX && is_valid_threshold(cfg->threshold);
}

int hkm_init(const struct hkm_config *cfg)
{
	struct hkm_config full;
	const struct mode *mode;
	int err;

	if (cfg && !is_valid(cfg))
		return -EINVAL;
	mode = cfg ? as_told(cfg, &full) : read_environment(&full);
	err = open_heap(&full, mode);
	if (err)
		return err;
	if (full.threshold)
		hkm_threshold_choose(full.threshold);
	else
		hkm_threshold_read_environment();
	return 0;
}

/*
 * Nobody is there to hear of an error: say it, and do what works. False: there is no
 * memory for the heap's tables, and so no whale.
 */
static cold bool open_unasked(void)
{
	static bool told;
	struct hkm_config cfg;
	const struct mode *mode;
	int err;

	mode = read_environment(&cfg);
	err = open_heap(&cfg, mode);
	if (!err || err == -EALREADY)
		return true;
	if (cfg.source != HKM_SOURCE_REGION)
		return false;
	if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
		hkm_message("HAKMEM_SOURCE=region: " HKM_DEVICE " cannot be used (%s); using anon",
			    strerrordesc_np(-err));
	cfg.source = HKM_SOURCE_ANON;
	err = open_heap(&cfg, mode);
	return !err || err == -EALREADY;
}

void hkm_shutdown(void)
{
	hkm_lock(&hkm_setup_lock);
	hkm_whale_close();
	hkm_unlock(&hkm_setup_lock);
}

/* ---- blocks ----------------------------------------------------------------- */

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
	return likely(hkm_whale_is_open()) || open_unasked();
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

	if (unlikely(!hkm_whale_is_open()) && !open_unasked())
		return NULL;
	ptr = site ? hkm_whale_alloc_for(site, size, flags) :
		     hkm_whale_alloc(size, flags);
	return likely(ptr) ? ptr : alloc_whale_again(size, flags);
}

/*
 * A slot's alignment is promised for a whale's size, if it costs no block. It is not
 * what the program asked for: what it asks for is kept or fails.
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
		open_unasked();	/* which reads what follows */
	if (align >= PAGE && !read_once(&aligned_from_region))
		flags |= HKM_WHALE_ANON;
	if (align > HKM_SLOT_SIZE / 2)
		flags |= HKM_WHALE_ALIGNED;
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
		ptr = hkm_whale_resize(old, size);
		if (ptr)
			return ptr;
	}
	ptr = alloc_any(size, caller);
	if (!ptr)
		return NULL;
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
		open_unasked();
	hkm_whale_set_limit(bytes);
}

int hkm_set_trim(enum hkm_trim how)
{
	if ((unsigned int)how > HKM_TRIM_PSI)
		return -EINVAL;
	__atomic_exchange_n(&trim_said, (int)how, __ATOMIC_ACQ_REL);
	set_trim();
	return 0;
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

void hkm_get_heap_stats(struct hkm_heap_stats *st)
{
	hkm_whale_heap_stats(st);
	hkm_threshold_stats(st);
}
