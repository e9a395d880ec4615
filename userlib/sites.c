// SPDX-License-Identifier: MIT
/*
 * Per-site caches: what a place in the program has freed is kept for that place.
 *
 * Where one place needs 16 MiB again and again, and another 2 MiB now and then, a
 * cache for all of them cuts the small ones from the large run and has to make the
 * large one anew. With sites on, a whale has the number of the site that asked for
 * it, the idle run it becomes has it as well (cache.h), and a site takes its own
 * runs, then nobody's, then new memory, and not another's: only realloc() grows in
 * place over whatever is idle there. That costs memory: what is idle serves one site
 * and not all. So it is off unless somebody asks for it.
 *
 * A site is known by the address that the call returns to, of which a hash of 8 bits
 * is left: what has the same one shares a cache, and is served as without sites. One
 * wrapper for all of a program's allocations is one site.
 *
 * The number of a live whale is in a byte for each slot of the window, beside the
 * numbers of live.h. It is written before the program has the whale, and taken by
 * who frees it, so it is nobody else's in between.
 *
 * While sites are off nothing of this is looked at: they are one of the reasons for
 * the heap's slow way (hkm_threshold_state).
 */
#include <errno.h>
#include <stdint.h>

#include "compiler.h"
#include "env.h"
#include "run.h"
#include "sites.h"
#include "source.h"
#include "sys.h"

enum { UNKNOWN, OFF, ON };

static int chosen;	/* atomic */

/* NULL until sites are on; then it stays. */
static uint8_t *site_of;

/* Where hkm_init() says something else meanwhile, in another thread, that stays. */
bool hkm_sites_are_on(void)
{
	int now = read_once(&chosen);

	if (unlikely(now == UNKNOWN) &&
	    __atomic_compare_exchange_n(&chosen, &now,
					hkm_env_flag(HAKMEM_SITES) ? ON : OFF,
					false, __ATOMIC_RELAXED,
					__ATOMIC_RELAXED))
		now = read_once(&chosen);
	return now == ON;
}

int hkm_sites_open(bool on)
{
	uint8_t *table;

	if (on && !site_of) {
		table = hkm_sys_table(hkm_window.size >> HKM_SLOT_SHIFT);
		if (!table)
			return -ENOMEM;
		/* Release: pairs with the acquire in byte_of(). */
		store_release(&site_of, table);
	}
	write_once(&chosen, on ? ON : OFF);
	return 0;
}

static uint8_t *byte_of(const void *whale)
{
	uint8_t *table = load_acquire(&site_of);

	return table ? &table[hkm_slot_number(whale)] : NULL;
}

/* The upper bits of a product with 2^64 over the golden ratio (Knuth) are spread. */
unsigned int hkm_site(const void *caller)
{
	uint64_t hash = (uintptr_t)caller * 0x9e3779b97f4a7c15ULL;

	if (!caller || !hkm_sites_are_on())
		return 0;
	return 1 + (unsigned int)((hash >> 32) % HKM_RUN_SITES);
}

void hkm_site_set(const void *whale, unsigned int site)
{
	uint8_t *byte = byte_of(whale);

	if (byte)
		write_once(byte, (uint8_t)site);
}

unsigned int hkm_site_take(const void *whale)
{
	uint8_t *byte = byte_of(whale);
	unsigned int site = byte ? read_once(byte) : 0;

	if (site)
		write_once(byte, 0);
	return site;
}
