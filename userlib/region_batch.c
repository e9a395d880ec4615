// SPDX-License-Identifier: MIT
/*
 * Many runs of the device at once: HANDOUT with an array.
 *
 * Why this way and not another is a table in libhakmem(7). One entry for slots
 * side by side would save another microsecond for each block (of 4 to 10, under
 * TCG), but is met whole or not at all: an arena that has been used for a while has
 * holes, a cap may leave less than the whole, and each entry of an array finds a
 * place of its own.
 */
#include <errno.h>

#include "region.h"
#include "sys.h"

/* Entries of a call; they are on the stack of a caller of unknown depth. */
#define ENTRIES 128

/* How many of @n are handed out, in the order of the array; @err: why not more. */
static unsigned int handout_some(struct hkm_region *r,
				 const struct hkr_handout_req *like,
				 void **runs, unsigned int n, int *err)
{
	struct hkr_handout_req reqs[ENTRIES];
	struct hkr_handout arg = {
		.size = sizeof(arg),
		.nr = n,
		.reqs = (uintptr_t)reqs,
	};
	unsigned int got = 0;
	int ret;

	for (unsigned int i = 0; i < n; i++)
		reqs[i] = *like;
	pthread_rwlock_rdlock(&r->handouts);
	ret = hkm_sys_region_handout(r->fd, &arg);
	pthread_rwlock_unlock(&r->handouts);
	if (ret < 0) {
		*err = ret;
		return 0;
	}
	for (unsigned int i = 0; i < n; i++) {
		if (reqs[i].result)
			*err = reqs[i].result;
		else
			runs[got++] = r->be.base +
				      (reqs[i].first << HKM_SLOT_SHIFT);
	}
	return got;
}

int hkm_region_commit_many(struct hkm_backend *be, size_t nr_slots,
			   unsigned int flags, void **runs, unsigned int n)
{
	struct hkm_region *r = hkm_to_region(be);
	const struct hkr_handout_req like = {
		.nr_slots = (uint32_t)nr_slots,
		.flags = hkm_region_handout_flags(nr_slots, flags),
		.node = HKR_NODE_ANY,
	};
	unsigned int got = 0;
	int err = 0;

	if (!hkm_region_owned(r))
		return -EPERM;
	if (!nr_slots || nr_slots > be->nr_slots)
		return nr_slots ? -ENOSPC : -EINVAL;
	while (got < n && !err)
		got += handout_some(r, &like, runs + got,
				    n - got < ENTRIES ? n - got : ENTRIES,
				    &err);
	return got ? (int)got : err;
}
