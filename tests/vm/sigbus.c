// SPDX-License-Identifier: GPL-2.0
/* No way of touching a slot that is not handed out allocates anything. */
#include "hkr_test.h"
#include <sys/uio.h>
#include "harness.h"

#define NR_SLOTS	64

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/* Slot 1 is handed out with memory, 2 was handed out and dropped. */
FIXTURE(arena)
{
	struct arena a;
	struct hkr_stats before;
	long live;
};

FIXTURE_SETUP(arena)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 1, 2, COMMIT));
	fill(slot_of(&self->a, 1), 1);
	fill(slot_of(&self->a, 2), 2);
	ASSERT_EQ(0, recycle(&self->a, DROP, 2, 1));
	self->before = stats_of(&self->a);
	ASSERT_EQ(1, self->before.resident);
	self->live = sysfs("live_folios");
}

FIXTURE_TEARDOWN(arena)
{
	EXPECT_TRUE(same_stats(&self->a, &self->before));
	EXPECT_EQ(1, sysfs("resident"));
	EXPECT_EQ(self->live, sysfs("live_folios"));
	munlockall();
	EXPECT_TRUE(filled(slot_of(&self->a, 1), 1));
	arena_close(&self->a);
}

TEST_F(arena, touched_where_nothing_is_handed_out_is_sigbus)
{
	int i;

	for (i = 0; i < NR_SLOTS; i++) {
		if (i == 1)
			continue;
		EXPECT_EQ(SIGBUS, touch(slot_of(&self->a, i), false));
		EXPECT_EQ(SIGBUS, touch(slot_of(&self->a, i + 1) - 1, true));
	}
}

TEST_F(arena, scribbled_words_do_not_hand_out)
{
	int i;

	for (i = 2; i < NR_SLOTS; i++)
		self->a.words[i] = HKR_WORD_MAKE(HKR_WORD_BUSY, 0ULL, 7ULL);
	for (i = 2; i < NR_SLOTS; i++)
		EXPECT_EQ(SIGBUS, touch(slot_of(&self->a, i), true));
}

TEST_F(arena, under_mlockall_gets_no_memory)
{
	/* both may say that not all could be locked; what counts is memory */
	mlockall(MCL_CURRENT | MCL_FUTURE);
	EXPECT_EQ(SIGBUS, touch(slot_of(&self->a, 0), true));
	EXPECT_EQ(SIGBUS, touch(slot_of(&self->a, 2), true));
	EXPECT_NE(0, mlock(slot_of(&self->a, 2), SLOT));
}

TEST_F(arena, that_is_mapped_under_mlockall_gets_no_memory)
{
	struct arena b;
	void *p;

	mlockall(MCL_FUTURE);
	ASSERT_EQ(0, arena_open(&b, NR_SLOTS));
	EXPECT_EQ(0, stats_of(&b).resident);
	EXPECT_EQ(0, stats_of(&b).handed_out);
	EXPECT_EQ(SIGBUS, touch(b.base, false));
	arena_close(&b);

	b.fd = open(HKR_DEVICE, O_RDWR);
	ASSERT_EQ(0, hkr_setup(b.fd, NR_SLOTS, 0, &b.setup));
	p = mmap(NULL, b.setup.arena_size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_POPULATE, b.fd, 0);
	EXPECT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, stats_of(&b).resident);
	munmap(p, b.setup.arena_size);
	close(b.fd);
}

TEST_F(arena, cannot_be_populated)
{
	char *p = self->a.base;

	EXPECT_EQ(-1, madvise(p, NR_SLOTS * SLOT, MADV_POPULATE_READ));
	EXPECT_EQ(-1, madvise(p, NR_SLOTS * SLOT, MADV_POPULATE_WRITE));
	EXPECT_EQ(-1, madvise(p + 2 * SLOT, SLOT, MADV_POPULATE_READ));
	EXPECT_EQ(-1, madvise(p + 2 * SLOT, PAGE, MADV_POPULATE_WRITE));
	madvise(p, NR_SLOTS * SLOT, MADV_WILLNEED);
}

TEST_F(arena, read_or_written_by_the_kernel_is_efault)
{
	char *hole = slot_of(&self->a, 2), byte = 1;
	struct iovec local = { &byte, 1 }, remote = { hole, 1 };
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(-1, write(pipes[1], hole, 1));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(1, write(pipes[1], &byte, 1));
	EXPECT_EQ(-1, read(pipes[0], hole, 1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
}

TEST_HARNESS_MAIN
