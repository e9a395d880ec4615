// SPDX-License-Identifier: GPL-2.0
/*
 * A folio with a bad page is given up, whichever way it leaves its slot: nobody
 * gets it again. madvise(MADV_HWPOISON) is what a machine check does.
 */
#include "reclaim.h"
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

enum { BY_DROP, BY_FRESH, BY_TRIM, BY_RECLAIM, BY_MUNMAP };

FIXTURE_VARIANT_ADD(poisoned, dropped) { .way = BY_DROP };
FIXTURE_VARIANT_ADD(poisoned, refreshed) { .way = BY_FRESH };
FIXTURE_VARIANT_ADD(poisoned, trimmed) { .way = BY_TRIM };
FIXTURE_VARIANT_ADD(poisoned, reclaimed) { .way = BY_RECLAIM };
FIXTURE_VARIANT_ADD(poisoned, unmapped) { .way = BY_MUNMAP };

/* says that it failed, for want of a mapping to remove */
static bool poison(void *page)
{
	errno = 0;
	madvise(page, PAGE, MADV_HWPOISON);
	return errno != EINVAL;
}

/* an owner who takes all of the pool and more does not meet it */
static bool is_handed_out_again(uint64_t pfn)
{
	long nr = sysfs("pool_depth") + 2, i;
	bool met = false;
	struct arena b;

	if (nr > NR_SLOTS || arena_open(&b, NR_SLOTS) ||
	    handout_at(&b, 0, nr, COMMIT))
		return true;
	for (i = 0; i < nr; i++)
		met |= touch(slot_of(&b, i), true) || pfn_of(slot_of(&b, i)) == pfn;
	arena_close(&b);
	return met;
}

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
	ASSERT_TRUE(poison(self->a.base + 3 * PAGE)) {
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
	struct arena *a = &self->a;
	struct shrunk s;

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
	case BY_RECLAIM:
		mark_idle(a, 0);
		ASSERT_EQ(0, shrink(sysfs("pool_depth") + 1, &s));
		if (word_state(a, 0) != HKR_WORD_EMPTY)
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

	EXPECT_FALSE(is_handed_out_again(self->pfn));
}

static int poisons_and_dies(void *arg)
{
	uint64_t *pfn = arg;
	struct arena b;

	if (arena_open(&b, 8) || handout_at(&b, 0, 4, COMMIT))
		return 1;
	fill(slot_of(&b, 1), 1);
	*pfn = pfn_of(slot_of(&b, 1));
	if (!poison(slot_of(&b, 1) + 5 * PAGE))
		return 2;
	kill(getpid(), SIGKILL);
	return 3;
}

TEST(folio_of_a_process_that_is_killed_is_given_up)
{
	long before = sysfs("poisoned");
	uint64_t *pfn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	signal(SIGBUS, SIG_IGN);
	ASSERT_NE(MAP_FAILED, pfn);
	EXPECT_EQ(128 + SIGKILL, in_child(poisons_and_dies, pfn));
	EXPECT_TRUE(sysfs_becomes("poisoned", before + 1));
	EXPECT_FALSE(is_handed_out_again(*pfn));
	EXPECT_TRUE(nothing_leaked());
	munmap(pfn, PAGE);
}

TEST_HARNESS_MAIN
