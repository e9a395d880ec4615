/* SPDX-License-Identifier: MIT */
#ifndef HKM_WORD_H
#define HKM_WORD_H

/*
 * A cached run as one word, and the places of the table for such words: what cache.c
 * is made of, and for nobody else.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache.h"
#include "tables.h"

#define LINE HKM_LINE_WORDS
#define MAX_ENTRIES (HKM_NR_LINES * LINE)

static inline uint64_t *word_at(size_t i)
{
	return &hkm_tables.lines[i / LINE].words[i % LINE];
}

static inline uint64_t *stamp_at(size_t i)
{
	return &hkm_tables.lines[i / LINE].stamps[i % LINE];
}

#define WORD_MASK (HKM_RUN_MAX - 1)
#define SITE_BITS (2 * HKM_RUN_BITS + HKM_RUN_SITE_SHIFT)
#define SITE_MASK ((uint64_t)HKM_RUN_SITES << SITE_BITS)

static inline uint64_t pack(size_t first, size_t nr, unsigned int flags)
{
	return (uint64_t)flags << 2 * HKM_RUN_BITS |
	       (uint64_t)nr << HKM_RUN_BITS | first;
}

static inline size_t first_of(uint64_t word)
{
	return word & WORD_MASK;
}

static inline size_t nr_of(uint64_t word)
{
	return word >> HKM_RUN_BITS & WORD_MASK;
}

static inline unsigned int flags_of(uint64_t word)
{
	return (unsigned int)(word >> 2 * HKM_RUN_BITS);
}

static inline void unpack(uint64_t word, struct hkm_run *run)
{
	run->first = first_of(word);
	run->nr = nr_of(word);
	run->flags = flags_of(word);
}

/*
 * Acquire and release: what the last owner of a run did to it comes before what
 * the next one does.
 */
static inline bool swap(size_t i, uint64_t old, uint64_t new)
{
	return __atomic_compare_exchange_n(word_at(i), &old, new, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

#endif /* HKM_WORD_H */
