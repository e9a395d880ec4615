// SPDX-License-Identifier: GPL-2.0
/*
 * The heap where it is shared: with a device that fails or takes whales back,
 * with forked children, and between threads.
 */
#include <pthread.h>

#include <linux/hakmem_region.h>

#include "cache.h"
#include "heap_test.h"
#include "lane.h"
#include "supply.h"

/* ---- with the device --------------------------------------------------------- */

static void device_whales_cycle_without_calls(void)
{
	char *p;

	with_device();
	p = hkm_malloc(3 * SLOT);
	check(!strcmp(stats().backend, "region"));
	for (int i = 0; i < 1000; i++) {
		hkm_free(p);
		check(hkm_malloc(3 * SLOT) == p);
	}
	check_int(fake.handouts, 1);
	check_int(fake.at_handouts + fake.drops + fake.fresh, 0);
}

/* what can no longer be given back is left for the kernel to take */
static void a_closed_device_holds_no_memory(void)
{
	char *a, *b;

	with_device();
	a = hkm_malloc(3 * SLOT);
	b = hkm_malloc(2 * SLOT);
	hkm_free(a);
	hkm_free(b);
	check_int(fake_reclaim(1, 1), 1);
	fake.recycle_error = -EBADF;
	fake.handout_call_error = -EBADF;
	check(hkm_malloc(3 * SLOT) != a);
	hkm_release_all();
	check_int(stats().idle_bytes, 0);
	check_int(fake_reclaim(0, 5), 4);
}

static void lost_whales_are_counted_and_replaced(void)
{
	char *a, *b;

	with_device();
	fake.max_slots = 8;
	a = hkm_malloc(2 * SLOT);
	b = hkm_malloc(2 * SLOT);
	hkm_free(b);
	hkm_free(a);

	/* a is being taken: it is lost, b is the next best */
	check(fake_reclaim_begin(0));
	check(hkm_malloc(2 * SLOT) == b);
	check_int(stats().lost, 1);
	fake_reclaim_end(0, true);
	check(hkm_malloc(2 * SLOT) == a);
	check_int(fake.handouts, 3);
	check_int(stats().live_bytes, 4 * SLOT);
	hkm_free(a);
	hkm_free(b);
	check_int(stats().live_bytes, 0);
}

/*
 * The kernel takes a cached run and hands the same slots to the next malloc:
 * the old entry must harm neither its contents nor its record when it is met.
 */
static void stale_entry_leaves_its_successor_alone(void)
{
	char *a, *b, *c;

	with_device();
	fake.max_slots = 8;
	a = hkm_malloc(2 * SLOT);
	hkm_free(a);
	check_int(fake_reclaim(0, 2), 2);
	b = hkm_malloc(3 * SLOT);	/* a larger one: does not meet the entry */
	check(b == a);
	memset(b, 9, 3 * SLOT);
	c = hkm_malloc(2 * SLOT);	/* meets it */
	check(c != b && is_whale(c));
	memset(c, 1, 2 * SLOT);
	check(all_bytes(b, 3 * SLOT, 9));
	check_int(stats().lost, 1);
	hkm_free(b);
	hkm_free(c);
	hkm_shutdown();
	for (size_t i = 0; i < 8; i++)
		check(!fake_is_taken(i));
}

static void shutdown_spares_a_successor(void)
{
	char *a, *b;

	with_device();
	a = hkm_malloc(2 * SLOT);
	hkm_free(a);
	check_int(fake_reclaim(0, 2), 2);
	b = hkm_malloc(3 * SLOT);
	check(b == a);
	memset(b, 9, 3 * SLOT);
	hkm_shutdown();
	check(all_bytes(b, 3 * SLOT, 9));
	check(fake_is_taken(0));
	hkm_free(b);
	check(!fake_is_taken(0));
}

static int failing;
static int told_lines;

static void use_failing_device(void)
{
	char *a, *b, *c;

	with_device();
	setenv("HAKMEM_VERBOSE", "1", 1);
	a = hkm_malloc(2 * SLOT);
	fake.handout_error = failing;
	b = hkm_malloc(2 * SLOT);
	c = hkm_malloc(2 * SLOT);
	check(is_whale(a) && is_whale(b) && is_whale(c));
	check(!strcmp(stats().backend, "anon"));
	memset(b, 1, 2 * SLOT);
	fake.handout_error = 0;
	check(is_whale(hkm_malloc(2 * SLOT)));
	check(!strcmp(stats().backend, "region"));
	hkm_free(a);
	hkm_free(b);
	hkm_free(c);
	check_int(stats().live_bytes, 2 * SLOT);
}

static void device_errors_cost_one_block_only(void)
{
	static const int errors[] = {
		-ENOMEM, -EDQUOT, -ENOSPC, -EBADFD, -EBADF,
	};
	char text[4096];

	for (int i = 0; i < 5; i++) {
		failing = errors[i];
		told_lines = i >= 3;
		check(exited_well(run_child(use_failing_device, text,
					    sizeof(text))));
		check_int(count_lines(text), told_lines);
		check(!told_lines || strstr(text, "/dev/hakmem_region: lost"));
	}
}

/* ---- fork ---------------------------------------------------------------------- */

static char *inherited, *pinned;

static void use_heap_in_child(void)
{
	int calls = fake.handouts + fake.drops + fake.at_handouts;
	char *p[20];

	alarm(10);
	for (int i = 0; i < 20; i++) {
		p[i] = hkm_malloc(2 * SLOT);
		check(is_whale(p[i]) && p[i] != pinned);
		memset(p[i], 1, 4096);
	}
	check(!strcmp(stats().backend, "anon"));
	for (int i = 0; i < 20; i++)
		hkm_free(p[i]);
	hkm_free(inherited);
	hkm_shutdown();
	check_int(fake.handouts + fake.drops + fake.at_handouts, calls);
	_exit(0);
}

static void forked_child_has_a_heap(void)
{
	char text[4096];

	no_device();
	inherited = hkm_malloc(2 * SLOT);
	memset(inherited, 3, 2 * SLOT);
	hkm_free(hkm_malloc(2 * SLOT));
	check(exited_well(run_child(use_heap_in_child, text, sizeof(text))));
	check(all_bytes(inherited, 2 * SLOT, 3));
}

static void forked_child_leaves_the_device_alone(void)
{
	char text[4096], *cached;

	with_device();
	inherited = hkm_malloc(2 * SLOT);
	cached = hkm_malloc(2 * SLOT);
	pinned = hkm_malloc(2 * SLOT);
	check_int(hkm_pin(pinned, 1), 0);
	hkm_free(pinned);
	hkm_free(cached);
	check(exited_well(run_child(use_heap_in_child, text, sizeof(text))));
	check_int(HKR_WORD_STATE(fake_word(0)), HKR_WORD_BUSY);
	check_int(HKR_WORD_STATE(fake_word(2)), HKR_WORD_IDLE);
	check(hkm_malloc(2 * SLOT) == cached);
	hkm_free(inherited);
}

/* ---- threads --------------------------------------------------------------------- */

#define NR_THREADS 4
#define BOX 16
#define OPS 1000

static void *box[BOX];
static int stop;

/* whales go through a box, so most are freed by another thread */
static void *churn(void *arg)
{
	uint64_t seed = (uint64_t)(intptr_t)arg;

	for (int op = 0; op < OPS; op++) {
		size_t size = SLOT + next_random(&seed) % 4 * SLOT;
		unsigned long *p = hkm_malloc(size), *old;

		check(is_whale(p));
		p[1] = size;
		p[size / sizeof(*p) - 1] = size;
		old = __atomic_exchange_n(&box[next_random(&seed) % BOX], p,
					  __ATOMIC_ACQ_REL);
		if (!old)
			continue;
		check(old[old[1] / sizeof(*old) - 1] == old[1]);
		hkm_free(old);
	}
	return NULL;
}

static void *take_idle_slots(void *arg)
{
	uint64_t seed = 5;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		fake_reclaim(next_random(&seed) % 64, 1);
	return arg;
}

static void churn_all(void)
{
	pthread_t threads[NR_THREADS];

	for (intptr_t i = 0; i < NR_THREADS; i++)
		pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < BOX; i++)
		hkm_free(box[i]);
	check_int(stats().live_bytes, 0);
}

static void threads_free_each_others_whales(void)
{
	no_device();
	churn_all();
}

static void threads_share_a_device_under_reclaim(void)
{
	pthread_t kernel;

	with_device();
	fake.max_slots = 64;
	hkm_free(hkm_malloc(SLOT));
	pthread_create(&kernel, NULL, take_idle_slots, NULL);
	churn_all();
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(kernel, NULL);
	hkm_shutdown();
	for (size_t i = 0; i < 64; i++)
		check(!fake_is_taken(i));
}

static void *come_and_go(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		hkm_shutdown();
		hkm_init(NULL);
	}
	return arg;
}

static void shutdown_under_fire(void)
{
	pthread_t thread;

	no_device();
	pthread_create(&thread, NULL, come_and_go, NULL);
	churn_all();
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

static void forks_under_fire(void)
{
	pthread_t threads[2];
	char text[4096];

	no_device();
	for (intptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, churn, (void *)(i + 1));
	for (int i = 0; i < 30; i++) {
		inherited = NULL;
		check(exited_well(run_child(use_heap_in_child, text,
					    sizeof(text))));
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

static void *only_the_cache(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		hkm_free(hkm_malloc(2 * SLOT));
	return arg;
}

static void use_cache_in_child(void)
{
	alarm(5);
	hkm_free(hkm_malloc(2 * SLOT));
	_exit(0);
}

/* no time is spent but in the cache, so most forks meet its lock taken */
static void forks_meet_a_busy_cache(void)
{
	pthread_t threads[2];
	char text[4096];

	no_device();
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, only_the_cache, NULL);
	for (int i = 0; i < 100; i++)
		check(exited_well(run_child(use_cache_in_child, text,
					    sizeof(text))));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* handlers of fork() that were installed before the library's */
static void (*while_forking)(void);

static void handler(void)
{
	if (while_forking)
		while_forking();
}

__attribute__((constructor(101))) static void come_first(void)
{
	pthread_atfork(handler, handler, handler);
}

/* from the cache, and anew */
static void allocate(void)
{
	char *p[6];

	for (size_t i = 0; i < 6; i++) {
		p[i] = hkm_malloc((i + 1) * SLOT);
		check(is_whale(p[i]));
		p[i][0] = p[i][(i + 1) * SLOT - 1] = (char)i;
	}
	for (size_t i = 0; i < 6; i++) {
		check(p[i][0] == (char)i && p[i][(i + 1) * SLOT - 1] == (char)i);
		hkm_free(p[i]);
	}
	hkm_release_all();
}

/* Who is first sets the heap up: a handler, or the thread. */
static void handlers_allocate_under_fire(void)
{
	pthread_t threads[2];
	int status;
	pid_t pid;

	no_device();
	alarm(30);
	while_forking = allocate;
	pthread_create(&threads[0], NULL, churn, (void *)1);
	for (int i = 0; i < 20; i++) {
		pid = fork();
		if (!pid) {
			inherited = NULL;
			use_heap_in_child();
		}
		if (!i)
			pthread_create(&threads[1], NULL, churn, (void *)2);
		check_int(waitpid(pid, &status, 0), pid);
		check(exited_well(status));
	}
	while_forking = NULL;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < BOX; i++)
		hkm_free(box[i]);
	check_int(stats().live_bytes, 0);
}

#ifndef __SANITIZE_THREAD__	/* it starts no thread in a child of threads */
static pthread_t helper;
static pid_t helper_tid, forker;

static void *miss_once(void *arg)
{
	__atomic_store_n(&helper_tid, gettid(), __ATOMIC_RELEASE);
	hkm_free(hkm_malloc(7 * SLOT));
	return arg;
}

static bool sleeps(pid_t tid)
{
	char path[64], line[128] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = fopen(path, "re");
	if (f && !fgets(line, sizeof(line), f))
		line[0] = 0;
	if (f)
		fclose(f);
	return strstr(line, ") S ");
}

/* as thread pools do; it waits for a lock that the library has yet to release */
static void start_a_helper(void)
{
	pid_t tid;

	if (getpid() == forker)
		return;
	alarm(10);
	pthread_create(&helper, NULL, miss_once, NULL);
	do {
		sched_yield();
		tid = __atomic_load_n(&helper_tid, __ATOMIC_ACQUIRE);
	} while (!tid || !sleeps(tid));
}

static void join_the_helper(void)
{
	pthread_join(helper, NULL);
	_exit(0);
}

static int waits;

static void *wait_for_the_end(void *arg)
{
	__atomic_store_n(&waits, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		sched_yield();
	return arg;
}

static void a_childs_handler_may_start_threads(void)
{
	pthread_t thread;
	char text[256];

	no_device();
	hkm_free(hkm_malloc(SLOT));
	/* or the locks would be none */
	pthread_create(&thread, NULL, wait_for_the_end, NULL);
	/* a sanitizer holds a lock while a thread begins, and a child would wait for it */
	while (!__atomic_load_n(&waits, __ATOMIC_ACQUIRE))
		sched_yield();
	forker = getpid();
	while_forking = start_a_helper;
	check(exited_well(run_child(join_the_helper, text, sizeof(text))));
	while_forking = NULL;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}
#endif

/*
 * What a sum sees that was past one lane when a block came there, and before the other
 * when it went: the end of a block and not its beginning.
 */
static void sums_that_are_torn_are_never_huge(void)
{
	struct hkm_lane *lane;
	void *p[2];

	no_device();
	setenv("HAKMEM_LIMIT", "64M", 1);
	p[0] = hkm_malloc(SLOT);
	p[1] = hkm_malloc(SLOT);
	hkm_free(p[0]);
	lane = hkm_lane();
	hkm_lane_add(&lane->live_slots, -4UL);
	hkm_lane_add(&lane->idle, -4UL);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 0);
	/* nothing is evicted for what is less than nothing */
	hkm_set_limit(64UL << 20);
	check(!hkm_supply_is_idle_first(1));
	hkm_lane_add(&lane->live_slots, 4);
	hkm_lane_add(&lane->idle, 4);
	check_int(stats().ring.evictions, 0);
	check_int(stats().idle_bytes, SLOT);
	/* nor is it forgotten how much the process may have */
	check(hkm_supply_is_idle_first(1));
}

static const struct tap_case cases[] = {
	CASE(sums_that_are_torn_are_never_huge),
	CASE(threads_free_each_others_whales),
	CASE(threads_share_a_device_under_reclaim),
	CASE(shutdown_under_fire),
	CASE(forks_under_fire),
	CASE(forks_meet_a_busy_cache),
	CASE(handlers_allocate_under_fire),
#ifndef __SANITIZE_THREAD__
	CASE(a_childs_handler_may_start_threads),
#endif
	CASE(forked_child_has_a_heap),
	CASE(forked_child_leaves_the_device_alone),
	CASE(device_whales_cycle_without_calls),
	CASE(a_closed_device_holds_no_memory),
	CASE(lost_whales_are_counted_and_replaced),
	CASE(stale_entry_leaves_its_successor_alone),
	CASE(shutdown_spares_a_successor),
	CASE(device_errors_cost_one_block_only),
};

TAP_MAIN(cases)
