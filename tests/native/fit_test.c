// SPDX-License-Identifier: GPL-2.0
/*
 * Which idle run a request gets, what is done where none fits, and how much
 * idle memory is kept and for how long.
 */
#include <time.h>

#include <linux/hakmem_region.h>

#include "heap_test.h"
#include "machine.h"

/*
 * runs that do not touch: a live slot is between any two. Each is full of its
 * number, from 1
 */
static void apart(char **p, const size_t *slots, int nr)
{
	for (int i = 0; i < nr; i++) {
		p[i] = hkm_malloc(slots[i] * SLOT);
		check(is_whale(p[i]));
		memset(p[i], i + 1, slots[i] * SLOT);
		check(is_whale(hkm_malloc(SLOT)));
	}
	for (int i = 0; i < nr; i++)
		hkm_free(p[i]);
}

static void smallest_that_fits_is_taken(void)
{
	static const size_t slots[] = { 9, 4, 6 };
	char *p[3];

	no_device();
	apart(p, slots, 3);
	check(hkm_malloc(6 * SLOT) == p[2]);
	check(hkm_malloc(3 * SLOT) == p[1]);	/* of 4: one is left */
	check(hkm_malloc(SLOT) == p[1] + 3 * SLOT);
	check_int(stats().idle_bytes, 9 * SLOT);
	check_int(stats().ring.hits, 3);
}

static void a_tenth_more_is_not_split_off(void)
{
	static const size_t slots[] = { 11 };
	char *p;

	no_device();
	apart(&p, slots, 1);
	check(hkm_malloc(10 * SLOT) == p);
	check_int(hkm_malloc_usable_size(p), 11 * SLOT);
	check_int(stats().idle_bytes, 0);
	hkm_free(p);
	check(hkm_malloc(9 * SLOT) == p);
	check_int(hkm_malloc_usable_size(p), 9 * SLOT);
	check_int(stats().idle_bytes, 2 * SLOT);
}

static void neighbours_are_joined_for_a_larger_one(void)
{
	char *p[6];

	no_device();
	for (int i = 0; i < 6; i++)
		p[i] = hkm_malloc(2 * SLOT);
	hkm_free(p[1]);
	hkm_free(p[3]);
	hkm_free(p[2]);
	check(hkm_malloc(6 * SLOT) == p[1]);
	check_int(stats().idle_bytes, 0);
	check_int(stats().ring.cached, 0);
}

/* the memory of idle runs moves, so the process grows by nothing */
static void new_runs_are_made_of_idle_memory(void)
{
	static const size_t slots[] = { 2, 3, 2 };
	char *p[3], *q;

	no_device();
	setenv("HAKMEM_THP", "off", 1);
	apart(p, slots, 3);
	q = hkm_malloc(6 * SLOT);
	check(q && q != p[0]);
	check_int(resident_pages(q, 6 * SLOT), 6 * SLOT / 4096);
	/* the oldest first; of the last one a slot is left */
	check(all_bytes(q, 2 * SLOT, 1));
	check(all_bytes(q + 2 * SLOT, 3 * SLOT, 2));
	check(all_bytes(q + 5 * SLOT, SLOT, 3));
	check_int(stats().idle_bytes, SLOT);
	check_int(resident_pages(p[0], 2 * SLOT), 0);
}

/* the run behind which there is room, and only what is missing is new */
static void an_idle_run_is_widened(void)
{
	char *p, *q;

	no_device();
	setenv("HAKMEM_THP", "on", 1);
	check(is_whale(hkm_malloc(2 * SLOT)));
	p = hkm_malloc(3 * SLOT);
	memset(p, 3, 3 * SLOT);
	hkm_free(p);
	q = hkm_malloc(5 * SLOT);
	check(q == p);
	check(all_bytes(q, 3 * SLOT, 3));
	check_int(resident_pages(q + 3 * SLOT, 2 * SLOT), 0);
	memset(q, 5, 5 * SLOT);
	check_int(stats().idle_bytes, 0);
	check_int(stats().live_bytes, 7 * SLOT);
	hkm_free(q);
	check(hkm_malloc(5 * SLOT) == q);
	check(all_bytes(q, 5 * SLOT, 5));
}

static void an_idle_run_is_widened_to_the_front(void)
{
	char *p, *q, *r;

	no_device();
	p = hkm_malloc(3 * SLOT);
	q = hkm_malloc(2 * SLOT);
	check(is_whale(hkm_malloc(SLOT)));
	memset(q, 2, 2 * SLOT);
	hkm_free(p);
	hkm_release_all();
	hkm_free(q);
	r = hkm_malloc(4 * SLOT);
	check(r == q - 2 * SLOT);
	check(all_bytes(q, 2 * SLOT, 2));
	memset(r, 4, 4 * SLOT);
	/* and not beyond the first slot, nor into others' */
	hkm_free(r);
	r = hkm_malloc(6 * SLOT);
	check(r > q);
	memset(r, 6, 6 * SLOT);
}

static void pinned_runs_are_not_widened(void)
{
	char *p, *q;

	no_device();
	p = hkm_malloc(2 * SLOT);
	hkm_pin(p, 1);
	hkm_free(p);
	q = hkm_malloc(3 * SLOT);
	check(q && q != p);
	check(hkm_malloc(2 * SLOT) == p);
}

/* what is asked for as zeroes, or is large and may be sparse, is new memory */
static void some_runs_are_not_made_of_idle_memory(void)
{
	static const size_t slots[] = { 2 };
	char *p;

	no_device();
	apart(&p, slots, 1);
	check(all_bytes(hkm_calloc(1, 3 * SLOT), 3 * SLOT, 0));
	check_int(stats().idle_bytes, 2 * SLOT);
	p = hkm_malloc(200 * SLOT);
	check_int(resident_pages(p, 200 * SLOT), 0);
	check_int(stats().idle_bytes, 2 * SLOT);
}

/* the device is not asked for memory of a run that may be sparse */
static void sparse_runs_of_the_device_are_backed_on_touch(void)
{
	char *p;

	with_device();
	fake.max_slots = 512;
	p = hkm_malloc(32 * SLOT);
	check(fake.last_flags & HKR_HANDOUT_COMMIT);
	hkm_free(p);
	check(is_whale(hkm_malloc(400 * SLOT)));
	check(!(fake.last_flags & HKR_HANDOUT_COMMIT));
	check(!(fake.last_flags & HKR_HANDOUT_FROM_IDLE));
}

/* also where the kernel has taken some of it back */
static void sparse_runs_that_lost_memory_are_backed_on_touch(void)
{
	char *p;

	with_device();
	fake.max_slots = 512;
	p = hkm_malloc(400 * SLOT);
	hkm_free(p);
	check_int(fake_reclaim(3, 1), 1);
	check(hkm_malloc(400 * SLOT) == p);
	check_int(fake.at_handouts, 1);
	check(!(fake.last_flags & HKR_HANDOUT_COMMIT));
	check_int(HKR_WORD_STATE(fake_word(3)), HKR_WORD_BUSY);
}

/* the device finds idle memory itself, when it is told that there is some */
static void new_runs_of_the_device_are_made_of_idle_memory(void)
{
	with_device();
	hkm_malloc(3 * SLOT);
	check(!(fake.last_flags & HKR_HANDOUT_FROM_IDLE));
	hkm_free(hkm_malloc(4 * SLOT));
	hkm_malloc(6 * SLOT);
	check(fake.last_flags & HKR_HANDOUT_FROM_IDLE);
}

/* ---- how much, and how long ------------------------------------------------------- */

static void limit_bounds_idle_bytes(void)
{
	char *p[10];

	no_device();
	setenv("HAKMEM_LIMIT", "10M", 1);
	for (int i = 0; i < 10; i++)
		p[i] = hkm_malloc(SLOT);
	for (int i = 0; i < 10; i++) {
		memset(p[i], 1, SLOT);
		hkm_free(p[i]);
		check(stats().idle_bytes <= 5 * SLOT);
	}
	check_int(stats().idle_bytes, 5 * SLOT);
	/* the oldest went */
	check_int(resident_pages(p[0], 5 * SLOT), 0);
	check_int(resident_pages(p[5], 5 * SLOT), 5 * SLOT / 4096);
	hkm_set_limit(2 * SLOT);
	check_int(stats().idle_bytes, 2 * SLOT);
	hkm_set_limit(0);
	hkm_free(hkm_malloc(4 * SLOT));
	check_int(stats().idle_bytes, 0);
}

static void default_limit_is_an_eighth_of_memory(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_ANON };
	size_t nr = hkm_sys_ram() / 8 / SLOT + 2;
	void *p, *q;

	no_device();
	check_int(hkm_init(&cfg), 0);
	p = hkm_malloc(nr * SLOT);
	q = hkm_malloc(SLOT);
	check(is_whale(p) && is_whale(q));
	hkm_free(p);
	check_int(stats().idle_bytes, 0);
	hkm_free(q);
	check_int(stats().idle_bytes, SLOT);
}

static void pinned_runs_stay(void)
{
	char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	memset(p, 1, 2 * SLOT);
	check_int(hkm_pin(&p, 1), -EINVAL);
	check_int(hkm_pin(p, 1), 0);
	hkm_free(p);
	hkm_set_limit(0);
	check_int(hkm_release_all(), 0);
	check_int(resident_pages(p, 2 * SLOT), 2 * SLOT / 4096);
	check(hkm_malloc(2 * SLOT) == p);
	check_int(hkm_pin(p, 0), 0);
	hkm_free(p);
	check_int(stats().idle_bytes, 0);
	check_int(resident_pages(p, 2 * SLOT), 0);
}

static void pinned_runs_stay_whatever_the_policy(void)
{
	static const char *const policies[] = { "dontneed", "free", "decay" };

	for (size_t i = 0; i < 3; i++) {
		char *p;

		no_device();
		setenv("HAKMEM_POLICY", policies[i], 1);
		p = hkm_malloc(2 * SLOT);
		memset(p, 1, 2 * SLOT);
		check_int(hkm_pin(p, 1), 0);
		hkm_free(p);
		check(hkm_malloc(2 * SLOT) == p);
		check(all_bytes(p, 2 * SLOT, 1));
		hkm_shutdown();
	}
}

/* to the kernel they are in use */
static void pinned_runs_of_the_device_stay(void)
{
	char *p;

	with_device();
	p = hkm_malloc(2 * SLOT);
	check_int(hkm_pin(p, 1), 0);
	hkm_free(p);
	check_int(stats().idle_bytes, 2 * SLOT);
	check_int(fake_reclaim(0, 2), 0);
	check_int(hkm_release_all(), 0);
	check(hkm_malloc(2 * SLOT) == p);
	hkm_free(p);
	check_int(fake_reclaim(0, 2), 0);
	check(hkm_malloc(2 * SLOT) == p);
	check_int(hkm_pin(p, 0), 0);
	hkm_free(p);
	check_int(fake_reclaim(0, 2), 2);
}

static void shutdown_gives_pinned_runs_back(void)
{
	char *p;

	with_device();
	p = hkm_malloc(2 * SLOT);
	check_int(hkm_pin(p, 1), 0);
	hkm_free(p);
	hkm_shutdown();
	check(!fake_is_taken(0) && !fake_is_taken(1));
}

static void pinned_runs_stay_beyond_the_capacity(void)
{
	char *p[20], *q;

	no_device();
	setenv("HAKMEM_WHALE_SLOTS", "1", 1);
	for (int i = 0; i < 20; i++) {
		p[i] = hkm_malloc(SLOT);
		memset(p[i], i + 1, SLOT);
		check_int(hkm_pin(p[i], 1), 0);
	}
	for (int i = 0; i < 20; i++)
		hkm_free(p[i]);
	check_int(stats().idle_bytes, 20 * SLOT);
	for (int i = 0; i < 20; i++) {
		q = hkm_malloc(SLOT);
		check(q && *q && all_bytes(q, SLOT, *q));
		check_int(hkm_pin(q, 0), 0);
	}
	check_int(stats().idle_bytes, 0);
}

/* what grows takes the idle memory behind it, but not what is to be kept */
static void growth_leaves_pinned_runs_alone(void)
{
	for (int pinned = 0; pinned < 2; pinned++) {
		char *p, *q, *more;

		no_device();
		p = hkm_malloc(2 * SLOT);
		q = hkm_malloc(2 * SLOT);
		check(q == p + 2 * SLOT);
		check_int(hkm_pin(q, pinned), 0);
		hkm_free(q);
		more = hkm_realloc(p, 4 * SLOT);
		check_int(more == p, !pinned);
		hkm_set_limit(0);
		check_int(stats().idle_bytes, pinned ? 2 * SLOT : 0);
		check_int(hkm_malloc(2 * SLOT) == q, pinned);
		hkm_shutdown();
	}
}

/* idle runs go with the first call after their time, whatever its size */
static void old_runs_go_with_a_later_call(void)
{
	char *p, *q;

	no_device();
	setenv("HAKMEM_DECAY_MS", "50", 1);
	p = hkm_malloc(4 * SLOT);
	q = hkm_malloc(SLOT);
	memset(p, 1, 4 * SLOT);
	hkm_free(p);
	/* no event says that time has passed; a longer sleep does no harm */
	for (int i = 0; i < 200 && stats().idle_bytes >= 4 * SLOT; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
		hkm_free(q);
		q = hkm_malloc(SLOT);
	}
	check_int(resident_pages(p, 4 * SLOT), 0);
	check(stats().idle_bytes <= SLOT);
}

/* pages of an idle whale of 4 slots; @later: after calls beyond any decay */
static size_t idle_pages(const char *decay_ms, bool later)
{
	char *p, *q;

	hkm_shutdown();
	setenv("HAKMEM_DECAY_MS", decay_ms, 1);
	p = hkm_malloc(4 * SLOT);
	q = hkm_malloc(SLOT);
	memset(p, 1, 4 * SLOT);
	hkm_free(p);
	/* no event says that time has passed; a longer sleep does no harm */
	for (int i = 0; later && i < 10; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
		hkm_free(q);
		q = hkm_malloc(SLOT);
	}
	hkm_free(q);
	return resident_pages(p, 4 * SLOT);
}

static void presets_choose_policy_and_limit(void)
{
	enum { ALL = 4 * SLOT / 4096 };
	static const struct {
		const char *mode;
		size_t share, now, later;
	} presets[] = {
		{ "minimal", 64, 0, 0 },
		{ "balanced", 8, ALL, 0 },
		{ "fast", 4, ALL, ALL },
	};
	size_t memory = hkm_machine_learn().memory;

	no_device();
	for (int i = 0; i < 3; i++) {
		setenv("HAKMEM_MODE", presets[i].mode, 1);
		check_int(idle_pages("3600000", false), presets[i].now);
		check_int(idle_pages("10", true), presets[i].later);
		check_int(stats().capacity_bytes / SLOT,
			  memory / presets[i].share / SLOT);
	}
}

static void variables_are_stronger_than_a_preset(void)
{
	no_device();
	setenv("HAKMEM_MODE", "minimal", 1);
	setenv("HAKMEM_POLICY", "keep", 1);
	check_int(idle_pages("10", true), 4 * SLOT / 4096);
	setenv("HAKMEM_MODE", "fast", 1);
	setenv("HAKMEM_POLICY", "dontneed", 1);
	setenv("HAKMEM_LIMIT", "64M", 1);
	check_int(idle_pages("3600000", false), 0);
	check_int(stats().capacity_bytes, 32 * SLOT);
}

static void a_program_may_choose_a_preset(void)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .mode = HKM_MODE_MINIMAL,
	};
	size_t limit;
	char *p;

	no_device();
	setenv("HAKMEM_MODE", "fast", 1);
	check_int(hkm_init(&cfg), 0);
	p = hkm_malloc(SLOT);
	memset(p, 1, SLOT);
	hkm_free(p);
	check_int(resident_pages(p, SLOT), 0);
	limit = stats().capacity_bytes;
	hkm_shutdown();
	/* a field of its own is stronger, and the limit is the preset's */
	cfg.mode = HKM_MODE_FAST;
	cfg.policy = HKM_POLICY_DONTNEED;
	check_int(hkm_init(&cfg), 0);
	check(stats().capacity_bytes / limit >= 15);
	check(stats().capacity_bytes / limit <= 17);
	p = hkm_malloc(SLOT);
	memset(p, 1, SLOT);
	hkm_free(p);
	check_int(resident_pages(p, SLOT), 0);
	hkm_shutdown();
	cfg.mode = (enum hkm_mode)4;
	check_int(hkm_init(&cfg), -EINVAL);
}

/* ---- guards ------------------------------------------------------------------------ */

static void overrun_a_whale(void)
{
	char *p;

	no_device();
	signal(SIGSEGV, SIG_DFL);	/* not the sanitizer's report */
	setenv("HAKMEM_GUARD", "1", 1);
	p = hkm_malloc(2 * SLOT);
	hkm_free(hkm_malloc(2 * SLOT));
	memset(p, 1, 2 * SLOT);
	fprintf(stderr, "filled\n");
	((volatile char *)p)[2 * SLOT] = 1;
}

static void guard_slots_stop_overruns(void)
{
	char text[4096];
	int status = run_child(overrun_a_whale, text, sizeof(text));

	check(!strcmp(text, "filled\n"));
	check(WIFSIGNALED(status));
	check_int(WTERMSIG(status), SIGSEGV);
}

/* guards stay in front of whoever uses the run next, in any size */
static void guarded_runs_are_reused_whole(void)
{
	char *p, *q;

	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	p = hkm_malloc(4 * SLOT);
	memset(p, 1, 4 * SLOT);
	hkm_free(p);
	q = hkm_malloc(2 * SLOT);
	check(q == p + 5 * SLOT);
	check(hkm_malloc(4 * SLOT) == p);
	q = hkm_realloc(p, 5 * SLOT);
	check(q && q != p && all_bytes(q, 4 * SLOT, 1));
	check_int(resident_pages(q + 4 * SLOT, SLOT), 0);
	hkm_shutdown();
	check(hkm_malloc(4 * SLOT) == p);
}

static const struct tap_case cases[] = {
	CASE(smallest_that_fits_is_taken),
	CASE(a_tenth_more_is_not_split_off),
	CASE(neighbours_are_joined_for_a_larger_one),
	CASE(new_runs_are_made_of_idle_memory),
	CASE(an_idle_run_is_widened),
	CASE(an_idle_run_is_widened_to_the_front),
	CASE(pinned_runs_are_not_widened),
	CASE(some_runs_are_not_made_of_idle_memory),
	CASE(sparse_runs_of_the_device_are_backed_on_touch),
	CASE(sparse_runs_that_lost_memory_are_backed_on_touch),
	CASE(new_runs_of_the_device_are_made_of_idle_memory),
	CASE(limit_bounds_idle_bytes),
	CASE(default_limit_is_an_eighth_of_memory),
	CASE(pinned_runs_stay),
	CASE(pinned_runs_stay_whatever_the_policy),
	CASE(pinned_runs_of_the_device_stay),
	CASE(shutdown_gives_pinned_runs_back),
	CASE(pinned_runs_stay_beyond_the_capacity),
	CASE(growth_leaves_pinned_runs_alone),
	CASE(old_runs_go_with_a_later_call),
	CASE(presets_choose_policy_and_limit),
	CASE(variables_are_stronger_than_a_preset),
	CASE(a_program_may_choose_a_preset),
	CASE(guard_slots_stop_overruns),
	CASE(guarded_runs_are_reused_whole),
};

TAP_MAIN(cases)
