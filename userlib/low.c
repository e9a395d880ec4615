// SPDX-License-Identifier: MIT
/*
 * The callback for low memory.
 *
 * It is the program's last chance before a block of a whale's size is NULL, and
 * its share when the kernel reports pressure. It may call the heap: what fails
 * inside it fails without asking again, or there would be no end.
 */
#include <hakmem.h>

#include "compiler.h"
#include "lock.h"
#include "low.h"

/* Protected by hkm_setup_lock. */
static hkm_low_memory_fn callback;
static void *callback_arg;

void hkm_set_low_memory(hkm_low_memory_fn fn, void *arg)
{
	hkm_lock(&hkm_setup_lock);
	callback = fn;
	callback_arg = arg;
	hkm_unlock(&hkm_setup_lock);
}

cold bool hkm_low_memory(size_t wanted)
{
	hkm_low_memory_fn fn;
	bool gave = false;
	void *arg;

	if (hkm_is_in(HKM_IN_CALLBACK))
		return false;
	hkm_lock(&hkm_setup_lock);
	fn = callback;
	arg = callback_arg;
	hkm_unlock(&hkm_setup_lock);
	if (fn) {
		hkm_enter(HKM_IN_CALLBACK);
		gave = fn(wanted, arg);
		hkm_exit(HKM_IN_CALLBACK);
	}
	return gave;
}
