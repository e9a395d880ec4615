// SPDX-License-Identifier: GPL-2.0
/*
 * Idle slots of one view: finding them, oldest first, and taking them.
 *
 * A word that says IDLE is an offer. Taking it up:
 *
 *   word IDLE -> RECLAIM by compare-and-swap     the owner can no longer reuse
 *   zap, neighbours together                     and no longer reach it
 *   record cleared, reference count frozen       nobody else can either
 *   word RECLAIM -> EMPTY, a new generation      the owner may know
 *
 * When the reference count says that somebody still uses the folio (a pin, or
 * a zap elsewhere under way) it goes back into its slot and the word back to
 * IDLE: nothing was lost. A slot that is plainly pinned is passed over before
 * the zap.
 *
 * An owner that lies in its words gives up its own memory or keeps it longer
 * within its own caps; that is all.
 */

#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "age.h"
#include "hkr.h"
#include "trace.h"

struct hkr_candidate {
	u64 word;	/* as it was read */
	u32 idx;
	u32 age;	/* epochs */
};

/*
 * Does a slot hold memory that could be taken now? The view need not be locked.
 * A slot whose lock is taken is passed over: it is in use.
 */
static bool hkr_slot_is_idle(struct hkr_view *view, unsigned long idx,
			     struct hkr_slot *slot)
{
	bool idle;

	if (HKR_WORD_STATE(READ_ONCE(*hkr_word(view, idx))) != HKR_WORD_IDLE)
		return false;
	if (!mutex_trylock(&slot->lock))
		return false;
	idle = slot->state == HKR_HANDED && slot->folio &&
	       !hkr_mem_looks_pinned(slot->folio);
	mutex_unlock(&slot->lock);
	return idle;
}

/**
 * hkr_count_idle - slots of a view that could be taken now
 * @view: set up, and kept from ending by the caller
 */
unsigned long hkr_count_idle(struct hkr_view *view)
{
	unsigned long idx, nr = 0;

	for_each_set_bit(idx, view->taken, view->nr_slots) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		if (slot && hkr_slot_is_idle(view, idx, slot))
			nr++;
		cond_resched();
	}
	return nr;
}

static int hkr_older_first(const void *a, const void *b)
{
	const struct hkr_candidate *x = a, *y = b;

	if (x->age != y->age)
		return x->age > y->age ? -1 : 1;
	return x->idx < y->idx ? -1 : x->idx > y->idx;
}

static int hkr_by_number(const void *a, const void *b)
{
	const struct hkr_candidate *x = a, *y = b;

	return x->idx < y->idx ? -1 : x->idx > y->idx;
}

static bool hkr_is_wanted(const struct hkr_idle_want *want, unsigned long idx,
			  struct hkr_slot *slot, u32 age)
{
	if (READ_ONCE(slot->state) != HKR_HANDED || age < want->min_age)
		return false;
	if (want->with_memory && !READ_ONCE(slot->folio))
		return false;
	return idx < want->skip_first || idx - want->skip_first >= want->skip_nr;
}

/* at most @room, which is no less than the slots handed out */
static unsigned long hkr_find_idle_locked(struct hkr_view *view,
					  const struct hkr_idle_want *want,
					  struct hkr_candidate *found,
					  unsigned long room)
{
	unsigned long idx, nr = 0;

	lockdep_assert_held(&view->lock);
	for_each_set_bit(idx, view->taken, view->nr_slots) {
		struct hkr_slot *slot = hkr_slot(view, idx);
		u64 word = READ_ONCE(*hkr_word(view, idx));
		u32 age = hkr_word_age(word);

		if (nr == room)
			break;
		if (HKR_WORD_STATE(word) != HKR_WORD_IDLE ||
		    !hkr_is_wanted(want, idx, slot, age))
			continue;
		found[nr++] = (struct hkr_candidate){ word, idx, age };
	}
	sort(found, nr, sizeof(*found), hkr_older_first, NULL);
	return nr;
}

/* IDLE -> RECLAIM; false: the owner was faster, or it is pinned */
static bool hkr_claim_idle_locked(struct hkr_view *view,
				  const struct hkr_candidate *cand)
{
	struct hkr_slot *slot = hkr_slot(view, cand->idx);
	bool claimed = false;

	lockdep_assert_held(&view->lock);
	mutex_lock(&slot->lock);
	if (slot->state != HKR_HANDED)
		goto unlock;
	if (slot->folio && hkr_mem_looks_pinned(slot->folio))
		goto unlock;
	/* a full barrier: the zap cannot move before it, nor the owner's CAS */
	if (cmpxchg(hkr_word(view, cand->idx), cand->word,
		    hkr_word_reclaim(slot)) != cand->word)
		goto unlock;
	slot->state = HKR_CLOSING;
	claimed = true;
unlock:
	mutex_unlock(&slot->lock);
	return claimed;
}

/* claimed slots, by number: unmap neighbours with one call */
static void hkr_zap_claimed(struct hkr_view *view,
			    const struct hkr_candidate *cand, unsigned long nr)
{
	unsigned long i = 0, run;

	while (i < nr) {
		for (run = 1; i + run < nr; run++)
			if (cand[i + run].idx != cand[i].idx + run)
				break;
		hkr_zap(view, cand[i].idx, run);
		i += run;
	}
}

/* the memory of a claimed slot onto @folios; false: it went back */
static bool hkr_collect_locked(struct hkr_view *view,
			       const struct hkr_candidate *cand,
			       enum hkr_why why,
			       struct list_head *folios)
{
	struct hkr_slot *slot = hkr_slot(view, cand->idx);
	struct folio *folio;
	bool taken = false;

	lockdep_assert_held(&view->lock);
	mutex_lock(&slot->lock);
	folio = hkr_slot_remove_locked(view, cand->idx, slot);
	if (folio && !hkr_mem_is_ours(folio)) {
		hkr_slot_install_locked(view, cand->idx, slot, folio);
		slot->state = HKR_HANDED;
		/* fails only where the owner scribbled meanwhile */
		cmpxchg(hkr_word(view, cand->idx), hkr_word_reclaim(slot),
			cand->word);
		goto unlock;
	}
	if (folio)
		trace_hkr_reclaim(view, cand->idx, folio_nid(folio), cand->age,
			      why);
	if (folio && !hkr_folio_give_up(folio))
		list_add_tail(&folio->lru, folios);
	hkr_slot_free_locked(view, cand->idx, slot);
	taken = true;
unlock:
	mutex_unlock(&slot->lock);
	return taken;
}

/**
 * hkr_take_idle_locked - take idle slots of a view, oldest first
 * @view: locked
 * @want: which and how many
 * @folios: their memory is added here, unzeroed and used by nobody
 *
 * The slots become EMPTY and are uncharged.
 *
 * Return: slots taken; 0 also when there is no memory to sort them in
 */
unsigned long hkr_take_idle_locked(struct hkr_view *view,
				   const struct hkr_idle_want *want,
				   struct list_head *folios)
{
	unsigned long i, nr, room, claimed = 0, taken = 0;
	struct hkr_candidate *cand;

	lockdep_assert_held(&view->lock);
	room = atomic_long_read(&view->charged);
	if (!room)
		return 0;
	/* of all memory idle slots are the last to kill anybody for */
	cand = kvmalloc_array(room, sizeof(*cand),
			      GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);
	if (!cand)
		return 0;
	nr = hkr_find_idle_locked(view, want, cand, room);
	for (i = 0; i < nr && claimed < want->max; i++)
		if (hkr_claim_idle_locked(view, &cand[i]))
			cand[claimed++] = cand[i];

	sort(cand, claimed, sizeof(*cand), hkr_by_number, NULL);
	hkr_zap_claimed(view, cand, claimed);
	for (i = 0; i < claimed; i++)
		if (hkr_collect_locked(view, &cand[i], want->why, folios))
			taken++;
	kvfree(cand);
	return taken;
}

/**
 * hkr_trim - TRIM: idle slots of the caller's arena go back
 * @view: of the caller's file, not locked
 * @trim: in and out, checked by the caller
 *
 * Return: 0 or -errno
 */
int hkr_trim(struct hkr_view *view, struct hkr_trim *trim)
{
	struct hkr_idle_want want = {
		.max = trim->max_slots ?: ULONG_MAX,
		.min_age = DIV_ROUND_UP_ULL(min_t(u64, trim->min_age_ms,
						  U32_MAX), HKR_EPOCH_MS),
		.why = HKR_WHY_TRIM,
	};
	struct folio *folio, *next;
	LIST_HEAD(folios);
	int ret;

	ret = hkr_view_enter(view);
	if (ret)
		return ret;
	trim->nr_trimmed = hkr_take_idle_locked(view, &want, &folios);
	hkr_view_leave(view);

	list_for_each_entry_safe(folio, next, &folios, lru) {
		list_del_init(&folio->lru);
		hkr_pool_give(folio);
	}
	atomic64_add(trim->nr_trimmed, &view->count.trimmed);
	return 0;
}
