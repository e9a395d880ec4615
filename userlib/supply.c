// SPDX-License-Identifier: MIT
/*
 * Runs of slots that the cache of idle ones could not give.
 *
 * What a process holds may grow to a little more than it ever had live, and no
 * further: beyond that, memory that has been idle longest makes up for what is
 * new. As little as possible should be new. So it is not a whole run that is
 * made, as long as there is an idle one with closed slots around it: the largest
 * of them is widened by what is missing, and the oldest idle runs lose as much at
 * their ends. In a churn of sizes from 2 to 16 MiB that is two slots at a time
 * instead of five.
 *
 * On the device the kernel does the same for a whole run: HANDOUT with FROM_IDLE.
 */
#include <errno.h>

#include "backend.h"
#include "cache.h"
#include "lane.h"
#include "probes.h"
#include "source.h"
#include "supply.h"
#include "whale.h"

/* Memory beyond what was live at the most, as a part of that. */
#define SLACK 64

/* Atomic, each for itself. */
static uint64_t peak;		/* slots, of live whales when one was missed */
static const char *last_backend = "none";

/*
 * Memory for slots that were committed without any: @from_idle of them in exchange
 * for idle ones, oldest first, the others new.
 */
static int fill(struct hkm_backend *be, size_t first, size_t nr,
		uint64_t *from_idle)
{
	struct hkm_run run;
	int err = 0;

	while (nr && *from_idle && !err) {
		size_t most = nr < *from_idle ? nr : *from_idle;

		if (!hkm_cache_pop(UINT64_MAX, hkm_source_border, false, most,
				   &run))
			break;
		HKM_PROBE2(exchange, hkm_slot_address(run.first),
			   run.nr << HKM_SLOT_SHIFT);
		err = be->ops->fill(be, hkm_slot_address(first),
				    hkm_slot_address(run.first), run.nr);
		first += run.nr;
		nr -= run.nr;
		*from_idle -= run.nr;
	}
	if (nr && !err)
		err = be->ops->fill(be, hkm_slot_address(first), NULL, nr);
	return err;
}

/*
 * How many slots must become those of a run of @nr slots that is being made. New
 * memory is taken up to a little over what was live at the most: with no slack
 * at all, runs would have to be made to measure all the time.
 */
static uint64_t owed(size_t nr)
{
	struct hkm_lane sum;
	uint64_t most, have;

	hkm_lane_sum(&sum);
	most = read_once(&peak);
	if (sum.live_slots + nr > most)
		write_once(&peak, most = sum.live_slots + nr);
	most += most / SLACK;
	have = sum.live_slots + sum.idle + nr;
	if (have <= most)
		return 0;
	return have - most < sum.idle ? have - most : sum.idle;
}

/* The larger the better, if it can be made as large as @arg says. */
static size_t rank(const struct hkm_run *run, size_t best, const void *arg)
{
	struct hkm_backend *be = hkm_source_of(run->first);
	size_t nr = *(const size_t *)arg;

	if (run->nr <= best || run->nr >= nr ||
	    !be->ops->has_room(be, hkm_slot_address(run->first), run->nr, nr))
		return 0;
	return run->nr;
}

/* The largest idle run that has as much room around it as it is too small. */
static int widen(struct hkm_backend *be, size_t nr, struct hkm_run *run)
{
	struct hkm_run old;
	uint64_t from_idle;
	size_t end;
	void *ptr;
	int err;

	if (!hkm_cache_get_best(hkm_source_border, rank, &nr, &old))
		return -ENOENT;
	from_idle = owed(nr);
	err = be->ops->widen(be, hkm_slot_address(old.first), old.nr, nr,
			     from_idle ? HKM_COMMIT_FROM_IDLE : 0, &ptr);
	if (err) {	/* another thread has taken the room */
		be->ops->evict(be, hkm_slot_address(old.first), old.nr);
		return err;
	}
	run->first = hkm_slot_number(ptr);
	run->nr = nr;
	run->flags = 0;
	if (from_idle) {
		end = old.first + old.nr;
		err = fill(be, run->first, old.first - run->first, &from_idle);
		if (!err)
			err = fill(be, end, run->first + nr - end, &from_idle);
	}
	if (err)
		be->ops->drop(be, ptr, nr);
	return err;
}

static int commit(struct hkm_backend *be, size_t nr, bool may_be_idle,
		  struct hkm_run *run)
{
	uint64_t from_idle = may_be_idle ? owed(nr) : 0;
	bool zeroed = false;
	void *ptr;
	int err;

	err = be->ops->commit(be, nr, from_idle ? HKM_COMMIT_FROM_IDLE : 0,
			      &ptr, &zeroed);
	if (err)
		return err;
	run->first = hkm_slot_number(ptr);
	run->nr = nr;
	if (from_idle && be->ops->fill) {
		zeroed = false;
		err = fill(be, run->first, nr, &from_idle);
	}
	run->flags = zeroed ? HKM_RUN_ZERO : 0;
	if (err)
		be->ops->drop(be, ptr, nr);
	return err;
}

int hkm_supply_from(struct hkm_backend *be, size_t nr, bool may_be_idle,
		    struct hkm_run *run)
{
	int err = -ENOENT;

	if (be->ops->widen && may_be_idle)
		err = widen(be, nr, run);
	if (err)
		err = commit(be, nr, may_be_idle, run);
	if (!err)
		write_once(&last_backend, be->ops->name);
	return err;
}

int hkm_supply_many(struct hkm_backend *be, size_t nr, bool may_be_idle,
		    void **runs, unsigned int n)
{
	bool from_idle = may_be_idle && owed(nr * n);
	int got;

	got = be->ops->commit_many(be, nr, from_idle ? HKM_COMMIT_FROM_IDLE : 0,
				   runs, n);
	if (got > 0)
		write_once(&last_backend, be->ops->name);
	return got;
}

bool hkm_supply(size_t nr, unsigned int flags, bool may_be_idle,
		struct hkm_run *run)
{
	struct hkm_backend *be = flags & HKM_WHALE_ANON ? NULL :
							  hkm_source_region();
	int err;

	if (be) {
		err = hkm_supply_from(be, nr, may_be_idle, run);
		if (!err)
			return true;
		hkm_source_failed(err);
	}
	be = hkm_source_anon();
	return be && !hkm_supply_from(be, nr, may_be_idle, run);
}

bool hkm_supply_is_idle_first(size_t nr)
{
	return owed(nr) > 0;
}

bool hkm_supply_behind(size_t slot, size_t nr)
{
	struct hkm_backend *be = hkm_source_of(slot);

	return !be->ops->extend(be, hkm_slot_address(slot), 1, nr);
}

const char *hkm_supply_backend(void)
{
	return read_once(&last_backend);
}
