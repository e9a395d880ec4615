/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_POOL_H
#define HKR_POOL_H

/* What folio.c, pool.c and zero.c share: a node's lists, and the thread that zeroes. */

#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "hkr.h"

/* what a folio that comes to the dirty list does to the thread */
enum hkr_zero_state {
	HKR_ZERO_AWAKE,		/* nothing: it looks again by itself, and may hold a folio */
	HKR_ZERO_QUIET_WAIT,	/* wakes it when too few are clean */
	HKR_ZERO_ASLEEP,	/* wakes it */
};

struct hkr_pool {
	spinlock_t lock;		/* both lists and their lengths */
	struct list_head clean;		/* folio->lru; lock */
	struct list_head dirty;		/* folio->lru; lock */
	unsigned long nr_clean;		/* lock; read without it to be shown */
	unsigned long nr_dirty;		/* likewise */
	u64 hold;	/* jiffies; takes nothing in before: lock for writing */
	int nid;			/* immutable */

	/* zero.c */
	enum hkr_zero_state state;	/* lock */
	unsigned long touched;		/* jiffies; lists were used: lock */
	unsigned long pressed;		/* jiffies; reclaim came: no lock */
	bool woken;			/* something changed: no lock */
	bool kicked;			/* a refill may succeed now: no lock */
	struct list_head link;		/* hkr_zeroers, hkr_zero_lock */
	struct task_struct *thread;	/* fixed from start to stop */
	wait_queue_head_t wait;		/* woken, or stop */
	struct timer_list timer;	/* wakes the thread, a moment later */
};

extern struct hkr_pool *hkr_pools[MAX_NUMNODES];

/* folio.c */
struct folio *hkr_folio_new(gfp_t gfp, int nid, bool background);
bool hkr_folio_zero(struct folio *folio);
void hkr_count_zeroed(int nid, bool background, ktime_t start);

/* pool.c */
struct folio *hkr_pool_zero_one(struct hkr_pool *pool, bool background);
void hkr_pool_push(struct hkr_pool *pool, struct folio *folio, bool clean);
long hkr_pool_hold_left(const struct hkr_pool *pool);
bool hkr_pool_short(struct hkr_pool *pool);

/* zero.c */
void hkr_zero_init(struct hkr_pool *pool);
int hkr_zero_start(struct hkr_pool *pool);
void hkr_zero_stop(struct hkr_pool *pool);
void hkr_zero_exit(struct hkr_pool *pool);
void hkr_zero_refill(struct hkr_pool *pool);
void hkr_zero_kick_locked(struct hkr_pool *pool);

#endif /* HKR_POOL_H */
