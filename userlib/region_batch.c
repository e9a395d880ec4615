// SPDX-License-Identifier: MIT
/*
 * Many runs of the device at once: HANDOUT and RECYCLE with an array.
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

/* ---- giving back --------------------------------------------------------------- */

/* As ENTRIES; a free() may be on the way here. */
#define DROPS 64

/**
 * struct drops - slots that are ours and about to be dropped
 * @nr: ranges
 */
struct drops {
	struct hkm_region *r;
	unsigned int nr;
	struct hkr_range ranges[DROPS];
};

/* Where the call as a whole fails it has written no results. */
static void drop_now(struct drops *d)
{
	struct hkr_recycle arg = {
		.size = sizeof(arg),
		.mode = HKR_RECYCLE_DROP,
		.nr = d->nr,
		.ranges = (uintptr_t)d->ranges,
	};
	int ret;

	if (!d->nr)
		return;
	ret = hkm_sys_region_recycle(d->r->fd, &arg);
	for (unsigned int i = 0; ret != (int)d->nr && i < d->nr; i++) {
		const struct hkr_range *range = &d->ranges[i];

		if (ret < 0 || range->result)
			hkm_region_forsake(d->r, range->first, range->nr_slots);
	}
	d->nr = 0;
}

static void drop_later(struct drops *d, size_t first, size_t nr)
{
	if (d->nr == DROPS)
		drop_now(d);
	d->ranges[d->nr++] = (struct hkr_range){
		.first = first, .nr_slots = (uint32_t)nr,
	};
}

/* What is still idle of a run; its gaps are others'. */
static void claim_and_drop(struct drops *d, size_t first, size_t nr)
{
	while (nr) {
		size_t n = hkm_region_claim(d->r, first, nr);

		if (n)
			drop_later(d, first, n);
		else
			n = 1;
		first += n;
		nr -= n;
	}
}

/*
 * A child that another thread forks between the claim and the end of the call has what
 * was claimed as busy and nobody's, until it ends. A lock that fork() takes would mend
 * that, and be held across a call, by whom somebody else's handler may wait for.
 */
void hkm_region_evict_many(struct hkm_backend *be,
			   const struct hkm_place *places, size_t n)
{
	struct drops d;

	d.r = hkm_to_region(be);
	d.nr = 0;
	if (!hkm_region_owned(d.r))
		return;
	for (size_t i = 0; i < n; i++)
		claim_and_drop(&d, hkm_region_slot(d.r, places[i].run),
			       places[i].nr_slots);
	drop_now(&d);
}
