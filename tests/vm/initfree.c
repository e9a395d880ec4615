// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel that was started with init_on_free=1 (settings): said in the log and
 * in sysfs, what comes from the buddy allocator counts as zeroed by nobody, and
 * no mark leaves what a process wrote lying about.
 */
#include "zeroing.h"
#include <sys/klog.h>
#include "harness.h"

#define NR	8
#define SYSLOG_ACTION_READ_ALL 3

TEST(it_is_noticed_and_said)
{
	static char log[1 << 20];
	int len = klogctl(SYSLOG_ACTION_READ_ALL, log, sizeof(log) - 1);

	ASSERT_LT(0, len);
	EXPECT_EQ(1, sysfs("init_on_free"));
	EXPECT_TRUE(strstr(log, "hakmem_region: init_on_free=1") != NULL);
}

TEST(new_memory_costs_no_zeroing)
{
	long in_line = sysfs("zeroed_inline_bytes");
	struct hkr_stats st;
	struct arena a;
	int i;

	ASSERT_EQ(0, arena_open(&a, NR));
	ASSERT_EQ(0, handout_at(&a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++)
		EXPECT_TRUE(all_zero(slot_of(&a, i), SLOT));
	st = stats_of(&a);
	/* the pool was empty: see settings */
	EXPECT_EQ(NR, st.served_new);
	EXPECT_EQ(0, st.bytes_zeroed_inline);
	EXPECT_EQ(in_line, sysfs("zeroed_inline_bytes"));
	arena_close(&a);
	EXPECT_TRUE(nothing_leaked());
}

TEST(no_mark_leaves_memory_dirty)
{
	ASSERT_EQ(0, set_param("zero_low_mb", "0"));
	ASSERT_EQ(0, set_param("zero_high_mb", "0"));
	ASSERT_EQ(0, leave_dirty(NR));
	EXPECT_TRUE(sysfs_becomes("dirty", 0));
	EXPECT_TRUE(nothing_leaked());
	EXPECT_LE(NR, sysfs("clean"));
	EXPECT_EQ(0, set_param("zero_high_mb", "-1"));
	EXPECT_EQ(0, set_param("zero_low_mb", "-1"));
}

TEST_HARNESS_MAIN
