// SPDX-License-Identifier: GPL-2.0
/*
 * One call of reclaim: what it looks at, what it may take, and that nobody can
 * keep it from what others have idle. By the debugfs trigger, and by the core
 * itself, which "drop_caches" asks to run every shrinker.
 */
#include "reclaim.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include "harness.h"

#define NR		16
#define NR_SLOTS	512
#define CALLS		2000	/* far more than any test needs */

static volatile bool stop;

FIXTURE(scan)
{
	struct arena a;
};

FIXTURE_SETUP(scan)
{
	stop = false;
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	/* what is shared with a child is not there to be taken */
	ASSERT_EQ(0, keep_from_children(&self->a));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	drain_pool(1);
}

FIXTURE_TEARDOWN(scan)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

static int count_state(struct arena *a, int first, int nr, int state)
{
	int i, n = 0;

	for (i = 0; i < nr; i++)
		n += word_state(a, first + i) == state;
	return n;
}

TEST_F(scan, frees_no_more_than_was_asked_and_looks_at_twice_as_many)
{
	struct arena *a = &self->a;
	unsigned long want, total = 0;
	struct shrunk s;
	int i;

	/* spare folios, idle slots, some of them known, and busy ones */
	ASSERT_EQ(0, handout_at(a, NR, 64, COMMIT));
	for (i = NR; i < NR + 40; i += 2)
		mark_idle_at(a, i, a->header->epoch - i);
	ASSERT_TRUE(sampled(20));
	for (i = NR + 1; i < NR + 40; i += 2)
		mark_idle(a, i);
	ASSERT_EQ(0, recycle(a, DROP, NR + 40, 24));
	/* what is just being zeroed cannot be had */
	ASSERT_TRUE(all_in_place());
	for (want = 1; want < 12; want++) {
		ASSERT_EQ(0, shrink(want, &s));
		EXPECT_LE(s.freed, want);
		EXPECT_LE(s.looked, 2 * want);
		total += s.freed;
	}
	/* 24 spare and 20 idle were known: as many were asked for, and more */
	EXPECT_LE(44, total);
	/* asked for more than there is: each is looked at, and that is all */
	ASSERT_EQ(0, shrink(LONG_MAX / 8, &s));
	EXPECT_EQ(64 - total, s.freed);
	EXPECT_EQ(NR, stats_of(a).resident);
	EXPECT_EQ(NR, count_state(a, 0, NR, HKR_WORD_BUSY));
}

/* faults on a slot and calls on it, both of which take its locks */
static void *keeps_locks_busy(void *arg)
{
	struct arena *a = arg;
	uint64_t i;

	while (!stop) {
		for (i = 0; i < 4; i++) {
			madvise(slot_of(a, i), SLOT, MADV_DONTNEED);
			touch(slot_of(a, i) + PAGE, true);
			recycle(a, IDLE, i, 1);
		}
	}
	return NULL;
}

TEST_F(scan, slot_whose_locks_are_busy_is_tried_again)
{
	struct arena *a = &self->a;
	pthread_t thread[2];
	struct shrunk s;
	int i;

	for (i = 0; i < 4; i++)
		mark_idle(a, i);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, keeps_locks_busy,
					    a));
	for (i = 0; i < CALLS && count_state(a, 0, 4, HKR_WORD_EMPTY) < 4; i++)
		ASSERT_EQ(0, shrink(1, &s));
	stop = true;
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(4, count_state(a, 0, 4, HKR_WORD_EMPTY));
	EXPECT_EQ(4, stats_of(a).reclaimed);
	EXPECT_EQ(NR - 4, count_state(a, 4, NR - 4, HKR_WORD_BUSY));
}

#define NR_FLIP		100

/*
 * Idle, and by its stamps the oldest there is, whenever the tick looks; busy
 * from then on until shortly before it looks again. What it loses it replaces.
 */
static int flipper(int ready)
{
	struct arena a;
	uint32_t epoch;
	int i;

	if (arena_open(&a, NR_FLIP) || handout(&a, NR_FLIP, COMMIT))
		return 1;
	if (write(ready, "", 1) != 1)
		return 2;
	while (getppid() != 1) {
		epoch = a.header->epoch;
		for (i = 0; i < NR_FLIP; i++)
			mark_idle_at(&a, i, epoch + 1000);
		while (a.header->epoch == epoch)
			usleep(1000);
		for (i = 0; i < NR_FLIP; i++)
			if (!take_again(&a, i, word_of(&a, i)))
				handout_at(&a, i, 1, COMMIT);
		usleep(a.header->epoch_ms * 700);
		usleep(50000);
	}
	return 0;
}

/* two of them */
static bool start_flippers(pid_t *pid)
{
	int ready[2], i;
	char c;

	if (pipe(ready))
		return false;
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(flipper(ready[1]));
		if (pid[i] < 0 || read(ready[0], &c, 1) != 1)
			return false;
	}
	close(ready[0]);
	close(ready[1]);
	/* the tick has seen them, at least once */
	for (i = 0; i < 20000 && sysfs("idle") < NR_FLIP; i++)
		usleep(1000);
	return i < 20000;
}

static void stop_flippers(const pid_t *pid)
{
	int i;

	for (i = 0; i < 2; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
}

TEST_F(scan, two_flipping_processes_do_not_keep_it_from_a_third)
{
	struct arena *a = &self->a;
	struct shrunk s;
	pid_t pid[2];
	int i;

	ASSERT_TRUE(start_flippers(pid));
	for (i = 0; i < 8; i++)
		mark_idle(a, i);
	for (i = 0; i < CALLS && count_state(a, 0, 8, HKR_WORD_EMPTY) < 8;
	     i++) {
		ASSERT_EQ(0, shrink(4, &s));
		ASSERT_LE(s.looked, 8);
		ASSERT_LE(s.freed, 4);
	}
	stop_flippers(pid);
	EXPECT_EQ(8, count_state(a, 0, 8, HKR_WORD_EMPTY));
	EXPECT_EQ(NR - 8, count_state(a, 8, NR - 8, HKR_WORD_BUSY));
}

/* a look at them was in vain: the next is at others, whatever their stamps say */
TEST_F(scan, slots_that_only_looked_idle_are_no_longer_the_oldest)
{
	struct arena *a = &self->a;
	struct shrunk s;
	int i, n;

	for (n = 0; n < CALLS; n++) {
		for (i = 0; i < 8; i++)
			mark_idle_at(a, i, a->header->epoch + 1000);
		ASSERT_TRUE(sampled(8));
		for (i = 0; i < 8; i++)
			ASSERT_TRUE(take_again(a, i, word_of(a, i)));
		ASSERT_EQ(0, shrink(4, &s));
		ASSERT_EQ(0, s.freed);
		/* unless the tick was there first, and saw them in use */
		if (sysfs("idle") == 8)
			break;
	}
	ASSERT_LT(n, CALLS);
	for (i = 8; i < 16; i++)
		mark_idle_at(a, i, a->header->epoch - 1);
	ASSERT_TRUE(sampled(8));
	for (i = 0; i < 8; i++)
		mark_idle_at(a, i, a->header->epoch + 1000);
	ASSERT_TRUE(sampled(16));
	ASSERT_EQ(0, shrink(8, &s));
	EXPECT_EQ(8, s.freed);
	EXPECT_EQ(8, count_state(a, 0, 8, HKR_WORD_IDLE));
	EXPECT_EQ(8, count_state(a, 8, 8, HKR_WORD_EMPTY));
	/* they go when it is their turn */
	ASSERT_EQ(0, shrink(8, &s));
	EXPECT_EQ(8, count_state(a, 0, 8, HKR_WORD_EMPTY));
}

/* a scan that frees nothing has looked at slots that are no longer idle */
TEST_F(scan, by_the_core_goes_on_where_the_first_slots_are_busy_again)
{
	struct arena *a = &self->a;
	int i, n;

	ASSERT_EQ(0, handout_at(a, NR, 200, COMMIT));
	for (n = 0; n < CALLS; n++) {
		/* the tick takes note of 200 that are older than the 8 ... */
		for (i = NR; i < NR + 200; i++)
			mark_idle_at(a, i, a->header->epoch - 1000);
		for (i = 0; i < 8; i++)
			mark_idle(a, i);
		ASSERT_TRUE(sampled(208));
		for (i = NR; i < NR + 200; i++)
			ASSERT_TRUE(take_again(a, i, word_of(a, i)));
		/* ... and has not yet seen that they are in use */
		if (sysfs("idle") == 208)
			break;
	}
	ASSERT_LT(n, CALLS);
	ASSERT_EQ(0, write_file("/proc/sys/vm/drop_caches", "2"));
	EXPECT_EQ(8, count_state(a, 0, 8, HKR_WORD_EMPTY));
	EXPECT_EQ(NR + 192, stats_of(a).resident);
}

/* unmapped, or mapped by single pages, they look free but for their users */
TEST_F(scan, pinned_slots_do_not_stand_in_the_way)
{
	struct arena *a = &self->a;
	static char buf[12 * PAGE];
	struct shrunk s;
	int fd[2], i;

	ASSERT_EQ(0, pipe(fd));
	for (i = 0; i < 12; i++) {
		struct iovec iov = { slot_of(a, i), PAGE };

		fill(slot_of(a, i), i);
		ASSERT_EQ(PAGE, vmsplice(fd[1], &iov, 1, 0));
		ASSERT_EQ(0, madvise(slot_of(a, i), SLOT, MADV_DONTNEED));
		if (i % 2) {
			ASSERT_EQ(0, mprotect(slot_of(a, i) + PAGE, PAGE,
					      PROT_READ));
			ASSERT_EQ(0, touch(slot_of(a, i) + 2 * PAGE, true));
		}
		mark_idle_at(a, i, a->header->epoch - 1000);
	}
	for (i = 12; i < 14; i++)
		mark_idle(a, i);
	EXPECT_TRUE(sampled(2));
	ASSERT_EQ(0, shrink(2, &s));
	EXPECT_EQ(2, s.count);
	EXPECT_EQ(2, s.freed);
	EXPECT_EQ(2, count_state(a, 12, 2, HKR_WORD_EMPTY));
	EXPECT_EQ(12, count_state(a, 0, 12, HKR_WORD_IDLE));
	/* free again, they are found again */
	ASSERT_EQ(sizeof(buf), read(fd[0], buf, sizeof(buf)));
	EXPECT_TRUE(sampled(12));
	for (i = 0; i < 12; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));
	EXPECT_TRUE(sampled(12));
	ASSERT_EQ(0, shrink(12, &s));
	EXPECT_EQ(12, s.freed);
	close(fd[0]);
	close(fd[1]);
}

static bool on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

/* runs on the other processor all the time, so that each zap has to tell it */
static void *spin(void *arg)
{
	on_cpu(1);
	*(volatile bool *)arg = true;
	while (!stop)
		;
	return NULL;
}

#define FLUSH	"tlb/tlb_flush"

/* how often the other processor is told when 8 slots go, @step apart; 0: not all went */
static int flushes(struct arena *a, int step)
{
	struct shrunk s;
	int i, n;

	for (i = 0; i < 8; i++) {
		if (handout_at(a, NR + i * step, 1, COMMIT))
			return -1;
		*(volatile char *)slot_of(a, NR + i * step) = 1;
	}
	drain_pool(1);
	/* the sample may be of the slots of the call before */
	if (!sampled(0))
		return -2;
	for (i = 0; i < 8; i++)
		mark_idle(a, NR + i * step);
	if (!sampled(8))
		return -2;
	if (trace_anew() || shrink(8, &s))
		return -3;
	n = trace_each("tlb_flush", "", NULL, NULL);
	/* one that somebody else looked at just then is left by this call */
	for (i = 0; i < 8; i++)
		if (word_state(a, NR + i * step) != HKR_WORD_EMPTY &&
		    recycle(a, DROP, NR + i * step, 1))
			return -4;
	return s.freed == 8 ? n : 0;
}

/* 0 or an error number */
static int spin_elsewhere(pthread_t *thread)
{
	volatile bool runs = false;
	int ret;

	if (!on_cpu(0))
		return EINVAL;
	ret = pthread_create(thread, NULL, spin, (void *)&runs);
	while (!ret && !runs)
		usleep(1000);
	return ret;
}

TEST_F(scan, unmaps_neighbours_together)
{
	pthread_t thread;
	int i, apart = 0, together = 0;
	char filter[64];

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one processor");
	ASSERT_EQ(0, spin_elsewhere(&thread));
	/* by us, to others */
	snprintf(filter, sizeof(filter), "common_pid == %d && reason == 4",
		 (int)syscall(SYS_gettid));
	ASSERT_EQ(0, trace_on(FLUSH, filter));
	/* something else may run there for a moment */
	for (i = 0; i < 50 && (apart != 8 || together != 1); i++) {
		apart = flushes(&self->a, 2);
		together = flushes(&self->a, 1);
		if (apart < 0 || together < 0)
			break;
	}
	trace_off(FLUSH);
	stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(8, apart);
	EXPECT_EQ(1, together);
}

#define ROUNDS	1000

/* by free and reuse of a slot, as often as ROUNDS says */
struct cost {
	int flushes;	/* of any kind but that of a task that is switched to */
	long faults;
};

static bool free_and_reuse(struct arena *a)
{
	mark_idle(a, 0);
	return take_again(a, 0, word_of(a, 0));
}

/* of slot 0, or of @anon, which goes back to the kernel each time; how many failed */
static int reuse(struct arena *a, void *anon, int rounds)
{
	volatile char *block = anon ?: slot_of(a, 0);
	int failed = 0;

	while (rounds--) {
		failed += anon ? !!madvise(anon, SLOT, MADV_FREE) :
				 !free_and_reuse(a);
		*block = 1;
	}
	return failed;
}

static int cost_of_reuse(struct arena *a, void *anon, struct cost *cost)
{
	struct rusage before, after;
	int failed;

	memset(anon ?: slot_of(a, 0), 1, SLOT);
	/* all that this itself needs is there */
	failed = getrusage(RUSAGE_THREAD, &after) ?: reuse(a, anon, 1);
	if (failed || trace_anew())
		return -1;
	getrusage(RUSAGE_THREAD, &before);
	failed = reuse(a, anon, ROUNDS);
	getrusage(RUSAGE_THREAD, &after);
	cost->flushes = trace_each("tlb_flush", "", NULL, NULL);
	cost->faults = after.ru_minflt - before.ru_minflt;
	return failed;
}

/* and MADV_FREE beside it, for which all processors are told each time */
TEST_F(scan, costs_who_frees_and_reuses_no_flush_and_no_fault)
{
	struct cost ours, rival;
	pthread_t thread;
	char filter[64];
	int tries = 0;
	char *anon;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one processor");
	anon = mmap(NULL, SLOT, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, anon);
	ASSERT_EQ(0, spin_elsewhere(&thread));
	snprintf(filter, sizeof(filter), "common_pid == %d && reason != 0",
		 (int)syscall(SYS_gettid));
	ASSERT_EQ(0, trace_on(FLUSH, filter));
	/* what others have this processor flush meanwhile is not there each time */
	do {
		EXPECT_EQ(0, cost_of_reuse(&self->a, NULL, &ours));
	} while (ours.flushes && ++tries < 5);
	EXPECT_EQ(0, cost_of_reuse(&self->a, anon, &rival));
	trace_off(FLUSH);
	stop = true;
	pthread_join(thread, NULL);
	munmap(anon, SLOT);
	EXPECT_EQ(0, ours.flushes);
	EXPECT_EQ(0, ours.faults);
	EXPECT_LE(ROUNDS, rival.flushes);
}

#define REST	4U	/* epochs between ticks at rest */

/* epochs from one tick to the next: the tick alone moves the clock of the header; 0: none for 2 s */
static unsigned int to_next_tick(struct arena *a)
{
	uint32_t epoch = a->header->epoch;
	int i;

	for (i = 0; i < 1000 && a->header->epoch == epoch; i++)
		usleep(2000);
	return a->header->epoch - epoch;
}

/* the same of a tick that comes, however late */
static unsigned int to_some_tick(struct arena *a)
{
	unsigned int epochs = 0;
	int i;

	for (i = 0; i < 10 && !epochs; i++)
		epochs = to_next_tick(a);
	return epochs;
}

/* three in a row: a busy machine makes one tick late, which is no rest yet, and never one early */
static bool tick_rests(struct arena *a)
{
	int i, late = 0;

	for (i = 0; i < 50 && late < 3; i++)
		late = to_some_tick(a) >= REST ? late + 1 : 0;
	return late == 3;
}

/* zeroing goes on for a while, and has it tick: it does not begin to rest at once */
TEST_F(scan, tick_rests_where_nothing_is_idle_and_ends_where_there_is_nothing)
{
	struct arena *a = &self->a;
	int round, i;

	for (round = 0; round < 2; round++) {
		ASSERT_TRUE(tick_rests(a));
		for (i = 0; i < 3; i++)
			EXPECT_LE(REST, to_some_tick(a));
		mark_idle(a, 0);
		for (i = 0; i < 50 && to_next_tick(a) >= REST; i++)
			;
		EXPECT_GT(50, i);
		ASSERT_TRUE(take_again(a, 0, word_of(a, 0)));
	}
	ASSERT_EQ(0, recycle(a, DROP, 0, NR));
	for (i = 0; i < 50 && to_next_tick(a); i++)
		;
	EXPECT_GT(50, i);
	EXPECT_EQ(0, sysfs("resident"));
	/* and begins again with the next memory */
	ASSERT_EQ(0, handout_at(a, 0, 1, COMMIT));
	EXPECT_NE(0, to_some_tick(a));
}

TEST_HARNESS_MAIN
