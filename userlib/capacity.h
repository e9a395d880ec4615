/* SPDX-License-Identifier: MIT */
#ifndef HKM_CAPACITY_H
#define HKM_CAPACITY_H

/*
 * How much memory may be idle: the limit, or, with HKM_CAPACITY_AUTO, what has
 * been worth its place, between a floor and the limit. In slots. Nothing here
 * takes a lock or enters the kernel, and nothing is called for a hit.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

void hkm_capacity_open(enum hkm_capacity how, uint64_t limit);
void hkm_capacity_set_limit(uint64_t limit);
bool hkm_capacity_is_auto(void);

/* hkm_capacity_now - never more than the limit, never less than the floor */
uint64_t hkm_capacity_now(void);
uint64_t hkm_capacity_floor(void);

/*
 * hkm_capacity_evicted - an idle run of @nr slots had to go because of the capacity
 * hkm_capacity_missed - there was no idle run of @nr slots
 * hkm_capacity_cold - @nr slots went that nobody had wanted for too long
 */
void hkm_capacity_evicted(size_t nr);
void hkm_capacity_missed(size_t nr);
void hkm_capacity_cold(size_t nr);

void hkm_capacity_stats(struct hkm_heap_stats *st);

#endif /* HKM_CAPACITY_H */
