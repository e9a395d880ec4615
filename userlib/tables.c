// SPDX-License-Identifier: MIT
/*
 * Where the tables of many pages lie.
 *
 * A process pays for each page that it touches, on some virtual machines nearly ten
 * microseconds, and most processes have few whales, or one. So the tables are laid out
 * such that what the first thread and the first whales need of them is in two pages:
 *
 *   lanes, and the cache's lines    variables. Lanes are given from the last one on,
 *                                   and the lines begin behind that, in the same 256
 *                                   bytes. (Alignment to a page would be all
 *                                   variables', and take them out of the page that
 *                                   they have with what the linker initializes.)
 *   numbers of live whales, the     one mapping, since its size is the window's. The
 *   anonymous source, halves        numbers lie in it from the last slot's to the
 *                                   first's, and the source begins behind that
 */
#include <errno.h>

#include "sys.h"
#include "tables.h"

struct hkm_tables hkm_tables behind_all("hkm_tables")
	__attribute__((aligned(256)));

uint32_t *hkm_tables_live;

/* Written under hkm_setup_lock. */
static char *near_table;	/* until somebody has it */
static size_t near_size;
static uint8_t *halves;

/* A source has two bits for each slot, and a little; it begins with a cache line. */
static size_t size_of_near(size_t nr_slots)
{
	return (nr_slots / 4 + 1024 + 63) & ~(size_t)63;
}

static size_t size_of_live(size_t nr_slots)
{
	return (nr_slots * sizeof(uint32_t) + 63) & ~(size_t)63;
}

/* So that the last of the numbers are in the middle of a page, too. */
static size_t in_front(size_t live)
{
	return (2048 - live) & 4095;
}

int hkm_tables_open(size_t nr_slots)
{
	size_t live = size_of_live(nr_slots);
	char *at;

	if (hkm_tables_live)
		return 0;
	near_size = size_of_near(nr_slots);
	at = hkm_sys_table(in_front(live) + live + near_size + nr_slots);
	if (!at)
		return -ENOMEM;
	near_table = at + in_front(live) + live;
	halves = (uint8_t *)near_table + near_size;
	/* Release: pairs with the acquire in hkm_live_number(). */
	store_release(&hkm_tables_live, (uint32_t *)near_table);
	return 0;
}

void *hkm_tables_near(size_t size)
{
	void *table = near_table;

	if (!table || size > near_size)
		return hkm_sys_table(size);
	near_table = NULL;
	return table;
}

void hkm_tables_free(void *table, size_t size)
{
	if (table != (void *)hkm_tables_live)
		hkm_sys_munmap(table, size);
}

uint8_t *hkm_tables_halves(void)
{
	return halves;
}
