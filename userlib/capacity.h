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

#include "compiler.h"

/* Atomic. Hidden, so that a free that looks at them makes no call. */
extern bool hkm_capacity_is_auto __attribute__((visibility("hidden")));
extern uint64_t hkm_capacity_limit __attribute__((visibility("hidden")));

void hkm_capacity_open(enum hkm_capacity how, uint64_t limit);
void hkm_capacity_set_limit(uint64_t limit);
uint64_t hkm_capacity_floor(void);
uint64_t hkm_capacity_found_out(void);

/* hkm_capacity_now - never more than the limit, never less than the floor */
static inline uint64_t hkm_capacity_now(void)
{
	if (unlikely(read_once(&hkm_capacity_is_auto)))
		return hkm_capacity_found_out();
	return read_once(&hkm_capacity_limit);
}

/*
 * hkm_capacity_evicted - an idle run of @nr slots had to go because of the capacity
 * hkm_capacity_missed - there were no @n idle runs of @nr slots each
 * hkm_capacity_cold - @nr slots went that nobody had wanted for too long
 */
void hkm_capacity_evicted(size_t nr);
void hkm_capacity_missed(size_t nr, size_t n);
void hkm_capacity_cold(size_t nr);

void hkm_capacity_stats(struct hkm_heap_stats *st);

#endif /* HKM_CAPACITY_H */
