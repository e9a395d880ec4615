/* SPDX-License-Identifier: MIT */
#ifndef HKM_LOW_H
#define HKM_LOW_H

/*
 * What the program has to say when memory is short.
 */

#include <stdbool.h>
#include <stddef.h>

/*
 * hkm_low_memory - ask the program to give something back for @wanted bytes, or
 * for others' sake (0). Did it? No lock of this library is held.
 */
bool hkm_low_memory(size_t wanted);

#endif /* HKM_LOW_H */
