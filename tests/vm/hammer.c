// SPDX-License-Identifier: GPL-2.0
/*
 * hammer [SECONDS [scattered|forking]]: fault against recycle, with contents
 * checked.
 *
 * The essay in kmod/arena.c says what may go wrong: a fault looks a folio up,
 * the slot is recycled, and then the fault maps the folio that is somebody
 * else's by now. No checker in the kernel sees that; wrong contents do.
 *
 * In each of several processes one thread recycles the slots of an arena in
 * turn, checks that they read as zero (or, after MOVE, as they were), and writes
 * its mark. Other threads do nothing but fault: madvise(MADV_DONTNEED) drops
 * the translation, the touch brings it back. They check that every mark they
 * see is of this process. The recycler checks again after dropping the
 * translations, because what it wrote through a stale one is then not there.
 *
 * scattered: where no block of 2 MiB can be had, so that slots hold single pages
 * (hammer_singles.sh).
 *
 * forking: each process has a child all the time, which checks and overwrites what
 * it has inherited while its parent goes on (hammer_fork.sh).
 *
 * settings gives the module a pool that is not much larger than the arenas, so
 * that a folio soon meets another process.
 */
#include "fragment.h"
#include <pthread.h>
#include <time.h>

#define NR_PROCESSES	2
#define NR_TOUCHERS	2
#define NR		4	/* slots at work */
#define NR_SLOTS	8	/* slots NR and up: targets of MOVE */
#define NR_HOGGED	512
#define MARK		0x6861000000000000ULL

/* all processes see this */
struct shared {
	volatile bool stop;
	volatile long wrong;
	volatile long rounds;
	volatile long touches;
	volatile long unexpected;
	volatile long singles;	/* times that a slot got them */
	volatile long forks;
};

static struct shared *shared;
static bool forking;
static struct arena arena;
static uint64_t owner;		/* MARK, process number: the upper 32 bits */
static volatile unsigned int hot;	/* the slot that is about to go */

static volatile uint64_t *first_of(uint64_t idx)
{
	return (volatile uint64_t *)slot_of(&arena, idx);
}

static volatile uint64_t *last_of(uint64_t idx)
{
	return (volatile uint64_t *)slot_of(&arena, idx + 1) - 1;
}

static void complain(const char *what, uint64_t idx, uint64_t seen)
{
	if (__atomic_fetch_add(&shared->wrong, 1, __ATOMIC_RELAXED) < 5)
		printf("# process %llx slot %llu: %s: %llx\n",
		       (unsigned long long)(owner >> 32 & 0xff),
		       (unsigned long long)idx, what,
		       (unsigned long long)seen);
}

static __thread sigjmp_buf bus_env;

static void on_bus(int sig)
{
	siglongjmp(bus_env, 1);
}

static void *toucher(void *arg)
{
	unsigned int n = (uintptr_t)arg;
	uint64_t idx, seen;

	while (!shared->stop) {
		/* mostly where it hurts */
		idx = n++ % 4 ? hot : n % NR_SLOTS;
		madvise(slot_of(&arena, idx), SLOT, MADV_DONTNEED);
		/* between DROP and HANDOUT there is nothing to touch */
		if (sigsetjmp(bus_env, 1))
			continue;
		seen = n % 2 ? *first_of(idx) : *last_of(idx);
		if (seen && seen >> 32 != owner >> 32)
			complain("another's mark", idx, seen);
		__atomic_fetch_add(&shared->touches, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void expect(const char *what, uint64_t idx, uint64_t value)
{
	uint64_t a = *first_of(idx), b = *last_of(idx);

	if (a != value || b != value)
		complain(what, idx, a != value ? a : b);
}

static void expect_call(long ret)
{
	if (ret) {
		printf("# process %llx: a call failed: %ld\n",
		       (unsigned long long)(owner >> 32 & 0xff), ret);
		shared->unexpected++;
		shared->stop = true;
	}
}

/* the slot's contents from what the kernel's record says, not from the TLB */
static void drop_translation(uint64_t idx)
{
	madvise(slot_of(&arena, idx), SLOT, MADV_DONTNEED);
}

/*
 * Whoever recycled looks at once, or later: a fault that maps what it should
 * not does so only where nothing is mapped yet.
 */
static void wait_a_little(void)
{
	static uint32_t n;

	n = n * 1103515245 + 12345;
	if (n >> 16 & 1)
		usleep(n >> 17 & 1023);
}

static void recycle_one(uint64_t idx, uint64_t mark, uint32_t round)
{
	long ret;

	switch (round % 3) {
	case 0:
		expect_call(recycle(&arena, FRESH, idx, 1));
		wait_a_little();
		expect("not zero after FRESH", idx, 0);
		break;
	case 1:
		expect_call(recycle(&arena, DROP, idx, 1));
		expect_call(handout_at(&arena, idx, 1, round & 4 ? COMMIT : 0));
		wait_a_little();
		expect("not zero after DROP and HANDOUT", idx, 0);
		break;
	case 2:
		expect_call(handout_at(&arena, NR + idx, 1, 0));
		/* a toucher may have backed the target already */
		ret = recycle_to(&arena, MOVE, idx, 1, NR + idx);
		if (ret == -EEXIST) {
			expect_call(recycle(&arena, DROP, NR + idx, 1));
			expect("lost by a MOVE that failed", idx, mark);
			return;
		}
		expect_call(ret);
		wait_a_little();
		expect("lost by MOVE", NR + idx, mark);
		expect_call(handout_at(&arena, idx, 1, 0));
		wait_a_little();
		expect("not zero after MOVE away", idx, 0);
		expect_call(recycle(&arena, DROP, NR + idx, 1));
		break;
	}
}

static int child(const uint64_t *mark)
{
	uint64_t idx, mine = owner | 0xffffffff;

	for (idx = 0; idx < NR; idx++)
		expect("not what the parent had", idx, mark[idx]);
	for (idx = 0; idx < NR; idx++) {
		*first_of(idx) = mine;
		*last_of(idx) = mine;
	}
	expect_call(recycle(&arena, FRESH, 0, 1));
	expect("not zero after FRESH in a child", 0, 0);
	for (idx = 1; idx < NR; idx++)
		expect("not what the child wrote", idx, mine);
	return 0;
}

/* the last one is gone, and the next one begins */
static pid_t fork_again(pid_t last, const uint64_t *mark)
{
	pid_t pid;
	int status;

	if (last && (waitpid(last, &status, 0) != last || status))
		expect_call(-ECHILD);
	if (!mark)
		return 0;
	pid = fork();
	if (!pid)
		_exit(child(mark));
	expect_call(pid < 0 ? -errno : 0);
	shared->forks++;
	return pid;
}

static int recycler(void)
{
	uint32_t round = 0;
	uint64_t idx, mark[NR];
	pid_t last = 0;

	for (idx = 0; idx < NR; idx++) {
		mark[idx] = owner;
		*first_of(idx) = owner;
		*last_of(idx) = owner;
	}
	while (!shared->stop) {
		idx = round % NR;
		hot = idx;
		/* the touchers are to be between two faults, at any point */
		if (round % 8 == 7)
			sched_yield();
		if (forking && round % 8 == 3)
			last = fork_again(last, mark);
		drop_translation(idx);
		expect("not what was written", idx, mark[idx]);
		recycle_one(idx, mark[idx], round / NR);
		mark[idx] = owner | ++round;
		*first_of(idx) = mark[idx];
		*last_of(idx) = mark[idx];
		shared->rounds++;
	}
	fork_again(last, NULL);
	return 0;
}

static int process(int nr)
{
	struct sigaction sa = { .sa_handler = on_bus };
	pthread_t thread[NR_TOUCHERS];
	uintptr_t i;

	owner = MARK | (uint64_t)(nr + 1) << 32;
	sigaction(SIGBUS, &sa, NULL);
	if (arena_open(&arena, NR_SLOTS) || handout_at(&arena, 0, NR, COMMIT))
		return 1;
	for (i = 0; i < NR_TOUCHERS; i++)
		if (pthread_create(&thread[i], NULL, toucher, (void *)i))
			return 1;
	recycler();
	for (i = 0; i < NR_TOUCHERS; i++)
		pthread_join(thread[i], NULL);
	__atomic_fetch_add(&shared->singles, stats_of(&arena).served_single,
			   __ATOMIC_RELAXED);
	return 0;
}

static struct arena hog;
static long hogged;

/* all memory but some, and all blocks, until the end */
static bool scatter(void)
{
	static struct scattered scattered;

	return fragment(&scattered, 32 << 10) && !arena_open(&hog, NR_HOGGED) &&
	       !keep_from_children(&hog) &&
	       hog_blocks(&hog, NR_HOGGED, &hogged);
}

/* blocks come up while the hammer strikes, and would be all that it gets */
static void hog_more(void)
{
	while (hogged < NR_HOGGED && !handout_at(&hog, hogged, 1, COMMIT) &&
	       !stats_of(&hog).singles)
		hogged++;
	recycle(&hog, DROP, hogged, 1);
}

/* a hammer that does not strike proves nothing */
static bool struck_often(int seconds)
{
	return shared->rounds > 5 * seconds && shared->touches > 50 * seconds &&
	       (!forking || shared->forks > seconds);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 10;
	bool scattered = argc > 2 && !strcmp(argv[2], "scattered");
	int i, status, bad = 0;
	pid_t pid[NR_PROCESSES];

	forking = argc > 2 && !strcmp(argv[2], "forking");
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..3\n");
	if (scattered && !scatter()) {
		printf("Bail out! memory cannot be scattered\n");
		return 1;
	}
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < NR_PROCESSES; i++) {
		pid[i] = fork();
		if (!pid[i])
			exit(process(i));
	}
	/* no longer than it takes to see that it is wrong; longer where all is slow */
	for (i = 0; !shared->wrong && !shared->unexpected &&
	     (i < seconds * 10 ||
	      (i < seconds * 60 && !struck_often(seconds))); i++) {
		usleep(100000);
		if (scattered)
			hog_more();
	}
	shared->stop = true;
	for (i = 0; i < NR_PROCESSES; i++)
		if (waitpid(pid[i], &status, 0) != pid[i] || status)
			bad++;

	printf("# %ld rounds, %ld touches, %ld wrong, %ld times single pages, %ld forks\n",
	       shared->rounds, shared->touches, shared->wrong,
	       shared->singles, shared->forks);
	printf("%s 1 processes and calls end well\n",
	       bad || shared->unexpected ? "not ok" : "ok");
	printf("%s 2 no wrong contents are ever seen\n",
	       shared->wrong ? "not ok" : "ok");
	printf("%s 3 faults and recycling met often\n",
	       shared->wrong || (struck_often(seconds) &&
				 (!scattered || shared->singles > seconds)) ?
	       "ok" : "not ok");
	return bad || shared->unexpected || shared->wrong;
}
