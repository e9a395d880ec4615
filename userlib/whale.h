/* SPDX-License-Identifier: MIT */
#ifndef HKM_WHALE_H
#define HKM_WHALE_H

/*
 * Runs of slots for the heap: from the cache, else from the device, else
 * from anonymous memory.
 */

#include <stdbool.h>
#include <stddef.h>

#include <hakmem.h>

/*
 * hkm_whale_open - sources and cache as @cfg says, in which 0 means 0. With
 * HKM_SOURCE_AUTO a device that cannot be opened is no error. 0; -EALREADY;
 * -ENOMEM; with HKM_SOURCE_REGION why the device cannot be used.
 * Under hkm_setup_lock.
 */
int hkm_whale_open(const struct hkm_config *cfg);

/*
 * hkm_whale_close - evict every cached run. Sources stay open, because live
 * whales are in them. Under hkm_setup_lock.
 */
void hkm_whale_close(void);

bool hkm_whale_is_open(void);

/* hkm_whale_is_kept - does an idle whale have its memory still, for a time? */
bool hkm_whale_is_kept(void);

#define HKM_WHALE_ZERO	(1U << 0)	/* reads as zeroes */
#define HKM_WHALE_ANON	(1U << 1)	/* of anonymous memory */
#define HKM_WHALE_ALIGNED (1U << 2)	/* to a slot; otherwise half a slot will do */
#define HKM_WHALE_PLAIN	(1U << 3)	/* without a colour (live.h) */

/* hkm_whale_alloc - at least @size bytes, or NULL */
void *hkm_whale_alloc(size_t size, unsigned int flags);

/* hkm_whale_alloc_for - the same for a site (sites.h): of its idle runs or nobody's */
void *hkm_whale_alloc_for(unsigned int site, size_t size, unsigned int flags);

/*
 * These are for pointers into the window; one that is not the start of a live
 * whale is reported in the name of @who, and the process is aborted.
 *
 * hkm_whale_free_sited - hkm_whale_free() where sites are on
 * hkm_whale_size - how many bytes it has
 * hkm_whale_resize - a whale of @size bytes with the same contents, here or
 *	elsewhere, or NULL: then nothing has changed (resize.c). @frugal: also NULL
 *	where a copy would take less memory, for what has to be copied
 */
void hkm_whale_free(void *ptr, const char *who);
void hkm_whale_free_sited(void *ptr, const char *who);
size_t hkm_whale_size(const void *ptr, const char *who);
void *hkm_whale_resize(void *ptr, size_t size, bool frugal);

/* hkm_whale_pin - its idle run stays in the cache; or no longer */
void hkm_whale_pin(void *ptr, bool on);

/* hkm_whale_release - give back idle whales; how many bytes that was */
size_t hkm_whale_release(bool pinned_too);

/* hkm_whale_set_trim - who gives back what has been idle for too long */
void hkm_whale_set_trim(enum hkm_trim how);

/* hkm_whale_set_limit - on idle bytes */
void hkm_whale_set_limit(size_t bytes);

void hkm_whale_heap_stats(struct hkm_heap_stats *st);

#endif /* HKM_WHALE_H */
