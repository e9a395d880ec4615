/* SPDX-License-Identifier: MIT */
#ifndef HKM_SOURCE_H
#define HKM_SOURCE_H

/*
 * The sources of whales: which part of the window each has, and that they are
 * opened when they are wanted.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

#include "backend.h"
#include "compiler.h"
#include "window.h"

extern struct hkm_backend *hkm_source_low, *hkm_source_high;
extern size_t hkm_source_border;

/*
 * hkm_source_of - of slot @first of the window, in which there is a run, so that
 * its source is open. The low one is the device's, if it has one.
 */
static inline struct hkm_backend *hkm_source_of(size_t first)
{
	/* Acquire: pairs with the release when the source was opened. */
	return first < hkm_source_border ? load_acquire(&hkm_source_low) :
					   load_acquire(&hkm_source_high);
}

static inline bool hkm_source_is_anon(size_t first)
{
	return first >= hkm_source_border;
}

static inline void *hkm_slot_address(size_t slot)
{
	return (void *)(hkm_window.base + (slot << HKM_SLOT_SHIFT));
}

static inline size_t hkm_slot_number(const void *ptr)
{
	return ((uintptr_t)ptr - hkm_window.base) >> HKM_SLOT_SHIFT;
}

/*
 * hkm_source_look - is there a device for this process? Where there is none, no first
 * whale looks for it again, unless HKM_SOURCE_REGION is wanted. By one thread.
 */
void hkm_source_look(void);

/*
 * hkm_source_has_guards - is there a closed slot behind each anonymous run? Once there
 * has been one that stays so
 */
bool hkm_source_has_guards(void);

/*
 * hkm_source_open - reserve the window and open the device, if @cfg wants it.
 * -ENOMEM, or, with HKM_SOURCE_REGION, why the device cannot be used. Under
 * hkm_setup_lock, as long as whales are not served.
 */
int hkm_source_open(const struct hkm_config *cfg);

/* hkm_source_region - NULL unless new whales are to be the device's */
struct hkm_backend *hkm_source_region(void);

/* hkm_source_anon - opened by the first who asks, or NULL */
struct hkm_backend *hkm_source_anon(void);

/* hkm_source_failed - tell about a device that will fail again; once */
void hkm_source_failed(int err);

#endif /* HKM_SOURCE_H */
