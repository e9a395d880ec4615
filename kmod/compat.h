/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_COMPAT_H
#define HKR_COMPAT_H

/*
 * The only place that names a kernel version. The module is written for the
 * newest kernel; older ones get wrappers under names of our own.
 */

#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/swap.h>
#include <linux/timer.h>
#include <linux/sched/coredump.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "hakmem_region needs Linux 6.1 or later"
#endif

static inline void hkr_vm_flags_set(struct vm_area_struct *vma,
				    unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

static inline void hkr_vm_flags_clear(struct vm_area_struct *vma,
				      unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(vma, flags);
#else
	vma->vm_flags &= ~flags;
#endif
}

/* prctl(PR_SET_THP_DISABLE): every fault would then map one PTE */
static inline bool hkr_thp_disabled(struct mm_struct *mm)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
	return mm_flags_test(MMF_DISABLE_THP_COMPLETELY, mm);
#else
	return test_bit(MMF_DISABLE_THP, &mm->flags);
#endif
}

/* arguments of vm_operations_struct.get_policy */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
#define HKR_GET_POLICY_ARGS \
	struct vm_area_struct *vma, unsigned long addr, pgoff_t *ilx
#define HKR_GET_POLICY_SET_ILX() (*ilx = 0)
#else
#define HKR_GET_POLICY_ARGS struct vm_area_struct *vma, unsigned long addr
#define HKR_GET_POLICY_SET_ILX() do { } while (0)
#endif

/* the end of a timer that nobody arms any more */
static inline void hkr_timer_shutdown(struct timer_list *timer)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	timer_shutdown_sync(timer);
#else
	del_timer_sync(timer);
#endif
}

/* translations of a folio: a PMD counts as one, and so does each PTE */
static inline int hkr_folio_mapcount(struct folio *folio)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	return folio_mapcount(folio);
#else
	int nr = folio_entire_mapcount(folio);
	long i;

	/* a slot is mapped at one address only: by a PMD or by PTEs */
	if (nr)
		return nr;
	for (i = 0; i < folio_nr_pages(folio); i++)
		nr += atomic_read(&folio_page(folio, i)->_mapcount) + 1;
	return nr;
#endif
}

/* direct reclaim sees no progress unless it is told */
static inline void hkr_account_reclaimed(unsigned long pages)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	mm_account_reclaimed_pages(pages);
#else
	if (current->reclaim_state)
		current->reclaim_state->reclaimed_slab += pages;
#endif
}

/* a shrinker, from 6.7 on made by the core */
struct hkr_shrinker {
	unsigned long (*count)(struct shrinker *s, struct shrink_control *sc);
	unsigned long (*scan)(struct shrinker *s, struct shrink_control *sc);
	long batch;
	int seeks;
	struct list_lru *lru;	/* memcg-aware, made and found by this; or NULL */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	struct shrinker *core;
#else
	struct shrinker core;
#endif
};

/* from 6.7 on the list is there before the first call, else soon after */
static inline int hkr_shrinker_register(struct hkr_shrinker *s,
					const char *name)
{
	unsigned int flags = SHRINKER_NUMA_AWARE |
			     (s->lru ? SHRINKER_MEMCG_AWARE : 0);
	int ret;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	s->core = shrinker_alloc(flags, "%s", name);
	if (!s->core)
		return -ENOMEM;
	ret = s->lru ? list_lru_init_memcg(s->lru, s->core) : 0;
	if (ret) {
		shrinker_free(s->core);
		return ret;
	}
	s->core->count_objects = s->count;
	s->core->scan_objects = s->scan;
	s->core->batch = s->batch;
	s->core->seeks = s->seeks;
	shrinker_register(s->core);
	return 0;
#else
	s->core.count_objects = s->count;
	s->core.scan_objects = s->scan;
	s->core.batch = s->batch;
	s->core.seeks = s->seeks;
	s->core.flags = flags;
	ret = register_shrinker(&s->core, "%s", name);
	if (ret || !s->lru)
		return ret;
	ret = list_lru_init_memcg(s->lru, &s->core);
	if (ret)
		unregister_shrinker(&s->core);
	return ret;
#endif
}

static inline void hkr_shrinker_unregister(struct hkr_shrinker *s)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker_free(s->core);
#else
	unregister_shrinker(&s->core);
#endif
}

/* an object of a list_lru: its group and node are where it was allocated */
static inline void hkr_lru_add(struct list_lru *lru, struct list_head *item)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	list_lru_add_obj(lru, item);
#else
	list_lru_add(lru, item);
#endif
}

static inline void hkr_lru_del(struct list_lru *lru, struct list_head *item)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	list_lru_del_obj(lru, item);
#else
	list_lru_del(lru, item);
#endif
}

/* arguments of a list_lru_walk_cb */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define HKR_LRU_WALK_ARGS \
	struct list_head *item, struct list_lru_one *list, void *cb_arg
#else
#define HKR_LRU_WALK_ARGS \
	struct list_head *item, struct list_lru_one *list, spinlock_t *lock, \
	void *cb_arg
#endif

/* the 16 bytes of an SQE that are the command's own */
static inline const void *hkr_uring_payload(const struct io_uring_cmd *cmd)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	return cmd->sqe->cmd;
#else
	return cmd->cmd;
#endif
}

/*
 * What uring_cmd returns for the completion to have @ret. Some kernels (6.1 is
 * one) never complete a request whose operation returns a positive number: there
 * the operation completes it, and says that somebody does.
 */
static inline int hkr_uring_result(struct io_uring_cmd *cmd, int ret,
				   unsigned int issue_flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return ret;
#else
	if (ret <= 0)
		return ret;
	io_uring_cmd_done(cmd, ret, 0, issue_flags);
	return -EIOCBQUEUED;
#endif
}

/* does __GFP_ACCOUNT charge anybody */
static inline bool hkr_memcg_counts_kmem(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	return memcg_kmem_online();
#else
	return memcg_kmem_enabled();
#endif
}

#endif /* HKR_COMPAT_H */
