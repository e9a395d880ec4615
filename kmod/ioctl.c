// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctl table: a command is a struct, a row and a function.
 *
 * The two that take arrays also come by io_uring (uring.c). Both ways lead to
 * hkr_run_command(), so that they do the same and fail the same.
 *
 * The dispatcher copies the structure in and out by the size the caller gives,
 * so that a handler sees its own, newest form only. Handlers return 0 or a
 * positive count when the structure is to be copied out.
 */

#include <linux/nodemask.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "hkr.h"
#include "memcg.h"

union hkr_arg {
	struct {
		__u32 size;
		__u32 flags;
	} head;
	struct hkr_info info;
	struct hkr_setup setup;
	struct hkr_handout handout;
	struct hkr_recycle recycle;
	struct hkr_trim trim;
	struct hkr_stats stats;
};

struct hkr_ioctl_op {
	u32 size;	/* of the structure now */
	u32 min_size;	/* of its first version */
	u32 flags;	/* that are known */
	long (*run)(struct hkr_view *view, union hkr_arg *arg);
};

/* how many nodes there are; each is written as far as the caller has room */
static long hkr_copy_nodes(u64 uaddr, u32 room)
{
	struct hkr_node_info __user *to = u64_to_user_ptr(uaddr);
	long nr = 0;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		struct hkr_node_info node = { .node = nid };
		unsigned long clean, dirty;

		if (uaddr && nr < room) {
			hkr_pool_count(nid, &clean, &dirty);
			node.clean = clean;
			node.dirty = dirty;
			if (copy_to_user(to + nr, &node, sizeof(node)))
				return -EFAULT;
		}
		nr++;
	}
	return nr;
}

static long hkr_ioctl_info(struct hkr_view *view, union hkr_arg *arg)
{
	struct hkr_info *info = &arg->info;
	long nr;

	if (!IS_ALIGNED(info->nodes, 8))
		return -EINVAL;
	nr = hkr_copy_nodes(info->nodes, info->nr_nodes);
	if (nr < 0)
		return nr;
	info->nr_nodes = nr;
	info->abi_version = HKR_ABI_VERSION;
	info->features = HKR_FEAT_RECLAIM | HKR_FEAT_FORK |
			 (hkr_memcg_possible() ? HKR_FEAT_CHARGE : 0) |
			 (IS_ENABLED(CONFIG_IO_URING) ? HKR_FEAT_URING : 0);
	info->slot_size = HKR_SLOT_SIZE;
	info->max_slots = hkr_limits.max_slots;
	info->open_limit = hkr_limits.open_max;
	info->user_limit = hkr_limits.user_max;
	return 0;
}

static long hkr_ioctl_setup(struct hkr_view *view, union hkr_arg *arg)
{
	struct hkr_setup *setup = &arg->setup;
	s32 decay = hkr_limits.decay_epochs;
	int ret;

	if (setup->charged)
		return -EINVAL;
	if (setup->flags & HKR_SETUP_DECAY)
		decay = hkr_decay_epochs(setup->idle_decay_ms);
	else if (setup->idle_decay_ms)
		return -EINVAL;
	ret = hkr_view_setup(view, setup->nr_slots, setup->flags, decay);
	if (ret)
		return ret;
	setup->arena_offset = HKR_OFF_ARENA;
	setup->arena_size = setup->nr_slots << HKR_SLOT_SHIFT;
	setup->control_offset = HKR_OFF_CONTROL;
	setup->control_size = PAGE_SIZE * hkr_control_pages(setup->nr_slots);
	setup->words_offset = HKR_WORDS_OFFSET;
	setup->charged = !!view->ages;
	return 0;
}

/* a copy of a caller's array, known to be writable there; to be kvfree()d */
static void *hkr_array_get(u64 uaddr, u32 nr, size_t each)
{
	void __user *from = u64_to_user_ptr(uaddr);
	void *array;

	if (!nr || !IS_ALIGNED(uaddr, 8))
		return ERR_PTR(-EINVAL);
	if (nr > HKR_MAX_BATCH)
		return ERR_PTR(-E2BIG);
	array = kvmalloc_array(nr, each, HKR_GFP_RECORDS);
	if (!array)
		return ERR_PTR(-ENOMEM);
	if (copy_from_user(array, from, nr * each) ||
	    copy_to_user(from, array, nr * each)) {
		kvfree(array);
		return ERR_PTR(-EFAULT);
	}
	return array;
}

static long hkr_array_put(u64 uaddr, void *array, u32 nr, size_t each,
			  long done)
{
	if (copy_to_user(u64_to_user_ptr(uaddr), array, nr * each))
		done = -EFAULT;
	kvfree(array);
	return done;
}

static int hkr_view_check(struct hkr_view *view)
{
	int ret = hkr_view_enter(view);

	if (!ret)
		hkr_view_leave(view);
	return ret;
}

static long hkr_ioctl_handout(struct hkr_view *view, union hkr_arg *arg)
{
	struct hkr_handout *call = &arg->handout;
	struct hkr_handout_req *req;
	long done = 0;
	u32 i;
	int ret;

	ret = hkr_view_check(view);
	if (ret)
		return ret;
	if (call->__reserved)
		return -EINVAL;
	req = hkr_array_get(call->reqs, call->nr, sizeof(*req));
	if (IS_ERR(req))
		return PTR_ERR(req);
	for (i = 0; i < call->nr; i++) {
		req[i].result = hkr_uring_cancelled() ?
				-EINTR : hkr_handout(view, &req[i]);
		if (!req[i].result)
			done++;
		cond_resched();
	}
	return hkr_array_put(call->reqs, req, call->nr, sizeof(*req), done);
}

static long hkr_ioctl_recycle(struct hkr_view *view, union hkr_arg *arg)
{
	struct hkr_recycle *call = &arg->recycle;
	struct hkr_range *range;
	long done = 0;
	u32 i;
	int ret;

	ret = hkr_view_check(view);
	if (ret)
		return ret;
	if (call->mode > HKR_RECYCLE_MOVE)
		return -EOPNOTSUPP;
	range = hkr_array_get(call->ranges, call->nr, sizeof(*range));
	if (IS_ERR(range))
		return PTR_ERR(range);
	for (i = 0; i < call->nr; i++) {
		range[i].result = hkr_uring_cancelled() ?
				  -EINTR :
				  hkr_recycle(view, call->mode, &range[i]);
		if (!range[i].result)
			done++;
		cond_resched();
	}
	return hkr_array_put(call->ranges, range, call->nr, sizeof(*range),
			     done);
}

static long hkr_ioctl_trim(struct hkr_view *view, union hkr_arg *arg)
{
	return hkr_trim(view, &arg->trim);
}

static long hkr_ioctl_stats(struct hkr_view *view, union hkr_arg *arg)
{
	int ret = hkr_view_enter(view);

	if (ret)
		return ret;
	hkr_view_stats(view, &arg->stats);
	hkr_view_leave(view);
	return 0;
}

#define HKR_OP(cmd, type, last, known, fn)				\
	[_IOC_NR(cmd) - _IOC_NR(HKR_IOC_INFO)] = {			\
		.size = sizeof(struct type),				\
		.min_size = offsetofend(struct type, last),		\
		.flags = known,						\
		.run = fn,						\
	}

static const struct hkr_ioctl_op hkr_ioctl_ops[] = {
	HKR_OP(HKR_IOC_INFO, hkr_info, nodes, 0, hkr_ioctl_info),
	HKR_OP(HKR_IOC_SETUP, hkr_setup, charged,
	       HKR_SETUP_EXEC | HKR_SETUP_DUMP | HKR_SETUP_DECAY,
	       hkr_ioctl_setup),
	HKR_OP(HKR_IOC_HANDOUT, hkr_handout, reqs, 0, hkr_ioctl_handout),
	HKR_OP(HKR_IOC_RECYCLE, hkr_recycle, ranges, 0, hkr_ioctl_recycle),
	HKR_OP(HKR_IOC_TRIM, hkr_trim, nr_trimmed, 0, hkr_ioctl_trim),
	HKR_OP(HKR_IOC_STATS, hkr_stats, bytes_zeroed_inline, 0,
	       hkr_ioctl_stats),
};

static const struct hkr_ioctl_op *hkr_ioctl_op(unsigned int cmd)
{
	unsigned int nr = _IOC_NR(cmd) - _IOC_NR(HKR_IOC_INFO);

	if (nr >= ARRAY_SIZE(hkr_ioctl_ops))
		return NULL;
	/* direction and size bits are zero in every number of ours */
	if (cmd != _IO(HKR_IOC_MAGIC, _IOC_NR(cmd)))
		return NULL;
	return &hkr_ioctl_ops[array_index_nospec(nr,
						 ARRAY_SIZE(hkr_ioctl_ops))];
}

/**
 * hkr_run_command - one command of a caller in user space
 * @arena: of a file that the caller keeps
 * @cmd: HKR_IOC_*
 * @uaddr: address of the command's structure, in current->mm
 *
 * Return: what the command returns, a count or -errno
 */
long hkr_run_command(struct hkr_arena *arena, unsigned int cmd, u64 uaddr)
{
	const struct hkr_ioctl_op *op = hkr_ioctl_op(cmd);
	void __user *user = u64_to_user_ptr(uaddr);
	union hkr_arg arg = { };
	struct hkr_view *view;
	long ret, copy_ret;
	u32 size;

	if (!op)
		return -ENOTTY;
	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	copy_ret = copy_struct_from_user(&arg, op->size, user, size);
	if (copy_ret)
		return copy_ret;
	if (arg.head.flags & ~op->flags)
		return -EOPNOTSUPP;
	/* before anything is done: can the answer be written? */
	if (copy_to_user(user, &arg, min(size, op->size)))
		return -EFAULT;

	/* NULL for a process without a view: most commands are not for it */
	view = hkr_view_get(arena);
	ret = op->run(view, &arg);
	if (view)
		hkr_view_put(view);
	if (ret < 0)
		return ret;
	/* the size may have been changed since it was read */
	arg.head.size = size;
	if (copy_to_user(user, &arg, min(size, op->size)))
		return -EFAULT;
	return ret;
}

/**
 * hkr_ioctl - the device's ioctl operation
 * @file: of the device
 * @cmd: HKR_IOC_*
 * @uaddr: address of the command's structure
 */
long hkr_ioctl(struct file *file, unsigned int cmd, unsigned long uaddr)
{
	return hkr_run_command(file->private_data, cmd, uaddr);
}
