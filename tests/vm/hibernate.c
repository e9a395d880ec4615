// SPDX-License-Identifier: GPL-2.0
/*
 * Before the machine hibernates, the pool, the reserve too, and all idle slots
 * are given back; after it the reserve is filled again. Whoever opens
 * /dev/snapshot for reading is about to hibernate, and the kernel says so to
 * everybody; closing it says that it is over. settings: a reserve of RESERVE.
 */
#include "tracefs.h"
#include "group.h"
#include <linux/suspend_ioctls.h>
#include "harness.h"

#define RESERVE		32
#define NR		16
#define NR_IDLE		6

FIXTURE(owner)
{
	struct arena a;
	int snapshot;
};

/* a charged arena has lists of its own */
FIXTURE_VARIANT(owner)
{
	bool charged;
};

FIXTURE_VARIANT_ADD(owner, that_shares_the_pool) { .charged = false };
FIXTURE_VARIANT_ADD(owner, that_is_charged) { .charged = true };

FIXTURE_SETUP(owner)
{
	int i;

	self->snapshot = -1;
	if (access("/dev/snapshot", F_OK))
		SKIP(return, "this kernel cannot hibernate");
	if (variant->charged) {
		ASSERT_EQ(0, group_delegate(""));
		ASSERT_EQ(0, group_make("/sleeper", 512));
		ASSERT_EQ(0, group_enter("/sleeper"));
	}
	ASSERT_TRUE(sysfs_becomes("live_folios", RESERVE));
	ASSERT_EQ(0, arena_open(&self->a, 256));
	ASSERT_EQ(variant->charged, self->a.setup.charged);
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++)
		fill(slot_of(&self->a, i), i);
	for (i = 0; i < NR_IDLE; i++)
		mark_idle(&self->a, i);
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
}

FIXTURE_TEARDOWN(owner)
{
	EXPECT_EQ(0, trace_enable(NULL, false));
	if (self->snapshot >= 0)
		close(self->snapshot);
	arena_close(&self->a);
	if (variant->charged) {
		EXPECT_EQ(0, group_enter(""));
		EXPECT_EQ(0, group_remove("/sleeper"));
	}
	EXPECT_TRUE(nothing_leaked());
	EXPECT_TRUE(sysfs_becomes("live_folios", RESERVE));
}

TEST_F(owner, gives_what_is_idle_and_keeps_what_is_busy)
{
	struct arena *a = &self->a;
	int i;

	self->snapshot = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->snapshot);
	for (i = 0; i < NR_IDLE; i++)
		EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, i));
	EXPECT_EQ(NR_IDLE, trace_count("hkr_reclaim", " why=hibernate"));
	EXPECT_EQ(0, sysfs("pool_depth"));
	/* the thread may have had a folio in hand */
	EXPECT_TRUE(sysfs_becomes("live_folios", NR - NR_IDLE));

	/* what comes back meanwhile leaves as well; new memory can be had */
	ASSERT_EQ(0, recycle(a, DROP, NR - 2, 2));
	EXPECT_EQ(0, sysfs("pool_depth"));
	EXPECT_EQ(NR - NR_IDLE - 2, sysfs("live_folios"));
	ASSERT_EQ(0, handout_at(a, 0, 1, COMMIT));
	EXPECT_TRUE(all_zero(slot_of(a, 0), SLOT));

	close(self->snapshot);
	self->snapshot = -1;
	EXPECT_TRUE(sysfs_becomes("live_folios",
				  variant->charged ? RESERVE + NR - NR_IDLE - 1 :
						     RESERVE));
	for (i = NR_IDLE; i < NR - 2; i++) {
		EXPECT_EQ(HKR_WORD_BUSY, word_state(a, i));
		EXPECT_TRUE(filled(slot_of(a, i), i));
	}
}

/* not a command of the device, so never by io_uring */
static long snapshot(FIXTURE_DATA(owner) *self, unsigned long cmd, void *arg)
{
	return ioctl(self->snapshot, cmd, arg) ? -errno : 0;
}

/* with nothing in use the image holds nothing of ours */
TEST_F(owner, keeps_its_slots_through_a_real_snapshot)
{
	struct arena *a = &self->a;
	int in_suspend = 0, i;
	loff_t size = 0;

	self->snapshot = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->snapshot);
	ASSERT_EQ(0, snapshot(self, SNAPSHOT_FREEZE, NULL));
	ASSERT_EQ(0, snapshot(self, SNAPSHOT_CREATE_IMAGE,
			      &in_suspend));
	EXPECT_EQ(1, in_suspend);
	EXPECT_EQ(0, snapshot(self, SNAPSHOT_GET_IMAGE_SIZE, &size));
	TH_LOG("image of %lld MiB", (long long)size >> 20);
	EXPECT_EQ(0, snapshot(self, SNAPSHOT_FREE, NULL));
	EXPECT_EQ(0, snapshot(self, SNAPSHOT_UNFREEZE, NULL));
	close(self->snapshot);
	self->snapshot = -1;
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(i < NR_IDLE ? HKR_WORD_EMPTY : HKR_WORD_BUSY,
			  word_state(a, i));
		if (i >= NR_IDLE)
			EXPECT_TRUE(filled(slot_of(a, i), i));
	}
}

TEST_HARNESS_MAIN
