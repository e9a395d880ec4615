// SPDX-License-Identifier: GPL-2.0
/*
 * HAKMEM_WHALE_THRESHOLD=auto: what is measured, what follows from it and when,
 * with a clock and a fault counter that are made up.
 */
#include "threshold_test.h"

/* ---- off ------------------------------------------------------------------------ */

static void off_is_the_default(void)
{
	no_device();
	fake.clock_ns = clock_ns;
	for (int i = 0; i < 200; i++) {
		use(MIB);
		use(4 * MIB);
	}
	check_int(readings, 0);
	check_int(stats().threshold, 2 * MIB);
	check_int(stats().threshold_games, 0);
	check(!stats().threshold_is_rated);
}

static void a_size_fixes_it(void)
{
	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "4M", 1);
	fake.clock_ns = clock_ns;
	use(4 * MIB);
	check_int(stats().threshold, 4 * MIB);
	check(!stats().threshold_is_rated);
	check_int(readings, 0);
}

static void complain(void)
{
	setenv("HAKMEM_WHALE_THRESHOLD", "automatic", 1);
	hkm_free(hkm_malloc(MIB));
	check_int(stats().threshold, 2 * MIB);
}

static void a_bad_value_is_told(void)
{
	char text[512];

	no_device();
	check(exited_well(run_child(complain, text, sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_WHALE_THRESHOLD=automatic is not auto or a number of bytes from 524288 to 1099511627776, with K, M or G or without; using 2097152\n"));
}

static void by_configuration(void)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .threshold = 8 * MIB,
	};

	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "16M", 1);
	check_int(hkm_init(&cfg), 0);
	check_int(stats().threshold, 8 * MIB);
	hkm_shutdown();
	cfg.threshold = HKM_THRESHOLD_AUTO;
	check_int(hkm_init(&cfg), 0);
	check(stats().threshold_is_rated);
	hkm_shutdown();
	cfg.threshold = 0;
	check_int(hkm_init(&cfg), 0);
	check(!stats().threshold_is_rated);
	check_int(stats().threshold_games, 0);
	check_int(stats().threshold, 16 * MIB);
	use(20 * MIB);
}

static void bad_sizes_are_refused(void)
{
	static const size_t bad[] = {
		1, 512 * KIB - 1, ((size_t)1 << 40) + 1, HKM_THRESHOLD_AUTO - 1,
	};

	no_device();
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct hkm_config cfg = { .threshold = bad[i] };

		check_int(hkm_init(&cfg), -EINVAL);
	}
	check(!stats().threshold_is_rated);
}

/* ---- who wins ------------------------------------------------------------------- */

static void blocks_that_are_not_touched(void)
{
	made_up();
	whale_ns = 50;
	libc_ns = 3000;	/* a mapping and its end */
	settle(MIB);
	check_int(stats().threshold, 2 * MIB);
	check_int(stats().threshold_games, HKM_ELO_GAMES);
}

static void blocks_that_fault(void)
{
	made_up();
	libc_faults = 256;
	settle(MIB);
	check_int(stats().threshold, MIB);
	check(hkm_window_has(hkm_malloc(MIB)));
	check(!hkm_window_has(hkm_malloc(MIB - 1)));
	check(hkm_next.free == next_free);	/* as it was before */
}

static void blocks_that_fault_as_whales(void)
{
	made_up();
	whale_faults = 512;
	settle(3 * MIB);
	check_int(stats().threshold, 4 * MIB);
}

/* eight are as good as none */
static void a_few_faults_are_none(void)
{
	made_up();
	libc_faults = HKM_THRESHOLD_LEAST;
	settle(MIB);
	check_int(stats().threshold, 2 * MIB);
}

static void more_are_not(void)
{
	made_up();
	libc_faults = HKM_THRESHOLD_LEAST + 1;
	settle(MIB);
	check_int(stats().threshold, MIB);
}

static void slow_calls(void)
{
	made_up();
	libc_ns = 50000;
	settle(MIB);
	check_int(stats().threshold, MIB);
}

/* The calls for libc's blocks are fast, but for the end of them. */
static void slow_frees_alone(void)
{
	made_up();
	do {
		char *p = hkm_malloc(MIB);

		libc_ns = 50000;
		is_libcs = !hkm_window_has(p);
		hkm_free(p);
		libc_ns = 0;
	} while (stats().threshold_is_rated);
	check_int(stats().threshold, MIB);
}

static void slow_frees_of_whales(void)
{
	made_up();
	do {
		char *p = hkm_malloc(3 * MIB);

		whale_ns = 50000;
		is_libcs = !hkm_window_has(p);
		hkm_free(p);
		whale_ns = 0;
	} while (stats().threshold_is_rated);
	check_int(stats().threshold, 4 * MIB);
}

/* what is more than half of each cost cannot make a difference of a tenth */
static void both_count(void)
{
	made_up();
	libc_faults = 100;
	whale_ns = 25000;	/* twice: at the free, too */
	libc_ns = 0;
	settle(MIB);
	check_int(stats().threshold, MIB);
}

static void and_cancel_out(void)
{
	made_up();
	libc_faults = 100;
	whale_ns = 50000;
	settle(MIB);
	check_int(stats().threshold, 2 * MIB);
}

/* A fault of a fresh slot takes as long as a huge page does, where there may be any. */
static void fresh_slots_are_dear(void)
{
	made_up();
	if (!hkm_machine_learn().huge)
		return;
	setenv("HAKMEM_POLICY", "dontneed", 1);
	whale_faults = 1;
	libc_faults = 100;	/* of 1 us each: a third */
	settle(3 * MIB);
	check_int(stats().threshold, 4 * MIB);
}

static void used_slots_are_not(void)
{
	made_up();
	whale_faults = 1;
	libc_faults = 100;
	settle(MIB);
	check_int(stats().threshold, MIB);
}

/* ---- how long --------------------------------------------------------------------- */

static void settles_after_so_many(void)
{
	made_up();
	check_int(settle(MIB), HKM_THRESHOLD_BOUND);
}

static void is_frozen_then(void)
{
	int n;

	made_up();
	libc_faults = 256;
	settle(MIB);
	n = readings;
	libc_faults = 0;
	whale_faults = 5000;
	for (int i = 0; i < 2 * HKM_THRESHOLD_BOUND; i++)
		use(MIB);
	check_int(readings, n);
	check_int(stats().threshold, MIB);
	check_int(stats().threshold_games, HKM_ELO_GAMES);
}

static void other_sizes_do_not_count(void)
{
	made_up();
	use(MIB);
	for (int i = 0; i < 4 * HKM_THRESHOLD_EPOCH; i++) {
		use(500 * KIB);
		use(32 * MIB);
		use(100);
	}
	check_int(stats().threshold_games, 0);
	check(stats().threshold_is_rated);
}

/* although they, too, pass by where the time is taken */
static void frees_of_other_sizes_do_not_count(void)
{
	made_up();
	do {
		use(MIB);
		libc_ns = hkm_threshold_now() > MIB ? 50000 : 0;
		is_libcs = true;
		hkm_free(hkm_malloc(100));
		libc_ns = 0;
	} while (stats().threshold_is_rated);
	check_int(stats().threshold, 2 * MIB);
}

/* a program without large blocks pays nothing for what it has asked for */
static void begins_with_a_large_block(void)
{
	made_up();
	check_int(hkm_init(NULL), 0);
	check(stats().threshold_is_rated);
	hkm_free(hkm_malloc(100));
	hkm_free(hkm_malloc(40 * MIB));
	check(hkm_next.free == next_free);
	check_int(readings, 0);
	use(MIB);
	check(hkm_next.free != next_free);
}

static void what_is_32_mib_is_a_whale(void)
{
	made_up();
	for (int i = 0; i < HKM_ELO_NR * 2 * HKM_THRESHOLD_EPOCH; i++) {
		void *p = hkm_malloc(32 * MIB);

		check(hkm_window_has(p));
		hkm_free(p);
		use(MIB);
	}
}

/* All calls that allocate; a realloc() with what it calls is one of them. */
static void all_of_the_family(void)
{
	void *p[4];
	int n;

	made_up();
	use(MIB);
	for (n = 1; stats().threshold_is_rated; n += 9) {
		check(n <= HKM_THRESHOLD_BOUND);
		p[0] = hkm_calloc(4, MIB);
		check(all_bytes(p[0], 4096, 0));
		hkm_free(p[0]);
		p[0] = hkm_memalign(4096, MIB);
		p[0] = hkm_realloc(p[0], 5 * MIB);
		memset(p[0], 7, 4096);
		p[0] = hkm_realloc(p[0], 20 * MIB);
		check(all_bytes(p[0], 4096, 7));
		p[0] = hkm_realloc(p[0], 600 * KIB);
		check(all_bytes(p[0], 4096, 7));
		hkm_free(p[0]);
		check_int(hkm_alloc_batch(p, 4, 3 * MIB), 4);
		hkm_free_batch(p, 4);
	}
	check(n > HKM_THRESHOLD_BOUND - 9);
	check_int(stats().live, 0);
}

static const struct tap_case cases[] = {
	CASE(off_is_the_default),
	CASE(a_size_fixes_it),
	CASE(a_bad_value_is_told),
	CASE(by_configuration),
	CASE(bad_sizes_are_refused),
	CASE(blocks_that_are_not_touched),
	CASE(blocks_that_fault),
	CASE(blocks_that_fault_as_whales),
	CASE(a_few_faults_are_none),
	CASE(more_are_not),
	CASE(slow_calls),
	CASE(slow_frees_alone),
	CASE(slow_frees_of_whales),
	CASE(both_count),
	CASE(and_cancel_out),
	CASE(fresh_slots_are_dear),
	CASE(used_slots_are_not),
	CASE(settles_after_so_many),
	CASE(is_frozen_then),
	CASE(other_sizes_do_not_count),
	CASE(frees_of_other_sizes_do_not_count),
	CASE(begins_with_a_large_block),
	CASE(what_is_32_mib_is_a_whale),
	CASE(all_of_the_family),
};

TAP_MAIN(cases)
