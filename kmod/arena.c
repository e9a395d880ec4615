// SPDX-License-Identifier: GPL-2.0
/*
 * Arenas: who owns a slot's memory, and how it gets mapped.
 *
 * An arena is a process's one mapping of the device, nr_slots slots of
 * address space that is never unmapped while the process uses it. A view is the
 * state behind it: a record for each slot, and the control pages with a word
 * for each slot that the owner changes without telling anybody. What a word
 * says is a hint. Ownership is the record's alone:
 *
 *   - A folio is in the pool, or in exactly one slot, or shared by slots of
 *     several views and mapped in none (share.c), or an orphan. Where none
 *     can be had a slot holds 512 single pages instead (mem.c); what is said of
 *     a folio here holds for them, and its lock is the locks of them all.
 *   - Only a slot whose record says HANDED may fault. Any other access is
 *     SIGBUS, whoever asks: a touch, mlockall(), a populate, a debugger.
 *   - slot->folio changes only under the slot's mutex and the folio's lock. The
 *     fault path takes the folio lock before it drops the mutex and returns the
 *     folio locked; the core maps it and unlocks. So whoever holds both locks
 *     knows that no fault is between looking the folio up and mapping it, and
 *     that after a zap under them nothing maps it. Taking the folio lock after
 *     the mutex is dropped leaves a window in which a recycled folio is mapped
 *     under its next owner's feet. Neither lockdep nor KASAN can see that; the
 *     hammer in tests/vm does (HKR_PLANT_LATE_LOCK plants it), and so does the
 *     model of all this in tests/model.
 *   - A folio that leaves a slot is zapped first, then the record is cleared,
 *     then hkr_folio_release() decides whether anybody else still uses it.
 *
 * Memory lives as long as the owner's mapping: the last arena VMA of the owner
 * takes all folios with it, even if the descriptor was passed on and lives. The
 * records and control pages live as long as the view: with the file, or with the
 * last VMA of a forked child.
 *
 * The mapping is shared, of a private inode with a real size. It is neither
 * PFNMAP nor MIXEDMAP, so the core maps an order-9 folio with one PMD, counts
 * it in RSS, and GUP, O_DIRECT and ptrace work as on any file. Parts of a slot
 * may be mprotect()ed; the core splits by zapping, and the next fault maps the
 * same folio by PTEs. mlock() only touches all of it: what may not expand is never
 * locked, and slots are unmovable and not swapped anyway.
 *
 * A forked child inherits the VMAs and gets a view of its own (fork.c). One file
 * may so have several views, all of one inode: a zap of a slot of one unmaps that
 * slot of all, which is more than is asked for, and costs the others a fault.
 */

#include <linux/bitmap.h>
#include <linux/mempolicy.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "hkr.h"
#include "trace.h"

#define HKR_CONTROL_PGOFF	(HKR_OFF_CONTROL >> PAGE_SHIFT)

/*
 * Memory for a slot that was handed out without, or whose memory is shared since
 * a fork; NULL: SIGBUS
 */
static struct folio *hkr_fault_back(struct hkr_view *view, unsigned long idx,
				    struct hkr_slot *slot)
{
	struct folio *folio = hkr_view_take_folio(view, HKR_NODE_ANY);

	if (!folio)
		return NULL;
	if (mutex_lock_killable(&slot->lock))
		goto give_back;
	if (slot->state != HKR_HANDED) {
		mutex_unlock(&slot->lock);
		goto give_back;
	}
	/* two threads may have come for the same slot, or other holders gone */
	if (slot->folio || hkr_share_adopt_locked(view, slot)) {
		hkr_pool_give_clean(folio);
		return slot->folio;
	}
	if (!slot->lent) {
		hkr_slot_install_locked(view, idx, slot, folio);
		return folio;
	}
	/* check and copy under one hold of the slot's mutex: see share.c */
	if (hkr_share_copy_locked(view, slot, folio))
		return folio;
	mutex_unlock(&slot->lock);
	/* a part of it may be copied */
	hkr_pool_give(folio);
	return NULL;

give_back:
	hkr_pool_give_clean(folio);
	return NULL;
}

/* a page of the arena with a reference and locked; NULL: SIGBUS */
static struct page *hkr_fault_page(struct hkr_view *view, unsigned long pgoff)
{
	unsigned long idx = pgoff >> HKR_SLOT_ORDER;
	struct hkr_slot *slot = hkr_slot(view, idx);
	struct folio *folio;
	struct page *page;

	if (!slot || mutex_lock_killable(&slot->lock))
		return NULL;
	if (slot->state != HKR_HANDED) {
		mutex_unlock(&slot->lock);
		return NULL;
	}
	/* the last holder of shared memory keeps it */
	hkr_share_adopt_locked(view, slot);
	folio = slot->folio;
	if (!folio) {
		mutex_unlock(&slot->lock);
		folio = hkr_fault_back(view, idx, slot);
		if (!folio)
			return NULL;
	}
	page = hkr_mem_page(folio, pgoff & (HKR_SLOT_PAGES - 1));
	get_page(page);
#ifdef HKR_PLANT_LATE_LOCK
	mutex_unlock(&slot->lock);
	/* wide enough for a test to find it at once */
	schedule_timeout_uninterruptible(1);
	lock_page(page);
#else
	/* before the mutex is dropped: see the top of this file */
	lock_page(page);
	mutex_unlock(&slot->lock);
#endif
	return page;
}

static void hkr_note_table(struct hkr_view *view, unsigned long idx)
{
	if (!test_bit(idx, view->tables))
		set_bit(idx, view->tables);
}

static vm_fault_t hkr_view_fault(struct hkr_view *view, struct vm_fault *vmf)
{
	struct page *page = hkr_fault_page(view, vmf->pgoff);
	pmd_t pmd = READ_ONCE(*vmf->pmd);

	if (!page)
		return VM_FAULT_SIGBUS;
	atomic64_inc(&view->count.faults);
	/* huge: another thread has mapped it meanwhile, and that is no table */
	if (!PageCompound(page) || (!pmd_none(pmd) && !pmd_trans_huge(pmd)))
		hkr_note_table(view, vmf->pgoff >> HKR_SLOT_ORDER);
	/* the core would look for folio->mapping, which is NULL */
	if (unlikely(PageHWPoison(page))) {
		unlock_page(page);
		put_page(page);
		return VM_FAULT_HWPOISON;
	}
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

/* under mmap_lock: without .map_pages the core never calls it under less */
static vm_fault_t hkr_arena_fault(struct vm_fault *vmf)
{
	struct hkr_view *view = vmf->vma->vm_private_data;
	vm_fault_t ret;

	if (!view)
		return VM_FAULT_SIGBUS;
	ret = hkr_view_fault(view, vmf);
	trace_hkr_fault(view, vmf->pgoff, vmf->flags & FAULT_FLAG_WRITE,
		    (__force unsigned int)ret);
	return ret;
}

static vm_fault_t hkr_control_fault(struct vm_fault *vmf)
{
	struct hkr_view *view = vmf->vma->vm_private_data;
	unsigned long page = vmf->pgoff - HKR_CONTROL_PGOFF;
	unsigned long nr_pages;
	void *addr;

	if (!view)
		return VM_FAULT_SIGBUS;
	nr_pages = hkr_control_pages(view->nr_slots);
	if (page >= nr_pages)
		return VM_FAULT_SIGBUS;
	addr = hkr_control_make(view, array_index_nospec(page, nr_pages));
	/* VM_FAULT_OOM would only be retried for ever */
	if (IS_ERR(addr))
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(addr);
	get_page(vmf->page);
	return 0;
}

/* a fork, or a split of the owner's VMA */
static void hkr_arena_open(struct vm_area_struct *vma)
{
	struct hkr_view *view = vma->vm_private_data;

	if (!view)
		return;
	if (vma->vm_mm != view->mm) {
		hkr_fork_arena(vma, view);
		return;
	}
	refcount_inc(&view->refs);
	mutex_lock(&view->lock);
	view->nr_vmas++;
	mutex_unlock(&view->lock);
}

/* the same, or a move by mremap() */
static void hkr_control_open(struct vm_area_struct *vma)
{
	struct hkr_view *view = vma->vm_private_data;

	if (!view)
		return;
	if (vma->vm_mm != view->mm)
		hkr_fork_control(vma, view);
	else
		refcount_inc(&view->refs);
}

/**
 * hkr_view_clear_locked - free everything
 * @view: locked; its mapping is gone and with it every translation
 */
void hkr_view_clear_locked(struct hkr_view *view)
{
	unsigned long idx;

	lockdep_assert_held(&view->lock);
	view->phase = HKR_GONE;
	for_each_set_bit(idx, view->taken, view->nr_slots) {
		struct hkr_slot *slot = hkr_slot(view, idx);
		struct folio *folio = NULL;

		mutex_lock(&slot->lock);
		/* a HANDOUT at work frees its FILLING slots itself */
		if (slot->state == HKR_HANDED) {
			folio = hkr_slot_remove_locked(view, idx, slot);
			hkr_slot_free_locked(view, idx, slot);
		}
		mutex_unlock(&slot->lock);
		if (folio)
			hkr_folio_release(view, folio);
		cond_resched();
	}
}

static void hkr_arena_close(struct vm_area_struct *vma)
{
	struct hkr_view *view = vma->vm_private_data;

	if (!view)
		return;
	mutex_lock(&view->lock);
	if (--view->nr_vmas == 0)
		hkr_view_clear_locked(view);
	mutex_unlock(&view->lock);
	hkr_view_put(view);
}

static void hkr_control_close(struct vm_area_struct *vma)
{
	struct hkr_view *view = vma->vm_private_data;

	if (view)
		hkr_view_put(view);
}

/* the arena has one address for its whole life */
static int hkr_arena_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

#ifdef CONFIG_NUMA
/*
 * Our folios cannot migrate, so NUMA hint faults would never end: a policy
 * without MPOL_F_MOF keeps the balancer away.
 */
static struct mempolicy hkr_policy = {
	.refcnt = ATOMIC_INIT(1),
	.mode = MPOL_LOCAL,
};

static struct mempolicy *hkr_get_policy(HKR_GET_POLICY_ARGS)
{
	HKR_GET_POLICY_SET_ILX();
	return &hkr_policy;
}
#endif

static const struct vm_operations_struct hkr_arena_ops = {
	.open		= hkr_arena_open,
	.close		= hkr_arena_close,
	.mremap		= hkr_arena_mremap,
	.fault		= hkr_arena_fault,
#ifdef CONFIG_NUMA
	.get_policy	= hkr_get_policy,
#endif
};

static const struct vm_operations_struct hkr_control_ops = {
	.open		= hkr_control_open,
	.close		= hkr_control_close,
	.fault		= hkr_control_fault,
};

static int hkr_mmap_arena_locked(struct hkr_view *view,
				 struct vm_area_struct *vma)
{
	unsigned long size = view->nr_slots << HKR_SLOT_SHIFT;

	lockdep_assert_held(&view->lock);
	if (view->phase == HKR_GONE)
		return -EBADFD;
	if (view->phase == HKR_MAPPED)
		return -EBUSY;
	if (vma->vm_end - vma->vm_start != size ||
	    !IS_ALIGNED(vma->vm_start, HKR_SLOT_SIZE))
		return -EINVAL;
	if (!(view->setup_flags & HKR_SETUP_DUMP))
		hkr_vm_flags_set(vma, VM_DONTDUMP);
	vma->vm_ops = &hkr_arena_ops;
	view->phase = HKR_MAPPED;
	view->nr_vmas = 1;
	return 0;
}

static int hkr_mmap_control_locked(struct hkr_view *view,
				   struct vm_area_struct *vma)
{
	unsigned long pages = hkr_control_pages(view->nr_slots);

	lockdep_assert_held(&view->lock);
	if (vma_pages(vma) > pages)
		return -EINVAL;
	hkr_vm_flags_set(vma, VM_DONTDUMP);
	vma->vm_ops = &hkr_control_ops;
	return 0;
}

/**
 * hkr_mmap - the device's mmap operation, for both mappings
 * @file: of the device
 * @vma: as the core made it
 */
int hkr_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct hkr_view *view;
	bool exec;
	int ret;

	/* the VMA keeps it */
	view = hkr_view_get(file->private_data);
	if (!view)
		return -EPERM;
	if (mutex_lock_killable(&view->lock)) {
		hkr_view_put(view);
		return -EINTR;
	}
	exec = (view->setup_flags & HKR_SETUP_EXEC) && vma->vm_pgoff == 0;
	if (!(vma->vm_flags & VM_SHARED))
		ret = -EINVAL;
	else if (!view->nr_slots)
		ret = -EBADFD;
	else if ((vma->vm_flags & VM_EXEC) && !exec)
		ret = -EACCES;
	else if (vma->vm_pgoff == HKR_OFF_ARENA >> PAGE_SHIFT)
		ret = hkr_mmap_arena_locked(view, vma);
	else if (vma->vm_pgoff == HKR_CONTROL_PGOFF)
		ret = hkr_mmap_control_locked(view, vma);
	else
		ret = -EINVAL;
	if (!ret) {
		hkr_vm_flags_set(vma, VM_DONTEXPAND);
		if (!exec)
			hkr_vm_flags_clear(vma, VM_MAYEXEC);
		vma->vm_private_data = view;
	}
	mutex_unlock(&view->lock);
	if (ret)
		hkr_view_put(view);
	return ret;
}
