/* SPDX-License-Identifier: MIT */
#ifndef HKM_REPORT_H
#define HKM_REPORT_H

#include <stddef.h>

#define HKM_REPORT_ROOM 2048	/* is enough for either */

/*
 * hkm_report_text, _json - the heap's counters into @text, which has @room; the
 * length without the terminating zero. Nothing is allocated.
 */
size_t hkm_report_text(char *text, size_t room);
size_t hkm_report_json(char *text, size_t room);

#endif /* HKM_REPORT_H */
