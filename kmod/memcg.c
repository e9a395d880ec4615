// SPDX-License-Identifier: GPL-2.0
/*
 * Memory cgroups: arenas that are charged, and their group's own reclaim.
 *
 * The folios of the pool are nobody's; a process in a group with a limit could
 * leave the limit behind by using them. So the new memory of such an arena is
 * charged to its owner's group, as anonymous memory would be, and never comes
 * from the pool or goes there: nothing that a module may call charges a folio
 * that exists already. Its price is that every folio is allocated and zeroed
 * while the owner waits. Who is charged is decided once, at SETUP:
 *
 *   charge=auto    arenas with a limit (memory.max, memory.high) set on their
 *                  group or anywhere above it
 *   charge=always  every arena outside the root group
 *   charge=never   none
 *
 * The limit of a group is met by reclaim inside the group, and that asks only
 * shrinkers that know about groups. Ours finds its slots so: a charged arena has
 * age lists of its own for each node (view->ages), allocated as charged objects,
 * and these are on a list_lru, which sorts them by group and node and follows
 * them when a group ends. The core runs the shrinker for a group only while
 * there is something on that list, and forgets it once count says SHRINK_EMPTY;
 * since words become idle without a call, we never say that.
 *
 * Pressure from the whole machine reaches charged arenas by this shrinker too,
 * since it is run for every group then. Oldest first therefore holds inside a
 * group, among the HKR_MEMCG_ARENAS arenas that one call looks at; what was
 * looked at goes to the end of the list.
 *
 * HANDOUT over the limit takes idle slots of the group first, then lets the core
 * reclaim what else the group has, and then fails: __GFP_NORETRY keeps the OOM
 * killer of the group out of it. It never compacts.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/page_counter.h>
#include <linux/sched/mm.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait_bit.h>

#include "age.h"
#include "hkr.h"
#include "memcg.h"

enum hkr_charge_mode {
	HKR_CHARGE_AUTO,
	HKR_CHARGE_ALWAYS,
	HKR_CHARGE_NEVER,
};

static const char *const hkr_charge_names[] = {
	[HKR_CHARGE_AUTO] = "auto",
	[HKR_CHARGE_ALWAYS] = "always",
	[HKR_CHARGE_NEVER] = "never",
};

static enum hkr_charge_mode hkr_charge_mode;

#ifdef CONFIG_MEMCG

/* arenas that one call chooses among */
#define HKR_MEMCG_ARENAS	16

static struct list_lru hkr_lru;		/* hkr_ages.memcg */
static struct kmem_cache *hkr_ages_cache;
static bool hkr_memcg_ready;		/* set once hkr_lru may be walked */

static bool hkr_memcg_is_ready(void)
{
	/* pairs with the release in hkr_memcg_start() */
	return smp_load_acquire(&hkr_memcg_ready);
}

/* a few arenas of one group, each counted in view->takers */
struct hkr_pick {
	struct hkr_ages *ages[HKR_MEMCG_ARENAS];
	unsigned int nr;
	enum lru_status then;
};

/**
 * hkr_memcg_possible - can memory of ours be charged
 *
 * Not where the kernel was started without memory cgroups. Whether it was
 * started without those of kernel memory shows only once there is a group: then
 * hkr_memcg_join() sees it.
 */
bool hkr_memcg_possible(void)
{
	return !mem_cgroup_disabled();
}

/* under the list's lock, which keeps the arena: its end takes it off first */
static enum lru_status hkr_pick_one(HKR_LRU_WALK_ARGS)
{
	struct hkr_ages *ages = container_of(item, struct hkr_ages, memcg);
	struct hkr_pick *pick = cb_arg;

	if (pick->nr == HKR_MEMCG_ARENAS)
		return LRU_SKIP;
	/* nobody waits behind what is empty: count has to come past it, too */
	if (!hkr_ages_oldest(ages))
		return LRU_ROTATE;
	atomic_inc(&ages->view->takers);
	pick->ages[pick->nr++] = ages;
	return pick->then;
}

/* @memcg: its own arenas, not those of groups below it; NULL: all groups */
static void hkr_pick_arenas(int nid, struct mem_cgroup *memcg, bool all,
			    struct hkr_pick *pick)
{
	unsigned long walk = 4 * HKR_MEMCG_ARENAS;

	if (all) {
		walk = min(walk, list_lru_count_node(&hkr_lru, nid));
		list_lru_walk_node(&hkr_lru, nid, hkr_pick_one, pick, &walk);
		return;
	}
	walk = min(walk, list_lru_count_one(&hkr_lru, nid, memcg));
	list_lru_walk_one(&hkr_lru, nid, memcg, hkr_pick_one, pick, &walk);
}

static void hkr_pick_done(struct hkr_pick *pick, unsigned int i)
{
	hkr_view_unuse(pick->ages[i]->view);
	pick->ages[i] = pick->ages[--pick->nr];
}

static unsigned int hkr_pick_oldest(const struct hkr_pick *pick)
{
	unsigned int i, best = 0;

	for (i = 1; i < pick->nr; i++)
		if (hkr_ages_oldest(pick->ages[i]) >
		    hkr_ages_oldest(pick->ages[best]))
			best = i;
	return best;
}

/* a batch from the arena with the oldest slots, until all are done with */
static unsigned long hkr_take_picked(struct hkr_pick *pick,
				     struct hkr_take *take)
{
	unsigned long taken = 0;

	while (pick->nr && take->want && take->look) {
		unsigned int i = hkr_pick_oldest(pick);
		struct hkr_take batch = *take;
		unsigned long got;

		batch.want = min(take->want, HKR_TAKE_BATCH);
		got = hkr_take_slots(pick->ages[i], &batch);
		take->look = batch.look;
		take->want -= got;
		taken += got;
		if (!got)
			hkr_pick_done(pick, i);
	}
	while (pick->nr)
		hkr_pick_done(pick, 0);
	return taken;
}

static unsigned long hkr_memcg_take(int nid, struct mem_cgroup *memcg,
				    struct hkr_take *take)
{
	struct hkr_pick pick = { .then = LRU_ROTATE };

	hkr_pick_arenas(nid, memcg, false, &pick);
	return hkr_take_picked(&pick, take);
}

/**
 * hkr_memcg_take_any - take idle slots of charged arenas, whatever their group
 * @nid: node whose memory is wanted
 * @take: as for hkr_take_slots()
 *
 * Return: slots taken
 */
unsigned long hkr_memcg_take_any(int nid, struct hkr_take *take)
{
	struct hkr_pick pick = { .then = LRU_ROTATE };

	if (!hkr_memcg_is_ready())
		return 0;
	hkr_pick_arenas(nid, NULL, true, &pick);
	return hkr_take_picked(&pick, take);
}

static unsigned long hkr_memcg_count(struct shrinker *shrinker,
				     struct shrink_control *sc)
{
	/* what is counted is what the call that follows will look at */
	struct hkr_pick pick = { .then = LRU_SKIP };
	unsigned long slots = 0;

	if (!hkr_memcg_is_ready())
		return 0;
	hkr_pick_arenas(sc->nid, sc->memcg, false, &pick);
	while (pick.nr) {
		slots += hkr_ages_count(pick.ages[0]);
		hkr_pick_done(&pick, 0);
	}
	/* pages: a small count would be shifted to nothing */
	return HKR_SLOT_PAGES * slots;
}

static unsigned long hkr_memcg_scan(struct shrinker *shrinker,
				    struct shrink_control *sc)
{
	unsigned long want = DIV_ROUND_UP(sc->nr_to_scan, HKR_SLOT_PAGES);
	struct hkr_take take = {
		.want = want,
		.look = 2 * want,
		.to_buddy = true,
		.why = HKR_WHY_CGROUP,
	};
	unsigned long freed;

	freed = HKR_SLOT_PAGES * hkr_memcg_take(sc->nid, sc->memcg, &take);
	sc->nr_scanned = max(sc->nr_to_scan, freed);
	hkr_account_reclaimed(freed);
	return freed || take.look < 2 * want ? freed : SHRINK_STOP;
}

static struct hkr_shrinker hkr_memcg_shrinker = {
	.count = hkr_memcg_count,
	.scan = hkr_memcg_scan,
	.batch = HKR_SLOT_PAGES,
	.seeks = 1,
	.lru = &hkr_lru,
};

static bool hkr_has_limit(struct mem_cgroup *memcg)
{
	for (; memcg; memcg = parent_mem_cgroup(memcg))
		if (READ_ONCE(memcg->memory.max) != PAGE_COUNTER_MAX ||
		    READ_ONCE(memcg->memory.high) != PAGE_COUNTER_MAX)
			return true;
	return false;
}

static bool hkr_memcg_wanted(struct mem_cgroup *memcg)
{
	/* the root group has no counter that could be charged */
	if (!memcg || !parent_mem_cgroup(memcg))
		return false;
	if (hkr_charge_mode == HKR_CHARGE_ALWAYS)
		return true;
	return hkr_charge_mode == HKR_CHARGE_AUTO && hkr_has_limit(memcg);
}

static void hkr_free_ages(struct hkr_ages **all)
{
	int nid;

	for (nid = 0; nid < nr_node_ids; nid++) {
		if (!all[nid])
			continue;
		hkr_lru_del(&hkr_lru, &all[nid]->memcg);
		hkr_ages_exit(all[nid]);
		kmem_cache_free(hkr_ages_cache, all[nid]);
	}
	kfree(all);
}

/*
 * On its own node, as the list_lru wants it; for a node without memory yet it is
 * another, whose reclaim then finds the arena too. That kind of allocation does
 * not make the group's lists; the other kind does, and is done once before, for
 * the same group.
 */
static struct hkr_ages *hkr_new_ages(struct hkr_view *view, int nid)
{
	struct hkr_ages *ages = kmem_cache_alloc_node(hkr_ages_cache,
						      HKR_GFP_RECORDS |
						      __GFP_ZERO,
						      nid);

	if (!ages)
		return NULL;
	hkr_ages_init(ages, nid, view);
	hkr_lru_add(&hkr_lru, &ages->memcg);
	return ages;
}

static struct hkr_ages **hkr_make_ages(struct hkr_view *view)
{
	struct hkr_ages **all;
	void *primer;
	int nid;

	all = kcalloc(nr_node_ids, sizeof(*all), HKR_GFP_RECORDS);
	if (!all)
		return NULL;
	primer = kmem_cache_alloc_lru(hkr_ages_cache, &hkr_lru, HKR_GFP_RECORDS);
	if (!primer)
		goto free_ages;
	kmem_cache_free(hkr_ages_cache, primer);
	for_each_node(nid) {
		all[nid] = hkr_new_ages(view, nid);
		if (!all[nid])
			goto free_ages;
	}
	return all;

free_ages:
	hkr_free_ages(all);
	return NULL;
}

static int hkr_join_group(struct hkr_view *view, struct mem_cgroup *memcg)
{
	/* whatever group the process is moved to meanwhile */
	struct mem_cgroup *old = set_active_memcg(memcg);

	view->ages = hkr_make_ages(view);
	set_active_memcg(old);
	return view->ages ? 0 : -ENOMEM;
}

/**
 * hkr_memcg_join - is an arena to be charged? then make its lists
 * @view: locked, being set up
 *
 * Return: 0, with view->ages set where it is; -ENOMEM; -EOPNOTSUPP where it
 * must be and the kernel was started with cgroup.memory=nokmem
 */
int hkr_memcg_join(struct hkr_view *view)
{
	struct mem_cgroup *memcg;
	int ret = 0;

	lockdep_assert_held(&view->lock);
	if (!hkr_memcg_is_ready())
		return 0;
	memcg = get_mem_cgroup_from_mm(view->mm);
	if (!hkr_memcg_wanted(memcg))
		goto put_memcg;
	if (!hkr_memcg_counts_kmem()) {
		ret = hkr_charge_mode == HKR_CHARGE_ALWAYS ? -EOPNOTSUPP : 0;
		goto put_memcg;
	}
	ret = hkr_join_group(view, memcg);
put_memcg:
	mem_cgroup_put(memcg);
	return ret;
}

/**
 * hkr_memcg_inherit - a forked child's arena is charged if its parent's is
 * @view: the child's, locked
 * @parent: of the process that forks
 *
 * A task that is being forked is in no group yet, so its lists are made in the
 * parent's. Memory is charged to the group that the child is in when it asks.
 *
 * Return: 0, with view->ages set where it is; -ENOMEM
 */
int hkr_memcg_inherit(struct hkr_view *view, struct hkr_view *parent)
{
	struct mem_cgroup *memcg;
	int ret;

	lockdep_assert_held(&view->lock);
	if (!parent->ages)
		return 0;
	memcg = get_mem_cgroup_from_mm(parent->mm);
	ret = hkr_join_group(view, memcg);
	mem_cgroup_put(memcg);
	return ret;
}

/**
 * hkr_memcg_leave - an arena ends: reclaim will not find it any more
 * @view: without memory, and no tick looks at it
 *
 * A taker that found it before may still be at work: view->takers.
 */
void hkr_memcg_leave(struct hkr_view *view)
{
	int nid;

	for (nid = 0; view->ages && nid < nr_node_ids; nid++)
		if (view->ages[nid])
			hkr_lru_del(&hkr_lru, &view->ages[nid]->memcg);
	wait_var_event(&view->takers, !atomic_read(&view->takers));
	if (view->ages)
		hkr_free_ages(view->ages);
	view->ages = NULL;
}

/* has the group, or one above it, no room for another folio */
static bool hkr_memcg_is_full(struct mem_cgroup *memcg)
{
	for (; memcg; memcg = parent_mem_cgroup(memcg))
		if (page_counter_read(&memcg->memory) + HKR_SLOT_PAGES >
		    READ_ONCE(memcg->memory.max))
			return true;
	return false;
}

/* the oldest idle slot of the group gives way */
static bool hkr_memcg_steal(struct mem_cgroup *memcg)
{
	int nid;

	for_each_node_state(nid, N_MEMORY) {
		struct hkr_take take = {
			.want = 1,
			.look = 64,
			.to_buddy = true,
			.why = HKR_WHY_HANDOUT,
		};

		if (hkr_memcg_take(nid, memcg, &take))
			return true;
	}
	return false;
}

static struct folio *hkr_charged_folio(struct mem_cgroup *memcg, int nid)
{
	gfp_t gfp = HKR_GFP_INLINE | __GFP_ACCOUNT;
	struct folio *folio = hkr_folio_alloc(gfp, nid);

	if (folio)
		return folio;
	if (hkr_memcg_steal(memcg)) {
		folio = hkr_folio_alloc(gfp, nid);
		if (folio)
			return folio;
	}
	if (!hkr_memcg_is_full(memcg))
		return hkr_singles_alloc(__GFP_ACCOUNT, nid);
	/*
	 * It is the limit that is in the way, and reclaim inside the group may help.
	 * The core has the block before it charges it, though: where none lies
	 * about, the same call compacts first. Single pages are then all there is.
	 */
	if (!hkr_folio_lies_about(nid))
		return hkr_singles_alloc(__GFP_ACCOUNT, nid);
	return hkr_folio_alloc(gfp | __GFP_DIRECT_RECLAIM | __GFP_NORETRY, nid);
}

/**
 * hkr_memcg_folio - zeroed memory, charged to the group of a view's owner
 * @view: with lists of its own; no slot of it is locked
 * @nid: node to prefer, or HKR_NODE_ANY
 *
 * Return: the folio that names it, or NULL when the limit or the machine has no room
 */
struct folio *hkr_memcg_folio(struct hkr_view *view, int nid)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(view->mm);
	struct mem_cgroup *old = set_active_memcg(memcg);
	struct folio *folio;

	if (nid == HKR_NODE_ANY)
		nid = numa_mem_id();
	folio = hkr_charged_folio(memcg, nid);
	set_active_memcg(old);
	mem_cgroup_put(memcg);
	return folio;
}

static int hkr_memcg_start(void)
{
	int ret;

	hkr_ages_cache = kmem_cache_create("hakmem_ages",
					   sizeof(struct hkr_ages), 0,
					   SLAB_ACCOUNT, NULL);
	if (!hkr_ages_cache)
		return -ENOMEM;
	ret = hkr_shrinker_register(&hkr_memcg_shrinker, "hakmem_region-memcg");
	if (ret) {
		kmem_cache_destroy(hkr_ages_cache);
		return ret;
	}
	/* the list is made: on old kernels only after count may be called */
	smp_store_release(&hkr_memcg_ready, true);
	return 0;
}

/**
 * hkr_memcg_exit - nothing is charged any more, no arena exists
 */
void hkr_memcg_exit(void)
{
	if (!hkr_memcg_ready)
		return;
	hkr_shrinker_unregister(&hkr_memcg_shrinker);
	list_lru_destroy(&hkr_lru);
	kmem_cache_destroy(hkr_ages_cache);
	hkr_memcg_ready = false;
}

#else /* !CONFIG_MEMCG */

bool hkr_memcg_possible(void)
{
	return false;
}

unsigned long hkr_memcg_take_any(int nid, struct hkr_take *take)
{
	return 0;
}

int hkr_memcg_join(struct hkr_view *view)
{
	return 0;
}

int hkr_memcg_inherit(struct hkr_view *view, struct hkr_view *parent)
{
	return 0;
}

void hkr_memcg_leave(struct hkr_view *view)
{
	wait_var_event(&view->takers, !atomic_read(&view->takers));
}

struct folio *hkr_memcg_folio(struct hkr_view *view, int nid)
{
	return NULL;
}

static int hkr_memcg_start(void)
{
	return 0;
}

void hkr_memcg_exit(void)
{
}

#endif /* CONFIG_MEMCG */

/**
 * hkr_memcg_init - decide about charging, and let groups reclaim
 * @mode: "auto", "always" or "never"
 *
 * Return: 0; -EINVAL for another mode; -EOPNOTSUPP for "always" where nothing
 * can be charged; -ENOMEM
 */
int hkr_memcg_init(const char *mode)
{
	int found = match_string(hkr_charge_names,
				 ARRAY_SIZE(hkr_charge_names), mode);

	if (found < 0) {
		pr_err("charge=%s is not auto, always or never\n", mode);
		return -EINVAL;
	}
	hkr_charge_mode = found;
	if (hkr_charge_mode == HKR_CHARGE_NEVER)
		return 0;
	if (hkr_memcg_possible())
		return hkr_memcg_start();
	if (hkr_charge_mode == HKR_CHARGE_AUTO)
		return 0;
	pr_err("charge=always: this kernel was started without memory cgroups\n");
	return -EOPNOTSUPP;
}
