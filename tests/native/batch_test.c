// SPDX-License-Identifier: GPL-2.0
/*
 * hkm_alloc_batch and hkm_free_batch: what a program gets, and how many calls
 * that is.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "heap_test.h"

#define N 64

static void *block[4096];

static uint64_t madvises(void)
{
	struct hkm_timing sum;

	hkm_timing_read(&sum);
	return sum.calls[HKM_T_MADVISE];
}

/* whales of @size bytes, apart from each other and all writable */
static void check_blocks(void **ptrs, size_t n, size_t size)
{
	for (size_t i = 0; i < n; i++) {
		check(is_whale(ptrs[i]));
		check(hkm_malloc_usable_size(ptrs[i]) >= size);
		*(size_t *)ptrs[i] = i + 1;
		((char *)ptrs[i])[size - 1] = 1;
	}
	for (size_t i = 0; i < n; i++)
		check_int(*(size_t *)ptrs[i], i + 1);
}

static bool all_null(void **ptrs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ptrs[i])
			return false;
	return true;
}

static void shuffle(void **ptrs, size_t n)
{
	uint64_t state = 1;

	for (size_t i = n - 1; i; i--) {
		size_t k = next_random(&state) % (i + 1);
		void *p = ptrs[i];

		ptrs[i] = ptrs[k];
		ptrs[k] = p;
	}
}

/* ---- plain use ------------------------------------------------------------- */

static void blocks_are_blocks_like_others(void)
{
	static const size_t sizes[] = { SLOT, 2 * SLOT + 1, 12 * SLOT };
	void *alone = NULL;

	no_device();
	for (int k = 0; k < 3; k++) {
		check_int(hkm_alloc_batch(block, 20, sizes[k]), 20);
		check_blocks(block, 20, sizes[k]);
		/* some alone, some grown, the others together with a stranger */
		for (int i = 0; i < 5; i++)
			hkm_free(block[i]);
		block[5] = hkm_realloc(block[5], 2 * sizes[k]);
		alone = hkm_malloc(3 * SLOT);
		block[0] = alone;
		for (int i = 1; i < 5; i++)
			block[i] = NULL;
		hkm_free_batch(block, 20);
		check(all_null(block, 20));
		check_int(stats().live_bytes, 0);
		check_int(stats().live, 0);
	}
}

static void small_blocks_are_libcs(void)
{
	check_int(hkm_alloc_batch(block, N, 100), N);
	for (int i = 0; i < N; i++)
		check_int(hkm_pin(block[i], 1), -EINVAL);
	free(block[0]);
	block[0] = malloc(100);
	hkm_free_batch(block, N);
	check(all_null(block, N));
	check_int(stats().ring.slots, 0);
}

static void all_kinds_are_freed_together(void)
{
	no_device();
	check_int(hkm_alloc_batch(block, 8, 2 * SLOT), 8);
	check_int(hkm_alloc_batch(block + 8, 8, 100), 8);
	check_int(hkm_alloc_batch(block + 20, 12, SLOT), 12);
	shuffle(block, 32);
	errno = 4321;
	hkm_free_batch(block, 32);
	check_int(errno, 4321);
	check(all_null(block, 32));
	check_int(stats().live, 0);
	check_int(stats().idle_bytes, 28 * SLOT);
}

static void errors(void)
{
	no_device();
	block[0] = block;
	check_int(hkm_alloc_batch(block, 0, SLOT), 0);
	check_int(hkm_alloc_batch(block, (size_t)INT32_MAX + 1, SLOT), -EINVAL);
	check(block[0] == block);
	block[1] = block[2] = block;
	check_int(hkm_alloc_batch(block, 3, PTRDIFF_MAX), -ENOMEM);
	check(all_null(block, 3));
	check_int(hkm_alloc_batch(block, 3, SIZE_MAX), -ENOMEM);
	hkm_free_batch(NULL, 0);
	hkm_free_batch(block, 3);
	check_int(hkm_alloc_batch(block, 3, SLOT), 3);
}

#ifndef SANITIZED	/* sanitizers need terabytes of address space */
static void what_there_is_of_too_many(void)
{
	struct rlimit limit = { 0, RLIM_INFINITY };
	size_t kib = 0;
	char line[256];
	int got;
	FILE *f = fopen("/proc/self/status", "r");

	no_device();
	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmSize: %zu kB", &kib);
	fclose(f);
	limit.rlim_cur = kib * 1024 + 64 * SLOT;
	check_int(setrlimit(RLIMIT_AS, &limit), 0);
	for (int i = 0; i < 100; i++)
		block[i] = block;
	got = hkm_alloc_batch(block, 100, SLOT);
	check(got >= 32 && got < 64);
	for (int i = 0; i < got; i++)
		memset(block[i], i, SLOT);
	check(all_null(block + got, (size_t)(100 - got)));
	check(stats().live >= 24);
	hkm_free_batch(block, 100);
	check_int(stats().live, 0);
}
#endif

/* ---- anonymous memory -------------------------------------------------------- */

static void misses_are_one_run(void)
{
	uint64_t before;

	no_device();
	hkm_free(hkm_malloc(SLOT));	/* all is set up */
	check_int(hkm_release_all(), SLOT);
	check_int(hkm_timing_enable(1), 0);
	before = madvises();
	check_int(hkm_alloc_batch(block, N, 2 * SLOT), N);
	check_int(madvises() - before, 1);
	check_blocks(block, N, 2 * SLOT);
	for (int i = 1; i < N; i++)
		check_int((char *)block[i] - (char *)block[i - 1], 2 * SLOT);
	check_int(stats().ring.misses, N + 1);
	check_int(stats().ring.hits, 0);
	/* more than fit one run */
	before = madvises();
	check_int(hkm_alloc_batch(block + N, 300, SLOT), 300);
	check_int(madvises() - before, 3);
	check_int(stats().live_bytes, (2 * N + 300) * SLOT);
}

static void hits_are_no_call(void)
{
	void *old[N];
	uint64_t before;

	no_device();
	check_int(hkm_timing_enable(1), 0);
	check_int(hkm_alloc_batch(block, N, 2 * SLOT), N);
	check_blocks(block, N, 2 * SLOT);
	memcpy(old, block, sizeof(old));
	shuffle(block, N);
	hkm_free_batch(block, N);
	before = madvises();
	check_int(hkm_alloc_batch(block, N, 2 * SLOT), N);
	check_int(madvises() - before, 0);
	check(!memcmp(old, block, sizeof(old)));
	check_int(stats().ring.hits, N);
	check_int(stats().ring.misses, N);
	/* contents are as they were */
	for (int i = 0; i < N; i++)
		check_int(*(int *)block[i], i + 1);
}

/* idle runs of all lengths serve a batch, and what is left of them is not lost */
static void runs_of_other_lengths_are_cut(void)
{
	void *p[3];

	no_device();
	p[0] = hkm_malloc(10 * SLOT);
	p[1] = hkm_malloc(SLOT);
	p[2] = hkm_malloc(7 * SLOT);
	hkm_free(p[0]);
	hkm_free(p[2]);
	check_int(hkm_alloc_batch(block, 5, 3 * SLOT), 5);
	check_blocks(block, 5, 3 * SLOT);
	check_int(stats().ring.hits, 5);
	check_int(stats().live_bytes, 16 * SLOT);
	check_int(stats().idle_bytes, 2 * SLOT);
	hkm_free_batch(block, 5);
	check_int(stats().idle_bytes, 17 * SLOT);
}

/* a run that is a little too long for the batch is much too long for one block */
static void what_is_left_of_a_run_is_idle(void)
{
	no_device();
	hkm_free(hkm_malloc(22 * SLOT));
	check_int(hkm_alloc_batch(block, 10, 2 * SLOT), 10);
	check_blocks(block, 10, 2 * SLOT);
	check_int(stats().live_bytes, 20 * SLOT);
	check_int(stats().idle_bytes, 2 * SLOT);
	/* as for a block alone */
	hkm_free(hkm_malloc(21 * SLOT));
	check_int(hkm_alloc_batch(block + 10, 2, 10 * SLOT), 2);
	check_int(stats().live_bytes, 41 * SLOT);
	check_int(room_of(block[11]), 11 * SLOT);
}

static void frees_are_sorted_and_joined(void)
{
	no_device();
	check_int(hkm_alloc_batch(block, N, SLOT), N);
	shuffle(block, N);
	hkm_set_limit(8 * N * SLOT);
	hkm_free_batch(block, N);
	check_int(stats().ring.cached, 1);
	check_int(stats().ring.puts, 1);
	check_int(stats().idle_bytes, N * SLOT);
}

static void neighbours_are_advised_as_one(void)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = HKM_POLICY_DONTNEED,
		.limit = 8 * N * SLOT,
	};
	uint64_t before;
	char *p;

	check_int(hkm_init(&cfg), 0);
	check_int(hkm_timing_enable(1), 0);
	check_int(hkm_alloc_batch(block, N, SLOT), N);
	check_blocks(block, N, SLOT);
	p = block[0];
	check(resident_pages(p, N * SLOT) >= N);
	shuffle(block, N);
	before = madvises();
	hkm_free_batch(block, N);
	check_int(madvises() - before, 1);
	check_int(resident_pages(p, N * SLOT), 0);
}

/* a run leaves the cache whole */
static void runs_are_joined_up_to_a_part_of_the_limit(void)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = HKM_POLICY_KEEP,
		.limit = N * SLOT,
	};

	check_int(hkm_init(&cfg), 0);
	check_int(hkm_alloc_batch(block, N + 8, SLOT), N + 8);
	hkm_free_batch(block, N + 8);
	check(stats().idle_bytes >= (N - 8) * SLOT);
	check(stats().idle_bytes <= N * SLOT);
	check(stats().ring.cached >= 7);
}

static void pinned_blocks_stay_by_themselves(void)
{
	no_device();
	check_int(hkm_alloc_batch(block, 8, SLOT), 8);
	check_int(hkm_pin(block[3], 1), 0);
	hkm_free_batch(block, 8);
	check_int(stats().ring.cached, 3);
	check_int(hkm_release_all(), 7 * SLOT);
	check_int(stats().idle_bytes, SLOT);
}

static void guards_are_kept(void)
{
	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	check_int(hkm_alloc_batch(block, 8, 2 * SLOT), 8);
	check_blocks(block, 8, 2 * SLOT);
	for (int i = 1; i < 8; i++)
		check_int((char *)block[i] - (char *)block[i - 1], 3 * SLOT);
	hkm_free_batch(block, 8);
	check_int(stats().ring.cached, 8);
}

/* ---- whales that share a slot -------------------------------------------------- */

#define ODD (SLOT + SLOT / 2)

static void fill_odd(void **ptrs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		check(is_whale(ptrs[i]));
		check_int(hkm_malloc_usable_size(ptrs[i]), ODD);
		memset(ptrs[i], (int)i + 1, ODD);
	}
	for (size_t i = 0; i < n; i++)
		check(all_bytes(ptrs[i], ODD, (int)i + 1));
}

static void use_in_twos(void)
{
	/* 4 times 3 slots, and 2 of which half is free */
	check_int(hkm_alloc_batch(block, 9, ODD), 9);
	check_int(stats().live, 9);
	check_int(stats().live_bytes, 14 * SLOT);
	fill_odd(block, 9);
	/* which is for the next one */
	block[9] = hkm_malloc(ODD);
	check_int(stats().live_bytes, 15 * SLOT);
	fill_odd(block, 10);
	/* the slots between are idle when both have gone, whoever goes first */
	hkm_free(block[0]);
	hkm_free(block[3]);
	block[0] = block[3] = NULL;
	check_int(stats().idle_bytes, 2 * SLOT);
	hkm_free_batch(block, 10);
	check_int(stats().live, 0);
	check_int(stats().live_bytes, 0);
	check_int(stats().idle_bytes, 15 * SLOT);
	/* hits */
	check_int(hkm_alloc_batch(block, 10, ODD), 10);
	check_int(stats().live_bytes, 15 * SLOT);
	check_int(stats().idle_bytes, 0);
	check_int(stats().ring.misses, 10);
	fill_odd(block, 10);
	hkm_free_batch(block, 10);
	check_int(stats().idle_bytes, 15 * SLOT);
	check_int(hkm_release_all(), 15 * SLOT);
}

static void two_share_a_slot(void)
{
	no_device();
	use_in_twos();
}

static void two_share_a_slot_of_the_device(void)
{
	with_device();
	use_in_twos();
	check(!strcmp(stats().backend, "region"));
	/* misses are one call */
	fake.handouts = 0;
	check_int(hkm_alloc_batch(block, 8, ODD), 8);
	check_int(fake.handouts, 1);
	check_int(stats().live_bytes, 12 * SLOT);
	fill_odd(block, 8);
}

/* where no two fit, one that does is not left out */
static void idle_slots_for_one_are_used(void)
{
	void *p[4];

	no_device();
	for (int i = 0; i < 4; i++)
		p[i] = hkm_malloc((i % 2 ? 1 : 2) * SLOT);
	hkm_free(p[0]);
	hkm_free(p[2]);
	check_int(hkm_alloc_batch(block, 2, ODD), 2);
	fill_odd(block, 2);
	check_int(stats().ring.hits, 2);
	check_int(stats().idle_bytes, 0);
	hkm_free_batch(block, 2);
	check_int(stats().idle_bytes, 4 * SLOT);
}

static void nothing_is_shared_where_it_is_not_to_be(void)
{
	setenv("HAKMEM_PACK", "0", 1);
	no_device();
	check_int(hkm_alloc_batch(block, 8, ODD), 8);
	check_int(stats().live_bytes, 16 * SLOT);
	check_int(hkm_malloc_usable_size(block[0]), 2 * SLOT);
}

/* ---- the device ---------------------------------------------------------------- */

static void misses_are_one_handout(void)
{
	with_device();
	check_int(hkm_alloc_batch(block, 100, 2 * SLOT), 100);
	check_int(fake.handouts, 1);
	check(!strcmp(stats().backend, "region"));
	check_blocks(block, 100, 2 * SLOT);
	check_int(stats().live_bytes, 200 * SLOT);
	/* hits, and then misses for what is left */
	hkm_free_batch(block, 60);
	check_int(fake.drops, 0);
	check_int(hkm_alloc_batch(block, 60, 2 * SLOT), 60);
	check_int(fake.handouts, 1);
	hkm_free_batch(block, 10);
	check_int(hkm_alloc_batch(block + 100, 20, 2 * SLOT), 20);
	check_int(fake.handouts, 2);
	check_blocks(block + 10, 110, 2 * SLOT);
	/* an array has so many entries */
	check_int(hkm_alloc_batch(block + 120, 200, SLOT), 200);
	check_int(fake.handouts, 4);
	check_blocks(block + 120, 200, SLOT);
}

static void holes_of_the_arena_are_used(void)
{
	with_device();
	check_int(hkm_alloc_batch(block, 100, SLOT), 100);
	for (int i = 0; i < 100; i += 2)
		hkm_free(block[i]);
	check_int(hkm_release_all(), 50 * SLOT);
	check_int(fake.drops, 2);	/* 32 at a time */
	fake.handouts = 0;
	check_int(hkm_alloc_batch(block + 100, 50, SLOT), 50);
	check_int(fake.handouts, 1);
	for (int i = 1; i < 100; i += 2)
		block[i / 2] = block[i];
	memmove(block + 50, block + 100, 50 * sizeof(*block));
	check_blocks(block, 100, SLOT);
	for (int i = 0; i < 100; i++)
		check(fake_is_taken((size_t)i));
}

static void what_the_device_has_not_is_anonymous(void)
{
	with_device();
	fake.max_slots = 10;
	check_int(hkm_alloc_batch(block, 30, SLOT), 30);
	check_blocks(block, 30, SLOT);
	check(fake_is_taken(9));
	check(!strcmp(stats().backend, "anon"));
	hkm_free_batch(block, 30);
	/* not joined across the border */
	check(stats().ring.cached >= 2);
	check_int(stats().idle_bytes, 30 * SLOT);
	check_int(hkm_alloc_batch(block, 30, SLOT), 30);
	check_blocks(block, 30, SLOT);
	check_int(stats().ring.hits, 30);
}

static void a_device_that_refuses(void)
{
	with_device();
	fake.handout_error = -EDQUOT;
	check_int(hkm_alloc_batch(block, 30, SLOT), 30);
	check_blocks(block, 30, SLOT);
	fake.handout_error = 0;
	fake.handout_call_error = -EFAULT;
	check_int(hkm_alloc_batch(block + 30, 30, SLOT), 30);
	check_blocks(block, 60, SLOT);
	check(!strcmp(stats().backend, "anon"));
}

static void what_the_kernel_took_comes_back(void)
{
	with_device();
	check_int(hkm_alloc_batch(block, 20, SLOT), 20);
	check_blocks(block, 20, SLOT);
	hkm_free_batch(block, 20);
	check_int(stats().ring.cached, 1);
	check_int(fake_reclaim(5, 3), 3);
	check_int(hkm_alloc_batch(block, 20, SLOT), 20);
	check_int(fake.at_handouts, 1);
	check_int(fake.handouts, 1);
	check_blocks(block, 20, SLOT);
	for (size_t i = 0; i < 20; i++)
		check(fake_is_taken(i));
}

static void a_child_has_its_own(void)
{
	int status;
	pid_t pid;

	with_device();
	check_int(hkm_alloc_batch(block, 8, SLOT), 8);
	pid = fork();
	if (!pid) {
		hkm_free_batch(block, 8);
		if (hkm_alloc_batch(block, 8, SLOT) != 8)
			_exit(1);
		for (int i = 0; i < 8; i++)
			memset(block[i], 1, SLOT);
		_exit(!!strcmp(stats().backend, "anon"));
	}
	check_int(waitpid(pid, &status, 0), pid);
	check_int(status, 0);
	check_int(stats().live, 8);
	check_blocks(block, 8, SLOT);
}

/* ---- misuse -------------------------------------------------------------------- */

static size_t misuse_offset;

static void free_wrongly(void)
{
	no_device();
	check_int(hkm_alloc_batch(block, 4, 2 * SLOT), 4);
	block[2] = (char *)block[1] + misuse_offset;
	fprintf(stderr, "%p\n", block[2]);
	hkm_free_batch(block, 4);
}

static void check_aborts(size_t offset, const char *message)
{
	misuse_offset = offset;
	check_child_aborts(free_wrongly, "hkm_free_batch", 0, message);
}

static void wild_pointers_abort(void)
{
	check_aborts(0, "double free");
	check_aborts(SLOT, "not the start of a block");
	check_aborts(16, "not the start of a block");
}

/* ---- threads ------------------------------------------------------------------- */

#define NR_THREADS 4
#define ROUNDS 150
#define MOST 24

static uintptr_t *last_of(void *block, size_t size)
{
	return (uintptr_t *)((char *)block + size) - 1;
}

static void *work(void *arg)
{
	uint64_t state = (uintptr_t)arg;
	void *mine[MOST];

	for (int round = 0; round < ROUNDS; round++) {
		size_t n = 1 + next_random(&state) % MOST;
		size_t size = SLOT / 2 * (2 + next_random(&state) % 5);
		int got = hkm_alloc_batch(mine, n, size);

		check_int(got, n);
		for (size_t i = 0; i < n; i++) {
			*(uintptr_t *)mine[i] = (uintptr_t)arg + i;
			*last_of(mine[i], size) = (uintptr_t)arg + i;
		}
		for (size_t i = 0; i < n; i++) {
			check_int(*(uintptr_t *)mine[i], (uintptr_t)arg + i);
			check_int(*last_of(mine[i], size), (uintptr_t)arg + i);
		}
		shuffle(mine, n);
		while (n && next_random(&state) % 4 == 0)
			hkm_free(mine[--n]);
		hkm_free_batch(mine, n);
	}
	return NULL;
}

static void work_together(void)
{
	pthread_t thread[NR_THREADS];

	for (uintptr_t i = 0; i < NR_THREADS; i++)
		check_int(pthread_create(&thread[i], NULL, work,
					 (void *)((i + 1) << 20)), 0);
	for (int i = 0; i < NR_THREADS; i++)
		check_int(pthread_join(thread[i], NULL), 0);
	check_int(stats().live, 0);
	check_int(stats().live_bytes, 0);
}

static void threads_on_anonymous_memory(void)
{
	no_device();
	work_together();
	_exit(0);
}

static void threads_on_the_device(void)
{
	with_device();
	work_together();
	_exit(0);
}

static const struct tap_case cases[] = {
	CASE(blocks_are_blocks_like_others),
	CASE(small_blocks_are_libcs),
	CASE(all_kinds_are_freed_together),
	CASE(errors),
#ifndef SANITIZED
	CASE(what_there_is_of_too_many),
#endif
	CASE(misses_are_one_run),
	CASE(hits_are_no_call),
	CASE(runs_of_other_lengths_are_cut),
	CASE(what_is_left_of_a_run_is_idle),
	CASE(frees_are_sorted_and_joined),
	CASE(neighbours_are_advised_as_one),
	CASE(runs_are_joined_up_to_a_part_of_the_limit),
	CASE(pinned_blocks_stay_by_themselves),
	CASE(guards_are_kept),
	CASE(two_share_a_slot),
	CASE(two_share_a_slot_of_the_device),
	CASE(idle_slots_for_one_are_used),
	CASE(nothing_is_shared_where_it_is_not_to_be),
	CASE(misses_are_one_handout),
	CASE(holes_of_the_arena_are_used),
	CASE(what_the_device_has_not_is_anonymous),
	CASE(a_device_that_refuses),
	CASE(what_the_kernel_took_comes_back),
	CASE(a_child_has_its_own),
	CASE(wild_pointers_abort),
	CASE(threads_on_anonymous_memory),
	CASE(threads_on_the_device),
};

TAP_MAIN(cases)
