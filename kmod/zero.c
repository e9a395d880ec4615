// SPDX-License-Identifier: GPL-2.0
/*
 * Zeroing in the background: 2 MiB at a time, by a thread of each node.
 *
 * What one process wrote is zeroed once before another one sees it. The thread
 * does that ahead of time, so that the next owner need not wait; it saves no
 * work, it moves it. So it is never needed: who finds no clean folio zeroes a
 * dirty one, and everything works with the thread off. And it is worth having
 * only while it costs nobody anything, which is what the rules are for.
 *
 * When it starts and where it stops (marks on the clean list of its node):
 *  - fewer clean folios than the low mark: at once. A burst of requests eats
 *    what is clean, and the thread should be ahead of it.
 *  - else when the pool was left alone for HKR_ZERO_QUIET: who is in the middle
 *    of a burst that the clean folios can serve is not to share a cache, a
 *    memory bus or a processor with us for it.
 *  - once started it goes on to the high mark, so that it wakes for a batch and
 *    not for each folio. What is dirty above that mark stays dirty: zeroed when
 *    somebody takes it, or given to the buddy allocator as it is.
 * There is no high mark unless one is set: a folio is in the pool to be handed
 * out, and a burst should find all of them clean. Who gives back more than he
 * will soon want again sets one, and saves the zeroing of what reclaim takes.
 *
 * When it pauses, each time for a time that ends by itself:
 *  - pressure: reclaim asked this node for memory within the last second. It
 *    takes dirty folios first, since they cost nobody a zeroing; we would work
 *    against it. MemAvailable is not asked: zeroing takes no memory, and when
 *    memory is short it is reclaim that comes.
 *  - busy: another task is runnable on the processor that we run on. The
 *    scheduler puts a waking thread on an idle processor of its node where it
 *    finds one, so this says that there is none, at this moment, and the answer
 *    costs one load. Averages (load, idle time) would tell of the past. Our low
 *    priority alone would still take our share, and everybody's cache with it.
 *  - rate: what zero_rate_mb allows is used up.
 *
 * The thread also brings the reserve back to its size, which was promised, and
 * gets folios for slots with single pages (mem.c): it does so on busy processors
 * too, and with zero_background=0; but at the rate, and not under pressure.
 *
 * With init_on_free the kernel promises that what was freed is soon gone. What
 * comes back to us is not freed, so the marks do not hold then: everything is
 * zeroed at once, but for the pauses. What we free is zeroed by the buddy
 * allocator, and what comes from it needs no zeroing.
 *
 * Zeroing goes through the caches, as everywhere. Stores that pass them by (movnti)
 * were measured on an AMD EPYC, with the owner's touches and one memset counted in:
 * 1.35 times the time where the owner comes at once, the same where 4 folios are
 * zeroed before the first is used, 0.88 times with 16 and 64. What was zeroed last is
 * handed out first, so owners mostly come at once; and it is they who wait, while the
 * thread is in nobody's way.
 *
 * Nothing is zeroed under a lock of ours or during reclaim.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/freezer.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/nodemask.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>

#include "hkr.h"
#include "pool.h"

#define HKR_ZERO_QUIET		max(msecs_to_jiffies(20), 1UL)
#define HKR_ZERO_LOW_MIN	8UL	/* folios: a burst in any pool */
#define HKR_PRESSURE		HZ	/* after reclaim came: it may again */
#define HKR_BUSY_MIN_MS		10
#define HKR_BUSY_MAX_MS		320
#define HKR_RATE_MAX_MB		(1U << 20)
/* after the buddy allocator had no folio, until the thread asks again */
#define HKR_REFILL_MS		1000
/* the same after a compaction that made none: it costs everybody something */
#define HKR_COMPACT_MIN_MS	1000
#define HKR_COMPACT_MAX_MS	60000

static bool zero_background = true;
static int zero_low_mb = -1;
static int zero_high_mb = -1;
static unsigned int zero_rate_mb;

/* pools with a thread; a parameter that changes wakes them all */
static LIST_HEAD(hkr_zeroers);
static DEFINE_MUTEX(hkr_zero_lock);

/* what a thread knows; on its stack */
struct hkr_zeroer {
	struct hkr_pool *pool;
	bool filling;			/* on the way to the high mark */
	enum hkr_pause pause;		/* why it does nothing just now */
	unsigned int busy_ms;		/* the next pause when busy */
	u64 tokens;			/* bytes that the rate allows now */
	unsigned long tokens_at;	/* jiffies; when they were counted */
	unsigned long refill_at;	/* jiffies; not before */
	unsigned int compact_ms;	/* after a compaction in vain */
	unsigned long compact_at;	/* jiffies; not before */
};

/* ---- marks: when there is something to do ---- */

static unsigned long hkr_zero_high(void)
{
	int mb = READ_ONCE(zero_high_mb);

	if (mb < 0 || want_init_on_free())
		return ULONG_MAX;
	return (unsigned long)mb / (HKR_SLOT_SIZE >> 20);
}

static unsigned long hkr_zero_low(void)
{
	int mb = READ_ONCE(zero_low_mb);

	if (want_init_on_free())
		return ULONG_MAX;
	if (mb >= 0)
		return (unsigned long)mb / (HKR_SLOT_SIZE >> 20);
	/* half of what the node's pool was filled with */
	return max(hkr_limits.reserve / (2 * num_node_state(N_MEMORY)),
		   HKR_ZERO_LOW_MIN);
}

/* dirty folios that the thread shall zero, now or soon */
static bool hkr_zero_due(const struct hkr_pool *pool)
{
	return READ_ONCE(zero_background) && READ_ONCE(pool->nr_dirty) &&
	       READ_ONCE(pool->nr_clean) < hkr_zero_high();
}

/**
 * hkr_zero_pending - is a thread to zero something, now or soon
 *
 * A folio that a thread has in its hands is on no list: it is on one again
 * before the thread, under the lock, says that it sleeps. So where nothing is
 * pending, whoever counts the lists after this finds it.
 */
bool hkr_zero_pending(void)
{
	struct hkr_pool *pool;
	bool pending = false;

	mutex_lock(&hkr_zero_lock);
	list_for_each_entry(pool, &hkr_zeroers, link) {
		spin_lock(&pool->lock);
		pending |= hkr_zero_due(pool) || pool->state == HKR_ZERO_AWAKE;
		spin_unlock(&pool->lock);
	}
	mutex_unlock(&hkr_zero_lock);
	return pending;
}

/* 0: zero what is dirty; else jiffies until it may be time to */
static long hkr_zero_look(struct hkr_zeroer *z)
{
	struct hkr_pool *pool = z->pool;
	long wait = MAX_SCHEDULE_TIMEOUT;

	/*
	 * Pairs with the release in hkr_zero_wake(): either we read true, and
	 * see the parameter that was changed before, or it stays true and ends
	 * our next sleep. What happens to the lists is told apart by the lock.
	 */
	xchg(&pool->woken, false);
	spin_lock(&pool->lock);
	if (!hkr_zero_due(pool)) {
		z->filling = false;
		pool->state = HKR_ZERO_ASLEEP;
		goto unlock;
	}
	wait = (long)(pool->touched + HKR_ZERO_QUIET - jiffies);
	if (wait <= 0 || pool->nr_clean < hkr_zero_low())
		z->filling = true;
	if (z->filling)
		wait = 0;
	pool->state = wait ? HKR_ZERO_QUIET_WAIT : HKR_ZERO_AWAKE;
unlock:
	spin_unlock(&pool->lock);
	return wait;
}

/**
 * hkr_zero_kick_locked - a folio was taken from the pool, or is dirty now
 * @pool: its node's
 *
 * Whoever gives a folio back is not to wait for its zeroing: woken from here,
 * the thread might run at once in its place, low as its priority is. Hence the
 * timer.
 */
void hkr_zero_kick_locked(struct hkr_pool *pool)
{
	lockdep_assert_held(&pool->lock);
	pool->touched = jiffies;
	if (pool->state == HKR_ZERO_AWAKE || !hkr_zero_due(pool))
		return;
	if (pool->state == HKR_ZERO_QUIET_WAIT &&
	    pool->nr_clean >= hkr_zero_low())
		return;
	if (!timer_pending(&pool->timer))
		mod_timer(&pool->timer, jiffies + 1);
}

/* ---- pauses: why it is not done now ---- */

/**
 * hkr_zero_press - reclaim wants memory of a node
 * @nid: the node
 */
void hkr_zero_press(int nid)
{
	struct hkr_pool *pool = hkr_pools[nid];

	if (pool)
		WRITE_ONCE(pool->pressed, jiffies);
}

static long hkr_pause_pressure(struct hkr_zeroer *z)
{
	unsigned long until = READ_ONCE(z->pool->pressed) + HKR_PRESSURE;

	return max((long)(until - jiffies), 0L);
}

static long hkr_pause_busy(struct hkr_zeroer *z)
{
	long wait;

	if (single_task_running())
		return 0;
	wait = max(msecs_to_jiffies(z->busy_ms), 1UL);
	z->busy_ms = min(2 * z->busy_ms, HKR_BUSY_MAX_MS + 0U);
	return wait;
}

/*
 * A bucket of tokens: it fills at the rate, and holds what the rate gives in a
 * tenth of a second, or one folio. Everything is rounded so that the rate is
 * never exceeded by more than one bucket.
 */
static long hkr_pause_rate(struct hkr_zeroer *z)
{
	u64 rate = (u64)READ_ONCE(zero_rate_mb) << 20;
	unsigned long now = jiffies;
	unsigned long passed = min(now - z->tokens_at, (unsigned long)HZ);

	z->tokens_at = now;
	if (!rate) {
		z->tokens = 0;
		return 0;
	}
	z->tokens += div_u64(rate * passed, HZ);
	z->tokens = min(z->tokens, max(div_u64(rate, 10), (u64)HKR_SLOT_SIZE));
	if (z->tokens >= HKR_SLOT_SIZE) {
		z->tokens -= HKR_SLOT_SIZE;
		return 0;
	}
	return div64_u64((HKR_SLOT_SIZE - z->tokens) * HZ + rate - 1, rate);
}

/* jiffies to wait before the next folio; @refill: it is for the reserve */
static long hkr_zero_pause(struct hkr_zeroer *z, bool refill)
{
	enum hkr_pause why = HKR_PAUSE_PRESSURE;
	long wait = hkr_pause_pressure(z);

	if (!wait && !refill) {
		why = HKR_PAUSE_BUSY;
		wait = hkr_pause_busy(z);
	}
	if (!wait) {
		/* last: it takes the tokens */
		why = HKR_PAUSE_RATE;
		wait = hkr_pause_rate(z);
	}
	if (!wait)
		why = HKR_PAUSE_NONE;
	/* one pause, however often it is looked at */
	if (why != z->pause && why != HKR_PAUSE_NONE)
		atomic_long_inc(&hkr_pool_stats.pauses[why]);
	z->pause = why;
	return wait;
}

/* ---- the thread ---- */

/* ask and compact at once, and be patient again from then on */
static void hkr_refill_soon(struct hkr_zeroer *z)
{
	z->refill_at = jiffies;
	z->compact_at = jiffies;
	z->compact_ms = HKR_COMPACT_MIN_MS;
}

/*
 * One folio towards what the pool lacks, from its node: others see to theirs.
 * Compaction that was in vain is left alone for a while, longer each time; to ask
 * for what lies about costs a look at a list, and blocks may come up any time.
 */
static void hkr_refill_one(struct hkr_zeroer *z)
{
	bool compact = time_after_eq(jiffies, z->compact_at);
	gfp_t gfp = compact ? HKR_GFP_REFILL : HKR_GFP_INLINE;
	struct folio *folio;

	folio = hkr_folio_new(gfp | __GFP_THISNODE, z->pool->nid, true);
	if (folio) {
		hkr_pool_give_clean(folio);
		/* what lay about says nothing about compaction */
		if (compact)
			hkr_refill_soon(z);
		return;
	}
	z->refill_at = jiffies + msecs_to_jiffies(HKR_REFILL_MS);
	if (!compact)
		return;
	z->compact_at = jiffies + msecs_to_jiffies(z->compact_ms);
	z->compact_ms = min(2 * z->compact_ms, HKR_COMPACT_MAX_MS + 0U);
}

static void hkr_zero_one(struct hkr_zeroer *z)
{
	struct folio *folio = hkr_pool_zero_one(z->pool, true);

	if (folio)
		hkr_pool_push(z->pool, folio, true);
	z->busy_ms = HKR_BUSY_MIN_MS;
}

/* jiffies after which a pool that lacks nothing may lack something */
static long hkr_zero_rest(struct hkr_pool *pool)
{
	long held = hkr_pool_hold_left(pool);

	if (held)
		return held;
	return hkr_singles() ? msecs_to_jiffies(HKR_REFILL_MS) :
			       MAX_SCHEDULE_TIMEOUT;
}

/* one folio, dirty ones first; or jiffies to wait before the next */
static long hkr_zero_step(struct hkr_zeroer *z)
{
	long wait = hkr_zero_look(z), pause;
	bool refill = false;

	if (xchg(&z->pool->kicked, false))
		hkr_refill_soon(z);
	if (wait && hkr_pool_short(z->pool)) {
		long later = (long)(z->refill_at - jiffies);

		refill = later <= 0;
		if (!refill)
			wait = min(wait, later);
	} else {
		wait = min(wait, hkr_zero_rest(z->pool));
	}
	if (wait && !refill) {
		z->pause = HKR_PAUSE_NONE;
		return wait;
	}
	pause = hkr_zero_pause(z, refill);
	if (pause)
		return refill ? min(wait, pause) : pause;
	if (refill)
		hkr_refill_one(z);
	else
		hkr_zero_one(z);
	return 0;
}

static int hkr_zero_thread(void *data)
{
	struct hkr_pool *pool = data;
	struct hkr_zeroer z = {
		.pool = pool,
		.busy_ms = HKR_BUSY_MIN_MS,
		.tokens_at = jiffies,
	};
	long wait;

	hkr_refill_soon(&z);

	set_user_nice(current, MAX_NICE);
	set_freezable();
	while (!kthread_should_stop()) {
		try_to_freeze();
		wait = hkr_zero_step(&z);
		if (!wait) {
			cond_resched();
			continue;
		}
		wait_event_freezable_timeout(pool->wait,
					     kthread_should_stop() ||
					     READ_ONCE(pool->woken), wait);
	}
	return 0;
}

static void hkr_zero_wake(struct hkr_pool *pool)
{
	/* pairs with the xchg() in hkr_zero_look() */
	smp_store_release(&pool->woken, true);
	wake_up(&pool->wait);
}

/**
 * hkr_zero_refill - the pool may lack something, or memory may have come
 * @pool: has a thread, or will have
 */
void hkr_zero_refill(struct hkr_pool *pool)
{
	/* before the wakeup: the thread sees it */
	WRITE_ONCE(pool->kicked, true);
	hkr_zero_wake(pool);
}

static void hkr_zero_timer(struct timer_list *timer)
{
	hkr_zero_wake(container_of(timer, struct hkr_pool, timer));
}

/**
 * hkr_zero_init - make a pool's part that is ours; nobody wakes a thread yet
 * @pool: its node is set
 */
void hkr_zero_init(struct hkr_pool *pool)
{
	INIT_LIST_HEAD(&pool->link);
	init_waitqueue_head(&pool->wait);
	timer_setup(&pool->timer, hkr_zero_timer, 0);
	pool->state = HKR_ZERO_AWAKE;
	pool->pressed = jiffies - HKR_PRESSURE;
}

/**
 * hkr_zero_start - start a node's thread
 * @pool: made by hkr_zero_init()
 *
 * Return: 0 or -errno
 */
int hkr_zero_start(struct hkr_pool *pool)
{
	struct task_struct *thread;

	if (want_init_on_free() && list_empty(&hkr_zeroers))
		pr_info("init_on_free=1: memory that comes back is zeroed without regard to zero_low_mb and zero_high_mb\n");
	thread = kthread_create_on_node(hkr_zero_thread, pool,
					node_state(pool->nid, N_MEMORY) ?
					pool->nid : NUMA_NO_NODE, "hakmem_zero/%d", pool->nid);
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	mutex_lock(&hkr_zero_lock);
	pool->thread = thread;
	list_add_tail(&pool->link, &hkr_zeroers);
	mutex_unlock(&hkr_zero_lock);
	wake_up_process(thread);
	return 0;
}

/**
 * hkr_zero_stop - stop a node's thread
 * @pool: may have none
 *
 * The pool's lists stay usable; whatever becomes dirty wakes nobody any more.
 */
void hkr_zero_stop(struct hkr_pool *pool)
{
	mutex_lock(&hkr_zero_lock);
	list_del_init(&pool->link);
	mutex_unlock(&hkr_zero_lock);
	if (!pool->thread)
		return;
	kthread_stop(pool->thread);
	pool->thread = NULL;
	/* last, since the thread itself sets it */
	spin_lock(&pool->lock);
	pool->state = HKR_ZERO_AWAKE;
	spin_unlock(&pool->lock);
}

/**
 * hkr_zero_exit - no timer of this pool runs any more
 * @pool: stopped
 */
void hkr_zero_exit(struct hkr_pool *pool)
{
	hkr_timer_shutdown(&pool->timer);
}

/* ---- parameters, which may change at any time ---- */

/* also before the module's init and after its exit: then there is no thread */
static void hkr_zero_wake_all(void)
{
	struct hkr_pool *pool;

	mutex_lock(&hkr_zero_lock);
	list_for_each_entry(pool, &hkr_zeroers, link)
		hkr_zero_wake(pool);
	mutex_unlock(&hkr_zero_lock);
}

static int hkr_set_background(const char *val, const struct kernel_param *kp)
{
	int ret = param_set_bool(val, kp);

	if (ret)
		pr_err("%s is on or off: 1 or 0\n", kp->name);
	else
		hkr_zero_wake_all();
	return ret;
}

static const struct kernel_param_ops hkr_background_ops = {
	.flags	= KERNEL_PARAM_OPS_FL_NOARG,
	.set	= hkr_set_background,
	.get	= param_get_bool,
};
module_param_cb(zero_background, &hkr_background_ops, &zero_background, 0644);
MODULE_PARM_DESC(zero_background,
		 "zero in the background what comes back (1); 0: when it is needed");

/* the core calls one of these at a time */
static int hkr_set_mark(const char *val, const struct kernel_param *kp)
{
	int *mark = kp->arg, mb, low, high, ret;

	ret = kstrtoint(val, 0, &mb);
	if (ret || mb < -1) {
		pr_err("%s is a number of MiB, or -1 for the default\n",
		       kp->name);
		return ret ?: -EINVAL;
	}
	low = mark == &zero_low_mb ? mb : zero_low_mb;
	high = mark == &zero_high_mb ? mb : zero_high_mb;
	if (high >= 0 && low > high) {
		pr_err("zero_low_mb=%d is more than zero_high_mb=%d\n",
		       low, high);
		return -EINVAL;
	}
	WRITE_ONCE(*mark, mb);
	hkr_zero_wake_all();
	return 0;
}

static const struct kernel_param_ops hkr_mark_ops = {
	.set	= hkr_set_mark,
	.get	= param_get_int,
};
module_param_cb(zero_low_mb, &hkr_mark_ops, &zero_low_mb, 0644);
MODULE_PARM_DESC(zero_low_mb,
		 "zero at once while a node has less MiB clean (-1: half of its reserve)");
module_param_cb(zero_high_mb, &hkr_mark_ops, &zero_high_mb, 0644);
MODULE_PARM_DESC(zero_high_mb,
		 "zero no more when a node has so many MiB clean (-1: zero all)");

static int hkr_set_rate(const char *val, const struct kernel_param *kp)
{
	unsigned int mb;
	int ret = kstrtouint(val, 0, &mb);

	if (ret || mb > HKR_RATE_MAX_MB) {
		pr_err("%s is 0 for no limit, or up to %u MiB a second\n",
		       kp->name, HKR_RATE_MAX_MB);
		return ret ?: -EINVAL;
	}
	WRITE_ONCE(zero_rate_mb, mb);
	hkr_zero_wake_all();
	return 0;
}

static const struct kernel_param_ops hkr_rate_ops = {
	.set	= hkr_set_rate,
	.get	= param_get_uint,
};
module_param_cb(zero_rate_mb, &hkr_rate_ops, &zero_rate_mb, 0644);
MODULE_PARM_DESC(zero_rate_mb,
		 "most MiB a second that a node's thread zeroes (0: no limit)");
