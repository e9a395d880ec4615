// SPDX-License-Identifier: GPL-2.0
/*
 * Slots by age: which memory may be taken back (take.c), oldest first, across
 * all arenas.
 *
 * Each NUMA node, with memory already or perhaps later, has lists of the slots
 * whose memory lies there: a bucket for each of the last HKR_AGE_BUCKETS epochs
 * with the slots that became idle in it, *old* for those idle longer, *expired*
 * for those idle longer than their owner wants, which are the next to go, and
 * *active* for everything else. An arena that is charged to a memory cgroup has
 * such lists of its own, so that the limit of a cgroup finds the slots of that
 * cgroup (memcg.c). Nobody tells us when a word changes, so the tick samples: it
 * reads the word of every slot and moves the slot to the list it belongs to. A
 * slot that was reused and freed again carries a newer stamp and goes to a
 * younger bucket. A stamp from the future counts as oldest: it is a lie, and
 * must not pay. Nor must it pay to look idle to the tick and to be in use when
 * somebody comes to take it: a slot that was met like that counts as idle since
 * then at most, so that the next call looks at others first, however few it may
 * look at. nr_idle is thus the kernel's own sample, never the owner's word.
 *
 * A slot is on a list exactly while it has memory; hkr_slot_install_locked()
 * and hkr_slot_remove_locked() see to that. Since a view ends only after all
 * its memory is gone, whoever holds a list's lock may use the view of a slot
 * that it finds there. A taker that drops the lock counts itself in
 * view->takers, and the end of the view waits for it.
 */

#include <linux/mm.h>
#include <linux/slab.h>

#include "age.h"
#include "hkr.h"

static struct hkr_ages *hkr_ages[MAX_NUMNODES];

/* the lists that a slot with memory belongs on; never changes while it has it */
static struct hkr_ages *hkr_slot_ages(const struct hkr_slot *slot)
{
	struct hkr_ages **all = slot->view->ages ?: hkr_ages;

	return all[folio_nid(slot->folio)];
}

/**
 * hkr_is_cursor - is this no slot, but a place in a list
 * @slot: on a list; a walk that drops the lock leaves one there
 */
bool hkr_is_cursor(const struct hkr_slot *slot)
{
	return !slot->view;
}

/* epochs since @stamp; one from the future has the largest age there is */
static u32 hkr_stamp_age(u32 stamp)
{
	u32 age = (hkr_epoch() - stamp) & HKR_WORD_EPOCH_MASK;

	return age > HKR_WORD_EPOCH_MASK / 2 ? HKR_WORD_EPOCH_MASK : age;
}

/**
 * hkr_word_age - epochs since the owner made a slot idle, by its own stamp
 * @word: as read; IDLE
 */
u32 hkr_word_age(u64 word)
{
	return hkr_stamp_age(HKR_WORD_EPOCH(word));
}

/* under the list's lock: since when a slot counts as idle */
static u32 hkr_slot_stamp(const struct hkr_slot *slot)
{
	u32 stamp = HKR_WORD_EPOCH(slot->seen);

	if (slot->fooled &&
	    hkr_stamp_age(stamp) > hkr_stamp_age(slot->used_at))
		return slot->used_at;
	return stamp;
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
	slot->fooled = false;
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
	u32 stamp, age;

	lockdep_assert_held(&ages->lock);
	slot->idle = idle;
	if (!idle) {
		list_add_tail(&slot->age, &ages->active);
		ages->nr_active++;
		return;
	}
	ages->nr_idle++;
	stamp = hkr_slot_stamp(slot);
	age = hkr_stamp_age(stamp);
	if (age == HKR_WORD_EPOCH_MASK)
		list_add(&slot->age, &ages->old);
	else if (age >= HKR_AGE_BUCKETS)
		list_add_tail(&slot->age, &ages->old);
	else
		list_add_tail(&slot->age,
			      &ages->bucket[stamp % HKR_AGE_BUCKETS]);
}

/**
 * hkr_age_roll - the clock went on: buckets that fall out of the window are old
 * @ages: locked
 */
void hkr_age_roll(struct hkr_ages *ages)
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
	    hkr_mem_looks_pinned(slot->folio))
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

/**
 * hkr_age_sort_vain - the place of a slot that could not be taken
 * @ages: locked
 * @slot: on one of its lists
 */
void hkr_age_sort_vain(struct hkr_ages *ages, struct hkr_slot *slot)
{
	bool was_idle = slot->idle;

	hkr_age_sort(ages, slot);
	if (!was_idle || slot->idle)
		return;
	slot->fooled = true;
	slot->used_at = hkr_epoch();
}

/* under the list's lock, which keeps the slot's memory */
static bool hkr_is_expired(struct hkr_ages *ages, const struct hkr_slot *slot)
{
	s32 decay = slot->view->decay_epochs;

	if (!slot->idle)
		return false;
	/* by the owner's own stamp: one that is too old hurts only the owner */
	if (decay >= 0 && hkr_stamp_age(hkr_slot_stamp(slot)) >= decay)
		return true;
	if (!hkr_is_singles(slot->folio) || !ages->exchange)
		return false;
	ages->exchange--;
	return true;
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
		/* a list of their own: who takes them looks at no others */
		if (!hkr_is_cursor(slot) && list != &ages->expired &&
		    hkr_is_expired(ages, slot))
			list_move_tail(&slot->age, &ages->expired);
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

	if (pages == ages->reported)
		return;
	mod_node_page_state(NODE_DATA(ages->nid), NR_KERNEL_MISC_RECLAIMABLE,
			    (long)pages - (long)ages->reported);
	ages->reported = pages;
}

/*
 * Sample every slot of these lists; how many are idle. @exchange: folios that
 * could take the place of single pages, which then go whatever their decay.
 */
static unsigned long hkr_age_sample(struct hkr_ages *ages,
				    unsigned long exchange)
{
	unsigned int i;

	ages->exchange = exchange;

	hkr_age_walk(ages, &ages->expired);
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
	/* the reserve is one for all nodes, and not to be counted on any */
	unsigned long all = 0;
	unsigned long may_go = hkr_pool_above_reserve() + hkr_singles();
	int nid;

	/* a node whose memory went offline has something to report as well */
	for_each_node(nid) {
		unsigned long idle, slots, clean, dirty;

		hkr_pool_count(nid, &clean, &dirty);
		idle = hkr_age_sample(hkr_ages[nid], clean);
		slots = min(idle + hkr_pool_spare(nid), may_go);
		hkr_age_report(hkr_ages[nid], slots);
		may_go -= slots;
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
		/* what the buddy allocator has only the next HANDOUT can tell */
		idle = hkr_age_sample(view->ages[nid], ULONG_MAX);
		hkr_age_report(view->ages[nid], idle);
		all += idle;
	}
	return all;
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

	if (!list_empty(&ages->expired) || !list_empty(&ages->old))
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
	INIT_LIST_HEAD(&ages->expired);
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
 * hkr_age_init - the shared lists of every node that may have memory some time
 *
 * Return: 0 or -ENOMEM, with nothing left behind
 */
int hkr_age_init(void)
{
	int nid;

	for_each_node(nid) {
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
