// SPDX-License-Identifier: GPL-2.0
/*
 * No byte of one process is seen by the next.
 *
 * The pool is as large as what each process takes (reserve_mb = pool_max_mb =
 * 2 * NR, see settings), so the next one gets the same folios: their physical
 * addresses prove it.
 */
#include "hkr_test.h"
#include "harness.h"

#define NR		8
#define NR_ROUNDS	12
#define IN_HAND		1	/* the zeroing thread may be at work on one */

struct round {
	int result;
	uint64_t pfn[NR];
};

FIXTURE(next_owner)
{
	struct round *round;
};

FIXTURE_VARIANT(next_owner)
{
	bool killed;
	bool dropped;
	bool waits;
	uint32_t flags;
};

/* the last owner's folios are still dirty, and zeroed in line */
FIXTURE_VARIANT_ADD(next_owner, at_once_after_exit) { .flags = COMMIT };
FIXTURE_VARIANT_ADD(next_owner, at_once_after_sigkill) {
	.flags = COMMIT, .killed = true,
};
FIXTURE_VARIANT_ADD(next_owner, on_touch) { .flags = 0 };
FIXTURE_VARIANT_ADD(next_owner, after_drop) {
	.flags = COMMIT, .dropped = true,
};
/* they were zeroed in the background */
FIXTURE_VARIANT_ADD(next_owner, later) { .flags = COMMIT, .waits = true };

FIXTURE_SETUP(next_owner)
{
	self->round = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->round);
}

FIXTURE_TEARDOWN(next_owner)
{
	EXPECT_TRUE(nothing_leaked());
	/* the thread had one in its hands now and then, and a new one came */
	EXPECT_EQ(NR, sysfs("live_folios"));
}

static int one_owner(struct round *r, const FIXTURE_VARIANT(next_owner) *v,
		     int nr)
{
	struct hkr_stats st;
	struct arena a;
	int i;

	if (arena_open(&a, NR))
		return 1;
	if (handout_at(&a, 0, NR, v->flags))
		return 2;
	for (i = 0; i < NR; i++) {
		if (!all_zero(slot_of(&a, i), SLOT))
			return 3;
		r->pfn[i] = pfn_of(slot_of(&a, i));
	}
	st = stats_of(&a);
	/* from the pool, which is what the last owner left */
	if (st.resident != NR || st.served_new > (v->waits ? 0 : IN_HAND))
		return 4;
	if (v->waits && st.served_dirty)
		return 5;
	for (i = 0; i < NR; i++)
		memset(slot_of(&a, i), 0x41 + nr, SLOT);
	if (v->dropped && recycle(&a, DROP, 0, NR))
		return 6;
	r->result = 1;
	if (v->killed)
		kill(getpid(), SIGKILL);
	return 0;
}

/* how many folios of a round have been somebody's before */
static int nr_seen(const uint64_t *pfn, const uint64_t *seen, int nr)
{
	int i, k, found = 0;

	for (i = 0; i < NR; i++)
		for (k = 0; k < nr; k++)
			if (pfn[i] && pfn[i] == seen[k]) {
				found++;
				break;
			}
	return found;
}

TEST_F(next_owner, sees_no_byte_of_the_last)
{
	uint64_t seen[NR_ROUNDS * NR];
	int i, status;
	pid_t pid;

	for (i = 0; i < NR_ROUNDS; i++) {
		if (!i || variant->waits)
			ASSERT_TRUE(sysfs_becomes("clean", NR));
		self->round->result = 0;
		pid = fork();
		if (!pid)
			_exit(one_owner(self->round, variant, i));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(variant->killed ? SIGKILL : 0, status) {
			TH_LOG("round %d: status %x", i, status);
		}
		ASSERT_EQ(1, self->round->result);
		if (i)
			EXPECT_LE(NR - (variant->waits ? 0 : IN_HAND),
				  nr_seen(self->round->pfn, seen, i * NR));
		memcpy(seen + i * NR, self->round->pfn, NR * sizeof(*seen));
	}
}

TEST_HARNESS_MAIN
