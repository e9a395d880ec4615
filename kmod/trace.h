/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: /sys/kernel/tracing/events/hakmem_region/.
 *
 * An arena is named by the number of its private inode; owner and comm are
 * those of the process that opened it. tools/hakmem-reclaim.bt is an example of
 * their use.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM hakmem_region

#if !defined(HKR_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define HKR_TRACE_H

#include <linux/sched.h>
#include <linux/tracepoint.h>
#include <linux/uidgid.h>

#include "hkr.h"

#define HKR_SHOW_MODE(mode)				\
	__print_symbolic(mode,				\
			 { HKR_RECYCLE_DROP, "drop" },	\
			 { HKR_RECYCLE_IDLE, "idle" },	\
			 { HKR_RECYCLE_FRESH, "fresh" },	\
			 { HKR_RECYCLE_MOVE, "move" })

/* the core's own table has codes of a type that sparse does not let pass */
#define HKR_FAULT(code)	((__force unsigned long)VM_FAULT_##code)
#define HKR_SHOW_FAULT(result)				\
	__print_flags(result, "|",			\
		      { HKR_FAULT(SIGBUS), "sigbus" },	\
		      { HKR_FAULT(HWPOISON), "hwpoison" },	\
		      { HKR_FAULT(LOCKED), "locked" })

/* the numbers are what a bpf program sees: only add at the end */
#define HKR_SHOW_WHY(why)				\
	__print_symbolic(why,				\
			 { 0, "shrinker" },		\
			 { 1, "cgroup" },		\
			 { 2, "oom" },			\
			 { 3, "decay" },		\
			 { 4, "handout" },		\
			 { 5, "trigger" },		\
			 { 6, "trim" },			\
			 { 7, "from_idle" },		\
			 { 8, "offline" },		\
			 { 9, "hibernate" })

/* one request of HANDOUT: @unzeroed slots got memory of the owner's idle ones */
TRACE_EVENT(hkr_handout,
	TP_PROTO(struct hkr_view *view, const struct hkr_handout_req *req,
		 unsigned long first, unsigned long unzeroed, int result),
	TP_ARGS(view, req, first, unzeroed, result),
	TP_STRUCT__entry(
		__field(unsigned long, arena)
		__field(pid_t, owner)
		__field(unsigned long, first)
		__field(u32, nr)
		__field(u32, flags)
		__field(s32, node)
		__field(unsigned long, unzeroed)
		__field(int, result)
	),
	TP_fast_assign(
		__entry->arena = view->inode->i_ino;
		__entry->owner = view->tgid;
		__entry->first = first;
		__entry->nr = req->nr_slots;
		__entry->flags = req->flags;
		__entry->node = req->node;
		__entry->unzeroed = unzeroed;
		__entry->result = result;
	),
	TP_printk("arena=%lu owner=%d first=%lu nr=%u flags=%s node=%d unzeroed=%lu result=%d",
		  __entry->arena, __entry->owner, __entry->first, __entry->nr,
		  __print_flags(__entry->flags, "|",
				{ HKR_HANDOUT_COMMIT, "commit" },
				{ HKR_HANDOUT_AT, "at" },
				{ HKR_HANDOUT_FROM_IDLE, "from_idle" }),
		  __entry->node, __entry->unzeroed, __entry->result)
);

/* one range of RECYCLE */
TRACE_EVENT(hkr_recycle,
	TP_PROTO(struct hkr_view *view, u32 mode,
		 const struct hkr_range *range, int result),
	TP_ARGS(view, mode, range, result),
	TP_STRUCT__entry(
		__field(unsigned long, arena)
		__field(pid_t, owner)
		__field(u32, mode)
		__field(u64, first)
		__field(u32, nr)
		__field(u64, to)
		__field(int, result)
	),
	TP_fast_assign(
		__entry->arena = view->inode->i_ino;
		__entry->owner = view->tgid;
		__entry->mode = mode;
		__entry->first = range->first;
		__entry->nr = range->nr_slots;
		__entry->to = range->to;
		__entry->result = result;
	),
	TP_printk("arena=%lu owner=%d mode=%s first=%llu nr=%u to=%llu result=%d",
		  __entry->arena, __entry->owner,
		  HKR_SHOW_MODE(__entry->mode), __entry->first, __entry->nr,
		  __entry->to, __entry->result)
);

/* an idle slot lost its memory; @age in epochs of 100 ms, by the owner's stamp */
TRACE_EVENT(hkr_reclaim,
	TP_PROTO(struct hkr_view *view, unsigned long slot, int node, u32 age,
		 enum hkr_why why),
	TP_ARGS(view, slot, node, age, why),
	TP_STRUCT__entry(
		__field(unsigned long, arena)
		__field(pid_t, owner)
		__array(char, comm, TASK_COMM_LEN)
		__field(unsigned long, slot)
		__field(int, node)
		__field(u32, age)
		__field(u32, why)
	),
	TP_fast_assign(
		__entry->arena = view->inode->i_ino;
		__entry->owner = view->tgid;
		memcpy(__entry->comm, view->comm, TASK_COMM_LEN);
		__entry->slot = slot;
		__entry->node = node;
		__entry->age = age;
		__entry->why = why;
	),
	TP_printk("arena=%lu owner=%d comm=%s slot=%lu node=%d age=%u why=%s",
		  __entry->arena, __entry->owner, __entry->comm, __entry->slot,
		  __entry->node, __entry->age, HKR_SHOW_WHY(__entry->why))
);

/* 2 MiB were zeroed; in line: while somebody waited */
TRACE_EVENT(hkr_zero,
	TP_PROTO(int node, bool background, u64 ns),
	TP_ARGS(node, background, ns),
	TP_STRUCT__entry(
		__field(int, node)
		__field(bool, background)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->node = node;
		__entry->background = background;
		__entry->ns = ns;
	),
	TP_printk("node=%d background=%d ns=%llu", __entry->node,
		  __entry->background, __entry->ns)
);

/* a folio is still used after its slot let go of it, and later no more */
TRACE_EVENT(hkr_orphan,
	TP_PROTO(unsigned long pfn, kuid_t uid, bool gone),
	TP_ARGS(pfn, uid, gone),
	TP_STRUCT__entry(
		__field(unsigned long, pfn)
		__field(uid_t, uid)
		__field(bool, gone)
	),
	TP_fast_assign(
		__entry->pfn = pfn;
		__entry->uid = from_kuid(&init_user_ns, uid);
		__entry->gone = gone;
	),
	TP_printk("pfn=%#lx uid=%u gone=%d", __entry->pfn, __entry->uid,
		  __entry->gone)
);

/* a page fault; @result is a VM_FAULT_ code of the core */
TRACE_EVENT(hkr_fault,
	TP_PROTO(struct hkr_view *view, unsigned long pgoff, bool write,
		 unsigned int result),
	TP_ARGS(view, pgoff, write, result),
	TP_STRUCT__entry(
		__field(unsigned long, arena)
		__field(pid_t, owner)
		__field(unsigned long, slot)
		__field(unsigned int, page)
		__field(bool, write)
		__field(unsigned int, result)
	),
	TP_fast_assign(
		__entry->arena = view->inode->i_ino;
		__entry->owner = view->tgid;
		__entry->slot = pgoff >> HKR_SLOT_ORDER;
		__entry->page = pgoff & (HKR_SLOT_PAGES - 1);
		__entry->write = write;
		__entry->result = result;
	),
	TP_printk("arena=%lu owner=%d slot=%lu page=%u write=%d result=%s",
		  __entry->arena, __entry->owner, __entry->slot, __entry->page,
		  __entry->write,
		  HKR_SHOW_FAULT(__entry->result))
);

#endif /* HKR_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
