/* SPDX-License-Identifier: GPL-2.0 */
#ifndef MARKS_H
#define MARKS_H

/*
 * What hammer_reclaim writes into slots, how it checks it, and what it counts.
 *
 * A mark says whose it is and is used once. It stands in three places of a slot,
 * and contents[] has it as well, written by who has the slot before he frees it;
 * who takes the slot again compares. born[] has another number, a new one for
 * each HANDOUT.
 */

#include <pthread.h>
#include "hkr_test.h"

#define MARK		0x6861000000000000ULL
#define NR_PROCESSES	2
#define NR_WORKERS	2
#define NR_OWN		4	/* slots of one worker */
#define NR_SHARED	8	/* slots for all workers of a process */
#define DMA_SLOT	(NR_SHARED + NR_WORKERS * NR_OWN)
#define NR_SLOTS	(DMA_SLOT + 1)

enum count {
	ATTEMPTS,	/* swaps while the trigger was at work */
	KEPT,		/* of these: taken again, contents right */
	MET,		/* swaps that failed: the kernel was first */
	TAKEN,		/* slots of the kernel's that were handed out anew */
	CALLS,		/* RECYCLE, TRIM */
	TOUCHES,
	PEEKS,		/* into the other process */
	PINS,
	LOST,		/* taken again, and the contents were gone */
	CORRUPTED,	/* or another's */
	UNZEROED,	/* handed out with something in it */
	FAILED,		/* calls that must not */
	NR_COUNTS
};

static const char *const names[NR_COUNTS] = {
	"raced", "kept", "met", "taken", "recycled", "touched", "peeked",
	"pinned", "lost", "corrupted", "unzeroed", "failed",
};

/* all processes see this */
struct shared {
	bool stop;
	bool at_work;			/* the trigger, just now */
	long count[NR_COUNTS];
	long complaints;
	char *base[NR_PROCESSES];	/* of the arenas */
	pid_t pid[NR_PROCESSES];
};

struct thread {
	pthread_t id;
	unsigned int nr;
	uint32_t random;
	long count[NR_COUNTS];
	int pipe[2];
};

static struct shared *shared;
static struct arena arena;
static unsigned int process;
static uint64_t owner;		/* MARK and the process: the upper 32 bits */

/* what a slot holds; written by who has it, before he frees it */
static uint64_t born[NR_SLOTS];		/* one number for each HANDOUT */
static uint64_t contents[NR_SLOTS];
static uint64_t serial;

#define load(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)

static uint32_t roll(struct thread *t)
{
	t->random = t->random * 1103515245 + 12345;
	return t->random >> 8;
}

static bool one_in(struct thread *t, uint32_t n)
{
	return !(roll(t) % n);
}

static void tally(struct thread *t)
{
	int i;

	for (i = 0; i < NR_COUNTS; i++) {
		__atomic_fetch_add(&shared->count[i], t->count[i],
				   __ATOMIC_RELAXED);
		t->count[i] = 0;
	}
}

static void complain(struct thread *t, enum count kind, const char *what,
		     uint64_t idx, uint64_t seen, uint64_t wanted)
{
	t->count[kind]++;
	if (__atomic_fetch_add(&shared->complaints, 1, __ATOMIC_RELAXED) < 8)
		printf("# process %u slot %llu: %s: %llx, not %llx\n", process,
		       (unsigned long long)idx, what, (unsigned long long)seen,
		       (unsigned long long)wanted);
}

static __thread sigjmp_buf bus_env;

static void on_bus(int sig)
{
	siglongjmp(bus_env, 1);
}

/* no system call to save the mask: the handler is SA_NODEFER */
static bool look(volatile uint64_t *p, uint64_t *seen)
{
	if (sigsetjmp(bus_env, 0))
		return false;
	*seen = *p;
	return true;
}

static volatile uint64_t *place(uint64_t idx, int n)
{
	static const size_t at[] = { 0, SLOT / 2 + PAGE - 8, SLOT - 8 };

	return (void *)(slot_of(&arena, idx) + at[n]);
}

static void write_marks(uint64_t idx, uint64_t mark)
{
	int i;

	store(&contents[idx], mark);
	for (i = 0; i < 3; i++)
		*place(idx, i) = mark;
}

static void new_contents(uint64_t idx)
{
	uint64_t n = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);

	write_marks(idx, owner | n);
}

/* a slot that was taken again, whose contents are known */
static bool as_it_was(struct thread *t, uint64_t idx)
{
	uint64_t wanted = load(&contents[idx]), seen = 0;
	int i;

	for (i = 0; i < 3; i++) {
		if (!look(place(idx, i), &seen)) {
			complain(t, LOST, "SIGBUS", idx, i, wanted);
			return false;
		}
		if (seen == wanted)
			continue;
		complain(t, seen ? CORRUPTED : LOST, "taken again", idx, seen,
			 wanted);
		return false;
	}
	return true;
}

/* a slot that was handed out; with FROM_IDLE it may be our own old memory */
static void expect_new(struct thread *t, uint64_t idx, bool zeroed)
{
	uint64_t seen = 0;
	int i;

	for (i = 0; i < 3; i++) {
		if (!look(place(idx, i), &seen))
			complain(t, LOST, "SIGBUS after HANDOUT", idx, i, 0);
		else if (seen && (zeroed || seen >> 32 != owner >> 32))
			complain(t, UNZEROED, "new", idx, seen, 0);
	}
}

/* what may be in a slot of a process, whoever has it, whenever */
static void expect_tag(struct thread *t, uint64_t idx, uint64_t seen,
		       uint64_t tag)
{
	if (seen && seen >> 32 != tag >> 32)
		complain(t, CORRUPTED, "another's mark", idx, seen, tag);
}

#endif /* MARKS_H */
