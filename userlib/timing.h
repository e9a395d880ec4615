/* SPDX-License-Identifier: MIT */
#ifndef HKM_TIMING_H
#define HKM_TIMING_H

#include <stdint.h>
#include <time.h>

#include <hakmem.h>

#include "compiler.h"

#ifndef HAKMEM_DEBUG_TIMING
#define HAKMEM_DEBUG_TIMING 1
#endif

/*
 * The fences keep the measured code between the two readings: lfence waits for
 * everything before it, rdtscp too, and nothing after an lfence starts early.
 */
#if defined(__x86_64__)
static inline uint64_t hkm_timing_begin(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline uint64_t hkm_timing_end(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtscp; lfence"
			 : "=a"(lo), "=d"(hi) : : "rcx", "memory");
	return (uint64_t)hi << 32 | lo;
}
#else
static inline uint64_t hkm_timing_begin(void)
{
	struct timespec ts = { 0, 0 };

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

#define hkm_timing_end hkm_timing_begin
#endif

#if HAKMEM_DEBUG_TIMING

extern int hkm_timing_on;

void hkm_timing_add(enum hkm_timed what, uint64_t cycles);

/* HKM_TIMED - value of @expr; one predicted branch while timing is off */
#define HKM_TIMED(what, expr) ({					\
	__typeof__(expr) timed_;					\
									\
	if (unlikely(read_once(&hkm_timing_on))) {			\
		uint64_t begin_ = hkm_timing_begin();			\
									\
		timed_ = (expr);					\
		hkm_timing_add((what), hkm_timing_end() - begin_);	\
	} else {							\
		timed_ = (expr);					\
	}								\
	timed_;								\
})

#else
#define HKM_TIMED(what, expr) (expr)
#endif

#endif /* HKM_TIMING_H */
