// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that goes away: blocks that are taken offline, and hibernation.
 *
 * Our memory is unmovable: it never lies in a movable zone, and a block with a
 * slot that is in use cannot go offline. What nobody uses can be given: the pool
 * with its reserve, and idle slots.
 *
 * The kernel asks late. It isolates a range before it calls its notifiers, and
 * in a zone that is not movable one folio of ours is enough to fail that, so
 * that MEM_GOING_OFFLINE only ever names a range without any. It is news about
 * the node all the same: memory goes by the DIMM or by the node, block after
 * block. So at the first block that can go, everything that may be given on its
 * node is, and the blocks that were refused can be had by a second try; an ACPI
 * eject makes one by itself. For HKR_OFFLINE_HOLD after that the node's pool
 * takes nothing in, lest the reserve be filled again from the blocks that are to
 * go next; the threads of other nodes fill it. Where every block holds something
 * of ours, debugfs has the same by hand: write the node to
 * /sys/kernel/debug/hakmem_region/drain.
 *
 * Memory that comes needs nothing made: all nodes that there may ever be have
 * their pool and their lists. It ends the hold of its node, and the threads look
 * at the reserve again.
 *
 * Hibernation writes to disk whatever is allocated. Before it the pools are
 * emptied and put on hold, and all idle slots are taken; what becomes idle while
 * processes still run decays as ever. After it, also in the kernel that came
 * back from the image, the reserve is filled again.
 *
 * Both notifiers may sleep. Memory events hold mem_hotplug_lock, those of
 * hibernation system_transition_mutex, and each the lock of its chain; whoever
 * waits for one of these holds no lock of ours. In here hkr_views_lock is
 * taken, and leaves.
 */

#include <linux/debugfs.h>
#include <linux/jiffies.h>
#include <linux/memory.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/suspend.h>
#include <linux/uaccess.h>

#include "hkr.h"

#define HKR_OFFLINE_HOLD	(60 * HZ)	/* after the last block */

struct hkr_given {
	unsigned long pool;	/* folios */
	unsigned long idle;	/* slots */
};

/* what a node can spare; its pool is on hold, so that nothing comes back */
static void hkr_give_node(int nid, enum hkr_why why, struct hkr_given *given)
{
	given->pool += hkr_pool_empty(nid);
	given->idle += hkr_reclaim_idle(nid, why);
}

static struct hkr_given hkr_clear_node(int nid)
{
	struct hkr_given given = { 0 };

	hkr_pool_hold(nid, get_jiffies_64() + HKR_OFFLINE_HOLD);
	hkr_give_node(nid, HKR_WHY_OFFLINE, &given);
	hkr_pools_kick();
	return given;
}

static int hkr_memory_event(struct notifier_block *nb, unsigned long event,
			    void *data)
{
	const struct memory_notify *range = data;
	struct page *page = pfn_to_page(range->start_pfn);

	switch (event) {
	case MEM_GOING_OFFLINE:
		if (!is_zone_movable_page(page))
			hkr_clear_node(page_to_nid(page));
		break;
	case MEM_ONLINE:
		hkr_pool_resume(page_to_nid(page));
		hkr_pools_kick();
		break;
	}
	return NOTIFY_OK;
}

static int hkr_pm_event(struct notifier_block *nb, unsigned long event,
			void *unused)
{
	struct hkr_given given = { 0 };
	int nid;

	switch (event) {
	case PM_HIBERNATION_PREPARE:
		for_each_node(nid)
			hkr_pool_hold(nid, U64_MAX);
		for_each_node(nid)
			hkr_give_node(nid, HKR_WHY_HIBERNATE, &given);
		break;
	case PM_POST_HIBERNATION:
		for_each_node(nid)
			hkr_pool_resume(nid);
		hkr_pools_kick();
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block hkr_memory_nb = {
	.notifier_call = hkr_memory_event,
};

static struct notifier_block hkr_pm_nb = {
	.notifier_call = hkr_pm_event,
};

/* write a node to clear it as MEM_GOING_OFFLINE does; read what that gave */
static struct dentry *hkr_drain_file;
static DEFINE_MUTEX(hkr_drain_lock);
static struct hkr_given hkr_drained;	/* hkr_drain_lock */

static ssize_t hkr_drain_write(struct file *file, const char __user *ubuf,
			       size_t len, loff_t *pos)
{
	unsigned int nid;
	int ret = kstrtouint_from_user(ubuf, len, 0, &nid);

	if (ret)
		return ret;
	if (nid >= nr_node_ids || !node_state(nid, N_MEMORY))
		return -ENXIO;
	if (mutex_lock_killable(&hkr_drain_lock))
		return -EINTR;
	hkr_drained = hkr_clear_node(nid);
	mutex_unlock(&hkr_drain_lock);
	return len;
}

static ssize_t hkr_drain_read(struct file *file, char __user *ubuf, size_t len,
			      loff_t *pos)
{
	char buf[64];
	int n;

	if (mutex_lock_killable(&hkr_drain_lock))
		return -EINTR;
	n = snprintf(buf, sizeof(buf), "pool %lu idle %lu\n", hkr_drained.pool,
		     hkr_drained.idle);
	mutex_unlock(&hkr_drain_lock);
	return simple_read_from_buffer(ubuf, len, pos, buf, n);
}

static const struct file_operations hkr_drain_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.read	= hkr_drain_read,
	.write	= hkr_drain_write,
	.llseek	= default_llseek,
};

/**
 * hkr_offline_init - from now on memory that goes is told of
 *
 * On a kernel without hotplug, or without hibernation, nobody ever calls.
 *
 * Return: 0 or -errno, with nothing left behind
 */
int hkr_offline_init(void)
{
	int ret = register_memory_notifier(&hkr_memory_nb);

	if (ret)
		return ret;
	ret = register_pm_notifier(&hkr_pm_nb);
	if (ret) {
		unregister_memory_notifier(&hkr_memory_nb);
		return ret;
	}
	hkr_drain_file = debugfs_create_file("drain", 0600, hkr_debugfs, NULL,
					     &hkr_drain_fops);
	return 0;
}

/**
 * hkr_offline_exit - nobody asks for memory any more; the pools are there still
 */
void hkr_offline_exit(void)
{
	debugfs_remove(hkr_drain_file);
	unregister_pm_notifier(&hkr_pm_nb);
	unregister_memory_notifier(&hkr_memory_nb);
}
