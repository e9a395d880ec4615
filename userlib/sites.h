/* SPDX-License-Identifier: MIT */
#ifndef HKM_SITES_H
#define HKM_SITES_H

/*
 * Per-site caches (HAKMEM_SITES): who allocates, by the address that malloc() will
 * return to, and which idle runs are whose (sites.c).
 */

#include <stdbool.h>

/* hkm_sites_are_on - as the heap was opened with; before, as the environment says */
bool hkm_sites_are_on(void);

/* hkm_sites_open - once the window is there. 0 or -ENOMEM; under hkm_setup_lock */
int hkm_sites_open(bool on);

/* hkm_site - the number of who calls from @caller, 1 to 255; 0: nobody's */
unsigned int hkm_site(const void *caller);

/* hkm_site_set - a live whale is one of @site's */
void hkm_site_set(const void *whale, unsigned int site);

/* hkm_site_take - whose a whale was, that is about to be nobody's */
unsigned int hkm_site_take(const void *whale);

#endif /* HKM_SITES_H */
