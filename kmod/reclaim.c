// SPDX-License-Identifier: GPL-2.0
/*
 * Epochs, and the tick that makes them.
 *
 * An epoch is the coarse clock of idleness: an owner stamps it into a word that
 * becomes idle, at the price of one load from its control page. The tick moves
 * the epoch on, publishes it to every view together with what else the control
 * header shows, samples how much is idle, and looks after the orphans. It runs
 * while any slot holds memory or an orphan is waited for, and not otherwise.
 *
 * What the tick counts as idle is the kernel's own sample: the word says IDLE,
 * the record says that there is memory, and the reference count that nobody
 * pins it.
 */

#include <linux/bitmap.h>
#include <linux/workqueue.h>

#include "hkr.h"

atomic_long_t hkr_resident;

static LIST_HEAD(hkr_views);
static DEFINE_MUTEX(hkr_views_lock);
static u32 hkr_now;			/* the epoch; written by the tick only */
static unsigned long hkr_idle_total;	/* likewise */

static void hkr_tick(struct work_struct *work);
static DECLARE_DELAYED_WORK(hkr_tick_work, hkr_tick);

/**
 * hkr_epoch - the current epoch, 30 bits
 */
u32 hkr_epoch(void)
{
	return READ_ONCE(hkr_now);
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

	WRITE_ONCE(header->epoch, hkr_now);
	WRITE_ONCE(header->resident, atomic_long_read(&view->resident));
	WRITE_ONCE(header->reclaimed, atomic64_read(&view->count.reclaimed));
	WRITE_ONCE(header->pool_clean, clean);
}

static void hkr_tick(struct work_struct *work)
{
	unsigned long clean, dirty, idle = 0, orphans;
	struct hkr_view *view;

	WRITE_ONCE(hkr_now, (hkr_now + 1) & HKR_WORD_EPOCH_MASK);
	orphans = hkr_orphans_retry();
	hkr_pool_count(HKR_NODE_ANY, &clean, &dirty);

	mutex_lock(&hkr_views_lock);
	list_for_each_entry(view, &hkr_views, link) {
		hkr_publish(view, clean);
		if (atomic_long_read(&view->resident))
			idle += hkr_count_idle(view);
		cond_resched();
	}
	mutex_unlock(&hkr_views_lock);
	WRITE_ONCE(hkr_idle_total, idle);

	if (orphans || dirty || atomic_long_read(&hkr_resident))
		hkr_tick_kick();
}

/**
 * hkr_tick_kick - there is something for the tick to look at
 */
void hkr_tick_kick(void)
{
	schedule_delayed_work(&hkr_tick_work, msecs_to_jiffies(HKR_EPOCH_MS));
}

/**
 * hkr_tick_stop - no tick runs any more; nobody is left to kick it
 */
void hkr_tick_stop(void)
{
	cancel_delayed_work_sync(&hkr_tick_work);
}

/**
 * hkr_views_add - the tick shall look at a view
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
