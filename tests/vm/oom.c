// SPDX-License-Identifier: GPL-2.0
/*
 * The last resort before the OOM killer. SysRq f calls what an allocation calls
 * that found nothing, its notifiers too, and then kills somebody whatever they
 * gave: each call costs a child that offers itself. When the child is dead, the
 * call is over. settings: no reserve.
 */
#include "tracefs.h"
#include <time.h>
#include "harness.h"

#define BATCH		64	/* most slots that one call takes */
#define ROUNDS		8	/* calls in a row that take some */
#define QUIET_S		10	/* ends a row */
#define NR		96

static bool set_score(const char *value)
{
	return !trace_write("/proc/self/oom_score_adj", value);
}

/* one call; true: it happened, and the victim was the one on offer */
static bool call_oom_killer(void)
{
	int status, ready[2];
	pid_t pid;
	char c;

	if (pipe(ready))
		return false;
	pid = fork();
	if (!pid) {
		if (set_score("1000") && write(ready[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	if (pid < 0 || read(ready[0], &c, 1) != 1)
		return false;
	close(ready[0]);
	close(ready[1]);
	if (trace_write("/proc/sysrq-trigger", "f")) {
		kill(pid, SIGTERM);
		waitpid(pid, &status, 0);
		return false;
	}
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGKILL;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static int taken(void)
{
	return trace_count("hkr_reclaim", " why=oom");
}

FIXTURE(owner)
{
	struct arena a;
};

FIXTURE_SETUP(owner)
{
	int i;

	/* whatever row the last test left has ended */
	sleep(QUIET_S + 1);
	ASSERT_EQ(0, arena_open(&self->a, 256));
	ASSERT_EQ(0, keep_from_children(&self->a));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++)
		*(long *)slot_of(&self->a, i) = i + 1;
	/* spare folios of the pool would go first */
	while (sysfs("live_folios") > NR)
		ASSERT_EQ(0, trace_write("/sys/kernel/debug/hakmem_region/shrink",
					 "1000"));
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
}

FIXTURE_TEARDOWN(owner)
{
	EXPECT_EQ(0, trace_enable(NULL, false));
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(owner, loses_idle_slots_a_batch_at_a_time_and_no_busy_one)
{
	struct arena *a = &self->a;
	int i;

	for (i = 0; i < NR - 8; i++)
		mark_idle(a, i);
	ASSERT_TRUE(call_oom_killer());
	EXPECT_EQ(BATCH, taken());
	EXPECT_EQ(NR - BATCH, sysfs("live_folios"));
	ASSERT_TRUE(call_oom_killer());
	EXPECT_EQ(NR - 8, taken());
	EXPECT_EQ(8, sysfs("live_folios"));
	EXPECT_EQ(NR - 8, stats_of(a).reclaimed);
	for (i = NR - 8; i < NR; i++)
		EXPECT_EQ(i + 1, *(long *)slot_of(a, i));
}

/* else a machine that is really out of memory would never kill anybody */
TEST_F(owner, is_left_alone_after_a_few_calls_in_a_row)
{
	struct arena *a = &self->a;
	double last = now();
	int i;

	/* one slot for each call */
	for (i = 0; i < ROUNDS; i++) {
		mark_idle(a, i);
		ASSERT_TRUE(call_oom_killer());
		if (now() - last > QUIET_S / 2)
			SKIP(return, "too slow a machine for a row of calls");
		last = now();
		ASSERT_EQ(i + 1, taken());
	}
	mark_idle(a, ROUNDS);
	ASSERT_TRUE(call_oom_killer());
	if (now() - last > QUIET_S / 2)
		SKIP(return, "too slow a machine for a row of calls");
	EXPECT_EQ(ROUNDS, taken());
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, ROUNDS));
	EXPECT_EQ(ROUNDS + 1, *(long *)slot_of(a, ROUNDS));

	/* the row ends when nobody asks for a while */
	sleep(QUIET_S + 1);
	ASSERT_TRUE(call_oom_killer());
	EXPECT_EQ(ROUNDS + 1, taken());
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, ROUNDS));
}

/* calls that found nothing do not count */
TEST_F(owner, can_be_asked_in_vain_as_often_as_need_be)
{
	int i;

	for (i = 0; i < ROUNDS + 1; i++)
		ASSERT_TRUE(call_oom_killer());
	EXPECT_EQ(0, taken());
	mark_idle(&self->a, 0);
	ASSERT_TRUE(call_oom_killer());
	EXPECT_EQ(1, taken());
}

TEST_HARNESS_MAIN
