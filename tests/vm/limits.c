// SPDX-License-Identifier: GPL-2.0
/*
 * Caps: EDQUOT, with nothing changed. settings loads the module with
 * open_max_mb=16, user_max_mb=24 and total_max_mb=60: 8 slots for an open file,
 * 12 for a user, 30 for all.
 */
#include "hkr_test.h"
#include <grp.h>
#include <sys/uio.h>
#include "harness.h"

#define OPEN_MAX	8
#define USER_MAX	12
#define TOTAL_MAX	30
#define NR_SLOTS	64

FIXTURE(capped)
{
	struct arena a, b;
};

FIXTURE_SETUP(capped)
{
	struct hkr_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, arena_open(&self->b, NR_SLOTS));
	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	ASSERT_EQ(OPEN_MAX, info.open_limit);
	ASSERT_EQ(USER_MAX, info.user_limit);
	ASSERT_EQ(OPEN_MAX, stats_of(&self->a).limit);
	ASSERT_EQ(USER_MAX, stats_of(&self->a).user_limit);
	ASSERT_EQ(OPEN_MAX, self->a.header->limit);
}

FIXTURE_TEARDOWN(capped)
{
	arena_close(&self->a);
	arena_close(&self->b);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(capped, open_file_gets_no_more_than_its_cap)
{
	struct arena *a = &self->a;
	struct hkr_stats before;

	EXPECT_EQ(-EDQUOT, handout(a, OPEN_MAX + 1, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(a, NR_SLOTS, 0));
	/* memory or not: what is handed out counts */
	ASSERT_EQ(0, handout_at(a, 0, 3, 0));
	ASSERT_EQ(0, handout_at(a, 3, 3, COMMIT));
	before = stats_of(a);
	EXPECT_EQ(-EDQUOT, handout(a, 3, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(a, 3, 0));
	EXPECT_EQ(-EDQUOT, handout_at(a, 0, 9, COMMIT));
	EXPECT_TRUE(same_stats(a, &before));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 6));
	EXPECT_EQ(SIGBUS, touch(slot_of(a, 6), false));

	/* AT pays for the rest of a run only */
	EXPECT_EQ(0, handout_at(a, 0, OPEN_MAX, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(a, 1, 0));
	EXPECT_EQ(OPEN_MAX, stats_of(a).handed_out);

	/* new memory in place needs room for a moment */
	before = stats_of(a);
	EXPECT_EQ(-EDQUOT, recycle(a, FRESH, 0, 1));
	EXPECT_TRUE(same_stats(a, &before));
	ASSERT_EQ(0, recycle(a, DROP, 7, 1));
	EXPECT_EQ(0, recycle(a, FRESH, 0, 1));
	EXPECT_EQ(-EDQUOT, recycle(a, FRESH, 0, 2));
	ASSERT_EQ(0, handout_at(a, 7, 1, COMMIT));

	/* at the cap everything else works */
	EXPECT_EQ(0, recycle(a, IDLE, 0, 2));
	EXPECT_EQ(2, trim(a, 0, 0));
	EXPECT_EQ(0, handout_at(a, 0, 2, COMMIT));
	EXPECT_EQ(0, recycle(a, DROP, 7, 1));
	EXPECT_EQ(0, handout_at(a, 9, 1, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(a, 1, 0));
}

TEST_F(capped, files_of_a_user_share_the_users_cap)
{
	struct hkr_stats before;

	ASSERT_EQ(0, handout_at(&self->a, 0, OPEN_MAX, COMMIT));
	before = stats_of(&self->b);
	EXPECT_EQ(-EDQUOT, handout(&self->b, USER_MAX - OPEN_MAX + 1, COMMIT));
	EXPECT_TRUE(same_stats(&self->b, &before));
	EXPECT_EQ(0, handout(&self->b, USER_MAX - OPEN_MAX, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(&self->b, 1, 0));
	EXPECT_EQ(USER_MAX, stats_of(&self->a).user_charged);
	EXPECT_EQ(USER_MAX, stats_of(&self->b).user_charged);

	ASSERT_EQ(0, recycle(&self->a, DROP, 0, 1));
	EXPECT_LE(0, handout(&self->b, 1, 0));
	ASSERT_EQ(0, munmap(self->a.base, self->a.setup.arena_size));
	self->a.base = NULL;
	EXPECT_EQ(5, stats_of(&self->b).user_charged);
	EXPECT_LE(0, handout(&self->b, 3, 0));
}

/* in a child: fill what user 1000, or 1001, may have */
static int as_user(void *arg)
{
	gid_t hakmem = 999;
	uid_t uid = *(uid_t *)arg;
	struct arena a, b;

	/* the device is the group's, see run-tests */
	if (setgroups(1, &hakmem) || setgid(uid) || setuid(uid))
		return 1;
	if (arena_open(&a, NR_SLOTS) || arena_open(&b, NR_SLOTS))
		return 2;
	if (stats_of(&a).user_charged)
		return 3;
	if (handout(&a, OPEN_MAX, COMMIT) < 0)
		return 4;
	if (handout(&b, USER_MAX - OPEN_MAX, COMMIT) < 0)
		return 5;
	if (handout(&b, 1, COMMIT) != -EDQUOT)
		return 6;
	return stats_of(&b).user_charged == USER_MAX ? 0 : 7;
}

TEST_F(capped, users_do_not_share)
{
	uid_t user = 1000, other = 1001;

	ASSERT_EQ(0, handout_at(&self->a, 0, OPEN_MAX, COMMIT));
	ASSERT_EQ(0, handout_at(&self->b, 0, USER_MAX - OPEN_MAX, COMMIT));
	EXPECT_EQ(0, in_child(as_user, &user));
	EXPECT_EQ(0, in_child(as_user, &other));
	EXPECT_EQ(0, in_child(as_user, &user));
	EXPECT_EQ(USER_MAX, stats_of(&self->a).user_charged);
}

struct guest {
	uid_t uid;
	uint32_t may_have;
	int ready[2], done[2];
};

/* takes what it may, and not one slot more; holds it until done is closed */
static int guest_user(void *arg)
{
	struct guest *g = arg;
	gid_t hakmem = 999;
	struct arena a, b;
	uint32_t half = g->may_have / 2;
	char byte;

	close(g->done[1]);
	if (setgroups(1, &hakmem) || setgid(g->uid) || setuid(g->uid))
		return 1;
	if (arena_open(&a, NR_SLOTS) || arena_open(&b, NR_SLOTS))
		return 2;
	if (handout(&a, half, COMMIT) || handout(&b, half, COMMIT))
		return 3;
	if (handout(&b, 1, 0) != -EDQUOT || handout(&a, 1, 0) != -EDQUOT)
		return 4;
	if (write(g->ready[1], "", 1) != 1)
		return 5;
	return read(g->done[0], &byte, 1) ? 6 : 0;
}

TEST_F(capped, all_users_together_have_a_cap)
{
	struct guest first = { 1000, USER_MAX }, second = { 1001 };
	int status;
	pid_t pid;
	char byte;

	second.may_have = TOTAL_MAX - 2 * USER_MAX;
	ASSERT_EQ(0, pipe(first.ready) + pipe(first.done));
	ASSERT_EQ(0, handout_at(&self->a, 0, OPEN_MAX, COMMIT));
	ASSERT_EQ(0, handout_at(&self->b, 0, USER_MAX - OPEN_MAX, COMMIT));
	pid = fork();
	if (!pid)
		_exit(guest_user(&first));
	close(first.ready[1]);
	ASSERT_EQ(1, read(first.ready[0], &byte, 1));
	/* made only now: the first must not hold them open */
	ASSERT_EQ(0, pipe(second.ready) + pipe(second.done));
	close(second.done[1]);
	EXPECT_EQ(0, in_child(guest_user, &second));
	close(first.done[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(capped, idle_memory_makes_room_for_from_idle)
{
	struct arena *a = &self->a;
	struct hkr_stats before;
	long first;
	int i;

	ASSERT_EQ(0, handout_at(a, 0, OPEN_MAX, COMMIT));
	mark_idle(a, 1);
	mark_idle(a, 6);
	before = stats_of(a);
	EXPECT_EQ(-EDQUOT, handout(a, 3, COMMIT | FROM_IDLE));
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 1));
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 6));
	EXPECT_TRUE(same_stats(a, &before));
	first = handout(a, 2, COMMIT | FROM_IDLE);
	EXPECT_LE(OPEN_MAX, first);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	EXPECT_EQ(OPEN_MAX, stats_of(a).resident);
	EXPECT_EQ(-EDQUOT, handout(a, 1, COMMIT | FROM_IDLE));

	/* time and again, the caps keep to the truth */
	for (i = 0; i < 50; i++) {
		mark_idle(a, first);
		mark_idle(a, first + 1);
		first = handout(a, 2, COMMIT | FROM_IDLE);
		ASSERT_LE(0, first);
	}
	EXPECT_EQ(OPEN_MAX, stats_of(a).handed_out);
	EXPECT_EQ(-EDQUOT, handout(a, 1, 0));
}

/* else a user could hold any amount of memory by pins */
TEST_F(capped, memory_that_is_pinned_stays_charged)
{
	struct arena *a = &self->a;
	int pipes[2], i;
	char buf[16];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, handout_at(a, 0, OPEN_MAX, COMMIT));
	for (i = 0; i < OPEN_MAX; i++) {
		struct iovec iov = { slot_of(a, i), 1 };

		ASSERT_EQ(1, vmsplice(pipes[1], &iov, 1, 0));
	}
	ASSERT_EQ(0, recycle(a, DROP, 0, OPEN_MAX));
	EXPECT_EQ(0, stats_of(a).handed_out);
	EXPECT_EQ(OPEN_MAX, stats_of(a).orphaned);
	EXPECT_EQ(OPEN_MAX, stats_of(a).user_charged);
	EXPECT_EQ(-EDQUOT, handout(a, USER_MAX - OPEN_MAX + 1, COMMIT));
	ASSERT_EQ(0, handout_at(a, 0, USER_MAX - OPEN_MAX, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(a, 1, COMMIT));

	EXPECT_EQ(OPEN_MAX, read(pipes[0], buf, sizeof(buf)));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_EQ(USER_MAX - OPEN_MAX, stats_of(a).user_charged);
	EXPECT_LE(0, handout(a, OPEN_MAX - (USER_MAX - OPEN_MAX), COMMIT));
}

static bool pin_one(struct arena *a, int idx, int pipe)
{
	struct iovec iov = { slot_of(a, idx), 1 };

	return vmsplice(pipe, &iov, 1, 0) == 1;
}

/* pins as many as it may, and dies with them; how many */
static int pins_until_the_cap(void *arg)
{
	int pipe = *(int *)arg, n = 0;
	struct arena a;
	long idx;

	if (arena_open(&a, NR_SLOTS))
		return -1;
	while ((idx = handout(&a, 1, COMMIT)) >= 0) {
		if (!pin_one(&a, idx, pipe) || recycle(&a, DROP, idx, 1))
			return -1;
		n++;
	}
	return idx == -EDQUOT ? n : -1;
}

/* however they are come by: a cap on what a process holds is none on these */
TEST_F(capped, orphans_of_a_user_are_finite)
{
	struct arena *a = &self->a;
	int pipes[2], i;
	char buf[USER_MAX];

	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(USER_MAX, in_child(pins_until_the_cap, &pipes[1]));
	EXPECT_EQ(USER_MAX, sysfs("orphans"));
	EXPECT_EQ(USER_MAX, stats_of(a).user_charged);
	/* they outlive the process, and count against the next */
	EXPECT_EQ(0, in_child(pins_until_the_cap, &pipes[1]));
	EXPECT_EQ(-EDQUOT, handout(a, 1, COMMIT));
	EXPECT_EQ(-EDQUOT, handout(a, 1, 0));
	EXPECT_EQ(USER_MAX, sysfs("orphans"));
	/* each one that is free makes room for one more */
	for (i = 1; i <= 4; i++) {
		ASSERT_EQ(1, read(pipes[0], buf, 1));
		EXPECT_TRUE(sysfs_becomes("orphans", USER_MAX - i));
		EXPECT_LE(0, handout(a, 1, COMMIT));
		EXPECT_EQ(-EDQUOT, handout(a, 1, COMMIT));
	}
	EXPECT_EQ(USER_MAX - 4, read(pipes[0], buf, sizeof(buf)));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_EQ(4, stats_of(a).user_charged);
}

TEST_HARNESS_MAIN
