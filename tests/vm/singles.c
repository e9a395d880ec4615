// SPDX-License-Identifier: GPL-2.0
/*
 * Free memory that is scattered: slots get single pages, and everything else
 * stays as it is with a folio. settings gives this program a small machine, no
 * reserve, and caps beyond its memory.
 *
 * To scatter memory takes longer than all that is done with it, so it is done
 * once, before the first test, by the process that runs them: it keeps the pipes
 * with the pages in them. The last test heals.
 */
#include "fragment.h"
#include "group.h"
#include "poison.h"
#include "reclaim.h"
#include "zeroing.h"
#include "harness.h"

#define NR		24
#define NR_IDLE		10	/* of these */
#define NR_SLOTS	256
#define LEAVE_KB	(32 << 10)
#define STIR_BYTES	(64UL << 20)

static struct scattered memory;
static bool is_scattered;

__attribute__((constructor)) static void scatter_once(void)
{
	is_scattered = fragment(&memory, LEAVE_KB);
}

FIXTURE(scattered)
{
	struct arena hog, a;
	long hogged;
};

FIXTURE_SETUP(scattered)
{
	ASSERT_TRUE(is_scattered);
	TH_LOG("%u pages pinned, %ld blocks free, %ld MB available",
	       memory.nr_pinned, free_blocks(),
	       meminfo_kb("MemAvailable") >> 10);
	ASSERT_EQ(0, arena_open(&self->hog, NR_SLOTS));
	ASSERT_TRUE(hog_blocks(&self->hog, NR_SLOTS, &self->hogged));
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
}

FIXTURE_TEARDOWN(scattered)
{
	arena_close(&self->a);
	arena_close(&self->hog);
	EXPECT_TRUE(nothing_leaked());
}

/* the first slot from @i on that gets single pages, handed out; or -1 */
static long single_slot(struct arena *a, long i)
{
	uint64_t before = stats_of(a).singles;

	for (; i < NR_SLOTS && !handout_at(a, i, 1, COMMIT); i++)
		if (stats_of(a).singles > before)
			return i;
	return -1;
}

static void fill_all(struct arena *a)
{
	int i;

	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), i * 1000);
}

static bool all_filled(struct arena *a)
{
	int i;

	for (i = 0; i < NR; i++)
		if (!filled(slot_of(a, i), i * 1000))
			return false;
	return true;
}

/*
 * The tick exchanges idle single pages as soon as the pool has a folio, which it may
 * have at any time. What is EMPTY by that has memory again, and says what it said.
 */
static bool written_anew(struct arena *a, long i)
{
	long ret;

	/* once it is free, which is a little later than its word says so */
	do
		ret = handout_at(a, i, 1, COMMIT);
	while (ret == -EEXIST);
	if (ret)
		return false;
	fill(slot_of(a, i), i * 1000);
	return true;
}

/* the first slot from @i on that is idle and then in use again; @lost: exchanged before it */
static long reuse(struct arena *a, long i, long *lost)
{
	for (; i < NR; i++) {
		mark_idle(a, i);
		if (gets_again(a, i))
			return i;
		(*lost)++;
		if (!written_anew(a, i))
			return -1;
	}
	return -1;
}

/* the same, but it goes to slot 100 + i by FROM_IDLE, and to no other */
static long pass_on(struct arena *a, long i, long *lost)
{
	for (; i < NR; i++) {
		mark_idle(a, i);
		if (handout_at(a, 100 + i, 1, COMMIT | FROM_IDLE))
			return -1;
		if (stats_of(a).served_idle)
			return i;
		(*lost)++;
	}
	return -1;
}

/* how many of four idle slots TRIM took; the others were exchanged */
static long trim_four(struct arena *a, long first, long *lost)
{
	long i, nr;

	for (i = first; i < first + 4; i++)
		mark_idle(a, i);
	nr = trim(a, 0, 0);
	*lost += 4 - nr;
	for (i = first; i < first + 4; i++)
		if (gets_again(a, i))
			return -1;
	return nr;
}

TEST_F(scattered, handout_gets_single_pages)
{
	struct arena *a = &self->a;
	struct hkr_stats st;
	long n;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	st = stats_of(a);
	/* a block may have come up since */
	n = st.singles;
	ASSERT_LE(NR / 2, n);
	EXPECT_EQ(n, st.served_single);
	EXPECT_EQ(n, sysfs("single_slots"));
	EXPECT_EQ(NR, st.resident);
	EXPECT_LE(n * SLOT, st.bytes_zeroed_inline);
	EXPECT_TRUE(all_zero(a->base, NR * SLOT));
	fill_all(a);
	EXPECT_TRUE(all_filled(a));
	EXPECT_EQ(n * 512 + NR - n, stats_of(a).faults);
	EXPECT_EQ(NR * 2048, smaps_kb(a->base, NR_SLOTS * SLOT, "Rss"));
	EXPECT_EQ((NR - n) * 2048,
		  smaps_kb(a->base, NR_SLOTS * SLOT, "FilePmdMapped"));
	/* and they are gone with their owner */
	ASSERT_EQ(0, recycle(a, DROP, 0, NR));
	EXPECT_EQ(0, sysfs("single_slots"));
	EXPECT_EQ(0, stats_of(a).singles);
	EXPECT_EQ(SIGBUS, touch(a->base, false));
}

TEST_F(scattered, touch_gets_single_pages)
{
	struct arena *a = &self->a;

	ASSERT_EQ(0, handout_at(a, 0, NR, 0));
	EXPECT_EQ(0, stats_of(a).singles);
	fill_all(a);
	EXPECT_LE(NR / 2, stats_of(a).singles);
	EXPECT_TRUE(all_filled(a));
}

TEST_F(scattered, single_pages_are_reused_and_recycled_like_a_folio)
{
	struct arena *a = &self->a;
	long n, i, lost = 0, trimmed = 0;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	n = stats_of(a).singles;
	ASSERT_LE(NR / 2, n);
	fill_all(a);
	/* reuse */
	ASSERT_LE(3, reuse(a, 3, &lost));
	EXPECT_TRUE(all_filled(a));
	/* parts of it */
	ASSERT_EQ(0, mprotect(a->base + 5 * PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, madvise(a->base, SLOT, MADV_DONTNEED));
	EXPECT_TRUE(all_filled(a));
	ASSERT_EQ(0, mprotect(a->base + 5 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	/* MOVE there and back */
	ASSERT_EQ(0, handout_at(a, 100, 2, 0));
	ASSERT_EQ(0, recycle_to(a, MOVE, 0, 2, 100));
	EXPECT_TRUE(filled(slot_of(a, 100), 0));
	EXPECT_TRUE(filled(slot_of(a, 101), 1000));
	EXPECT_EQ(SIGBUS, touch(a->base, false));
	ASSERT_EQ(0, handout_at(a, 0, 2, 0));
	ASSERT_EQ(0, recycle_to(a, MOVE, 100, 2, 0));
	EXPECT_TRUE(all_filled(a));
	/* FROM_IDLE takes them along, unzeroed */
	i = pass_on(a, 7, &lost);
	ASSERT_LE(7, i);
	EXPECT_TRUE(filled(slot_of(a, 100 + i), i * 1000));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, i));
	/* FRESH, TRIM */
	ASSERT_EQ(0, recycle(a, FRESH, 1, 1));
	EXPECT_TRUE(all_zero(slot_of(a, 1), SLOT));
	for (i++; i <= NR - 4 && !trimmed; i += 4)
		trimmed = trim_four(a, i, &lost);
	EXPECT_LT(0, trimmed);
	EXPECT_TRUE(reclaimed_becomes(a, lost));
	EXPECT_GT(n, stats_of(a).singles);
	EXPECT_TRUE(sysfs_becomes("single_slots", stats_of(a).singles));
	EXPECT_EQ(0, stats_of(a).orphaned);
}

/*
 * In use all of them, and then idle and seen so by the tick; @lost: that went before.
 * Who is handed memory would take what is idle.
 */
static bool all_idle(struct arena *a, long *lost)
{
	int i;

	for (i = 0; i < NR_IDLE; i++) {
		if (word_state(a, i) == HKR_WORD_BUSY || gets_again(a, i))
			continue;
		(*lost)++;
		if (!written_anew(a, i))
			return false;
	}
	if (!sampled(0))
		return false;
	for (i = 0; i < NR_IDLE; i++)
		mark_idle(a, i);
	return sampled_or_reclaimed(a, NR_IDLE + *lost);
}

TEST_F(scattered, reclaim_takes_exactly_what_is_idle_and_asked_for)
{
	struct scattered own = { .nr_pipes = 0 };
	struct arena *a = &self->a;
	long freed = 0, lost = 0;
	int i, empty = 0;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	fill_all(a);
	/* once more where the tick left too few; what is written anew gets the folios, and stays */
	for (i = 0; i < 20 && freed != 4; i++) {
		ASSERT_TRUE(all_idle(a, &lost));
		freed = freed_by(4);
		ASSERT_TRUE(freed == 4 || !stats_of(a).idle);
	}
	EXPECT_EQ(4, freed);
	/* from here on nothing more goes */
	for (i = 0; i < NR_IDLE; i++)
		empty += !gets_again(a, i);
	EXPECT_TRUE(reclaimed_becomes(a, lost + empty));
	EXPECT_TRUE(sysfs_becomes("single_slots", stats_of(a).singles));
	for (i = 0; i < NR; i++)
		EXPECT_TRUE((i < NR_IDLE && word_state(a, i) == HKR_WORD_EMPTY) ||
			    filled(slot_of(a, i), i * 1000));
	/* with a page pinned all of the slot stays */
	ASSERT_TRUE(pin_page(&own, slot_of(a, 15) + 77 * PAGE));
	mark_idle(a, 15);
	for (i = 0; i < NR_IDLE; i++)
		if (word_state(a, i) == HKR_WORD_BUSY)
			mark_idle(a, i);
	for (i = 0; i < 100 && stats_of(a).resident > NR - NR_IDLE; i++)
		ASSERT_LE(0, freed_by(20));
	EXPECT_EQ(NR - NR_IDLE, stats_of(a).resident);
	/* the pool may have got something meanwhile */
	ASSERT_LE(0, freed_by(20));
	EXPECT_EQ(NR - NR_IDLE, stats_of(a).resident);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 15));
	EXPECT_TRUE(filled(slot_of(a, 15), 15000));
	heal(&own);
}

/* a pin keeps its page, not 2 MiB, and nobody gets the page meanwhile */
TEST_F(scattered, pinned_page_is_its_pinners_when_the_slot_goes)
{
	struct arena *a = &self->a;
	uint64_t pfn, page[PAGE / 8], charged;
	int fd[2], i, p;
	long n = single_slot(a, 0);
	char *at = slot_of(a, n) + PAGE;

	ASSERT_LE(0, n);
	fill(slot_of(a, n), 100);
	pfn = pfn_of(at);
	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(PAGE, vmsplice(fd[1], &(struct iovec){ at, PAGE }, 1, 0));
	charged = stats_of(a).user_charged;
	ASSERT_EQ(0, recycle(a, DROP, n, 1));
	EXPECT_EQ(0, sysfs("orphans"));
	EXPECT_EQ(charged - 1, stats_of(a).user_charged);
	n++;
	ASSERT_EQ(0, handout_at(a, n, NR, COMMIT));
	for (i = n; i < n + NR; i++) {
		memset(slot_of(a, i), 0xee, SLOT);
		for (p = 0; p < 512; p++)
			EXPECT_NE(pfn, pfn_of(slot_of(a, i) + p * PAGE));
	}
	ASSERT_EQ(PAGE, read(fd[0], page, PAGE));
	for (i = 0; i < (int)(PAGE / 8); i++)
		ASSERT_EQ(100 + PAGE / 8 + i, page[i]);
	close(fd[0]);
	close(fd[1]);
}

/* nobody's new memory has the page; the other 511 are as free as ever */
static bool meets(struct arena *a, long first, int nr, uint64_t pfn)
{
	long i;
	int p;

	if (handout_at(a, first, nr, COMMIT))
		return true;
	for (i = first; i < first + nr; i++) {
		memset(slot_of(a, i), 0xee, SLOT);
		for (p = 0; p < 512; p++)
			if (pfn_of(slot_of(a, i) + p * PAGE) == pfn)
				return true;
	}
	return false;
}

/* one of them, by its owner and by reclaim: that page is given up, and no other */
TEST_F(scattered, poisoned_page_is_given_up_alone)
{
	struct arena *a = &self->a;
	long poisoned = sysfs("poisoned"), n = single_slot(a, 0), i;
	uint64_t pfn;

	ASSERT_LE(0, n);
	fill(slot_of(a, n), 100);
	pfn = pfn_of(slot_of(a, n) + 7 * PAGE);
	if (!poison(slot_of(a, n) + 7 * PAGE))
		SKIP(return, "this kernel has no CONFIG_MEMORY_FAILURE");
	EXPECT_EQ(poisoned, sysfs("poisoned"));
	ASSERT_EQ(0, recycle(a, DROP, n, 1));
	EXPECT_EQ(poisoned + 1, sysfs("poisoned"));
	EXPECT_FALSE(meets(a, n + 1, NR, pfn));

	n = single_slot(a, n + 1 + NR);
	ASSERT_LE(0, n);
	fill(slot_of(a, n), 200);
	pfn = pfn_of(slot_of(a, n) + 9 * PAGE);
	ASSERT_TRUE(poison_pfn(pfn));
	mark_idle(a, n);
	for (i = 0; i < 100 && word_state(a, n) != HKR_WORD_EMPTY; i++)
		ASSERT_LE(0, freed_by(1 + sysfs("pool_depth")));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, n));
	EXPECT_TRUE(sysfs_becomes("poisoned", poisoned + 2));
	EXPECT_FALSE(meets(a, n + 1, NR, pfn));
}

static int go[2];	/* a pipe: what was shared is the child's */

/* once its parent has written everything, and has copies */
static int has_what_was(void *arg)
{
	struct arena *a = arg;
	int i;
	char c;

	if (read(go[0], &c, 1) != 1)
		return 1;
	if (!all_filled(a))
		return 2;
	for (i = 0; i < NR; i++)
		memset(slot_of(a, i), 0xcc, SLOT);
	return 0;
}

static int writes_all(void *arg)
{
	long before = sysfs("single_slots");
	struct arena *a = arg;
	int i;

	if (!all_filled(a))
		return 1;
	for (i = 0; i < NR; i++)
		memset(slot_of(a, i), 0xdd, SLOT);
	/* there are no blocks for copies either */
	return sysfs("single_slots") < before + NR / 2 ? 2 : 0;
}

/* folios and single pages alike, whoever writes first */
TEST_F(scattered, fork_shares_and_copies)
{
	struct arena *a = &self->a;
	int i, status;
	pid_t pid;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	EXPECT_LE(NR / 2, stats_of(a).singles);
	fill_all(a);
	EXPECT_EQ(0, in_child(writes_all, a));
	EXPECT_TRUE(all_filled(a));

	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid)
		_exit(has_what_was(a));
	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), i * 1000 + 7);
	ASSERT_EQ(1, write(go[1], "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	for (i = 0; i < NR; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i * 1000 + 7));
	close(go[0]);
	close(go[1]);
}

static int dies_with_them(void *arg)
{
	struct arena b;

	(void)arg;
	if (arena_open(&b, NR_SLOTS) || handout_at(&b, 0, NR, COMMIT) ||
	    !stats_of(&b).singles)
		return 1;
	fill_all(&b);
	return raise(SIGKILL);
}

TEST_F(scattered, single_pages_go_with_a_process_that_is_killed)
{
	EXPECT_EQ(128 + SIGKILL, in_child(dies_with_them, NULL));
	EXPECT_EQ(0, sysfs("single_slots"));
}

#define TRY_TO_COMPACT	"mm_compaction_try_to_compact_pages"
#define COMPACTION	"compaction/" TRY_TO_COMPACT

/* until what is traced has happened @nr times, for @ms at most; how often it has */
static int compactions(int nr, int ms)
{
	int i, now;

	for (i = 0; (now = trace_each(TRY_TO_COMPACT, "", NULL, NULL)) < nr && i < ms; i += 20)
		usleep(20000);
	return now;
}

/* one try may be traced more than once: how often it has happened when it is over */
static int compaction_after(int nr)
{
	int now = compactions(nr + 1, 3500), before = nr, i;

	for (i = 0; i < 20 && now > before; i++) {
		before = now;
		now = compactions(before + 1, 600);
	}
	return now;
}

#define IN_VAIN	8

/*
 * The thread tries again after 1, 2, 4 s and so on. Where blocks come up it begins
 * anew, and the machine may take them away again; tries in a row that were in vain
 * are few before it is left alone for longer than we wait.
 */
TEST_F(scattered, compaction_in_vain_is_left_alone_longer_each_time)
{
	int tries, seen = 0, vain = 0, i;
	long made, had, first;
	char filter[32];

	/* before there is any need, or the first try would not be seen */
	snprintf(filter, sizeof(filter), "common_pid == %d", zero_thread(0));
	ASSERT_EQ(0, trace_on(COMPACTION, filter));
	first = had = made = sysfs("zeroed_background_bytes");
	ASSERT_LE(0, single_slot(&self->a, 0));
	/* the thread may have to wait until nobody wants memory back */
	compactions(1, 20000);
	for (i = 0; i < 20 && vain < IN_VAIN; i++) {
		tries = compaction_after(seen);
		made = sysfs("zeroed_background_bytes");
		if (tries == seen)
			break;
		vain = made == had ? vain + 1 : 0;
		had = made;
		seen = tries;
	}
	EXPECT_GT(IN_VAIN, vain) {
		TH_LOG("in %d rounds, %d traced", i, seen);
	}
	EXPECT_TRUE(seen || made > first);
	EXPECT_LT(0, sysfs("single_slots"));
	trace_off(COMPACTION);
}

#define LIMIT_MB	100

static int fills_its_group(void *arg)
{
	long current, ret, i = 0;
	char filter[32];
	struct arena b;

	(void)arg;
	if (group_enter("/hkr-singles") || arena_open(&b, NR_SLOTS) ||
	    !b.setup.charged)
		return 1;
	while (!handout_at(&b, i, 1, COMMIT)) {
		memset(slot_of(&b, i), 1, SLOT);
		i++;
	}
	if (i < LIMIT_MB / 2 * 8 / 10 || stats_of(&b).singles < i / 2)
		return 2;
	current = group_read("/hkr-singles", "memory.current", NULL);
	if (current < i * (long)SLOT || current > LIMIT_MB << 20)
		return 3;
	/* for a limit compaction can do nothing, and takes long: the zeroing thread's alone */
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	if (trace_on(COMPACTION, filter))
		return 5;
	ret = handout_at(&b, i, 1, COMMIT);
	trace_off(COMPACTION);
	if (ret != -ENOMEM ||
	    trace_each(TRY_TO_COMPACT, "", NULL, NULL))
		return 6;
	return group_kills("/hkr-singles") ? 4 : 0;
}

TEST_F(scattered, single_pages_are_charged_and_the_limit_holds)
{
	ASSERT_EQ(0, group_delegate(""));
	ASSERT_EQ(0, group_make("/hkr-singles", LIMIT_MB));
	EXPECT_EQ(0, in_child(fills_its_group, NULL));
	EXPECT_EQ(0, group_remove("/hkr-singles"));
	EXPECT_EQ(0, sysfs("single_slots"));
}

/* by the decay -1 of arena_open() they would stay for ever; last, since it heals */
TEST_F(scattered, single_pages_are_exchanged_once_there_are_blocks)
{
	struct arena *a = &self->a;
	bool gone[NR] = { false };
	long first, pmd_kb;
	int i;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	fill_all(a);
	for (i = 0; i < NR; i++)
		mark_idle(a, i);
	usleep(500000);
	EXPECT_LE(NR / 2, stats_of(a).singles);
	for (i = NR / 2; i < NR; i++)
		gone[i] = !gets_again(a, i);
	for (i = NR / 2; i < NR; i++)
		ASSERT_TRUE(!gone[i] || written_anew(a, i));
	drain(&memory);
	ASSERT_TRUE(stir(STIR_BYTES));
	/* idle ones with a folio and busy ones stay */
	for (i = 0; i < 2000 && stats_of(a).singles > NR / 2; i++)
		usleep(10000);
	EXPECT_GE(NR / 2, stats_of(a).singles) {
		TH_LOG("%ld blocks free", free_blocks());
		sysfs_print();
	}
	/* where no page table is in the way, memory is mapped as it was meant */
	recycle(&self->hog, DROP, 0, self->hogged);
	pmd_kb = smaps_kb(a->base, NR_SLOTS * SLOT, "FilePmdMapped");
	first = handout(a, NR / 2, COMMIT);
	ASSERT_LE(NR, first);
	EXPECT_TRUE(all_zero(slot_of(a, first), NR / 2 * SLOT));
	EXPECT_EQ(pmd_kb + NR / 2 * 2048,
		  smaps_kb(a->base, NR_SLOTS * SLOT, "FilePmdMapped"));
	for (i = NR / 2; i < NR; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i * 1000));
}

TEST_HARNESS_MAIN
