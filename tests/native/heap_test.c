// SPDX-License-Identifier: GPL-2.0
/*
 * hkm_malloc and hkm_free: what a program sees of the heap by itself, with
 * misuse, settings, and no device.
 */
#include <malloc.h>

#include "heap_test.h"
#include "window.h"

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
	check(all_bytes(a, hkm_malloc_usable_size(a), 1));
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
	setenv("HAKMEM_WHALE_SLOTS", "8", 1);
	for (int i = 0; i < 12; i++)
		p[i] = hkm_malloc(2 * SLOT);
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
static void libc_serves_where_the_window_is_full(void)
{
	char *p, *q;

	no_device();
	limit_addresses(64);
	p = hkm_malloc(25 * SLOT);
	q = hkm_malloc(20 * SLOT);
	check(is_whale(p) && !hkm_window_has(q) && !((uintptr_t)q % SLOT));
	check_int(stats().live_bytes, 25 * SLOT);
	memset(q, 1, 20 * SLOT);
	hkm_free(q);
	hkm_free(p);
	check_int(stats().live_bytes, 0);
}

/* libc needs more addresses for an aligned block than for another of that size */
static void an_alignment_is_kept_where_addresses_are_few(void)
{
	int got = 0;
	void *p, *q;

	no_device();
	limit_addresses(64);
	check(is_whale(hkm_malloc(25 * SLOT)));
	for (size_t size = 40 * SLOT; size > 20 * SLOT; size -= SLOT / 32) {
		q = hkm_aligned_alloc(SLOT, size);
		check(!((uintptr_t)q % SLOT));
		hkm_free(q);
		if (hkm_posix_memalign(&p, SLOT, size))
			continue;
		check(!((uintptr_t)p % SLOT));
		check(!hkm_window_has(p));
		hkm_free(p);
		got++;
	}
	check(got);
}
#endif

/* there is memory for those that come later, but not for the numbers of live whales */
static void libc_serves_without_tables(void)
{
	struct hkm_config cfg = { 0 };
	void *p[3];

	no_device();
	fake.refuse_tables = hkm_default_slots() * sizeof(uint32_t);
	check_int(hkm_init(&cfg), -ENOMEM);
	p[0] = hkm_malloc(2 * SLOT);
	memset(p[0], 1, 2 * SLOT);
	p[0] = hkm_realloc(p[0], 3 * SLOT);
	check(all_bytes(p[0], 2 * SLOT, 1));
	check_int(hkm_alloc_batch(&p[1], 2, SLOT), 2);
	check_int(stats().live, 0);
	hkm_free_batch(p, 3);
	p[0] = hkm_calloc(1, SLOT);
	p[1] = hkm_aligned_alloc(SLOT / 2, SLOT);
	check(all_bytes(p[0], SLOT, 0));
	check(!((uintptr_t)p[1] % (SLOT / 2)));
	hkm_free_batch(p, 2);
	fake.refuse_tables = 0;
	check(is_whale(hkm_malloc(SLOT)));
	check_int(stats().live, 1);
}

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

static void check_aborts(void (*what)(char *p), const char *call, size_t offset,
			 const char *message)
{
	misuse = what;
	check_child_aborts(do_misuse, call, offset, message);
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
	check_aborts(free_twice, "hkm_free", 0, "double free");
	check_aborts(free_twice_after_eviction, "hkm_free", 0, "double free");
	check_aborts(free_second_slot, "hkm_free", SLOT,
		     "not the start of a block");
	check_aborts(free_inside, "hkm_free", 16, "not the start of a block");
	check_aborts(free_never_given, "hkm_free", 5 * SLOT,
		     "not the start of a block");
}

/* What is not a free may be given a wild pointer as well. */
static void (*other_call)(void *ptr);

static void call_realloc(void *ptr)
{
	free(hkm_realloc(ptr, SLOT));
}

static void call_realloc_to_small(void *ptr)
{
	free(hkm_realloc(ptr, 100));
}

static void call_realloc_to_nothing(void *ptr)
{
	hkm_realloc(ptr, 0);
}

static void call_usable_size(void *ptr)
{
	hkm_malloc_usable_size(ptr);
}

static void call_pin(void *ptr)
{
	hkm_pin(ptr, 1);
}

static void call_unpin(void *ptr)
{
	hkm_pin(ptr, 0);
}

static void call_with_freed(char *p)
{
	hkm_free(p);
	other_call(p);
}

static void call_with_freed_and_evicted(char *p)
{
	hkm_free(p);
	hkm_shutdown();
	other_call(p);
}

static void call_inside(char *p)
{
	other_call(p + 16);
}

static void call_at_second_slot(char *p)
{
	other_call(p + SLOT);
}

static void check_call_aborts(void (*fn)(void *ptr), const char *call)
{
	other_call = fn;
	check_aborts(call_with_freed, call, 0, "double free");
	check_aborts(call_with_freed_and_evicted, call, 0, "double free");
	check_aborts(call_inside, call, 16, "not the start of a block");
	check_aborts(call_at_second_slot, call, SLOT,
		     "not the start of a block");
}

static void other_calls_abort_with_the_address_too(void)
{
	check_call_aborts(call_realloc, "hkm_realloc");
	check_call_aborts(call_realloc_to_small, "hkm_realloc");
	check_call_aborts(call_realloc_to_nothing, "hkm_realloc");
	check_call_aborts(call_usable_size, "hkm_malloc_usable_size");
	check_call_aborts(call_pin, "hkm_pin");
	check_call_aborts(call_unpin, "hkm_pin");
}

/* where each place has its own, realloc() looks that up first */
static void they_abort_with_sites_too(void)
{
	setenv("HAKMEM_SITES", "1", 1);
	check_call_aborts(call_realloc, "hkm_realloc");
	check_call_aborts(call_pin, "hkm_pin");
}

/* what is not of this heap is nothing to abort for: it may be anybody's block */
static void pin_refuses_what_is_outside_the_window(void)
{
	void *small = malloc(100);

	no_device();
	check_int(hkm_pin(small, 1), -EINVAL);	/* before there is a window */
	check_int(hkm_pin(NULL, 1), -EINVAL);
	check(is_whale(hkm_malloc(SLOT)));
	check_int(hkm_pin(small, 1), -EINVAL);
	check_int(hkm_pin(NULL, 1), -EINVAL);
	check_int(hkm_pin((char *)hkm_window.base - 1, 1), -EINVAL);
	check_int(hkm_pin((char *)hkm_window.base + hkm_window.size, 1),
		  -EINVAL);
	free(small);
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
	cfg.policy = (enum hkm_policy)5;
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

static void idle_memory_is_kept_for_a_while(void)
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
	check_int(stats().ring.slots, 256);
}

static void every_bad_variable_is_told_once(void)
{
	char text[4096];

	check(exited_well(run_child(use_bad_environment, text, sizeof(text))));
	check(!strcmp(text,
		"libhakmem: HAKMEM_SOURCE=disk is not one of auto, anon, region; using auto\n"
		"libhakmem: HAKMEM_POLICY= is not one of decay, keep, dontneed, free, region; using decay\n"
		"libhakmem: HAKMEM_WHALE_ORDER=cold is not one of hot, fifo; using hot\n"
		"libhakmem: HAKMEM_WHALE_SLOTS=many is not a number from 1 to 65536; using 256\n"
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

/* neither the device nor anonymous memory: each large block tries again */
static void use_neither(void)
{
	no_device();
	setenv("HAKMEM_SOURCE", "region", 1);
	fake.refuse_tables = hkm_default_slots() * sizeof(uint32_t);
	for (int i = 0; i < 3; i++)
		hkm_free(hkm_malloc(SLOT));
	check_int(stats().live + stats().ring.puts, 0);
	fake.refuse_tables = 0;
	check(is_whale(hkm_malloc(SLOT)));
	check_int(stats().live, 1);
}

static void region_by_environment_is_told_and_goes_on(void)
{
	static const char line[] = "libhakmem: HAKMEM_SOURCE=region: /dev/hakmem_region cannot be used (No such file or directory); using anon\n";
	char text[4096];

	check(exited_well(run_child(use_region_by_environment, text,
				    sizeof(text))));
	check(!strcmp(text, line));
	check(exited_well(run_child(use_neither, text, sizeof(text))));
	check(!strcmp(text, line));
}

static void the_real_device_or_its_absence(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };
	int err = hkm_init(&cfg);

	check(!err || access(HKM_DEVICE, R_OK | W_OK));
	check(err != -ENOENT || access(HKM_DEVICE, F_OK));
	check(is_whale(hkm_malloc(SLOT)));
}

static const struct tap_case cases[] = {
	CASE(sizes_alignment_and_contents),
	CASE(small_blocks_are_libcs),
	CASE(a_freed_whale_is_the_next_one),
	CASE(fifo_order_by_environment),
	CASE(stats_add_up),
	CASE(huge_sizes_fail_cleanly),
	CASE(free_keeps_errno),
#ifndef SANITIZED
	CASE(libc_serves_where_the_window_is_full),
	CASE(an_alignment_is_kept_where_addresses_are_few),
#endif
	CASE(libc_serves_without_tables),
	CASE(wild_frees_abort_with_the_address),
	CASE(other_calls_abort_with_the_address_too),
	CASE(they_abort_with_sites_too),
	CASE(pin_refuses_what_is_outside_the_window),
	CASE(init_checks_its_config),
	CASE(live_whales_outlive_shutdown),
	CASE(idle_memory_is_kept_for_a_while),
	CASE(policy_by_environment),
	CASE(every_bad_variable_is_told_once),
	CASE(fallback_is_told_once_if_asked),
	CASE(region_by_config_says_why_not),
	CASE(region_by_environment_is_told_and_goes_on),
	CASE(the_real_device_or_its_absence),
};

TAP_MAIN(cases)
