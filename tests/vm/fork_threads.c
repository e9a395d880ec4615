// SPDX-License-Identifier: GPL-2.0
/*
 * fork() while other threads of the parent are at work: what the child sees is
 * the state of one moment.
 *
 * Two writers number the slots of a chain of their own, one after another, round
 * after round: at any moment the numbers of a chain do not grow along it, and
 * differ by one at most. A publisher takes a slot, by its word or by HANDOUT,
 * fills it, and then enters it into a table in a slot; later it takes it out of
 * the table and frees it. So at any moment what is in the table is busy and whole.
 *
 * Others give commands and touch no slot meanwhile. What these return is noted in
 * private memory that a fork copies last, so a command in the middle of the fork would
 * be in the note, but not in the child's view.
 */
#include "hkr_test.h"
#include <pthread.h>
#include "harness.h"

#define NR_WRITERS	2
#define CHAIN		6
#define TABLE		(NR_WRITERS * CHAIN)	/* the slot with the table */
#define BOOKS		(TABLE + 1)		/* those that it is about */
#define NR_BOOKS	8
#define NR_SLOTS	(BOOKS + NR_BOOKS)
#define NR_FORKS	60
#define NR_STORM	40

#define CHECK(cond)	do { if (!(cond)) return __LINE__ & 0xff; } while (0)

static struct arena arena;
static volatile bool stop;
static volatile uint64_t rounds[NR_WRITERS + 1];

/* not all at the same place: a copy takes its time */
static volatile uint64_t *link_of(uint64_t slot, unsigned int i)
{
	uint64_t *p = (uint64_t *)slot_of(&arena, slot);

	return &p[(i * 37 % 64) * (SLOT / 64 / 8)];
}

static void *write_chain(void *arg)
{
	uint64_t nr = (uintptr_t)arg, seq;
	unsigned int i;

	for (seq = 1; !stop; seq++) {
		for (i = 0; i < CHAIN; i++) {
			volatile uint64_t *l = link_of(nr * CHAIN + i, i);

			__atomic_store_n(l, seq, __ATOMIC_RELEASE);
		}
		rounds[nr] = seq;
	}
	return NULL;
}

static volatile uint64_t *entry(unsigned int i)
{
	return (volatile uint64_t *)slot_of(&arena, TABLE) + i;
}

static volatile uint64_t *last_of(uint64_t slot)
{
	return (volatile uint64_t *)slot_of(&arena, slot + 1) - 1;
}

static bool get_book(uint64_t slot)
{
	uint64_t word = word_of(&arena, slot);

	if (HKR_WORD_STATE(word) == HKR_WORD_IDLE &&
	    take_again(&arena, slot, word))
		return true;
	/* RECLAIM and what the kernel then makes of it */
	while (word_state(&arena, slot) == HKR_WORD_RECLAIM)
		;
	word = word_of(&arena, slot);
	if (HKR_WORD_STATE(word) == HKR_WORD_IDLE)
		return take_again(&arena, slot, word);
	return !handout_at(&arena, slot, 1, word & 4 ? COMMIT : 0);
}

static void *publish(void *arg)
{
	uint64_t seq, n;

	for (seq = 1; !stop; seq++) {
		n = seq % NR_BOOKS;
		if (*entry(n)) {
			__atomic_store_n(entry(n), 0, __ATOMIC_RELEASE);
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
			mark_idle(&arena, BOOKS + n);
			continue;
		}
		if (!get_book(BOOKS + n))
			continue;
		*(volatile uint64_t *)slot_of(&arena, BOOKS + n) = seq;
		*last_of(BOOKS + n) = seq;
		__atomic_store_n(entry(n), seq, __ATOMIC_RELEASE);
		rounds[NR_WRITERS] = seq;
	}
	return NULL;
}

/* 0: what is seen was so at one moment */
static int look_at_chains(void *unused)
{
	uint64_t nr, first, seq, last;
	unsigned int i;

	(void)unused;
	for (nr = 0; nr < NR_WRITERS; nr++) {
		first = last = *link_of(nr * CHAIN, 0);
		for (i = 1; i < CHAIN; i++) {
			seq = *link_of(nr * CHAIN + i, i);
			CHECK(seq <= last && first - seq <= 1);
			last = seq;
		}
	}
	return 0;
}

static int look(void)
{
	uint64_t n, seq;
	int ret = look_at_chains(NULL);

	if (ret)
		return ret;
	for (n = 0; n < NR_BOOKS; n++) {
		seq = *entry(n);
		if (!seq)
			continue;
		CHECK(word_state(&arena, BOOKS + n) == HKR_WORD_BUSY);
		CHECK(*(volatile uint64_t *)slot_of(&arena, BOOKS + n) == seq);
		CHECK(*last_of(BOOKS + n) == seq);
	}
	return 0;
}

static int looks(void *arg)
{
	int ret = look();
	uint64_t i;

	if (ret)
		return ret;
	/* and what this one writes nobody else sees */
	for (i = 0; i < TABLE; i++)
		*link_of(i, i % CHAIN) = 1ULL << 60;
	return 0;
}

FIXTURE(threads)
{
	pthread_t thread[NR_WRITERS + 1];
};

FIXTURE_SETUP(threads)
{
	uintptr_t i;

	ASSERT_EQ(0, arena_open(&arena, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&arena, 0, BOOKS, COMMIT));
	for (i = 0; i < NR_WRITERS; i++)
		ASSERT_EQ(0, pthread_create(&self->thread[i], NULL,
					    write_chain, (void *)i));
	ASSERT_EQ(0, pthread_create(&self->thread[i], NULL, publish, NULL));
}

FIXTURE_TEARDOWN(threads)
{
	int i;

	stop = true;
	for (i = 0; i <= NR_WRITERS; i++)
		pthread_join(self->thread[i], NULL);
	EXPECT_EQ(0, look());
	arena_close(&arena);
	EXPECT_TRUE(nothing_leaked());
}

/* the first @nr, writers and the publisher, have done something since */
static void wait_for_rounds(int nr)
{
	uint64_t then[NR_WRITERS + 1];
	int i;

	for (i = 0; i < nr; i++)
		then[i] = rounds[i];
	for (i = 0; i < nr; i++)
		while (rounds[i] == then[i])
			sched_yield();
}

TEST_F(threads, child_sees_one_moment)
{
	int i, bad = 0;

	for (i = 0; i < NR_FORKS && !bad; i++) {
		wait_for_rounds(NR_WRITERS + 1);
		bad = in_child(looks, NULL);
	}
	EXPECT_EQ(0, bad);
	TH_LOG("%d forks, %lu copies here", i,
	       (unsigned long)stats_of(&arena).copied);
}

TEST_F(threads, storm)
{
	pid_t pid[NR_STORM];
	int i, status, bad = 0;

	for (i = 0; i < NR_STORM; i++) {
		pid[i] = fork();
		if (!pid[i])
			/* some have children, some do nothing */
			_exit(i % 4 == 3 ? 0 :
			      i % 4 ? looks(NULL) : in_child(looks, NULL));
		ASSERT_LE(0, pid[i]);
		/* some are killed while they copy */
		if (i % 3 == 2)
			kill(pid[i / 3], SIGKILL);
	}
	for (i = 0; i < NR_STORM; i++)
		if (waitpid(pid[i], &status, 0) != pid[i] ||
		    (WIFEXITED(status) && WEXITSTATUS(status)))
			bad++;
	EXPECT_EQ(0, bad);
}

static int copies_for_ever(int fd)
{
	unsigned int i;

	CHECK(write(fd, "", 1) == 1);
	for (i = 0; ; i++) {
		/* shares again with a child that is gone at once, or is not yet */
		if (i % TABLE == 0 && !fork())
			_exit(0);
		*link_of(i % TABLE, i % CHAIN) = 1ULL << 60;
	}
}

TEST_F(threads, child_is_killed_while_it_copies)
{
	int i, fd[2];
	char c;

	ASSERT_EQ(0, pipe(fd));
	for (i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(copies_for_ever(fd[1]));
		ASSERT_EQ(1, read(fd[0], &c, 1));
		usleep(i * 500);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
}

/* what the others are measured by: the same with private anonymous memory */
TEST(anonymous_child_sees_one_moment)
{
	pthread_t thread[NR_WRITERS];
	int forks, bad = 0;
	uintptr_t i;

	stop = false;
	arena.base = mmap(NULL, NR_SLOTS * SLOT, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)arena.base);
	for (i = 0; i < NR_WRITERS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, write_chain,
					    (void *)i));
	for (forks = 0; forks < NR_FORKS / 4 && !bad; forks++) {
		wait_for_rounds(NR_WRITERS);
		bad = in_child(look_at_chains, NULL);
	}
	EXPECT_EQ(0, bad);
	stop = true;
	for (i = 0; i < NR_WRITERS; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(0, look_at_chains(NULL));
	munmap(arena.base, NR_SLOTS * SLOT);
}

/* ---- commands -------------------------------------------------------------- */

#define NR_WALLS	1000	/* mappings that are copied between arena and stack */
#define NR_NOTES	40
#define X		0x1234567890UL
#define NOWHERE		(~0UL)

/* on the stack of who forks, above all mappings */
struct note {
	volatile uint64_t begun;	/* commands */
	volatile uint64_t done;
	volatile uint64_t slot;		/* where the last one left it */
	volatile int error;
	volatile bool stop;
};

static volatile uint64_t *first_of(uint64_t slot)
{
	return (volatile uint64_t *)slot_of(&arena, slot);
}

/* from its number to zero */
static long make_fresh(struct note *note)
{
	*first_of(0) = note->done + 1;
	note->begun++;
	return recycle(&arena, HKR_RECYCLE_FRESH, 0, 1);
}

static int look_at_fresh(struct note *note)
{
	uint64_t seen = *first_of(0);

	CHECK(!seen || seen == note->done + 1);
	return 0;
}

/* X is in one slot or in the other */
static long move_it(struct note *note)
{
	uint64_t to = 1 - note->slot;
	long ret = handout_at(&arena, to, 1, 0);

	if (ret)
		return ret;
	note->begun++;
	ret = recycle_to(&arena, HKR_RECYCLE_MOVE, note->slot, 1, to);
	note->slot = to;
	return ret;
}

static bool has_it(uint64_t slot)
{
	return word_state(&arena, slot) == HKR_WORD_BUSY && *first_of(slot) == X;
}

static int look_for_it(struct note *note)
{
	if (note->begun == note->done)
		CHECK(has_it(note->slot));
	else
		CHECK(has_it(0) || has_it(1));
	return 0;
}

static long get_and_drop(struct note *note)
{
	long ret, slot = handout(&arena, 1, COMMIT);

	if (slot < 0)
		return slot;
	note->begun++;
	note->slot = slot;
	/* it is good for a while */
	for (ret = 0; ret < 2000; ret++)
		__asm__ volatile("");
	note->slot = NOWHERE;
	return recycle(&arena, DROP, slot, 1);
}

static int look_at_new(struct note *note)
{
	uint64_t slot = note->slot;

	if (slot == NOWHERE)
		return 0;
	CHECK(word_state(&arena, slot) == HKR_WORD_BUSY);
	CHECK(*first_of(slot) == 0);
	return 0;
}

FIXTURE(commands)
{
	char *walls;
};

FIXTURE_VARIANT(commands)
{
	long (*command)(struct note *note);
	int (*look)(struct note *note);
	uint64_t slot;
	bool split;
};

FIXTURE_VARIANT_ADD(commands, fresh) { make_fresh, look_at_fresh, 0, false };
FIXTURE_VARIANT_ADD(commands, move) { move_it, look_for_it, 0, false };
/* the two slots are in mappings of their own */
FIXTURE_VARIANT_ADD(commands, move_across) { move_it, look_for_it, 0, true };
FIXTURE_VARIANT_ADD(commands, handout) {
	get_and_drop, look_at_new, NOWHERE, false
};

FIXTURE_SETUP(commands)
{
	int i;

	/* before the arena, which so is below them and is copied first */
	self->walls = mmap(NULL, NR_WALLS * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->walls);
	memset(self->walls, 1, NR_WALLS * PAGE);
	for (i = 0; i < NR_WALLS; i += 2)
		ASSERT_EQ(0, mprotect(self->walls + i * PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, arena_open(&arena, 16));
	ASSERT_LT((uintptr_t)slot_of(&arena, 0), (uintptr_t)self->walls);
	if (variant->slot == NOWHERE)
		return;
	ASSERT_EQ(0, handout_at(&arena, 0, 1, COMMIT));
	*first_of(0) = variant->look == look_for_it ? X : 0;
	if (variant->split)
		ASSERT_EQ(0, mprotect(slot_of(&arena, 1), SLOT, PROT_READ));
}

FIXTURE_TEARDOWN(commands)
{
	arena_close(&arena);
	munmap(self->walls, NR_WALLS * PAGE);
	EXPECT_TRUE(nothing_leaked());
}

struct commander {
	struct note *note;
	long (*command)(struct note *note);
};

static void *give_commands(void *arg)
{
	struct commander *c = arg;

	while (!c->note->stop && !c->note->error) {
		c->note->error = -c->command(c->note);
		c->note->done = c->note->begun;
	}
	return NULL;
}

TEST_F(commands, child_sees_them_before_or_after)
{
	struct note note = { .slot = variant->slot };
	struct commander c = { &note, variant->command };
	pthread_t thread;
	uint64_t then;
	int i, status, bad = 0;
	pid_t pid;

	ASSERT_LT((uintptr_t)self->walls, (uintptr_t)&note);
	ASSERT_EQ(0, pthread_create(&thread, NULL, give_commands, &c));
	for (i = 0; i < NR_NOTES && !bad && !note.error; i++) {
		then = note.done;
		while (note.done == then && !note.error)
			sched_yield();
		pid = fork();
		if (!pid)
			_exit(variant->look(&note));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		bad = status;
	}
	note.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, bad);
	EXPECT_EQ(0, note.error);
	TH_LOG("%d forks, %lu commands", i, (unsigned long)note.done);
}

TEST_HARNESS_MAIN
