// SPDX-License-Identifier: GPL-2.0
/*
 * When the zeroing thread works: marks, rate, pauses, and not at all.
 *
 * settings loads the module with reserve_mb=32 and pool_max_mb=64: the pool
 * holds up to NR folios, and reclaim may have half of them.
 */
#include "zeroing.h"
#include <sched.h>
#include <time.h>
#include <sys/prctl.h>
#include "harness.h"

#define NR		32
#define TRIES		20	/* of what a busy machine can spoil */
#define TRY_SECONDS	60	/* where it spoils most of them; else HK_TRY_SECONDS */
#define TRIGGER		"/sys/kernel/debug/hakmem_region/shrink"

static const struct {
	const char *name, *normal;
} params[] = {
	{ "zero_background", "1" },
	{ "zero_high_mb", "-1" },
	{ "zero_low_mb", "-1" },
	{ "zero_rate_mb", "0" },
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* is there time for one more try, by the clock: how many it takes is the machine's */
static bool may_try(uint64_t start)
{
	return now_ns() - start <
	       env_number("HK_TRY_SECONDS", TRY_SECONDS) * 1000000000ULL;
}

/* would a thread that works have done so by now */
static bool stays(const char *name, long value)
{
	uint64_t end = now_ns() + 300000000;
	long now;

	do {
		now = sysfs(name);
		if (now != value) {
			printf("# %s was %ld and is %ld\n", name, value, now);
			return false;
		}
		usleep(5000);
	} while (now_ns() < end);
	return true;
}

static bool thread_sleeps(pid_t pid)
{
	char path[64], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = 0;
		fclose(f);
	}
	return strstr(line, ") S ");
}

/*
 * All is clean, and the thread knows: before it has looked once more, it goes
 * on with whatever becomes dirty.
 */
static bool all_clean(void)
{
	pid_t thread = zero_thread(0);
	int i;

	if (thread < 0 || !sysfs_becomes("clean", NR))
		return false;
	for (i = 0; i < 2000; i++) {
		if (thread_sleeps(thread))
			return true;
		usleep(1000);
	}
	return false;
}

static int shrink(const char *want)
{
	int fd = open(TRIGGER, O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, want, strlen(want)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* with the thread off; once more where it had a folio in its hands */
static bool all_dirty(void)
{
	int i;

	for (i = 0; i < TRIES; i++)
		if (!leave_dirty(NR) && sysfs_becomes("pool_depth", NR) &&
		    sysfs("dirty") == NR)
			return true;
	return false;
}

/* The thread is off, and NR dirty folios are all that is in the pool */
FIXTURE(dirty_pool)
{
	long behind;
};

FIXTURE_SETUP(dirty_pool)
{
	ASSERT_EQ(0, set_param("zero_background", "0"));
	ASSERT_TRUE(all_dirty());
	self->behind = zeroed_behind();
}

FIXTURE_TEARDOWN(dirty_pool)
{
	unsigned int i;

	for (i = 0; i < sizeof(params) / sizeof(params[0]); i++)
		EXPECT_EQ(0, set_param(params[i].name, params[i].normal));
	EXPECT_TRUE(sysfs_becomes("dirty", 0));
	EXPECT_TRUE(nothing_leaked());
}

TEST(bad_values_are_refused)
{
	static const struct {
		const char *name, *value;
	} bad[] = {
		{ "zero_background", "2" },	{ "zero_background", "maybe" },
		{ "zero_rate_mb", "-1" },	{ "zero_rate_mb", "many" },
		{ "zero_rate_mb", "1048577" },	{ "zero_rate_mb", "1k" },
		{ "zero_low_mb", "-2" },	{ "zero_low_mb", "1.5" },
		{ "zero_high_mb", "-2" },	{ "zero_high_mb", "all" },
	};
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		EXPECT_EQ(-EINVAL, set_param(bad[i].name, bad[i].value)) {
			TH_LOG("row %u of the table", i);
		}
	EXPECT_TRUE(param_is("zero_background", "Y"));
	EXPECT_TRUE(param_is("zero_rate_mb", "0"));
	EXPECT_TRUE(param_is("zero_low_mb", "-1"));
	EXPECT_TRUE(param_is("zero_high_mb", "-1"));

	/* the marks stay in order, whichever is changed */
	EXPECT_EQ(0, set_param("zero_high_mb", "16"));
	EXPECT_EQ(-EINVAL, set_param("zero_low_mb", "18"));
	EXPECT_EQ(0, set_param("zero_low_mb", "16"));
	EXPECT_EQ(-EINVAL, set_param("zero_high_mb", "14"));
	EXPECT_TRUE(param_is("zero_high_mb", "16"));
	EXPECT_TRUE(param_is("zero_low_mb", "16"));
	EXPECT_EQ(0, set_param("zero_high_mb", "-1"));
	EXPECT_EQ(0, set_param("zero_low_mb", "-1"));
}

TEST_F(dirty_pool, is_zeroed_in_line_with_the_thread_off)
{
	struct hkr_stats st;
	struct arena a;
	int round, i;

	EXPECT_TRUE(stays("dirty", NR));
	for (round = 0; round < 4; round++) {
		ASSERT_EQ(0, arena_open(&a, NR));
		ASSERT_EQ(0, handout_at(&a, 0, NR, COMMIT));
		st = stats_of(&a);
		EXPECT_EQ(NR, st.served_dirty);
		EXPECT_EQ(NR * SLOT, st.bytes_zeroed_inline);
		for (i = 0; i < NR; i++) {
			ASSERT_TRUE(all_zero(slot_of(&a, i), SLOT));
			memset(slot_of(&a, i), 0x5a, SLOT);
		}
		arena_close(&a);
		ASSERT_TRUE(sysfs_becomes("dirty", NR));
	}
	EXPECT_EQ(self->behind, zeroed_behind());
	/* and a thread that is switched on sees what was left for it */
	ASSERT_EQ(0, set_param("zero_background", "1"));
	EXPECT_TRUE(sysfs_becomes("clean", NR));
	EXPECT_EQ(NR * SLOT, zeroed_behind() - self->behind);
}

TEST_F(dirty_pool, is_left_dirty_above_the_high_mark)
{
	struct hkr_stats st;
	struct arena a;

	ASSERT_EQ(0, set_param("zero_high_mb", "16"));
	ASSERT_EQ(0, set_param("zero_background", "1"));
	ASSERT_TRUE(sysfs_becomes("clean", 8));
	EXPECT_TRUE(stays("clean", 8));
	EXPECT_EQ(8 * SLOT, zeroed_behind() - self->behind);
	EXPECT_EQ(NR - 8, sysfs("dirty"));

	/* what is dirty serves as well; the thread may have one in its hands */
	ASSERT_EQ(0, arena_open(&a, NR));
	ASSERT_EQ(0, handout_at(&a, 0, NR, COMMIT));
	st = stats_of(&a);
	EXPECT_GE(1, st.served_new);
	EXPECT_EQ(NR, st.served_clean + st.served_dirty + st.served_new);
	EXPECT_LE(8, st.served_clean);
	arena_close(&a);

	/* no mark: everything */
	ASSERT_EQ(0, set_param("zero_high_mb", "-1"));
	EXPECT_TRUE(sysfs_becomes("clean", NR));
}

/*
 * The pool in use all the time: each round takes one clean folio and makes it
 * dirty. Returns false when the machine made a pause, which the thread may use.
 */
static bool keep_using(struct arena *a, long least_clean, useconds_t round_us,
		       long behind, bool *worked)
{
	uint64_t last = now_ns(), now, end = last + 20000000000ULL;

	*worked = false;
	while (sysfs("clean") > least_clean && now_ns() < end) {
		if (handout_at(a, 0, 1, COMMIT) || recycle(a, DROP, 0, 1))
			return false;
		if (round_us)
			usleep(round_us);
		*worked = zeroed_behind() != behind;
		now = now_ns();
		if (now - last > 10000000)
			return false;
		if (*worked)
			break;
		last = now;
	}
	return true;
}

TEST_F(dirty_pool, waits_for_a_quiet_moment_above_the_low_mark)
{
	bool worked = true, busy = false;
	uint64_t start = now_ns();
	struct arena a;

	ASSERT_EQ(0, arena_open(&a, 1));
	while (!busy && may_try(start)) {
		ASSERT_EQ(0, set_param("zero_background", "1"));
		ASSERT_TRUE(all_clean());
		/* 24 rounds leave 8 folios clean, which is twice the mark */
		ASSERT_EQ(0, set_param("zero_low_mb", "8"));
		busy = keep_using(&a, 8, 0, zeroed_behind(), &worked);
	}
	if (!busy) {
		arena_close(&a);
		SKIP(return, "too slow a machine to use the pool all the time");
	}
	EXPECT_FALSE(worked);
	/* left alone, it zeroes them all the same */
	EXPECT_TRUE(sysfs_becomes("clean", NR));
	arena_close(&a);
}

TEST_F(dirty_pool, waits_for_nothing_below_the_low_mark)
{
	bool worked = false, busy = false;
	uint64_t start = now_ns();
	struct arena a;

	ASSERT_EQ(0, arena_open(&a, 1));
	while (!worked && may_try(start)) {
		ASSERT_EQ(0, set_param("zero_background", "1"));
		ASSERT_TRUE(all_clean());
		ASSERT_EQ(0, set_param("zero_low_mb", "48"));
		/* it goes on to 0 where the thread never comes, but not so fast */
		if (keep_using(&a, 0, 2000, zeroed_behind(), &worked))
			busy = true;
		else
			worked = false;
	}
	arena_close(&a);
	if (!busy)
		SKIP(return, "too slow a machine to use the pool all the time");
	EXPECT_TRUE(worked);
}

TEST_F(dirty_pool, is_zeroed_no_faster_than_the_rate)
{
	long pauses = sysfs("zero_pauses_rate"), done;
	const long rate = 16L << 20, bucket = SLOT;
	uint64_t start;

	ASSERT_EQ(0, set_param("zero_rate_mb", "16"));
	start = now_ns();
	ASSERT_EQ(0, set_param("zero_background", "1"));
	do {
		done = zeroed_behind() - self->behind;
		/* the clock is read last: a delay makes the bound wider */
		ASSERT_GE(bucket + rate / 1000 *
			  (long)((now_ns() - start) / 1000000 + 1), done);
		usleep(2000);
	} while (done < 16 * (long)SLOT);
	/* each folio but the first waits for its tokens, unless all were late */
	EXPECT_LT(pauses, sysfs("zero_pauses_rate"));
	/* a slower one holds for the wait that has begun, no limit ends it */
	ASSERT_EQ(0, set_param("zero_rate_mb", "1"));
	ASSERT_EQ(0, set_param("zero_rate_mb", "0"));
	EXPECT_TRUE(sysfs_becomes("clean", NR));
}

struct presser {
	uint64_t last, gap;	/* ns; of its writes: the last, the longest wait */
};

/* reclaim asks, for nothing, every millisecond */
static pid_t press(volatile struct presser *p)
{
	pid_t pid = fork();
	uint64_t now;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (p->last = now_ns(); !shrink("0"); p->last = now) {
		now = now_ns();
		if (!p->gap || now - p->last > p->gap)
			p->gap = now - p->last + 1;
		usleep(1000);
	}
	_exit(1);
}

/* was reclaim there all the time: the machine is not to decide */
static bool pressed(const volatile struct presser *p)
{
	return p->gap < 500000000 && now_ns() - p->last < 500000000;
}

TEST_F(dirty_pool, waits_while_reclaim_asks)
{
	long pauses = sysfs("zero_pauses_pressure"), behind = 0;
	volatile struct presser *p;
	bool stayed = false, valid = false;
	int i;
	pid_t pid;

	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)p);
	for (i = 0; i < TRIES && !valid; i++) {
		ASSERT_TRUE(all_dirty());
		self->behind = zeroed_behind();
		p->gap = 0;
		pid = press(p);
		ASSERT_LT(0, pid);
		while (!p->gap)
			usleep(1000);
		ASSERT_EQ(0, set_param("zero_background", "1"));
		while (sysfs("zero_pauses_pressure") == pauses &&
		       sysfs("dirty") == NR)
			usleep(1000);
		stayed = stays("dirty", NR);
		behind = zeroed_behind();
		valid = pressed(p);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		if (!valid)
			ASSERT_EQ(0, set_param("zero_background", "0"));
	}
	ASSERT_TRUE(valid);
	EXPECT_TRUE(stayed);
	EXPECT_EQ(self->behind, behind);
	EXPECT_LT(pauses, sysfs("zero_pauses_pressure"));
	/* and it ends */
	EXPECT_TRUE(sysfs_becomes("clean", NR));
}

TEST_F(dirty_pool, waits_while_all_processors_are_busy)
{
	long nr = sysconf(_SC_NPROCESSORS_ONLN), i;
	long pauses = sysfs("zero_pauses_busy");
	pid_t pid[64];
	volatile char *spins;

	ASSERT_GE(64, nr);
	spins = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)spins);
	for (i = 0; i < nr; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			cpu_set_t set;

			CPU_ZERO(&set);
			CPU_SET(i, &set);
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (sched_setaffinity(0, sizeof(set), &set))
				_exit(1);
			for (;;)
				spins[i] = 1;
		}
		ASSERT_LT(0, pid[i]);
	}
	for (i = 0; i < nr; i++)
		while (!spins[i])
			usleep(1000);
	ASSERT_EQ(0, set_param("zero_background", "1"));
	while (sysfs("zero_pauses_busy") == pauses && sysfs("dirty") == NR)
		usleep(10000);
	EXPECT_TRUE(stays("dirty", NR));
	EXPECT_EQ(self->behind, zeroed_behind());
	EXPECT_LT(pauses, sysfs("zero_pauses_busy"));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, kill(pid[i], SIGKILL));
		ASSERT_EQ(pid[i], waitpid(pid[i], NULL, 0));
	}
	EXPECT_TRUE(sysfs_becomes("clean", NR));
}

TEST_F(dirty_pool, is_taken_by_reclaim_as_it_is)
{
	long in_line = sysfs("zeroed_inline_bytes");

	/* the kernel's log would tell of a folio that was zeroed there */
	ASSERT_EQ(0, shrink("16"));
	EXPECT_EQ(NR / 2, sysfs("pool_depth"));
	EXPECT_EQ(NR / 2, sysfs("live_folios"));
	EXPECT_EQ(self->behind, zeroed_behind());
	EXPECT_EQ(in_line, sysfs("zeroed_inline_bytes"));
}

TEST_HARNESS_MAIN
