// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel takes idle slots back. Most of it by the debugfs trigger, which
 * runs count and scan as reclaim does, for an exact number of slots; the decay
 * by waiting; pressure by a process that needs more than there is. settings
 * loads the module without a reserve, so that everything idle may go.
 */
#include "reclaim.h"
#include <sys/uio.h>
#include "harness.h"

#define NR		16
#define NR_SLOTS	512

FIXTURE(owner)
{
	struct arena a;
};

FIXTURE_SETUP(owner)
{
	int i;

	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++)
		fill(slot_of(&self->a, i), i);
	drain_pool(1);
}

FIXTURE_TEARDOWN(owner)
{
	struct hkr_stats st = stats_of(&self->a);

	EXPECT_EQ(st.handed_out, st.handouts - st.dropped - st.trimmed -
				 st.moved - st.reclaimed - st.served_idle);
	EXPECT_EQ(st.handed_out, st.user_charged);
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(owner, loses_exactly_what_was_asked_for_and_is_told)
{
	struct arena *a = &self->a;
	uint32_t gen = word_gen(a, 0);
	struct shrunk s;
	int i, empty = 0;

	for (i = 0; i < 10; i++)
		mark_idle(a, i);
	ASSERT_TRUE(sampled(10));
	ASSERT_EQ(0, shrink(4, &s));
	EXPECT_EQ(10, s.count);
	EXPECT_EQ(4, s.freed);
	EXPECT_LE(s.looked, 8);
	EXPECT_EQ(6, s.left);
	for (i = 0; i < NR; i++) {
		if (word_state(a, i) == HKR_WORD_EMPTY) {
			empty++;
			EXPECT_EQ(SIGBUS, touch(slot_of(a, i), false));
			EXPECT_NE(gen, word_gen(a, i));
		} else {
			EXPECT_TRUE(filled(slot_of(a, i), i));
		}
	}
	EXPECT_EQ(4, empty);
	EXPECT_EQ(4, stats_of(a).reclaimed);
	EXPECT_EQ(NR - 4, stats_of(a).handed_out);
}

TEST_F(owner, loses_the_oldest_first)
{
	struct arena *a = &self->a;
	struct shrunk s;
	int i;

	/* of one tick's sample, told apart by their stamps */
	for (i = 0; i < 4; i++)
		mark_idle_at(a, i, a->header->epoch - 2);
	for (i = 8; i < 12; i++)
		mark_idle_at(a, i, a->header->epoch - 5);
	ASSERT_TRUE(sampled(8));
	ASSERT_EQ(0, shrink(4, &s));
	EXPECT_EQ(4, s.freed);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(HKR_WORD_IDLE, word_state(a, i));
		EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 8 + i));
	}
}

/* who made it idle does not matter, only when */
TEST_F(owner, loses_to_others_what_is_oldest_of_all)
{
	struct arena b, *of[2] = { &self->a, &b };
	int i;

	ASSERT_EQ(0, arena_open(&b, NR));
	ASSERT_EQ(0, keep_from_children(&b));
	ASSERT_EQ(0, handout_at(&b, 0, NR, COMMIT));
	/* the slots 0 of both, then 1, and so on; those of b not before its turn */
	for (i = 0; i < 8; i++)
		mark_idle_at(of[i % 2], i / 2, b.header->epoch - 20 + 2 * i);
	ASSERT_TRUE(sampled(8));
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(HKR_WORD_IDLE, word_state(of[i % 2], i / 2));
		EXPECT_EQ(1, freed_by(1));
		EXPECT_EQ(HKR_WORD_EMPTY, word_state(of[i % 2], i / 2));
	}
	arena_close(&b);
}

TEST_F(owner, gains_nothing_by_a_stamp_from_the_future)
{
	struct arena *a = &self->a;
	struct shrunk s;

	mark_idle_at(a, 1, a->header->epoch - 20);
	mark_idle_at(a, 2, a->header->epoch + 100000);
	ASSERT_TRUE(sampled(2));
	ASSERT_EQ(0, shrink(1, &s));
	EXPECT_EQ(1, s.freed);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 1));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 2));
}

TEST_F(owner, keeps_what_is_busy)
{
	struct arena *a = &self->a;
	struct shrunk s;
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, shrink(NR, &s));
		EXPECT_EQ(0, s.freed);
	}
	for (i = 0; i < NR; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));
}

/* no tick can have seen it: reclaim looks at some active slots itself */
TEST_F(owner, loses_what_was_freed_a_moment_ago)
{
	struct arena *a = &self->a;
	unsigned long freed = 0;
	struct shrunk s;
	int i;

	mark_idle(a, 3);
	for (i = 0; i < NR && !freed; i++) {
		ASSERT_EQ(0, shrink(2, &s));
		EXPECT_LE(s.looked, 4);
		freed += s.freed;
	}
	EXPECT_EQ(1, freed);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 3));
}

TEST_F(owner, keeps_what_is_pinned_until_it_is_not)
{
	struct iovec iov = { slot_of(&self->a, 0), 4096 };
	struct arena *a = &self->a;
	struct shrunk s;
	char buf[4096];
	int fd[2], i;

	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(4096, vmsplice(fd[1], &iov, 1, 0));
	mark_idle(a, 0);
	mark_idle(a, 1);
	ASSERT_TRUE(sampled(1));
	ASSERT_EQ(0, shrink(2, &s));
	EXPECT_EQ(1, s.freed);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 0));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
	ASSERT_EQ(4096, read(fd[0], buf, sizeof(buf)));
	ASSERT_TRUE(sampled(1));
	for (i = 0; i < 8 && word_state(a, 0) == HKR_WORD_IDLE; i++)
		ASSERT_EQ(0, shrink(1, &s));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 0));
	close(fd[0]);
	close(fd[1]);
}

TEST_F(owner, gets_a_lost_part_back_by_at)
{
	struct arena *a = &self->a;
	struct shrunk s;
	int i;

	for (i = 4; i < 8; i++)
		mark_idle(a, i);
	ASSERT_TRUE(sampled(4));
	ASSERT_EQ(0, shrink(4, &s));
	ASSERT_EQ(4, s.freed);
	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(HKR_WORD_BUSY, word_state(a, i));
		if (i >= 4 && i < 8) {
			EXPECT_TRUE(all_zero(slot_of(a, i), SLOT));
		} else {
			EXPECT_TRUE(filled(slot_of(a, i), i));
		}
	}
}

/* MemAvailable counts the kernel's sample, whatever words say of empty slots */
TEST_F(owner, cannot_talk_up_what_is_available)
{
	struct arena *a = &self->a;
	long resident = sysfs("resident");
	int i, n;

	for (n = 0; n < 20; n++) {
		for (i = 0; i < NR_SLOTS; i++)
			a->words[i] = HKR_WORD_MAKE(HKR_WORD_IDLE,
						    (uint64_t)n * 77, 9ULL);
		usleep(20000);
		EXPECT_LE(sysfs("idle"), resident);
	}
	/* what is idle by its word may go; what is not handed out never was */
	EXPECT_LE(sysfs("live_folios"), resident + sysfs("pool_depth"));
}

static long misc_reclaimable(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	char line[128];
	long pages = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "nr_kernel_misc_reclaimable %ld", &pages) == 1)
			break;
	if (f)
		fclose(f);
	return pages;
}

/*
 * What is reported is all of the pool, whatever that is by then; and once the
 * zeroing thread has none of it in its hands, so that nothing is to come.
 */
static bool pool_is_reclaimable(void)
{
	long live = -1;
	int i;

	for (i = 0; i < 2000; i++) {
		live = sysfs("live_folios");
		if (live == sysfs("pool_depth") &&
		    misc_reclaimable() == live * (long)(SLOT / PAGE) &&
		    live == sysfs("live_folios"))
			return true;
		usleep(10000);
	}
	printf("# reclaimable: %ld pages, of %ld folios\n", misc_reclaimable(),
	       live);
	return false;
}

/* with nothing resident too, when no tick would look */
TEST(what_reclaim_took_is_no_longer_available)
{
	struct arena a;

	ASSERT_EQ(0, arena_open(&a, NR_SLOTS));
	ASSERT_EQ(0, handout(&a, NR, COMMIT));
	arena_close(&a);
	ASSERT_TRUE(nothing_leaked());
	ASSERT_LE(NR, sysfs("live_folios"));
	ASSERT_TRUE(pool_is_reclaimable());
	drain_pool(1);
	EXPECT_TRUE(pool_is_reclaimable());
	EXPECT_EQ(0, misc_reclaimable());
}

/* ---- decay ---- */

#define DECAY_EPOCHS 5	/* 500 ms */

TEST(idle_slots_go_after_the_decay_and_busy_ones_stay)
{
	uint64_t resident;
	long start, now;
	struct arena a;
	int i;

	ASSERT_EQ(0, arena_open_decay(&a, NR_SLOTS, 500));
	ASSERT_EQ(0, handout(&a, NR, COMMIT));
	for (i = 0; i < NR; i++)
		fill(slot_of(&a, i), i);
	start = sysfs("epoch");
	for (i = 0; i < 8; i++)
		mark_idle_at(&a, i, start);
	/* none before its time; the clock is read last, for it goes on meanwhile */
	do {
		resident = stats_of(&a).resident;
		now = sysfs("epoch");
		if (now - start < DECAY_EPOCHS)
			ASSERT_EQ(NR, resident);
	} while (now - start < DECAY_EPOCHS);
	EXPECT_TRUE(sysfs_becomes("resident", NR - 8));
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(word_becomes(&a, i, HKR_WORD_EMPTY));
	for (i = 8; i < NR; i++)
		EXPECT_EQ(HKR_WORD_BUSY, word_state(&a, i));
	for (i = 8; i < NR; i++)
		EXPECT_TRUE(filled(slot_of(&a, i), i));
	arena_close(&a);
}

TEST(slot_that_is_used_again_and_again_does_not_decay)
{
	struct arena a;
	uint32_t start;
	long stamp;
	int i;

	ASSERT_EQ(0, arena_open_decay(&a, NR_SLOTS, 500));
	ASSERT_EQ(0, handout(&a, 1, COMMIT));
	fill(slot_of(&a, 0), 7);
	start = a.header->epoch;
	for (i = 0; a.header->epoch - start < 15; i++) {
		ASSERT_GT(6000, i) {
			TH_LOG("epoch %u, from %u on; by the clock %ld",
			       (uint32_t)a.header->epoch, start, sysfs("epoch"));
		}
		stamp = sysfs("epoch");
		mark_idle_at(&a, 0, stamp);
		usleep(10000);
		if (take_again(&a, 0, word_of(&a, 0)))
			continue;
		/* the tick or we were so late that it was idle for long enough */
		ASSERT_LE(DECAY_EPOCHS, sysfs("epoch") - stamp) {
			TH_LOG("round %d", i);
		}
		ASSERT_TRUE(word_becomes(&a, 0, HKR_WORD_EMPTY));
		ASSERT_EQ(0, handout_at(&a, 0, 1, COMMIT));
		fill(slot_of(&a, 0), 7);
		start = a.header->epoch;
	}
	EXPECT_TRUE(filled(slot_of(&a, 0), 7));
	arena_close(&a);
}

TEST(stopped_owner_gives_its_idle_slots_back)
{
	int ready[2], status, i;
	struct arena a;
	char c;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	if (!pid) {
		if (arena_open_decay(&a, NR_SLOTS, 500) || handout(&a, NR, COMMIT))
			_exit(1);
		for (i = 0; i < NR; i++)
			fill(slot_of(&a, i), i);
		for (i = 0; i < NR; i++)
			mark_idle(&a, i);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_TRUE(sysfs_becomes("resident", 0));
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* ---- pressure ---- */

/* every idle slot that is still there has its contents; nobody is killed */
TEST(process_in_need_gets_the_idle_memory_of_a_stopped_one)
{
	long nr = mem_available_kb() / 2048 * 6 / 10;
	int ready[2], done[2], status, i, kept = 0;
	struct arena a;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(done));
	pid = fork();
	if (!pid) {
		if (arena_open(&a, nr) || handout(&a, nr, COMMIT))
			_exit(10);
		for (i = 0; i < nr; i++)
			*(long *)slot_of(&a, i) = i + 1;
		for (i = 0; i < nr; i++)
			mark_idle(&a, i);
		if (write(ready[1], "", 1) != 1)
			_exit(11);
		raise(SIGSTOP);
		for (i = 0; i < nr; i++) {
			uint64_t seen = word_of(&a, i);

			if (HKR_WORD_STATE(seen) != HKR_WORD_IDLE ||
			    !take_again(&a, i, seen))
				continue;
			if (*(long *)slot_of(&a, i) != i + 1)
				_exit(12);
			kept++;
		}
		_exit(kept == nr ? 13 : 0);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	/* more than is free, less than free and idle together */
	EXPECT_EQ(0, in_child(need, (void *)(nr * 3 / 2 * SLOT * 95 / 100)));
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, WTERMSIG(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_TRUE(nothing_leaked());
}

TEST_HARNESS_MAIN
