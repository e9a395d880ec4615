// SPDX-License-Identifier: GPL-2.0
/*
 * Orphans: folios whose slot let go while something else still used them.
 *
 * After a zap a folio of ours ought to have one reference, ours. More means a
 * pin (O_DIRECT, an io_uring buffer, a pipe) or a passing reference (a zap
 * elsewhere that has not flushed its TLB yet, a lookup by pfn). Such a folio
 * must never reach another owner, so it goes on a list, charged to its user,
 * and the tick looks again. folio_ref_freeze() is the test: it succeeds only
 * when our reference is the last, and no new one can appear meanwhile.
 *
 * At unload nothing is waited for: our reference is dropped, and the folio goes
 * to the buddy allocator when its last user lets go.
 */

#include <linux/page_ref.h>
#include <linux/spinlock.h>

#include "hkr.h"
#include "trace.h"

static LIST_HEAD(hkr_orphan_list);	/* folio->lru; orphan_lock */
static DEFINE_SPINLOCK(orphan_lock);
static atomic_long_t hkr_nr_orphans;

/**
 * hkr_folio_is_ours - is our reference the only one
 * @folio: zapped, in no slot
 *
 * True is also the proof that no stale TLB entry is left: a zap elsewhere that
 * has not flushed yet holds a reference.
 */
bool hkr_folio_is_ours(struct folio *folio)
{
	if (!folio_ref_freeze(folio, 1))
		return false;
	folio_ref_unfreeze(folio, 1);
	return true;
}

/**
 * hkr_folio_release - a slot let go of a folio
 * @view: whose slot it was
 * @folio: not in any slot, not mapped
 *
 * The caller uncharges the slot. A folio that is still in use is charged to
 * the user again.
 */
void hkr_folio_release(struct hkr_view *view, struct folio *folio)
{
	/* single pages are never handed on: see mem.c */
	if (hkr_is_singles(folio) || hkr_folio_is_ours(folio)) {
		hkr_pool_give(folio);
		return;
	}
	/* memory_failure() holds a reference for ever */
	if (hkr_folio_give_up(folio))
		return;

	trace_hkr_orphan(folio_pfn(folio), view->user->uid, false);
	hkr_charge_orphan(view->user);
	atomic64_inc(&view->count.orphaned);
	folio->private = view->user;
	atomic_long_inc(&hkr_nr_orphans);
	spin_lock(&orphan_lock);
	list_add_tail(&folio->lru, &hkr_orphan_list);
	spin_unlock(&orphan_lock);
	hkr_tick_kick();
}

static void hkr_orphan_uncharge(struct folio *folio)
{
	struct hkr_user *user = folio->private;

	trace_hkr_orphan(folio_pfn(folio), user->uid, true);
	folio->private = NULL;
	hkr_uncharge_orphan(user);
}

/**
 * hkr_orphans_retry - take back the orphans that nobody uses any more
 *
 * Return: how many are left
 */
unsigned long hkr_orphans_retry(void)
{
	struct folio *folio, *next;
	LIST_HEAD(freed);

	if (!atomic_long_read(&hkr_nr_orphans))
		return 0;

	spin_lock(&orphan_lock);
	list_for_each_entry_safe(folio, next, &hkr_orphan_list, lru)
		if (hkr_folio_is_ours(folio))
			list_move(&folio->lru, &freed);
	spin_unlock(&orphan_lock);

	list_for_each_entry_safe(folio, next, &freed, lru) {
		list_del_init(&folio->lru);
		hkr_orphan_uncharge(folio);
		hkr_pool_give(folio);
		/* last: where none is left, all that they held is free */
		atomic_long_dec(&hkr_nr_orphans);
	}
	return atomic_long_read(&hkr_nr_orphans);
}

/**
 * hkr_orphans_exit - let go of all orphans; the tick has stopped
 */
void hkr_orphans_exit(void)
{
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, &hkr_orphan_list, lru) {
		list_del_init(&folio->lru);
		hkr_orphan_uncharge(folio);
		hkr_folio_leave(folio);
		atomic_long_dec(&hkr_nr_orphans);
	}
}

/**
 * hkr_orphans - folios that are waited for
 */
unsigned long hkr_orphans(void)
{
	return atomic_long_read(&hkr_nr_orphans);
}
