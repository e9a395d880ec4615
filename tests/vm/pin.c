// SPDX-License-Identifier: GPL-2.0
/*
 * Other users of a slot's pages: direct I/O, other processes' reads, pipes. A
 * page in a pipe is pinned until it is read, which makes it easy to hold.
 */
#include "hkr_test.h"
#include <sys/uio.h>
#include "harness.h"

#define NR_SLOTS	128
#define DISK		"/dev/vda"

/* Slots 0 and 1 are filled with their number; the second page of 0 is piped. */
FIXTURE(pinned)
{
	struct arena a;
	int pipe[2];
	uint64_t pfn;
};

FIXTURE_SETUP(pinned)
{
	struct iovec iov;

	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, 2, COMMIT));
	fill(slot_of(&self->a, 0), 100);
	fill(slot_of(&self->a, 1), 101);
	self->pfn = pfn_of(self->a.base);
	ASSERT_NE(0, self->pfn);
	ASSERT_EQ(0, pipe(self->pipe));
	iov = (struct iovec){ self->a.base + PAGE, PAGE };
	ASSERT_EQ(PAGE, vmsplice(self->pipe[1], &iov, 1, 0));
}

FIXTURE_TEARDOWN(pinned)
{
	arena_close(&self->a);
	close(self->pipe[0]);
	close(self->pipe[1]);
	EXPECT_TRUE(nothing_leaked());
}

/* is what the pipe gives the second page of a slot filled with 100 */
static bool pipe_has_it(int fd)
{
	uint64_t page[PAGE / 8];
	size_t i;

	if (read(fd, page, PAGE) != PAGE)
		return false;
	for (i = 0; i < PAGE / 8; i++)
		if (page[i] != 100 + PAGE / 8 + i)
			return false;
	return true;
}

TEST_F(pinned, slot_that_is_dropped_becomes_an_orphan)
{
	struct arena *a = &self->a;
	struct hkr_stats st;

	ASSERT_EQ(0, recycle(a, DROP, 0, 2));
	EXPECT_EQ(1, sysfs("orphans"));
	st = stats_of(a);
	EXPECT_EQ(1, st.orphaned);
	EXPECT_EQ(0, st.handed_out);
	EXPECT_EQ(0, st.resident);
	EXPECT_EQ(1, st.user_charged);
	EXPECT_EQ(SIGBUS, touch(a->base, false));

	/* the slot has other memory, the folio no other owner */
	ASSERT_EQ(0, handout_at(a, 0, 2, COMMIT));
	EXPECT_TRUE(all_zero(a->base, 2 * SLOT));
	EXPECT_NE(self->pfn, pfn_of(a->base));
	fill(a->base, 7);
	usleep(300000);
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_EQ(2, stats_of(a).user_charged);

	/* from now on it is anybody's, but zeroed */
	EXPECT_TRUE(sysfs_becomes("dirty", 0));
	EXPECT_TRUE(all_in_place());
	EXPECT_EQ(1, next_owner_meets(self->pfn));
}

TEST_F(pinned, slot_that_is_refreshed_leaves_an_orphan)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, recycle(a, FRESH, 0, 2));
	EXPECT_TRUE(all_zero(a->base, 2 * SLOT));
	fill(a->base, 7);
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_EQ(1, stats_of(a).orphaned);
	EXPECT_EQ(3, stats_of(a).user_charged);
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_TRUE(filled(a->base, 7));
}

TEST_F(pinned, slot_that_is_moved_takes_its_pin_along)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 5, 1, 0));
	ASSERT_EQ(0, recycle_to(a, MOVE, 0, 1, 5));
	EXPECT_EQ(0, sysfs("orphans"));
	EXPECT_TRUE(filled(slot_of(a, 5), 100));
	EXPECT_EQ(self->pfn, pfn_of(slot_of(a, 5)));
	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
}

TEST_F(pinned, slot_is_not_trimmed)
{
	struct arena *a = &self->a;
	uint64_t word;

	mark_idle(a, 0);
	word = word_of(a, 0);
	EXPECT_EQ(0, stats_of(a).idle);
	EXPECT_EQ(0, trim(a, 0, 0));
	EXPECT_EQ(word, word_of(a, 0));
	EXPECT_TRUE(filled(a->base, 100));
	mark_idle(a, 1);
	/* nor does it stand in the way of another */
	EXPECT_EQ(1, trim(a, 0, 1));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));

	/* mapped by PTEs it is only found out after the unmapping */
	ASSERT_EQ(0, mprotect(a->base, PAGE, PROT_READ));
	EXPECT_TRUE(filled(a->base, 100));
	EXPECT_EQ(0, trim(a, 0, 0));
	EXPECT_EQ(word, word_of(a, 0));
	EXPECT_TRUE(filled(a->base, 100));
	/* FROM_IDLE gets its memory elsewhere */
	ASSERT_EQ(0, handout_at(a, 8, 1, COMMIT | FROM_IDLE));
	EXPECT_EQ(0, stats_of(a).served_idle);
	EXPECT_EQ(word, word_of(a, 0));

	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
	EXPECT_EQ(1, stats_of(a).idle);
	EXPECT_EQ(1, trim(a, 0, 0));
	EXPECT_EQ(0, stats_of(a).orphaned);
}

TEST_F(pinned, slot_outlives_its_arena_as_an_orphan)
{
	arena_close(&self->a);
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_EQ(0, sysfs("resident"));
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
}

/* the pipe is also another process's; its owner is gone */
TEST_F(pinned, slot_outlives_its_process_as_an_orphan)
{
	struct iovec iov;
	uint64_t *pfn;
	struct arena b;
	int status;
	pid_t pid;

	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
	pfn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pfn);
	pid = fork();
	if (!pid) {
		if (arena_open(&b, 4) || handout(&b, 4, COMMIT))
			_exit(1);
		fill(b.base, 100);
		*pfn = pfn_of(b.base);
		iov = (struct iovec){ b.base + PAGE, PAGE };
		if (vmsplice(self->pipe[1], &iov, 1, 0) != PAGE)
			_exit(2);
		kill(getpid(), SIGKILL);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(SIGKILL, status);
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_EQ(0, next_owner_meets(*pfn));
	EXPECT_TRUE(pipe_has_it(self->pipe[0]));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
}

FIXTURE(used)
{
	struct arena a;
};

FIXTURE_SETUP(used)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, 2, COMMIT));
}

FIXTURE_TEARDOWN(used)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(used, slot_is_a_buffer_for_direct_io)
{
	char *from = slot_of(&self->a, 0), *to = slot_of(&self->a, 1);
	int fd = open(DISK, O_RDWR | O_DIRECT);

	ASSERT_LE(0, fd) {
		TH_LOG("no %s", DISK);
	}
	fill(from, 1);
	ASSERT_EQ(SLOT, pwrite(fd, from, SLOT, 0));
	ASSERT_EQ(SLOT, pread(fd, to, SLOT, 0));
	EXPECT_TRUE(filled(to, 1));
	/* a part, off by a sector, over the edge between two slots */
	memset(from, 0, 2 * SLOT);
	ASSERT_EQ(2 * PAGE, pread(fd, to - PAGE + 512, 2 * PAGE, PAGE));
	EXPECT_EQ(1 + PAGE / 8, *(uint64_t *)(to - PAGE + 512));
	EXPECT_EQ(0, *(uint64_t *)(to - PAGE + 504));
	EXPECT_EQ(1 + 2 * PAGE / 8, *(uint64_t *)(to + 512));
	EXPECT_EQ(0, *(uint64_t *)(to + PAGE + 512));

	/* into memory that was never touched, and into what is not there */
	ASSERT_EQ(0, recycle(&self->a, FRESH, 0, 2));
	ASSERT_EQ(SLOT, pread(fd, to, SLOT, 0));
	EXPECT_TRUE(filled(to, 1));
	EXPECT_EQ(-1, pread(fd, slot_of(&self->a, 2), SLOT, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, stats_of(&self->a).orphaned);
	close(fd);
}

TEST_F(used, slot_is_read_and_written_by_another_process)
{
	struct arena *a = &self->a;
	static char buf[4 * PAGE];
	struct iovec local = { buf, sizeof(buf) };
	struct iovec remote = { slot_of(a, 1) - PAGE, sizeof(buf) };
	pid_t pid, parent = getpid();
	int status;

	fill(slot_of(a, 0), 1);
	fill(slot_of(a, 1), 2);
	pid = fork();
	if (!pid) {
		uint64_t *p = (void *)(buf + PAGE);

		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) !=
		    sizeof(buf))
			_exit(1);
		if (p[-1] != 1 + SLOT / 8 - 1 || p[0] != 2 || p[1] != 3)
			_exit(2);
		p[0] = 77;
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) !=
		    sizeof(buf))
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(77, *(uint64_t *)slot_of(a, 1));
	EXPECT_EQ(3, *(uint64_t *)(slot_of(a, 1) + 8));
}

TEST_HARNESS_MAIN
