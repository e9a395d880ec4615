// SPDX-License-Identifier: GPL-2.0
/*
 * Views: from open() to the last mapping.
 *
 * An open file is an arena, and each process that has it mapped has a view of it:
 * who opened the file, and children that were forked since. A view belongs to an
 * mm; the address of the mm names it, and is kept from being used again for as
 * long as there is the view.
 *
 * References to a view are held by its VMAs, by calls under way, and to the
 * first one by the file, since SETUP comes before there is a VMA. A VMA and a call
 * keep the file, so an arena outlives its views.
 */

#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "age.h"
#include "hkr.h"
#include "inode.h"
#include "memcg.h"

/* what an open file costs before SETUP */
#define HKR_FILE_BYTES							\
	(sizeof(struct hkr_arena) + sizeof(struct hkr_view) +		\
	 sizeof(struct inode) + sizeof(struct file))

/**
 * hkr_view_enter - begin a command on a view
 * @view: the caller's, or NULL
 *
 * Return: 0 with the view locked, -EPERM for a process without a view, -EBADFD when
 * the arena is not mapped, -EINTR
 */
int hkr_view_enter(struct hkr_view *view)
{
	if (!view)
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
	unsigned long nr_longs = BITS_TO_LONGS(nr_slots);
	unsigned long nr_control = hkr_control_pages(nr_slots);
	unsigned long nr_recs = hkr_nr_recs(nr_slots);
	size_t bytes = PAGE_SIZE +
		       sizeof(long) * (3 * nr_longs + nr_control + nr_recs);
	int ret;

	lockdep_assert_held(&view->lock);
	if (view->ages)
		bytes += nr_node_ids * sizeof(struct hkr_ages);
	ret = hkr_charge_kmem(view, bytes);
	if (ret)
		return ret;
	view->taken = kvcalloc(nr_longs, sizeof(long), HKR_GFP_RECORDS);
	view->tables = kvcalloc(nr_longs, sizeof(long), HKR_GFP_RECORDS);
	view->sharing = kvcalloc(nr_longs, sizeof(long), HKR_GFP_RECORDS);
	view->control = kvcalloc(nr_control, sizeof(void *), HKR_GFP_RECORDS);
	view->recs = kvcalloc(nr_recs, sizeof(struct hkr_slot *),
			      HKR_GFP_RECORDS);
	view->header = (void *)get_zeroed_page(HKR_GFP_RECORDS);
	if (view->taken && view->tables && view->sharing && view->control &&
	    view->recs && view->header) {
		view->control[0] = view->header;
		return 0;
	}

	kvfree(view->taken);
	kvfree(view->tables);
	kvfree(view->sharing);
	kvfree(view->control);
	kvfree(view->recs);
	free_page((unsigned long)view->header);
	view->taken = NULL;
	view->tables = NULL;
	view->sharing = NULL;
	view->control = NULL;
	view->recs = NULL;
	view->header = NULL;
	hkr_uncharge_kmem(view, bytes);
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

static void hkr_view_size_locked(struct hkr_view *view, u64 nr_slots, u32 flags,
				 s32 decay_epochs)
{
	lockdep_assert_held(&view->lock);
	view->setup_flags = flags;
	view->decay_epochs = decay_epochs;
	view->nr_slots = nr_slots;
	hkr_view_fill_header(view);
}

/**
 * hkr_view_setup - fix the size and options of an arena
 * @view: the caller's, or NULL
 * @nr_slots: slots of address space
 * @flags: HKR_SETUP_*, checked by the caller
 * @decay_epochs: idle slots go back after so many; negative: never
 *
 * Return: 0, -EPERM, -EINTR, -EBUSY, -EINVAL, -EOPNOTSUPP, -ENOMEM, -EDQUOT
 */
int hkr_view_setup(struct hkr_view *view, u64 nr_slots, u32 flags,
		   s32 decay_epochs)
{
	int ret;

	if (!view)
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
	hkr_view_size_locked(view, nr_slots, flags, decay_epochs);
	/* the core refuses a PMD that reaches beyond the inode's size */
	i_size_write(view->inode, (loff_t)nr_slots << HKR_SLOT_SHIFT);
	mutex_unlock(&view->lock);
	hkr_views_add(view);
	return 0;

leave_memcg:
	hkr_memcg_leave(view);
unlock:
	mutex_unlock(&view->lock);
	return ret;
}

/*
 * A view without slots yet, with one reference. @bytes of kernel memory are charged
 * to @uid for it.
 */
static struct hkr_view *hkr_view_new(struct hkr_arena *arena,
				     struct mm_struct *mm, kuid_t uid,
				     size_t bytes)
{
	struct hkr_view *view = kzalloc(sizeof(*view), HKR_GFP_RECORDS);
	int ret = -ENOMEM;

	if (!view)
		return ERR_PTR(-ENOMEM);
	view->user = hkr_user_get(uid);
	if (!view->user)
		goto free_view;
	ret = hkr_charge_kmem(view, bytes);
	if (ret)
		goto put_user;
	mutex_init(&view->lock);
	refcount_set(&view->refs, 1);
	INIT_LIST_HEAD(&view->link);
	view->arena = arena;
	view->inode = arena->inode;
	/* an address that means one mm for as long as the view is there */
	view->mm = mm;
	mmgrab(view->mm);
	return view;

put_user:
	hkr_user_put(view->user);
free_view:
	kfree(view);
	return ERR_PTR(ret);
}

/* nobody has it any more */
static void hkr_view_free(struct hkr_view *view)
{
	unsigned long i;

	hkr_views_del(view);
	/* waits for reclaim, which may be about to let go of a slot it took */
	hkr_memcg_leave(view);
	WARN_ON_ONCE(atomic_long_read(&view->charged) ||
		     atomic_long_read(&view->resident) ||
		     atomic_long_read(&view->shared));
	for (i = 0; view->nr_slots && i < hkr_control_pages(view->nr_slots); i++)
		free_page((unsigned long)view->control[i]);
	for (i = 0; i < hkr_nr_recs(view->nr_slots); i++)
		kvfree(view->recs[i]);
	kvfree(view->recs);
	kvfree(view->control);
	kvfree(view->taken);
	kvfree(view->tables);
	kvfree(view->sharing);
	mmdrop(view->mm);
	hkr_uncharge_kmem(view, atomic_long_read(&view->kmem));
	hkr_user_put(view->user);
	kfree(view);
}

/**
 * hkr_arena_new - for a file that is being opened, with a view for who opens it
 * @file: gets a private inode's mapping, so that zaps reach this arena only
 *
 * Return: the arena or an error pointer
 */
struct hkr_arena *hkr_arena_new(struct file *file)
{
	struct hkr_arena *arena;
	struct hkr_view *view;
	int ret;

	if (!current->mm)
		return ERR_PTR(-EPERM);
	arena = kzalloc(sizeof(*arena), HKR_GFP_RECORDS);
	if (!arena)
		return ERR_PTR(-ENOMEM);
	mutex_init(&arena->lock);
	INIT_LIST_HEAD(&arena->views);
	arena->inode = hkr_inode_new();
	if (IS_ERR(arena->inode)) {
		ret = PTR_ERR(arena->inode);
		goto free_arena;
	}
	view = hkr_view_new(arena, current->mm, current_uid(), HKR_FILE_BYTES);
	if (IS_ERR(view)) {
		ret = PTR_ERR(view);
		goto free_inode;
	}
	view->tgid = current->tgid;
	get_task_comm(view->comm, current->group_leader);
	list_add(&view->sibling, &arena->views);
	arena->first = view;
	file->f_mapping = arena->inode->i_mapping;
	return arena;

free_inode:
	hkr_inode_free(arena->inode);
free_arena:
	kfree(arena);
	return ERR_PTR(ret);
}

/**
 * hkr_arena_end - the file is gone, and every mapping of it was before
 * @arena: of that file
 */
void hkr_arena_end(struct hkr_arena *arena)
{
	hkr_view_put(arena->first);
	WARN_ON_ONCE(!list_empty(&arena->views));
	hkr_inode_free(arena->inode);
	kfree(arena);
}

/* what is on the list has a reference: hkr_view_put() takes it off with the last */
static struct hkr_view *hkr_view_find_locked(struct hkr_arena *arena,
					     const struct mm_struct *mm)
{
	struct hkr_view *view;

	lockdep_assert_held(&arena->lock);
	list_for_each_entry(view, &arena->views, sibling) {
		if (view->mm != mm)
			continue;
		refcount_inc(&view->refs);
		return view;
	}
	return NULL;
}

/**
 * hkr_view_get - the caller's view of an arena
 * @arena: of a file that the caller keeps
 *
 * Return: the view, for hkr_view_put(); NULL: the caller has none
 */
struct hkr_view *hkr_view_get(struct hkr_arena *arena)
{
	struct hkr_view *view = arena->first;

	/* nearly always, and as long as there is the file */
	if (current->mm == view->mm) {
		refcount_inc(&view->refs);
		return view;
	}
	mutex_lock(&arena->lock);
	view = hkr_view_find_locked(arena, current->mm);
	mutex_unlock(&arena->lock);
	return view;
}

/* an empty view like the parent's */
static struct hkr_view *hkr_view_like(struct hkr_view *parent,
				      struct mm_struct *mm)
{
	struct hkr_view *view = hkr_view_new(parent->arena, mm,
					     parent->user->uid, sizeof(*view));
	int ret;

	if (IS_ERR(view))
		return NULL;
	view->tgid = parent->tgid;
	memcpy(view->comm, parent->comm, sizeof(view->comm));
	mutex_lock(&view->lock);
	ret = hkr_memcg_inherit(view, parent);
	if (!ret)
		ret = hkr_view_alloc_locked(view, parent->nr_slots);
	if (!ret)
		hkr_view_size_locked(view, parent->nr_slots,
				     parent->setup_flags, parent->decay_epochs);
	mutex_unlock(&view->lock);
	if (!ret)
		return view;
	hkr_view_free(view);
	return NULL;
}

/**
 * hkr_view_inherit - the view of a child that is being forked, made if need be
 * @parent: the parent's; the caller holds the mmap_locks of both
 * @mm: the child's
 *
 * Return: the view with a reference for a VMA, or NULL when out of memory
 */
struct hkr_view *hkr_view_inherit(struct hkr_view *parent,
				  struct mm_struct *mm)
{
	struct hkr_arena *arena = parent->arena;
	struct hkr_view *view;

	/* the only task that runs in @mm or forks it is the caller: no race */
	mutex_lock(&arena->lock);
	view = hkr_view_find_locked(arena, mm);
	mutex_unlock(&arena->lock);
	if (view)
		return view;
	view = hkr_view_like(parent, mm);
	if (!view)
		return NULL;
	mutex_lock(&arena->lock);
	list_add_tail(&view->sibling, &arena->views);
	mutex_unlock(&arena->lock);
	hkr_views_add(view);
	return view;
}

/**
 * hkr_view_put - drop a reference; the view ends with the last one
 * @view: of a VMA that is closed, of a call that is over, or of the file
 */
void hkr_view_put(struct hkr_view *view)
{
	struct hkr_arena *arena = view->arena;

	if (!refcount_dec_and_mutex_lock(&view->refs, &arena->lock))
		return;
	list_del(&view->sibling);
	mutex_unlock(&arena->lock);
	hkr_view_free(view);
}
