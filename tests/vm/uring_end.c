// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of commands in mid-flight when they are cancelled, and when the
 * ring, its process or the arena goes.
 */
#include "uring_calls.h"
#include "harness.h"

/* The same arena, and a ring of the plain kind. */
FIXTURE(flight)
{
	struct arena a;
	struct io_uring ring;
	struct recycle_call *r;
};

FIXTURE_SETUP(flight)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, io_uring_queue_init(NR_SLOTS, &self->ring, 0));
	self->r = calloc(1, sizeof(*self->r));
	ASSERT_NE(NULL, self->r);
}

FIXTURE_TEARDOWN(flight)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
	free(self->r);
}

/* a long command is at work: FRESH of one slot, again and again */
static bool long_command_runs(FIXTURE_DATA(flight) *self)
{
	uint64_t before = stats_of(&self->a).refreshed;
	int i;

	make_recycle(self->r, FRESH, 0, HKR_MAX_BATCH);
	queue(&self->ring, &self->a, HKR_IOC_RECYCLE, self->r);
	if (io_uring_submit(&self->ring) != 1)
		return false;
	for (i = 0; i < 20000; i++) {
		if (stats_of(&self->a).refreshed != before)
			return true;
		usleep(1000);
	}
	return false;
}

/* how many entries were met, when the rest were not tried; or -1 */
static int met_before_end(const struct recycle_call *r)
{
	int i, met = 0;

	while (met < HKR_MAX_BATCH && !r->range[met].result)
		met++;
	for (i = met; i < HKR_MAX_BATCH; i++)
		if (r->range[i].result != -EINTR)
			return -1;
	return met;
}

/* A machine that is fast enough may meet it all before it is told to stop. */
#define TRIES	20

TEST_F(flight, that_is_cancelled_ends_with_what_it_met)
{
	struct io_uring_sqe *sqe;
	uint64_t before, whose;
	int try, k, met = HKR_MAX_BATCH, res, done = -1;

	ASSERT_EQ(0, handout_at(&self->a, 0, 1, COMMIT));
	for (try = 0; try < TRIES && met == HKR_MAX_BATCH; try++) {
		before = stats_of(&self->a).refreshed;
		ASSERT_TRUE(long_command_runs(self));
		sqe = hkr_sqe(&self->ring);
		io_uring_prep_cancel(sqe, self->r, 0);
		sqe->user_data = 1;
		ASSERT_EQ(1, io_uring_submit(&self->ring));
		for (k = 0; k < 2; k++) {
			res = hkr_reap(&self->ring, &whose);
			if (whose != 1)
				done = res;
		}
		met = met_before_end(self->r);
		EXPECT_EQ(met, done);
		EXPECT_EQ(met, stats_of(&self->a).refreshed - before);
	}
	EXPECT_GT(HKR_MAX_BATCH, met);
	/* the slot is as good as before */
	EXPECT_TRUE(all_zero(slot_of(&self->a, 0), SLOT));
	EXPECT_EQ(0, recycle(&self->a, FRESH, 0, 1));
	EXPECT_EQ(1, stats_of(&self->a).resident);
	io_uring_queue_exit(&self->ring);
}

/* the array is written when the command ends, last entry last */
static bool ends(const struct recycle_call *r)
{
	const volatile int32_t *last = &r->range[HKR_MAX_BATCH - 1].result;
	int i;

	for (i = 0; i < 60000 && *last == UNTRIED; i++)
		usleep(1000);
	return *last != UNTRIED;
}

TEST_F(flight, of_a_ring_that_is_closed_ends_with_what_it_met)
{
	int try, met = HKR_MAX_BATCH;

	ASSERT_EQ(0, handout_at(&self->a, 0, 1, COMMIT));
	for (try = 0; try < TRIES && met == HKR_MAX_BATCH; try++) {
		if (try)
			ASSERT_EQ(0, io_uring_queue_init(4, &self->ring, 0));
		ASSERT_TRUE(long_command_runs(self));
		io_uring_queue_exit(&self->ring);
		ASSERT_TRUE(ends(self->r));
		met = met_before_end(self->r);
	}
	EXPECT_GT(HKR_MAX_BATCH, met);
	EXPECT_LE(1, met);
	EXPECT_EQ(0, recycle(&self->a, FRESH, 0, 1));
}

/* the commands' own memory, and the arena, may go while they run */
TEST_F(flight, over_an_arena_that_is_unmapped_fails)
{
	static struct handout_call h[NR_SLOTS];
	int i, res, met = 0;

	for (i = 0; i < NR_SLOTS; i++) {
		make_handout(&h[i], 1, COMMIT, 0);
		queue(&self->ring, &self->a, HKR_IOC_HANDOUT, &h[i]);
	}
	ASSERT_LE(NR_SLOTS, io_uring_submit(&self->ring));
	arena_close(&self->a);
	for (i = 0; i < NR_SLOTS; i++) {
		res = hkr_reap(&self->ring, NULL);
		if (res == 1)
			met++;
		else if (res)
			EXPECT_EQ(-EBADFD, res);
	}
	for (i = 0; i < NR_SLOTS; i++)
		if (h[i].req.result && h[i].req.result != UNTRIED)
			EXPECT_EQ(-EBADFD, h[i].req.result);
	TH_LOG("%d of %d met before", met, NR_SLOTS);
	EXPECT_TRUE(nothing_leaked());
	io_uring_queue_exit(&self->ring);
}

/*
 * A process with much in flight that comes to its end: HANDOUTs and long FRESHs,
 * and at times one that waits for its own structure's page for ever.
 */
static void fly(bool with_blocked, int told)
{
	static struct handout_call h[24];
	static struct recycle_call r[8];
	struct io_uring ring;
	struct arena a;
	void *page = NULL;
	int i, uffd;

	if (arena_open(&a, NR_SLOTS) || handout_at(&a, 0, 8, COMMIT) ||
	    io_uring_queue_init(NR_SLOTS, &ring, 0))
		_exit(1);
	/* first: there is a worker for it only while others are not at work */
	if (with_blocked) {
		uffd = blocking_page(&page);
		if (uffd < 0)
			_exit(2);
		queue(&ring, &a, HKR_IOC_HANDOUT, page);
		io_uring_submit(&ring);
		if (!is_waited_for(uffd))
			_exit(3);
	}
	for (i = 0; i < 24; i++) {
		make_handout(&h[i], 1 + i % 2, COMMIT, 0);
		queue(&ring, &a, HKR_IOC_HANDOUT, &h[i]);
	}
	for (i = 0; i < 8; i++) {
		make_recycle(&r[i], i % 4 ? FRESH : DROP, i, HKR_MAX_BATCH);
		queue(&ring, &a, HKR_IOC_RECYCLE, &r[i]);
	}
	if (io_uring_submit(&ring) != 32 || write(told, "", 1) != 1)
		_exit(4);
}

enum end {
	KILLED,		/* by another process */
	EXITS,
	EXECS,
	CLOSES,		/* the ring, and then exits */
};

static void fly_and_end(enum end end, bool with_blocked, int told)
{
	fly(with_blocked, told);
	switch (end) {
	case KILLED:
		while (1)
			pause();
	case EXITS:
		_exit(0);
	case EXECS:
		execl("/bin/busybox", "true", NULL);
		_exit(5);
	case CLOSES:
		/* whatever descriptor it is */
		for (int fd = 3; fd < 64; fd++)
			close(fd);
		_exit(0);
	}
}

FIXTURE(end)
{
	unsigned int seed;
};

FIXTURE_VARIANT(end)
{
	enum end end;
};

FIXTURE_VARIANT_ADD(end, killed) { .end = KILLED };
FIXTURE_VARIANT_ADD(end, exits) { .end = EXITS };
FIXTURE_VARIANT_ADD(end, execs) { .end = EXECS };
FIXTURE_VARIANT_ADD(end, closes) { .end = CLOSES };

FIXTURE_SETUP(end)
{
	self->seed = 1;
}

FIXTURE_TEARDOWN(end)
{
}

TEST_F(end, in_mid_flight_leaves_nothing)
{
	int i, status, told[2];
	char byte;
	pid_t pid;

	for (i = 0; i < 12; i++) {
		ASSERT_EQ(0, pipe(told));
		pid = fork();
		/* only a fatal signal ends a copy from a page: exec would wait */
		if (!pid)
			fly_and_end(variant->end,
				    i % 3 == 2 && variant->end != EXECS,
				    told[1]);
		ASSERT_LE(0, pid);
		close(told[1]);
		EXPECT_EQ(1, read(told[0], &byte, 1));
		close(told[0]);
		/* at any point: of zeroing, of the next command, of none */
		usleep(rand_r(&self->seed) % 4096);
		if (variant->end == KILLED)
			kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(variant->end == KILLED ? SIGKILL : 0, status);
		ASSERT_TRUE(nothing_leaked());
	}
}

TEST_HARNESS_MAIN
