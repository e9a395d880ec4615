/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_AGE_H
#define HKR_AGE_H

#include <linux/types.h>

struct folio;
struct hkr_slot;

/**
 * struct hkr_take - what hkr_take_slots() is to do
 * @want: slots still wanted; counts down
 * @look: slots that may still be looked at; counts down
 * @expired_only: only those idle for longer than their arena's decay
 * @to_buddy: memory goes to the buddy allocator, else to the pool
 */
struct hkr_take {
	unsigned long want;
	unsigned long look;
	bool expired_only;
	bool to_buddy;
};

/* age.c: slots by age, and taking the oldest */
int hkr_age_init(void);
void hkr_age_exit(void);
void hkr_age_add_locked(struct hkr_slot *slot);
void hkr_age_del_locked(struct hkr_slot *slot);
unsigned long hkr_age_tick(void);
unsigned long hkr_age_count(int nid);
unsigned long hkr_take_slots(int nid, struct hkr_take *take);
u32 hkr_word_age(u64 word);
bool hkr_folio_looks_pinned(struct folio *folio);

#endif /* HKR_AGE_H */
