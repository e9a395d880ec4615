// SPDX-License-Identifier: GPL-2.0
/*
 * The anonymous source: its window and slots, what the policies do to memory,
 * and that a drop gives memory and addresses back.
 */
#include <pthread.h>

#include "backend.h"
#include "fakedev.h"
#include "sys.h"
#include "tap.h"
#include "window.h"

#define SLOT HKM_SLOT_SIZE

static struct hkm_backend *be;

static void open_window(size_t nr, enum hkm_policy policy)
{
	char *at;

	check_int(hkm_window_reserve(nr, &at), 0);
	check_int(hkm_anon_open(at, nr, policy, 0, &be), 0);
}

static void *commit(size_t nr)
{
	bool zeroed = false;
	void *run = NULL;

	check_int(be->ops->commit(be, nr, 0, &run, &zeroed), 0);
	check(zeroed);
	return run;
}

static size_t slot_of(void *run)
{
	return (size_t)((char *)run - be->base) / SLOT;
}

static void window_is_aligned_and_holds_runs(void)
{
	char *a, *b;

	open_window(10, HKM_POLICY_KEEP);
	check_int((uintptr_t)be->base % SLOT, 0);
	check_int(be->nr_slots, 10);
	check(!strcmp(be->ops->name, "anon"));
	a = commit(3);
	b = commit(7);
	check_int(slot_of(a), 0);
	check_int(slot_of(b), 3);
	memset(a, 1, 3 * SLOT);
	memset(b, 2, 7 * SLOT);
	check(all_bytes(a, 3 * SLOT, 1));
	be->ops->close(be);
}

/* "dc": what MADV_DONTFORK did is there as long as the mapping is */
static void what_is_closed_stays_a_mapping_if_it_may(void)
{
	static const unsigned int flags[] = { 0, HKM_ANON_STAY };
	char *at, *a;

	for (int i = 0; i < 2; i++) {
		check_int(hkm_window_reserve(4, &at), 0);
		check_int(hkm_anon_open(at, 4, HKM_POLICY_KEEP, flags[i], &be),
			  0);
		a = commit(2);
		memset(a, 1, 2 * SLOT);
		check_int(madvise(a, SLOT, MADV_DONTFORK), 0);
		check_int(be->ops->drop(be, a, 2), 0);
		check_int(resident_pages(a, 2 * SLOT), 0);
		check_int(has_vm_flag(a, "dc"), i);
		check(!has_vm_flag(a, " rd") && !has_vm_flag(a, " wr"));
		check(commit(2) == a);
		check(all_bytes(a, 2 * SLOT, 0));
	}
}

static void bad_sizes_are_refused(void)
{
	void *run = &run;

	open_window(10, HKM_POLICY_KEEP);
	check_int(be->ops->commit(be, 0, 0, &run, NULL), -EINVAL);
	check_int(be->ops->commit(be, 11, 0, &run, NULL), -ENOSPC);
	check_int(be->ops->commit(be, SIZE_MAX, 0, &run, NULL), -ENOSPC);
	commit(6);
	check_int(be->ops->commit(be, 5, 0, &run, NULL), -ENOSPC);
	check(run == &run);
	commit(4);
	check_int(be->ops->commit(be, 1, 0, &run, NULL), -ENOSPC);
	check_int(hkm_anon_open(be->base, 4, (enum hkm_policy)4, 0, &be),
		  -EINVAL);
	check_int(hkm_anon_open(be->base, 0, HKM_POLICY_KEEP, 0, &be),
		  -EINVAL);
}

static void lowest_hole_that_fits_is_used(void)
{
	void *run[8];

	open_window(200, HKM_POLICY_KEEP);
	for (int i = 0; i < 8; i++)
		run[i] = commit(20);
	check_int(be->ops->drop(be, run[1], 20), 0);
	check_int(be->ops->drop(be, run[3], 20), 0);
	check_int(be->ops->drop(be, run[4], 20), 0);
	check_int(slot_of(commit(30)), 60);
	check_int(slot_of(commit(5)), 20);
	check_int(slot_of(commit(15)), 25);
	check_int(slot_of(commit(11)), 160);
	check_int(slot_of(commit(10)), 90);
}

#define MODEL_SLOTS 150

/* runs never overlap and are always the first fit */
static void slots_follow_the_model(void)
{
	bool used[MODEL_SLOTS] = { false };
	struct { size_t at, nr; } live[MODEL_SLOTS];
	size_t nr_live = 0;
	uint64_t seed = 1;

	open_window(MODEL_SLOTS, HKM_POLICY_KEEP);
	for (int op = 0; op < 5000; op++) {
		size_t nr = 1 + next_random(&seed) % 70, at = 0, n = 0;
		void *run;
		int err;

		if (nr_live && next_random(&seed) % 2) {
			size_t i = next_random(&seed) % nr_live;

			check_int(be->ops->drop(be, be->base + live[i].at * SLOT,
						live[i].nr), 0);
			memset(&used[live[i].at], 0, live[i].nr);
			live[i] = live[--nr_live];
			continue;
		}
		while (at + n < MODEL_SLOTS && n < nr)
			if (used[at + n])
				at += n + 1, n = 0;
			else
				n++;
		err = be->ops->commit(be, nr, 0, &run, NULL);
		check_int(err, n == nr ? 0 : -ENOSPC);
		if (err)
			continue;
		check_int(slot_of(run), at);
		memset(&used[at], 1, nr);
		live[nr_live].at = at;
		live[nr_live++].nr = nr;
	}
}

static void drop_gives_memory_back(void)
{
	char *run;

	open_window(10, HKM_POLICY_KEEP);
	run = commit(4);
	memset(run, 1, 4 * SLOT);
	check_int(resident_pages(run, 4 * SLOT), 4 * SLOT / 4096);
	check_int(be->ops->drop(be, run, 4), 0);
	check_int(resident_pages(run, 4 * SLOT), 0);
	check(commit(4) == run);
	check(all_bytes(run, 4 * SLOT, 0));
}

static void touch_after_drop(void)
{
	volatile char *run;

	signal(SIGSEGV, SIG_DFL);	/* not the sanitizer's report */
	open_window(10, HKM_POLICY_KEEP);
	run = commit(1);
	*run = 1;
	be->ops->drop(be, (void *)run, 1);
	*run = 1;
}

static void dropped_run_faults(void)
{
	char text[4096];
	int status = run_child(touch_after_drop, text, sizeof(text));

	check(WIFSIGNALED(status));
	check_int(WTERMSIG(status), SIGSEGV);
}

static void neighbours_survive_a_drop(void)
{
	char *a, *b, *c;

	open_window(3, HKM_POLICY_KEEP);
	a = commit(1);
	b = commit(1);
	c = commit(1);
	memset(a, 1, SLOT);
	memset(b, 2, SLOT);
	memset(c, 3, SLOT);
	be->ops->drop(be, b, 1);
	check(all_bytes(a, SLOT, 1));
	check(all_bytes(c, SLOT, 3));
}

/* ---- policies ------------------------------------------------------------- */

static char *make_idle(enum hkm_policy policy)
{
	char *run;

	open_window(4, policy);
	run = commit(2);
	memset(run, 7, 2 * SLOT);
	be->ops->idle(be, run, 2);
	return run;
}

static void keep_keeps_memory(void)
{
	char *run = make_idle(HKM_POLICY_KEEP);

	check_int(resident_pages(run, 2 * SLOT), 2 * SLOT / 4096);
	check_int(be->ops->reuse(be, run, 2), 0);
	check(all_bytes(run, 2 * SLOT, 7));
}

static void dontneed_gives_memory_back_at_once(void)
{
	char *run = make_idle(HKM_POLICY_DONTNEED);

	check_int(resident_pages(run, 2 * SLOT), 0);
	check_int(be->ops->reuse(be, run, 2), 0);
	check(all_bytes(run, 2 * SLOT, 0));
	memset(run, 1, 2 * SLOT);
}

static size_t lazy_free_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	size_t kib = 0;
	char line[256];

	while (fgets(line, sizeof(line), f))
		sscanf(line, "LazyFree: %zu kB", &kib);
	fclose(f);
	return kib;
}

static void free_lets_the_kernel_take_memory(void)
{
	char *run = make_idle(HKM_POLICY_FREE);

	/* some pages of each processor still wait in a batch */
	check(lazy_free_kib() >= 3072);
	check_int(be->ops->reuse(be, run, 2), 0);
	memset(run, 1, 2 * SLOT);
	check_int(lazy_free_kib(), 0);
	check(all_bytes(run, 2 * SLOT, 1));
}

static void policy_can_change(void)
{
	char *run = make_idle(HKM_POLICY_KEEP);

	hkm_anon_set_policy(be, HKM_POLICY_DONTNEED);
	check_int(be->ops->reuse(be, run, 2), 0);
	be->ops->idle(be, run, 2);
	check_int(resident_pages(run, 2 * SLOT), 0);
}

static void fresh_reads_zero_and_stays_open(void)
{
	char *run;

	open_window(4, HKM_POLICY_KEEP);
	run = commit(2);
	memset(run, 7, 2 * SLOT);
	check_int(be->ops->fresh(be, run, 2), 0);
	check(all_bytes(run, 2 * SLOT, 0));
	memset(run, 1, 2 * SLOT);
}

static void evict_gives_an_idle_run_back(void)
{
	char *run = make_idle(HKM_POLICY_KEEP);

	be->ops->evict(be, run, 2);
	check_int(resident_pages(run, 2 * SLOT), 0);
	check(commit(4) == run);
}

static void thp_is_only_advice(void)
{
	char *at, *run;

	check_int(hkm_window_reserve(4, &at), 0);
	check_int(hkm_anon_open(at, 4, HKM_POLICY_KEEP, HKM_ANON_THP, &be), 0);
	run = commit(2);
	memset(run, 7, 2 * SLOT);
	be->ops->drop(be, run, 2);
	run = commit(4);
	check(all_bytes(run, 4 * SLOT, 0));
}

#define MOVED 5000

static int nr_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	int c, n = 0;

	while ((c = fgetc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* a slot that was moved to is a mapping of its own, of which a process may have so many */
static void moves_leave_the_program_its_mappings(void)
{
	char *at, *from, *to;

	check_int(hkm_window_reserve(2 * MOVED, &at), 0);
	check_int(hkm_anon_open(at, 2 * MOVED, HKM_POLICY_KEEP,
				HKM_ANON_STAY | HKM_ANON_NO_THP, &be), 0);
	fake.enabled = true;
	from = commit(MOVED);
	to = commit(MOVED);
	/* the other way round: no two that are neighbours may be one again */
	for (size_t i = 0; i < MOVED; i++) {
		char *slot = from + i * SLOT, *there = to + (MOVED - 1 - i) * SLOT;

		*slot = 1;
		check_int(be->ops->fill(be, there, slot, 1), 0);
		check_int(*there, fake.mremaps > (int)i);
		*there = 2;
	}
	check_int(fake.mremaps, 4096);
	check(nr_mappings() < 2 * 4096 + 200);
	/* where it was so before, it may be again */
	from = commit(1);
	*from = 1;
	check_int(be->ops->fill(be, to + (MOVED - 1) * SLOT, from, 1), 0);
	check_int(fake.mremaps, 4097);
	check_int(to[(MOVED - 1) * SLOT], 1);
	from = commit(1);
	check(all_bytes(from, SLOT, 0));
}

/* ---- fork ----------------------------------------------------------------- */

#define HOLES 8000

static int stop;

/* every other slot is taken, so a run of two is a long search under the lock */
static void *search_and_drop(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		be->ops->drop(be, commit(2), 2);
	return arg;
}

static void commit_in_child(void)
{
	alarm(5);
	commit(2);
	_exit(0);
}

static void forked_child_can_commit(void)
{
	pthread_t thread;
	char text[4096];
	char *first;

	open_window(2 * HOLES + 64, HKM_POLICY_KEEP);
	first = commit(2 * HOLES);
	for (size_t i = 0; i < HOLES; i++)
		be->ops->drop(be, first + 2 * i * SLOT, 1);
	pthread_create(&thread, NULL, search_and_drop, NULL);
	for (int i = 0; i < 15; i++)
		check(exited_well(run_child(commit_in_child, text,
					    sizeof(text))));
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

static void close_gives_all_memory_back(void)
{
	char *base;

	open_window(10, HKM_POLICY_KEEP);
	base = be->base;
	memset(commit(4), 1, 4 * SLOT);
	be->ops->close(be);
	check_int(resident_pages(base, 10 * SLOT), 0);
}

static const struct tap_case cases[] = {
	CASE(window_is_aligned_and_holds_runs),
	CASE(what_is_closed_stays_a_mapping_if_it_may),
	CASE(bad_sizes_are_refused),
	CASE(lowest_hole_that_fits_is_used),
	CASE(slots_follow_the_model),
	CASE(drop_gives_memory_back),
	CASE(dropped_run_faults),
	CASE(neighbours_survive_a_drop),
	CASE(keep_keeps_memory),
	CASE(dontneed_gives_memory_back_at_once),
	CASE(free_lets_the_kernel_take_memory),
	CASE(policy_can_change),
	CASE(fresh_reads_zero_and_stays_open),
	CASE(evict_gives_an_idle_run_back),
	CASE(forked_child_can_commit),
	CASE(thp_is_only_advice),
	CASE(moves_leave_the_program_its_mappings),
	CASE(close_gives_all_memory_back),
};

TAP_MAIN(cases)
