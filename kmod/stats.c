// SPDX-License-Identifier: GPL-2.0
/*
 * What can be read: STATS of one view, and the device's sysfs attributes.
 *
 * /sys/class/misc/hakmem_region/ has one number in each file. Counts are of
 * folios or slots (2 MiB), sums are in bytes or nanoseconds since load.
 */

#include <linux/device.h>
#include <linux/sysfs.h>

#include "hkr.h"

/**
 * hkr_view_stats - fill the answer of STATS
 * @view: locked
 * @st: out, but for @size and @flags
 */
void hkr_view_stats(struct hkr_view *view, struct hkr_stats *st)
{
	struct hkr_counters *count = &view->count;

	lockdep_assert_held(&view->lock);
	st->nr_slots = view->nr_slots;
	st->handed_out = atomic_long_read(&view->charged);
	st->shared = atomic_long_read(&view->shared);
	st->resident = atomic_long_read(&view->resident) + st->shared;
	st->idle = hkr_count_idle(view);
	st->limit = hkr_limits.open_max;
	st->user_charged = atomic_long_read(&view->user->charged);
	st->user_limit = hkr_limits.user_max;
	st->faults = atomic64_read(&count->faults);
	st->handouts = atomic64_read(&count->handouts);
	st->served_clean = atomic64_read(&count->served_clean);
	st->served_dirty = atomic64_read(&count->served_dirty);
	st->served_new = atomic64_read(&count->served_new);
	st->served_idle = atomic64_read(&count->served_idle);
	st->dropped = atomic64_read(&count->dropped);
	st->idled = atomic64_read(&count->idled);
	st->refreshed = atomic64_read(&count->refreshed);
	st->moved = atomic64_read(&count->moved);
	st->trimmed = atomic64_read(&count->trimmed);
	st->reclaimed = atomic64_read(&count->reclaimed);
	st->orphaned = atomic64_read(&count->orphaned);
	st->served_single = atomic64_read(&count->served_single);
	st->singles = atomic_long_read(&view->singles);
	st->copied = atomic64_read(&count->copied);
	/* with init_on_free what is new was zeroed before */
	st->bytes_zeroed_inline = HKR_SLOT_SIZE * (st->served_dirty +
		(want_init_on_free() ? 0 : st->served_new + st->served_single));
}

static unsigned long hkr_clean(void)
{
	unsigned long clean, dirty;

	hkr_pool_count(HKR_NODE_ANY, &clean, &dirty);
	return clean;
}

static unsigned long hkr_dirty(void)
{
	unsigned long clean, dirty;

	hkr_pool_count(HKR_NODE_ANY, &clean, &dirty);
	return dirty;
}

/* shares first: what is adopted meanwhile is counted twice rather than not at all */
static unsigned long hkr_slots_resident(void)
{
	unsigned long shares = hkr_shares();

	return shares + atomic_long_read(&hkr_resident);
}

#define HKR_ATTR(name, value)						\
static ssize_t name##_show(struct device *dev,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%llu\n", (u64)(value));			\
}									\
static DEVICE_ATTR_RO(name)

/* folios in the pool: zeroed, to be zeroed, both */
HKR_ATTR(clean, hkr_clean());
HKR_ATTR(dirty, hkr_dirty());
HKR_ATTR(pool_depth, hkr_clean() + hkr_dirty());
/* slots that hold memory, and those that were idle at the last tick */
HKR_ATTR(resident, hkr_slots_resident());
/* memory that slots of several processes share since a fork, counted once */
HKR_ATTR(shared, hkr_shares());
HKR_ATTR(idle, hkr_idle_seen());
HKR_ATTR(idle_bytes, HKR_SLOT_SIZE * hkr_idle_seen());
/* folios still used by somebody after their slot let go */
HKR_ATTR(orphans, hkr_orphans());
/* folios given up because a page of them is poisoned */
HKR_ATTR(poisoned, atomic_long_read(&hkr_pool_stats.poisoned));
/* every folio that is the module's: pool, slots, orphans */
HKR_ATTR(live_folios, atomic_long_read(&hkr_pool_stats.live));
/* of these, charged to a memory cgroup */
HKR_ATTR(charged_folios, atomic_long_read(&hkr_pool_stats.charged));
/* slots with single pages in place of a folio, which live_folios leaves out */
HKR_ATTR(single_slots, hkr_singles());
HKR_ATTR(epoch, hkr_epoch());
HKR_ATTR(zeroed_inline_bytes, atomic64_read(&hkr_pool_stats.inline_bytes));
HKR_ATTR(zero_inline_ns, atomic64_read(&hkr_pool_stats.inline_ns));
HKR_ATTR(zeroed_background_bytes,
	 atomic64_read(&hkr_pool_stats.background_bytes));
HKR_ATTR(zero_background_ns, atomic64_read(&hkr_pool_stats.background_ns));
/* how often the zeroing threads had work and waited: for reclaim, ... */
HKR_ATTR(zero_pauses_pressure,
	 atomic_long_read(&hkr_pool_stats.pauses[HKR_PAUSE_PRESSURE]));
/* ... for other tasks, all processors of the node being busy, ... */
HKR_ATTR(zero_pauses_busy,
	 atomic_long_read(&hkr_pool_stats.pauses[HKR_PAUSE_BUSY]));
/* ... for zero_rate_mb */
HKR_ATTR(zero_pauses_rate,
	 atomic_long_read(&hkr_pool_stats.pauses[HKR_PAUSE_RATE]));
/* the kernel zeroes what is freed: the buddy allocator's memory is zero */
HKR_ATTR(init_on_free, want_init_on_free());

static struct attribute *hkr_attrs[] = {
	&dev_attr_charged_folios.attr,
	&dev_attr_clean.attr,
	&dev_attr_dirty.attr,
	&dev_attr_epoch.attr,
	&dev_attr_idle.attr,
	&dev_attr_idle_bytes.attr,
	&dev_attr_init_on_free.attr,
	&dev_attr_live_folios.attr,
	&dev_attr_orphans.attr,
	&dev_attr_poisoned.attr,
	&dev_attr_pool_depth.attr,
	&dev_attr_resident.attr,
	&dev_attr_shared.attr,
	&dev_attr_single_slots.attr,
	&dev_attr_zero_background_ns.attr,
	&dev_attr_zero_inline_ns.attr,
	&dev_attr_zero_pauses_busy.attr,
	&dev_attr_zero_pauses_pressure.attr,
	&dev_attr_zero_pauses_rate.attr,
	&dev_attr_zeroed_background_bytes.attr,
	&dev_attr_zeroed_inline_bytes.attr,
	NULL,
};

static const struct attribute_group hkr_group = {
	.attrs = hkr_attrs,
};

const struct attribute_group *hkr_groups[] = {
	&hkr_group,
	NULL,
};
