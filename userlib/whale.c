// SPDX-License-Identifier: MIT
/*
 * Whales: runs of slots, live at the program (live.h) or idle in the cache.
 *
 * An idle run in the cache is a hint and no more. On the device the kernel may
 * have taken it back, and another thread may hold the same slots by now; so
 * nothing here is changed for a cached run before its source has confirmed it
 * (reuse), and a run that leaves the cache is evicted, not dropped. A cached
 * run that was lost is counted and the next one tried. Anonymous runs are
 * nobody's but the cache's, and need no confirmation.
 *
 * Where no cached run will do, a whale may share a slot with another (pack.c), or
 * neighbours are joined; then a new one is supplied (supply.c).
 *
 * Idle memory is bounded in bytes (capacity.c), and by age where the policy is to
 * let it decay; what is too much leaves by the calls of the program (leave.c).
 *
 * What cannot fail: free. What does not fit the device gets anonymous memory.
 */
#include <errno.h>
#include <string.h>

#include "cache.h"
#include "capacity.h"
#include "checker.h"
#include "lane.h"
#include "leave.h"
#include "live.h"
#include "pack.h"
#include "probes.h"
#include "run.h"
#include "sites.h"
#include "source.h"
#include "supply.h"
#include "sys.h"
#include "trimmer.h"
#include "whale.h"

/* A larger run is not made of idle memory: it may be a sparse one. */
#define IDLE_SLOTS 128

/* Atomic, each for itself. */
static bool is_open;
static enum hkm_policy policy;

/* ---- idle runs ---------------------------------------------------------------- */

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
	hkm_leave_to_limit();
}

static void make_idle(size_t first, size_t nr, unsigned int flags)
{
	struct hkm_run run = { first, nr, flags };
	struct hkm_backend *be = hkm_source_of(first);
	uint64_t now = hkm_cache_now_ms();

	if (likely(!(flags & HKM_RUN_PINNED)) &&
	    be->ops->idle(be, hkm_slot_address(first), nr))
		run.flags |= HKM_RUN_ZERO;
	if (unlikely(!hkm_cache_put(&run, now))) {
		hkm_leave_closed(&run);
		return;
	}
	keep_to_limit(nr);
	hkm_leave_if_due(now);
	hkm_trimmer_notice();
}

/* ---- allocation ---------------------------------------------------------------- */

/* @nr slots more are live than before. @number: all that it is to say but the slots */
static always_inline void *make_live(const struct hkm_run *run, uint32_t number,
				     size_t nr)
{
	struct hkm_lane *lane = hkm_lane();

	if (run->flags & HKM_RUN_PINNED)
		number |= HKM_LIVE_PINNED;
	hkm_lane_add(&lane->live, 1);
	hkm_lane_add(&lane->live_slots, nr);
	return hkm_live_begin(run->first, number | (uint32_t)run->nr);
}

/* @half with the colour of a whale of @size bytes. */
static always_inline uint32_t with_colour(const struct hkm_run *run,
					  uint32_t half, size_t size,
					  unsigned int flags)
{
	if (flags & HKM_WHALE_PLAIN)
		return half;
	return half | hkm_live_choose(run->first, half | (uint32_t)run->nr,
				      size);
}

/* A cached run becomes the caller's, or turns out to be lost. */
static bool confirm(const struct hkm_run *run)
{
	struct hkm_backend *be;

	if (hkm_source_is_anon(run->first))
		return true;
	be = hkm_source_of(run->first);
	if (unlikely(run->flags & HKM_RUN_PINNED) ?
	    be->ops->is_here(be) :
	    likely(!be->ops->reuse(be, hkm_slot_address(run->first), run->nr)))
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
static cold void clear(size_t first, char *whale, size_t size)
{
	struct hkm_backend *be = hkm_source_of(first);
	char *begin = hkm_slot_address(first);

	if (size < read_once(&be->exchange_from) ||
	    be->ops->fresh(be, begin,
			   hkm_slots_for((size_t)(whale - begin) + size)))
		memset(whale, 0, size);
}

/* Of a run that is live. */
static void make_zero(const struct hkm_run *run, void *whale, size_t size,
		      unsigned int flags)
{
	if (likely(!(flags & HKM_WHALE_ZERO)))
		return;
	if (!(run->flags & HKM_RUN_ZERO))
		clear(run->first, whale, size);
	hkm_checker_zeroed(whale, size);
}

/*
 * Half of the last slot is offered to others when it is zero: they must not see it
 * exchanged.
 */
static void *begin(const struct hkm_run *run, size_t size, unsigned int flags)
{
	uint32_t half = hkm_pack_half(size, run->nr);
	uint32_t number = with_colour(run, half, size, flags);
	void *whale = make_live(run, number, run->nr);

	make_zero(run, whale, size, flags);
	if (half)
		hkm_pack_offer(run->first + run->nr - 1);
	return whale;
}

/* One that has half a slot with another. */
static cold void *begin_shared(const struct hkm_run *run, uint32_t half,
			       size_t size, unsigned int flags)
{
	uint32_t number = with_colour(run, half, size, flags);
	void *whale = make_live(run, number, run->nr - 1);

	if (flags & HKM_WHALE_ZERO)
		hkm_checker_zeroed(memset(whale, 0, size), size);
	return whale;
}

static inline bool get_idle(size_t nr, size_t lowest, struct hkm_run *run)
{
	while (hkm_cache_get(nr, lowest, run))
		if (likely(confirm(run)))
			return true;
	return false;
}

static size_t lowest_for(unsigned int flags)
{
	return flags & HKM_WHALE_ANON ? hkm_source_border : 0;
}

static always_inline void *hit(const struct hkm_run *run, size_t size,
			       unsigned int flags)
{
	void *whale;

	hkm_lane_add(&hkm_lane()->hits, 1);
	whale = begin(run, size, flags);
	HKM_PROBE2(hit, whale, size);
	return whale;
}

static void *alloc_cached(size_t nr, size_t size, unsigned int flags)
{
	struct hkm_run run;

	if (!get_idle(nr, lowest_for(flags), &run))
		return NULL;
	return hit(&run, size, flags);
}

static cold void *alloc_cached_of(unsigned int site, size_t nr, size_t size,
				  unsigned int flags)
{
	struct hkm_run run;

	while (hkm_cache_get_of(site, nr, lowest_for(flags), &run))
		if (confirm(&run))
			return hit(&run, size, flags);
	return NULL;
}

static cold void *alloc_beside(size_t nr, size_t size, unsigned int flags)
{
	struct hkm_run run;
	uint32_t half;
	void *whale;

	if (!hkm_pack_half(size, nr))
		return NULL;
	half = hkm_pack_join_idle(nr, lowest_for(flags),
				  flags & HKM_WHALE_ALIGNED, &run);
	if (!half)
		return NULL;
	hkm_lane_add(&hkm_lane()->hits, 1);
	whale = begin_shared(&run, half, size, flags);
	HKM_PROBE2(hit, whale, size);
	return whale;
}

/* Idle memory is as good as new for this. */
static bool may_be_idle(size_t nr, unsigned int flags)
{
	return nr <= IDLE_SLOTS && !(flags & HKM_WHALE_ZERO) &&
	       hkm_whale_is_kept() &&
	       hkm_cache_is_divisible();
}

static void *alloc_new(unsigned int site, size_t nr, size_t size,
		       unsigned int flags)
{
	uint32_t half = hkm_pack_half(size, nr);
	struct hkm_run run;
	void *whale;

	if (half) {
		half = hkm_pack_join_new(nr, lowest_for(flags),
					 flags & HKM_WHALE_ALIGNED, &run);
		if (half)
			return begin_shared(&run, half, size, flags);
	}
	/* Idle memory that would be made use of may be another site's. */
	if (!hkm_supply(nr, flags, !site && may_be_idle(nr, flags), &run))
		return NULL;
	whale = begin(&run, size, flags);
	if (hkm_pack_half(size, run.nr))
		hkm_pack_announce(run.first + run.nr - 1);
	return whale;
}

/* What is for no site may come of any. */
static cold void *alloc_missed(unsigned int site, size_t nr, size_t size,
			       unsigned int flags)
{
	void *whale = site ? NULL : alloc_beside(nr, size, flags);

	if (whale)
		return whale;
	HKM_PROBE1(miss, size);
	hkm_lane_add(&hkm_lane()->misses, 1);
	hkm_leave_if_due(hkm_cache_now_ms());
	if (hkm_cache_merge()) {
		whale = site ? alloc_cached_of(site, nr, size, flags) :
			       alloc_cached(nr, size, flags);
		if (whale)
			return whale;
	}
	hkm_capacity_missed(nr, 1);
	return alloc_new(site, nr, size, flags);
}

void *hkm_whale_alloc(size_t size, unsigned int flags)
{
	size_t nr = hkm_slots_for(size);
	void *whale;

	if (unlikely(nr > HKM_WHALE_SLOTS))
		return NULL;
	whale = alloc_cached(nr, size, flags);
	return likely(whale) ? whale : alloc_missed(0, nr, size, flags);
}

cold void *hkm_whale_alloc_for(unsigned int site, size_t size,
			       unsigned int flags)
{
	size_t nr = hkm_slots_for(size);
	void *whale;

	if (nr > HKM_WHALE_SLOTS)
		return NULL;
	whale = alloc_cached_of(site, nr, size, flags);
	if (!whale)
		whale = alloc_missed(site, nr, size, flags);
	if (whale)
		hkm_site_set(whale, site);
	return whale;
}

/* ---- free --------------------------------------------------------------------- */

/* A whale that is the program's no longer, with the slots that this leaves. */
static always_inline struct hkm_run end(const void *ptr, const char *who)
{
	uint32_t number = hkm_live_change(ptr, HKM_LIVE_FREED, who);
	size_t first = hkm_slot_number(ptr);
	struct hkm_run run = { .first = first, .nr = number & HKM_LIVE_SLOTS };
	struct hkm_lane *lane = hkm_lane();

	hkm_checker_freed((void *)ptr, hkm_live_bytes(number));
	if (unlikely(number & HKM_LIVE_HALF))
		run = hkm_pack_leave(first, number);
	if (number & HKM_LIVE_PINNED)
		run.flags = HKM_RUN_PINNED;
	hkm_lane_add(&lane->live, -1UL);
	hkm_lane_add(&lane->live_slots, -(uint64_t)run.nr);
	return run;
}

void hkm_whale_free(void *ptr, const char *who)
{
	struct hkm_run run = end(ptr, who);

	make_idle(run.first, run.nr, run.flags);
}

cold void hkm_whale_free_sited(void *ptr, const char *who)
{
	unsigned int site = hkm_site_take(ptr);
	struct hkm_run run = end(ptr, who);

	make_idle(run.first, run.nr, run.flags | site << HKM_RUN_SITE_SHIFT);
}

size_t hkm_whale_size(const void *ptr, const char *who)
{
	return hkm_live_bytes(hkm_live_look_up(ptr, who));
}

/* ---- the steps, for other files --------------------------------------------------- */

bool hkm_run_get_idle(size_t nr, struct hkm_run *run)
{
	return get_idle(nr, 0, run);
}

bool hkm_run_may_be_idle(size_t nr)
{
	return may_be_idle(nr, 0);
}

bool hkm_run_confirm(const struct hkm_run *run)
{
	return confirm(run);
}

void hkm_run_put_back(const struct hkm_run *run)
{
	if (!hkm_cache_put(run, hkm_cache_now_ms()))
		hkm_leave_for_others(run);
}

void *hkm_run_make_live(const struct hkm_run *run, uint32_t half, size_t size)
{
	return make_live(run, with_colour(run, half, size, 0),
			 run->nr - (half == HKM_LIVE_HIGH));
}

struct hkm_run hkm_run_take_back(const void *ptr, const char *who)
{
	return end(ptr, who);
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
	hkm_leave_to_limit();
}

void hkm_whale_set_trim(enum hkm_trim how)
{
	hkm_trimmer_set(how, hkm_leave_decay_ms());
}

int hkm_whale_open(const struct hkm_config *cfg)
{
	struct hkm_cache_config cache = {
		.capacity = cfg->slots,
		.order = cfg->order,
		.evict = hkm_leave_for_others,
	};
	int err;

	if (is_open)
		return -EALREADY;
	hkm_checker_find();
	err = hkm_source_open(cfg);
	if (err)
		return err;
	cache.whole = hkm_source_has_guards();
	err = hkm_live_open(!cache.whole && cfg->colour == HKM_SWITCH_ON);
	if (!err)
		err = hkm_sites_open(cfg->sites);
	if (err)
		return err;
	hkm_pack_open(!cache.whole && cfg->pack == HKM_SWITCH_ON);
	write_once(&policy, cfg->policy);
	hkm_capacity_open(cfg->capacity, cfg->limit >> HKM_SLOT_SHIFT);
	hkm_leave_open(cfg);
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

bool hkm_whale_is_kept(void)
{
	return read_once(&policy) < HKM_POLICY_DONTNEED;
}

size_t hkm_whale_release(bool pinned_too)
{
	return hkm_leave_all(pinned_too) << HKM_SLOT_SHIFT;
}

void hkm_whale_pin(void *ptr, bool on)
{
	uint32_t old = hkm_live_look_up(ptr, "pin");

	hkm_live_change(ptr, on ? old | HKM_LIVE_PINNED :
				  old & ~HKM_LIVE_PINNED, "pin");
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
