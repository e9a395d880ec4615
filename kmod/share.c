// SPDX-License-Identifier: GPL-2.0
/*
 * Shares: memory of several slots, each in another view, since a fork.
 *
 * A slot has memory of its own (slot->folio) or a share in memory (slot->share),
 * never both. A share counts its holders, which are slots. The rule that makes it
 * safe:
 *
 *   mapped means one holder; more than one holder means mapped nowhere
 *
 * Memory becomes shared only when it is zapped and has no reference but ours
 * (fork.c), so nobody can write to it, not even a device. Only a fault maps it
 * again. A fault that finds more holders copies, and drops its share after the
 * copy; one that finds itself the last makes the memory its slot's own, as it is
 * (adopts it). The count needs no lock: a slot that copies is a holder until it
 * has copied, so nobody adopts meanwhile; and it cannot grow from one behind a
 * fault's back, since only a fork of the slot's own process adds a holder, and
 * that has mmap_lock for writing where the fault has it for reading. Two who copy
 * at the same time may both find that the other was not the last; then the
 * memory is free, and nothing is lost but the pains.
 *
 * Shared memory is on no list by age, so it is neither sampled nor reported as
 * reclaimable nor taken by the shrinker, which could free nothing by taking one
 * share of two. The tick looks after it: an idle slot lets go of its share,
 * whatever its decay, because all that its contents are good for is to make the
 * other holder copy; and who is left alone adopts, and is then sampled as any
 * other slot.
 *
 * Charges: memory was charged with the slot that first had it. When it becomes
 * shared this charge is the share's, and the slots that hold it are *lent*, not
 * charged to the user but only counted in their view. A copy is charged to the
 * user when it is made; whoever is the last has the share's charge as its own.
 */

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "hkr.h"

struct hkr_share {
	atomic_t holders;	/* slots; more only under one's slot->lock */
	struct folio *folio;	/* names the memory; immutable */
};

static atomic_long_t hkr_nr_shares;

/**
 * hkr_shares - pieces of memory that are shared, or were until the last look
 */
unsigned long hkr_shares(void)
{
	return atomic_long_read(&hkr_nr_shares);
}

/**
 * hkr_share_alloc - for hkr_share_hold_locked(), to be kfree()d if not used
 */
struct hkr_share *hkr_share_alloc(void)
{
	return kzalloc(sizeof(struct hkr_share), HKR_GFP_RECORDS);
}

static void hkr_share_attach(struct hkr_view *view, struct hkr_slot *slot,
			     struct hkr_share *share)
{
	lockdep_assert_held(&slot->lock);
	WRITE_ONCE(slot->share, share);
	slot->lent = true;
	set_bit(slot->idx, view->sharing);
	atomic_long_inc(&view->shared);
}

static struct hkr_share *hkr_share_detach(struct hkr_view *view,
					  struct hkr_slot *slot)
{
	struct hkr_share *share = slot->share;

	lockdep_assert_held(&slot->lock);
	WRITE_ONCE(slot->share, NULL);
	clear_bit(slot->idx, view->sharing);
	atomic_long_dec(&view->shared);
	return share;
}

static struct folio *hkr_share_end(struct hkr_share *share)
{
	struct folio *folio = share->folio;

	kfree(share);
	atomic_long_dec(&hkr_nr_shares);
	return folio;
}

/**
 * hkr_share_hold_locked - one more holder of a slot's memory
 * @view: of the process that forks, which holds its mmap_lock for writing
 * @slot: a slot of it, locked and zapped
 * @spare: from hkr_share_alloc(); set to NULL when it is used
 *
 * Return: the share, for hkr_share_join_locked(); NULL: there is no memory, or
 * somebody uses it still, and it stays the slot's own
 */
struct hkr_share *hkr_share_hold_locked(struct hkr_view *view,
					struct hkr_slot *slot,
					struct hkr_share **spare)
{
	struct folio *folio = slot->folio;
	struct hkr_share *share = slot->share;

	lockdep_assert_held(&slot->lock);
	if (share) {
		atomic_inc(&share->holders);
		return share;
	}
	if (!folio)
		return NULL;
	hkr_mem_lock(folio);
	/*
	 * Nobody takes a reference any more: the zap is over, and a new mapping
	 * needs mmap_lock. What lockless GUP took before the zap is seen here.
	 */
	if (!hkr_mem_is_used(folio)) {
		share = *spare;
		*spare = NULL;
		share->folio = folio;
		atomic_set(&share->holders, 2);
		atomic_long_inc(&hkr_nr_shares);
		hkr_slot_detach_locked(view, slot);
		hkr_share_attach(view, slot, share);
	}
	hkr_mem_unlock(folio);
	return share;
}

/**
 * hkr_share_join_locked - a slot becomes the holder that was counted for it
 * @view: of the child
 * @slot: a slot of it, locked, lent and without memory
 * @share: from hkr_share_hold_locked()
 */
void hkr_share_join_locked(struct hkr_view *view, struct hkr_slot *slot,
			   struct hkr_share *share)
{
	hkr_share_attach(view, slot, share);
}

/**
 * hkr_share_move_locked - another slot of the same view holds a share from now on
 * @view: of both
 * @from: locked, with a share
 * @to: locked, without memory; the caller swaps who is lent
 */
void hkr_share_move_locked(struct hkr_view *view, struct hkr_slot *from,
			   struct hkr_slot *to)
{
	bool lent = to->lent;

	hkr_share_attach(view, to, hkr_share_detach(view, from));
	to->lent = lent;
}

/**
 * hkr_share_drop_locked - a slot lets go of its share
 * @view: its view
 * @slot: locked, with a share
 *
 * Return: NULL; or, where it was the last holder, the memory, which was charged
 * to this slot then and is for the caller to release
 */
struct folio *hkr_share_drop_locked(struct hkr_view *view,
				    struct hkr_slot *slot)
{
	struct hkr_share *share = hkr_share_detach(view, slot);

	/* a full barrier: what was read for a copy was read before */
	if (!atomic_dec_and_test(&share->holders))
		return NULL;
	slot->lent = false;
	return hkr_share_end(share);
}

/**
 * hkr_share_adopt_locked - the last holder has the memory as its own
 * @view: its view
 * @slot: locked, perhaps with a share
 *
 * Return: false when there is no share, or another holder
 */
bool hkr_share_adopt_locked(struct hkr_view *view, struct hkr_slot *slot)
{
	struct hkr_share *share = slot->share;

	lockdep_assert_held(&slot->lock);
	/*
	 * Acquire: pairs with the decrement in hkr_share_drop_locked(). Whoever
	 * read the memory for a copy is done before we let anybody write.
	 */
	if (!share || atomic_read_acquire(&share->holders) != 1)
		return false;
	hkr_share_detach(view, slot);
	slot->lent = false;
	hkr_slot_install_locked(view, slot->idx, slot, share->folio);
	/* last: while nothing counts as shared, all memory counts as slots' */
	hkr_share_end(share);
	return true;
}

/**
 * hkr_share_copy_locked - a lent slot gets memory of its own, at a touch
 * @view: its view
 * @slot: locked and lent; where it has no share, there was nothing to share
 * @own: zeroed memory that it is to have
 *
 * Return: false, with nothing changed but @own, where a cap or poison forbids it
 */
bool hkr_share_copy_locked(struct hkr_view *view, struct hkr_slot *slot,
			   struct folio *own)
{
	struct folio *last = NULL;

	lockdep_assert_held(&slot->lock);
	if (hkr_charge_touch(view))
		return false;
	if (slot->share) {
		if (!hkr_mem_copy(own, slot->share->folio)) {
			hkr_uncharge_shared(view);
			return false;
		}
		last = hkr_share_drop_locked(view, slot);
		atomic64_inc(&view->count.copied);
	}
	slot->lent = false;
	hkr_slot_install_locked(view, slot->idx, slot, own);
	if (last) {
		/* the others went while we copied */
		hkr_uncharge_shared(view);
		hkr_folio_release(view, last);
	}
	return true;
}

/* an idle slot becomes empty; @folio: out, what it was the last holder of */
static void hkr_share_let_go_locked(struct hkr_view *view,
				    struct hkr_slot *slot,
				    struct folio **folio)
{
	u64 *word = hkr_word(view, slot->idx);
	u64 seen = READ_ONCE(*word);

	lockdep_assert_held(&slot->lock);
	if (HKR_WORD_STATE(seen) != HKR_WORD_IDLE)
		return;
	/* as in take.c; there is nothing to zap, shared memory is not mapped */
	if (cmpxchg(word, seen, hkr_word_reclaim(slot)) != seen)
		return;
	*folio = hkr_share_drop_locked(view, slot);
	hkr_slot_free_locked(view, slot->idx, slot);
	atomic64_inc(&view->count.reclaimed);
}

/**
 * hkr_share_tick - look after the shares of a view
 * @view: kept from ending by the caller; need not be locked
 *
 * Waits for no lock; what it did not get it sees at the next tick.
 */
void hkr_share_tick(struct hkr_view *view)
{
	unsigned long idx;

	if (!atomic_long_read(&view->shared))
		return;
	for_each_set_bit(idx, view->sharing, view->nr_slots) {
		struct hkr_slot *slot = hkr_slot(view, idx);
		struct folio *folio = NULL;

		if (!mutex_trylock(&slot->lock))
			continue;
		if (slot->share && slot->state == HKR_HANDED && !slot->held &&
		    !hkr_share_adopt_locked(view, slot))
			hkr_share_let_go_locked(view, slot, &folio);
		mutex_unlock(&slot->lock);
		if (folio)
			hkr_folio_release(view, folio);
		cond_resched();
	}
}
