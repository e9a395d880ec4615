/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HEAP_TEST_H
#define HEAP_TEST_H

#include "backend.h"
#include "fakedev.h"
#include "sys.h"
#include "tap.h"

#define SLOT HKM_SLOT_SIZE

static inline struct hkm_heap_stats stats(void)
{
	struct hkm_heap_stats st;

	hkm_get_heap_stats(&st);
	return st;
}

static inline bool is_whale(const void *p)
{
	return p && !((uintptr_t)p % SLOT);
}

/* the device is never there in tests that want it absent, nor by chance */
static inline void no_device(void)
{
	fake.enabled = true;
	fake.open_error = -ENOENT;
}

static inline void with_device(void)
{
	fake.enabled = true;
	fake.open_error = 0;
}

#endif /* HEAP_TEST_H */
