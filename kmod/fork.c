// SPDX-License-Identifier: GPL-2.0
/*
 * fork(): a child gets a view of its own, as of one moment.
 *
 * The core copies the VMAs of a process and calls .open for each copy, whoever
 * asked for it: fork(), _Fork(), clone(). It copies no page tables, since the
 * mapping is shared and neither PFNMAP nor MIXEDMAP. Meanwhile it holds the
 * mmap_lock of the parent for writing, and without .map_pages the core never
 * calls our .fault under less than that lock for reading. So:
 *
 *   - From the zap of a mapping in .open to the end of the fork no thread of the
 *     parent gets past an access to it, nor does ptrace or lockless GUP. A
 *     thread that writes to slots one after another is stopped at the first that
 *     is zapped: what it had written before is in the child's image, what it
 *     writes later is not. That is a cut as consistent as the one of private
 *     memory, which is write-protected page by page just so.
 *   - Commands of the parent do not touch what is mapped. Those that change what
 *     slots there are, or whose memory is whose, do so under mmap_lock for reading
 *     (HANDOUT and FRESH publish under it, DROP and MOVE are all under it): before
 *     the fork, or after it. In the middle of it one would be in the memory that
 *     the core has yet to copy, where a thread puts what the command returned, but
 *     not in the child's view. mmap(), mremap() and madvise() wait just so.
 *   - The control pages are zapped first, or words would change while they are
 *     read. Then every slot whose word is BUSY is noted as the child's too; all
 *     else is empty in the child: idle contents are disposable. Then the noted
 *     slots are zapped, neighbours together, and only then shared (share.c): what
 *     is shared or copied before is torn by a parent that writes.
 *   - Memory that still has another reference after the zap is pinned, by a
 *     device or io_uring: it stays where it is, with the parent, and the child
 *     gets a copy now. That is also what a passing reference costs.
 *
 * Either of the two mappings may come first, be in parts, or be missing
 * (munmap(), MADV_DONTFORK). The first makes the child's view and the others
 * find it, by file and mm. Each arena VMA brings the slots that it has a part of.
 *
 * .open cannot fail. Without memory the copied VMA is without a view, and every
 * access of the child is SIGBUS; the parent has lost nothing: its slots may have
 * a share that nobody else holds, which the next touch or tick makes their own.
 *
 * A view is ended by the .close of its last VMA: when the child unmaps, executes
 * or exits, or when the fork fails later on, then perhaps with the parent's
 * mmap_lock held, so nothing on that way takes it.
 */

#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "hkr.h"

/* slots of one arena VMA */
struct hkr_span {
	unsigned long first;
	unsigned long end;
};

static struct hkr_span hkr_span_of(struct hkr_view *view,
				   struct vm_area_struct *vma)
{
	unsigned long end = vma->vm_pgoff + vma_pages(vma);

	return (struct hkr_span){
		.first = vma->vm_pgoff >> HKR_SLOT_ORDER,
		.end = min(DIV_ROUND_UP(end, HKR_SLOT_PAGES), view->nr_slots),
	};
}

/* is the slot busy? then it stays as it is until hkr_unhold_span_locked() */
static bool hkr_hold_busy_locked(struct hkr_view *view, unsigned long idx,
				 u32 *gen)
{
	struct hkr_slot *slot = hkr_slot(view, idx);
	bool busy;

	lockdep_assert_held(&view->lock);
	mutex_lock(&slot->lock);
	busy = slot->state == HKR_HANDED &&
	       HKR_WORD_STATE(READ_ONCE(*hkr_word(view, idx))) ==
	       HKR_WORD_BUSY;
	slot->held = busy;
	*gen = slot->gen;
	mutex_unlock(&slot->lock);
	return busy;
}

static void hkr_unhold_span_locked(struct hkr_view *view,
				   const struct hkr_span *span)
{
	unsigned long idx = span->first;

	lockdep_assert_held(&view->lock);
	for_each_set_bit_from(idx, view->taken, span->end) {
		struct hkr_slot *slot = hkr_slot(view, idx);

		mutex_lock(&slot->lock);
		slot->held = false;
		mutex_unlock(&slot->lock);
	}
}

/* the child's record and word; its memory comes later */
static void hkr_note_slot_locked(struct hkr_view *child, unsigned long idx,
				 u32 gen)
{
	struct hkr_slot *slot = hkr_slot(child, idx);

	lockdep_assert_held(&child->lock);
	mutex_lock(&slot->lock);
	/* a slot in two VMAs comes twice */
	if (slot->state == HKR_FREE) {
		hkr_charge_lent(child);
		set_bit(idx, child->taken);
		slot->state = HKR_HANDED;
		slot->lent = true;
		slot->gen = gen;
		hkr_word_set_locked(child, idx, slot, HKR_WORD_BUSY, 0);
	}
	mutex_unlock(&slot->lock);
}

static int hkr_note_span_locked(struct hkr_view *parent, struct hkr_view *child,
				const struct hkr_span *span)
{
	unsigned long idx = span->first;
	u32 gen;
	int ret;

	lockdep_assert_held(&parent->lock);
	for_each_set_bit_from(idx, parent->taken, span->end) {
		if (!hkr_hold_busy_locked(parent, idx, &gen))
			continue;
		ret = hkr_slot_make(child, idx);
		if (ret)
			return ret;
		hkr_note_slot_locked(child, idx, gen);
		cond_resched();
	}
	return 0;
}

static void hkr_zap_span_locked(struct hkr_view *child,
				const struct hkr_span *span)
{
	unsigned long first = span->first, next;

	lockdep_assert_held(&child->lock);
	while (true) {
		first = find_next_bit(child->taken, span->end, first);
		if (first >= span->end)
			return;
		next = find_next_zero_bit(child->taken, span->end, first);
		hkr_zap(child, first, next - first);
		first = next;
	}
}

/* pinned: the parent keeps it, the child has a copy */
static int hkr_copy_now_locked(struct hkr_view *parent, struct hkr_view *child,
			       unsigned long idx)
{
	struct hkr_slot *from = hkr_slot(parent, idx);
	struct hkr_slot *to = hkr_slot(child, idx);
	/* a task that is being forked is in no cgroup yet */
	struct folio *own = hkr_view_take_folio(parent, HKR_NODE_ANY);
	bool copied;
	int ret;

	if (!own)
		return -ENOMEM;
	ret = hkr_charge_touch(child);
	if (ret)
		goto give_back;
	mutex_lock(&from->lock);
	copied = from->folio && hkr_mem_copy(own, from->folio);
	mutex_unlock(&from->lock);

	mutex_lock(&to->lock);
	if (copied) {
		to->lent = false;
		hkr_slot_install_locked(child, idx, to, own);
		atomic64_inc(&child->count.copied);
	} else {
		/* poisoned: an access is SIGBUS */
		hkr_slot_free_locked(child, idx, to);
	}
	mutex_unlock(&to->lock);
	if (copied)
		return 0;
	hkr_uncharge_shared(child);
give_back:
	hkr_pool_give(own);
	return ret;
}

static int hkr_share_slot_locked(struct hkr_view *parent,
				 struct hkr_view *child, unsigned long idx)
{
	struct hkr_slot *from = hkr_slot(parent, idx);
	struct hkr_slot *to = hkr_slot(child, idx);
	struct hkr_share *spare, *share;
	bool used;

	if (READ_ONCE(to->share) || READ_ONCE(to->folio))
		return 0;
	spare = hkr_share_alloc();
	if (!spare)
		return -ENOMEM;
	mutex_lock(&from->lock);
	share = hkr_share_hold_locked(parent, from, &spare);
	used = !share && from->folio;
	mutex_unlock(&from->lock);
	kfree(spare);
	if (used)
		return hkr_copy_now_locked(parent, child, idx);
	if (!share)
		return 0;
	mutex_lock(&to->lock);
	hkr_share_join_locked(child, to, share);
	mutex_unlock(&to->lock);
	return 0;
}

static int hkr_snapshot_locked(struct hkr_view *parent, struct hkr_view *child,
			       const struct hkr_span *span)
{
	unsigned long idx = span->first;
	int ret;

	lockdep_assert_held(&parent->lock);
	lockdep_assert_held(&child->lock);
	hkr_zap_control(parent);
	ret = hkr_note_span_locked(parent, child, span);
	if (ret)
		goto unhold;
	hkr_zap_span_locked(child, span);
	for_each_set_bit_from(idx, child->taken, span->end) {
		ret = hkr_share_slot_locked(parent, child, idx);
		if (ret)
			break;
		cond_resched();
	}
unhold:
	hkr_unhold_span_locked(parent, span);
	return ret;
}

/**
 * hkr_fork_arena - an arena VMA was copied by a fork
 * @vma: the child's
 * @parent: view of the process that forks
 *
 * Under both mmap_locks, as hkr_fork_control().
 */
void hkr_fork_arena(struct vm_area_struct *vma, struct hkr_view *parent)
{
	struct hkr_span span = hkr_span_of(parent, vma);
	struct hkr_view *child = hkr_view_inherit(parent, vma->vm_mm);
	int ret;

	vma->vm_private_data = child;
	if (!child)
		return;
	mutex_lock(&parent->lock);
	/* nobody else ever holds two, and never a child's before its parent's */
	mutex_lock_nested(&child->lock, SINGLE_DEPTH_NESTING);
	ret = child->phase == HKR_GONE ? -EBADFD :
	      hkr_snapshot_locked(parent, child, &span);
	if (ret) {
		hkr_view_clear_locked(child);
	} else {
		child->phase = HKR_MAPPED;
		child->nr_vmas++;
	}
	mutex_unlock(&child->lock);
	mutex_unlock(&parent->lock);
	if (!ret) {
		hkr_tick_kick();
		return;
	}
	vma->vm_private_data = NULL;
	hkr_view_put(child);
}

/**
 * hkr_fork_control - a control VMA was copied by a fork
 * @vma: the child's
 * @parent: view of the process that forks
 */
void hkr_fork_control(struct vm_area_struct *vma, struct hkr_view *parent)
{
	vma->vm_private_data = hkr_view_inherit(parent, vma->vm_mm);
}
