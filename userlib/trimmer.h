/* SPDX-License-Identifier: MIT */
#ifndef HKM_TRIMMER_H
#define HKM_TRIMMER_H

/*
 * A thread that gives idle anonymous memory back, for who asks for one.
 */

#include <stdint.h>

#include <hakmem.h>

#include "compiler.h"

extern enum hkm_trim hkm_trimmer_how;	/* atomic */

/*
 * hkm_trimmer_set - from now on; idle runs are given back when they have been
 * idle for @decay_ms, UINT64_MAX meaning never
 */
void hkm_trimmer_set(enum hkm_trim how, uint64_t decay_ms);

void hkm_trimmer_start(void);

/* hkm_trimmer_notice - a run has become idle */
static inline void hkm_trimmer_notice(void)
{
	if (unlikely(read_once(&hkm_trimmer_how) != HKM_TRIM_OFF))
		hkm_trimmer_start();
}

#endif /* HKM_TRIMMER_H */
