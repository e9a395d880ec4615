/* SPDX-License-Identifier: MIT */
#ifndef HKM_MOVING_H
#define HKM_MOVING_H

/*
 * Anonymous memory to other addresses, by whole slots.
 */

#include <stdbool.h>
#include <stddef.h>

/* hkm_one_mapping - how much of a run is one mapping from its start on; 0: no slot is */
size_t hkm_one_mapping(char *from, size_t size);

/*
 * hkm_move_mapping - pages of one mapping, to where it is open. False: they are where
 * they were, and @to is open and empty. @from is closed and empty otherwise.
 */
bool hkm_move_mapping(char *to, char *from, size_t size);

/* hkm_move_pages - the same of a run, which is copied where it cannot be moved */
void hkm_move_pages(char *to, char *from, size_t size);

/*
 * hkm_moving_pays - does moving a slot cost less than a new one? Measured with @to and
 * @from, which are open, empty, and nobody's; @to has zeroed memory then, or @from, and
 * the other one may be closed.
 */
bool hkm_moving_pays(char *to, char *from);

#endif /* HKM_MOVING_H */
