// SPDX-License-Identifier: MIT
/*
 * The whale ring: blocks that were freed, kept by exact size.
 *
 * Every block is on two lists at once. The list of its class holds the blocks
 * of one size in the order in which they were put; a get takes the newest of
 * them (warm) or the oldest (FIFO), as the ring was told. The FIFO list holds
 * all blocks; its oldest one makes room when the ring is full, which is also
 * the oldest of its class, since both lists have the same order.
 *
 * Classes live in a hash table with linear probing, at most half full: there
 * cannot be more classes than blocks. A class goes away with its last block, by
 * shifting the ones behind it back, so there are no tombstones that would make
 * a search longer as time goes by. So get and put look at a few cache lines,
 * with 8 slots as with 65536, one size or thousands.
 *
 * Links are 32-bit numbers instead of pointers: an entry is 32 bytes, and the
 * tables of 4096 slots fit the second-level cache. Unused entries are reused
 * last in, first out, while they are still warm.
 *
 * The ring owns the blocks it holds, never looks into them, and calls nothing
 * while its lock is held: an evicted block is handed to the release function
 * after the unlock. What cannot fail: get, put of a block that is large enough
 * into a ring that is set up, drain.
 */
#include <errno.h>

#include "env.h"
#include "probes.h"
#include "ring.h"
#include "sys.h"
#include "timing.h"

struct hkm_ring_class hkm_ring_no_classes[2];

/* ---- classes ------------------------------------------------------------- */

static inline uint32_t home(const struct hkm_ring *ring, size_t size)
{
	return (uint32_t)((size * 0x9e3779b97f4a7c15ULL) >> ring->shift);
}

/* The class of @size, or the empty place where it belongs. */
static inline struct hkm_ring_class *find(const struct hkm_ring *ring,
					  size_t size)
{
	uint32_t i = home(ring, size);

	while (ring->classes[i].size != size && ring->classes[i].size)
		i = (i + 1) & ring->mask;
	return &ring->classes[i];
}

/*
 * Empty the place of @c. A class behind it that was pushed past this place by a
 * collision moves into it, which empties another place, and so on to the end of
 * the cluster.
 */
static inline void remove_class(struct hkm_ring *ring, struct hkm_ring_class *c)
{
	uint32_t hole = (uint32_t)(c - ring->classes);
	uint32_t i = hole;

	for (;;) {
		struct hkm_ring_class *next;

		i = (i + 1) & ring->mask;
		next = &ring->classes[i];
		if (likely(!next->size))
			break;
		if (((i - home(ring, next->size)) & ring->mask) >=
		    ((i - hole) & ring->mask)) {
			ring->classes[hole] = *next;
			hole = i;
		}
	}
	ring->classes[hole].size = 0;
}

/* ---- lists --------------------------------------------------------------- */

static inline void link_entry(struct hkm_ring *ring, struct hkm_ring_class *c,
			      uint32_t n)
{
	struct hkm_ring_entry *entries = ring->entries;
	struct hkm_ring_entry *e = &entries[n];
	uint32_t last = entries[0].fifo_older;

	e->newer = 0;
	if (c->size) {
		e->older = c->newest;
		entries[c->newest].newer = n;
	} else {
		c->size = e->size;
		c->oldest = n;
		e->older = 0;
	}
	c->newest = n;

	e->fifo_newer = 0;
	e->fifo_older = last;
	entries[last].fifo_newer = n;
	entries[0].fifo_older = n;
}

/* @n is the newest or the oldest of @c. Its ptr and size stay readable. */
static inline void unlink_entry(struct hkm_ring *ring, struct hkm_ring_class *c,
				uint32_t n)
{
	struct hkm_ring_entry *entries = ring->entries;
	struct hkm_ring_entry *e = &entries[n];

	entries[e->fifo_older].fifo_newer = e->fifo_newer;
	entries[e->fifo_newer].fifo_older = e->fifo_older;

	if (c->newest == c->oldest) {
		remove_class(ring, c);
	} else if (n == c->newest) {
		c->newest = e->older;
		entries[e->older].newer = 0;
	} else {
		c->oldest = e->newer;
		entries[e->newer].older = 0;
	}

	ring->st.cached--;
	ring->bytes -= e->size;
}

/* ---- get and put --------------------------------------------------------- */

/* always: to the compiler a probe is many instructions, too many to inline */
static always_inline void *get(struct hkm_ring *ring, size_t size)
{
	struct hkm_ring_class *c;
	void *ptr = NULL;
	uint32_t n;

	if (unlikely(size < HKM_WHALE_MIN))
		return NULL;

	hkm_lock(&ring->lock);
	c = find(ring, size);
	if (likely(c->size)) {
		n = ring->order == HKM_HOT_FIRST ? c->newest : c->oldest;
		ptr = ring->entries[n].ptr;
		unlink_entry(ring, c, n);
		ring->entries[n].fifo_newer = ring->free;
		ring->free = n;
		ring->st.hits++;
		HKM_PROBE2(ring_hit, ptr, size);
	} else {
		ring->st.misses++;
		HKM_PROBE1(ring_miss, size);
	}
	hkm_unlock(&ring->lock);
	return ptr;
}

void *hkm_ring_get(struct hkm_ring *ring, size_t size)
{
	return HKM_TIMED(HKM_T_WHALE_GET, get(ring, size));
}

struct evicted {
	void *ptr;
	size_t size;
	hkm_release_fn release;
	void *arg;
};

/* The entry of the oldest block, which is the caller's in @ev from here on. */
static inline uint32_t evict(struct hkm_ring *ring, struct evicted *ev)
{
	uint32_t n = ring->entries[0].fifo_newer;
	struct hkm_ring_entry *e = &ring->entries[n];

	ev->ptr = e->ptr;
	ev->size = e->size;
	ev->release = ring->release;
	ev->arg = ring->arg;
	unlink_entry(ring, find(ring, e->size), n);
	ring->st.evictions++;
	return n;
}

static inline int put(struct hkm_ring *ring, void *ptr, size_t size,
		      struct evicted *ev)
{
	uint32_t n;

	if (unlikely(!ptr || size < HKM_WHALE_MIN))
		return -EINVAL;

	hkm_lock(&ring->lock);
	if (unlikely(!ring->st.slots)) {
		hkm_unlock(&ring->lock);
		return -ENOENT;
	}

	n = ring->free;
	if (likely(n))
		ring->free = ring->entries[n].fifo_newer;
	else
		n = evict(ring, ev);

	ring->entries[n].ptr = ptr;
	ring->entries[n].size = size;
	link_entry(ring, find(ring, size), n);
	ring->st.cached++;
	ring->st.puts++;
	ring->bytes += size;
	hkm_unlock(&ring->lock);
	return 0;
}

int hkm_ring_put(struct hkm_ring *ring, void *ptr, size_t size)
{
	struct evicted ev;
	int err;

	ev.ptr = NULL;
	err = HKM_TIMED(HKM_T_WHALE_PUT, put(ring, ptr, size, &ev));
	if (unlikely(ev.ptr)) {
		HKM_PROBE2(ring_evict, ev.ptr, ev.size);
		ev.release(ev.ptr, ev.size, ev.arg);
	}
	return err;
}

/* ---- set-up -------------------------------------------------------------- */

static void unmap_block(void *ptr, size_t size, void *arg)
{
	(void)arg;
	hkm_sys_munmap(ptr, size);
}

static size_t entries_size(size_t slots)
{
	return (slots + 1) * sizeof(struct hkm_ring_entry);
}

/* Places in the table, a power of two: at least twice as many as classes. */
static uint32_t class_bits(size_t slots)
{
	uint32_t bits = 1;

	while ((size_t)1 << bits < 2 * slots)
		bits++;
	return bits;
}

static size_t classes_size(size_t slots)
{
	return sizeof(struct hkm_ring_class) << class_bits(slots);
}

/* Entries from 1 up go on the free list; the last one ends it with a 0. */
static void fill_free_list(struct hkm_ring_entry *entries, size_t slots)
{
	for (uint32_t n = 1; n < slots; n++)
		entries[n].fifo_newer = n + 1;
}

static int adopt(struct hkm_ring *ring, const struct hkm_whale_config *cfg,
		 char *tables)
{
	uint32_t bits = class_bits(cfg->slots);

	hkm_lock(&ring->lock);
	if (ring->st.slots) {
		hkm_unlock(&ring->lock);
		return -EALREADY;
	}
	ring->entries = (void *)tables;
	ring->classes = (void *)(tables + entries_size(cfg->slots));
	ring->mask = (1U << bits) - 1;
	ring->shift = 64 - bits;
	ring->free = 1;
	ring->order = cfg->order;
	ring->release = cfg->release ? cfg->release : unmap_block;
	ring->arg = cfg->arg;
	ring->st = (struct hkm_whale_stats){ .slots = cfg->slots };
	hkm_unlock(&ring->lock);
	return 0;
}

int hkm_ring_setup(struct hkm_ring *ring, const struct hkm_whale_config *cfg)
{
	size_t size;
	void *tables;
	int err;

	if (!cfg->slots || cfg->slots > HKM_SLOTS_MAX ||
	    (cfg->order != HKM_HOT_FIRST && cfg->order != HKM_FIFO))
		return -EINVAL;

	size = entries_size(cfg->slots) + classes_size(cfg->slots);
	tables = hkm_sys_table(size);
	if (!tables)
		return -ENOMEM;
	fill_free_list(tables, cfg->slots);

	err = adopt(ring, cfg, tables);
	if (err)
		hkm_sys_munmap(tables, size);
	return err;
}

static void release_all(struct hkm_ring_entry *entries, hkm_release_fn release,
			void *arg)
{
	for (uint32_t n = entries[0].fifo_newer; n; n = entries[n].fifo_newer)
		release(entries[n].ptr, entries[n].size, arg);
}

void hkm_ring_drain(struct hkm_ring *ring)
{
	struct hkm_ring_entry *entries;
	hkm_release_fn release;
	size_t slots;
	void *arg;

	/* Detached under the lock, released without: release may call us. */
	hkm_lock(&ring->lock);
	slots = ring->st.slots;
	entries = ring->entries;
	release = ring->release;
	arg = ring->arg;
	ring->entries = NULL;
	ring->classes = hkm_ring_no_classes;
	ring->mask = 1;
	ring->shift = 63;
	ring->free = 0;
	ring->bytes = 0;
	ring->st.cached = 0;
	ring->st.slots = 0;
	hkm_unlock(&ring->lock);
	if (!slots)
		return;

	release_all(entries, release, arg);
	hkm_sys_munmap(entries, entries_size(slots) + classes_size(slots));
}

void hkm_ring_get_stats(struct hkm_ring *ring, struct hkm_whale_stats *st,
			uint64_t *bytes)
{
	hkm_lock(&ring->lock);
	*st = ring->st;
	if (bytes)
		*bytes = ring->bytes;
	hkm_unlock(&ring->lock);
}
