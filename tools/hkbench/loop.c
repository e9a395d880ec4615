// SPDX-License-Identifier: MIT
/*
 * The loops: json, mir, vm (one size, steady state and cold phase) and sweep.
 *
 * Steady state: every lane is open and warm; turns go round until the time is
 * used up. What lives on the zeroing thread takes part as bursts of 1, 8 and 64
 * operations, as far as the clean pool holds that many, and is then run back to
 * back for ten times the pool's depth: sustained.
 *
 * Cold phase: a new process for each sample of 1, 10 or 100 operations.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hkbench.h"

#define MIN_ROUNDS	3
#define TURN_MAX_NS	3000000000ULL
#define WARM_MAX_NS	100000000ULL
#define SUSTAINED_TIMES	10

static const unsigned int bursts[] = { 1, 8, 64 };

static size_t add_lane(struct hb_lane *lanes, size_t nr,
		       const struct hb_backend *be, enum hb_mode mode,
		       unsigned int burst, size_t size, enum hb_touch touch)
{
	struct hb_lane *l = &lanes[nr];

	memset(l, 0, sizeof(*l));
	l->be = be;
	l->mode = mode;
	l->burst = burst;
	/* 64 operations wait for 64 folios: not in each round */
	l->every = burst > HB_TURN ? 4 : 1;
	l->size = size;
	l->touch = touch;
	return nr + 1;
}

/* the lanes of one table; says why what is left out is left out */
static size_t plan_lanes(struct hb_lane *lanes, const char *scenario,
			 size_t size, enum hb_touch touch)
{
	uint64_t slots = (size + HB_HUGE - 1) / HB_HUGE;
	uint64_t depth = hb_device_present() ? hb_device_depth() : 0;
	size_t nr = 0;

	for (size_t i = 0; i < hb_opt.nr_backends; i++) {
		const struct hb_backend *be = hb_opt.backends[i];
		const char *why = hb_lane_refuse(be, size);

		if (why) {
			hb_add_skip(scenario, be->name, size, "%s", why);
			continue;
		}
		if (!(be->flags & HB_ZEROER)) {
			nr = add_lane(lanes, nr, be, HB_PLAIN, HB_TURN, size,
				      touch);
			continue;
		}
		for (size_t b = 0; b < sizeof(bursts) / sizeof(bursts[0]); b++)
			if (bursts[b] * slots <= depth)
				nr = add_lane(lanes, nr, be, HB_BURST,
					      bursts[b], size, touch);
		if (hb_opt.suite && touch != HB_TOUCH_PAGE)
			continue;
		nr = add_lane(lanes, nr, be, HB_SUSTAINED,
			      (unsigned int)(SUSTAINED_TIMES * depth / slots),
			      size, touch);
		if (lanes[nr - 1].burst < HB_TURN)
			lanes[nr - 1].burst = HB_TURN;
	}
	return nr;
}

static void run_rounds(struct hb_lane *lanes, size_t nr, double seconds,
		       const char *what)
{
	uint64_t start = hb_now_ns();
	double done = 0;

	for (uint64_t round = 0; ; round++) {
		if (hb_opt.iterations && round * HB_TURN >= hb_opt.iterations)
			break;
		if (!hb_opt.iterations && round >= MIN_ROUNDS &&
		    done >= seconds)
			break;
		/* each round starts elsewhere: no lane always follows another */
		for (size_t i = 0; i < nr; i++) {
			struct hb_lane *l = &lanes[(i + round) % nr];

			if (l->mode != HB_SUSTAINED && round % l->every == 0)
				hb_lane_turn(l, l->burst, TURN_MAX_NS,
					     HB_KEEP_TURN);
		}
		done = (double)(hb_now_ns() - start) / 1e9;
		hb_progress(what);
	}
}

void hb_run_loop(const char *scenario, size_t size, enum hb_touch touch,
		 double seconds)
{
	struct hb_lane lanes[HB_LANES_MAX];
	double sustained_s = hb_opt.quick ? 2 : 8;
	unsigned int warm_ops = hb_opt.quick ? 3 : HB_TURN;
	char what[64], size_str[16];
	size_t nr = plan_lanes(lanes, scenario, size, touch);

	hb_size_str(size_str, sizeof(size_str), size);
	snprintf(what, sizeof(what), "%s %s %s", scenario, size_str,
		 hb_touch_str(touch));
	for (size_t i = 0; i < nr; i++) {
		hb_lane_start(&lanes[i]);
		if (lanes[i].mode != HB_SUSTAINED)
			hb_lane_turn(&lanes[i], warm_ops, TURN_MAX_NS,
				     HB_KEEP_NONE);
	}
	run_rounds(lanes, nr, seconds, what);
	for (size_t i = 0; i < nr; i++) {
		struct hb_lane *l = &lanes[i];

		if (l->mode == HB_SUSTAINED)
			hb_lane_turn(l, l->burst, (uint64_t)(sustained_s * 1e9),
				     HB_KEEP_TURN);
		hb_lane_count(l, HB_TURN, false);
	}
	for (size_t i = 0; i < nr; i++) {
		hb_lane_stop(&lanes[i]);
		hb_lane_result(&lanes[i], scenario, HB_STEADY, 0);
		hb_lane_free(&lanes[i]);
	}
	hb_progress(what);
}

/* ---- the cold phase ---- */

/* one fresh process, @n operations */
static void cold_sample(struct hb_lane *l, uint64_t n)
{
	hb_lane_start(l);
	hb_lane_turn(l, n, 0, HB_KEEP_ALL);
	hb_lane_stop(l);
	/* what it held is zeroed now: not at the next lane's cost */
	if (l->be->flags & HB_DEVICE)
		hb_device_wait_clean(10000);
}

/*
 * A pass of its own for the counts, and those of the close beside them, so that
 * what is only put off shows too. Memory is not touched: that makes no call.
 */
static void cold_count(struct hb_lane *l, uint64_t n)
{
	struct hb_lane counter = *l;

	counter.touch = HB_TOUCH_NONE;
	hb_lane_start(&counter);
	hb_lane_count(&counter, n, true);
	hb_lane_stop(&counter);
	l->counted = counter.counted;
	l->calls = counter.calls;
	l->counted_ops = counter.counted_ops;
	l->close_munmaps = counter.close_munmaps;
	if (l->be->flags & HB_DEVICE)
		hb_device_wait_clean(10000);
}

static size_t plan_cold(struct hb_lane *lanes, size_t size, enum hb_touch touch,
			uint64_t n)
{
	uint64_t slots = (size + HB_HUGE - 1) / HB_HUGE;
	uint64_t depth = hb_device_present() ? hb_device_depth() : 0;
	size_t nr = 0;

	for (size_t i = 0; i < hb_opt.nr_backends; i++) {
		const struct hb_backend *be = hb_opt.backends[i];
		enum hb_mode mode = HB_PLAIN;

		if (hb_lane_refuse(be, size))
			continue;
		/* 100 times zeroing for each backend is not quick */
		if (hb_opt.quick && n == 100 && strcmp(be->name, "mmap") &&
		    !(be->flags & (HB_RING | HB_ALWAYS)))
			continue;
		if (be->flags & HB_ZEROER)
			mode = n * slots <= depth ? HB_BURST : HB_SUSTAINED;
		nr = add_lane(lanes, nr, be, mode, (unsigned int)n, size, touch);
	}
	return nr;
}

int hb_run_cold_phase(const char *scenario, size_t size, enum hb_touch touch)
{
	static const struct {
		uint64_t n;
		unsigned int samples, quick_samples;
	} steps[] = { { 1, 11, 3 }, { 10, 4, 1 }, { 100, 1, 1 } };
	struct hb_lane lanes[HB_LANES_MAX];
	char what[64], size_str[16];

	hb_size_str(size_str, sizeof(size_str), size);
	snprintf(what, sizeof(what), "%s %s %s, cold", scenario, size_str,
		 hb_touch_str(touch));
	for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
		unsigned int samples = hb_opt.quick ? steps[s].quick_samples :
						      steps[s].samples;
		size_t nr = plan_cold(lanes, size, touch, steps[s].n);

		for (unsigned int k = 0; k < samples; k++) {
			for (size_t i = 0; i < nr; i++)
				cold_sample(&lanes[i], steps[s].n);
			hb_progress(what);
		}
		for (size_t i = 0; i < nr; i++) {
			struct hb_lane *l = &lanes[i];

			cold_count(l, steps[s].n);
			l->pmd_fraction = NAN;
			hb_lane_result(l, scenario, HB_COLD, steps[s].n);
			hb_lane_free(l);
		}
	}
	return 0;
}

/* ---- sweep ---- */

/*
 * All written, what differs is a few percent, if that: the suite leaves its time to
 * those that keep what they had.
 */
static bool is_swept(const struct hb_backend *be, enum hb_touch touch)
{
	return !hb_opt.suite || touch == HB_TOUCH_PAGE ||
	       be->flags & (HB_ALWAYS | HB_WORDS);
}

/*
 * At 1 GiB not all lanes can keep their block at once, so here a lane lives for
 * one turn: opened and warmed up outside the timed part, then closed. A turn
 * ends early when it takes too long; the first operation of it always counts.
 */
static void sweep_size(size_t size, enum hb_touch touch, double seconds)
{
	struct hb_lane lanes[HB_LANES_MAX];
	uint64_t slots = size / HB_HUGE, start = hb_now_ns(), budget;
	uint64_t depth = hb_device_present() ? hb_device_depth() : 0;
	unsigned int rounds = 0;
	char what[48], size_str[16];
	size_t nr = 0;

	hb_size_str(size_str, sizeof(size_str), size);
	snprintf(what, sizeof(what), "sweep %s %s", size_str,
		 hb_touch_str(touch));
	for (size_t i = 0; i < hb_opt.nr_backends; i++) {
		const struct hb_backend *be = hb_opt.backends[i];
		const char *why = hb_lane_refuse(be, size);
		enum hb_mode mode = HB_PLAIN;
		unsigned int n = HB_TURN;

		if (!is_swept(be, touch))
			continue;
		if (why) {
			hb_add_skip("sweep", be->name, size, "%s", why);
			continue;
		}
		if (be->flags & HB_ZEROER) {
			mode = depth >= 2 * slots ? HB_BURST : HB_SUSTAINED;
			if (mode == HB_BURST && n * slots > depth)
				n = (unsigned int)(depth / slots);
		}
		nr = add_lane(lanes, nr, be, mode, n, size, touch);
	}
	budget = (uint64_t)(seconds * 1e9 / (double)(nr ? nr : 1) / 3);
	do {
		for (size_t i = 0; i < nr; i++) {
			struct hb_lane *l = &lanes[i];

			hb_lane_start(l);
			hb_lane_turn(l, 2, WARM_MAX_NS, HB_KEEP_NONE);
			hb_lane_turn(l, l->burst, budget, HB_KEEP_TURN);
			if (!rounds)
				hb_lane_count(l, 2, false);
			hb_lane_stop(l);
			if (l->be->flags & HB_DEVICE)
				hb_device_wait_clean(10000);
		}
		hb_progress(what);
	} while (++rounds < 4 &&
		 (double)(hb_now_ns() - start) / 1e9 < seconds / 2);
	for (size_t i = 0; i < nr; i++) {
		hb_lane_result(&lanes[i], "sweep", HB_STEADY, 0);
		hb_lane_free(&lanes[i]);
	}
	hb_hugetlb_restore();
}

/*
 * From 2 MiB up by factors, for as long as memory and time last; to 1 GiB, or to
 * 64 MiB where all is written. A size takes at least as many times longer than the
 * one before as it is bigger.
 */
int hb_run_sweep(enum hb_touch touch, double seconds)
{
	bool full = touch == HB_TOUCH_FULL;
	size_t factor = hb_opt.suite && !full ? 4 : 2;
	size_t from = hb_opt.size ? hb_opt.size : HB_HUGE;
	size_t to = hb_opt.size ? hb_opt.size : full ? 64UL << 20 : 1UL << 30;
	double left = seconds, last = 0;

	for (size_t size = from; size <= to; size *= factor) {
		uint64_t start = hb_now_ns();
		const char *why = NULL;

		if (size + size / 4 + (128UL << 20) > hb_mem_available())
			why = "more than the memory that is available";
		else if (last * (double)factor > left)
			why = "more than the time that is left";
		if (why) {
			hb_add_skip("sweep", "all", size, "%s", why);
			continue;
		}
		sweep_size(size, touch, left / 6);
		last = (double)(hb_now_ns() - start) / 1e9;
		left -= last;
		/* small sizes may have filled their time: not a measure */
		if (size * 4 <= (32UL << 20))
			last /= 8;
	}
	return 0;
}
