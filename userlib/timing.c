// SPDX-License-Identifier: MIT
/*
 * Who spends the cycles: one counter pair per kind of call and thread.
 *
 * A thread counts in a block that only it writes. Blocks are never freed: that of a
 * thread that has ended keeps its counts and is the next new thread's, which counts on.
 * So there are as many as there ever were threads at once that counted, and a reader,
 * who adds them up under the lock, sees each counter whole, though not all at one
 * moment. Where there is no memory for a block, and when a thread has given its own
 * away, threads share one, under the lock.
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
#include "sys.h"
#include "thread.h"
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

struct block {
	struct hkm_timing counts;	/* written by the owner only */
	struct block *next;		/* fixed */
	bool owned;			/* protected by lock */
};

static void in_child(void);
static struct hkm_lock lock = { .in_child = in_child };

/* All protected by lock. */
static struct block shared;	/* also the last of the list */
static struct block *blocks = &shared;
static struct hkm_timing base;	/* what hkm_timing_reset() subtracts */

static pthread_once_t ready_once = PTHREAD_ONCE_INIT;
static pthread_key_t my_block;
static int ready_error;
static bool has_key;
static bool dump_at_exit;

static void add_counts(struct hkm_timing *sum, const struct hkm_timing *counts)
{
	for (int i = 0; i < HKM_T_NR; i++) {
		sum->calls[i] += read_once(&counts->calls[i]);
		sum->cycles[i] += read_once(&counts->cycles[i]);
	}
}

static void sum_locked(struct hkm_timing *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (struct block *b = blocks; b; b = b->next)
		add_counts(sum, &b->counts);
}

static void give_block(struct block *b)
{
	hkm_lock(&lock);
	b->owned = false;
	hkm_unlock(&lock);
}

/* Destructors that come later may still call us; there may be no other time for ours. */
static void thread_exits(void *arg)
{
	hkm_enter(HKM_IN_EXIT);
	give_block(arg);
}

/* The other threads are not in this process. */
static void in_child(void)
{
	struct block *mine = has_key ? pthread_getspecific(my_block) : NULL;

	for (struct block *b = blocks; b; b = b->next)
		b->owned = b == mine;
	sum_locked(&base);
}

static void get_ready(void)
{
	ready_error = -pthread_key_create(&my_block, thread_exits);
	/* Release: pairs with the acquire in hkm_timing_add(), which needs the key. */
	store_release(&has_key, !ready_error);
}

/* One that nobody has, or NULL. */
static struct block *find_block(void)
{
	struct block *b;

	hkm_lock(&lock);
	for (b = blocks; b != &shared && b->owned; b = b->next)
		;
	if (b != &shared)
		b->owned = true;
	hkm_unlock(&lock);
	return b != &shared ? b : NULL;
}

static struct block *make_block(void)
{
	struct block *b = hkm_sys_table(sizeof(*b));

	if (!b)
		return NULL;
	b->owned = true;
	hkm_lock(&lock);
	b->next = blocks;
	blocks = b;
	hkm_unlock(&lock);
	return b;
}

static cold struct block *get_block(void)
{
	struct block *b;

	hkm_enter(HKM_IN_TIMING);
	b = pthread_getspecific(my_block);	/* a signal's handler may have got one */
	if (!b) {
		b = find_block() ?: make_block();
		if (b && pthread_setspecific(my_block, b)) {
			give_block(b);
			b = NULL;
		}
	}
	hkm_exit(HKM_IN_TIMING);
	return b;
}

static cold void add_shared(enum hkm_timed what, uint64_t cycles)
{
	hkm_lock(&lock);
	shared.counts.calls[what]++;
	shared.counts.cycles[what] += cycles;
	hkm_unlock(&lock);
}

void hkm_timing_add(enum hkm_timed what, uint64_t cycles)
{
	bool is_ready = load_acquire(&has_key);
	struct block *b = NULL;

	if (likely(is_ready))
		b = pthread_getspecific(my_block);
	if (unlikely(!b)) {
		/* To get memory for a block is a call, too, and not the program's. */
		if (hkm_is_in(HKM_IN_TIMING))
			return;
		if (is_ready && !hkm_is_in(HKM_IN_EXIT))
			b = get_block();
	}
	if (unlikely(!b)) {
		add_shared(what, cycles);
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
