// SPDX-License-Identifier: GPL-2.0
/*
 * fork() where something is in its way: mappings that are in parts or missing,
 * pins, descriptors and privileges that are gone, no memory, and forks that fail
 * half way.
 */
#include "hkr_test.h"
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "harness.h"

#define NR_SLOTS	16
#define NR		6

#define CHECK(cond)	do { if (!(cond)) return __LINE__ & 0xff; } while (0)

FIXTURE(ways)
{
	struct arena a;
};

FIXTURE_SETUP(ways)
{
	int i;

	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++)
		fill(slot_of(&self->a, i), i * 1000);
}

FIXTURE_TEARDOWN(ways)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

static bool as_filled(struct arena *a, uint64_t first, uint64_t nr)
{
	for (; nr--; first++)
		if (!filled(slot_of(a, first), first * 1000))
			return false;
	return true;
}

static bool all_its_own_again(struct arena *a)
{
	int i;

	for (i = 0; i < 2000 && stats_of(a).shared; i++)
		usleep(10000);
	return i < 2000;
}

/* ---- mappings ----------------------------------------------------------------- */

static int has_no_words(void *arg)
{
	struct arena *a = arg;

	CHECK(touch((char *)a->words, false) == SIGSEGV);
	CHECK(as_filled(a, 0, NR));
	fill(slot_of(a, 0), 5);
	/* the words can be had again, and are those of this process */
	CHECK(mmap((void *)a->header, a->setup.control_size,
		   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, a->fd,
		   HKR_OFF_CONTROL) == (void *)a->header);
	CHECK(a->header->magic == HKR_CONTROL_MAGIC);
	mark_idle(a, 1);
	CHECK(word_state(a, 2) == HKR_WORD_BUSY);
	return 0;
}

TEST_F(ways, control_pages_are_not_inherited)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, madvise((void *)a->header, a->setup.control_size,
			     MADV_DONTFORK));
	EXPECT_EQ(0, in_child(has_no_words, a));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 1));
	EXPECT_TRUE(as_filled(a, 0, NR));
}

static int has_no_arena(void *arg)
{
	struct arena *a = arg;

	CHECK(touch(a->base, false) == SIGSEGV);
	CHECK(word_state(a, 0) == HKR_WORD_EMPTY);
	CHECK(handout(a, 1, COMMIT) == -EBADFD);
	/* one that is as new */
	CHECK(mmap(a->base, a->setup.arena_size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED, a->fd, 0) == a->base);
	CHECK(touch(a->base, false) == SIGBUS);
	CHECK(handout_at(a, 0, 1, COMMIT) == 0);
	CHECK(all_zero(a->base, SLOT));
	fill(a->base, 9);
	return 0;
}

TEST_F(ways, arena_is_not_inherited)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, madvise(a->base, a->setup.arena_size, MADV_DONTFORK));
	EXPECT_EQ(0, in_child(has_no_arena, a));
	/* nothing was shared for nothing */
	EXPECT_EQ(0, stats_of(a).copied + stats_of(a).shared);
	EXPECT_TRUE(as_filled(a, 0, NR));
}

static int has_parts(void *arg)
{
	struct arena *a = arg;
	struct hkr_stats st = stats_of(a);

	/* slot 0 is in two VMAs, slot 4 in none */
	CHECK(st.shared == NR - 1 && st.handed_out == NR - 1);
	CHECK(as_filled(a, 0, 4) && as_filled(a, 5, 1));
	CHECK(word_state(a, 4) == HKR_WORD_EMPTY);
	CHECK(touch(slot_of(a, 0), true) == SIGSEGV);
	CHECK(touch(slot_of(a, 0) + SLOT / 2, true) == 0);
	/* part by part; with the last one all is gone */
	munmap(a->base, SLOT / 2);
	munmap(slot_of(a, 5), a->setup.arena_size - 5 * SLOT);
	CHECK(as_filled(a, 1, 3) && stats_of(a).resident == NR - 1);
	munmap(a->base, 5 * SLOT);
	CHECK(trim(a, 0, 0) == -EBADFD);
	return 0;
}

TEST_F(ways, arena_is_in_parts)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, mprotect(a->base, SLOT / 2, PROT_READ));
	ASSERT_EQ(0, munmap(slot_of(a, 4), SLOT));
	EXPECT_EQ(0, in_child(has_parts, a));
	EXPECT_TRUE(as_filled(a, 0, 4));
	EXPECT_EQ(NR, stats_of(a).handed_out);
}

static int maps_again(void *arg)
{
	struct arena *a = arg;
	uint64_t *again = mmap(NULL, a->setup.control_size,
			       PROT_READ | PROT_WRITE, MAP_SHARED, a->fd,
			       HKR_OFF_CONTROL);

	CHECK(again != MAP_FAILED);
	CHECK(mmap(NULL, a->setup.arena_size, PROT_READ, MAP_SHARED, a->fd,
		   0) == MAP_FAILED && errno == EBUSY);
	mark_idle(a, 0);
	CHECK(again[a->setup.words_offset / 8] == word_of(a, 0));
	return as_filled(a, 1, NR - 1) ? 0 : 1;
}

TEST_F(ways, child_maps_the_descriptor_again)
{
	EXPECT_EQ(0, in_child(maps_again, &self->a));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(&self->a, 0));
}

/* ---- what the process has lost --------------------------------------------------- */

static int closes_all(void *arg)
{
	closefrom(3);
	CHECK(as_filled(arg, 0, NR));
	fill(slot_of(arg, 0), 5);
	return filled(slot_of(arg, 0), 5) ? 0 : 1;
}

static int closed_all(void *arg)
{
	closefrom(3);
	CHECK(in_child(closes_all, arg) == 0);
	return as_filled(arg, 0, NR) ? 0 : 1;
}

TEST_F(ways, descriptors_are_closed)
{
	EXPECT_EQ(0, in_child(closes_all, &self->a));
	EXPECT_EQ(0, in_child(closed_all, &self->a));
	EXPECT_TRUE(as_filled(&self->a, 0, NR));
}

static int uses_it(void *arg)
{
	struct arena *a = arg;

	CHECK(as_filled(a, 0, NR));
	fill(slot_of(a, 0), 5);
	CHECK(recycle(a, DROP, 0, 1) == 0);
	CHECK(handout_at(a, 0, 1, COMMIT) == 0);
	return all_zero(slot_of(a, 0), SLOT) ? 0 : 1;
}

static int is_nobody(void *arg)
{
	CHECK(!chroot("/proc/self/fd") && !chdir("/"));
	CHECK(!setgid(1000) && !setuid(1000));
	CHECK(in_child(uses_it, arg) == 0);
	return as_filled(arg, 0, NR) ? 0 : 1;
}

TEST_F(ways, privileges_and_root_are_gone)
{
	EXPECT_EQ(0, in_child(is_nobody, &self->a));
}

/* ---- pins ------------------------------------------------------------------- */

static int has_a_copy(void *arg)
{
	struct hkr_stats st = stats_of(arg);

	CHECK(st.copied == 1 && st.shared == NR - 1);
	CHECK(as_filled(arg, 0, NR));
	fill(slot_of(arg, 1), 5);
	return 0;
}

TEST_F(ways, pinned_memory_stays_with_the_parent)
{
	struct arena *a = &self->a;
	struct iovec iov = { slot_of(a, 1) + PAGE, PAGE };
	uint64_t pfn = pfn_of(iov.iov_base);
	char page[PAGE];
	int pipe_fd[2];

	ASSERT_EQ(0, pipe(pipe_fd));
	ASSERT_EQ(PAGE, vmsplice(pipe_fd[1], &iov, 1, 0));
	EXPECT_EQ(0, in_child(has_a_copy, a));
	EXPECT_TRUE(as_filled(a, 1, 1));
	EXPECT_EQ(pfn, pfn_of(iov.iov_base));
	/* what it writes now the pinner sees */
	memset(iov.iov_base, 0x5a, PAGE);
	ASSERT_EQ(PAGE, read(pipe_fd[0], page, PAGE));
	EXPECT_EQ(0, memcmp(page, iov.iov_base, PAGE));
	EXPECT_EQ(0x5a, page[PAGE - 1]);
	EXPECT_EQ(0, stats_of(a).copied);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* ---- forks that fail ------------------------------------------------------------ */

TEST_F(ways, fork_fails_after_the_mappings_were_copied)
{
	struct arena *a = &self->a;
	pid_t taken = getpid();
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&taken,
		.set_tid_size = 1,
	};
	int i;

	for (i = 0; i < 20; i++) {
		long pid = syscall(SYS_clone3, &args, sizeof(args));

		if (!pid)
			_exit(1);
		ASSERT_EQ(-1, pid);
		ASSERT_EQ(EEXIST, errno);
	}
	EXPECT_EQ(0, pfn_of(slot_of(a, 1)));
	EXPECT_TRUE(all_its_own_again(a));
	EXPECT_EQ(0, stats_of(a).copied);
	EXPECT_TRUE(as_filled(a, 0, NR));
	EXPECT_EQ(NR, stats_of(a).user_charged);
}

static bool set_vm(const char *name, long value)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
	f = fopen(path, "we");
	return f && fprintf(f, "%ld", value) > 0 && !fclose(f);
}

static long committed_kb(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Committed_AS: %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/* a mapping above the arena that may not be there twice */
TEST_F(ways, fork_fails_between_two_mappings)
{
	size_t big = 64UL << 30;
	struct arena b;
	void *above;
	pid_t pid;
	int err;

	ASSERT_TRUE(set_vm("overcommit_memory", 1));
	above = mmap(NULL, big, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, above);
	ASSERT_EQ(0, arena_open(&b, NR_SLOTS));
	ASSERT_GT((char *)above, b.base);
	ASSERT_EQ(0, handout_at(&b, 0, 2, COMMIT));
	fill(slot_of(&b, 0), 0);
	fill(slot_of(&b, 1), 1000);
	ASSERT_TRUE(set_vm("overcommit_kbytes",
			   committed_kb() + (big >> 11)));
	ASSERT_TRUE(set_vm("overcommit_memory", 2));
	pid = fork();
	err = errno;
	if (!pid)
		_exit(1);
	ASSERT_TRUE(set_vm("overcommit_memory", 0));
	ASSERT_TRUE(set_vm("overcommit_ratio", 50));
	EXPECT_EQ(-1, pid);
	EXPECT_EQ(ENOMEM, err);
	/* it came as far as the arena */
	EXPECT_EQ(0, pfn_of(slot_of(&b, 1)));
	EXPECT_TRUE(all_its_own_again(&b));
	EXPECT_EQ(0, stats_of(&b).copied);
	EXPECT_TRUE(as_filled(&b, 0, 2));
	munmap(above, big);
	EXPECT_TRUE(as_filled(&self->a, 0, NR));
	arena_close(&b);
}

/* ---- no memory for a view ---------------------------------------------------------- */

#define MANY		2000
#define FAR		64	/* slots that share an allocation of records */

/* tells whether it sees slot 0, and stays */
static void look_and_stay(struct arena *a, int fd)
{
	char c = touch(slot_of(a, 0), false) ? 'n' : 'y';
	long ret = handout(a, 1, 0);

	/* without a view, or with one that did not get as far as the arena */
	if (c == 'n' && ret != -EPERM && ret != -EBADFD)
		c = '?';
	if (write(fd, &c, 1) != 1)
		_exit(1);
	while (1)
		pause();
}

TEST(fork_without_memory_for_a_view)
{
	struct hkr_info info = { .size = sizeof(info) };
	char seen = 'y', good = 'y';
	pid_t pid[MANY];
	struct arena a;
	int nr, fd[2], dev = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	uint64_t i;

	ASSERT_EQ(0, hkr_call(dev, HKR_IOC_INFO, &info));
	close(dev);
	ASSERT_EQ(0, arena_open(&a, info.max_slots));
	/* each child's records cost as much as can be */
	for (i = 0; i < info.max_slots && i / FAR < info.open_limit; i += FAR)
		ASSERT_EQ(0, handout_at(&a, i, 1, i ? 0 : COMMIT));
	fill(slot_of(&a, 0), 77);
	ASSERT_EQ(0, pipe(fd));
	/* until the cap on kernel memory is met */
	for (nr = 0; nr < MANY && seen == 'y'; nr++) {
		pid[nr] = fork();
		if (!pid[nr])
			look_and_stay(&a, fd[1]);
		ASSERT_LE(0, pid[nr]);
		ASSERT_EQ(1, read(fd[0], &seen, 1));
	}
	EXPECT_EQ('n', seen);
	TH_LOG("%d children had views", nr - 1);
	EXPECT_TRUE(filled(slot_of(&a, 0), 77));
	while (nr--) {
		kill(pid[nr], SIGKILL);
		waitpid(pid[nr], NULL, 0);
	}
	pid[0] = fork();
	if (!pid[0])
		look_and_stay(&a, fd[1]);
	EXPECT_EQ(1, read(fd[0], &good, 1));
	EXPECT_EQ('y', good);
	kill(pid[0], SIGKILL);
	waitpid(pid[0], NULL, 0);
	arena_close(&a);
	EXPECT_TRUE(nothing_leaked());
}

TEST_HARNESS_MAIN
