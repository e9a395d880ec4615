// SPDX-License-Identifier: GPL-2.0
/*
 * The ring and its lock with threads. Blocks are small structures whose plain
 * fields every owner changes, so that a block with two owners, or one that
 * changes hands without ordering, is seen here and by ThreadSanitizer.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <hakmem.h>

#include "lock.h"
#include "ring.h"
#include "tap.h"

#define S2 HKM_WHALE_MIN
#define NR_THREADS 4
#define NR_BLOCKS 64
#define NR_OPS 40000

struct block {
	int owner;		/* plain on purpose */
	unsigned long uses;
};

static struct block blocks[NR_BLOCKS];
static struct hkm_ring ring = HKM_RING_INIT;
static int nr_homeless;
static pthread_mutex_t home_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *homeless[NR_BLOCKS];
static int stop;

static void take_home(void *ptr, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	pthread_mutex_lock(&home_lock);
	check(nr_homeless < NR_BLOCKS);
	homeless[nr_homeless++] = ptr;
	pthread_mutex_unlock(&home_lock);
}

static struct block *from_home(void)
{
	struct block *b = NULL;

	pthread_mutex_lock(&home_lock);
	if (nr_homeless)
		b = homeless[--nr_homeless];
	pthread_mutex_unlock(&home_lock);
	return b;
}

static void *hammer(void *arg)
{
	int me = (int)(intptr_t)arg;
	uint64_t seed = (uint64_t)me;

	for (int i = 0; i < NR_OPS; i++) {
		struct block *b = hkm_ring_get(&ring,
					S2 + next_random(&seed) % 5 * 4096);

		if (!b)
			b = from_home();
		if (!b)
			continue;
		check_int(b->owner, 0);
		b->owner = me;
		b->uses++;
		check_int(b->owner, me);
		b->owner = 0;
		if (hkm_ring_put(&ring, b, S2 + next_random(&seed) % 5 * 4096))
			take_home(b, 0, NULL);
	}
	return NULL;
}

static void hammer_all(enum hkm_order order)
{
	struct hkm_whale_config cfg = {
		.slots = 16, .order = order, .release = take_home,
	};
	pthread_t threads[NR_THREADS];
	struct hkm_whale_stats st;

	for (int i = 0; i < NR_BLOCKS; i++)
		take_home(&blocks[i], 0, NULL);
	check_int(hkm_ring_setup(&ring, &cfg), 0);
	for (intptr_t i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	hkm_ring_get_stats(&ring, &st, NULL);
	check_int(st.puts, st.hits + st.evictions + st.cached);
	hkm_ring_drain(&ring);
	check_int(nr_homeless, NR_BLOCKS);
}

static void a_block_has_one_owner_hot(void)
{
	hammer_all(HKM_HOT_FIRST);
}

static void a_block_has_one_owner_fifo(void)
{
	hammer_all(HKM_FIFO);
}

/* the heap relies on this; hkm_whale_shutdown() does not promise it */
static void drain_and_setup_under_fire(void)
{
	struct hkm_whale_config cfg = { .slots = 8, .release = take_home };
	pthread_t threads[NR_THREADS];

	for (int i = 0; i < NR_BLOCKS; i++)
		take_home(&blocks[i], 0, NULL);
	for (intptr_t i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
	for (int i = 0; i < 300; i++) {
		cfg.slots = 1 + (size_t)i % 40;
		check_int(hkm_ring_setup(&ring, &cfg), 0);
		sched_yield();
		hkm_ring_drain(&ring);
	}
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	hkm_ring_drain(&ring);
	check_int(nr_homeless, NR_BLOCKS);
}

/* many first calls at once set the ring up once and lose nothing */
static void *first_put(void *arg)
{
	check_int(hkm_whale_put(arg, S2), 0);
	return NULL;
}

static void threads_race_to_set_up(void)
{
	pthread_t threads[8];
	struct hkm_whale_stats st;

	for (uintptr_t i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, first_put,
			       (void *)((i + 1) << 21));
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	hkm_whale_get_stats(&st);
	check_int(st.puts, 8);
	check_int(st.cached, 8);
	check_int(st.slots, 8);
}

/* ---- fork ----------------------------------------------------------------- */

static void *until_stopped(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		void *p = hkm_whale_get(S2);

		hkm_whale_put(p ? p : arg, S2);
	}
	return NULL;
}

/* A child that inherits a held lock hangs, and is killed by its alarm. */
static void use_ring_in_child(void)
{
	struct hkm_whale_stats st;

	alarm(5);
	for (uintptr_t i = 1; i <= 20; i++)
		check_int(hkm_whale_put((void *)(i << 21), S2 * 2), 0);
	for (int i = 0; i < 20; i++)
		check(i < 8 ? !!hkm_whale_get(S2 * 2) : !hkm_whale_get(S2 * 2));
	hkm_whale_get_stats(&st);
	check_int(st.cached, 0);
	_exit(0);
}

static void ignore(void *ptr, size_t size, void *arg)
{
	(void)ptr;
	(void)size;
	(void)arg;
}

static void forked_child_can_use_the_ring(void)
{
	struct hkm_whale_config cfg = { .slots = 8, .release = ignore };
	pthread_t threads[3];
	char text[4096];

	check_int(hkm_whale_init(&cfg), 0);
	for (uintptr_t i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, until_stopped,
			       (void *)((i + 100) << 21));
	for (int i = 0; i < 100; i++)
		check(exited_well(run_child(use_ring_in_child, text,
					    sizeof(text))));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the lock ------------------------------------------------------------- */

static struct hkm_lock lock;
static unsigned long counter;	/* plain: protected by lock */

static void *count_up(void *arg)
{
	for (int i = 0; i < 200000; i++) {
		hkm_lock(&lock);
		counter++;
		hkm_unlock(&lock);
	}
	return arg;
}

static void lock_excludes(void)
{
	pthread_t threads[NR_THREADS];

	for (int i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, count_up, NULL);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	check_int(counter, NR_THREADS * 200000);
	check_int(lock.word, 0);
}

static long cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void *wait_for_lock(void *arg)
{
	long before = cpu_us();

	hkm_lock(&lock);
	counter++;
	hkm_unlock(&lock);
	check(cpu_us() - before < 20000);
	return arg;
}

/* a waiter that spun until the lock is free would use 300 ms of processor */
static void waiters_sleep_and_are_all_woken(void)
{
	pthread_t threads[NR_THREADS];

	hkm_lock_shared(&lock);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, wait_for_lock, NULL);
	usleep(300000);
	check_int(counter, 0);
	hkm_unlock_shared(&lock);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	check_int(counter, NR_THREADS);
}

/* ---- handlers of fork() that run while the library's locks are taken ------- */

static void (*while_forking)(void);
static struct hkm_lock late;
static int nr_handlers;

static void handler(void)
{
	if (while_forking)
		while_forking();
}

/* before the library's constructors */
__attribute__((constructor(101))) static void come_first(void)
{
	pthread_atfork(handler, handler, handler);
}

static void pass_locks(void)
{
	nr_handlers++;
	hkm_lock(&lock);
	hkm_unlock(&lock);
	check(hkm_trylock(&lock));
	hkm_unlock_shared(&lock);
	hkm_lock_shared(&hkm_setup_lock);
	hkm_unlock_shared(&hkm_setup_lock);
	hkm_lock_register(&late);
	check(late.word);
	hkm_lock(&late);
	hkm_unlock(&late);
	/* no other thread gets one of them for that */
	check(lock.word && hkm_setup_lock.word && late.word);
}

static void check_handlers_are_done(void)
{
	check_int(nr_handlers, 2);
	check(!lock.word && !hkm_setup_lock.word && !late.word);
	check(hkm_trylock(&late));
	check(!hkm_trylock(&late));
	hkm_unlock_shared(&late);
	check_int(late.word, 0);
}

static void *until_stop(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		usleep(1000);
	return arg;
}

static void who_forks_passes_its_locks(void)
{
	pthread_t thread;
	int status;
	pid_t pid;

	alarm(10);
	hkm_lock_register(&lock);
	pthread_create(&thread, NULL, until_stop, NULL);
	while_forking = pass_locks;
	pid = fork();
	while_forking = NULL;
	check_handlers_are_done();
	if (!pid)
		_exit(0);
	check_int(waitpid(pid, &status, 0), pid);
	check(exited_well(status));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

static const struct tap_case cases[] = {
	CASE(a_block_has_one_owner_hot),
	CASE(a_block_has_one_owner_fifo),
	CASE(drain_and_setup_under_fire),
	CASE(threads_race_to_set_up),
	CASE(forked_child_can_use_the_ring),
	CASE(lock_excludes),
	CASE(waiters_sleep_and_are_all_woken),
	CASE(who_forks_passes_its_locks),
};

TAP_MAIN(cases)
