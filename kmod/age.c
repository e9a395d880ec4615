// SPDX-License-Identifier: GPL-2.0
/*
 * Slots by age: which memory may be taken back, oldest first, across all arenas.
 *
 * Each NUMA node has lists of the slots whose memory lies there: a bucket for
 * each of the last HKR_AGE_BUCKETS epochs with the slots that became idle in it,
 * *old* for those idle longer, and *active* for everything else. Nobody tells us
 * when a word changes, so the tick samples: it reads the word of every slot and
 * moves the slot to the list it belongs to. A slot that was reused and freed
 * again carries a newer stamp and goes to a younger bucket. A stamp from the
 * future counts as oldest: it is a lie, and must not pay. nr_idle is thus the
 * kernel's own sample, never the owner's word.
 *
 * A slot is on a list exactly while it has memory; hkr_slot_install_locked()
 * and hkr_slot_remove_locked() see to that. Since a view ends only after all
 * its memory is gone, whoever holds a list's lock may use the view of a slot
 * that it finds there. A taker that drops the lock counts itself in
 * view->takers, and the end of the view waits for it.
 *
 * Taking a slot (shrinker, OOM, decay) never waits for a lock: it may run inside
 * an allocation of somebody who holds it. The slot's mutex and the folio's lock
 * are both tried before the word is swapped IDLE -> RECLAIM; with both held no
 * fault is between lookup and mapping, so one zap is enough. Neighbours are
 * zapped together. A slot that is plainly pinned is passed over before, and one
 * that turns out to be still in use after the zap keeps its memory and gets its
 * word back.
 */

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/wait_bit.h>

#include "age.h"
#include "hkr.h"

#define HKR_AGE_BUCKETS	64U	/* epochs that are told apart: 6.4 s */

struct hkr_ages {
	spinlock_t lock;		/* leaf, below slot->lock */
	struct list_head old;		/* slot->age, as the next two; lock */
	struct list_head bucket[HKR_AGE_BUCKETS];	/* by epoch */
	struct list_head active;
	u32 epoch;			/* of the youngest bucket; lock */
	unsigned long nr_idle;		/* lock; read without to be shown */
	unsigned long nr_active;	/* likewise */
	unsigned long reported;		/* pages in vmstat; tick only */
	struct hkr_slot stop;		/* a mark for the tick's walk */
};

/* mutexes held at once: far below lockdep's limit */
#define HKR_TAKE_BATCH	8

static struct hkr_ages *hkr_ages[MAX_NUMNODES];

/* between the steps of a long walk; marks a place in a list */
static bool hkr_is_cursor(const struct hkr_slot *slot)
{
	return !slot->view;
}

/**
 * hkr_word_age - epochs since the owner made a slot idle
 * @word: as read; IDLE
 *
 * A stamp from the future is the largest age there is.
 */
u32 hkr_word_age(u64 word)
{
	u32 age = (hkr_epoch() - HKR_WORD_EPOCH(word)) & HKR_WORD_EPOCH_MASK;

	return age > HKR_WORD_EPOCH_MASK / 2 ? HKR_WORD_EPOCH_MASK : age;
}

/**
 * hkr_folio_looks_pinned - a first look, without a zap
 * @folio: in a slot
 *
 * It may miss a user of a folio that is mapped by PTEs, which the reference
 * count after the zap then tells.
 */
bool hkr_folio_looks_pinned(struct folio *folio)
{
	int mapped = folio_entire_mapcount(folio);

	if (folio_maybe_dma_pinned(folio))
		return true;
	return mapped && folio_ref_count(folio) > 1 + mapped;
}

/**
 * hkr_age_add_locked - a slot got memory
 * @slot: locked
 */
void hkr_age_add_locked(struct hkr_slot *slot)
{
	struct hkr_ages *ages = hkr_ages[folio_nid(slot->folio)];

	lockdep_assert_held(&slot->lock);
	spin_lock(&ages->lock);
	slot->idle = false;
	list_add_tail(&slot->age, &ages->active);
	ages->nr_active++;
	spin_unlock(&ages->lock);
}

static void hkr_age_unlist(struct hkr_ages *ages, struct hkr_slot *slot)
{
	lockdep_assert_held(&ages->lock);
	list_del_init(&slot->age);
	if (slot->idle)
		ages->nr_idle--;
	else
		ages->nr_active--;
}

static void hkr_age_list(struct hkr_ages *ages, struct hkr_slot *slot,
			 bool idle)
{
	u32 age;

	lockdep_assert_held(&ages->lock);
	slot->idle = idle;
	if (!idle) {
		list_add_tail(&slot->age, &ages->active);
		ages->nr_active++;
		return;
	}
	ages->nr_idle++;
	age = hkr_word_age(slot->seen);
	if (age == HKR_WORD_EPOCH_MASK)
		list_add(&slot->age, &ages->old);
	else if (age >= HKR_AGE_BUCKETS)
		list_add_tail(&slot->age, &ages->old);
	else
		list_add_tail(&slot->age,
			      &ages->bucket[HKR_WORD_EPOCH(slot->seen) %
					    HKR_AGE_BUCKETS]);
}

/* the clock went on: buckets that fall out of the window are old */
static void hkr_age_roll(struct hkr_ages *ages)
{
	u32 now = hkr_epoch();
	u32 steps = min((now - ages->epoch) & HKR_WORD_EPOCH_MASK,
			(u64)HKR_AGE_BUCKETS);

	lockdep_assert_held(&ages->lock);
	while (steps--)
		list_splice_tail_init(&ages->bucket[(now - steps) %
						    HKR_AGE_BUCKETS],
				      &ages->old);
	ages->epoch = now;
}

/**
 * hkr_age_del_locked - a slot is about to lose its memory
 * @slot: locked
 */
void hkr_age_del_locked(struct hkr_slot *slot)
{
	struct hkr_ages *ages = hkr_ages[folio_nid(slot->folio)];

	lockdep_assert_held(&slot->lock);
	spin_lock(&ages->lock);
	hkr_age_unlist(ages, slot);
	spin_unlock(&ages->lock);
}

/* under the list's lock; true: idle, with the word that was seen */
static bool hkr_sample(struct hkr_slot *slot)
{
	u64 word = READ_ONCE(*hkr_word(slot->view, slot->idx));

	if (HKR_WORD_STATE(word) != HKR_WORD_IDLE ||
	    hkr_folio_looks_pinned(slot->folio))
		return false;
	if (word == slot->seen && slot->idle)
		return true;
	slot->seen = word;
	return true;
}

/* the place of one slot after a look at its word */
static void hkr_age_sort(struct hkr_ages *ages, struct hkr_slot *slot)
{
	u64 seen = slot->seen;
	bool idle = hkr_sample(slot);

	lockdep_assert_held(&ages->lock);
	if (idle == slot->idle && (!idle || slot->seen == seen))
		return;
	hkr_age_unlist(ages, slot);
	hkr_age_list(ages, slot, idle);
}

/* sort a whole list; the lock is dropped now and then, a cursor keeps the place */
static void hkr_age_walk(struct hkr_ages *ages, struct list_head *list)
{
	struct hkr_slot cursor = { .view = NULL };
	struct hkr_slot *slot;
	unsigned int looked = 0;

	spin_lock(&ages->lock);
	hkr_age_roll(ages);
	if (list_empty(list))
		goto unlock;
	list_add(&cursor.age, list);
	/* what is moved to the tail meanwhile was looked at: stop there */
	list_add_tail(&ages->stop.age, list);
	while (!list_is_last(&cursor.age, list)) {
		slot = list_next_entry(&cursor, age);
		if (slot == &ages->stop)
			break;
		list_move(&cursor.age, &slot->age);
		if (!hkr_is_cursor(slot))
			hkr_age_sort(ages, slot);
		if (++looked % 64)
			continue;
		spin_unlock(&ages->lock);
		cond_resched();
		spin_lock(&ages->lock);
	}
	list_del(&cursor.age);
	list_del(&ages->stop.age);
unlock:
	spin_unlock(&ages->lock);
}

/* what MemAvailable may count: sampled idle slots and spare folios */
static void hkr_age_report(int nid, struct hkr_ages *ages)
{
	unsigned long pages = HKR_SLOT_PAGES *
		min(READ_ONCE(ages->nr_idle) + hkr_pool_spare(nid),
		    hkr_pool_above_reserve());

	mod_node_page_state(NODE_DATA(nid), NR_KERNEL_MISC_RECLAIMABLE,
			    (long)pages - (long)ages->reported);
	ages->reported = pages;
}

/**
 * hkr_age_tick - sample every slot that has memory
 *
 * Return: how many are idle, all nodes
 */
unsigned long hkr_age_tick(void)
{
	unsigned long idle = 0;
	unsigned int i;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		struct hkr_ages *ages = hkr_ages[nid];

		if (!ages)
			continue;
		hkr_age_walk(ages, &ages->old);
		for (i = 0; i < HKR_AGE_BUCKETS; i++)
			hkr_age_walk(ages, &ages->bucket[i]);
		hkr_age_walk(ages, &ages->active);
		hkr_age_report(nid, ages);
		idle += READ_ONCE(ages->nr_idle);
	}
	return idle;
}

/* a slot that is ours to take: mutex and folio lock held, word RECLAIM */
struct hkr_claim {
	struct hkr_slot *slot;
	u64 word;	/* as it was */
};

/* under the list's lock, which keeps the view */
static bool hkr_try_claim(struct hkr_slot *slot, struct hkr_claim *claim)
{
	u64 *word = hkr_word(slot->view, slot->idx);

	if (!mutex_trylock(&slot->lock))
		return false;
	claim->slot = slot;
	claim->word = READ_ONCE(*word);
	if (slot->state != HKR_HANDED || slot->held ||
	    HKR_WORD_STATE(claim->word) != HKR_WORD_IDLE ||
	    hkr_folio_looks_pinned(slot->folio))
		goto unlock_slot;
	if (!folio_trylock(slot->folio))
		goto unlock_slot;
	/* a full barrier: the zap cannot move before it, nor the owner's CAS */
	if (cmpxchg(word, claim->word, hkr_word_reclaim(slot)) != claim->word)
		goto unlock_folio;
	atomic_inc(&slot->view->takers);
	return true;

unlock_folio:
	folio_unlock(slot->folio);
unlock_slot:
	mutex_unlock(&slot->lock);
	return false;
}

static bool hkr_want(const struct hkr_take *take, const struct hkr_slot *slot)
{
	s32 decay = slot->view->decay_epochs;

	if (!take->expired_only)
		return true;
	/* by the owner's own stamp: one that is too old hurts only the owner */
	return decay >= 0 && hkr_word_age(slot->seen) >= decay;
}

static bool hkr_batch_full(const struct hkr_take *take, unsigned int nr)
{
	return nr == HKR_TAKE_BATCH || nr >= take->want || !take->look;
}

/* claims from one list, its head first */
static void hkr_claim_from(struct hkr_ages *ages, struct list_head *list,
			   struct hkr_take *take, struct hkr_claim *claims,
			   unsigned int *nr)
{
	struct hkr_slot *slot, *next;

	lockdep_assert_held(&ages->lock);
	list_for_each_entry_safe(slot, next, list, age) {
		if (hkr_is_cursor(slot))
			continue;
		if (hkr_batch_full(take, *nr))
			break;
		take->look--;
		if (!hkr_want(take, slot))
			continue;
		if (hkr_try_claim(slot, &claims[*nr])) {
			(*nr)++;
			continue;
		}
		/* reused since the tick saw it, or its locks are taken */
		hkr_age_sort(ages, slot);
		if (list == &ages->active && !slot->idle)
			list_move_tail(&slot->age, list);
	}
}

/*
 * The next slots to take: the old, then bucket by bucket, and when these run dry
 * some of the active ones, which may have been freed since the last sample. What
 * was looked at in vain there goes to the end, so that the next call sees
 * others.
 */
static unsigned int hkr_claim_batch(struct hkr_ages *ages,
				    struct hkr_take *take,
				    struct hkr_claim *claims)
{
	unsigned int i, nr = 0;

	spin_lock(&ages->lock);
	hkr_age_roll(ages);
	hkr_claim_from(ages, &ages->old, take, claims, &nr);
	for (i = 1; i <= HKR_AGE_BUCKETS && !hkr_batch_full(take, nr); i++)
		hkr_claim_from(ages,
			       &ages->bucket[(ages->epoch + i) %
					     HKR_AGE_BUCKETS],
			       take, claims, &nr);
	if (!take->expired_only && !hkr_batch_full(take, nr))
		hkr_claim_from(ages, &ages->active, take, claims, &nr);
	spin_unlock(&ages->lock);
	return nr;
}

static int hkr_by_place(const void *a, const void *b)
{
	const struct hkr_slot *x = ((const struct hkr_claim *)a)->slot;
	const struct hkr_slot *y = ((const struct hkr_claim *)b)->slot;

	if (x->view != y->view)
		return x->view < y->view ? -1 : 1;
	return x->idx < y->idx ? -1 : x->idx > y->idx;
}

/* claims by place: neighbours are unmapped with one call */
static void hkr_zap_claims(const struct hkr_claim *claims, unsigned int nr)
{
	unsigned int i = 0, run;

	while (i < nr) {
		struct hkr_slot *first = claims[i].slot;

		for (run = 1; i + run < nr; run++)
			if (claims[i + run].slot->view != first->view ||
			    claims[i + run].slot->idx != first->idx + run)
				break;
		hkr_zap(first->view, first->idx, run);
		i += run;
	}
}

static void hkr_view_unuse(struct hkr_view *view)
{
	/* the view may be gone at once: only its address is used after this */
	if (atomic_dec_and_test(&view->takers))
		wake_up_var(&view->takers);
}

/* zapped; the memory of one claim goes. True: as many pages are free */
static bool hkr_take_finish(const struct hkr_claim *claim, bool to_buddy)
{
	struct hkr_slot *slot = claim->slot;
	struct hkr_view *view = slot->view;
	struct folio *folio = slot->folio;
	bool taken = folio_ref_count(folio) == 1;

	if (taken) {
		hkr_slot_detach_locked(view, slot);
		hkr_slot_free_locked(view, slot->idx, slot);
	} else {
		/* fails only where the owner scribbled meanwhile */
		cmpxchg(hkr_word(view, slot->idx), hkr_word_reclaim(slot),
			claim->word);
	}
	folio_unlock(folio);
	mutex_unlock(&slot->lock);

	if (taken) {
		hkr_uncharge(view, 1);
		atomic64_inc(&view->count.reclaimed);
		/* a reference that came since then makes it an orphan */
		if (to_buddy && hkr_folio_is_ours(folio))
			hkr_folio_leave(folio);
		else
			hkr_folio_release(view, folio);
	}
	hkr_view_unuse(view);
	return taken;
}

/**
 * hkr_take_slots - take idle slots of any view, oldest first
 * @nid: node whose memory is wanted
 * @take: how many, how far to look, and where the memory goes
 *
 * Waits for no lock, and so may run inside an allocation.
 *
 * Return: slots taken
 */
unsigned long hkr_take_slots(int nid, struct hkr_take *take)
{
	struct hkr_claim claims[HKR_TAKE_BATCH];
	struct hkr_ages *ages = hkr_ages[nid];
	unsigned long taken = 0;
	unsigned int i, nr;

	while (ages && take->want && take->look) {
		nr = hkr_claim_batch(ages, take, claims);
		if (!nr)
			break;
		sort(claims, nr, sizeof(*claims), hkr_by_place, NULL);
		hkr_zap_claims(claims, nr);
		for (i = 0; i < nr; i++) {
			if (!hkr_take_finish(&claims[i], take->to_buddy))
				continue;
			taken++;
			take->want--;
		}
	}
	return taken;
}

/**
 * hkr_age_count - slots of a node that may be worth a look
 * @nid: node
 *
 * Never 0 while anything is resident: words change without a call, and a slot
 * may have become idle since the last sample.
 */
unsigned long hkr_age_count(int nid)
{
	struct hkr_ages *ages = hkr_ages[nid];
	unsigned long idle;

	if (!ages)
		return 0;
	idle = READ_ONCE(ages->nr_idle);
	return idle ?: !!READ_ONCE(ages->nr_active);
}

/**
 * hkr_age_init - the lists of every node
 *
 * Return: 0 or -ENOMEM, with nothing left behind
 */
int hkr_age_init(void)
{
	unsigned int i;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		struct hkr_ages *ages = kzalloc_node(sizeof(*ages), GFP_KERNEL,
						     nid);

		if (!ages) {
			hkr_age_exit();
			return -ENOMEM;
		}
		spin_lock_init(&ages->lock);
		INIT_LIST_HEAD(&ages->old);
		for (i = 0; i < HKR_AGE_BUCKETS; i++)
			INIT_LIST_HEAD(&ages->bucket[i]);
		INIT_LIST_HEAD(&ages->active);
		ages->epoch = hkr_epoch();
		hkr_ages[nid] = ages;
	}
	return 0;
}

/**
 * hkr_age_exit - nothing is resident, and no tick and no shrinker runs
 */
void hkr_age_exit(void)
{
	int nid;

	for_each_node(nid) {
		if (!hkr_ages[nid])
			continue;
		mod_node_page_state(NODE_DATA(nid), NR_KERNEL_MISC_RECLAIMABLE,
				    -(long)hkr_ages[nid]->reported);
		kfree(hkr_ages[nid]);
		hkr_ages[nid] = NULL;
	}
}
