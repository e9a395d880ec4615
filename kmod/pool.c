// SPDX-License-Identifier: GPL-2.0
/*
 * The pool: folios of 2 MiB that no slot holds.
 *
 * A folio comes from the buddy allocator and goes round: pool, slot, pool. Each
 * NUMA node keeps two lists. What comes back from a slot is dirty: another
 * process may have written it, and nobody may see it before it is zeroed. A
 * thread of the lowest priority zeroes dirty folios and makes them clean. Who
 * needs a folio takes a clean one, else zeroes a dirty one itself, else asks
 * the buddy allocator; so zeroing is done once for each change of owner, by
 * somebody, and always counted.
 *
 * The reserve is taken at load and never given back before unload. Beyond it
 * the pool holds on to returned folios up to pool_max and frees the rest.
 *
 * A folio in the pool has one reference, no mapping and no user. Only this file
 * allocates and frees folios; hkr_pool_stats.live counts those that are ours.
 * A folio with a poisoned page is never zeroed or handed on: it is given up.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/freezer.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/memcontrol.h>
#include <linux/nodemask.h>
#include <linux/nospec.h>
#include <linux/page-flags.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/wait.h>

#include "hkr.h"

struct hkr_pool {
	spinlock_t lock;		/* both lists and their lengths */
	struct list_head clean;		/* folio->lru; lock */
	struct list_head dirty;		/* folio->lru; lock */
	unsigned long nr_clean;		/* lock; read without it to be shown */
	unsigned long nr_dirty;		/* likewise */
	int nid;
	struct task_struct *thread;
	wait_queue_head_t wait;		/* dirty folios, a short reserve, stop */
	struct timer_list timer;	/* wakes the thread, a moment later */
};

/* how long the thread waits after the buddy allocator had no folio for it */
#define HKR_REFILL_MIN_MS	1000
#define HKR_REFILL_MAX_MS	60000

struct hkr_pool_stats hkr_pool_stats;

static struct hkr_pool *hkr_pools[MAX_NUMNODES];
static atomic_long_t hkr_pooled;	/* folios on the lists of all nodes */

/**
 * hkr_folio_alloc - a zeroed folio from the buddy allocator
 * @gfp: HKR_GFP_INLINE or HKR_GFP_REFILL; __GFP_ACCOUNT charges a cgroup
 * @nid: node to prefer
 *
 * Return: the folio, counted as ours, or NULL
 */
struct folio *hkr_folio_alloc(gfp_t gfp, int nid)
{
	bool background = (gfp & __GFP_DIRECT_RECLAIM) &&
			  !(gfp & __GFP_ACCOUNT);
	struct folio *folio;
	ktime_t start = ktime_get();

	/* __GFP_ZERO costs nothing more where init_on_alloc zeroes anyway */
	folio = __folio_alloc_node(gfp | __GFP_ZERO, HKR_SLOT_ORDER, nid);
	if (!folio)
		return NULL;
	INIT_LIST_HEAD(&folio->lru);
	atomic_long_inc(&hkr_pool_stats.live);
	if (folio_memcg_kmem(folio))
		atomic_long_inc(&hkr_pool_stats.charged);
	if (background) {
		atomic64_add(HKR_SLOT_SIZE, &hkr_pool_stats.background_bytes);
		atomic64_add(ktime_to_ns(ktime_sub(ktime_get(), start)),
			     &hkr_pool_stats.background_ns);
	} else {
		atomic64_add(HKR_SLOT_SIZE, &hkr_pool_stats.inline_bytes);
		atomic64_add(ktime_to_ns(ktime_sub(ktime_get(), start)),
			     &hkr_pool_stats.inline_ns);
	}
	return folio;
}

/* no longer one of ours */
static void hkr_folio_uncount(struct folio *folio)
{
	atomic_long_dec(&hkr_pool_stats.live);
	if (folio_memcg_kmem(folio))
		atomic_long_dec(&hkr_pool_stats.charged);
}

/**
 * hkr_folio_leave - drop our reference: the folio is no longer ours
 * @folio: off every list
 *
 * It reaches the buddy allocator at once or when its last user lets go.
 */
void hkr_folio_leave(struct folio *folio)
{
	folio->private = NULL;
	if (hkr_folio_give_up(folio))
		return;
	hkr_folio_uncount(folio);
	folio_put(folio);
}

/**
 * hkr_folio_give_up - leak a folio with a poisoned page
 * @folio: on no list
 *
 * Return: true when it had one; our reference is then kept for ever
 */
bool hkr_folio_give_up(struct folio *folio)
{
	unsigned long i;

	for (i = 0; i < HKR_SLOT_PAGES; i++)
		if (unlikely(PageHWPoison(folio_page(folio, i))))
			break;
	if (likely(i == HKR_SLOT_PAGES))
		return false;
	atomic_long_inc(&hkr_pool_stats.poisoned);
	hkr_folio_uncount(folio);
	return true;
}

/* false: a page is poisoned, the folio was given up */
static bool hkr_folio_zero(struct folio *folio)
{
	unsigned long i;

	if (hkr_folio_give_up(folio))
		return false;
	for (i = 0; i < HKR_SLOT_PAGES; i++) {
		clear_highpage(folio_page(folio, i));
		if (i % 16 == 15)
			cond_resched();
	}
	folio_clear_dirty(folio);
	folio_clear_referenced(folio);
	return true;
}

static struct folio *hkr_pool_pop(struct hkr_pool *pool, bool clean)
{
	struct list_head *list = clean ? &pool->clean : &pool->dirty;
	struct folio *folio;

	spin_lock(&pool->lock);
	folio = list_first_entry_or_null(list, struct folio, lru);
	if (folio) {
		list_del_init(&folio->lru);
		if (clean)
			pool->nr_clean--;
		else
			pool->nr_dirty--;
		atomic_long_dec(&hkr_pooled);
	}
	spin_unlock(&pool->lock);
	return folio;
}

/*
 * The clean list is a stack: the folio zeroed last is the likeliest in a cache.
 * The dirty list is a queue, so that no folio waits for ever.
 */
static void hkr_pool_push(struct hkr_pool *pool, struct folio *folio,
			  bool clean)
{
	spin_lock(&pool->lock);
	if (clean) {
		list_add(&folio->lru, &pool->clean);
		pool->nr_clean++;
	} else {
		list_add_tail(&folio->lru, &pool->dirty);
		pool->nr_dirty++;
	}
	atomic_long_inc(&hkr_pooled);
	spin_unlock(&pool->lock);
	/*
	 * Whoever gives a folio back is not to wait for its zeroing: woken here,
	 * the thread would run at once in its place, low as its priority is.
	 */
	if (!clean && !timer_pending(&pool->timer))
		mod_timer(&pool->timer, jiffies + 1);
}

static void hkr_pool_timer(struct timer_list *timer)
{
	struct hkr_pool *pool = container_of(timer, struct hkr_pool, timer);

	wake_up(&pool->wait);
}

static struct folio *hkr_pool_zero_one(struct hkr_pool *pool, atomic64_t *bytes,
				       atomic64_t *ns)
{
	struct folio *folio;
	ktime_t start;

	while ((folio = hkr_pool_pop(pool, false))) {
		start = ktime_get();
		if (!hkr_folio_zero(folio))
			continue;
		atomic64_add(HKR_SLOT_SIZE, bytes);
		atomic64_add(ktime_to_ns(ktime_sub(ktime_get(), start)), ns);
		return folio;
	}
	return NULL;
}

static struct folio *hkr_pool_take_from(int nid, enum hkr_served *served)
{
	struct hkr_pool *pool = hkr_pools[nid];
	struct folio *folio;

	if (!pool)
		return NULL;
	*served = HKR_SERVED_CLEAN;
	do {
		folio = hkr_pool_pop(pool, true);
		if (folio && !hkr_folio_give_up(folio))
			return folio;
	} while (folio);
	*served = HKR_SERVED_DIRTY;
	return hkr_pool_zero_one(pool, &hkr_pool_stats.inline_bytes,
				 &hkr_pool_stats.inline_ns);
}

/**
 * hkr_pool_take - a zeroed folio for a slot
 * @nid: node to prefer, or HKR_NODE_ANY for this CPU's
 * @served: out, where it came from
 *
 * The node's own pool first, then new memory of that node, then the other
 * pools, then new memory of any node. May zero 2 MiB; never compacts or
 * reclaims. NULL when there is none.
 */
struct folio *hkr_pool_take(int nid, enum hkr_served *served)
{
	struct folio *folio;
	int other;

	might_sleep();
	nid = nid == HKR_NODE_ANY ? numa_mem_id() :
				    array_index_nospec(nid, MAX_NUMNODES);

	folio = hkr_pool_take_from(nid, served);
	if (folio)
		return folio;

	*served = HKR_SERVED_NEW;
	folio = hkr_folio_alloc(HKR_GFP_INLINE | __GFP_THISNODE, nid);
	if (folio)
		return folio;

	for_each_node_state(other, N_MEMORY) {
		if (other == nid)
			continue;
		folio = hkr_pool_take_from(other, served);
		if (folio)
			return folio;
	}

	*served = HKR_SERVED_NEW;
	return hkr_folio_alloc(HKR_GFP_INLINE, nid);
}

/**
 * hkr_pool_take_hard - a zeroed folio for a fault that would fail without it
 * @nid: node to prefer, or HKR_NODE_ANY
 *
 * May reclaim. NULL when that does not help.
 */
struct folio *hkr_pool_take_hard(int nid)
{
	return hkr_folio_alloc(HKR_GFP_REFILL, nid == HKR_NODE_ANY ?
					       numa_mem_id() : nid);
}

/* a charged folio is its group's: nobody else may have it */
static bool hkr_pool_wants(struct hkr_pool *pool, struct folio *folio)
{
	return pool && !folio_memcg_kmem(folio) &&
	       atomic_long_read(&hkr_pooled) < hkr_limits.pool_max;
}

/**
 * hkr_pool_give - take back a folio that nobody else uses
 * @folio: one reference, not mapped, not on a list; contents of anybody
 */
void hkr_pool_give(struct folio *folio)
{
	struct hkr_pool *pool = hkr_pools[folio_nid(folio)];

	if (!hkr_pool_wants(pool, folio)) {
		hkr_folio_leave(folio);
		return;
	}
	hkr_pool_push(pool, folio, false);
}

/**
 * hkr_pool_give_clean - take back a folio that was never handed out
 * @folio: as it came from hkr_pool_take()
 */
void hkr_pool_give_clean(struct folio *folio)
{
	struct hkr_pool *pool = hkr_pools[folio_nid(folio)];

	if (!hkr_pool_wants(pool, folio)) {
		hkr_folio_leave(folio);
		return;
	}
	hkr_pool_push(pool, folio, true);
}

/**
 * hkr_pool_count - depth of the pool
 * @nid: node, or HKR_NODE_ANY for all
 * @clean: out, zeroed folios
 * @dirty: out, folios to be zeroed
 */
void hkr_pool_count(int nid, unsigned long *clean, unsigned long *dirty)
{
	int i;

	*clean = 0;
	*dirty = 0;
	for_each_node_state(i, N_MEMORY) {
		if (!hkr_pools[i] || (nid != HKR_NODE_ANY && nid != i))
			continue;
		*clean += READ_ONCE(hkr_pools[i]->nr_clean);
		*dirty += READ_ONCE(hkr_pools[i]->nr_dirty);
	}
}

/* folios that can come to the pool: what is charged never does */
static long hkr_pool_shared(void)
{
	return atomic_long_read(&hkr_pool_stats.live) -
	       atomic_long_read(&hkr_pool_stats.charged);
}

/**
 * hkr_pool_above_reserve - folios of ours, wherever they are, that may go
 */
unsigned long hkr_pool_above_reserve(void)
{
	long above = hkr_pool_shared() - (long)hkr_limits.reserve;

	return max(above, 0L);
}

/**
 * hkr_pool_spare - folios of a node's pool that the reserve does not need
 * @nid: node
 */
unsigned long hkr_pool_spare(int nid)
{
	unsigned long clean, dirty;

	hkr_pool_count(nid, &clean, &dirty);
	return min(hkr_pool_above_reserve(), clean + dirty);
}

/**
 * hkr_pool_shrink - give spare folios to the buddy allocator
 * @nid: node
 * @want: at most so many
 *
 * Dirty ones first: they would cost somebody a zeroing. Waits for no lock but
 * the pool's, which is a leaf.
 *
 * Return: folios freed
 */
unsigned long hkr_pool_shrink(int nid, unsigned long want)
{
	struct hkr_pool *pool = hkr_pools[nid];
	unsigned long freed = 0;

	if (!pool)
		return 0;
	want = min(want, hkr_pool_spare(nid));
	while (freed < want) {
		struct folio *folio = hkr_pool_pop(pool, false) ?:
				      hkr_pool_pop(pool, true);

		if (!folio)
			break;
		hkr_folio_leave(folio);
		freed++;
	}
	return freed;
}

static bool hkr_reserve_short(void)
{
	return hkr_pool_shared() < (long)hkr_limits.reserve;
}

/* one folio towards the reserve, from @pool's node */
static bool hkr_pool_refill_one(struct hkr_pool *pool)
{
	struct folio *folio;

	if (!hkr_reserve_short())
		return true;
	/* another node's thread sees to another node */
	folio = hkr_folio_alloc(HKR_GFP_REFILL | __GFP_THISNODE, pool->nid);
	if (!folio)
		return false;
	hkr_pool_give_clean(folio);
	return true;
}

/*
 * Zero what is dirty, then bring the reserve back to its size. When the buddy
 * allocator has nothing, wait twice as long each time; dirty folios still wake
 * the thread.
 */
static int hkr_pool_thread(void *data)
{
	struct hkr_pool *pool = data;
	unsigned int wait_ms = HKR_REFILL_MIN_MS;
	struct folio *folio;
	long timeout;

	set_user_nice(current, MAX_NICE);
	set_freezable();
	while (!kthread_should_stop()) {
		try_to_freeze();
		folio = hkr_pool_zero_one(pool,
					  &hkr_pool_stats.background_bytes,
					  &hkr_pool_stats.background_ns);
		if (folio) {
			hkr_pool_push(pool, folio, true);
			cond_resched();
			continue;
		}

		timeout = MAX_SCHEDULE_TIMEOUT;
		if (hkr_reserve_short()) {
			if (hkr_pool_refill_one(pool)) {
				wait_ms = HKR_REFILL_MIN_MS;
				continue;
			}
			timeout = msecs_to_jiffies(wait_ms);
			wait_ms = min(2 * wait_ms, HKR_REFILL_MAX_MS + 0U);
		}
		wait_event_freezable_timeout(pool->wait,
					     kthread_should_stop() ||
					     READ_ONCE(pool->nr_dirty),
					     timeout);
	}
	return 0;
}

static struct hkr_pool *hkr_pool_make(int nid)
{
	struct hkr_pool *pool = kzalloc_node(sizeof(*pool), GFP_KERNEL, nid);

	if (!pool)
		return NULL;
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->clean);
	INIT_LIST_HEAD(&pool->dirty);
	init_waitqueue_head(&pool->wait);
	timer_setup(&pool->timer, hkr_pool_timer, 0);
	pool->nid = nid;
	return pool;
}

static void hkr_pool_free(struct hkr_pool *pool)
{
	struct folio *folio;

	hkr_timer_shutdown(&pool->timer);
	while ((folio = hkr_pool_pop(pool, true)))
		hkr_folio_leave(folio);
	while ((folio = hkr_pool_pop(pool, false)))
		hkr_folio_leave(folio);
	kfree(pool);
}

/* spread the reserve over the nodes; what cannot be had now is tried later */
static void hkr_pool_reserve(void)
{
	unsigned long got = 0, last = 0;
	int nid;

	while (got < hkr_limits.reserve) {
		for_each_node_state(nid, N_MEMORY) {
			struct folio *folio;

			if (got == hkr_limits.reserve)
				break;
			folio = hkr_folio_alloc(HKR_GFP_REFILL | __GFP_THISNODE,
						nid);
			if (!folio)
				continue;
			hkr_pool_give_clean(folio);
			got++;
		}
		if (got == last)
			break;
		last = got;
		cond_resched();
	}
	if (got < hkr_limits.reserve)
		pr_warn("reserved %lu of %lu MiB; the rest is tried later\n",
			2 * got, 2 * hkr_limits.reserve);
}

/**
 * hkr_pool_init - make the pools and their threads and fill the reserve
 *
 * Return: 0 or -errno, with nothing left behind
 */
int hkr_pool_init(void)
{
	struct task_struct *thread;
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		hkr_pools[nid] = hkr_pool_make(nid);
		if (!hkr_pools[nid])
			goto undo_pools;
	}
	hkr_pool_reserve();
	for_each_node_state(nid, N_MEMORY) {
		if (!hkr_pools[nid])
			continue;
		thread = kthread_create_on_node(hkr_pool_thread, hkr_pools[nid],
						nid, "hakmem_zero/%d", nid);
		if (IS_ERR(thread))
			goto undo_pools;
		hkr_pools[nid]->thread = thread;
		wake_up_process(thread);
	}
	return 0;

undo_pools:
	hkr_pool_exit();
	return -ENOMEM;
}

/**
 * hkr_pool_exit - stop the threads and free every folio in the pool
 */
void hkr_pool_exit(void)
{
	int nid;

	/* all threads first: one may give a folio to another node's pool */
	for_each_node(nid)
		if (hkr_pools[nid] && hkr_pools[nid]->thread)
			kthread_stop(hkr_pools[nid]->thread);
	for_each_node(nid) {
		if (!hkr_pools[nid])
			continue;
		hkr_pool_free(hkr_pools[nid]);
		hkr_pools[nid] = NULL;
	}
}
