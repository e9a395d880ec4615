/* SPDX-License-Identifier: MIT */
#ifndef HKM_REGION_H
#define HKM_REGION_H

/*
 * What the files of the device's source share (region.c has the essay).
 */

#include <pthread.h>
#include <stdint.h>

#include <linux/hakmem_region.h>

#include "backend.h"
#include "compiler.h"

/* Runs of more slots than these, 64 MiB, are backed as they are touched. */
#define HKM_REGION_ON_TOUCH 32

/**
 * struct hkm_region - the arena; all of it is fixed after open
 * @be: first member
 * @owner: is this the process that opened the device (owner.h)
 * @inherited: a child has slots of its own
 * @handouts: held shared around HANDOUT, alone around HANDOUT with AT
 */
struct hkm_region {
	struct hkm_backend be;
	const struct hkr_control *control;
	uint64_t *words;
	unsigned int *owner;
	int fd;
	bool inherited;
	size_t control_size;
	pthread_rwlock_t handouts;
};

static inline struct hkm_region *hkm_to_region(const struct hkm_backend *be)
{
	return (struct hkm_region *)be;
}

/* hkm_region_owned - is what the run is of here, too? Not before it says so. */
bool hkm_region_owned(struct hkm_region *r);

static inline size_t hkm_region_slot(const struct hkm_region *r,
				     const void *run)
{
	return (size_t)((const char *)run - r->be.base) >> HKM_SLOT_SHIFT;
}

/*
 * A large run is backed as it is touched: it may be a sparse one, which must
 * not cost what it could. A smaller one is backed at once, in one call.
 */
static inline unsigned int hkm_region_handout_flags(size_t nr_slots,
						    unsigned int flags)
{
	if (nr_slots > HKM_REGION_ON_TOUCH)
		return 0;
	return HKR_HANDOUT_COMMIT |
	       (flags & HKM_COMMIT_FROM_IDLE ? HKR_HANDOUT_FROM_IDLE : 0);
}

/*
 * IDLE -> BUSY, keeping the generation. Acquire: pairs with the store-release
 * in region_idle(), so that what the last owner did to the slot comes before
 * what the next one does. Failing means that kernel or thread was faster.
 */
static inline bool hkm_region_claim_slot(uint64_t *word)
{
	uint64_t old = read_once(word);

	if (HKR_WORD_STATE(old) != HKR_WORD_IDLE)
		return false;
	return __atomic_compare_exchange_n(word, &old,
			HKR_WORD_MAKE(HKR_WORD_BUSY, 0, HKR_WORD_GEN(old)),
			false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* hkm_region_claim - how many slots from @first on could be, before one could not */
static inline size_t hkm_region_claim(struct hkm_region *r, size_t first,
				      size_t nr)
{
	size_t n = 0;

	while (n < nr && hkm_region_claim_slot(&r->words[first + n]))
		n++;
	return n;
}

/* hkm_region_forsake - slots that are ours and cannot be dropped are the kernel's */
void hkm_region_forsake(struct hkm_region *r, size_t first, size_t nr);

/* region_batch.c; the operations of these names */
void hkm_region_evict_many(struct hkm_backend *be,
			   const struct hkm_place *places, size_t n);
int hkm_region_commit_many(struct hkm_backend *be, size_t nr_slots,
			   unsigned int flags, void **runs, unsigned int n);

#endif /* HKM_REGION_H */
