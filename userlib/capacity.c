// SPDX-License-Identifier: MIT
/*
 * How much memory may be idle, found out.
 *
 * The capacity is too small if what was evicted for it is missed soon afterwards:
 * then it grows by what was missed, so that after one round of a program's working
 * set the next one fits. It is too large if what it holds is not wanted: then it
 * shrinks by what nobody wanted for as long as the decay. The limit bounds it from
 * above, whatever the two say, and a floor from below, so that a program that pauses
 * does not begin with nothing.
 *
 * What was evicted is remembered by size class (four to an octave), as slots, for
 * as many allocations as RECENT says; a miss uses up what it finds there, so one
 * eviction is not the reason to grow twice. Where runs may be split, a larger one
 * would have done as well.
 *
 * A hit does not come here. That it was a cold one, of a run that had been idle for
 * longer than the decay, could only be seen there; what would be hit cold is seen
 * as well when misses and frees look for what is too old, and goes then.
 *
 * Numbers are updated by threads that do not wait for each other. What is lost by
 * that is a part of one step; the bounds hold because they are applied when the
 * capacity is read.
 */
#include "backend.h"
#include "cache.h"
#include "capacity.h"
#include "compiler.h"
#include "lane.h"

#define CLASSES 96		/* of HKM_RUN_BITS bits */
#define RECENT 1024		/* allocations */
#define FLOOR_SHARE 16		/* the floor is one part in so many of the limit */
#define FLOOR_LEAST 16		/* and no less than so many slots */

/**
 * struct ghosts - what was evicted of one size class and not missed yet
 * @slots: of all of it
 * @at: allocations until the last of it was
 */
struct ghosts {
	uint64_t slots;
	uint64_t at;
};

bool hkm_capacity_is_auto;
uint64_t hkm_capacity_limit;

/* Atomic, each for itself. */
static uint64_t room;
static uint64_t grown, shrunk;	/* times */
static struct ghosts ghosts[CLASSES];

static unsigned int class_of(size_t nr)
{
	unsigned int top = 63 - (unsigned int)__builtin_clzl(nr);

	return top < 2 ? (unsigned int)nr : top * 4 + (nr >> (top - 2) & 3);
}

static uint64_t allocations(void)
{
	struct hkm_lane sum;

	hkm_lane_sum(&sum);
	return sum.hits + sum.misses;
}

uint64_t hkm_capacity_floor(void)
{
	uint64_t most = read_once(&hkm_capacity_limit), least = most / FLOOR_SHARE;

	if (least < FLOOR_LEAST)
		least = FLOOR_LEAST;
	return least < most ? least : most;
}

uint64_t hkm_capacity_found_out(void)
{
	uint64_t most = read_once(&hkm_capacity_limit);
	uint64_t now = read_once(&room), least = hkm_capacity_floor();

	if (now > most)
		return most;
	return now > least ? now : least;
}

void hkm_capacity_evicted(size_t nr)
{
	struct ghosts *g = &ghosts[class_of(nr)];
	uint64_t now;

	if (!read_once(&hkm_capacity_is_auto))
		return;
	now = allocations();
	if (now - read_once(&g->at) > RECENT)
		write_once(&g->slots, 0);
	write_once(&g->at, now);
	__atomic_fetch_add(&g->slots, nr, __ATOMIC_RELAXED);
}

/* Take @nr slots of what was evicted lately, or what is left of that. */
static uint64_t use_up(struct ghosts *g, uint64_t nr, uint64_t now)
{
	uint64_t have = read_once(&g->slots);

	if (!have || now - read_once(&g->at) > RECENT)
		return 0;
	write_once(&g->slots, have > nr ? have - nr : 0);
	return have > nr ? nr : have;
}

void hkm_capacity_missed(size_t nr, size_t n)
{
	unsigned int class = class_of(nr), last = CLASSES - 1;
	uint64_t now, before, want = nr * n, more = 0;

	if (!read_once(&hkm_capacity_is_auto))
		return;
	now = allocations();
	if (!hkm_cache_is_divisible())
		last = class;
	for (; class <= last && more < want; class++)
		more += use_up(&ghosts[class], want - more, now);
	before = hkm_capacity_now();
	if (!more || before >= read_once(&hkm_capacity_limit))
		return;
	write_once(&room, before + more);
	__atomic_fetch_add(&grown, 1, __ATOMIC_RELAXED);
}

void hkm_capacity_cold(size_t nr)
{
	uint64_t before;

	if (!read_once(&hkm_capacity_is_auto))
		return;
	before = hkm_capacity_now();
	if (before <= hkm_capacity_floor())
		return;
	write_once(&room, before > nr ? before - nr : 0);
	__atomic_fetch_add(&shrunk, 1, __ATOMIC_RELAXED);
}

void hkm_capacity_set_limit(uint64_t slots)
{
	write_once(&hkm_capacity_limit, slots);
}

void hkm_capacity_open(enum hkm_capacity how, uint64_t slots)
{
	hkm_capacity_set_limit(slots);
	write_once(&room, 0);
	write_once(&hkm_capacity_is_auto, how == HKM_CAPACITY_AUTO);
}

void hkm_capacity_stats(struct hkm_heap_stats *st)
{
	st->capacity_bytes = hkm_capacity_now() << HKM_SLOT_SHIFT;
	st->capacity_grown = read_once(&grown);
	st->capacity_shrunk = read_once(&shrunk);
}
