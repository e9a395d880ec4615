// SPDX-License-Identifier: GPL-2.0
/*
 * The device source on a stand-in for the device (fakedev.h): the words, and
 * what happens when the kernel takes idle slots, as a whole or in part, or
 * hands them to another thread.
 */
#include <pthread.h>

#include <linux/hakmem_region.h>

#include "backend.h"
#include "fakedev.h"
#include "sys.h"
#include "tap.h"
#include "window.h"

#define SLOT HKM_SLOT_SIZE

static struct hkm_backend *be;

static int try_arena(size_t nr)
{
	char *at;

	check_int(hkm_window_reserve(nr, &at), 0);
	return hkm_region_open(at, nr, 0, &be);
}

static void open_arena(size_t nr)
{
	fake.enabled = true;
	check_int(try_arena(nr), 0);
}

static char *commit(size_t nr)
{
	void *run = NULL;

	check_int(be->ops->commit(be, nr, 0, &run, NULL), 0);
	return run;
}

static size_t slot_of(const void *run)
{
	return (size_t)((const char *)run - be->base) / SLOT;
}

static char *idle_run(size_t nr, int value)
{
	char *run = commit(nr);

	memset(run, value, nr * SLOT);
	be->ops->idle(be, run, nr);
	return run;
}

static int state(size_t slot)
{
	return (int)HKR_WORD_STATE(fake_word(slot));
}

static void check_states(size_t first, size_t nr, int want)
{
	for (size_t i = first; i < first + nr; i++)
		check_int(state(i), want);
}

/* ---- opening -------------------------------------------------------------- */

static void absent_device_is_enoent(void)
{
	if (!access(HKM_DEVICE, F_OK)) {
		fake.enabled = true;	/* there is one: play without */
		fake.open_error = -ENOENT;
	}
	check_int(try_arena(4), -ENOENT);
}

static void other_abi_is_refused(void)
{
	fake.enabled = true;
	fake.abi_version = HKR_ABI_VERSION + 1;
	check_int(try_arena(4), -EPROTONOSUPPORT);
}

static void setup_error_is_passed_on(void)
{
	fake.enabled = true;
	fake.setup_error = -EOPNOTSUPP;
	check_int(try_arena(5), -EOPNOTSUPP);
}

/* the arena's addresses are no longer reserved when the driver says no */
static void refused_mapping_leaves_the_window_closed(void)
{
	char *at;

	fake.enabled = true;
	fake.refuse_arena = true;
	check_int(hkm_window_reserve(5, &at), 0);
	check_int(hkm_region_open(at, 5, 0, &be), -ENODEV);
	check(mmap(at, 5 * SLOT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
		   MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
	check_int(errno, EEXIST);
}

static void arena_is_aligned(void)
{
	open_arena(5);
	check_int((uintptr_t)be->base % SLOT, 0);
	check_int(be->nr_slots, 5);
	check(hkm_region_fd(be) >= 0);
	check(!strcmp(be->ops->name, "region"));
	be->ops->close(be);
}

static void size_keeps_to_the_limits(void)
{
	fake.max_slots = 300;
	open_arena(400);
	check_int(fake.nr_slots, 300);
	check_int(be->nr_slots, 300);
}

/* ---- words ---------------------------------------------------------------- */

static void free_and_reuse_need_no_call(void)
{
	uint64_t word;
	char *run;

	open_arena(8);
	run = commit(3);
	word = fake_word(1);
	check_int(HKR_WORD_STATE(word), HKR_WORD_BUSY);
	check(HKR_WORD_GEN(word));
	memset(run, 5, 3 * SLOT);

	fake_set_epoch(77);
	be->ops->idle(be, run, 3);
	check(fake_word(1) == HKR_WORD_MAKE(HKR_WORD_IDLE, 77ULL,
					    HKR_WORD_GEN(word)));
	check_int(be->ops->reuse(be, run, 3), 0);
	check_states(0, 3, HKR_WORD_BUSY);
	check_int(HKR_WORD_GEN(fake_word(1)), HKR_WORD_GEN(word));
	check(all_bytes(run, 3 * SLOT, 5));
	check_int(fake.handouts, 1);
	check_int(fake.at_handouts + fake.drops + fake.fresh, 0);
}

static void partial_loss_is_recommitted_in_place(void)
{
	char *run;

	open_arena(8);
	run = idle_run(4, 5);
	check_int(fake_reclaim(1, 2), 2);
	check_int(be->ops->reuse(be, run, 4), 0);
	check_int(fake.at_handouts, 1);
	check_int(fake.drops, 0);
	check_states(0, 4, HKR_WORD_BUSY);
	check(all_bytes(run, SLOT, 5));
	check(all_bytes(run + SLOT, 2 * SLOT, 0));
	check(all_bytes(run + 3 * SLOT, SLOT, 5));
	/* its memory is that of other idle slots, if there are any */
	check_int(fake.last_flags, HKR_HANDOUT_COMMIT | HKR_HANDOUT_AT |
				   HKR_HANDOUT_FROM_IDLE);
}

static void total_loss_is_recommitted_in_place(void)
{
	char *run;

	open_arena(8);
	run = idle_run(4, 5);
	check_int(fake_reclaim(0, 4), 4);
	check_int(be->ops->reuse(be, run, 4), 0);
	check_states(0, 4, HKR_WORD_BUSY);
	check(all_bytes(run, 4 * SLOT, 0));
}

/* nothing of the run may stay behind, busy for ever */
static void refused_recommit_drops_the_rest(void)
{
	char *run;

	open_arena(8);
	run = idle_run(5, 5);
	check_int(fake_reclaim(2, 1), 1);
	fake.handout_error = -ENOMEM;
	check_int(be->ops->reuse(be, run, 5), -ESTALE);
	check_states(0, 5, HKR_WORD_EMPTY);
	for (size_t i = 0; i < 5; i++)
		check(!fake_is_taken(i));
}

static void slot_in_reclaim_ends_reuse(void)
{
	char *run;

	open_arena(8);
	run = idle_run(5, 5);
	check(fake_reclaim_begin(2));
	check_int(be->ops->reuse(be, run, 5), -ESTALE);
	check_int(fake.at_handouts, 0);
	check_int(state(2), HKR_WORD_RECLAIM);
	check(fake_is_taken(2));
	check_states(0, 2, HKR_WORD_EMPTY);
	check_states(3, 2, HKR_WORD_EMPTY);
}

/*
 * The kernel took slots 1 and 2 of a cached run, and another thread was handed
 * them. Its memory must survive whatever becomes of the cached run.
 */
static char *someone_elses_slots(char **cached)
{
	char *theirs;

	open_arena(4);
	*cached = idle_run(4, 5);
	check_int(fake_reclaim(1, 2), 2);
	theirs = commit(2);
	check_int(slot_of(theirs), 1);
	memset(theirs, 9, 2 * SLOT);
	return theirs;
}

static void check_only_theirs_is_left(const char *theirs)
{
	check(all_bytes(theirs, 2 * SLOT, 9));
	check_int(state(0), HKR_WORD_EMPTY);
	check_states(1, 2, HKR_WORD_BUSY);
	check_int(state(3), HKR_WORD_EMPTY);
	check(!fake_is_taken(0) && fake_is_taken(1));
	check(fake_is_taken(2) && !fake_is_taken(3));
}

static void reuse_leaves_others_alone(void)
{
	char *cached, *theirs = someone_elses_slots(&cached);

	check_int(be->ops->reuse(be, cached, 4), -ESTALE);
	check_int(fake.at_handouts, 0);
	check_only_theirs_is_left(theirs);
}

static void evict_leaves_others_alone(void)
{
	char *cached, *theirs = someone_elses_slots(&cached);

	be->ops->evict(be, cached, 4);
	check_only_theirs_is_left(theirs);
}

/* the very same run, handed out again while its old entry is still cached */
static void evict_leaves_a_namesake_alone(void)
{
	char *old, *again;

	open_arena(8);
	old = idle_run(3, 5);
	check_int(fake_reclaim(0, 3), 3);
	again = commit(3);
	check(again == old);
	memset(again, 9, 3 * SLOT);
	be->ops->evict(be, old, 3);
	check_int(be->ops->reuse(be, old, 3), -ESTALE);
	check(all_bytes(again, 3 * SLOT, 9));
	check_states(0, 3, HKR_WORD_BUSY);
}

/* four idle runs of two slots, with one that is in use after each */
static void open_many(struct hkm_place *places)
{
	open_arena(16);
	for (int i = 0; i < 4; i++) {
		places[i] = (struct hkm_place){ commit(2), 2 };
		commit(1);
		memset(places[i].run, 5, 2 * SLOT);
	}
	for (int i = 0; i < 4; i++)
		be->ops->idle(be, places[i].run, 2);
}

static void many_are_evicted_by_one_call(void)
{
	struct hkm_place places[4];

	open_many(places);
	check_int(fake_reclaim(3, 1), 1);
	be->ops->evict_many(be, places, 4);
	check_int(fake.drops, 1);
	for (size_t i = 0; i < 12; i++) {
		check_int(state(i), i % 3 == 2 ? HKR_WORD_BUSY : HKR_WORD_EMPTY);
		check_int(fake_is_taken(i), i % 3 == 2);
		check(i % 3 == 2 || !fake_has_memory(i));
	}
	be->ops->evict_many(be, places, 4);
	check_int(fake.drops, 1);
}

/* the others go, and nobody keeps what does not */
static void of_many_one_may_be_refused(void)
{
	struct hkm_place places[4];

	open_many(places);
	fake.refuse_range = 5;
	be->ops->evict_many(be, places, 4);
	check_int(fake.drops, 1);
	for (size_t i = 0; i < 12; i++)
		if (i % 3 < 2)
			check_int(state(i), i / 3 == 1 ? HKR_WORD_IDLE :
							 HKR_WORD_EMPTY);
	check_int(fake_reclaim(3, 2), 2);
}

static void failed_recommit_leaves_a_late_owner_alone(void)
{
	char *cached, *theirs;

	open_arena(6);
	cached = idle_run(6, 5);
	check_int(fake_reclaim(1, 1), 1);
	check_int(fake_reclaim(4, 1), 1);
	theirs = commit(1);	/* slot 1 */
	check_int(slot_of(theirs), 1);
	be->ops->idle(be, theirs, 1);
	check_int(be->ops->reuse(be, theirs, 1), 0);
	memset(theirs, 9, SLOT);
	check_int(be->ops->reuse(be, cached, 6), -ESTALE);
	check(all_bytes(theirs, SLOT, 9));
	for (size_t i = 0; i < 6; i++)
		check_int(fake_is_taken(i), i == 1);
}

/*
 * A commit that arrives while a recommit is at the kernel must not be given a
 * slot that the recommit has seen free: AT would take it for its own.
 */
static pthread_t committer;
static char *committed;

static void *commit_one(void *arg)
{
	void *run = NULL;

	check_int(be->ops->commit(be, 1, 0, &run, NULL), 0);
	__atomic_store_n(&committed, run, __ATOMIC_RELEASE);
	return arg;
}

static void commit_meanwhile(void)
{
	pthread_create(&committer, NULL, commit_one, NULL);
	for (int ms = 0; ms < 100 && !__atomic_load_n(&committed,
						      __ATOMIC_ACQUIRE); ms++)
		usleep(1000);
}

static void commit_and_recommit_exclude_each_other(void)
{
	char *run;

	open_arena(8);
	run = idle_run(4, 5);
	check_int(fake_reclaim(1, 1), 1);
	check_int(fake_reclaim(3, 1), 1);
	fake.before_at = commit_meanwhile;
	check_int(be->ops->reuse(be, run, 4), 0);
	pthread_join(committer, NULL);
	check(slot_of(committed) >= 4);
}

/* Threads claim one idle run at once, again and again: it has one owner. */
static char *contested;
static int owners;

static void *claim_again(void *arg)
{
	for (int i = 0; i < 200000; i++) {
		if (be->ops->reuse(be, contested, 1))
			continue;
		check_int(__atomic_add_fetch(&owners, 1, __ATOMIC_RELAXED), 1);
		for (volatile int pause = 0; pause < 100; pause++)
			;	/* long enough for the other to be seen */
		__atomic_sub_fetch(&owners, 1, __ATOMIC_RELAXED);
		be->ops->idle(be, contested, 1);
	}
	return arg;
}

static void a_contested_run_has_one_owner(void)
{
	pthread_t threads[2];

	open_arena(1);
	contested = idle_run(1, 5);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, claim_again, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the other operations -------------------------------------------------- */

static void drop_works_on_busy_and_idle(void)
{
	char *run;

	open_arena(8);
	run = commit(2);
	memset(run, 1, 2 * SLOT);
	check(fake_has_memory(0));
	check_int(be->ops->drop(be, run, 2), 0);
	check(!fake_has_memory(0) && !fake_is_taken(0));

	run = idle_run(2, 1);
	check_int(be->ops->drop(be, run, 2), 0);
	check(!fake_is_taken(0) && !fake_is_taken(1));
	check_int(fake.drops, 2);
}

static void fresh_is_one_call(void)
{
	char *run;

	open_arena(8);
	run = commit(2);
	memset(run, 1, 2 * SLOT);
	fake_set_clean(1);
	check_int(be->ops->fresh(be, run, 2), -EAGAIN);
	check(all_bytes(run, 2 * SLOT, 1));
	fake_set_clean(2);
	check_int(be->ops->fresh(be, run, 2), 0);
	check_int(fake.fresh, 1);
	check(all_bytes(run, 2 * SLOT, 0));
	check_states(0, 2, HKR_WORD_BUSY);
}

static void errors_of_commit_are_passed_on(void)
{
	void *run = &run;

	open_arena(8);
	fake.handout_error = -EDQUOT;
	check_int(be->ops->commit(be, 1, 0, &run, NULL), -EDQUOT);
	fake.handout_error = 0;
	fake.handout_call_error = -EBADFD;
	check_int(be->ops->commit(be, 1, 0, &run, NULL), -EBADFD);
	fake.handout_call_error = 0;
	check_int(be->ops->commit(be, 9, 0, &run, NULL), -ENOSPC);
	check_int(be->ops->commit(be, 0, 0, &run, NULL), -EINVAL);
	check(run == &run);
}

static char *busy_of_parent, *idle_of_parent;

static void use_in_child(void)
{
	int calls = fake.handouts + fake.at_handouts + fake.drops + fake.fresh;
	void *run;

	check_int(be->ops->commit(be, 1, 0, &run, NULL), -EPERM);
	be->ops->idle(be, busy_of_parent, 2);
	check_int(be->ops->reuse(be, idle_of_parent, 2), -ESTALE);
	check_int(be->ops->fresh(be, busy_of_parent, 2), -EPERM);
	check_int(be->ops->drop(be, busy_of_parent, 2), -EPERM);
	be->ops->evict(be, idle_of_parent, 2);
	check_int(fake.handouts + fake.at_handouts + fake.drops + fake.fresh,
		  calls);
}

static void forked_child_touches_nothing(void)
{
	char text[4096];

	open_arena(8);
	busy_of_parent = commit(2);
	idle_of_parent = idle_run(2, 1);
	check(exited_well(run_child(use_in_child, text, sizeof(text))));
	check_states(0, 2, HKR_WORD_BUSY);
	check_states(2, 2, HKR_WORD_IDLE);
	check_int(be->ops->reuse(be, idle_of_parent, 2), 0);
}

/* ---- under fire ------------------------------------------------------------ */

#define ARENA 24
#define HINTS 6
#define OPS 6000

static int stop;

static void *reclaimer(void *arg)
{
	uint64_t seed = 99;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t slot = next_random(&seed) % ARENA;

		if (!fake_reclaim_begin(slot))
			continue;
		fake_reclaim_end(slot, next_random(&seed) % 4);
	}
	return arg;
}

struct hint {
	char *run;
	size_t nr;
};

/* Who uses a run marks each slot of it, and finds its marks again. */
static void use_run(char *run, size_t nr, unsigned long mark)
{
	for (size_t i = 0; i < nr; i++)
		*(volatile unsigned long *)(run + i * SLOT) = mark + i;
	for (int again = 0; again < 20; again++)
		for (size_t i = 0; i < nr; i++)
			check(*(volatile unsigned long *)(run + i * SLOT) ==
			      mark + i);
}

/* was a slot wanted again that the kernel had taken? */
static bool kernel_met_a_user(void)
{
	return __atomic_load_n(&fake.at_handouts, __ATOMIC_RELAXED) > 0;
}

/* all from @h on, at once */
static void evict_some(struct hint *h, const struct hint *end)
{
	struct hkm_place places[HINTS];
	size_t n = 0;

	for (; h < end; h++) {
		if (h->run)
			places[n++] = (struct hkm_place){ h->run, h->nr };
		h->run = NULL;
	}
	be->ops->evict_many(be, places, n);
}

/*
 * A thread keeps its idle runs as hints, as the cache does. The kernel takes
 * their slots meanwhile and the other threads are handed them.
 */
static void *use_hints(void *arg)
{
	struct hint hints[HINTS] = { { NULL, 0 } };
	uint64_t seed = (uint64_t)(intptr_t)arg;

	/* a busy machine may not have run the kernel's part for long */
	for (int op = 0; op < OPS || !kernel_met_a_user(); op++) {
		struct hint *h = &hints[next_random(&seed) % HINTS];

		if (h->run && next_random(&seed) % 4 == 0) {
			evict_some(h, hints + HINTS);
		} else if (h->run && be->ops->reuse(be, h->run, h->nr)) {
			h->run = NULL;
		}
		if (!h->run) {
			void *run;

			h->nr = 1 + next_random(&seed) % 4;
			if (be->ops->commit(be, h->nr, 0, &run, NULL))
				continue;
			h->run = run;
		}
		use_run(h->run, h->nr, (unsigned long)op << 20 |
				       (unsigned long)(intptr_t)arg << 12);
		be->ops->idle(be, h->run, h->nr);
	}
	for (int i = 0; i < HINTS; i++)
		if (hints[i].run)
			be->ops->evict(be, hints[i].run, hints[i].nr);
	return NULL;
}

static void no_slot_has_two_owners_under_reclaim(void)
{
	pthread_t users[3], kernel;

	open_arena(ARENA);
	pthread_create(&kernel, NULL, reclaimer, NULL);
	for (intptr_t i = 0; i < 3; i++)
		pthread_create(&users[i], NULL, use_hints, (void *)(i + 1));
	for (int i = 0; i < 3; i++)
		pthread_join(users[i], NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(kernel, NULL);

	/* What is left is idle, because it came back from RECLAIM late. */
	for (size_t i = 0; i < ARENA; i++)
		check(state(i) == HKR_WORD_EMPTY || state(i) == HKR_WORD_IDLE);
	check(kernel_met_a_user());
}

static const struct tap_case cases[] = {
	CASE(absent_device_is_enoent),
	CASE(other_abi_is_refused),
	CASE(setup_error_is_passed_on),
	CASE(arena_is_aligned),
	CASE(refused_mapping_leaves_the_window_closed),
	CASE(size_keeps_to_the_limits),
	CASE(free_and_reuse_need_no_call),
	CASE(partial_loss_is_recommitted_in_place),
	CASE(total_loss_is_recommitted_in_place),
	CASE(refused_recommit_drops_the_rest),
	CASE(slot_in_reclaim_ends_reuse),
	CASE(reuse_leaves_others_alone),
	CASE(evict_leaves_others_alone),
	CASE(evict_leaves_a_namesake_alone),
	CASE(many_are_evicted_by_one_call),
	CASE(of_many_one_may_be_refused),
	CASE(failed_recommit_leaves_a_late_owner_alone),
	CASE(commit_and_recommit_exclude_each_other),
	CASE(a_contested_run_has_one_owner),
	CASE(drop_works_on_busy_and_idle),
	CASE(fresh_is_one_call),
	CASE(errors_of_commit_are_passed_on),
	CASE(forked_child_touches_nothing),
	CASE(no_slot_has_two_owners_under_reclaim),
};

TAP_MAIN(cases)
