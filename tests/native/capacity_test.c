// SPDX-License-Identifier: GPL-2.0
/*
 * HAKMEM_CAPACITY=auto: when the capacity grows, when it shrinks, and that it
 * stays between its bounds.
 */
#include <time.h>

#include "heap_test.h"
#include "report.h"

/* The floor of a limit of 256 slots is a 16th of it. */
#define LIMIT ((size_t)256)
#define FLOOR ((size_t)16)
#define NR 40

static char *p[NR];

static void is_auto(enum hkm_policy policy)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = policy,
		.limit = LIMIT * SLOT, .capacity = HKM_CAPACITY_AUTO,
	};

	no_device();
	check_int(hkm_init(&cfg), 0);
	check_int(stats().capacity_bytes, FLOOR * SLOT);
}

static void get_all(size_t slots)
{
	for (int i = 0; i < NR; i++) {
		p[i] = hkm_malloc(slots * SLOT);
		check(is_whale(p[i]));
	}
}

static void put_all(void)
{
	for (int i = 0; i < NR; i++)
		hkm_free(p[i]);
}

static void fixed_is_the_default(void)
{
	no_device();
	setenv("HAKMEM_LIMIT", "512M", 1);
	get_all(1);
	put_all();
	check_int(stats().capacity_bytes, LIMIT * SLOT);
	check_int(stats().idle_bytes, NR * SLOT);
	get_all(1);
	check_int(stats().capacity_grown, 0);
}

/* a round of it evicts, the next one misses that, and then it fits */
static void grows_by_what_was_evicted_and_missed(void)
{
	uint64_t misses;

	no_device();
	setenv("HAKMEM_LIMIT", "512M", 1);
	setenv("HAKMEM_CAPACITY", "auto", 1);
	get_all(1);
	check_int(stats().capacity_bytes, FLOOR * SLOT);
	put_all();
	check_int(stats().idle_bytes, FLOOR * SLOT);
	check_int(stats().ring.evictions, NR - FLOOR);
	check_int(stats().capacity_grown, 0);
	get_all(1);
	check_int(stats().capacity_bytes, NR * SLOT);
	check_int(stats().capacity_grown, NR - FLOOR);
	put_all();
	check_int(stats().idle_bytes, NR * SLOT);
	misses = stats().ring.misses;
	get_all(1);
	check_int(stats().ring.misses, misses);
	check_int(stats().ring.evictions, NR - FLOOR);
}

static void does_not_grow_for_misses_alone(void)
{
	is_auto(HKM_POLICY_KEEP);
	get_all(1);
	get_all(2);
	check_int(stats().capacity_grown, 0);
	check_int(stats().capacity_bytes, FLOOR * SLOT);
}

/* one eviction is the reason to grow once */
static void an_eviction_counts_once(void)
{
	is_auto(HKM_POLICY_KEEP);
	get_all(1);
	for (size_t i = 0; i <= FLOOR; i++)
		hkm_free(p[i]);
	check_int(stats().ring.evictions, 1);
	get_all(1);
	check_int(stats().capacity_grown, 1);
	check_int(stats().capacity_bytes, (FLOOR + 1) * SLOT);
}

static void old_evictions_do_not_count(void)
{
	is_auto(HKM_POLICY_KEEP);
	get_all(1);
	put_all();
	check_int(stats().ring.evictions, NR - FLOOR);
	for (int i = 0; i < 2000; i++)
		hkm_free(hkm_malloc(SLOT));
	get_all(1);
	check_int(stats().capacity_grown, 0);
}

/* what was evicted could not have been this */
static void smaller_evictions_do_not_count(void)
{
	is_auto(HKM_POLICY_KEEP);
	get_all(1);
	put_all();
	for (int i = 0; i < 8; i++)
		check(is_whale(hkm_malloc(30 * SLOT)));
	check_int(stats().capacity_grown, 0);
}

/* but a part of this */
static void larger_evictions_count(void)
{
	is_auto(HKM_POLICY_KEEP);
	hkm_free(hkm_malloc(30 * SLOT));
	check_int(stats().ring.evictions, 1);
	check(is_whale(hkm_malloc(8 * SLOT)));
	check_int(stats().capacity_bytes, (FLOOR + 8) * SLOT);
}

static void where_runs_are_whole_they_do_not(void)
{
	setenv("HAKMEM_GUARD", "1", 1);
	is_auto(HKM_POLICY_KEEP);
	hkm_free(hkm_malloc(30 * SLOT));
	check_int(stats().ring.evictions, 1);
	check(is_whale(hkm_malloc(8 * SLOT)));
	check_int(stats().capacity_grown, 0);
}

/* a batch misses as many runs, not one that is as long as all */
static void what_a_batch_misses_counts(void)
{
	is_auto(HKM_POLICY_KEEP);
	get_all(1);
	put_all();
	check_int(hkm_alloc_batch((void **)p, NR, SLOT), NR);
	check_int(stats().capacity_bytes, NR * SLOT);
	check_int(stats().capacity_grown, 1);
}

/* a block that grows misses the slots behind it */
static void what_realloc_misses_counts(void)
{
	char *q;

	is_auto(HKM_POLICY_KEEP);
	for (int i = 0; i < 2; i++) {
		q = hkm_malloc(SLOT);
		for (size_t slots = 2; slots <= 2 * FLOOR; slots *= 2)
			q = hkm_realloc(q, slots * SLOT);
		hkm_free(q);
		check_int(stats().ring.evictions, 1);
	}
	check_int(stats().idle_bytes, 2 * FLOOR * SLOT);
	check_int(stats().capacity_bytes, 3 * FLOOR * SLOT);
}

static void stays_below_the_limit(void)
{
	is_auto(HKM_POLICY_KEEP);
	for (int i = 0; i < 4; i++) {
		get_all(10);
		check(stats().capacity_bytes <= LIMIT * SLOT);
		put_all();
		check(stats().idle_bytes <= LIMIT * SLOT);
	}
	check_int(stats().capacity_bytes, LIMIT * SLOT);
	hkm_set_limit(20 * SLOT);
	check_int(stats().capacity_bytes, 20 * SLOT);
	check(stats().idle_bytes <= 20 * SLOT);
	/* below the floor, too */
	hkm_set_limit(2 * SLOT);
	check_int(stats().capacity_bytes, 2 * SLOT);
	check(stats().idle_bytes <= 2 * SLOT);
}

/* nobody wants it for longer than the decay; a longer sleep does no harm */
static void shrinks(enum hkm_policy policy, uint64_t idle)
{
	setenv("HAKMEM_DECAY_MS", "50", 1);
	is_auto(policy);
	/* a slow machine may take longer for it than the decay is */
	for (int i = 0; i < 100 && stats().capacity_bytes < NR * SLOT; i++) {
		get_all(1);
		put_all();
	}
	check_int(stats().capacity_bytes, NR * SLOT);
	for (int i = 0; i < 200 && stats().idle_bytes > idle; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
		hkm_free(hkm_malloc(SLOT));
	}
	check(stats().idle_bytes <= idle);
	check(stats().capacity_bytes < NR * SLOT);
	check(stats().capacity_bytes >= FLOOR * SLOT);
	check(stats().capacity_shrunk > 0);
}

static void shrinks_when_idle_memory_is_not_wanted(void)
{
	shrinks(HKM_POLICY_DECAY, SLOT);
}

/* the policy keeps what the floor allows */
static void kept_memory_shrinks_to_the_floor(void)
{
	shrinks(HKM_POLICY_KEEP, FLOOR * SLOT);
	check_int(stats().idle_bytes, FLOOR * SLOT);
}

static void is_reported(void)
{
	char text[HKM_REPORT_ROOM];

	is_auto(HKM_POLICY_KEEP);
	get_all(1);
	put_all();
	get_all(1);
	hkm_report_text(text, sizeof(text));
	check(strstr(text, "capacity       83886080 bytes, grown 24 times, shrunk 0\n"));
	hkm_report_json(text, sizeof(text));
	check(strstr(text, "\"capacity_bytes\": 83886080, \"capacity_grown\": 24, \"capacity_shrunk\": 0"));
}

static void bad_values_are_refused(void)
{
	struct hkm_config cfg = { .capacity = (enum hkm_capacity)2 };

	check_int(hkm_init(&cfg), -EINVAL);
}

static const struct tap_case cases[] = {
	CASE(fixed_is_the_default),
	CASE(grows_by_what_was_evicted_and_missed),
	CASE(does_not_grow_for_misses_alone),
	CASE(an_eviction_counts_once),
	CASE(old_evictions_do_not_count),
	CASE(smaller_evictions_do_not_count),
	CASE(larger_evictions_count),
	CASE(where_runs_are_whole_they_do_not),
	CASE(what_a_batch_misses_counts),
	CASE(what_realloc_misses_counts),
	CASE(stays_below_the_limit),
	CASE(shrinks_when_idle_memory_is_not_wanted),
	CASE(kept_memory_shrinks_to_the_floor),
	CASE(is_reported),
	CASE(bad_values_are_refused),
};

TAP_MAIN(cases)
