// SPDX-License-Identifier: MIT
/*
 * Who spends the cycles: one counter pair per kind of call and thread.
 *
 * A thread counts in its own block in thread-local storage, which only it
 * writes. Blocks are linked into a list when a thread first counts; a reader
 * walks the list under the lock and sees each counter whole, though not all at
 * one moment. When a thread exits, its block is added to the counts of the dead
 * and unlinked, because the memory goes with the thread. Destructors of other
 * libraries may still call us after that; such calls are added to the counts of
 * the dead directly.
 *
 * Nothing is ever set back to zero, since that would race with the owner of a
 * block: a reset remembers the sum and later readings subtract it.
 *
 * A forked child starts from zero.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "env.h"
#include "lock.h"
#include "timing.h"

static const char *const names[HKM_T_NR] = {
	[HKM_T_MMAP] = "mmap",
	[HKM_T_MUNMAP] = "munmap",
	[HKM_T_MADVISE] = "madvise",
	[HKM_T_HANDOUT] = "handout",
	[HKM_T_RECYCLE] = "recycle",
	[HKM_T_WHALE_GET] = "whale_get",
	[HKM_T_WHALE_PUT] = "whale_put",
};

const char *hkm_strtiming(enum hkm_timed what)
{
	return (unsigned int)what < HKM_T_NR ? names[what] : NULL;
}

#if HAKMEM_DEBUG_TIMING

int hkm_timing_on;

enum block_state { BLOCK_NEW, BLOCK_LINKED, BLOCK_DEAD };

struct block {
	struct hkm_timing counts;	/* written by the owner only */
	struct block *next, **link;	/* protected by lock */
	enum block_state state;		/* the owner's */
};

static void in_child(void);
static struct hkm_lock lock = { .in_child = in_child };

/* All protected by lock. */
static struct block *blocks;
static struct hkm_timing dead;
static struct hkm_timing base;	/* what hkm_timing_reset() subtracts */

static pthread_once_t ready_once = PTHREAD_ONCE_INIT;
static pthread_key_t exit_key;
static int ready_error;
static bool dump_at_exit;

/*
 * initial-exec: reached without __tls_get_addr(), which may call malloc() in a
 * library that was loaded late.
 */
static __thread struct block mine __attribute__((tls_model("initial-exec")));

static void add_counts(struct hkm_timing *sum, const struct hkm_timing *counts)
{
	for (int i = 0; i < HKM_T_NR; i++) {
		sum->calls[i] += read_once(&counts->calls[i]);
		sum->cycles[i] += read_once(&counts->cycles[i]);
	}
}

static void unlink_block(struct block *b)
{
	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
}

static void link_block(struct block *b)
{
	b->next = blocks;
	b->link = &blocks;
	if (b->next)
		b->next->link = &b->next;
	blocks = b;
	b->state = BLOCK_LINKED;
}

static void thread_exits(void *arg)
{
	struct block *b = arg;

	hkm_lock(&lock);
	add_counts(&dead, &b->counts);
	unlink_block(b);
	b->state = BLOCK_DEAD;
	hkm_unlock(&lock);
}

/* The other threads are not in this process, and their memory may be reused. */
static void in_child(void)
{
	blocks = NULL;
	memset(&dead, 0, sizeof(dead));
	memset(&base, 0, sizeof(base));
	if (mine.state != BLOCK_LINKED)
		return;
	link_block(&mine);
	add_counts(&base, &mine.counts);
}

static void get_ready(void)
{
	ready_error = -pthread_key_create(&exit_key, thread_exits);
}

static cold void add_unlinked(struct block *b, enum hkm_timed what,
			      uint64_t cycles)
{
	bool fresh = b->state == BLOCK_NEW &&
		     !pthread_setspecific(exit_key, b);

	hkm_lock(&lock);
	if (fresh)
		link_block(b);
	dead.calls[what]++;
	dead.cycles[what] += cycles;
	hkm_unlock(&lock);
}

void hkm_timing_add(enum hkm_timed what, uint64_t cycles)
{
	struct block *b = &mine;

	if (unlikely(b->state != BLOCK_LINKED)) {
		add_unlinked(b, what, cycles);
		return;
	}

	/* Only this thread writes them; a reader must see them whole. */
	write_once(&b->counts.calls[what], b->counts.calls[what] + 1);
	write_once(&b->counts.cycles[what], b->counts.cycles[what] + cycles);
}

int hkm_timing_enable(int on)
{
	pthread_once(&ready_once, get_ready);
	if (ready_error)
		return ready_error;
	write_once(&hkm_timing_on, !!on);
	return 0;
}

static void sum_locked(struct hkm_timing *sum)
{
	*sum = dead;
	for (struct block *b = blocks; b; b = b->next)
		add_counts(sum, &b->counts);
}

void hkm_timing_read(struct hkm_timing *sum)
{
	hkm_lock(&lock);
	sum_locked(sum);
	for (int i = 0; i < HKM_T_NR; i++) {
		sum->calls[i] -= base.calls[i];
		sum->cycles[i] -= base.cycles[i];
	}
	hkm_unlock(&lock);
}

void hkm_timing_reset(void)
{
	hkm_lock(&lock);
	sum_locked(&base);
	hkm_unlock(&lock);
}

static void dump_row(FILE *out, const char *name, uint64_t calls,
		     uint64_t cycles, uint64_t all)
{
	fprintf(out, "%-10s %12llu %18llu %14llu %7.1f%%\n", name,
		(unsigned long long)calls, (unsigned long long)cycles,
		(unsigned long long)(calls ? cycles / calls : 0),
		all ? 100.0 * (double)cycles / (double)all : 0.0);
}

void hkm_timing_dump(FILE *out)
{
	struct hkm_timing sum;
	uint64_t calls = 0, cycles = 0;

	if (!out)
		out = stderr;
	hkm_timing_read(&sum);
	for (int i = 0; i < HKM_T_NR; i++) {
		calls += sum.calls[i];
		cycles += sum.cycles[i];
	}

	fprintf(out, "libhakmem timing of process %ld, in cycles of the time-stamp counter\n",
		(long)getpid());
	fprintf(out, "%-10s %12s %18s %14s %8s\n", "call", "calls", "cycles",
		"cycles/call", "share");
	for (int i = 0; i < HKM_T_NR; i++)
		dump_row(out, names[i], sum.calls[i], sum.cycles[i], cycles);
	dump_row(out, "total", calls, cycles, cycles);
}

__attribute__((constructor)) static void timing_at_load(void)
{
	hkm_lock_register(&lock);
	if (hkm_env_flag(HAKMEM_TIMING))
		dump_at_exit = !hkm_timing_enable(1);
}

__attribute__((destructor)) static void timing_at_exit(void)
{
	if (dump_at_exit)
		hkm_timing_dump(stderr);
}

#else /* !HAKMEM_DEBUG_TIMING */

int hkm_timing_enable(int on)
{
	(void)on;
	return -EOPNOTSUPP;
}

void hkm_timing_read(struct hkm_timing *sum)
{
	memset(sum, 0, sizeof(*sum));
}

void hkm_timing_reset(void)
{
}

void hkm_timing_dump(FILE *out)
{
	fprintf(out ? out : stderr,
		"libhakmem timing: not compiled in (HAKMEM_DEBUG_TIMING=0)\n");
}

__attribute__((constructor)) static void timing_at_load(void)
{
	if (hkm_env_flag(HAKMEM_TIMING))
		hkm_message("HAKMEM_TIMING=1 has no effect: this library was built with HAKMEM_DEBUG_TIMING=0");
}

#endif
