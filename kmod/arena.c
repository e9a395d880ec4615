// SPDX-License-Identifier: GPL-2.0
/*
 * Arenas: who owns a slot's memory, and how it gets mapped.
 *
 * An arena is one process's one mapping of the device, nr_slots slots of
 * address space that is never unmapped while the process uses it. A view is the
 * state behind it: a record for each slot, and the control pages with a word
 * for each slot that the owner changes without telling anybody. What a word
 * says is a hint. Ownership is the record's alone:
 *
 *   - A folio is in the pool, or in exactly one slot, or an orphan.
 *   - Only a slot whose record says HANDED may fault. Any other access is
 *     SIGBUS, whoever asks: a touch, mlockall(), a populate, a debugger.
 *   - slot->folio changes only under the slot's mutex and the folio's lock. The
 *     fault path takes the folio lock before it drops the mutex and returns the
 *     folio locked; the core maps it and unlocks. So whoever holds both locks
 *     knows that no fault is between looking the folio up and mapping it, and
 *     that after a zap under them nothing maps it. Taking the folio lock after
 *     the mutex is dropped leaves a window in which a recycled folio is mapped
 *     under its next owner's feet. Neither lockdep nor KASAN can see that; the
 *     hammer in tests/vm does (HKR_PLANT_LATE_LOCK plants it).
 *   - A folio that leaves a slot is zapped first, then the record is cleared,
 *     then hkr_folio_release() decides whether anybody else still uses it.
 *
 * Memory lives as long as the owner's mapping: the last arena VMA of the owner
 * takes all folios with it, even if the descriptor was passed on and lives. The
 * records and control pages live as long as the file.
 *
 * The mapping is shared, of a private inode with a real size. It is neither
 * PFNMAP nor MIXEDMAP, so the core maps an order-9 folio with one PMD, counts
 * it in RSS, and GUP, O_DIRECT and ptrace work as on any file. Parts of a slot
 * may be mprotect()ed or locked; the core splits by zapping, and the next fault
 * maps the same folio by PTEs.
 *
 * A forked child inherits the VMAs but not the view: its faults are SIGBUS and
 * its calls EPERM.
 */

#include <linux/bitmap.h>
#include <linux/mempolicy.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "age.h"
#include "hkr.h"
#include "inode.h"
#include "memcg.h"

#define HKR_CONTROL_PGOFF	(HKR_OFF_CONTROL >> PAGE_SHIFT)

/* the oldest idle slot of any arena gives way: its memory to the pool */
static bool hkr_steal_from(int nid)
{
	struct hkr_take take = { .want = 1, .look = 64 };

	return hkr_take_node(nid, &take);
}

static void hkr_steal(int nid)
{
	int other;

	if (hkr_steal_from(nid == HKR_NODE_ANY ? numa_mem_id() : nid))
		return;
	for_each_node_state(other, N_MEMORY)
		if (hkr_steal_from(other))
			return;
}

/**
 * hkr_view_take_folio - a zeroed folio for this view, counted
 * @view: set up; may be locked, but no slot may
 * @nid: node to prefer, or HKR_NODE_ANY
 */
struct folio *hkr_view_take_folio(struct hkr_view *view, int nid)
{
	enum hkr_served served = HKR_SERVED_NEW;
	struct folio *folio;

	if (view->ages)
		folio = hkr_memcg_folio(view, nid);
	else
		folio = hkr_pool_take(nid, &served);
	if (!folio && !view->ages) {
		hkr_steal(nid);
		folio = hkr_pool_take(nid, &served);
	}
	if (!folio)
		return NULL;
	if (served == HKR_SERVED_CLEAN)
		atomic64_inc(&view->count.served_clean);
	else if (served == HKR_SERVED_DIRTY)
		atomic64_inc(&view->count.served_dirty);
	else
		atomic64_inc(&view->count.served_new);
	return folio;
}

/* memory for a slot that was handed out without; NULL: SIGBUS */
static struct folio *hkr_fault_back(struct hkr_view *view, unsigned long idx,
				    struct hkr_slot *slot)
{
	struct folio *folio = hkr_view_take_folio(view, HKR_NODE_ANY);

	if (!folio && !view->ages) {
		folio = hkr_pool_take_hard(HKR_NODE_ANY);
		if (folio)
			atomic64_inc(&view->count.served_new);
	}
	if (!folio)
		return NULL;
	if (mutex_lock_killable(&slot->lock))
		goto give_back;
	if (slot->state != HKR_HANDED) {
		mutex_unlock(&slot->lock);
		goto give_back;
	}
	/* two threads may have come for the same slot */
	if (slot->folio)
		hkr_pool_give_clean(folio);
	else
		hkr_slot_install_locked(view, idx, slot, folio);
	return slot->folio;

give_back:
	hkr_pool_give_clean(folio);
	return NULL;
}

/* the slot's folio with a reference and locked; NULL: SIGBUS */
static struct folio *hkr_fault_folio(struct hkr_view *view, unsigned long idx)
{
	struct hkr_slot *slot = hkr_slot(view, idx);
	struct folio *folio;

	if (!slot || mutex_lock_killable(&slot->lock))
		return NULL;
	if (slot->state != HKR_HANDED) {
		mutex_unlock(&slot->lock);
		return NULL;
	}
	folio = slot->folio;
	if (!folio) {
		mutex_unlock(&slot->lock);
		folio = hkr_fault_back(view, idx, slot);
		if (!folio)
			return NULL;
	}
	folio_get(folio);
#ifdef HKR_PLANT_LATE_LOCK
	mutex_unlock(&slot->lock);
	/* wide enough for a test to find it at once */
	schedule_timeout_uninterruptible(1);
	folio_lock(folio);
#else
	/* before the mutex is dropped: see the top of this file */
	folio_lock(folio);
	mutex_unlock(&slot->lock);
#endif
	return folio;
}

/* under mmap_lock: without .map_pages the core never calls it under less */
static vm_fault_t hkr_arena_fault(struct vm_fault *vmf)
{
	struct hkr_view *view = vmf->vma->vm_private_data;
	struct folio *folio;

	if (!view)
		return VM_FAULT_SIGBUS;
	folio = hkr_fault_folio(view, vmf->pgoff >> HKR_SLOT_ORDER);
	if (!folio)
		return VM_FAULT_SIGBUS;
	atomic64_inc(&view->count.faults);
	vmf->page = folio_page(folio, vmf->pgoff & (HKR_SLOT_PAGES - 1));
	/* the core would look for folio->mapping, which is NULL */
	if (unlikely(PageHWPoison(vmf->page))) {
		folio_unlock(folio);
		folio_put(folio);
		vmf->page = NULL;
		return VM_FAULT_HWPOISON;
	}
	return VM_FAULT_LOCKED;
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
	if (!addr)
		return VM_FAULT_SIGBUS;
	vmf->page = virt_to_page(addr);
	get_page(vmf->page);
	return 0;
}

/* a fork: the child gets the VMA without the view; else a split */
static bool hkr_vma_is_inherited(struct vm_area_struct *vma)
{
	struct hkr_view *view = vma->vm_private_data;

	if (view && vma->vm_mm != view->mm)
		vma->vm_private_data = NULL;
	return !vma->vm_private_data;
}

static void hkr_arena_open(struct vm_area_struct *vma)
{
	struct hkr_view *view = vma->vm_private_data;

	if (hkr_vma_is_inherited(vma))
		return;
	mutex_lock(&view->lock);
	view->nr_vmas++;
	mutex_unlock(&view->lock);
}

static void hkr_control_open(struct vm_area_struct *vma)
{
	hkr_vma_is_inherited(vma);
}

/* the owner's mapping is gone and with it every translation: free everything */
static void hkr_view_clear_locked(struct hkr_view *view)
{
	unsigned long idx, freed = 0;

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
			freed++;
		}
		mutex_unlock(&slot->lock);
		if (folio)
			hkr_folio_release(view, folio);
		cond_resched();
	}
	hkr_uncharge(view, freed);
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
	struct hkr_view *view = file->private_data;
	bool exec;
	int ret;

	if (vma->vm_mm != view->mm)
		return -EPERM;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (mutex_lock_killable(&view->lock))
		return -EINTR;
	exec = (view->setup_flags & HKR_SETUP_EXEC) && vma->vm_pgoff == 0;
	if (!view->nr_slots)
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
	return ret;
}

/**
 * hkr_view_enter - begin a command on a view
 * @view: of the file
 *
 * Return: 0 with the view locked, -EPERM for another process than the owner,
 * -EBADFD when the arena is not mapped, -EINTR
 */
int hkr_view_enter(struct hkr_view *view)
{
	if (current->mm != view->mm)
		return -EPERM;
	if (mutex_lock_killable(&view->lock))
		return -EINTR;
	if (view->phase == HKR_MAPPED)
		return 0;
	mutex_unlock(&view->lock);
	return -EBADFD;
}

/**
 * hkr_view_leave - end what hkr_view_enter() began
 * @view: locked
 */
void hkr_view_leave(struct hkr_view *view)
{
	mutex_unlock(&view->lock);
}

static int hkr_view_alloc_locked(struct hkr_view *view, u64 nr_slots)
{
	lockdep_assert_held(&view->lock);
	view->taken = kvcalloc(BITS_TO_LONGS(nr_slots), sizeof(long),
			       GFP_KERNEL_ACCOUNT);
	view->control = kvcalloc(hkr_control_pages(nr_slots), sizeof(void *),
				 GFP_KERNEL_ACCOUNT);
	view->recs = kvcalloc(hkr_nr_recs(nr_slots), sizeof(struct hkr_slot *),
			      GFP_KERNEL_ACCOUNT);
	view->header = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (view->taken && view->control && view->recs && view->header) {
		view->control[0] = view->header;
		return 0;
	}

	kvfree(view->taken);
	kvfree(view->control);
	kvfree(view->recs);
	free_page((unsigned long)view->header);
	view->taken = NULL;
	view->control = NULL;
	view->recs = NULL;
	view->header = NULL;
	return -ENOMEM;
}

static void hkr_view_fill_header(struct hkr_view *view)
{
	unsigned long clean, dirty;

	hkr_pool_count(HKR_NODE_ANY, &clean, &dirty);
	view->header->magic = HKR_CONTROL_MAGIC;
	view->header->abi_version = HKR_ABI_VERSION;
	view->header->slot_size = HKR_SLOT_SIZE;
	view->header->nr_slots = view->nr_slots;
	view->header->words_offset = HKR_WORDS_OFFSET;
	view->header->epoch = hkr_epoch();
	view->header->epoch_ms = HKR_EPOCH_MS;
	view->header->limit = hkr_limits.open_max;
	view->header->pool_clean = clean;
}

/**
 * hkr_view_setup - fix the size and options of an arena
 * @view: of the file
 * @nr_slots: slots of address space
 * @flags: HKR_SETUP_*, checked by the caller
 * @decay_epochs: idle slots go back after so many; negative: never
 *
 * Return: 0, -EPERM, -EINTR, -EBUSY, -EINVAL, -EOPNOTSUPP, -ENOMEM
 */
int hkr_view_setup(struct hkr_view *view, u64 nr_slots, u32 flags,
		   s32 decay_epochs)
{
	int ret;

	if (current->mm != view->mm)
		return -EPERM;
	if (nr_slots < 1 || nr_slots > hkr_limits.max_slots)
		return -EINVAL;
	if (hkr_thp_disabled(view->mm))
		return -EOPNOTSUPP;
	if (mutex_lock_killable(&view->lock))
		return -EINTR;
	ret = -EBUSY;
	if (view->nr_slots)
		goto unlock;
	ret = hkr_memcg_join(view);
	if (ret)
		goto unlock;
	ret = hkr_view_alloc_locked(view, nr_slots);
	if (ret)
		goto leave_memcg;
	view->setup_flags = flags;
	view->decay_epochs = decay_epochs;
	view->nr_slots = nr_slots;
	/* the core refuses a PMD that reaches beyond the inode's size */
	i_size_write(view->inode, (loff_t)nr_slots << HKR_SLOT_SHIFT);
	hkr_view_fill_header(view);
	mutex_unlock(&view->lock);
	hkr_views_add(view);
	return 0;

leave_memcg:
	hkr_memcg_leave(view);
unlock:
	mutex_unlock(&view->lock);
	return ret;
}

/**
 * hkr_view_open - a new view for a file that is being opened
 * @file: gets a private inode's mapping, so that zaps reach this arena only
 *
 * Return: the view or an error pointer
 */
struct hkr_view *hkr_view_open(struct file *file)
{
	struct hkr_view *view;
	int ret = -ENOMEM;

	if (!current->mm)
		return ERR_PTR(-EPERM);
	view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);
	if (!view)
		return ERR_PTR(-ENOMEM);
	view->user = hkr_user_get(current_uid());
	if (!view->user)
		goto free_view;
	view->inode = hkr_inode_new();
	if (IS_ERR(view->inode)) {
		ret = PTR_ERR(view->inode);
		goto put_user;
	}
	mutex_init(&view->lock);
	INIT_LIST_HEAD(&view->link);
	view->mm = current->mm;
	mmgrab(view->mm);
	file->f_mapping = view->inode->i_mapping;
	return view;

put_user:
	hkr_user_put(view->user);
free_view:
	kfree(view);
	return ERR_PTR(ret);
}

/**
 * hkr_view_release - the file is gone, and every mapping of it was before
 * @view: of that file
 */
void hkr_view_release(struct hkr_view *view)
{
	unsigned long i;

	hkr_views_del(view);
	/* waits for reclaim, which may be about to let go of a slot it took */
	hkr_memcg_leave(view);
	WARN_ON_ONCE(atomic_long_read(&view->charged) ||
		     atomic_long_read(&view->resident));
	for (i = 0; view->nr_slots && i < hkr_control_pages(view->nr_slots); i++)
		free_page((unsigned long)view->control[i]);
	for (i = 0; i < hkr_nr_recs(view->nr_slots); i++)
		kvfree(view->recs[i]);
	kvfree(view->recs);
	kvfree(view->control);
	kvfree(view->taken);
	mmdrop(view->mm);
	hkr_inode_free(view->inode);
	hkr_user_put(view->user);
	kfree(view);
}
