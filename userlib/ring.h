/* SPDX-License-Identifier: MIT */
#ifndef HKM_RING_H
#define HKM_RING_H

#include <hakmem.h>

#include "lock.h"

/* One cached block: 32 bytes, two to a cache line. Links are entry numbers. */
struct hkm_ring_entry {
	void *ptr;
	size_t size;
	uint32_t older, newer;		/* in its class; 0 ends */
	uint32_t fifo_older, fifo_newer; /* among all; entry 0 is the head */
};

/* All cached blocks of one size; @size 0 marks an empty place in the table */
struct hkm_ring_class {
	size_t size;
	uint32_t newest, oldest;
};

/**
 * struct hkm_ring - the object; HKM_RING_INIT makes one that holds nothing
 * @lock: protects everything below
 * @order, @shift, @mask, @entries, @classes: fixed from setup to drain
 * @free: first unused entry, linked through fifo_newer; 0 ends
 * @bytes: sum of the sizes of the cached blocks
 * @st: counters; st.slots is 0 until setup and after drain
 *
 * Entries in use + entries on the free list == st.slots, and
 * 0 <= classes in use <= st.cached <= st.slots.
 */
struct hkm_ring {
	struct hkm_lock lock;
	enum hkm_order order;
	uint32_t mask;
	uint32_t shift;
	uint32_t free;
	struct hkm_ring_entry *entries;
	struct hkm_ring_class *classes;
	struct hkm_whale_stats st;
	uint64_t bytes;
	hkm_release_fn release;
	void *arg;
} __attribute__((aligned(64)));

/* The table of every ring that is not set up: nothing is ever found in it. */
extern struct hkm_ring_class hkm_ring_no_classes[2];

#define HKM_RING_INIT { .shift = 63, .mask = 1, .classes = hkm_ring_no_classes }

/*
 * hkm_ring_register - let the ring survive a fork(); at load, as its lock is
 * taken even while it is not set up. Its memory must stay from then on.
 */
static inline void hkm_ring_register(struct hkm_ring *ring)
{
	hkm_lock_register(&ring->lock);
}

/*
 * hkm_ring_setup - give an empty ring @cfg->slots places (1 to 65536) and
 * reset its counters. 0, -EINVAL, -EALREADY, -ENOMEM.
 */
int hkm_ring_setup(struct hkm_ring *ring, const struct hkm_whale_config *cfg);

/* hkm_ring_drain - back to HKM_RING_INIT; cached blocks are released, oldest first */
void hkm_ring_drain(struct hkm_ring *ring);

/* hkm_ring_get - a block of exactly @size bytes, or NULL */
void *hkm_ring_get(struct hkm_ring *ring, size_t size);

/* hkm_ring_put - 0; -EINVAL: too small; -ENOENT: not set up */
int hkm_ring_put(struct hkm_ring *ring, void *ptr, size_t size);

void hkm_ring_get_stats(struct hkm_ring *ring, struct hkm_whale_stats *st,
			uint64_t *bytes);

#endif /* HKM_RING_H */
