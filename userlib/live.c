// SPDX-License-Identifier: MIT
/*
 * The numbers of live whales (live.h has what they say), and what becomes of a
 * program that frees something else.
 */
#include <errno.h>
#include <stdlib.h>

#include "env.h"
#include "heap.h"
#include "live.h"
#include "sys.h"

uint32_t hkm_live_colours;

int hkm_live_open(bool coloured)
{
	write_once(&hkm_live_colours, coloured ? HKM_LIVE_COLOUR : 0);
	return hkm_tables_open(hkm_window.size >> HKM_SLOT_SHIFT);
}

/* Could a whale begin there? */
static bool may_begin_at(const void *ptr)
{
	size_t in_half = (uintptr_t)ptr % HKM_HALF_SLOT;

	return in_half < HKM_COLOURS && in_half % HKM_LINE == 0;
}

/* A number that is live is that of a whale that begins elsewhere in the slot. */
cold void hkm_live_wild(const void *ptr, uint32_t number, const char *who)
{
	hkm_message("%s%s(%p): %s", hkm_front.prefix, who, ptr,
		    number & HKM_LIVE_FREED && may_begin_at(ptr) ?
			    "double free" : "not the start of a block");
	abort();
}
