// SPDX-License-Identifier: GPL-2.0
/*
 * Reclaim: the tick that makes epochs, decay, the shrinker, the last resort.
 *
 * An epoch is the coarse clock of idleness: an owner stamps it into a word that
 * becomes idle, at the price of one load from its control page. The tick moves
 * the epoch on, publishes it, samples what is idle (age.c), gives back what has
 * been idle for longer than its arena's decay, and looks after the orphans. It
 * is an ordinary delayed work, since a deferrable one may be late by seconds,
 * and runs while any slot holds memory; when nothing is idle it slows down, to
 * one look in HKR_TICK_REST epochs. Epochs are of the clock, not of the tick.
 *
 * Under pressure the kernel asks the shrinker: spare folios of the pool go
 * first, they cost nobody anything, then idle slots, oldest first. count reads
 * two numbers. scan looks at no more than twice what was asked and reports only
 * what reached the buddy allocator. No owner runs anything for this: not a
 * thread, not a timer, not a signal. A stopped process gives its idle slots
 * back as well as a running one.
 *
 * The OOM notifier is the last resort: it takes what is left before a process
 * is killed. The kernel calls off the kill for any progress, so we claim none
 * that is not real, and stand aside after a few rounds in a row.
 *
 * The reserve stays ours: what is taken below it goes to the pool.
 */

#include <linux/debugfs.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/oom.h>
#include <linux/sched/mm.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "age.h"
#include "hkr.h"
#include "memcg.h"

#define HKR_TICK_REST		4U	/* epochs between ticks at rest */
#define HKR_OOM_BATCH		64UL	/* slots for one call of the notifier */
#define HKR_OOM_ROUNDS		8	/* in a row, then the killer may act */
#define HKR_OOM_QUIET		(10 * HZ)	/* ends a row */

atomic_long_t hkr_resident;

static LIST_HEAD(hkr_views);
static DEFINE_MUTEX(hkr_views_lock);
static unsigned long hkr_idle_total;	/* written by the tick only */
static unsigned int hkr_tick_epochs = 1;	/* likewise: until the next */

static void hkr_tick(struct work_struct *work);
static DECLARE_DELAYED_WORK(hkr_tick_work, hkr_tick);

/**
 * hkr_epoch - the current epoch, 30 bits
 */
u32 hkr_epoch(void)
{
	u64 epoch = get_jiffies_64();

	do_div(epoch, max(msecs_to_jiffies(HKR_EPOCH_MS), 1UL));
	return epoch & HKR_WORD_EPOCH_MASK;
}

/**
 * hkr_idle_seen - idle slots of all views at the last tick
 */
unsigned long hkr_idle_seen(void)
{
	return READ_ONCE(hkr_idle_total);
}

static void hkr_publish(struct hkr_view *view, unsigned long clean)
{
	struct hkr_control *header = view->header;

	WRITE_ONCE(header->epoch, hkr_epoch());
	WRITE_ONCE(header->resident, atomic_long_read(&view->resident) +
				     atomic_long_read(&view->shared));
	WRITE_ONCE(header->reclaimed, atomic64_read(&view->count.reclaimed));
	WRITE_ONCE(header->pool_clean, clean);
}

/**
 * hkr_reclaim_idle - take every idle slot of a node, of every arena
 * @nid: node
 * @why: for tracing
 *
 * For memory that goes away; waits for locks that reclaim must not wait for.
 * The memory goes to the buddy allocator.
 *
 * Return: slots taken
 */
unsigned long hkr_reclaim_idle(int nid, enum hkr_why why)
{
	unsigned long all = atomic_long_read(&hkr_resident);
	const struct hkr_take every = {
		.want = all,
		.look = 2 * all,
		.to_buddy = true,
		.why = why,
	};
	struct hkr_take take = every;
	unsigned long taken = hkr_take_node(nid, &take);
	struct hkr_view *view;

	/* a view that is about to end waits for this lock first */
	mutex_lock(&hkr_views_lock);
	list_for_each_entry(view, &hkr_views, link) {
		take = every;
		if (view->ages)
			taken += hkr_take_slots(view->ages[nid], &take);
	}
	mutex_unlock(&hkr_views_lock);
	/* what is reported as reclaimable is less now */
	hkr_tick_kick();
	return taken;
}

/* all that are idle for longer than their owners allow */
static struct hkr_take hkr_expired(void)
{
	unsigned long all = atomic_long_read(&hkr_resident);

	return (struct hkr_take){
		.want = all,
		.look = 2 * all,
		.expired_only = true,
		.why = HKR_WHY_DECAY,
	};
}

/**
 * struct hkr_seen - by one tick
 * @idle: slots that were
 * @taken: those of them that had been so for long enough
 */
struct hkr_seen {
	unsigned long idle, taken;
};

/* sample and decay where arenas share their lists: memory to the pool */
static void hkr_tick_shared(struct hkr_seen *seen)
{
	int nid;

	seen->idle += hkr_age_tick();
	for_each_node_state(nid, N_MEMORY) {
		struct hkr_take take = hkr_expired();

		seen->taken += hkr_take_node(nid, &take);
	}
}

/* the same where an arena has its own: memory to the buddy allocator */
static void hkr_tick_charged(struct hkr_view *view, struct hkr_seen *seen)
{
	int nid;

	seen->idle += hkr_age_tick_view(view);
	for (nid = 0; nid < nr_node_ids; nid++) {
		struct hkr_take take = hkr_expired();

		if (view->ages[nid])
			seen->taken += hkr_take_slots(view->ages[nid], &take);
	}
}

static void hkr_tick_views(unsigned long clean, struct hkr_seen *seen)
{
	struct hkr_view *view;

	/* a view that is about to end waits for this lock first */
	mutex_lock(&hkr_views_lock);
	list_for_each_entry(view, &hkr_views, link) {
		hkr_share_tick(view);
		if (view->ages)
			hkr_tick_charged(view, seen);
		hkr_publish(view, clean);
	}
	mutex_unlock(&hkr_views_lock);
}

static void hkr_tick(struct work_struct *work)
{
	unsigned long clean, dirty, orphans;
	struct hkr_seen seen = {};
	/*
	 * Before anything is counted: the clean list is about to grow, which
	 * owners are shown, and a folio that is being zeroed is on no list. The
	 * last tick for a while must find it there.
	 */
	bool zeroing = hkr_zero_pending();
	/* and of what goes while we look, the next sample will say so */
	bool held = hkr_shares() || atomic_long_read(&hkr_resident);

	orphans = hkr_orphans_retry();
	hkr_tick_shared(&seen);
	hkr_pool_count(HKR_NODE_ANY, &clean, &dirty);
	hkr_tick_views(clean, &seen);
	WRITE_ONCE(hkr_idle_total, seen.idle - min(seen.idle, seen.taken));

	/* what was taken had been reported as reclaimable: until the next tick */
	if (seen.idle || orphans || zeroing || hkr_shares())
		hkr_tick_epochs = 1;
	else
		hkr_tick_epochs = min(2 * hkr_tick_epochs, HKR_TICK_REST);
	if (held || orphans || zeroing || hkr_shares() ||
	    atomic_long_read(&hkr_resident))
		schedule_delayed_work(&hkr_tick_work, hkr_tick_epochs *
				      msecs_to_jiffies(HKR_EPOCH_MS));
}

/**
 * hkr_tick_kick - there is something for the tick to look at
 */
void hkr_tick_kick(void)
{
	schedule_delayed_work(&hkr_tick_work, msecs_to_jiffies(HKR_EPOCH_MS));
}

/**
 * hkr_tick_start - a view got memory
 * @view: its header may be stale: no tick may have run for long
 */
void hkr_tick_start(struct hkr_view *view)
{
	WRITE_ONCE(view->header->epoch, hkr_epoch());
	hkr_tick_kick();
}

/**
 * hkr_views_add - the tick shall publish to a view
 * @view: just set up
 */
void hkr_views_add(struct hkr_view *view)
{
	mutex_lock(&hkr_views_lock);
	list_add_tail(&view->link, &hkr_views);
	mutex_unlock(&hkr_views_lock);
}

/**
 * hkr_views_del - the tick shall not look at a view any more
 * @view: about to end; may never have been added
 */
void hkr_views_del(struct hkr_view *view)
{
	mutex_lock(&hkr_views_lock);
	list_del_init(&view->link);
	mutex_unlock(&hkr_views_lock);
}

static unsigned long hkr_shrink_count_node(int nid)
{
	return min(hkr_age_count(nid) + hkr_pool_spare(nid),
		   hkr_pool_above_reserve() + hkr_singles());
}

/* slots freed to the buddy allocator; @looked: out, slots looked at */
static unsigned long hkr_shrink_node(int nid, unsigned long want,
				     enum hkr_why why, unsigned long *looked)
{
	unsigned long freed;
	struct hkr_take take = {
		.look = 2 * want,
		.to_buddy = true,
		.keep_reserve = true,
		.why = why,
	};

	hkr_zero_press(nid);
	freed = hkr_pool_shrink(nid, want);
	take.want = want - freed;
	freed += hkr_take_node(nid, &take);
	*looked = 2 * want - take.look;
	/* what is reported as reclaimable is less now */
	if (freed)
		hkr_tick_kick();
	return freed;
}

static unsigned long hkr_shrink_count(struct shrinker *shrinker,
				      struct shrink_control *sc)
{
	/* pages: a small count would be shifted to nothing */
	return HKR_SLOT_PAGES * hkr_shrink_count_node(sc->nid);
}

static unsigned long hkr_shrink_scan(struct shrinker *shrinker,
				     struct shrink_control *sc)
{
	unsigned long want = DIV_ROUND_UP(sc->nr_to_scan, HKR_SLOT_PAGES);
	unsigned long freed, looked;

	freed = HKR_SLOT_PAGES * hkr_shrink_node(sc->nid, want,
						 HKR_WHY_SHRINKER, &looked);
	sc->nr_scanned = max(sc->nr_to_scan, freed);
	hkr_account_reclaimed(freed);
	/* what was looked at in vain is no longer in the way of the next call */
	return freed || looked ? freed : SHRINK_STOP;
}

/*
 * Not called for the limit of a cgroup, a cpuset or a policy. Any number above
 * zero calls the kill off, so it must be memory that is really free.
 */
static int hkr_oom(struct notifier_block *nb, unsigned long unused, void *freed)
{
	static unsigned int rounds;	/* oom_lock is held */
	static unsigned long last;
	unsigned long got = 0, looked;
	int nid;

	if (time_after(jiffies, last + HKR_OOM_QUIET))
		rounds = 0;
	last = jiffies;
	if (rounds >= HKR_OOM_ROUNDS)
		return NOTIFY_OK;
	for_each_node_state(nid, N_MEMORY) {
		struct hkr_take take = {
			.want = HKR_OOM_BATCH,
			.look = 2 * HKR_OOM_BATCH,
			.to_buddy = true,
			.why = HKR_WHY_OOM,
		};

		got += hkr_shrink_node(nid, HKR_OOM_BATCH, HKR_WHY_OOM,
				       &looked);
		got += hkr_memcg_take_any(nid, &take);
	}
	if (got)
		rounds++;
	*(unsigned long *)freed += HKR_SLOT_PAGES * got;
	return NOTIFY_OK;
}

static struct notifier_block hkr_oom_nb = {
	.notifier_call = hkr_oom,
};

/*
 * debugfs: /sys/kernel/debug/hakmem_region/shrink. Write "SLOTS" or "SLOTS
 * NODE" to run count and scan as reclaim would, under fs_reclaim, so that
 * lockdep checks it without any pressure. Read: what the last write did.
 */
struct dentry *hkr_debugfs;
static char hkr_trigger_result[128];	/* hkr_trigger_lock */
static DEFINE_MUTEX(hkr_trigger_lock);

static void hkr_trigger(unsigned long want, int nid)
{
	unsigned long before, after, freed, looked;
	unsigned int flags;

	fs_reclaim_acquire(GFP_KERNEL);
	flags = memalloc_noreclaim_save();
	before = hkr_shrink_count_node(nid);
	freed = hkr_shrink_node(nid, want, HKR_WHY_TRIGGER, &looked);
	after = hkr_shrink_count_node(nid);
	memalloc_noreclaim_restore(flags);
	fs_reclaim_release(GFP_KERNEL);
	snprintf(hkr_trigger_result, sizeof(hkr_trigger_result),
		 "count %lu asked %lu looked %lu freed %lu left %lu\n",
		 before, want, looked, freed, after);
}

static ssize_t hkr_trigger_write(struct file *file, const char __user *ubuf,
				 size_t len, loff_t *pos)
{
	unsigned long want;
	char buf[64] = "";
	int nid = first_memory_node;

	if (len >= sizeof(buf))
		return -EINVAL;
	if (copy_from_user(buf, ubuf, len))
		return -EFAULT;
	if (sscanf(buf, "%lu %d", &want, &nid) < 1 || want > LONG_MAX / 4)
		return -EINVAL;
	if (nid < 0 || nid >= nr_node_ids || !node_state(nid, N_MEMORY))
		return -ENXIO;
	if (mutex_lock_killable(&hkr_trigger_lock))
		return -EINTR;
	hkr_trigger(want, nid);
	mutex_unlock(&hkr_trigger_lock);
	return len;
}

static ssize_t hkr_trigger_read(struct file *file, char __user *ubuf,
				size_t len, loff_t *pos)
{
	ssize_t ret;
	char buf[sizeof(hkr_trigger_result)];

	if (mutex_lock_killable(&hkr_trigger_lock))
		return -EINTR;
	strscpy(buf, hkr_trigger_result, sizeof(buf));
	mutex_unlock(&hkr_trigger_lock);
	ret = simple_read_from_buffer(ubuf, len, pos, buf, strlen(buf));
	return ret;
}

static const struct file_operations hkr_trigger_fops = {
	.owner	= THIS_MODULE,
	.open	= simple_open,
	.read	= hkr_trigger_read,
	.write	= hkr_trigger_write,
	.llseek	= default_llseek,
};

static struct hkr_shrinker hkr_shrinker = {
	.count = hkr_shrink_count,
	.scan = hkr_shrink_scan,
	.batch = HKR_SLOT_PAGES,
	.seeks = 1,
};

/**
 * hkr_reclaim_init - from now on the kernel may take memory back
 *
 * Return: 0 or -errno, with nothing left behind
 */
int hkr_reclaim_init(void)
{
	int ret = hkr_shrinker_register(&hkr_shrinker, "hakmem_region");

	if (ret)
		return ret;
	ret = register_oom_notifier(&hkr_oom_nb);
	if (ret)
		goto unregister_shrinker;
	/* without debugfs everything works but the trigger */
	hkr_debugfs = debugfs_create_dir("hakmem_region", NULL);
	debugfs_create_file("shrink", 0600, hkr_debugfs, NULL,
			    &hkr_trigger_fops);
	return 0;

unregister_shrinker:
	hkr_shrinker_unregister(&hkr_shrinker);
	return ret;
}

/**
 * hkr_reclaim_exit - nothing takes memory back any more, no tick runs
 *
 * Before anything that reclaim looks at goes.
 */
void hkr_reclaim_exit(void)
{
	debugfs_remove(hkr_debugfs);
	unregister_oom_notifier(&hkr_oom_nb);
	hkr_shrinker_unregister(&hkr_shrinker);
	cancel_delayed_work_sync(&hkr_tick_work);
}
