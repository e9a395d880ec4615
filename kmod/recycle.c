// SPDX-License-Identifier: GPL-2.0
/*
 * RECYCLE: MADV_DONTNEED and its relations for runs of slots.
 *
 * The owner asks, so the words are only brought up to date here; what may be
 * recycled is decided by the records: every slot of the run must be HANDED.
 * Each mode checks the whole run first and then cannot fail.
 *
 * A run is unmapped by one zap. A fault that is under way holds the folio lock
 * and may map one slot again after it: hkr_slot_remove_locked() sees to that.
 */

#include <linux/slab.h>

#include "hkr.h"
#include "trace.h"

static void hkr_unhold_run_locked(struct hkr_view *view, unsigned long first,
				  unsigned long nr)
{
	unsigned long idx;

	lockdep_assert_held(&view->lock);
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		mutex_lock(&slot->lock);
		slot->held = false;
		mutex_unlock(&slot->lock);
	}
}

/*
 * From here on reclaim leaves the run alone, idle or not, so that what was
 * found once stays true until the view's lock is dropped.
 */
static int hkr_hold_run_locked(struct hkr_view *view, u64 first, u64 nr)
{
	unsigned long idx;
	int ret;

	lockdep_assert_held(&view->lock);
	ret = hkr_check_range(view, first, nr);
	if (ret)
		return ret;
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		if (!slot) {
			ret = -ENXIO;
			break;
		}
		mutex_lock(&slot->lock);
		if (slot->state == HKR_FREE)
			ret = -ENXIO;
		else if (slot->state != HKR_HANDED)
			ret = -EBUSY;
		else
			slot->held = true;
		mutex_unlock(&slot->lock);
		if (ret)
			break;
	}
	if (ret)
		hkr_unhold_run_locked(view, first, idx - first);
	return ret;
}

/* no new fault may start in the run, and the owner sees that it is going */
static void hkr_close_run_locked(struct hkr_view *view, unsigned long first,
				 unsigned long nr)
{
	unsigned long idx;

	lockdep_assert_held(&view->lock);
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		mutex_lock(&slot->lock);
		slot->state = HKR_CLOSING;
		hkr_word_set_locked(view, idx, slot, HKR_WORD_RECLAIM, 0);
		mutex_unlock(&slot->lock);
	}
	hkr_zap(view, first, nr);
}

static int hkr_drop_locked(struct hkr_view *view, const struct hkr_range *range)
{
	unsigned long first = range->first, nr = range->nr_slots, idx;
	int ret;

	ret = hkr_hold_run_locked(view, first, nr);
	if (ret)
		return ret;
	hkr_close_run_locked(view, first, nr);
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);
		struct folio *folio;

		mutex_lock(&slot->lock);
		folio = hkr_slot_remove_locked(view, idx, slot);
		hkr_slot_free_locked(view, idx, slot);
		mutex_unlock(&slot->lock);
		if (folio)
			hkr_folio_release(view, folio);
	}
	atomic64_add(nr, &view->count.dropped);
	return 0;
}

static int hkr_idle_locked(struct hkr_view *view, const struct hkr_range *range)
{
	unsigned long first = range->first, nr = range->nr_slots, idx;
	int ret;

	ret = hkr_hold_run_locked(view, first, nr);
	if (ret)
		return ret;
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		mutex_lock(&slot->lock);
		slot->held = false;
		hkr_word_set_locked(view, idx, slot, HKR_WORD_IDLE,
				    hkr_epoch());
		mutex_unlock(&slot->lock);
	}
	atomic64_add(nr, &view->count.idled);
	return 0;
}

/* @folios has one for each slot of the run, which was checked */
static void hkr_refresh_locked(struct hkr_view *view,
			       const struct hkr_range *range,
			       struct list_head *folios)
{
	unsigned long first = range->first, nr = range->nr_slots, idx;

	lockdep_assert_held(&view->lock);
	/* a single slot is zapped where its old memory is removed */
	if (nr > 1)
		hkr_zap(view, first, nr);
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);
		struct folio *new = list_first_entry(folios, struct folio, lru);
		struct folio *old;

		list_del_init(&new->lru);
		mutex_lock(&slot->lock);
		old = hkr_slot_remove_locked(view, idx, slot);
		/* within the caps: the caller has charged the new memory */
		if (slot->lent)
			hkr_charge_settle(view);
		slot->lent = false;
		hkr_slot_install_locked(view, idx, slot, new);
		slot->held = false;
		hkr_word_set_locked(view, idx, slot, HKR_WORD_BUSY, 0);
		mutex_unlock(&slot->lock);
		if (old)
			hkr_folio_release(view, old);
	}
	atomic64_add(nr, &view->count.refreshed);
}

/*
 * Gathers without the lock, and so checks the run twice. The new memory is
 * charged beside the old until the old is gone, or for good where a pin makes
 * an orphan of it: the caps hold for FRESH as well.
 */
static int hkr_fresh(struct hkr_view *view, const struct hkr_range *range)
{
	LIST_HEAD(folios);
	int ret;

	ret = hkr_view_enter(view);
	if (ret)
		return ret;
	ret = hkr_hold_run_locked(view, range->first, range->nr_slots);
	if (!ret) {
		hkr_unhold_run_locked(view, range->first, range->nr_slots);
		ret = hkr_charge(view, range->nr_slots);
	}
	hkr_view_leave(view);
	if (ret)
		return ret;

	ret = hkr_gather(view, HKR_NODE_ANY, range->nr_slots, &folios);
	/* not in the middle of a fork; not killable: the charge must be given back */
	mmap_read_lock(view->mm);
	mutex_lock(&view->lock);
	if (!ret && view->phase != HKR_MAPPED)
		ret = -EBADFD;
	if (!ret)
		ret = hkr_hold_run_locked(view, range->first, range->nr_slots);
	if (!ret)
		hkr_refresh_locked(view, range, &folios);
	hkr_uncharge(view, range->nr_slots);
	mutex_unlock(&view->lock);
	mmap_read_unlock(view->mm);
	hkr_give_back(&folios, 0);
	return ret;
}

static int hkr_hold_move_locked(struct hkr_view *view,
				const struct hkr_range *range)
{
	u64 first = range->first, to = range->to, nr = range->nr_slots, idx;
	int ret;

	ret = hkr_hold_run_locked(view, first, nr);
	if (ret)
		return ret;
	if (to < first + nr && first < to + nr) {
		ret = -EINVAL;
		goto unhold_source;
	}
	ret = hkr_hold_run_locked(view, to, nr);
	if (ret)
		goto unhold_source;
	for (idx = to; idx < to + nr; idx++)
		if (READ_ONCE(hkr_slot(view, idx)->folio) ||
		    READ_ONCE(hkr_slot(view, idx)->share))
			ret = -EEXIST;
	if (!ret)
		return 0;
	hkr_unhold_run_locked(view, to, nr);
unhold_source:
	hkr_unhold_run_locked(view, first, nr);
	return ret;
}

/*
 * A pin does not hinder a move: contents and owner stay the same, as with
 * mremap() of pinned memory.
 */
static void hkr_move_slot_locked(struct hkr_view *view, unsigned long from,
				 unsigned long to)
{
	struct hkr_slot *src = hkr_slot(view, from);
	struct hkr_slot *dst = hkr_slot(view, to);
	struct folio *folio, *unused;

	lockdep_assert_held(&view->lock);
	mutex_lock(&src->lock);
	/* nobody else ever holds two: the view's lock is ours */
	mutex_lock_nested(&dst->lock, SINGLE_DEPTH_NESTING);
	/* a touch between the check and the closing may have backed it */
	unused = hkr_slot_remove_locked(view, to, dst);
	folio = src->share ? NULL : hkr_slot_remove_locked(view, from, src);
	if (folio)
		hkr_slot_install_locked(view, to, dst, folio);
	else if (src->share)
		hkr_share_move_locked(view, src, dst);
	/* what is charged for the memory goes with it */
	swap(src->lent, dst->lent);
	dst->held = false;
	hkr_slot_publish_locked(view, to, dst);
	hkr_slot_free_locked(view, from, src);
	mutex_unlock(&dst->lock);
	mutex_unlock(&src->lock);
	if (unused)
		hkr_folio_release(view, unused);
}

static int hkr_move_locked(struct hkr_view *view, const struct hkr_range *range)
{
	unsigned long nr = range->nr_slots, i;
	int ret;

	ret = hkr_hold_move_locked(view, range);
	if (ret)
		return ret;
	hkr_close_run_locked(view, range->first, nr);
	hkr_close_run_locked(view, range->to, nr);
	for (i = 0; i < nr; i++)
		hkr_move_slot_locked(view, range->first + i, range->to + i);
	atomic64_add(nr, &view->count.moved);
	return 0;
}

/* the modes that need no new memory */
static int hkr_recycle_now(struct hkr_view *view, u32 mode,
			   const struct hkr_range *range)
{
	int ret;

	if (!view)
		return -EPERM;
	/* not in the middle of a fork: see fork.c */
	if (mmap_read_lock_killable(view->mm))
		return -EINTR;
	ret = hkr_view_enter(view);
	if (ret)
		goto unlock_mm;
	if (mode == HKR_RECYCLE_DROP)
		ret = hkr_drop_locked(view, range);
	else if (mode == HKR_RECYCLE_IDLE)
		ret = hkr_idle_locked(view, range);
	else
		ret = hkr_move_locked(view, range);
	hkr_view_leave(view);
unlock_mm:
	mmap_read_unlock(view->mm);
	return ret;
}

/**
 * hkr_recycle - recycle one run
 * @view: of the caller's file, not locked
 * @mode: HKR_RECYCLE_*, checked by the caller
 * @range: the run
 *
 * Return: 0 or -errno, with nothing changed
 */
int hkr_recycle(struct hkr_view *view, u32 mode, struct hkr_range *range)
{
	int ret;

	if (mode != HKR_RECYCLE_MOVE && range->to)
		ret = -EINVAL;
	else if (mode == HKR_RECYCLE_FRESH)
		ret = hkr_fresh(view, range);
	else
		ret = hkr_recycle_now(view, mode, range);
	trace_hkr_recycle(view, mode, range, ret);
	return ret;
}
