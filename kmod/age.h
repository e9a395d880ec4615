/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_AGE_H
#define HKR_AGE_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "hkr.h"

#define HKR_AGE_BUCKETS	64U	/* epochs that are told apart: 6.4 s */
#define HKR_TAKE_BATCH	8UL	/* mutexes held at once: far below lockdep's limit */

/* Slots with memory on one node, by age: of one arena, or of all that share */
struct hkr_ages {
	spinlock_t lock;		/* leaf, below slot->lock */
	struct list_head expired;	/* slot->age, as the next three; lock */
	struct list_head old;
	struct list_head bucket[HKR_AGE_BUCKETS];	/* by epoch */
	struct list_head active;
	u32 epoch;			/* of the youngest bucket; lock */
	unsigned long nr_idle;		/* lock; read without to be shown */
	unsigned long nr_active;	/* likewise */
	unsigned long reported;		/* pages in vmstat; tick only */
	unsigned long exchange;		/* single pages it may take; likewise */
	struct hkr_slot stop;		/* a mark for the tick's walk */

	int nid;			/* immutable */
	struct hkr_view *view;		/* whose slots alone; immutable */
	struct list_head memcg;		/* memcg.c, in a list_lru */
};

/**
 * struct hkr_take - what hkr_take_slots() is to do
 * @want: slots still wanted; counts down
 * @look: slots that may still be looked at; counts down
 * @expired_only: only those that the tick found idle for longer than the decay
 *	of their arena, or whose single pages a folio can replace
 * @to_buddy: memory goes to the buddy allocator, else to the pool
 * @keep_reserve: with to_buddy, no more folios than are above the reserve
 * @spare: these, counted down; set by hkr_take_slots()
 * @why: for tracing
 */
struct hkr_take {
	unsigned long want;
	unsigned long look;
	unsigned long spare;
	bool expired_only;
	bool to_buddy;
	bool keep_reserve;
	enum hkr_why why;
};

/* age.c: slots by age */
int hkr_age_init(void);
void hkr_age_exit(void);
void hkr_age_add_locked(struct hkr_slot *slot);
void hkr_age_del_locked(struct hkr_slot *slot);
unsigned long hkr_age_tick(void);
unsigned long hkr_age_tick_view(struct hkr_view *view);
unsigned long hkr_age_count(int nid);
unsigned long hkr_take_node(int nid, struct hkr_take *take);
unsigned long hkr_ages_count(const struct hkr_ages *ages);
unsigned int hkr_ages_oldest(const struct hkr_ages *ages);
void hkr_ages_init(struct hkr_ages *ages, int nid, struct hkr_view *view);
void hkr_ages_exit(struct hkr_ages *ages);
u32 hkr_word_age(u64 word);
bool hkr_is_cursor(const struct hkr_slot *slot);
void hkr_age_roll(struct hkr_ages *ages);
void hkr_age_sort_vain(struct hkr_ages *ages, struct hkr_slot *slot);

/* take.c: taking the oldest */
unsigned long hkr_take_slots(struct hkr_ages *ages, struct hkr_take *take);
void hkr_view_unuse(struct hkr_view *view);

#endif /* HKR_AGE_H */
