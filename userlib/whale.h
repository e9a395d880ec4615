/* SPDX-License-Identifier: MIT */
#ifndef HKM_WHALE_H
#define HKM_WHALE_H

/*
 * Runs of whole slots for the heap: from the cache, else from the device, else
 * from anonymous memory.
 */

#include <stdbool.h>
#include <stddef.h>

#include <hakmem.h>

/*
 * hkm_whale_open - sources and cache as @cfg says; @cfg->slots is not 0. With
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

/* hkm_whale_alloc - at least @size bytes, aligned to a slot, or NULL */
void *hkm_whale_alloc(size_t size);

/* hkm_whale_free - false when @ptr is not in any source; abort on a wild one */
bool hkm_whale_free(void *ptr);

void hkm_whale_heap_stats(struct hkm_heap_stats *st);

#endif /* HKM_WHALE_H */
