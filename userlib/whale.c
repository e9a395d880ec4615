// SPDX-License-Identifier: MIT
/*
 * Whales: runs of slots, live at the program or idle in the cache.
 *
 * A live whale's length is kept in an array beside the window, one number for
 * each slot of which the first slot's counts: never in the block, where an
 * overrun of the program would reach it. The number says LIVE from the moment
 * the program gets the whale to the moment it frees it, and changes by
 * compare-and-swap, so of two frees of one whale exactly one succeeds.
 *
 * An idle run in the cache is a hint and no more. On the device the kernel may
 * have taken it back, and another thread may hold the same slots by now; so
 * nothing here is changed for a cached run before its source has confirmed it
 * (reuse), and a run that leaves the cache is evicted, not dropped. A cached
 * run that was lost is counted and the next one tried. Anonymous runs are
 * nobody's but the cache's, and need no confirmation.
 *
 * Where no cached run will do, neighbours are joined; then a new one is supplied
 * (supply.c).
 *
 * Idle memory is bounded in bytes (capacity.c), and by age where the policy is to
 * let it decay. Nothing runs on its own for that, unless somebody asks for it (trimmer.c):
 * it rides on the calls of the program.
 *
 * What cannot fail: free. What does not fit the device gets anonymous memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "capacity.h"
#include "checker.h"
#include "env.h"
#include "heap.h"
#include "lock.h"
#include "machine.h"
#include "probes.h"
#include "run.h"
#include "source.h"
#include "supply.h"
#include "sys.h"
#include "trimmer.h"
#include "whale.h"

#define RUN_LIVE   (1U << 31)
#define RUN_FREED  (1U << 30)
#define RUN_PINNED (1U << 29)	/* goes with the run through the cache */
#define RUN_SLOTS  HKM_RUN_SLOTS

/* A larger run is not made of idle memory: it may be a sparse one. */
#define IDLE_SLOTS 128

static uint32_t *runs;		/* a number for each slot of the window */

/* Atomic, each for itself. */
static bool is_open;
static enum hkm_policy policy;
static uint64_t decay_ms;
static uint64_t next_trim_ms;	/* not before this */

/* ---- idle runs ---------------------------------------------------------------- */

static void drop(const struct hkm_run *run)
{
	struct hkm_backend *be = hkm_source_of(run->first);

	be->ops->evict(be, hkm_slot_address(run->first), run->nr);
}

/* There is no room for it. */
static void evict(const struct hkm_run *run)
{
	HKM_PROBE2(evict, hkm_slot_address(run->first),
		   run->nr << HKM_SLOT_SHIFT);
	drop(run);
}

/* It is old, or all are to go. */
static void trim(const struct hkm_run *run)
{
	HKM_PROBE2(trim, hkm_slot_address(run->first),
		   run->nr << HKM_SLOT_SHIFT);
	drop(run);
}

/*
 * The kernel sees the age of the device's idle slots itself. Where memory is to be
 * kept, the capacity is all that age is asked for, and no more goes than it has.
 */
static cold void trim_old(uint64_t now)
{
	uint64_t decay = read_once(&decay_ms), due = read_once(&next_trim_ms);
	uint64_t kept = read_once(&policy) == HKM_POLICY_KEEP ?
			hkm_capacity_floor() : 0;
	struct hkm_run run;

	if (now < due || now < decay ||
	    !__atomic_compare_exchange_n(&next_trim_ms, &due,
					 now + decay / 4 + 1, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	while (hkm_lane_sum_idle() > kept &&
	       hkm_cache_pop(now - decay, hkm_source_border, false, SIZE_MAX,
			     &run)) {
		hkm_capacity_cold(run.nr);
		trim(&run);
	}
}

static void trim_if_due(uint64_t now)
{
	if (unlikely(now >= read_once(&next_trim_ms)))
		trim_old(now);
}

static cold void trim_to_limit(void)
{
	uint64_t most = hkm_capacity_now(), idle = hkm_lane_sum_idle();
	struct hkm_run run;

	while (idle > most &&
	       hkm_cache_pop(UINT64_MAX, 0, false, SIZE_MAX, &run)) {
		idle -= run.nr < idle ? run.nr : idle;
		hkm_lane_add(&hkm_lane()->evictions, 1);
		hkm_capacity_evicted(run.nr);
		evict(&run);
	}
}

/*
 * The sum over all lanes is not looked at for each free, but for each 64th part
 * of the capacity that a lane has put.
 */
static void keep_to_limit(size_t nr)
{
	struct hkm_lane *lane = hkm_lane();

	hkm_lane_add(&lane->unchecked, nr);
	if (likely(read_once(&lane->unchecked) <= hkm_capacity_now() / 64))
		return;
	write_once(&lane->unchecked, 0);
	trim_to_limit();
}

static void make_idle(size_t first, size_t nr, unsigned int flags)
{
	struct hkm_run run = { first, nr, flags };
	struct hkm_backend *be = hkm_source_of(first);
	uint64_t now = hkm_cache_now_ms();

	if (be->ops->idle(be, hkm_slot_address(first), nr))
		run.flags |= HKM_RUN_ZERO;
	if (unlikely(!hkm_cache_put(&run, now))) {
		trim(&run);	/* the cache is closed */
		return;
	}
	keep_to_limit(nr);
	trim_if_due(now);
	hkm_trimmer_notice();
}

/* ---- allocation ---------------------------------------------------------------- */

static void *make_live(const struct hkm_run *run)
{
	struct hkm_lane *lane = hkm_lane();
	uint32_t pinned = run->flags & HKM_RUN_PINNED ? RUN_PINNED : 0;

	write_once(&runs[run->first], RUN_LIVE | pinned | (uint32_t)run->nr);
	hkm_lane_add(&lane->live, 1);
	hkm_lane_add(&lane->live_slots, run->nr);
	return hkm_checker_live(hkm_slot_address(run->first),
				run->nr << HKM_SLOT_SHIFT);
}

/* A cached run becomes the caller's, or turns out to be lost. */
static bool confirm(const struct hkm_run *run)
{
	struct hkm_backend *be;

	if (hkm_source_is_anon(run->first))
		return true;
	be = hkm_source_of(run->first);
	if (likely(!be->ops->reuse(be, hkm_slot_address(run->first), run->nr)))
		return true;
	HKM_PROBE2(lost, hkm_slot_address(run->first),
		   run->nr << HKM_SLOT_SHIFT);
	hkm_lane_add(&hkm_lane()->lost, 1);
	hkm_capacity_cold(run->nr);	/* it was the oldest that there was */
	return false;
}

/*
 * What is hot is cleared by hand. A large block is not hot: clearing it goes
 * through all of memory once more than the program will.
 */
static cold void clear(size_t first, void *whale, size_t size)
{
	struct hkm_backend *be = hkm_source_of(first);

	if (size < read_once(&be->exchange_from) ||
	    be->ops->fresh(be, whale, hkm_slots_for(size)))
		memset(whale, 0, size);
}

/* Of a run that is live. */
static void make_zero(const struct hkm_run *run, size_t size,
		      unsigned int flags)
{
	void *whale;

	if (likely(!(flags & HKM_WHALE_ZERO)))
		return;
	whale = hkm_slot_address(run->first);
	if (!(run->flags & HKM_RUN_ZERO))
		clear(run->first, whale, size);
	hkm_checker_zeroed(whale, size);
}

static inline bool get_idle(size_t nr, size_t lowest, struct hkm_run *run)
{
	while (hkm_cache_get(nr, lowest, run))
		if (likely(confirm(run)))
			return true;
	return false;
}

static void *alloc_cached(size_t nr, size_t size, unsigned int flags)
{
	size_t lowest = flags & HKM_WHALE_ANON ? hkm_source_border : 0;
	struct hkm_run run;
	void *whale;

	if (!get_idle(nr, lowest, &run))
		return NULL;
	hkm_lane_add(&hkm_lane()->hits, 1);
	whale = make_live(&run);
	make_zero(&run, size, flags);
	HKM_PROBE2(hit, whale, size);
	return whale;
}

/* Idle memory is as good as new for this. */
static bool may_be_idle(size_t nr, unsigned int flags)
{
	return nr <= IDLE_SLOTS && !(flags & HKM_WHALE_ZERO) &&
	       read_once(&policy) < HKM_POLICY_DONTNEED &&
	       hkm_cache_is_divisible();
}

static cold void *alloc_missed(size_t nr, size_t size, unsigned int flags)
{
	struct hkm_run run;
	void *whale;

	HKM_PROBE1(miss, size);
	hkm_lane_add(&hkm_lane()->misses, 1);
	trim_if_due(hkm_cache_now_ms());
	if (hkm_cache_merge()) {
		whale = alloc_cached(nr, size, flags);
		if (whale)
			return whale;
	}
	hkm_capacity_missed(nr, 1);
	if (!hkm_supply(nr, flags, may_be_idle(nr, flags), &run))
		return NULL;
	whale = make_live(&run);
	make_zero(&run, size, flags);
	return whale;
}

void *hkm_whale_alloc(size_t size, unsigned int flags)
{
	size_t nr = hkm_slots_for(size);
	void *whale;

	if (unlikely(nr > RUN_SLOTS))
		return NULL;
	whale = alloc_cached(nr, size, flags);
	return likely(whale) ? whale : alloc_missed(nr, size, flags);
}

/* ---- free --------------------------------------------------------------------- */

static cold __attribute__((noreturn)) void wild(const void *ptr, uint32_t run,
						const char *who)
{
	hkm_message("%s%s(%p): %s", hkm_front.prefix, who, ptr,
		    run & RUN_FREED ? "double free" :
				      "not the start of a block");
	abort();
}

/* The number of a live whale. */
static uint32_t look_up(const void *ptr, const char *who)
{
	uint32_t run;

	if (unlikely((uintptr_t)ptr % HKM_SLOT_SIZE))
		wild(ptr, 0, who);
	run = load_acquire(&runs)[hkm_slot_number(ptr)];
	if (unlikely(!(run & RUN_LIVE)))
		wild(ptr, run, who);
	return run;
}

/* LIVE -> @new, once. Relaxed: the cache's word is what publishes the run. */
static uint32_t take_back(const void *ptr, uint32_t new, const char *who)
{
	uint32_t *run = &runs[hkm_slot_number(ptr)];
	uint32_t old = look_up(ptr, who);

	if (unlikely(!__atomic_compare_exchange_n(run, &old, new, false,
						  __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED)))
		wild(ptr, old, who);
	return old;
}

static void count_dead(size_t nr)
{
	struct hkm_lane *lane = hkm_lane();

	hkm_lane_add(&lane->live, -1UL);
	hkm_lane_add(&lane->live_slots, -(uint64_t)nr);
}

void hkm_whale_free(void *ptr, const char *who)
{
	uint32_t run = take_back(ptr, RUN_FREED, who);
	size_t nr = run & RUN_SLOTS;

	count_dead(nr);
	hkm_checker_freed(ptr, nr << HKM_SLOT_SHIFT);
	make_idle(hkm_slot_number(ptr), nr,
		  run & RUN_PINNED ? HKM_RUN_PINNED : 0);
}

size_t hkm_whale_size(const void *ptr, const char *who)
{
	return (size_t)(look_up(ptr, who) & RUN_SLOTS) << HKM_SLOT_SHIFT;
}

/* ---- other sizes ---------------------------------------------------------------- */

static void *shrink(void *ptr, uint32_t old, size_t nr)
{
	size_t had = old & RUN_SLOTS, first = hkm_slot_number(ptr);

	if (!hkm_cache_is_divisible())
		return ptr;
	take_back(ptr, (old & ~(uint32_t)RUN_SLOTS) | (uint32_t)nr, "realloc");
	hkm_lane_add(&hkm_lane()->live_slots, nr - had);
	hkm_checker_resized(ptr, had << HKM_SLOT_SHIFT, nr << HKM_SLOT_SHIFT);
	write_once(&runs[first + nr], RUN_FREED);
	make_idle(first + nr, had - nr, 0);
	return ptr;
}

/* The slots behind the whale: idle ones, or such as its source can still give. */
static bool grow_here(void *ptr, size_t had, size_t nr)
{
	size_t first = hkm_slot_number(ptr), more = nr - had;
	struct hkm_backend *be = hkm_source_of(first);
	struct hkm_run run;

	if (first + had != hkm_source_border &&
	    hkm_cache_get_at(first + had, more, &run)) {
		if (run.nr > more) {
			struct hkm_run rest = {
				run.first + more, run.nr - more, run.flags,
			};

			if (!hkm_cache_put(&rest, hkm_cache_now_ms()))
				evict(&rest);
			run.nr = more;
		}
		if (confirm(&run))
			return true;
	}
	hkm_capacity_missed(more, 1);
	return !be->ops->extend(be, ptr, had, more);
}

static void *grow(void *ptr, uint32_t old, size_t nr)
{
	size_t had = old & RUN_SLOTS, first = hkm_slot_number(ptr);
	struct hkm_backend *be = hkm_source_of(first);
	void *to;

	if (grow_here(ptr, had, nr)) {
		take_back(ptr, (old & ~(uint32_t)RUN_SLOTS) | (uint32_t)nr,
			  "realloc");
		hkm_lane_add(&hkm_lane()->live_slots, nr - had);
		hkm_checker_resized(ptr, had << HKM_SLOT_SHIFT,
				    nr << HKM_SLOT_SHIFT);
		return ptr;
	}
	/* The move gives the slots away; they may be live again before it returns. */
	take_back(ptr, RUN_FREED, "realloc");
	hkm_checker_freed(ptr, had << HKM_SLOT_SHIFT);
	if (be->ops->move(be, ptr, had, nr, &to)) {
		to = ptr;
		nr = had;
	}
	hkm_lane_add(&hkm_lane()->live_slots, nr - had);
	write_once(&runs[hkm_slot_number(to)],
		   (old & ~(uint32_t)RUN_SLOTS) | (uint32_t)nr);
	hkm_checker_moved(to, had << HKM_SLOT_SHIFT, nr << HKM_SLOT_SHIFT);
	return nr > had ? to : NULL;
}

void *hkm_whale_resize(void *ptr, size_t size)
{
	uint32_t old = look_up(ptr, "realloc");
	size_t had = old & RUN_SLOTS, nr = hkm_slots_for(size);

	if (nr == had)
		return ptr;
	if (nr > RUN_SLOTS)
		return NULL;
	return nr < had ? shrink(ptr, old, nr) : grow(ptr, old, nr);
}

/* ---- the steps, for batch.c ----------------------------------------------------- */

bool hkm_run_get_idle(size_t nr, struct hkm_run *run)
{
	return get_idle(nr, 0, run);
}

bool hkm_run_may_be_idle(size_t nr)
{
	return may_be_idle(nr, 0);
}

void *hkm_run_make_live(const struct hkm_run *run)
{
	return make_live(run);
}

struct hkm_run hkm_run_take_back(const void *ptr, const char *who)
{
	uint32_t run = take_back(ptr, RUN_FREED, who);

	count_dead(run & RUN_SLOTS);
	hkm_checker_freed((void *)ptr,
			  (size_t)(run & RUN_SLOTS) << HKM_SLOT_SHIFT);
	return (struct hkm_run){
		.first = hkm_slot_number(ptr),
		.nr = run & RUN_SLOTS,
		.flags = run & RUN_PINNED ? HKM_RUN_PINNED : 0,
	};
}

void hkm_run_make_idle(const struct hkm_run *run)
{
	make_idle(run->first, run->nr, run->flags);
}

size_t hkm_run_limit(void)
{
	return hkm_capacity_now();
}

/* ---- set-up --------------------------------------------------------------------- */

void hkm_whale_set_limit(size_t bytes)
{
	hkm_capacity_set_limit(bytes >> HKM_SLOT_SHIFT);
	trim_to_limit();
}

void hkm_whale_set_trim(enum hkm_trim how)
{
	hkm_trimmer_set(how, read_once(&policy) == HKM_POLICY_DECAY ?
			     read_once(&decay_ms) : UINT64_MAX);
}

/* Where age does not matter there is nothing due, ever. */
static bool goes_by_age(const struct hkm_config *cfg)
{
	return cfg->policy == HKM_POLICY_DECAY ||
	       (cfg->policy == HKM_POLICY_KEEP &&
		cfg->capacity == HKM_CAPACITY_AUTO);
}

int hkm_whale_open(const struct hkm_config *cfg)
{
	struct hkm_cache_config cache = {
		.capacity = cfg->slots,
		.order = cfg->order,
		.whole = hkm_env_flag("HAKMEM_GUARD"),
		.evict = evict,
	};
	uint32_t *table;
	int err;

	if (is_open)
		return -EALREADY;
	hkm_checker_find();
	err = hkm_source_open(cfg);
	if (err)
		return err;
	if (!runs) {
		table = hkm_sys_table((hkm_window.size >> HKM_SLOT_SHIFT) *
				      sizeof(*runs));
		if (!table)
			return -ENOMEM;
		store_release(&runs, table);
	}
	write_once(&policy, cfg->policy);
	write_once(&decay_ms, cfg->decay_ms);
	hkm_capacity_open(cfg->capacity, cfg->limit >> HKM_SLOT_SHIFT);
	write_once(&next_trim_ms, goes_by_age(cfg) ? 0 : UINT64_MAX);
	cache.border = hkm_source_border;
	hkm_cache_open(&cache);
	/* Release: pairs with the acquire in hkm_whale_is_open(). */
	store_release(&is_open, true);
	return 0;
}

void hkm_whale_close(void)
{
	store_release(&is_open, false);
	hkm_cache_close();
	hkm_whale_release(true);
}

bool hkm_whale_is_open(void)
{
	return load_acquire(&is_open);
}

size_t hkm_whale_release(bool pinned_too)
{
	struct hkm_run run;
	size_t nr = 0;

	/* One call for neighbours. */
	hkm_cache_merge();
	while (hkm_cache_pop(UINT64_MAX, 0, pinned_too, SIZE_MAX, &run)) {
		nr += run.nr;
		trim(&run);
	}
	return nr << HKM_SLOT_SHIFT;
}

void hkm_whale_pin(void *ptr, bool on)
{
	uint32_t old = look_up(ptr, "pin");

	take_back(ptr, on ? old | RUN_PINNED : old & ~RUN_PINNED, "pin");
}

void hkm_whale_heap_stats(struct hkm_heap_stats *st)
{
	struct hkm_lane sum;

	hkm_lane_sum(&sum);
	*st = (struct hkm_heap_stats){
		.ring = {
			.hits = sum.hits,
			.misses = sum.misses,
			.puts = sum.puts,
			.evictions = sum.evictions,
			.cached = sum.cached,
			.slots = hkm_cache_capacity(),
		},
		.backend = hkm_supply_backend(),
		.live_bytes = sum.live_slots << HKM_SLOT_SHIFT,
		.idle_bytes = sum.idle << HKM_SLOT_SHIFT,
		.lost = sum.lost,
		.live = sum.live,
	};
	hkm_capacity_stats(st);
}
