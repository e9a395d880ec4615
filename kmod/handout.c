// SPDX-License-Identifier: GPL-2.0
/*
 * HANDOUT: a run of slots becomes its owner's.
 *
 * Under the view's lock a run is found, charged and marked FILLING; without it
 * memory is gathered, which may zero and takes time; under it again the run is
 * published, all slots or none. A FILLING slot belongs to the HANDOUT that
 * marked it (slot->filler) and to nobody else: it may not fault, and RECYCLE,
 * TRIM, the end of the mapping and other HANDOUTs leave it alone. That matters
 * for AT: while its memory is gathered, a slot of its run that it left as it was
 * may be dropped and handed out again.
 */

#include <linux/bitmap.h>
#include <linux/nodemask.h>
#include <linux/sched/signal.h>

#include "hkr.h"
#include "trace.h"

#define HKR_HANDOUT_FLAGS \
	(HKR_HANDOUT_COMMIT | HKR_HANDOUT_AT | HKR_HANDOUT_FROM_IDLE)

/* one request at work */
struct hkr_run {
	unsigned long first;
	unsigned long nr;
	unsigned long nr_filling;	/* of nr: less than all only with AT */
	unsigned long nr_folios;	/* on @folios */
	unsigned long nr_unzeroed;	/* of nr_folios */
	struct list_head folios;	/* folio->lru */
};

/**
 * hkr_check_range - is a run inside the arena
 * @view: set up
 * @first: first slot
 * @nr: slots
 *
 * Return: 0, -EINVAL for an empty run, -ERANGE
 */
int hkr_check_range(struct hkr_view *view, u64 first, u64 nr)
{
	if (!nr)
		return -EINVAL;
	if (first >= view->nr_slots || nr > view->nr_slots - first)
		return -ERANGE;
	return 0;
}

static int hkr_handout_check(struct hkr_view *view,
			     const struct hkr_handout_req *req)
{
	if (req->flags & ~HKR_HANDOUT_FLAGS)
		return -EOPNOTSUPP;
	if (req->__reserved)
		return -EINVAL;
	if ((req->flags & HKR_HANDOUT_FROM_IDLE) &&
	    !(req->flags & HKR_HANDOUT_COMMIT))
		return -EINVAL;
	if (!(req->flags & HKR_HANDOUT_AT) && req->first)
		return -EINVAL;
	if (req->node != HKR_NODE_ANY &&
	    (req->node < 0 || req->node >= nr_node_ids ||
	     !node_online(req->node)))
		return -ENXIO;
	return hkr_check_range(view, req->first, req->nr_slots);
}

/* how many slots of an AT run are free, or -EBUSY, -EEXIST */
static long hkr_count_free_locked(struct hkr_view *view, unsigned long first,
				  unsigned long nr)
{
	unsigned long idx;
	long nr_free = 0;

	lockdep_assert_held(&view->lock);
	for (idx = first; idx < first + nr; idx++) {
		struct hkr_slot *slot;

		if (!test_bit(idx, view->taken)) {
			nr_free++;
			continue;
		}
		slot = hkr_slot(view, idx);
		if (READ_ONCE(slot->state) == HKR_FILLING)
			return -EBUSY;
	}
	return nr_free ?: -EEXIST;
}

/*
 * The first run of free slots. Those that once were mapped by PTEs come last,
 * since a folio there costs 512 faults, but first while memory is scattered:
 * single pages do them no further harm.
 */
static unsigned long hkr_find_free_locked(struct hkr_view *view,
					  unsigned long nr, bool any)
{
	unsigned long first = 0, hit;

	lockdep_assert_held(&view->lock);
	while (true) {
		first = bitmap_find_next_zero_area(view->taken, view->nr_slots,
						   first, nr, 0);
		if (any || first >= view->nr_slots)
			return first;
		hit = find_next_bit(view->tables, first + nr, first);
		if (hit >= first + nr)
			return first;
		first = hit + 1;
	}
}

static int hkr_find_run_locked(struct hkr_view *view,
			       const struct hkr_handout_req *req,
			       struct hkr_run *run)
{
	bool scattered;
	long nr_free;

	lockdep_assert_held(&view->lock);
	run->nr = req->nr_slots;
	if (!(req->flags & HKR_HANDOUT_AT)) {
		scattered = hkr_is_scattered();
		run->first = hkr_find_free_locked(view, run->nr, scattered);
		if (run->first >= view->nr_slots)
			run->first = hkr_find_free_locked(view, run->nr, true);
		run->nr_filling = run->nr;
		return run->first < view->nr_slots ? 0 : -ENOSPC;
	}
	nr_free = hkr_count_free_locked(view, req->first, req->nr_slots);
	if (nr_free < 0)
		return nr_free;
	run->first = req->first;
	run->nr_filling = nr_free;
	return 0;
}

static int hkr_make_records(struct hkr_view *view, const struct hkr_run *run)
{
	unsigned long idx;
	int ret = 0;

	for (idx = run->first; !ret && idx < run->first + run->nr; idx++)
		ret = hkr_slot_make(view, idx);
	return ret;
}

/* every free slot of the run, and nr_filling says how many these were */
static void hkr_mark_filling_locked(struct hkr_view *view, struct hkr_run *run)
{
	unsigned long idx;

	lockdep_assert_held(&view->lock);
	run->nr_filling = 0;
	for (idx = run->first; idx < run->first + run->nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		mutex_lock(&slot->lock);
		if (slot->state == HKR_FREE) {
			slot->state = HKR_FILLING;
			slot->filler = run;
			set_bit(idx, view->taken);
			run->nr_filling++;
		}
		mutex_unlock(&slot->lock);
	}
}

/* the run as it was before hkr_reserve_run_locked() */
static void hkr_unmark_filling_locked(struct hkr_view *view,
				      struct hkr_run *run)
{
	unsigned long idx;

	lockdep_assert_held(&view->lock);
	for (idx = run->first; idx < run->first + run->nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		if (slot->filler != run)
			continue;
		slot->filler = NULL;
		mutex_lock(&slot->lock);
		slot->state = HKR_FREE;
		clear_bit(idx, view->taken);
		mutex_unlock(&slot->lock);
	}
}

/*
 * FROM_IDLE gives the charge of the slots it takes back as well. It takes none
 * when the caps could not be met even so.
 */
static int hkr_from_idle_locked(struct hkr_view *view, struct hkr_run *run)
{
	struct hkr_idle_want want = {
		.max = run->nr_filling,
		.why = HKR_WHY_FROM_IDLE,
		.with_memory = true,
		/* what is handed out of the run itself stays as it is */
		.skip_first = run->first,
		.skip_nr = run->nr,
	};
	unsigned long room = hkr_room(view);
	struct list_head *pos;

	lockdep_assert_held(&view->lock);
	if (run->nr_filling > room &&
	    run->nr_filling - room > hkr_count_idle(view))
		return -EDQUOT;
	hkr_take_idle_locked(view, &want, &run->folios);
	list_for_each(pos, &run->folios)
		run->nr_folios++;
	run->nr_unzeroed = run->nr_folios;
	return 0;
}

static int hkr_reserve_run_locked(struct hkr_view *view,
				  const struct hkr_handout_req *req,
				  struct hkr_run *run)
{
	unsigned long charged;
	int ret;

	lockdep_assert_held(&view->lock);
	ret = hkr_find_run_locked(view, req, run);
	if (ret)
		return ret;
	if (req->flags & HKR_HANDOUT_FROM_IDLE) {
		ret = hkr_from_idle_locked(view, run);
		if (ret)
			return ret;
	}
	/* before the records: a cap also bounds what they cost */
	charged = run->nr_filling;
	ret = hkr_charge(view, charged);
	if (ret)
		return ret;
	ret = hkr_make_records(view, run);
	if (ret)
		goto uncharge;
	hkr_mark_filling_locked(view, run);
	/* reclaim may have freed more of an AT run since it was counted */
	if (run->nr_filling > charged)
		ret = hkr_charge(view, run->nr_filling - charged);
	if (!ret)
		return 0;
	hkr_unmark_filling_locked(view, run);
uncharge:
	hkr_uncharge(view, charged);
	return ret;
}

/**
 * hkr_gather - zeroed folios for a run
 * @view: set up, not locked
 * @node: node to prefer, or HKR_NODE_ANY
 * @nr: how many
 * @folios: list to add them to
 *
 * Return: 0; -ENOMEM or -EINTR with what was found still on the list
 */
int hkr_gather(struct hkr_view *view, int node, unsigned long nr,
	       struct list_head *folios)
{
	while (nr--) {
		struct folio *folio;

		if (fatal_signal_pending(current))
			return -EINTR;
		folio = hkr_view_take_folio(view, node);
		if (!folio)
			return -ENOMEM;
		list_add_tail(&folio->lru, folios);
		cond_resched();
	}
	return 0;
}

/**
 * hkr_give_back - folios that were gathered and not used
 * @folios: list of them; empty afterwards
 * @nr_unzeroed: how many at the head of the list are not zero
 */
void hkr_give_back(struct list_head *folios, unsigned long nr_unzeroed)
{
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, folios, lru) {
		list_del_init(&folio->lru);
		if (nr_unzeroed) {
			nr_unzeroed--;
			hkr_pool_give(folio);
		} else {
			hkr_pool_give_clean(folio);
		}
	}
}

static void hkr_publish_run_locked(struct hkr_view *view, struct hkr_run *run)
{
	unsigned long idx;

	lockdep_assert_held(&view->lock);
	for (idx = run->first; idx < run->first + run->nr; idx++) {
		struct hkr_slot *slot = hkr_slot(view, idx);
		struct folio *folio;

		if (slot->filler != run)
			continue;
		slot->filler = NULL;
		folio = list_first_entry_or_null(&run->folios, struct folio,
						 lru);
		if (folio)
			list_del_init(&folio->lru);
		mutex_lock(&slot->lock);
		if (folio)
			hkr_slot_install_locked(view, idx, slot, folio);
		hkr_slot_publish_locked(view, idx, slot);
		mutex_unlock(&slot->lock);
	}
}

static int hkr_fill_run(struct hkr_view *view, struct hkr_handout_req *req,
			struct hkr_run *run)
{
	int ret = 0;

	if (req->flags & HKR_HANDOUT_COMMIT)
		ret = hkr_gather(view, req->node,
				 run->nr_filling - run->nr_folios,
				 &run->folios);

	/*
	 * Not in the middle of a fork: see fork.c. Not killable: the run is marked, and
	 * somebody must unmark it.
	 */
	mmap_read_lock(view->mm);
	mutex_lock(&view->lock);
	if (!ret && view->phase != HKR_MAPPED)
		ret = -EBADFD;
	if (ret) {
		hkr_unmark_filling_locked(view, run);
		hkr_uncharge(view, run->nr_filling);
	} else {
		hkr_publish_run_locked(view, run);
	}
	mutex_unlock(&view->lock);
	mmap_read_unlock(view->mm);
	return ret;
}

/**
 * hkr_handout - meet one request
 * @view: of the caller's file, not locked
 * @req: in and out, but for @result
 *
 * Return: 0 or -errno, with nothing handed out
 */
int hkr_handout(struct hkr_view *view, struct hkr_handout_req *req)
{
	struct hkr_run run = { .folios = LIST_HEAD_INIT(run.folios) };
	int ret;

	ret = hkr_view_enter(view);
	if (ret)
		return ret;
	ret = hkr_handout_check(view, req);
	if (!ret)
		ret = hkr_reserve_run_locked(view, req, &run);
	hkr_view_leave(view);
	if (!ret)
		ret = hkr_fill_run(view, req, &run);
	trace_hkr_handout(view, req, run.first, run.nr_unzeroed, ret);
	if (ret) {
		hkr_give_back(&run.folios, run.nr_unzeroed);
		return ret;
	}

	WARN_ON_ONCE(!list_empty(&run.folios));
	atomic64_add(run.nr_filling, &view->count.handouts);
	atomic64_add(run.nr_unzeroed, &view->count.served_idle);
	hkr_tick_start(view);
	req->first = run.first;
	req->nr_zeroed = run.nr_filling - run.nr_unzeroed;
	return 0;
}
