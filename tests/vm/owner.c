// SPDX-License-Identifier: GPL-2.0
/* An arena belongs to one process; others can neither use nor keep it. */
#include "hkr_test.h"
#include <pthread.h>
#include <sys/socket.h>
#include "harness.h"

#define NR_SLOTS	16

FIXTURE(arena)
{
	struct arena a;
};

FIXTURE_SETUP(arena)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, 3, COMMIT));
	fill(slot_of(&self->a, 0), 10);
	fill(slot_of(&self->a, 1), 11);
}

FIXTURE_TEARDOWN(arena)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

/* 0, or the line of the call that did not fail as it should */
static int stranger(int fd)
{
	struct arena a = { .fd = fd };
	struct hkr_info info = { .size = sizeof(info) };
	struct hkr_stats st = { .size = sizeof(st) };
	struct hkr_setup s;

#define EXPECT_EPERM(ret)	do { if ((ret) != -EPERM) return 10; } while (0)
	EXPECT_EPERM(hkr_setup(fd, 1, 0, &s));
	EXPECT_EPERM(handout(&a, 1, COMMIT));
	EXPECT_EPERM(handout_at(&a, 4, 1, 0));
	EXPECT_EPERM(recycle(&a, DROP, 0, 1));
	EXPECT_EPERM(recycle(&a, FRESH, 0, 1));
	EXPECT_EPERM(recycle_to(&a, MOVE, 0, 1, 2));
	EXPECT_EPERM(trim(&a, 0, 0));
	EXPECT_EPERM(hkr_call(fd, HKR_IOC_STATS, &st));
	if (mmap(NULL, NR_SLOTS * SLOT, PROT_READ, MAP_SHARED, fd, 0) !=
	    MAP_FAILED || errno != EPERM)
		return 11;
	if (mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, HKR_OFF_CONTROL) !=
	    MAP_FAILED || errno != EPERM)
		return 12;
	/* INFO is for everybody */
	return hkr_call(fd, HKR_IOC_INFO, &info) ? 13 : 0;
}

static int forked_child(void *arg)
{
	struct arena *a = arg;

	/* what a child does to its mappings does not reach the parent */
	mprotect(a->base, SLOT / 2, PROT_READ);
	madvise(a->base, SLOT, MADV_DONTNEED);
	munmap(slot_of(a, 1), SLOT);
	/* or this child's ring might be mapped there, and end with the arena */
	if (mmap(slot_of(a, 1), SLOT, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return 3;
	if (!filled(slot_of(a, 0), 10) || recycle(a, DROP, 0, 3))
		return 1;
	/* and with the mappings its view ends */
	munmap(a->base, a->setup.arena_size);
	if (trim(a, 0, 0) != -EBADFD)
		return 2;
	munmap((void *)a->header, a->setup.control_size);
	return stranger(a->fd);
}

static int forks_again(void *arg)
{
	return in_child(forked_child, arg);
}

TEST_F(arena, is_not_changed_by_its_children)
{
	struct arena *a = &self->a;
	struct hkr_stats before = stats_of(a);
	int i;

	EXPECT_EQ(0, in_child(forked_child, a));
	EXPECT_EQ(0, in_child(forks_again, a));
	/* what they had is counted until the last has let go, which may be a ring */
	for (i = 0; i < 2000 && !same_stats(a, &before); i++)
		usleep(10000);
	EXPECT_TRUE(same_stats(a, &before));
	EXPECT_TRUE(filled(slot_of(a, 0), 10));
	EXPECT_TRUE(filled(slot_of(a, 1), 11));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 0));
	EXPECT_EQ(0, recycle(a, DROP, 0, 1));
	EXPECT_EQ(0, handout_at(a, 0, 1, COMMIT));
	EXPECT_EQ(0, touch(slot_of(a, 0), true));
}

TEST_F(arena, is_recycled_under_a_living_child)
{
	struct arena *a = &self->a;
	int status;
	pid_t pid = fork();

	if (!pid) {
		while (1)
			pause();
	}
	ASSERT_LE(0, pid);
	ASSERT_EQ(0, recycle(a, FRESH, 0, 2));
	EXPECT_TRUE(all_zero(slot_of(a, 0), 2 * SLOT));
	ASSERT_EQ(0, recycle(a, DROP, 0, 3));
	/* the child has three, and has them for as long as it lives */
	EXPECT_TRUE(resident_unshared(3));
	EXPECT_EQ(0, stats_of(a).orphaned);
	ASSERT_EQ(0, handout_at(a, 0, 3, COMMIT));
	arena_close(a);
	EXPECT_EQ(3, sysfs("resident"));
	kill(pid, SIGKILL);
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
}

static void *other_thread(void *arg)
{
	struct arena *a = arg;

	if (!filled(slot_of(a, 0), 10) || recycle(a, FRESH, 0, 1) ||
	    !all_zero(slot_of(a, 0), SLOT))
		return "failed";
	return NULL;
}

TEST_F(arena, is_all_threads)
{
	pthread_t thread;
	void *failed;

	ASSERT_EQ(0, pthread_create(&thread, NULL, other_thread, &self->a));
	ASSERT_EQ(0, pthread_join(thread, &failed));
	EXPECT_EQ(NULL, failed);
}

static int send_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

static int recv_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))] = { }, byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(sock, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

/* makes an arena, passes the descriptor on, and ends when told to */
static void passing_owner(int sock, bool killed)
{
	struct arena a;
	char byte;

	if (arena_open(&a, NR_SLOTS) || handout(&a, 5, COMMIT))
		_exit(1);
	fill(a.base, 1);
	if (send_fd(sock, a.fd) || read(sock, &byte, 1) != 1)
		_exit(2);
	if (!filled(a.base, 1) || stats_of(&a).resident != 5)
		_exit(3);
	if (killed)
		kill(getpid(), SIGKILL);
	_exit(0);
}

FIXTURE(passed)
{
	int sock[2];
};

FIXTURE_VARIANT(passed)
{
	bool killed;
};

FIXTURE_VARIANT_ADD(passed, owner_exits) { .killed = false };
FIXTURE_VARIANT_ADD(passed, owner_is_killed) { .killed = true };

FIXTURE_SETUP(passed)
{
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, self->sock));
}

FIXTURE_TEARDOWN(passed)
{
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(passed, descriptor_is_no_use_and_keeps_no_memory)
{
	int fd, status;
	pid_t pid = fork();

	if (!pid)
		passing_owner(self->sock[1], variant->killed);
	ASSERT_LE(0, pid);
	fd = recv_fd(self->sock[0]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, stranger(fd));
	EXPECT_EQ(5, sysfs("resident"));
	ASSERT_EQ(1, write(self->sock[0], "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(variant->killed ? SIGKILL : 0, status);

	/* the file lives, its memory does not */
	EXPECT_TRUE(nothing_leaked());
	EXPECT_EQ(0, stranger(fd));
	close(fd);
}

/* this program again, after exec: what has become of the descriptor */
static void __attribute__((constructor)) after_exec(void)
{
	const char *fd = getenv("HKR_TEST_FD");

	if (!fd)
		return;
	if (!sysfs_becomes("resident", 0))
		_exit(20);
	_exit(stranger(atoi(fd)));
}

static int execs(void *arg)
{
	char fd[16];
	struct arena a;

	if (arena_open(&a, NR_SLOTS) || handout(&a, 3, COMMIT))
		return 1;
	fill(a.base, 1);
	fcntl(a.fd, F_SETFD, 0);
	snprintf(fd, sizeof(fd), "%d", a.fd);
	setenv("HKR_TEST_FD", fd, 1);
	execl("/proc/self/exe", "owner", NULL);
	return 2;
}

TEST(exec_ends_the_arena)
{
	EXPECT_EQ(0, in_child(execs, NULL));
	EXPECT_TRUE(nothing_leaked());
}

TEST_HARNESS_MAIN
