// SPDX-License-Identifier: GPL-2.0
/*
 * Timing: what is counted, by which thread, and how it is told. Built a second
 * time with HAKMEM_DEBUG_TIMING=0, where nothing may be left of it.
 */
#include <limits.h>
#include <pthread.h>

#include <hakmem.h>

#include "fakedev.h"
#include "tap.h"

#define S2 HKM_WHALE_MIN

static const char *self;	/* this program, for what happens at load */

static void ignore(void *ptr, size_t size, void *arg)
{
	(void)ptr;
	(void)size;
	(void)arg;
}

static void one_of_each(void)
{
	char *p = hkm_sys_mmap(NULL, S2, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(!HKM_SYS_FAILED(p));
	check_int(hkm_sys_madvise_dontneed(p, S2), 0);
	check_int(hkm_sys_madvise_free(p, S2), 0);
	hkm_sys_madvise_hugepage(p, S2);
	hkm_sys_madvise_willneed(p, S2);
	check_int(hkm_sys_munmap(p, S2), 0);
	check_int(hkm_sys_region_handout(-1, NULL), -EBADF);
	check_int(hkm_sys_region_recycle(-1, NULL), -EBADF);
	check_int(hkm_whale_put((void *)S2, S2), 0);
	check(hkm_whale_get(S2) == (void *)S2);
}

static void set_up_ring(void)
{
	struct hkm_whale_config cfg = { .slots = 4, .release = ignore };

	check_int(hkm_whale_init(&cfg), 0);
}

static void wrappers_return_errors_and_keep_errno(void)
{
	void *p;

	errno = 4321;
	p = hkm_sys_mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(HKM_SYS_FAILED(p));
	check_int(HKM_SYS_ERRNO(p), EINVAL);
	check_int(hkm_sys_munmap((void *)1, 4096), -EINVAL);
	check_int(hkm_sys_madvise_dontneed((void *)4096, 4096), -ENOMEM);
	check_int(hkm_sys_region_info(-1, NULL), -EBADF);
	check_int(hkm_sys_region_setup(-1, NULL), -EBADF);
	check_int(hkm_sys_region_trim(-1, NULL), -EBADF);
	check_int(hkm_sys_region_stats(-1, NULL), -EBADF);
	check_int(errno, 4321);
}

static void names_are_known(void)
{
	check(!strcmp(hkm_strtiming(HKM_T_MMAP), "mmap"));
	check(!strcmp(hkm_strtiming(HKM_T_WHALE_PUT), "whale_put"));
	check(!hkm_strtiming(HKM_T_NR));
	check(!hkm_strtiming((enum hkm_timed)-1));
}

static void nothing_is_counted_while_off(void)
{
	struct hkm_timing sum;

	set_up_ring();
	one_of_each();
	hkm_timing_read(&sum);
	for (int i = 0; i < HKM_T_NR; i++) {
		check_int(sum.calls[i], 0);
		check_int(sum.cycles[i], 0);
	}
}

static void run_self(void)
{
	execl(self, self, "--one-of-each", NULL);
}

#ifndef WITHOUT_TIMING

static const uint64_t each[HKM_T_NR] = {
	[HKM_T_MMAP] = 1, [HKM_T_MUNMAP] = 1, [HKM_T_MADVISE] = 4,
	[HKM_T_HANDOUT] = 1, [HKM_T_RECYCLE] = 1, [HKM_T_WHALE_GET] = 1,
	[HKM_T_WHALE_PUT] = 1,
};

static void check_counts(uint64_t times)
{
	struct hkm_timing sum;

	hkm_timing_read(&sum);
	for (int i = 0; i < HKM_T_NR; i++) {
		check_int(sum.calls[i], each[i] * times);
		check(sum.cycles[i] >= sum.calls[i]);
		/* a wrapped subtraction would be huge */
		check(sum.cycles[i] < (uint64_t)1 << 50);
	}
}

static void every_call_is_counted_once(void)
{
	set_up_ring();
	check_int(hkm_timing_enable(1), 0);
	for (int i = 0; i < 10; i++)
		one_of_each();
	check_counts(10);
	check_int(hkm_timing_enable(0), 0);
	one_of_each();
	check_counts(10);
	check_int(hkm_timing_enable(1), 0);
	one_of_each();
	check_counts(11);
}

static void reset_begins_again(void)
{
	struct hkm_timing sum;

	set_up_ring();
	hkm_timing_enable(1);
	one_of_each();
	hkm_timing_reset();
	hkm_timing_read(&sum);
	for (int i = 0; i < HKM_T_NR; i++)
		check_int(sum.calls[i] + sum.cycles[i], 0);
	one_of_each();
	one_of_each();
	check_counts(2);
}

static pthread_barrier_t barrier;

static void *count_in_thread(void *arg)
{
	for (int i = 0; i < 5; i++)
		one_of_each();
	if (arg) {
		pthread_barrier_wait(&barrier);	/* counted by the reader */
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void dead_and_living_threads_are_counted(void)
{
	pthread_t threads[8];

	set_up_ring();
	hkm_timing_enable(1);
	pthread_barrier_init(&barrier, NULL, 5);
	for (int i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, count_in_thread, NULL);
		pthread_join(threads[i], NULL);
	}
	check_counts(20);
	for (int i = 4; i < 8; i++)
		pthread_create(&threads[i], NULL, count_in_thread, &barrier);
	pthread_barrier_wait(&barrier);
	check_counts(40);
	pthread_barrier_wait(&barrier);
	for (int i = 4; i < 8; i++)
		pthread_join(threads[i], NULL);
	check_counts(40);
}

static void *keep_counting(void *arg)
{
	while (!__atomic_load_n((int *)arg, __ATOMIC_RELAXED))
		hkm_whale_get(S2);
	return NULL;
}

static void counts_only_grow_while_threads_count(void)
{
	struct hkm_timing sum;
	uint64_t last = 0;
	pthread_t threads[3];
	int stop = 0;

	set_up_ring();
	hkm_timing_enable(1);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, keep_counting, &stop);
	for (int i = 0; i < 20000; i++) {
		hkm_timing_read(&sum);
		check(sum.calls[HKM_T_WHALE_GET] >= last);
		last = sum.calls[HKM_T_WHALE_GET];
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* a destructor that runs again after the library's own still counts */
static pthread_key_t late_key;

static void count_late(void *arg)
{
	uintptr_t round = (uintptr_t)arg;

	one_of_each();
	if (round < 3)
		pthread_setspecific(late_key, (void *)(round + 1));
}

static void *die_counting(void *arg)
{
	(void)arg;
	one_of_each();
	pthread_setspecific(late_key, (void *)1);
	return NULL;
}

static void calls_of_late_destructors_are_counted(void)
{
	pthread_t thread;

	set_up_ring();
	hkm_timing_enable(1);
	pthread_key_create(&late_key, count_late);
	for (int i = 0; i < 5; i++) {
		pthread_create(&thread, NULL, die_counting, NULL);
		pthread_join(thread, NULL);
	}
	check_counts(20);
}

/* to the last time that libc calls a destructor */
static void count_last(void *arg)
{
	one_of_each();
	pthread_setspecific(late_key, arg);
}

/* there are as many blocks as threads at a time, also where destructors count late */
static void blocks_go_to_the_next_thread(void)
{
	pthread_t thread;
	int tables;

	set_up_ring();
	hkm_timing_enable(1);
	one_of_each();
	tables = fake.tables;
	pthread_key_create(&late_key, count_last);
	for (int i = 0; i < 50; i++) {
		pthread_create(&thread, NULL, i % 2 ? die_counting :
						      count_in_thread, NULL);
		pthread_join(thread, NULL);
	}
	check_int(fake.tables, tables + 1);
	check_counts(1 + 25 * (1 + PTHREAD_DESTRUCTOR_ITERATIONS) + 25 * 5);
}

static void threads_without_memory_share_a_block(void)
{
	pthread_t threads[4];

	set_up_ring();
	hkm_timing_enable(1);
	fake.refuse_tables = 1;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, count_in_thread, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	check_counts(20);
}

static void count_in_child(void)
{
	check_counts(0);
	one_of_each();
	check_counts(1);
}

static void forked_child_starts_from_zero(void)
{
	pthread_t thread;
	char text[4096];

	set_up_ring();
	hkm_timing_enable(1);
	one_of_each();
	pthread_create(&thread, NULL, count_in_thread, NULL);
	pthread_join(thread, NULL);
	check(exited_well(run_child(count_in_child, text, sizeof(text))));
	check_counts(6);
}

/* ---- the table --------------------------------------------------------------- */

static void check_table(char *text, uint64_t times)
{
	unsigned long long calls, cycles, average, all = 0;
	double share, shares = 0;
	char name[32], *save, *line = strtok_r(text, "\n", &save);
	size_t width;

	check(line && strstr(line, "libhakmem timing of process "));
	line = strtok_r(NULL, "\n", &save);
	check_int(sscanf(line, "%31s", name), 1);
	check(!strcmp(name, "call") && strstr(line, "cycles/call"));
	width = strlen(line);
	for (int i = 0; i <= HKM_T_NR; i++) {
		line = strtok_r(NULL, "\n", &save);
		check(line);
		check_int(strlen(line), width);
		check_int(sscanf(line, "%31s %llu %llu %llu %lf%%", name, &calls,
				 &cycles, &average, &share), 5);
		check_int(average, calls ? cycles / calls : 0);
		if (i == HKM_T_NR)
			break;
		check(!strcmp(name, hkm_strtiming((enum hkm_timed)i)));
		check_int(calls, each[i] * times);
		all += cycles;
		shares += share;
	}
	check(!strcmp(name, "total"));
	check_int(cycles, all);
	check(shares > 99.5 && shares < 100.5);
	check(!strtok_r(NULL, "\n", &save));
}

static void dump_is_a_table(void)
{
	static char text[8192];
	FILE *out = fmemopen(text, sizeof(text), "w");

	set_up_ring();
	hkm_timing_enable(1);
	one_of_each();
	hkm_timing_dump(out);
	fclose(out);
	check_table(text, 1);
}

static void environment_dumps_at_exit(void)
{
	static char text[8192];

	unsetenv("HAKMEM_TIMING");
	check(exited_well(run_child(run_self, text, sizeof(text))));
	check(!*text);
	setenv("HAKMEM_TIMING", "0", 1);
	check(exited_well(run_child(run_self, text, sizeof(text))));
	check(!*text);
	setenv("HAKMEM_TIMING", "on", 1);
	check(exited_well(run_child(run_self, text, sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_TIMING=on is not one of 0, 1; using 0\n"));
	setenv("HAKMEM_TIMING", "1", 1);
	check(exited_well(run_child(run_self, text, sizeof(text))));
	check_table(text, 1);
}

#else /* WITHOUT_TIMING */

static void nothing_is_left_of_it(void)
{
	struct hkm_timing sum = { .calls = { 1 } };
	char text[256] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	check_int(hkm_timing_enable(1), -EOPNOTSUPP);
	check_int(hkm_timing_enable(0), -EOPNOTSUPP);
	set_up_ring();
	one_of_each();
	hkm_timing_read(&sum);
	for (int i = 0; i < HKM_T_NR; i++)
		check_int(sum.calls[i] + sum.cycles[i], 0);
	hkm_timing_reset();
	hkm_timing_dump(out);
	fclose(out);
	check(strstr(text, "not compiled in"));
}

static void environment_is_told_that_it_has_no_effect(void)
{
	char text[4096];

	setenv("HAKMEM_TIMING", "1", 1);
	check(exited_well(run_child(run_self, text, sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_TIMING=1 has no effect: this library was built with HAKMEM_DEBUG_TIMING=0\n"));
}

#endif

static const struct tap_case cases[] = {
	CASE(wrappers_return_errors_and_keep_errno),
	CASE(names_are_known),
	CASE(nothing_is_counted_while_off),
#ifndef WITHOUT_TIMING
	CASE(every_call_is_counted_once),
	CASE(reset_begins_again),
	CASE(dead_and_living_threads_are_counted),
	CASE(counts_only_grow_while_threads_count),
	CASE(calls_of_late_destructors_are_counted),
	CASE(blocks_go_to_the_next_thread),
	CASE(threads_without_memory_share_a_block),
	CASE(forked_child_starts_from_zero),
	CASE(dump_is_a_table),
	CASE(environment_dumps_at_exit),
#else
	CASE(nothing_is_left_of_it),
	CASE(environment_is_told_that_it_has_no_effect),
#endif
};

int main(int argc, char **argv)
{
	self = argv[0];
	if (argc > 1 && !strcmp(argv[1], "--one-of-each")) {
		set_up_ring();
		hkm_timing_reset();	/* the ring's own table is mapped, too */
		one_of_each();
		return 0;
	}
	return tap_main(cases, sizeof(cases) / sizeof(*cases), argc, argv);
}
