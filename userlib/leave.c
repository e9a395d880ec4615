// SPDX-License-Identifier: MIT
/*
 * How idle runs leave: what is too old, what is too much, what there is no place
 * for, and everything when that is asked for.
 *
 * Nothing here runs on its own; it rides on the calls of the program (trimmer.c has
 * the thread that may be asked for). Runs of the device that leave together are
 * dropped by one call with an entry for each, which is a third cheaper than a call
 * for each; anonymous memory has no such call that all kernels and sandboxes allow.
 */
#include "backend.h"
#include "capacity.h"
#include "lane.h"
#include "leave.h"
#include "probes.h"
#include "source.h"

/* Atomic, each for itself. */
uint64_t hkm_leave_next_ms;	/* nothing is looked for before this */
static enum hkm_policy policy;
static uint64_t decay_ms;

/**
 * struct leaving - runs that were taken out of the cache and are to be evicted
 * @be: whose they all are, as there is one source that takes many
 * @nr: of @places
 */
struct leaving {
	struct hkm_backend *be;
	size_t nr;
	struct hkm_place places[32];
};

static void leave_now(struct leaving *l)
{
	if (l->nr)
		l->be->ops->evict_many(l->be, l->places, l->nr);
	l->nr = 0;
}

static void leave(struct leaving *l, const struct hkm_run *run)
{
	struct hkm_backend *be = hkm_source_of(run->first);
	struct hkm_place place = { hkm_slot_address(run->first), run->nr };

	if (run->flags & HKM_RUN_PINNED) {	/* to its source it is not idle */
		be->ops->drop(be, place.run, place.nr_slots);
		return;
	}
	if (!be->ops->evict_many) {
		be->ops->evict(be, place.run, place.nr_slots);
		return;
	}
	if (l->nr == sizeof(l->places) / sizeof(l->places[0]))
		leave_now(l);
	l->be = be;
	l->places[l->nr++] = place;
}

static void evict(struct leaving *l, const struct hkm_run *run)
{
	HKM_PROBE2(evict, hkm_slot_address(run->first),
		   run->nr << HKM_SLOT_SHIFT);
	leave(l, run);
}

static void trim(struct leaving *l, const struct hkm_run *run)
{
	HKM_PROBE2(trim, hkm_slot_address(run->first),
		   run->nr << HKM_SLOT_SHIFT);
	leave(l, run);
}

void hkm_leave_for_others(const struct hkm_run *run)
{
	struct leaving l;

	l.nr = 0;
	evict(&l, run);
	leave_now(&l);
}

void hkm_leave_closed(const struct hkm_run *run)
{
	struct leaving l;

	l.nr = 0;
	trim(&l, run);
	leave_now(&l);
}

/*
 * The kernel sees the age of the device's idle slots itself. Where memory is to be
 * kept, the capacity is all that age is asked for, and no more goes than it has.
 */
cold void hkm_leave_old(uint64_t now_ms)
{
	uint64_t decay = read_once(&decay_ms);
	uint64_t due = read_once(&hkm_leave_next_ms);
	uint64_t kept = read_once(&policy) == HKM_POLICY_KEEP ?
			hkm_capacity_floor() : 0;
	struct leaving l;
	struct hkm_run run;

	if (now_ms < due || now_ms < decay ||
	    !__atomic_compare_exchange_n(&hkm_leave_next_ms, &due,
					 now_ms + decay / 4 + 1, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	l.nr = 0;
	while (hkm_lane_sum_idle() > kept &&
	       hkm_cache_pop(now_ms - decay, hkm_source_border, false, SIZE_MAX,
			     &run)) {
		hkm_capacity_cold(run.nr);
		trim(&l, &run);
	}
	leave_now(&l);
}

cold void hkm_leave_to_limit(void)
{
	uint64_t most = hkm_capacity_now(), idle = hkm_lane_sum_idle();
	struct leaving l;
	struct hkm_run run;

	l.nr = 0;
	while (idle > most &&
	       hkm_cache_pop(UINT64_MAX, 0, false, SIZE_MAX, &run)) {
		idle -= run.nr < idle ? run.nr : idle;
		hkm_lane_add(&hkm_lane()->evictions, 1);
		hkm_capacity_evicted(run.nr);
		evict(&l, &run);
	}
	leave_now(&l);
}

size_t hkm_leave_all(bool pinned_too)
{
	struct leaving l;
	struct hkm_run run;
	size_t nr = 0;

	l.nr = 0;
	/* One entry, or one call, for neighbours. */
	hkm_cache_merge();
	while (hkm_cache_pop(UINT64_MAX, 0, pinned_too, SIZE_MAX, &run)) {
		nr += run.nr;
		trim(&l, &run);
	}
	leave_now(&l);
	return nr;
}

/* Where age does not matter there is nothing due, ever. */
static bool goes_by_age(const struct hkm_config *cfg)
{
	return cfg->policy == HKM_POLICY_DECAY ||
	       (cfg->policy == HKM_POLICY_KEEP &&
		cfg->capacity == HKM_CAPACITY_AUTO);
}

void hkm_leave_open(const struct hkm_config *cfg)
{
	write_once(&policy, cfg->policy);
	write_once(&decay_ms, cfg->decay_ms);
	write_once(&hkm_leave_next_ms, goes_by_age(cfg) ? 0 : UINT64_MAX);
}

uint64_t hkm_leave_decay_ms(void)
{
	return read_once(&policy) == HKM_POLICY_DECAY ? read_once(&decay_ms) :
							UINT64_MAX;
}
