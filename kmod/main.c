// SPDX-License-Identifier: GPL-2.0
/*
 * hakmem_region: the module, its parameters and the device.
 *
 * Everything that a file can start must be stopped before what it uses goes:
 * the device first (no new file, and none is open or rmmod would be refused),
 * then the notifiers, reclaim and its tick, then orphans, the pool, and the
 * lists by age.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>

#include "age.h"
#include "hkr.h"
#include "memcg.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

#define HKR_MAX_ARENA	(1UL << 20)	/* slots: 2 TiB of addresses */
#define HKR_MIN_ARENA	512UL		/* may be had on any machine: 1 GiB */

static unsigned long reserve_mb = 64;
module_param(reserve_mb, ulong, 0444);
MODULE_PARM_DESC(reserve_mb, "MiB taken at load and kept (64)");

static unsigned long pool_max_mb;
module_param(pool_max_mb, ulong, 0444);
MODULE_PARM_DESC(pool_max_mb,
		 "most MiB of free folios kept (0: reserve_mb + RAM/16)");

static unsigned long open_max_mb;
module_param(open_max_mb, ulong, 0444);
MODULE_PARM_DESC(open_max_mb, "most MiB for one open file (0: RAM/4)");

static unsigned long user_max_mb;
module_param(user_max_mb, ulong, 0444);
MODULE_PARM_DESC(user_max_mb, "most MiB for one user (0: RAM/4)");

static int idle_decay_ms = 1000;
module_param(idle_decay_ms, int, 0444);
MODULE_PARM_DESC(idle_decay_ms,
		 "idle slots go back after so many ms, where SETUP says nothing; 0: at the next tick, -1: never (1000)");
static unsigned long total_max_mb;
module_param(total_max_mb, ulong, 0444);
MODULE_PARM_DESC(total_max_mb, "most MiB for all users (0: RAM/2)");

static char *charge = "auto";
module_param(charge, charp, 0444);
MODULE_PARM_DESC(charge,
		 "charge memory to the owner's cgroup: auto (where a limit is set), always, never (auto)");

struct hkr_limits hkr_limits;

static int hkr_open(struct inode *inode, struct file *file)
{
	struct hkr_arena *arena = hkr_arena_new(file);

	if (IS_ERR(arena))
		return PTR_ERR(arena);
	file->private_data = arena;
	return 0;
}

static int hkr_release(struct inode *inode, struct file *file)
{
	/* the arena's inode goes with it */
	file->f_mapping = inode->i_mapping;
	hkr_arena_end(file->private_data);
	return 0;
}

static const struct file_operations hkr_fops = {
	.owner			= THIS_MODULE,
	.open			= hkr_open,
	.release		= hkr_release,
	.unlocked_ioctl		= hkr_ioctl,
	.compat_ioctl		= compat_ptr_ioctl,
	.uring_cmd		= hkr_uring_cmd,
	.mmap			= hkr_mmap,
	.get_unmapped_area	= thp_get_unmapped_area,
	.llseek			= noop_llseek,
};

static struct miscdevice hkr_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "hakmem_region",
	.fops	= &hkr_fops,
	.mode	= 0660,
	.groups	= hkr_groups,
};

static unsigned long hkr_mb_to_slots(unsigned long mb)
{
	return mb / (HKR_SLOT_SIZE >> 20);
}

/**
 * hkr_decay_epochs - a decay in epochs
 * @ms: milliseconds; negative: never
 */
s32 hkr_decay_epochs(s32 ms)
{
	return ms < 0 ? -1 : DIV_ROUND_UP((u32)ms, HKR_EPOCH_MS);
}

static int hkr_set_limits(void)
{
	unsigned long ram = totalram_pages() >> HKR_SLOT_ORDER;

	hkr_limits.reserve = hkr_mb_to_slots(reserve_mb);
	hkr_limits.pool_max = pool_max_mb ? hkr_mb_to_slots(pool_max_mb) :
					    hkr_limits.reserve + ram / 16;
	hkr_limits.open_max = open_max_mb ? hkr_mb_to_slots(open_max_mb) :
					    max(ram / 4, 1UL);
	hkr_limits.user_max = user_max_mb ? hkr_mb_to_slots(user_max_mb) :
					    max(ram / 4, 1UL);
	hkr_limits.decay_epochs = hkr_decay_epochs(idle_decay_ms);
	hkr_limits.total_max = total_max_mb ? hkr_mb_to_slots(total_max_mb) :
					      max(ram / 2, 1UL);
	hkr_limits.max_slots = clamp(2 * ram, HKR_MIN_ARENA, HKR_MAX_ARENA);
	hkr_limits.user_kmem = (ram << HKR_SLOT_SHIFT) / 64;
	hkr_limits.total_kmem = 2 * hkr_limits.user_kmem;

	if (hkr_limits.reserve > ram / 2) {
		pr_err("reserve_mb=%lu is more than half of %lu MiB\n",
		       reserve_mb, 2 * ram);
		return -EINVAL;
	}
	if (hkr_limits.pool_max < hkr_limits.reserve) {
		pr_err("pool_max_mb=%lu is less than reserve_mb=%lu\n",
		       pool_max_mb, reserve_mb);
		return -EINVAL;
	}
	if (!hkr_limits.open_max || !hkr_limits.user_max ||
	    !hkr_limits.total_max) {
		pr_err("open_max_mb, user_max_mb and total_max_mb must be at least 2\n");
		return -EINVAL;
	}
	return 0;
}

static int __init hkr_init(void)
{
	int ret;

	if (!has_transparent_hugepage()) {
		pr_err("this CPU has no 2 MiB pages\n");
		return -ENODEV;
	}
	ret = hkr_set_limits();
	if (ret)
		return ret;
	ret = hkr_age_init();
	if (ret)
		return ret;
	ret = hkr_pool_init();
	if (ret)
		goto exit_age;
	ret = hkr_memcg_init(charge);
	if (ret)
		goto exit_pool;
	ret = hkr_reclaim_init();
	if (ret)
		goto exit_memcg;
	ret = hkr_offline_init();
	if (ret)
		goto exit_reclaim;
	ret = misc_register(&hkr_misc);
	if (ret)
		goto exit_offline;
	return 0;

exit_offline:
	hkr_offline_exit();
exit_reclaim:
	hkr_reclaim_exit();
exit_memcg:
	hkr_memcg_exit();
exit_pool:
	hkr_pool_exit();
exit_age:
	hkr_age_exit();
	return ret;
}

static void __exit hkr_exit(void)
{
	long live;

	misc_deregister(&hkr_misc);
	hkr_offline_exit();
	hkr_reclaim_exit();
	/* the OOM notifier looked at its lists */
	hkr_memcg_exit();
	hkr_orphans_exit();
	hkr_pool_exit();
	hkr_age_exit();
	live = atomic_long_read(&hkr_pool_stats.live);
	WARN_ON_ONCE(live);
	pr_info("unloaded, %ld live folios\n", live);
}

module_init(hkr_init);
module_exit(hkr_exit);

MODULE_DESCRIPTION("Pre-zeroed 2 MiB folios in one mapping per process");
MODULE_AUTHOR("hakmem_region maintainers");
MODULE_LICENSE("GPL");
