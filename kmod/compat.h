/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_COMPAT_H
#define HKR_COMPAT_H

/*
 * The only place that names a kernel version. The module is written for the
 * newest kernel; older ones get wrappers under names of our own.
 */

#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/swap.h>
#include <linux/timer.h>
#include <linux/sched/coredump.h>
#include <linux/version.h>

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
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	struct shrinker *core;
#else
	struct shrinker core;
#endif
};

static inline int hkr_shrinker_register(struct hkr_shrinker *s,
					const char *name)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	s->core = shrinker_alloc(SHRINKER_NUMA_AWARE, "%s", name);
	if (!s->core)
		return -ENOMEM;
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
	s->core.flags = SHRINKER_NUMA_AWARE;
	return register_shrinker(&s->core, "%s", name);
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

#endif /* HKR_COMPAT_H */
