/* SPDX-License-Identifier: MIT */
#ifndef HKM_OWNER_H
#define HKM_OWNER_H

/* A word that a forked child finds wiped, whatever call made the child. */

#include <stdbool.h>

#include "compiler.h"

enum {
	HKM_OWNER_FORKED,	/* in a child, and nobody has looked yet */
	HKM_OWNER_LOOKS,
	HKM_OWNER_HERE,
	HKM_OWNER_NOT_HERE,
};

/* hkm_owner_open - 0, or a negative errno; the word says HERE */
int hkm_owner_open(unsigned int **owner);
void hkm_owner_close(unsigned int *owner);

/*
 * hkm_owner_ask - in a child, @look(@arg) is called once and says whether what
 * is owned is here; others wait for it
 */
bool hkm_owner_ask(unsigned int *owner, bool (*look)(void *arg), void *arg);

static inline bool hkm_owner_is_here(unsigned int *owner,
				     bool (*look)(void *arg), void *arg)
{
	return likely(read_once(owner) == HKM_OWNER_HERE) ||
	       hkm_owner_ask(owner, look, arg);
}

#endif /* HKM_OWNER_H */
