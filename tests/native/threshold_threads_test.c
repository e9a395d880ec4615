// SPDX-License-Identifier: GPL-2.0
/*
 * HAKMEM_WHALE_THRESHOLD=auto with threads and children, and what is told of it.
 * Where threads rate together the clock is the real one, and nobody asks who wins.
 */
#include <pthread.h>

#include "threshold_test.h"

/* ---- threads, children ------------------------------------------------------------- */

/* how it ends if nothing comes between; then it is begun again */
static struct hkm_heap_stats undisturbed;

static void rate_undisturbed(size_t size)
{
	made_up();
	settle(size);
	undisturbed = stats();
	hkm_threshold_choose(HKM_THRESHOLD_AUTO);
	check(stats().threshold_is_rated);
}

static void check_nothing_came_between(void)
{
	while (stats().threshold_is_rated)
		use(MIB);
	check_int(stats().threshold, undisturbed.threshold);
	check(!memcmp(stats().threshold_ratings, undisturbed.threshold_ratings,
		      sizeof(undisturbed.threshold_ratings)));
}

/* whose faults begin at nothing: the epoch begins again, and no game is lost */
static void a_child_goes_on(void)
{
	char text[512];

	libc_faults = 256;
	rate_undisturbed(MIB);
	check_int(undisturbed.threshold, MIB);
	for (int i = 0; i < HKM_THRESHOLD_EPOCH * 41 - 20; i++)
		use(MIB);
	faults -= 1000000;
	check(exited_well(run_child(check_nothing_came_between, text,
				    sizeof(text))));
	faults += 1000000;
	check_nothing_came_between();
}

static void *epochs(void *arg)
{
	for (int i = 0; i < 4 * HKM_THRESHOLD_EPOCH - 20; i++)
		use(MIB);
	return arg;
}

/* The time of an operation that began in another epoch says nothing about this one. */
static void what_began_in_another_epoch_is_left_out(void)
{
	struct hkm_rated op;
	pthread_t t;

	rate_undisturbed(MIB);
	use(MIB);
	hkm_threshold_begin(&op, MIB);
	check(op.counts);
	check(!pthread_create(&t, NULL, epochs, NULL));
	check(!pthread_join(t, NULL));
	now += 1000000000000;
	hkm_threshold_end(&op, NULL, MIB);
	check_nothing_came_between();
}

/* one that is inside another is not counted */
static void what_is_inside_belongs_to_what_is_around(void)
{
	struct hkm_rated around, op;

	made_up();
	use(MIB);
	hkm_threshold_begin(&around, MIB);
	hkm_threshold_begin(&op, MIB);
	check(around.counts && !op.counts);
	hkm_threshold_end(&op, NULL, MIB);
	hkm_threshold_begin(&op, MIB);
	check(!op.counts);
	hkm_threshold_end(&op, NULL, MIB);
	hkm_threshold_end(&around, NULL, MIB);
	hkm_threshold_begin(&op, MIB);
	check(op.counts);
	hkm_threshold_end(&op, NULL, MIB);
}

static void *until_settled(void *arg)
{
	size_t size = (size_t)arg;
	void *p;

	while (!hkm_threshold_is_fixed()) {
		p = hkm_malloc(size);
		*(volatile char *)p = 1;
		hkm_free(p);
		hkm_free(hkm_malloc(100));
	}
	return NULL;
}

static void in_parallel(void)
{
	pthread_t t[4];

	for (size_t i = 0; i < 4; i++)
		check(!pthread_create(&t[i], NULL, until_settled,
				      (void *)(MIB << i)));
	for (size_t i = 0; i < 4; i++)
		check(!pthread_join(t[i], NULL));
	check(!stats().threshold_is_rated);
	check_int(stats().threshold_games, HKM_ELO_GAMES);
	_exit(0);
}

/* with the real clock: nothing is asked of it but that this ends */
static void threads_rate_together(void)
{
	use_places();
	no_device();
	setenv("HAKMEM_SOURCE", "anon", 1);
	setenv("HAKMEM_WHALE_THRESHOLD", "auto", 1);
	in_parallel();
}

/* Alone: what a sanitizer's threads were doing is not known here. */
static void child_of_threads(void)
{
	until_settled((void *)MIB);
	check_int(stats().threshold_games, HKM_ELO_GAMES);
	_exit(0);
}

static void threads_and_forks(void)
{
	pthread_t t[2];
	char text[512];

	use_places();
	no_device();
	setenv("HAKMEM_SOURCE", "anon", 1);
	setenv("HAKMEM_WHALE_THRESHOLD", "auto", 1);
	for (size_t i = 0; i < 2; i++)
		check(!pthread_create(&t[i], NULL, until_settled,
				      (void *)(MIB << i)));
	for (int i = 0; i < 3; i++)
		check(exited_well(run_child(child_of_threads, text, sizeof(text))));
	for (size_t i = 0; i < 2; i++)
		check(!pthread_join(t[i], NULL));
	check_int(stats().threshold_games, HKM_ELO_GAMES);
}

/* ---- what is told ------------------------------------------------------------------ */

static void is_reported(void)
{
	char text[HKM_REPORT_ROOM];

	made_up();
	use(MIB);
	hkm_report_text(text, sizeof(text));
	check(strstr(text, " bytes, being rated, 0 games\n"));
	hkm_report_json(text, sizeof(text));
	check(strstr(text, "\"threshold_is\": \"being rated\", \"threshold_games\": 0, \"threshold_ratings\": [1500, 1500, 1600, 1500, 1500, 1500, 1500]}"));
	libc_faults = 256;
	while (stats().threshold_is_rated)
		use(MIB);
	hkm_report_text(text, sizeof(text));
	check(strstr(text, "threshold       1048576 bytes, rated, 48 games\nratings       512K "));
	check(text[strlen(text) - 1] == '\n');
	check_int(count_lines(text), 12);
	hkm_report_json(text, sizeof(text));
	check(strstr(text, "\"threshold\": 1048576, \"threshold_is\": \"rated\", \"threshold_games\": 48, "));
	hkm_shutdown();
	hkm_threshold_choose(4 * MIB);
	hkm_report_text(text, sizeof(text));
	check(strstr(text, "threshold       4194304 bytes, fixed, 0 games\n"));
	check(!strstr(text, "ratings"));
}

static void talk(void)
{
	setenv("HAKMEM_VERBOSE", "1", 1);
	libc_faults = 256;
	settle(MIB);
	use(MIB);
}

static void is_told_once(void)
{
	char text[4096];

	made_up();
	check(exited_well(run_child(talk, text, sizeof(text))));
	check(!strcmp(text, "libhakmem: blocks of 1024 KiB and more are whales, after 48 games of thresholds\n"));
}

/* the real clock and faults */
static void settles_in_earnest(void)
{
	struct hkm_heap_stats st;
	int n = 0;

	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "auto", 1);
	for (; n < HKM_THRESHOLD_BOUND; n++) {
		char *p = hkm_malloc(512 * KIB + (size_t)(n % 8) * 64 * KIB);

		for (size_t i = 0; i < 512 * KIB; i += 64 * KIB)
			p[i] = 1;
		hkm_free(p);
	}
	st = stats();
	check(!st.threshold_is_rated);
	check_int(st.threshold_games, HKM_ELO_GAMES);
	check(st.threshold >= 512 * KIB && st.threshold <= 32 * MIB);
	check_int(st.threshold & (st.threshold - 1), 0);
}

static const struct tap_case cases[] = {
	CASE(a_child_goes_on),
	CASE(what_began_in_another_epoch_is_left_out),
	CASE(what_is_inside_belongs_to_what_is_around),
	CASE(threads_rate_together),
	CASE(threads_and_forks),
	CASE(is_reported),
	CASE(is_told_once),
	CASE(settles_in_earnest),
};

TAP_MAIN(cases)
