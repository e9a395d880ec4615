// SPDX-License-Identifier: GPL-2.0
/*
 * A folio with a bad page is given up, whichever way it leaves its slot: nobody
 * gets it again. madvise(MADV_HWPOISON) is what a machine check does.
 */
#include "hkr_test.h"
#include "harness.h"

#define NR_SLOTS	128

FIXTURE(poisoned)
{
	struct arena a;
	uint64_t pfn;
	long poisoned;
};

FIXTURE_VARIANT(poisoned)
{
	int way;
};

enum { BY_DROP, BY_FRESH, BY_TRIM, BY_MUNMAP };

FIXTURE_VARIANT_ADD(poisoned, dropped) { .way = BY_DROP };
FIXTURE_VARIANT_ADD(poisoned, refreshed) { .way = BY_FRESH };
FIXTURE_VARIANT_ADD(poisoned, trimmed) { .way = BY_TRIM };
FIXTURE_VARIANT_ADD(poisoned, unmapped) { .way = BY_MUNMAP };

FIXTURE_SETUP(poisoned)
{
	/* newer kernels tell the owner at once */
	signal(SIGBUS, SIG_IGN);
	self->poisoned = sysfs("poisoned");
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, 2, COMMIT));
	fill(slot_of(&self->a, 0), 1);
	fill(slot_of(&self->a, 1), 2);
	self->pfn = pfn_of(self->a.base);
	ASSERT_NE(0, self->pfn);
	/* says that it failed, for want of a mapping to remove */
	errno = 0;
	madvise(self->a.base + 3 * PAGE, PAGE, MADV_HWPOISON);
	ASSERT_NE(EINVAL, errno) {
		TH_LOG("this kernel has no CONFIG_MEMORY_FAILURE");
	}
}

FIXTURE_TEARDOWN(poisoned)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
	EXPECT_EQ(self->poisoned + 1, sysfs("poisoned"));
}

TEST_F(poisoned, folio_is_given_up)
{
	struct arena *a = &self->a, b;
	long nr, i;

	switch (variant->way) {
	case BY_DROP:
		ASSERT_EQ(0, recycle(a, DROP, 0, 1));
		break;
	case BY_FRESH:
		ASSERT_EQ(0, recycle(a, FRESH, 0, 1));
		break;
	case BY_TRIM:
		mark_idle(a, 0);
		/* where the failure left a reference it counts as pinned */
		if (!trim(a, 0, 0))
			ASSERT_EQ(0, recycle(a, DROP, 0, 1));
		break;
	case BY_MUNMAP:
		arena_close(a);
		break;
	}
	if (variant->way != BY_MUNMAP) {
		EXPECT_TRUE(filled(slot_of(a, 1), 2));
		if (variant->way != BY_FRESH)
			ASSERT_EQ(0, handout_at(a, 0, 1, COMMIT));
		EXPECT_TRUE(all_zero(slot_of(a, 0), SLOT));
		EXPECT_NE(self->pfn, pfn_of(slot_of(a, 0)));
	}
	EXPECT_TRUE(sysfs_becomes("poisoned", self->poisoned + 1));

	/* an owner who takes all of the pool and more does not meet it */
	ASSERT_EQ(0, arena_open(&b, NR_SLOTS));
	nr = sysfs("pool_depth") + 2;
	ASSERT_GE(NR_SLOTS, nr);
	ASSERT_EQ(0, handout_at(&b, 0, nr, COMMIT));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, touch(slot_of(&b, i), true));
		EXPECT_NE(self->pfn, pfn_of(slot_of(&b, i)));
	}
	arena_close(&b);
}

TEST_HARNESS_MAIN
