// SPDX-License-Identifier: GPL-2.0
/*
 * Ten thousand slots go from one process to another, and each next owner reads
 * every byte of them: all are zero. Half of them with the zeroing thread, half
 * without it.
 *
 * The pool is as large as what each process takes (reserve_mb = pool_max_mb =
 * 2 * NR, see settings), so that the next one gets what the last one left;
 * physical addresses prove it, and only what was seen with another owner before
 * counts as handed over. Owners write 8 bytes in each 64, others in each round.
 */
#include "zeroing.h"
#include "harness.h"

#define NR		64
#define HANDOVERS	5000	/* of each variant, unless HK_HANDOVERS in the environment says */
#define MAX_FOLIOS	(1U << 20)	/* 2 TiB */

/* how an owner parts with its memory */
enum parting {
	BY_EXIT,
	BY_SIGKILL,
	BY_DROP,
	BY_TRIM,
	BY_DECAY,	/* the kernel takes it, of a stopped process */
	NR_PARTINGS,
};

struct round {
	int result;
	uint64_t nonzero;	/* slots with a byte of somebody else */
	uint64_t clean, dirty;
	uint64_t pfn[NR];
};

FIXTURE(handover)
{
	struct round *round;
	unsigned char *seen;	/* a bit for each folio that had an owner */
	long behind;
};

FIXTURE_VARIANT(handover)
{
	const char *background;
};

FIXTURE_VARIANT_ADD(handover, background_on) { .background = "1" };
FIXTURE_VARIANT_ADD(handover, background_off) { .background = "0" };

FIXTURE_SETUP(handover)
{
	self->round = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->round);
	self->seen = calloc(1, MAX_FOLIOS / 8);
	ASSERT_TRUE(self->seen != NULL);
	ASSERT_TRUE(sysfs_becomes("clean", NR));
	ASSERT_EQ(0, set_param("zero_background", variant->background));
	self->behind = zeroed_behind();
}

FIXTURE_TEARDOWN(handover)
{
	EXPECT_EQ(0, set_param("zero_background", "1"));
	EXPECT_TRUE(nothing_leaked());
	free(self->seen);
}

typedef uint64_t pair __attribute__((vector_size(16)));

/* every byte, many at once and without a branch: emulated, this is what the test does all the time */
static bool any_byte(const void *slot)
{
	const pair *p = slot;
	pair bits = { 0 };
	size_t i;

	for (i = 0; i < SLOT / sizeof(*p); i += 8)
		bits |= p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] |
			p[i + 5] | p[i + 6] | p[i + 7];
	return bits[0] | bits[1];
}

static int take_and_write(struct arena *a, struct round *r, unsigned int nr,
			  enum parting how)
{
	struct hkr_stats st;
	size_t k;
	int i;

	if (arena_open_decay(a, NR, how == BY_DECAY ? 0 : -1))
		return 2;
	if (handout_at(a, 0, NR, COMMIT))
		return 3;
	for (i = 0; i < NR; i++) {
		uint64_t *p = (uint64_t *)slot_of(a, i);

		r->nonzero += any_byte(p);
		r->pfn[i] = pfn_of(p);
		for (k = nr % 8; k < SLOT / 8; k += 8)
			p[k] = ~(uint64_t)nr;
	}
	st = stats_of(a);
	r->clean = st.served_clean;
	r->dirty = st.served_dirty;
	return 0;
}

static int one_owner(struct round *r, unsigned int nr, enum parting how)
{
	struct arena a = { .fd = -1 };
	int i, ret = take_and_write(&a, r, nr, how);

	if (ret)
		return ret;
	if (how == BY_DROP && recycle(&a, DROP, 0, NR))
		return 4;
	if (how == BY_TRIM || how == BY_DECAY)
		for (i = 0; i < NR; i++)
			mark_idle(&a, i);
	if (how == BY_TRIM && trim(&a, 0, NR) != NR)
		return 5;
	r->result = 1;
	if (how == BY_SIGKILL)
		raise(SIGKILL);
	if (how == BY_DECAY)
		raise(SIGSTOP);
	return 0;
}

/* marks the folios of a round; how many had another owner before */
static unsigned long handed_over(unsigned char *seen, const struct round *r)
{
	unsigned long n = 0, folio;
	int i;

	for (i = 0; i < NR; i++) {
		folio = r->pfn[i] / 512 % MAX_FOLIOS;
		if (r->pfn[i] && (seen[folio / 8] & 1 << folio % 8))
			n++;
		seen[folio / 8] |= 1 << folio % 8;
	}
	return n;
}

TEST_F(handover, shows_no_byte_of_another)
{
	const unsigned long handovers = env_number("HK_HANDOVERS", HANDOVERS);
	uint64_t nonzero = 0, clean = 0, dirty = 0;
	unsigned long n = 0;
	unsigned int nr;
	int status;
	pid_t pid;

	/* a round hands nearly all over: some more for those that do not */
	for (nr = 0; n < handovers && nr < 2 * handovers / NR; nr++) {
		enum parting how = nr % NR_PARTINGS;

		memset(self->round, 0, sizeof(*self->round));
		pid = fork();
		if (!pid)
			_exit(one_owner(self->round, nr, how));
		ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
		if (how == BY_DECAY && WIFSTOPPED(status)) {
			ASSERT_TRUE(sysfs_becomes("resident", 0));
			kill(pid, SIGKILL);
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
		}
		ASSERT_EQ(1, self->round->result) {
			TH_LOG("round %u: status %x", nr, status);
		}
		n += handed_over(self->seen, self->round);
		nonzero += self->round->nonzero;
		clean += self->round->clean;
		/* after the first round: that one finds the reserve */
		dirty += self->round->dirty;
		/* now and then the thread is done before the next one comes */
		if (variant->background[0] == '1' && nr % 3 == 0)
			ASSERT_TRUE(sysfs_becomes("dirty", 0));
	}
	TH_LOG("%lu slots handed over in %u rounds: %llu served clean, %llu dirty; %llu with a byte that is not zero",
	       n, nr, (unsigned long long)clean, (unsigned long long)dirty,
	       (unsigned long long)nonzero);
	EXPECT_LT(0, n);
	EXPECT_LE(handovers, n);
	EXPECT_EQ(0, nonzero);
	if (variant->background[0] == '1') {
		EXPECT_LT(NR, clean);
		EXPECT_LT(self->behind, zeroed_behind());
	} else {
		EXPECT_EQ(NR, clean);
		EXPECT_EQ(self->behind, zeroed_behind());
	}
	EXPECT_LT(0, dirty);
}

TEST_HARNESS_MAIN
