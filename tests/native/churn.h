/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHURN_H
#define CHURN_H

/*
 * Threads that leave blocks for one another: whoever takes a block out frees it,
 * whoever made it, and nobody loses one or has another's.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "heap_test.h"

#define CHURN_BLOCKS 24
#define CHURN_THREADS 4

/* one that is there has its own address at each end */
static _Atomic(char *) churn_blocks[CHURN_BLOCKS];

static inline bool churn_is_whole(char *p)
{
	size_t size = hkm_malloc_usable_size(p);

	return !memcmp(p, &p, sizeof(p)) &&
	       !memcmp(p + size - sizeof(p), &p, sizeof(p));
}

/* leave @p in place @at, and free what was there */
static inline void churn_leave(char *p, unsigned int at)
{
	size_t size = hkm_malloc_usable_size(p);

	memcpy(p, &p, sizeof(p));
	memcpy(p + size - sizeof(p), &p, sizeof(p));
	p = atomic_exchange(&churn_blocks[at % CHURN_BLOCKS], p);
	if (!p)
		return;
	check(churn_is_whole(p));
	hkm_free(p);
}

/* @fn gets a number from 1 on */
static inline void churn_run(void *(*fn)(void *nr))
{
	pthread_t thread[CHURN_THREADS];

	for (uintptr_t i = 0; i < CHURN_THREADS; i++)
		check(!pthread_create(&thread[i], NULL, fn, (void *)(i + 1)));
	for (int i = 0; i < CHURN_THREADS; i++)
		check(!pthread_join(thread[i], NULL));
	for (int i = 0; i < CHURN_BLOCKS; i++) {
		check(!churn_blocks[i] || churn_is_whole(churn_blocks[i]));
		hkm_free(churn_blocks[i]);
	}
	check_int(stats().live, 0);
	check_int(stats().live_bytes, 0);
}

#endif /* CHURN_H */
