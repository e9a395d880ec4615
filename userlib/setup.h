/* SPDX-License-Identifier: MIT */
#ifndef HKM_SETUP_H
#define HKM_SETUP_H

#include <stdbool.h>

/* HAKMEM_ALIGNED=region: page-aligned blocks are whales of the device too; atomic */
extern bool hkm_aligned_from_region;

/*
 * hkm_setup_unasked - open the heap as the environment says, unless it is open.
 * False: there is no memory for the heap's tables, and so no whale.
 */
bool hkm_setup_unasked(void);

#endif /* HKM_SETUP_H */
