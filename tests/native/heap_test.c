// SPDX-License-Identifier: GPL-2.0
/*
 * hkm_malloc and hkm_free: what a program sees, on anonymous memory and on the
 * stand-in for the device, also where the device fails, is missing, or belongs
 * to the parent of a forked child.
 */
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

#include <linux/hakmem_region.h>

#include "backend.h"
#include "fakedev.h"
#include "sys.h"
#include "tap.h"

#define SLOT HKM_SLOT_SIZE

static struct hkm_heap_stats stats(void)
{
	struct hkm_heap_stats st;

	hkm_get_heap_stats(&st);
	return st;
}

static bool is_whale(const void *p)
{
	return p && !((uintptr_t)p % SLOT);
}

/* the device is never there in tests that want it absent, nor by chance */
static void no_device(void)
{
	fake.enabled = true;
	fake.open_error = -ENOENT;
}

static void with_device(void)
{
	fake.enabled = true;
	fake.open_error = 0;
}

/* ---- plain use ------------------------------------------------------------- */

static void sizes_alignment_and_contents(void)
{
	static const size_t sizes[] = {
		SLOT, SLOT + 1, 2 * SLOT - 1, 2 * SLOT, 3 * SLOT + 4096,
		16 * SLOT, 20 * SLOT + 7,
	};
	unsigned char *p[7];

	no_device();
	for (int i = 0; i < 7; i++) {
		p[i] = hkm_malloc(sizes[i]);
		check(is_whale(p[i]));
		memset(p[i], i + 1, sizes[i]);
	}
	for (int i = 0; i < 7; i++)
		check(all_bytes(p[i], sizes[i], i + 1));
	for (int i = 0; i < 7; i++)
		hkm_free(p[i]);
	check_int(stats().live_bytes, 0);
}

static void small_blocks_are_libcs(void)
{
	char *p = hkm_malloc(SLOT - 1);

	check(p);
	check(malloc_usable_size(p) >= SLOT - 1);
	free(p);
	p = malloc(100);
	hkm_free(p);
	hkm_free(NULL);
	check(!strcmp(stats().backend, "none"));
	check_int(stats().ring.slots, 0);
}

static void a_freed_whale_is_the_next_one(void)
{
	char *a, *b;

	no_device();
	a = hkm_malloc(3 * SLOT);
	b = hkm_malloc(3 * SLOT);
	memset(a, 1, 3 * SLOT);
	memset(b, 2, 3 * SLOT);
	hkm_free(a);
	hkm_free(b);
	check(hkm_malloc(3 * SLOT - 5) == b);
	check(hkm_malloc(2 * SLOT + 1) == a);
	check(all_bytes(a, 3 * SLOT, 1));
	check_int(stats().ring.hits, 2);
}

static void fifo_order_by_environment(void)
{
	char *a, *b;

	no_device();
	setenv("HAKMEM_WHALE_ORDER", "fifo", 1);
	a = hkm_malloc(SLOT);
	b = hkm_malloc(SLOT);
	hkm_free(a);
	hkm_free(b);
	check(hkm_malloc(SLOT) == a);
}

static void stats_add_up(void)
{
	void *p[12];

	no_device();
	for (int i = 0; i < 12; i++)
		p[i] = hkm_malloc(SLOT + 1);
	check(!strcmp(stats().backend, "anon"));
	check_int(stats().live_bytes, 24 * SLOT);
	for (int i = 0; i < 12; i++)
		hkm_free(p[i]);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 16 * SLOT);
	check_int(stats().ring.cached, 8);
	check_int(stats().ring.evictions, 4);
	check_int(stats().lost, 0);
	check_int(resident_pages(p[0], 2 * SLOT), 0);
}

static void huge_sizes_fail_cleanly(void)
{
	no_device();
	errno = 0;
	check(!hkm_malloc(SIZE_MAX));
	check_int(errno, ENOMEM);
	errno = 0;
	check(!hkm_malloc((size_t)PTRDIFF_MAX + 1));
	check_int(errno, ENOMEM);
	errno = 0;
	check(!hkm_malloc(PTRDIFF_MAX));
	check_int(errno, ENOMEM);
	check(is_whale(hkm_malloc(SLOT)));
}

static void free_keeps_errno(void)
{
	void *whale, *small = hkm_malloc(100);

	no_device();
	setenv("HAKMEM_POLICY", "dontneed", 1);
	whale = hkm_malloc(SLOT);
	mlock(whale, 4096);	/* the advice will be refused */
	errno = 4321;
	hkm_free(whale);
	hkm_free(small);
	hkm_shutdown();
	check_int(errno, 4321);
}

#ifndef SANITIZED	/* sanitizers need terabytes of address space */
/* the window takes half of what RLIMIT_AS allows; libc has the other half */
static void libc_serves_where_the_window_is_full(void)
{
	struct rlimit limit = { 0, RLIM_INFINITY };
	size_t kib = 0;
	char line[256], *p, *q;
	FILE *f = fopen("/proc/self/status", "r");

	no_device();
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmSize: %zu kB", &kib);
	fclose(f);
	limit.rlim_cur = kib * 1024 + 64 * SLOT;
	check_int(setrlimit(RLIMIT_AS, &limit), 0);
	p = hkm_malloc(25 * SLOT);
	q = hkm_malloc(20 * SLOT);
	check(is_whale(p) && is_whale(q));
	check_int(stats().live_bytes, 25 * SLOT);
	memset(q, 1, 20 * SLOT);
	hkm_free(q);
	hkm_free(p);
	check_int(stats().live_bytes, 0);
}
#endif

/* ---- misuse ---------------------------------------------------------------- */

static void (*misuse)(char *p);

static void do_misuse(void)
{
	char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	fprintf(stderr, "%p\n", (void *)p);
	misuse(p);
}

static void check_aborts(void (*what)(char *p), size_t offset,
			 const char *message)
{
	char text[8192], want[256];
	void *p;
	int status;

	misuse = what;
	status = run_child(do_misuse, text, sizeof(text));
	check(WIFSIGNALED(status));
	check_int(WTERMSIG(status), SIGABRT);
	check_int(sscanf(text, "%p", &p), 1);
	snprintf(want, sizeof(want), "\nlibhakmem: hkm_free(%p): %s\n",
		 (void *)((char *)p + offset), message);
	check(strstr(text, want));
}

static void free_twice(char *p)
{
	hkm_free(p);
	hkm_free(p);
}

static void free_twice_after_eviction(char *p)
{
	hkm_free(p);
	hkm_shutdown();
	hkm_free(p);
}

static void free_second_slot(char *p)
{
	hkm_free(p + SLOT);
}

static void free_inside(char *p)
{
	hkm_free(p + 16);
}

static void free_never_given(char *p)
{
	hkm_free(p + 5 * SLOT);
}

static void wild_frees_abort_with_the_address(void)
{
	check_aborts(free_twice, 0, "double free");
	check_aborts(free_twice_after_eviction, 0, "double free");
	check_aborts(free_second_slot, SLOT, "not the start of a block");
	check_aborts(free_inside, 16, "not the start of a block");
	check_aborts(free_never_given, 5 * SLOT, "not the start of a block");
}

/* ---- init and shutdown ------------------------------------------------------ */

static void init_checks_its_config(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_ANON };

	cfg.slots = 65537;
	check_int(hkm_init(&cfg), -EINVAL);
	cfg.slots = 3;
	cfg.source = (enum hkm_source)3;
	check_int(hkm_init(&cfg), -EINVAL);
	cfg.source = HKM_SOURCE_ANON;
	cfg.policy = (enum hkm_policy)3;
	check_int(hkm_init(&cfg), -EINVAL);
	cfg.policy = HKM_POLICY_KEEP;
	cfg.order = (enum hkm_order)2;
	check_int(hkm_init(&cfg), -EINVAL);
	cfg.order = HKM_FIFO;
	check_int(hkm_init(&cfg), 0);
	check_int(hkm_init(&cfg), -EALREADY);
	check_int(stats().ring.slots, 3);
}

static void live_whales_outlive_shutdown(void)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = HKM_POLICY_DONTNEED,
	};
	char *a, *b;

	no_device();
	a = hkm_malloc(2 * SLOT);
	b = hkm_malloc(2 * SLOT);
	memset(a, 1, 2 * SLOT);
	memset(b, 2, 2 * SLOT);
	hkm_free(b);
	hkm_shutdown();
	check_int(stats().idle_bytes, 0);
	check_int(resident_pages(b, 2 * SLOT), 0);
	check(all_bytes(a, 2 * SLOT, 1));

	/* the next set-up may choose otherwise, and counts what lives on */
	check_int(hkm_init(&cfg), 0);
	check_int(stats().live_bytes, 2 * SLOT);
	hkm_free(a);
	check_int(resident_pages(a, 2 * SLOT), 0);
	check(hkm_malloc(2 * SLOT) == a);
	hkm_shutdown();
	hkm_free(a);	/* with the cache closed it is dropped */
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 0);
}

static void keep_policy_is_the_default(void)
{
	char *p;

	no_device();
	p = hkm_malloc(SLOT);
	memset(p, 1, SLOT);
	hkm_free(p);
	check_int(resident_pages(p, SLOT), SLOT / 4096);
}

static void policy_by_environment(void)
{
	char *p;

	no_device();
	setenv("HAKMEM_POLICY", "dontneed", 1);
	p = hkm_malloc(SLOT);
	memset(p, 1, SLOT);
	hkm_free(p);
	check_int(resident_pages(p, SLOT), 0);
}

static void use_bad_environment(void)
{
	no_device();
	setenv("HAKMEM_SOURCE", "disk", 1);
	setenv("HAKMEM_POLICY", "", 1);
	setenv("HAKMEM_WHALE_ORDER", "cold", 1);
	setenv("HAKMEM_WHALE_SLOTS", "many", 1);
	setenv("HAKMEM_VERBOSE", "yes", 1);
	check_int(hkm_init(NULL), 0);
	hkm_shutdown();
	hkm_free(hkm_malloc(SLOT));
	check_int(stats().ring.slots, 8);
}

static void every_bad_variable_is_told_once(void)
{
	char text[4096];

	check(exited_well(run_child(use_bad_environment, text, sizeof(text))));
	check(!strcmp(text,
		"libhakmem: HAKMEM_SOURCE=disk is not one of auto, anon, region; using auto\n"
		"libhakmem: HAKMEM_POLICY= is not one of keep, dontneed, free; using keep\n"
		"libhakmem: HAKMEM_WHALE_ORDER=cold is not one of hot, fifo; using hot\n"
		"libhakmem: HAKMEM_WHALE_SLOTS=many is not a number from 1 to 65536; using 8\n"
		"libhakmem: HAKMEM_VERBOSE=yes is not one of 0, 1; using 0\n"));
}

/* ---- without the device ------------------------------------------------------ */

static void use_without_device(void)
{
	no_device();
	for (int i = 0; i < 3; i++) {
		check(is_whale(hkm_malloc(SLOT)));
		hkm_shutdown();
	}
	check(!strcmp(stats().backend, "anon"));
}

static void fallback_is_told_once_if_asked(void)
{
	char text[4096];

	check(exited_well(run_child(use_without_device, text, sizeof(text))));
	check(!*text);
	setenv("HAKMEM_VERBOSE", "1", 1);
	check(exited_well(run_child(use_without_device, text, sizeof(text))));
	check_int(count_lines(text), 1);
	check(!strncmp(text, "libhakmem: /dev/hakmem_region: No such file or directory; using anonymous memory", 80));
	check(strstr(text, "modprobe hakmem_region"));
}

static void region_by_config_says_why_not(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };

	no_device();
	check_int(hkm_init(&cfg), -ENOENT);
	fake.open_error = -EACCES;
	check_int(hkm_init(&cfg), -EACCES);
	cfg.source = HKM_SOURCE_AUTO;
	check_int(hkm_init(&cfg), 0);
}

static void use_region_by_environment(void)
{
	no_device();
	setenv("HAKMEM_SOURCE", "region", 1);
	check_int(hkm_init(NULL), -ENOENT);
	for (int i = 0; i < 3; i++)
		check(is_whale(hkm_malloc(SLOT)));
	check(!strcmp(stats().backend, "anon"));
}

static void region_by_environment_is_told_and_goes_on(void)
{
	char text[4096];

	check(exited_well(run_child(use_region_by_environment, text,
				    sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_SOURCE=region: /dev/hakmem_region cannot be used (No such file or directory); using anon\n"));
}

static void the_real_device_or_its_absence(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };
	int err = hkm_init(&cfg);

	check(!err || access(HKM_DEVICE, R_OK | W_OK));
	check(err != -ENOENT || access(HKM_DEVICE, F_OK));
	check(is_whale(hkm_malloc(SLOT)));
}

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
	b = hkm_malloc(SLOT);		/* another size: does not meet the entry */
	check(b == a);
	memset(b, 9, SLOT);
	c = hkm_malloc(2 * SLOT);	/* meets it */
	check(c != b && is_whale(c));
	memset(c, 1, 2 * SLOT);
	check(all_bytes(b, SLOT, 9));
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
	b = hkm_malloc(SLOT);
	check(b == a);
	memset(b, 9, SLOT);
	hkm_shutdown();
	check(all_bytes(b, SLOT, 9));
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

static char *inherited;

static void use_heap_in_child(void)
{
	int calls = fake.handouts + fake.drops + fake.at_handouts;
	char *p[20];

	alarm(10);
	for (int i = 0; i < 20; i++) {
		p[i] = hkm_malloc(2 * SLOT);
		check(is_whale(p[i]));
		memset(p[i], 1, 4096);
	}
	check(!strcmp(stats().backend, "anon"));
	for (int i = 0; i < 20; i++)
		hkm_free(p[i]);
	hkm_free(inherited);
	hkm_shutdown();
	check_int(fake.handouts + fake.drops + fake.at_handouts, calls);
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
#define OPS 2000

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

static const struct tap_case cases[] = {
	CASE(threads_free_each_others_whales),
	CASE(threads_share_a_device_under_reclaim),
	CASE(shutdown_under_fire),
	CASE(forks_under_fire),
	CASE(forks_meet_a_busy_cache),
	CASE(forked_child_has_a_heap),
	CASE(forked_child_leaves_the_device_alone),
	CASE(sizes_alignment_and_contents),
	CASE(small_blocks_are_libcs),
	CASE(a_freed_whale_is_the_next_one),
	CASE(fifo_order_by_environment),
	CASE(stats_add_up),
	CASE(huge_sizes_fail_cleanly),
	CASE(free_keeps_errno),
#ifndef SANITIZED
	CASE(libc_serves_where_the_window_is_full),
#endif
	CASE(wild_frees_abort_with_the_address),
	CASE(init_checks_its_config),
	CASE(live_whales_outlive_shutdown),
	CASE(keep_policy_is_the_default),
	CASE(policy_by_environment),
	CASE(every_bad_variable_is_told_once),
	CASE(fallback_is_told_once_if_asked),
	CASE(region_by_config_says_why_not),
	CASE(region_by_environment_is_told_and_goes_on),
	CASE(the_real_device_or_its_absence),
	CASE(device_whales_cycle_without_calls),
	CASE(lost_whales_are_counted_and_replaced),
	CASE(stale_entry_leaves_its_successor_alone),
	CASE(shutdown_spares_a_successor),
	CASE(device_errors_cost_one_block_only),
};

TAP_MAIN(cases)
