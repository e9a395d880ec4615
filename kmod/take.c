// SPDX-License-Identifier: GPL-2.0
/*
 * Taking idle slots: what the shrinker, the OOM notifier, the decay and a HANDOUT
 * in need share.
 *
 * Nothing here waits for a lock: it may run inside an allocation of somebody who
 * holds it. The slot's mutex and the locks of its memory are tried before the
 * word is swapped IDLE -> RECLAIM; with all held no fault is between lookup and
 * mapping, so one zap is enough. Neighbours are zapped together. A slot that is
 * plainly pinned is passed over before, and one that turns out to be still in
 * use after the zap keeps its memory and gets its word back. One whose locks are
 * taken is passed over too, and found again by the next call.
 *
 * Single pages (mem.c) are a makeshift: an idle slot gives them back at the next
 * tick, whatever its decay, if the pool has a folio that could take their place.
 */

#include <linux/mm.h>
#include <linux/sort.h>
#include <linux/wait_bit.h>

#include "age.h"
#include "hkr.h"
#include "trace.h"

/* a slot that is ours to take: mutex and memory locked, word RECLAIM */
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
	    hkr_mem_looks_pinned(slot->folio))
		goto unlock_slot;
	if (!hkr_mem_trylock(slot->folio))
		goto unlock_slot;
	/* a full barrier: the zap cannot move before it, nor the owner's CAS */
	if (cmpxchg(word, claim->word, hkr_word_reclaim(slot)) != claim->word)
		goto unlock_memory;
	atomic_inc(&slot->view->takers);
	return true;

unlock_memory:
	hkr_mem_unlock(slot->folio);
unlock_slot:
	mutex_unlock(&slot->lock);
	return false;
}

/* under the list's lock, which keeps the slot's memory */
static bool hkr_may_go(const struct hkr_take *take, const struct hkr_slot *slot)
{
	return take->spare || hkr_is_singles(slot->folio);
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
	/* what goes to the end of the list was looked at */
	unsigned long left = list == &ages->active ? ages->nr_active : ULONG_MAX;

	lockdep_assert_held(&ages->lock);
	list_for_each_entry_safe(slot, next, list, age) {
		if (hkr_is_cursor(slot))
			continue;
		if (hkr_batch_full(take, *nr) || !left--)
			break;
		take->look--;
		if (!hkr_may_go(take, slot))
			continue;
		if (hkr_try_claim(slot, &claims[*nr])) {
			take->spare -= !hkr_is_singles(slot->folio);
			(*nr)++;
			continue;
		}
		/* reused since the tick saw it, or its locks are taken */
		hkr_age_sort_vain(ages, slot);
		if (list == &ages->active && !slot->idle)
			list_move_tail(&slot->age, list);
	}
}

/*
 * The next slots to take: the expired, the old, then bucket by bucket, and when
 * these run dry some of the active ones, which may have been freed since the
 * last sample. What was looked at in vain there goes to the end, so that the
 * next call sees others.
 */
static unsigned int hkr_claim_batch(struct hkr_ages *ages,
				    struct hkr_take *take,
				    struct hkr_claim *claims)
{
	unsigned int i, nr = 0;

	spin_lock(&ages->lock);
	hkr_age_roll(ages);
	hkr_claim_from(ages, &ages->expired, take, claims, &nr);
	if (take->expired_only)
		goto unlock;
	hkr_claim_from(ages, &ages->old, take, claims, &nr);
	for (i = 1; i <= HKR_AGE_BUCKETS && !hkr_batch_full(take, nr); i++)
		hkr_claim_from(ages,
			       &ages->bucket[(ages->epoch + i) %
					     HKR_AGE_BUCKETS],
			       take, claims, &nr);
	if (!hkr_batch_full(take, nr))
		hkr_claim_from(ages, &ages->active, take, claims, &nr);
unlock:
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

/* zapped; the memory of one claim goes. True: so it did, and to the kernel if it was to */
static bool hkr_take_finish(const struct hkr_claim *claim,
			    const struct hkr_take *take)
{
	struct hkr_slot *slot = claim->slot;
	struct hkr_view *view = slot->view;
	struct folio *folio = slot->folio;
	bool taken = !hkr_mem_is_used(folio);

	if (taken) {
		trace_hkr_reclaim(view, slot->idx, folio_nid(folio),
			      hkr_word_age(claim->word), take->why);
		hkr_slot_detach_locked(view, slot);
		hkr_slot_free_locked(view, slot->idx, slot);
	} else {
		/* fails only where the owner scribbled meanwhile */
		cmpxchg(hkr_word(view, slot->idx), hkr_word_reclaim(slot),
			claim->word);
	}
	hkr_mem_unlock(folio);
	mutex_unlock(&slot->lock);

	if (taken) {
		atomic64_inc(&view->count.reclaimed);
		/* a reference that came since then makes it an orphan */
		if (take->to_buddy && hkr_mem_is_ours(folio)) {
			taken = hkr_folio_leave(folio);
		} else {
			hkr_folio_release(view, folio);
			taken = !take->to_buddy;
		}
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
 * Return: slots taken, but where the buddy allocator was to have their memory not
 * those of which it has not: what somebody pinned just then, or what is poisoned
 */
unsigned long hkr_take_slots(struct hkr_ages *ages, struct hkr_take *take)
{
	struct hkr_claim claims[HKR_TAKE_BATCH];
	unsigned long taken = 0;
	unsigned int i, nr;

	take->spare = take->keep_reserve ? hkr_pool_above_reserve() : ULONG_MAX;
	while (take->want && take->look) {
		nr = hkr_claim_batch(ages, take, claims);
		if (!nr)
			break;
		sort(claims, nr, sizeof(*claims), hkr_by_place, NULL);
		hkr_zap_claims(claims, nr);
		for (i = 0; i < nr; i++) {
			if (!hkr_take_finish(&claims[i], take))
				continue;
			taken++;
			take->want--;
		}
	}
	return taken;
}
