// SPDX-License-Identifier: MIT
/*
 * Is this the process that opened it?
 *
 * A page of its own that the kernel wipes at fork(), _Fork() and clone() reads
 * zero in the child. No handler could know of all these, and a process number
 * would be a system call. The first thread of the child that asks looks what
 * there is, and settles it for the rest of that process.
 */
#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#include "owner.h"
#include "sys.h"

/* A kernel that cannot wipe the page at fork() is too old for the module. */
int hkm_owner_open(unsigned int **owner)
{
	unsigned int *page = hkm_sys_table(sizeof(*page));
	int err;

	if (!page)
		return -ENOMEM;
	err = hkm_sys_madvise_wipeonfork(page, sizeof(*page));
	if (err) {
		hkm_sys_munmap(page, sizeof(*page));
		return err;
	}
	*page = HKM_OWNER_HERE;
	*owner = page;
	return 0;
}

void hkm_owner_close(unsigned int *owner)
{
	hkm_sys_munmap(owner, sizeof(*owner));
}

cold bool hkm_owner_ask(unsigned int *owner, bool (*look)(void *arg), void *arg)
{
	unsigned int seen = HKM_OWNER_FORKED;

	if (__atomic_compare_exchange_n(owner, &seen, HKM_OWNER_LOOKS, false,
					__ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
		seen = look(arg) ? HKM_OWNER_HERE : HKM_OWNER_NOT_HERE;
		/* Release: pairs with the acquires here, for what look() did. */
		store_release(owner, seen);
	}
	while (seen == HKM_OWNER_LOOKS) {
		sched_yield();
		seen = load_acquire(owner);
	}
	return seen == HKM_OWNER_HERE;
}
