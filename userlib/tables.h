/* SPDX-License-Identifier: MIT */
#ifndef HKM_TABLES_H
#define HKM_TABLES_H

/*
 * Tables of many pages (tables.c has the essay). Untouched pages of them cost nothing.
 */

#include <stddef.h>
#include <stdint.h>

#include "compiler.h"
#include "lane.h"

#define HKM_NR_LANES	64
#define HKM_LINE_WORDS	8
#define HKM_NR_LINES	8192

/**
 * struct hkm_cache_line - places for idle runs, two cache lines
 * @words: the runs
 * @stamps: since when each is idle
 */
struct hkm_cache_line {
	uint64_t words[HKM_LINE_WORDS];
	uint64_t stamps[HKM_LINE_WORDS];
} __attribute__((aligned(128)));

extern struct hkm_tables {
	char unused[128];
	struct hkm_lane lanes[HKM_NR_LANES];
	struct hkm_cache_line lines[HKM_NR_LINES];
} hkm_tables;

/* The number of slot n is hkm_tables_live[-1 - n]; NULL before they are opened. */
extern uint32_t *hkm_tables_live;

/*
 * hkm_tables_open - for a window of @nr_slots. 0, also where that was done before, or
 * -ENOMEM; under hkm_setup_lock
 */
int hkm_tables_open(size_t nr_slots);

/*
 * hkm_tables_near - memory for the table of which the first words are wanted with the
 * numbers of the first slots, zeroed; of one source, once. Another one's is a mapping
 * of its own, or NULL. hkm_tables_free() takes either.
 * hkm_tables_halves - a byte for each slot
 */
void *hkm_tables_near(size_t size);
void hkm_tables_free(void *table, size_t size);
uint8_t *hkm_tables_halves(void);

#endif /* HKM_TABLES_H */
