// SPDX-License-Identifier: GPL-2.0
/*
 * The pool: folios of 2 MiB that no slot holds.
 *
 * A folio comes from the buddy allocator and goes round: pool, slot, pool. Each
 * NUMA node keeps two lists. What comes back from a slot is dirty: another
 * process may have written it, and nobody may see it before it is zeroed. A
 * thread (zero.c) zeroes dirty folios and makes them clean, when it thinks that
 * somebody will want them. Who needs a folio takes a clean one, else zeroes a
 * dirty one itself, else asks the buddy allocator; so zeroing is done once for
 * each change of owner, by somebody, and always counted. Nobody ever waits for
 * the thread.
 *
 * The reserve is taken at load and kept until unload, but for memory that goes
 * away (offline.c). Beyond it the pool holds on to returned folios up to
 * pool_max and frees the rest. Every node that may ever have memory has its pool
 * and its thread from the load on.
 *
 * A folio in the pool has one reference, no mapping and no user (folio.c).
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/memcontrol.h>
#include <linux/nodemask.h>
#include <linux/nospec.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "hkr.h"
#include "pool.h"

/* clean folios that a pool keeps while single pages wait for one */
#define HKR_EXCHANGE	8UL

struct hkr_pool_stats hkr_pool_stats;

struct hkr_pool *hkr_pools[MAX_NUMNODES];
static atomic_long_t hkr_pooled;	/* folios on the lists of all nodes */

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
		hkr_zero_kick_locked(pool);
	}
	spin_unlock(&pool->lock);
	return folio;
}

/**
 * hkr_pool_hold_left - jiffies until a pool takes memory in again; 0: it does
 * @pool: of any node
 */
long hkr_pool_hold_left(const struct hkr_pool *pool)
{
	u64 until = READ_ONCE(pool->hold), now = get_jiffies_64();

	return until > now ? min_t(u64, until - now, MAX_SCHEDULE_TIMEOUT) : 0;
}

/* room for one more folio, which the caller puts on a list */
static bool hkr_pooled_inc(void)
{
	long pooled = atomic_long_read(&hkr_pooled);

	do {
		if (pooled >= (long)hkr_limits.pool_max)
			return false;
	} while (!atomic_long_try_cmpxchg(&hkr_pooled, &pooled, pooled + 1));
	return true;
}

/**
 * hkr_pool_push - put a folio on a list
 * @pool: of the folio's node
 * @folio: on no list
 * @clean: zeroed
 *
 * The clean list is a stack: the folio zeroed last is the likeliest in a cache.
 * The dirty list is a queue, so that no folio is left for ever. A pool that is
 * full or on hold lets the folio go; on hold under the lock, so that
 * hkr_pool_empty() misses none. Full is looked at here and not before: while the
 * zeroing thread had a folio in its hands others may have filled its place.
 */
void hkr_pool_push(struct hkr_pool *pool, struct folio *folio, bool clean)
{
	spin_lock(&pool->lock);
	if (hkr_pool_hold_left(pool) || !hkr_pooled_inc()) {
		spin_unlock(&pool->lock);
		hkr_folio_leave(folio);
		return;
	}
	if (clean) {
		list_add(&folio->lru, &pool->clean);
		pool->nr_clean++;
	} else {
		list_add_tail(&folio->lru, &pool->dirty);
		pool->nr_dirty++;
		hkr_zero_kick_locked(pool);
	}
	spin_unlock(&pool->lock);
}

/**
 * hkr_pool_zero_one - a folio of the dirty list, zeroed
 * @pool: of a node
 * @background: nobody waits for it
 *
 * Return: the folio, on no list, or NULL where nothing is dirty
 */
struct folio *hkr_pool_zero_one(struct hkr_pool *pool, bool background)
{
	struct folio *folio;
	ktime_t start;

	while ((folio = hkr_pool_pop(pool, false))) {
		start = ktime_get();
		if (!hkr_folio_zero(folio))
			continue;
		hkr_count_zeroed(pool->nid, background, start);
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
	return hkr_pool_zero_one(pool, false);
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

/* a charged folio is its group's: nobody else may have it */
static bool hkr_pool_wants(struct hkr_pool *pool, struct folio *folio)
{
	return pool && !hkr_is_singles(folio) && !folio_memcg_kmem(folio);
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
	while (want--) {
		struct folio *folio = hkr_pool_pop(pool, false) ?:
				      hkr_pool_pop(pool, true);

		if (!folio)
			break;
		freed += hkr_folio_leave(folio);
	}
	return freed;
}

/**
 * hkr_pool_hold - from now on a node's pool takes nothing in
 * @nid: node
 * @until: jiffies; U64_MAX: until hkr_pool_resume()
 *
 * What comes back to it, from a slot or from the thread, leaves instead.
 */
void hkr_pool_hold(int nid, u64 until)
{
	struct hkr_pool *pool = hkr_pools[nid];

	spin_lock(&pool->lock);
	WRITE_ONCE(pool->hold, max(pool->hold, until));
	spin_unlock(&pool->lock);
}

/**
 * hkr_pool_empty - all that a node's pool has goes, the reserve too
 * @nid: node, on hold
 *
 * Return: folios freed
 */
unsigned long hkr_pool_empty(int nid)
{
	struct hkr_pool *pool = hkr_pools[nid];
	struct folio *folio;
	unsigned long freed = 0;

	while ((folio = hkr_pool_pop(pool, false) ?:
			hkr_pool_pop(pool, true))) {
		freed += hkr_folio_leave(folio);
	}
	return freed;
}

/**
 * hkr_pools_kick - the reserve may have become short, memory may have come, or
 * the first slot got single pages
 */
void hkr_pools_kick(void)
{
	int nid;

	for_each_node(nid)
		hkr_zero_refill(hkr_pools[nid]);
}

/**
 * hkr_pool_resume - a node's pool is not on hold any more
 * @nid: node
 */
void hkr_pool_resume(int nid)
{
	struct hkr_pool *pool = hkr_pools[nid];

	spin_lock(&pool->lock);
	WRITE_ONCE(pool->hold, 0);
	spin_unlock(&pool->lock);
}

/* is the reserve smaller than it was promised to be */
static bool hkr_reserve_short(void)
{
	return hkr_pool_shared() < (long)hkr_limits.reserve;
}

/* folios that are to take the place of single pages: age.c sees to that */
static bool hkr_exchange_short(struct hkr_pool *pool)
{
	return READ_ONCE(pool->nr_clean) < min(hkr_singles(), HKR_EXCHANGE) &&
	       atomic_long_read(&hkr_pooled) < hkr_limits.pool_max;
}

/**
 * hkr_pool_short - does a pool need memory that its thread is to get
 * @pool: of any node
 */
bool hkr_pool_short(struct hkr_pool *pool)
{
	if (hkr_pool_hold_left(pool) || !node_state(pool->nid, N_MEMORY))
		return false;
	return hkr_reserve_short() || hkr_exchange_short(pool);
}

static struct hkr_pool *hkr_pool_make(int nid)
{
	struct hkr_pool *pool = kzalloc_node(sizeof(*pool), GFP_KERNEL, nid);

	if (!pool)
		return NULL;
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->clean);
	INIT_LIST_HEAD(&pool->dirty);
	pool->nid = nid;
	hkr_zero_init(pool);
	return pool;
}

static void hkr_pool_free(struct hkr_pool *pool)
{
	struct folio *folio;

	hkr_zero_exit(pool);
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
			folio = hkr_folio_new(HKR_GFP_REFILL | __GFP_THISNODE,
					      nid, true);
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
	int nid;

	for_each_node(nid) {
		hkr_pools[nid] = hkr_pool_make(nid);
		if (!hkr_pools[nid])
			goto undo_pools;
	}
	hkr_pool_reserve();
	for_each_node(nid)
		if (hkr_zero_start(hkr_pools[nid]))
			goto undo_pools;
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
		if (hkr_pools[nid])
			hkr_zero_stop(hkr_pools[nid]);
	for_each_node(nid) {
		if (!hkr_pools[nid])
			continue;
		hkr_pool_free(hkr_pools[nid]);
		hkr_pools[nid] = NULL;
	}
}
