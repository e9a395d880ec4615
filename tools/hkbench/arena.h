/* SPDX-License-Identifier: MIT */
#ifndef HB_ARENA_H
#define HB_ARENA_H

/*
 * The device as the backends use it, without the library: an arena, the words
 * of its slots, and the two steps that reuse and free a slot. See
 * linux/hakmem_region.h for the words.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/hakmem_region.h>

#include "hkbench.h"

struct hb_arena {
	int fd;
	char *base;
	size_t size;
	uint32_t nr;		/* slots of one block */
	uint64_t first;		/* of the block handed out now */
	/* with words only */
	struct hkr_control *control;
	size_t control_size;
	uint64_t *words;	/* of the block */
	uint64_t hits, misses, puts;
};

/* @nr slots from @first on, with memory; 0 or -errno */
int hb_arena_handout_at(struct hb_arena *a, uint64_t first, uint32_t nr);

/*
 * The run in use again, whatever the kernel takes of it: 1 where some of it is
 * new, 0 where all is as it was, or -errno. A word that says RECLAIM is EMPTY in
 * a moment, or IDLE again: as its owner must not wait for it, it asks for the
 * slot, and looks at the word again.
 */
int hb_arena_reuse(struct hb_arena *a, uint64_t first, uint32_t nr);

/* IDLE -> BUSY; false when the kernel has taken the slot, or takes it now */
static inline bool hb_word_reuse(uint64_t *word)
{
	uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);

	return HKR_WORD_STATE(old) == HKR_WORD_IDLE &&
	       __atomic_compare_exchange_n(word, &old,
			HKR_WORD_MAKE(HKR_WORD_BUSY, 0, HKR_WORD_GEN(old)),
			false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* BUSY -> IDLE; @epoch from the control page */
static inline void hb_word_idle(uint64_t *word, uint64_t epoch)
{
	__atomic_store_n(word, HKR_WORD_MAKE(HKR_WORD_IDLE, epoch,
					     HKR_WORD_GEN(*word)),
			 __ATOMIC_RELEASE);
}

static inline uint64_t hb_arena_epoch(const struct hb_arena *a)
{
	return __atomic_load_n(&a->control->epoch, __ATOMIC_RELAXED);
}

#endif /* HB_ARENA_H */
