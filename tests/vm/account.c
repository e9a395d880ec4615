// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel is told of our memory: a process's resident size, idle bytes
 * in sysfs and STATS, and as kernel memory that can be reclaimed, which is what
 * MemAvailable counts. Always the kernel's own sample: what a process writes
 * into its words can only take from it.
 *
 * settings loads the module without a reserve, in a machine of 1200 MiB.
 */
#include "reclaim.h"
#include <pthread.h>
#include <sys/uio.h>
#include "harness.h"

#define NR		100
#define NR_SLOTS	512
#define SLOT_KB		((long)(SLOT >> 10))

static volatile bool stop;

FIXTURE(account)
{
	struct arena a;
	int pipe[2][2];
};

/* pages in the lists of each processor */
static long in_lists(void)
{
	FILE *f = fopen("/proc/zoneinfo", "re");
	long n, sum = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, " count: %ld", &n) == 1)
			sum += n;
	if (f)
		fclose(f);
	return sum;
}

/* a list that is too long by now gets shorter whenever its counters are folded */
static void shorten_lists(void)
{
	int i;

	for (i = 0; i < 200 && in_lists() > (long)(SLOT / PAGE); i++)
		write_file("/proc/sys/vm/stat_refresh", "1");
}

FIXTURE_SETUP(account)
{
	stop = false;
	/* what the kernel keeps for itself is not available: let it be little */
	ASSERT_EQ(0, write_file("/proc/sys/vm/min_free_kbytes", "4096"));
	/*
	 * Nor are the free pages in the lists of each processor, which from
	 * Linux 6.8 on grow to an eighth of memory when much is freed.
	 */
	ASSERT_EQ(0, write_file("/proc/sys/vm/percpu_pagelist_high_fraction",
				"1000000"));
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, pipe(self->pipe[0]));
	ASSERT_EQ(0, pipe(self->pipe[1]));
	drain_pool(1);
	shorten_lists();
	TH_LOG("%ld pages in lists", in_lists());
}

FIXTURE_TEARDOWN(account)
{
	int i;

	arena_close(&self->a);
	for (i = 0; i < 2; i++) {
		close(self->pipe[i][0]);
		close(self->pipe[i][1]);
	}
	EXPECT_TRUE(nothing_leaked());
}

/* the kernel's counters of a process are off by some pages */
static long rss_in_slots(long base_kb)
{
	long kb = proc_value("/proc/self/status", "RssFile") - base_kb;

	return (kb + SLOT_KB / 2) / SLOT_KB;
}

TEST_F(account, resident_size_follows_what_is_handed_out_and_taken)
{
	long base = proc_value("/proc/self/status", "RssFile");
	struct arena *a = &self->a;
	struct shrunk s;
	int i;

	ASSERT_EQ(0, handout_at(a, 0, 20, COMMIT));
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, touch(slot_of(a, i), true));
	EXPECT_EQ(20, rss_in_slots(base));
	for (i = 0; i < 12; i++)
		mark_idle(a, i);
	EXPECT_EQ(20, rss_in_slots(base));
	ASSERT_TRUE(sampled(12));
	ASSERT_EQ(0, shrink(7, &s));
	EXPECT_EQ(7, s.freed);
	EXPECT_EQ(13, rss_in_slots(base));
	EXPECT_EQ(5, trim(a, 0, 0));
	EXPECT_EQ(8, rss_in_slots(base));
	ASSERT_EQ(0, recycle(a, DROP, 12, 3));
	EXPECT_EQ(5, rss_in_slots(base));
	ASSERT_EQ(0, munmap(a->base, a->setup.arena_size));
	a->base = NULL;
	EXPECT_EQ(0, rss_in_slots(base));
}

/* slots that MemAvailable grew by */
static long grew(long since_kb)
{
	long kb = mem_available_kb() - since_kb;

	return (kb + (kb < 0 ? -SLOT_KB : SLOT_KB) / 2) / SLOT_KB;
}

static void set_idle(struct arena *a, int from, int to)
{
	int i;

	for (i = from; i < to; i++)
		mark_idle(a, i);
}

static void set_busy(struct arena *a, int from, int to)
{
	int i;

	for (i = from; i < to; i++)
		take_again(a, i, word_of(a, i));
}

TEST_F(account, idle_memory_is_available)
{
	struct arena *a = &self->a;
	long busy;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	ASSERT_TRUE(reported_becomes(0));
	busy = mem_available_kb();
	set_idle(a, 0, NR);
	EXPECT_EQ(NR, stats_of(a).idle);
	EXPECT_TRUE(reported_becomes(NR));
	EXPECT_TRUE(sampled(NR));
	/* the kernel keeps a little back, and is at work itself */
	EXPECT_GE(grew(busy), NR - 8);
	EXPECT_LE(grew(busy), NR + 4);
	set_busy(a, 40, NR);
	EXPECT_TRUE(reported_becomes(40));
	EXPECT_TRUE(sampled(40));
	EXPECT_LE(grew(busy), 40 + 4);
	/* what is given back is free, and no longer idle */
	EXPECT_EQ(40, trim(a, 0, 0));
	drain_pool(1);
	EXPECT_TRUE(reported_becomes(0));
	EXPECT_GE(grew(busy), 40 - 8);
	EXPECT_LE(grew(busy), 40 + 4);
}

/* while anything is idle the sample is an epoch old at most; ticks may be late */
TEST_F(account, sample_is_of_the_last_epoch)
{
	struct arena *a = &self->a;
	long start, took, best = 1000;
	int i, want = NR;

	ASSERT_EQ(0, handout_at(a, 0, NR, COMMIT));
	set_idle(a, 0, NR);
	ASSERT_TRUE(sampled(NR));
	for (i = 0; i < 20 && best > 1; i++) {
		if (want == NR)
			set_busy(a, want = 30, NR);
		else
			set_idle(a, 30, want = NR);
		start = sysfs("epoch");
		while (reported() != want)
			usleep(2000);
		took = sysfs("epoch") - start;
		if (took < best)
			best = took;
	}
	EXPECT_LE(best, 1);
}

/* with nothing resident no tick runs, but spare folios come and go */
TEST_F(account, spare_memory_is_available_until_it_is_free)
{
	struct shrunk s;

	ASSERT_EQ(0, handout_at(&self->a, 0, 40, COMMIT));
	arena_close(&self->a);
	EXPECT_TRUE(sysfs_becomes("pool_depth", 40));
	EXPECT_TRUE(reported_becomes(40));
	/* the last tick has been, and found nothing more to do */
	EXPECT_TRUE(sysfs_becomes("dirty", 0));
	wait_epochs(8);
	ASSERT_EQ(0, shrink(15, &s));
	EXPECT_EQ(15, s.freed);
	EXPECT_TRUE(reported_becomes(25));
	ASSERT_EQ(0, shrink(40, &s));
	EXPECT_EQ(25, s.freed);
	EXPECT_TRUE(reported_becomes(0));
}

/* lies about all slots: those without memory, those in a pipe, and the header */
static void *scribbler(void *arg)
{
	struct arena *a = arg;
	uint64_t n, i;

	for (n = 0; !stop; n++) {
		volatile uint64_t *header = (void *)a->header;

		for (i = 0; i < a->setup.words_offset / 8; i++)
			header[i] = ~n;
		for (i = 0; i < NR_SLOTS; i++)
			a->words[i] = HKR_WORD_MAKE(n % 5 == 4 ? n & 3 :
						    HKR_WORD_IDLE, n * 77, n);
	}
	return NULL;
}

/* a page of each slot into a pipe; every second one is then not mapped */
static bool pin_all(struct arena *a, int first, int nr, int pipe[2][2])
{
	int i;

	for (i = 0; i < nr; i++) {
		struct iovec iov = { slot_of(a, first + i), PAGE };
		int fd = pipe[i % 2][1];

		if (i < 2 && fcntl(fd, F_SETPIPE_SZ, 256 * PAGE) < 0)
			return false;
		*(long *)iov.iov_base = first + i;
		if (vmsplice(fd, &iov, 1, SPLICE_F_NONBLOCK) != PAGE)
			return false;
		if (i % 4 < 2 && madvise(iov.iov_base, SLOT, MADV_DONTNEED))
			return false;
	}
	return true;
}

static void unpin_all(int nr, int pipe[2][2])
{
	char page[PAGE];
	int i;

	for (i = 0; i < nr; i++)
		if (read(pipe[i % 2][0], page, PAGE) != PAGE)
			break;
}

TEST_F(account, scribbling_does_not_move_it_beyond_resident_less_pinned)
{
	long epoch, busy, seen, most = 0;
	struct arena *a = &self->a;
	pthread_t thread;

	ASSERT_EQ(0, handout_at(a, 0, 20, COMMIT));
	ASSERT_TRUE(pin_all(a, 0, 8, self->pipe));
	ASSERT_TRUE(reported_becomes(0));
	busy = mem_available_kb();
	ASSERT_EQ(0, pthread_create(&thread, NULL, scribbler, a));
	epoch = sysfs("epoch");
	while (sysfs("epoch") < epoch + 25) {
		seen = reported();
		if (seen > most)
			most = seen;
		EXPECT_LE(seen, 12);
		EXPECT_LE(sysfs("idle"), 12);
		EXPECT_LE(stats_of(a).idle, 12);
		EXPECT_LE(grew(busy), 12 + 4);
		usleep(5000);
	}
	stop = true;
	pthread_join(thread, NULL);
	/* it did tell lies that would have been believed */
	EXPECT_EQ(12, most);
	EXPECT_EQ(20, stats_of(a).resident);
	unpin_all(8, self->pipe);
}

#define NR_PINNED	300
#define NR_FREE		40

/* pages that others use cost 2 MiB each: not available, and not in the way */
/* slots from @first on without memory, of all that have some; -1: it does not settle */
static int lost_of(struct arena *a, int first, int nr)
{
	int round, i, lost;

	/* the machine may still be taking one */
	for (round = 0; round < 200; round++) {
		for (i = 0, lost = 0; i < nr; i++)
			lost += word_state(a, first + i) == HKR_WORD_EMPTY;
		if (stats_of(a).resident == (uint64_t)(first + nr - lost))
			return lost;
		usleep(10000);
	}
	return -1;
}

TEST_F(account, pinned_slots_fool_nobody_and_stop_nobody)
{
	struct arena *a = &self->a;
	long busy, may_need;
	int i, lost;

	ASSERT_EQ(0, handout_at(a, 0, NR_PINNED + NR_FREE, COMMIT));
	ASSERT_TRUE(pin_all(a, 0, NR_PINNED, self->pipe));
	ASSERT_TRUE(reported_becomes(0));
	busy = mem_available_kb();
	/* the pinned are older */
	for (i = 0; i < NR_PINNED; i++)
		mark_idle_at(a, i, a->header->epoch - 1000);
	set_idle(a, NR_PINNED, NR_PINNED + NR_FREE);
	EXPECT_TRUE(reported_becomes(NR_FREE));
	EXPECT_EQ(NR_FREE, stats_of(a).idle);
	EXPECT_LE(grew(busy), NR_FREE + 4);

	may_need = mem_available_kb() - 24 * 1024;
	ASSERT_GT(may_need, proc_value("/proc/meminfo", "MemFree"));
	EXPECT_EQ(0, in_child(need, (void *)(may_need << 10)));
	lost = lost_of(a, NR_PINNED, NR_FREE);
	EXPECT_GT(lost, 0);
	for (i = 0; i < NR_PINNED; i++) {
		ASSERT_EQ(HKR_WORD_IDLE, word_state(a, i));
		ASSERT_EQ(i, *(long *)slot_of(a, i));
	}
	unpin_all(NR_PINNED, self->pipe);
	drain_pool(1);
	EXPECT_TRUE(reported_becomes(NR_PINNED + NR_FREE - lost));
}

TEST_HARNESS_MAIN
