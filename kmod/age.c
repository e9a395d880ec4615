// SPDX-License-Identifier: GPL-2.0
/*
 * Slots by age: which memory may be taken back, oldest first, across all arenas.
 *
 * Each NUMA node has lists of the slots whose memory lies there: a bucket for
 * each of the last HKR_AGE_BUCKETS epochs with the slots that became idle in it,
 * *old* for those idle longer, and *active* for everything else. An arena that
 * is charged to a memory cgroup has such lists of its own, so that the limit of
 * a cgroup finds the slots of that cgroup (memcg.c). Nobody tells us
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

static struct hkr_ages *hkr_ages[MAX_NUMNODES];

/* the lists that a slot with memory belongs on; never changes while it has it */
static struct hkr_ages *hkr_slot_ages(const struct hkr_slot *slot)
{
	struct hkr_ages **all = slot->view->ages ?: hkr_ages;
	int nid = folio_nid(slot->folio);

	/* memory of a node that came after the lists were made */
	return all[nid] ?: all[first_memory_node];
}

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
	struct hkr_ages *ages = hkr_slot_ages(slot);

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
	struct hkr_ages *ages = hkr_slot_ages(slot);

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

/* what MemAvailable may count */
static void hkr_age_report(struct hkr_ages *ages, unsigned long slots)
{
	unsigned long pages = HKR_SLOT_PAGES * slots;

	mod_node_page_state(NODE_DATA(ages->nid), NR_KERNEL_MISC_RECLAIMABLE,
			    (long)pages - (long)ages->reported);
	ages->reported = pages;
}

/* sample every slot of these lists; how many are idle */
static unsigned long hkr_age_sample(struct hkr_ages *ages)
{
	unsigned int i;

	hkr_age_walk(ages, &ages->old);
	for (i = 0; i < HKR_AGE_BUCKETS; i++)
		hkr_age_walk(ages, &ages->bucket[i]);
	hkr_age_walk(ages, &ages->active);
	return READ_ONCE(ages->nr_idle);
}

/**
 * hkr_age_tick - sample every slot of the shared lists
 *
 * Return: how many are idle, all nodes
 */
unsigned long hkr_age_tick(void)
{
	unsigned long all = 0;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		unsigned long idle;

		if (!hkr_ages[nid])
			continue;
		idle = hkr_age_sample(hkr_ages[nid]);
		hkr_age_report(hkr_ages[nid],
			       min(idle + hkr_pool_spare(nid),
				   hkr_pool_above_reserve()));
		all += idle;
	}
	return all;
}

/**
 * hkr_age_tick_view - sample every slot of an arena that has its own lists
 * @view: kept from ending by the caller
 *
 * Return: how many are idle, all nodes
 */
unsigned long hkr_age_tick_view(struct hkr_view *view)
{
	unsigned long idle, all = 0;
	int nid;

	for (nid = 0; view->ages && nid < nr_node_ids; nid++) {
		if (!view->ages[nid])
			continue;
		idle = hkr_age_sample(view->ages[nid]);
		hkr_age_report(view->ages[nid], idle);
		all += idle;
	}
	return all;
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

/**
 * hkr_view_unuse - a taker is done with a view
 * @view: that it counted itself in, by view->takers
 */
void hkr_view_unuse(struct hkr_view *view)
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
 * hkr_take_slots - take idle slots, oldest first
 * @ages: lists to take them from
 * @take: how many, how far to look, and where the memory goes
 *
 * Waits for no lock, and so may run inside an allocation.
 *
 * Return: slots taken
 */
unsigned long hkr_take_slots(struct hkr_ages *ages, struct hkr_take *take)
{
	struct hkr_claim claims[HKR_TAKE_BATCH];
	unsigned long taken = 0;
	unsigned int i, nr;

	while (take->want && take->look) {
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
 * hkr_take_node - take idle slots of any arena that shares the pool
 * @nid: node whose memory is wanted
 * @take: as for hkr_take_slots()
 *
 * Return: slots taken
 */
unsigned long hkr_take_node(int nid, struct hkr_take *take)
{
	return hkr_ages[nid] ? hkr_take_slots(hkr_ages[nid], take) : 0;
}

/**
 * hkr_ages_count - slots that may be worth a look
 * @ages: lists
 *
 * Never 0 while anything is resident: words change without a call, and a slot
 * may have become idle since the last sample.
 */
unsigned long hkr_ages_count(const struct hkr_ages *ages)
{
	unsigned long idle = READ_ONCE(ages->nr_idle);

	return idle ?: !!READ_ONCE(ages->nr_active);
}

/**
 * hkr_age_count - slots of a node that may be worth a look
 * @nid: node
 */
unsigned long hkr_age_count(int nid)
{
	return hkr_ages[nid] ? hkr_ages_count(hkr_ages[nid]) : 0;
}

/**
 * hkr_ages_oldest - how old the oldest slot may be, for comparing lists
 * @ages: lists; no lock needed, the answer is a hint
 *
 * Return: 0 when nothing is resident, else more for what is older
 */
unsigned int hkr_ages_oldest(const struct hkr_ages *ages)
{
	unsigned int i;

	if (!list_empty(&ages->old))
		return HKR_AGE_BUCKETS + 2;
	for (i = 1; i <= HKR_AGE_BUCKETS; i++)
		if (!list_empty(&ages->bucket[(READ_ONCE(ages->epoch) + i) %
					      HKR_AGE_BUCKETS]))
			return HKR_AGE_BUCKETS + 2 - i;
	return !list_empty(&ages->active);
}

/**
 * hkr_ages_init - lists without a slot
 * @ages: zeroed memory
 * @nid: node whose memory the slots will hold
 * @view: whose slots alone these are, or NULL
 */
void hkr_ages_init(struct hkr_ages *ages, int nid, struct hkr_view *view)
{
	unsigned int i;

	spin_lock_init(&ages->lock);
	INIT_LIST_HEAD(&ages->old);
	for (i = 0; i < HKR_AGE_BUCKETS; i++)
		INIT_LIST_HEAD(&ages->bucket[i]);
	INIT_LIST_HEAD(&ages->active);
	INIT_LIST_HEAD(&ages->memcg);
	ages->epoch = hkr_epoch();
	ages->nid = nid;
	ages->view = view;
}

/**
 * hkr_ages_exit - the lists are empty, and nobody looks at them any more
 * @ages: lists
 */
void hkr_ages_exit(struct hkr_ages *ages)
{
	WARN_ON_ONCE(ages->nr_idle || ages->nr_active);
	hkr_age_report(ages, 0);
}

/**
 * hkr_age_init - the shared lists of every node
 *
 * Return: 0 or -ENOMEM, with nothing left behind
 */
int hkr_age_init(void)
{
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		struct hkr_ages *ages = kzalloc_node(sizeof(*ages), GFP_KERNEL,
						     nid);

		if (!ages) {
			hkr_age_exit();
			return -ENOMEM;
		}
		hkr_ages_init(ages, nid, NULL);
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
		hkr_ages_exit(hkr_ages[nid]);
		kfree(hkr_ages[nid]);
		hkr_ages[nid] = NULL;
	}
}
