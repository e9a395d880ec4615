// SPDX-License-Identifier: GPL-2.0
/*
 * A folio with a bad page is given up, whichever way it leaves its slot: nobody
 * gets it again. settings loads the module without a reserve, so that reclaim may have it.
 */
#include "poison.h"
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
	bool marked;	/* only: nothing keeps a reference, so that it looks free to go */
	int decay_ms;
};

enum { BY_DROP, BY_FRESH, BY_TRIM, BY_RECLAIM, BY_DECAY, BY_MUNMAP };

FIXTURE_VARIANT_ADD(poisoned, dropped) { .way = BY_DROP, .decay_ms = -1 };
FIXTURE_VARIANT_ADD(poisoned, refreshed) { .way = BY_FRESH, .decay_ms = -1 };
FIXTURE_VARIANT_ADD(poisoned, trimmed) { .way = BY_TRIM, .decay_ms = -1 };
FIXTURE_VARIANT_ADD(poisoned, unmapped) { .way = BY_MUNMAP, .decay_ms = -1 };
FIXTURE_VARIANT_ADD(poisoned, marked_and_trimmed) {
	.way = BY_TRIM, .marked = true, .decay_ms = -1
};
FIXTURE_VARIANT_ADD(poisoned, marked_and_reclaimed) {
	.way = BY_RECLAIM, .marked = true, .decay_ms = -1
};
FIXTURE_VARIANT_ADD(poisoned, marked_and_decayed) {
	.way = BY_DECAY, .marked = true, .decay_ms = 200
};

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
	self->poisoned = sysfs("poisoned");
	ASSERT_EQ(0, arena_open_decay(&self->a, NR_SLOTS, variant->decay_ms));
	ASSERT_EQ(0, handout_at(&self->a, 0, 2, COMMIT));
	fill(slot_of(&self->a, 0), 1);
	fill(slot_of(&self->a, 1), 2);
	self->pfn = pfn_of(self->a.base);
	ASSERT_NE(0, self->pfn);
	ASSERT_TRUE(variant->marked ? poison_pfn(self->pfn + 3) :
				      poison(self->a.base + 3 * PAGE)) {
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
		if (!trim(a, 0, 0)) {
			ASSERT_FALSE(variant->marked);
			ASSERT_EQ(0, recycle(a, DROP, 0, 1));
		}
		break;
	case BY_RECLAIM:
		mark_idle(a, 0);
		ASSERT_TRUE(sampled(1));
		drain_pool(1);
		ASSERT_EQ(0, shrink(1, &s));
		ASSERT_EQ(HKR_WORD_EMPTY, word_state(a, 0));
		/* nobody else got it */
		EXPECT_EQ(0, s.freed);
		break;
	case BY_DECAY:
		mark_idle(a, 0);
		ASSERT_TRUE(sysfs_becomes("resident", 1));
		ASSERT_TRUE(word_becomes(a, 0, HKR_WORD_EMPTY));
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

struct death {
	uint64_t pfn;
	bool marked;
};

static int poisons_and_dies(void *arg)
{
	struct death *death = arg;
	struct arena b;

	if (arena_open(&b, 8) || handout_at(&b, 0, 4, COMMIT))
		return 1;
	fill(slot_of(&b, 1), 1);
	death->pfn = pfn_of(slot_of(&b, 1));
	if (!(death->marked ? poison_pfn(death->pfn + 5) :
			      poison(slot_of(&b, 1) + 5 * PAGE)))
		return 2;
	kill(getpid(), SIGKILL);
	return 3;
}

TEST(folio_of_a_process_that_is_killed_is_given_up)
{
	long before = sysfs("poisoned");
	struct death *death = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i;

	ASSERT_NE(MAP_FAILED, death);
	for (i = 0; i < 2; i++) {
		death->marked = i;
		EXPECT_EQ(128 + SIGKILL, in_child(poisons_and_dies, death));
		EXPECT_TRUE(sysfs_becomes("poisoned", ++before));
		EXPECT_FALSE(is_handed_out_again(death->pfn));
		EXPECT_TRUE(nothing_leaked());
	}
	munmap(death, PAGE);
}

TEST_HARNESS_MAIN
