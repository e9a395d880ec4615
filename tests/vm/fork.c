// SPDX-License-Identifier: GPL-2.0
/*
 * fork(): a child has its parent's busy slots, and from then on each its own.
 * fork_threads.c has forks under threads that write, and forks in numbers.
 * settings makes the caps small: NR slots are half of all that there may be.
 */
#include "reclaim.h"
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "harness.h"

#define NR_SLOTS	512
#define NR		24	/* slots that are handed out and filled */
#define EXTRA		NR	/* one that is handed out and not touched */
#define GONE		(NR + 1)	/* one that is idle */

/* where in a child, or 0; the number of the line is its exit status */
#define CHECK(cond)	do { if (!(cond)) return __LINE__ & 0xff; } while (0)

extern char **environ;

FIXTURE(fork)
{
	struct arena a;
};

FIXTURE_SETUP(fork)
{
	struct arena *a = &self->a;
	int i;

	ASSERT_EQ(0, arena_open(a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	ASSERT_EQ(0, handout_at(a, EXTRA, 1, 0));
	ASSERT_EQ(0, handout_at(a, GONE, 1, COMMIT));
	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), i * 1000);
	fill(slot_of(a, GONE), 1);
	mark_idle(a, GONE);
}

FIXTURE_TEARDOWN(fork)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
	EXPECT_EQ(0, sysfs("shared"));
}

static bool as_filled(struct arena *a, uint64_t first, uint64_t nr)
{
	for (; nr--; first++)
		if (!filled(slot_of(a, first), first * 1000))
			return false;
	return true;
}

/* the tick sees who is alone with its memory */
static bool shared_becomes(struct arena *a, uint64_t nr)
{
	int i;

	for (i = 0; i < 2000 && stats_of(a).shared != nr; i++)
		usleep(10000);
	return i < 2000;
}

/* fork() with a pipe each way, for steps that take turns */
struct kid {
	pid_t pid;
	int to[2], from[2];
};

static bool kid_start(struct kid *k)
{
	if (pipe(k->to) || pipe(k->from))
		return false;
	k->pid = fork();
	return k->pid >= 0;
}

static bool kid_turn(struct kid *k)
{
	char c;

	return write(k->from[1], "", 1) == 1 && read(k->to[0], &c, 1) == 1;
}

static bool kid_waits(struct kid *k)
{
	char c;

	return read(k->from[0], &c, 1) == 1;
}

static bool kid_go(struct kid *k)
{
	return write(k->to[1], "", 1) == 1;
}

static int kid_end(struct kid *k)
{
	int status = -1, i;

	if (waitpid(k->pid, &status, 0) != k->pid)
		return -1;
	for (i = 0; i < 2; i++) {
		close(k->to[i]);
		close(k->from[i]);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- contents --------------------------------------------------------------- */

static int goes_its_own_way(struct arena *a, struct kid *k)
{
	struct hkr_stats st = stats_of(a);
	int i;

	CHECK(st.shared == NR && st.resident == NR);
	CHECK(st.handed_out == NR + 1 && !st.copied && !st.idle);
	for (i = 0; i < NR; i++)
		CHECK(word_state(a, i) == HKR_WORD_BUSY);
	CHECK(as_filled(a, 0, NR));
	CHECK(word_state(a, EXTRA) == HKR_WORD_BUSY);
	CHECK(all_zero(slot_of(a, EXTRA), SLOT));
	CHECK(word_state(a, GONE) == HKR_WORD_EMPTY);
	CHECK(touch(slot_of(a, GONE), false) == SIGBUS);
	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), 1 + i);
	fill(slot_of(a, EXTRA), 1 + EXTRA);
	CHECK(kid_turn(k));
	for (i = 0; i <= NR; i++)
		CHECK(filled(slot_of(a, i), 1 + i));
	CHECK(!stats_of(a).shared && stats_of(a).copied);
	return 0;
}

TEST_F(fork, child_has_what_was_busy_and_both_go_their_own_way)
{
	struct arena *a = &self->a;
	long before = sysfs("resident");
	struct kid k;
	int i;

	ASSERT_TRUE(kid_start(&k));
	if (!k.pid)
		_exit(goes_its_own_way(a, &k));
	ASSERT_TRUE(kid_waits(&k));
	/* what the child wrote is not here, and what is idle here is still so */
	EXPECT_TRUE(as_filled(a, 0, NR));
	EXPECT_TRUE(all_zero(slot_of(a, EXTRA), SLOT));
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, GONE));
	EXPECT_TRUE(take_again(a, GONE, word_of(a, GONE)));
	EXPECT_TRUE(filled(slot_of(a, GONE), 1));
	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), 7 * i);
	EXPECT_EQ(before + 1 + NR + 1, sysfs("resident"));
	ASSERT_TRUE(kid_go(&k));
	EXPECT_EQ(0, kid_end(&k));
	for (i = 0; i < NR; i++)
		EXPECT_TRUE(filled(slot_of(a, i), 7 * i));
	/* the child copied, so nobody else ever had to */
	EXPECT_EQ(0, stats_of(a).copied);
	EXPECT_EQ(NR + 2, stats_of(a).user_charged);
}

static int sees_none_of_it(struct arena *a, struct kid *k)
{
	CHECK(kid_turn(k));
	CHECK(as_filled(a, 0, NR));
	/* the parent copied: this one has the memory that was there before */
	CHECK(!stats_of(a).copied && !stats_of(a).shared);
	return 0;
}

TEST_F(fork, nothing_is_doubled_before_a_touch_and_the_last_one_keeps)
{
	struct arena *a = &self->a;
	long before = sysfs("resident");
	uint64_t charged = stats_of(a).user_charged;
	struct kid k;
	int i;

	ASSERT_TRUE(kid_start(&k));
	if (!k.pid)
		_exit(sees_none_of_it(a, &k));
	ASSERT_TRUE(kid_waits(&k));
	EXPECT_EQ(before, sysfs("resident"));
	EXPECT_EQ(NR, sysfs("shared"));
	EXPECT_EQ(charged, stats_of(a).user_charged);
	/* a read of one page is enough */
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, touch(slot_of(a, i), false));
	EXPECT_EQ(NR, stats_of(a).copied);
	EXPECT_TRUE(resident_unshared(before + NR));
	EXPECT_EQ(charged + NR, stats_of(a).user_charged);
	EXPECT_TRUE(as_filled(a, 0, NR));
	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), 3);
	ASSERT_TRUE(kid_go(&k));
	EXPECT_EQ(0, kid_end(&k));
	EXPECT_EQ(before, sysfs("resident"));
	EXPECT_EQ(charged, stats_of(a).user_charged);
}

static int exits(void *arg)
{
	return 0;
}

TEST_F(fork, child_that_touches_nothing_costs_no_copy)
{
	struct arena *a = &self->a;
	uint64_t pfn = pfn_of(slot_of(a, 3));

	ASSERT_NE(0, pfn);
	EXPECT_EQ(0, in_child(exits, NULL));
	EXPECT_EQ(0, touch(slot_of(a, 3), true));
	EXPECT_EQ(pfn, pfn_of(slot_of(a, 3)));
	/* those that nobody touches, too */
	EXPECT_TRUE(shared_becomes(a, 0));
	EXPECT_EQ(0, stats_of(a).copied);
	EXPECT_TRUE(as_filled(a, 0, NR));
	EXPECT_LE(SLOT >> 10, smaps_kb(a->base, a->setup.arena_size,
				       "FilePmdMapped"));
}

/* ---- generations ------------------------------------------------------------ */

static int grandchild(void *arg)
{
	struct arena *a = arg;

	CHECK(as_filled(a, 1, NR - 1) && filled(slot_of(a, 0), 5));
	CHECK(all_zero(slot_of(a, EXTRA), SLOT));
	fill(slot_of(a, 0), 6);
	fill(slot_of(a, 1), 6);
	return 0;
}

static int child_with_child(void *arg)
{
	struct arena *a = arg;

	fill(slot_of(a, 0), 5);
	CHECK(in_child(grandchild, a) == 0);
	CHECK(filled(slot_of(a, 0), 5) && as_filled(a, 1, NR - 1));
	return 0;
}

TEST_F(fork, grandchildren)
{
	EXPECT_EQ(0, in_child(child_with_child, &self->a));
	EXPECT_TRUE(as_filled(&self->a, 0, NR));
}

/* the middle one is gone before the grandchild looks */
static int leaves_an_orphan(struct arena *a, int sock)
{
	char c = 0;

	if (fork())
		_exit(0);
	/* until the parent says that the arena has gone */
	CHECK(read(sock, &c, 1) == 1);
	c = as_filled(a, 0, NR) && !stats_of(a).copied ? 'y' : 'n';
	CHECK(write(sock, &c, 1) == 1);
	return 0;
}

TEST_F(fork, child_outlives_its_parents_arena)
{
	struct arena *a = &self->a;
	int sock[2], status;
	char c = 0;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	pid = fork();
	if (!pid) {
		close(sock[0]);
		_exit(leaves_an_orphan(a, sock[1]));
	}
	close(sock[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	arena_close(a);
	EXPECT_TRUE(resident_unshared(NR));
	ASSERT_EQ(1, write(sock[0], "", 1));
	ASSERT_EQ(1, read(sock[0], &c, 1));
	EXPECT_EQ('y', c);
	EXPECT_EQ(0, read(sock[0], &c, 1));
	close(sock[0]);
}

static int executes(void *arg)
{
	execl("/bin/true", "true", NULL);
	return 1;
}

TEST_F(fork, exec_lets_go_of_everything)
{
	struct arena *a = &self->a;

	EXPECT_EQ(0, in_child(executes, NULL));
	EXPECT_EQ(0, touch(slot_of(a, 0), true));
	EXPECT_TRUE(shared_becomes(a, 0));
	EXPECT_EQ(0, stats_of(a).copied);
}

static int waited(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* what its parent has, and then something of its own */
static int reads_and_writes(struct arena *a)
{
	int i;

	CHECK(as_filled(a, 0, NR));
	for (i = 0; i < NR; i += 2)
		fill(slot_of(a, i), 100 + i);
	for (i = 0; i < NR; i++)
		CHECK(filled(slot_of(a, i), i % 2 ? i * 1000 : 100 + i));
	return 0;
}

TEST_F(fork, every_way_to_fork)
{
	char *argv[] = { "true", NULL };
	struct arena *a = &self->a;
	pid_t pid;

	pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		_exit(reads_and_writes(a));
	EXPECT_EQ(0, waited(pid));
	EXPECT_TRUE(as_filled(a, 0, NR));
	pid = _Fork();
	if (!pid)
		_exit(reads_and_writes(a));
	EXPECT_EQ(0, waited(pid));
	EXPECT_TRUE(as_filled(a, 0, NR));
	/* these share the mm until they execute */
	pid = vfork();
	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	EXPECT_EQ(0, waited(pid));
	EXPECT_EQ(0, posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ));
	EXPECT_EQ(0, waited(pid));
	EXPECT_EQ(0, system("true"));
	EXPECT_TRUE(as_filled(a, 0, NR));
	EXPECT_EQ(NR + 2, stats_of(a).user_charged);
}

/* ---- the child's own calls ---------------------------------------------------- */

static int uses_its_view(void *arg)
{
	struct arena *a = arg;
	struct hkr_setup setup;
	long at;

	CHECK(hkr_setup(a->fd, 1, 0, &setup) == -EBUSY);
	CHECK(recycle(a, DROP, 0, 1) == 0);
	CHECK(touch(slot_of(a, 0), false) == SIGBUS);
	CHECK(handout_at(a, 0, 1, COMMIT) == 0);
	CHECK(all_zero(slot_of(a, 0), SLOT));
	CHECK(recycle(a, FRESH, 1, 1) == 0);
	CHECK(all_zero(slot_of(a, 1), SLOT));
	/* what is shared moves without a copy */
	at = handout(a, 1, 0);
	CHECK(at > NR && recycle_to(a, MOVE, 2, 1, at) == 0);
	CHECK(stats_of(a).shared == NR - 3 + 1 && !stats_of(a).copied);
	CHECK(filled(slot_of(a, at), 2 * 1000));
	CHECK(touch(slot_of(a, 2), false) == SIGBUS);
	CHECK(recycle_to(a, MOVE, 3, 1, 4) == -EEXIST);
	CHECK(recycle(a, IDLE, 5, 1) == 0);
	CHECK(trim(a, 0, 0) <= 1 && touch(slot_of(a, 5), false) == SIGBUS);
	CHECK(as_filled(a, 6, NR - 6));
	return 0;
}

TEST_F(fork, commands_act_on_the_callers_view)
{
	struct arena *a = &self->a;
	struct hkr_stats before = stats_of(a);

	EXPECT_EQ(0, in_child(uses_its_view, a));
	EXPECT_TRUE(shared_becomes(a, 0));
	EXPECT_TRUE(same_stats(a, &before));
	EXPECT_TRUE(as_filled(a, 0, NR));
}

static int keeps_the_old(struct arena *a, struct kid *k)
{
	CHECK(kid_turn(k));
	CHECK(as_filled(a, 0, NR));
	return 0;
}

TEST_F(fork, recycling_here_leaves_the_child_what_it_has)
{
	struct arena *a = &self->a;
	struct kid k;
	long at;

	ASSERT_TRUE(kid_start(&k));
	if (!k.pid)
		_exit(keeps_the_old(a, &k));
	ASSERT_TRUE(kid_waits(&k));
	EXPECT_EQ(0, recycle(a, DROP, 0, 2));
	EXPECT_EQ(0, recycle(a, FRESH, 2, 2));
	at = handout(a, 2, 0);
	EXPECT_EQ(0, recycle_to(a, MOVE, 4, 2, at));
	EXPECT_TRUE(all_zero(slot_of(a, 2), 2 * SLOT));
	EXPECT_TRUE(filled(slot_of(a, at), 4000));
	EXPECT_TRUE(filled(slot_of(a, at + 1), 5000));
	memset(slot_of(a, at), 9, 2 * SLOT);
	ASSERT_TRUE(kid_go(&k));
	EXPECT_EQ(0, kid_end(&k));
}

/* ---- reclaim ---------------------------------------------------------------- */

static int is_left_alone(struct arena *a, struct kid *k)
{
	CHECK(kid_turn(k));
	/* the parent let go: nothing to copy any more */
	CHECK(shared_becomes(a, 0));
	CHECK(as_filled(a, 0, NR) && !stats_of(a).copied);
	return 0;
}

TEST_F(fork, what_is_idle_and_shared_frees_nothing_but_is_let_go)
{
	struct arena *a = &self->a;
	struct kid k;
	int i;

	ASSERT_TRUE(kid_start(&k));
	if (!k.pid)
		_exit(is_left_alone(a, &k));
	ASSERT_TRUE(kid_waits(&k));
	EXPECT_EQ(1, trim(a, 0, 0));
	drain_pool(1);
	for (i = 0; i < NR; i++)
		mark_idle(a, i);
	EXPECT_EQ(0, stats_of(a).idle);
	EXPECT_EQ(0, freed_by(NR));
	/* although this arena's decay is never */
	EXPECT_TRUE(shared_becomes(a, 0));
	for (i = 0; i < NR; i++)
		EXPECT_TRUE(word_becomes(a, i, HKR_WORD_EMPTY));
	EXPECT_TRUE(resident_unshared(NR));
	ASSERT_TRUE(kid_go(&k));
	EXPECT_EQ(0, kid_end(&k));
	EXPECT_EQ(0, sysfs("resident"));
}

/* ---- caps ------------------------------------------------------------------- */

static int touches_all(struct arena *a, struct kid *k)
{
	int i, ok = 0;

	CHECK(handout(a, 1, COMMIT) == -EDQUOT);
	for (i = 0; i < NR; i++)
		ok += !touch(slot_of(a, i), true);
	CHECK(kid_turn(k));
	/* what is beyond the cap of all users is a signal, and no more */
	CHECK(ok > 0 && ok < NR);
	for (i = 0; i < NR; i++)
		if (!touch(slot_of(a, i), false))
			CHECK(as_filled(a, i, 1));
	return 0;
}

TEST_F(fork, touch_goes_beyond_the_users_cap_and_not_beyond_that_of_all)
{
	struct arena *a = &self->a;
	struct kid k;
	long more;

	/* to the user's cap */
	for (more = 0; handout(a, 1, COMMIT) >= 0; more++)
		;
	ASSERT_LT(0, more);
	ASSERT_TRUE(kid_start(&k));
	if (!k.pid)
		_exit(touches_all(a, &k));
	ASSERT_TRUE(kid_waits(&k));
	/* so that a touch by this process would be one, too */
	EXPECT_LT(stats_of(a).user_limit, stats_of(a).user_charged);
	ASSERT_TRUE(kid_go(&k));
	EXPECT_EQ(0, kid_end(&k));
	EXPECT_EQ(stats_of(a).user_limit, stats_of(a).user_charged);
	EXPECT_TRUE(as_filled(a, 0, NR));
	EXPECT_EQ(0, recycle(a, DROP, 0, 1));
	EXPECT_EQ(0, handout_at(a, 0, 1, COMMIT));
}

TEST_HARNESS_MAIN
