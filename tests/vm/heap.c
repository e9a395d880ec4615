// SPDX-License-Identifier: GPL-2.0
/*
 * libhakmem on the real device: what tests/native runs against a stand-in.
 * settings loads the module without a reserve, so that all idle memory may go.
 */
#include "hkr_test.h"
#include <hakmem.h>
#include "../kselftest_harness.h"

#define MB	(1UL << 20)
#define TRIGGER	"/sys/kernel/debug/hakmem_region/shrink"

FIXTURE(heap)
{
};

FIXTURE_SETUP(heap)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };

	ASSERT_EQ(0, hkm_init(&cfg));
}

FIXTURE_TEARDOWN(heap)
{
	hkm_shutdown();
	/* the arena stays with the process, its memory does not */
	EXPECT_TRUE(sysfs_becomes("resident", 0));
}

static struct hkm_heap_stats heap_stats(void)
{
	struct hkm_heap_stats st;

	hkm_get_heap_stats(&st);
	return st;
}

TEST_F(heap, block_comes_from_the_device_and_is_reused_as_it_is)
{
	char *p = hkm_malloc(6 * MB), *q;
	long faults;

	ASSERT_NE(NULL, p);
	EXPECT_STREQ("region", heap_stats().backend);
	EXPECT_EQ(3, sysfs("resident"));
	EXPECT_EQ(0, (uintptr_t)p % SLOT);
	EXPECT_TRUE(all_zero(p, 6 * MB));
	memset(p, 7, 6 * MB);
	faults = minor_faults();
	hkm_free(p);
	q = hkm_malloc(6 * MB);
	EXPECT_EQ(p, q);
	EXPECT_EQ(7, q[0]);
	EXPECT_EQ(7, q[6 * MB - 1]);
	EXPECT_EQ(faults, minor_faults());
	EXPECT_EQ(1, heap_stats().ring.hits);
	hkm_free(q);
}

TEST_F(heap, block_that_the_kernel_took_is_made_whole_again)
{
	char *p = hkm_malloc(8 * MB);
	int fd = open(TRIGGER, O_WRONLY | O_CLOEXEC), i;

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	memset(p, 7, 8 * MB);
	hkm_free(p);
	/* spare folios go first */
	for (i = 0; i < 100 && sysfs("resident") > 2; i++)
		ASSERT_EQ(1, write(fd, "1", 1));
	EXPECT_GE(2, sysfs("resident"));
	p = hkm_malloc(8 * MB);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(4, sysfs("resident"));
	memset(p, 9, 8 * MB);
	EXPECT_EQ(9, p[8 * MB - 1]);
	hkm_free(p);
	close(fd);
}

TEST_F(heap, idle_blocks_go_back_without_a_call)
{
	char *p = hkm_malloc(16 * MB);

	ASSERT_NE(NULL, p);
	memset(p, 1, 16 * MB);
	EXPECT_EQ(8, sysfs("resident"));
	hkm_free(p);
	EXPECT_TRUE(sysfs_becomes("resident", 0));
	p = hkm_malloc(16 * MB);
	ASSERT_NE(NULL, p);
	memset(p, 2, 16 * MB);
	hkm_free(p);
}

/* more than a cap allows comes from anonymous memory */
TEST_F(heap, block_beyond_the_caps_is_anonymous)
{
	char *p = hkm_malloc(300 * MB);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, sysfs("resident"));
	p[0] = p[300 * MB - 1] = 1;
	hkm_free(p);
}

static int use_in_child(void *arg)
{
	char *mine = hkm_malloc(4 * MB);

	if (!mine)
		return 1;
	memset(mine, 3, 4 * MB);
	/* the parent's block: nothing to touch, but freeing it is no crash */
	hkm_free(arg);
	hkm_free(mine);
	return 0;
}

TEST_F(heap, child_has_anonymous_memory_of_its_own)
{
	char *p = hkm_malloc(4 * MB);

	ASSERT_NE(NULL, p);
	memset(p, 5, 4 * MB);
	EXPECT_EQ(0, in_child(use_in_child, p));
	EXPECT_EQ(5, p[0]);
	EXPECT_EQ(5, p[4 * MB - 1]);
	hkm_free(p);
}

TEST_HARNESS_MAIN
