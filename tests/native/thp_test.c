// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel is told about anonymous whales: whether to use huge pages, on
 * which it depends how idle memory gets where it is needed, and their name.
 */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "heap_test.h"
#include "machine.h"
#include "window.h"

/* in exchange for as much at the ends of those that were idle longest */
static void exchange_for_the_oldest(const char *thp, const char *move,
				    bool moved)
{
	static const size_t slots[] = { 2, 3, 2, 4 };
	char *p[4], *q, *r;

	no_device();
	setenv("HAKMEM_THP", thp, 1);
	setenv("HAKMEM_MOVE", move, 1);
	for (int i = 0; i < 4; i++) {
		p[i] = hkm_malloc(slots[i] * SLOT);
		memset(p[i], i + 1, slots[i] * SLOT);
		if (i < 3)
			check(is_whale(hkm_malloc(SLOT)));
	}
	for (int i = 0; i < 4; i++)
		hkm_free(p[i]);
	q = p[3];
	r = hkm_malloc(7 * SLOT);
	check(r == q);
	check(all_bytes(r, 4 * SLOT, 4));
	check_int(resident_pages(p[0], 2 * SLOT), 0);
	check_int(resident_pages(p[1], 2 * SLOT), 2 * SLOT / 4096);
	check_int(resident_pages(p[1] + 2 * SLOT, SLOT), 0);
	check_int(resident_pages(p[2], 2 * SLOT), 2 * SLOT / 4096);
	check_int(stats().idle_bytes, 4 * SLOT);
	check_int(resident_pages(r + 4 * SLOT, 3 * SLOT),
		  moved ? 3 * SLOT / 4096 : 0);
	check(all_bytes(r + 4 * SLOT, 2 * SLOT, moved ? 1 : 0));
	check(all_bytes(r + 6 * SLOT, SLOT, moved ? 2 : 0));
}

static void huge_pages_are_exchanged_for_new_ones_if_told(void)
{
	exchange_for_the_oldest("on", "off", false);
	check_int(fake.mremaps, 0);
}

static void huge_pages_are_moved_if_told(void)
{
	exchange_for_the_oldest("on", "on", true);
	check_int(fake.mremaps, 2);
}

/* what the program says goes before the environment */
static void huge_pages_are_moved_if_the_program_says_so(void)
{
	const struct hkm_config cfg = { .move = HKM_SWITCH_ON };

	no_device();
	setenv("HAKMEM_MOVE", "off", 1);
	check_int(hkm_init(&cfg), 0);
	exchange_for_the_oldest("on", "off", true);
	check_int(fake.mremaps, 2);
}

static void they_are_not_if_the_program_says_so(void)
{
	const struct hkm_config cfg = { .move = HKM_SWITCH_OFF };

	no_device();
	setenv("HAKMEM_MOVE", "on", 1);
	check_int(hkm_init(&cfg), 0);
	exchange_for_the_oldest("on", "on", false);
	check_int(fake.mremaps, 0);
}

static void small_pages_are_moved(void)
{
	exchange_for_the_oldest("off", "auto", true);
}

static void small_pages_are_not_moved_if_told(void)
{
	exchange_for_the_oldest("off", "off", false);
}

/* @n times a run of three slots from three idle ones of one */
static void exchange(int n)
{
	char *p;

	for (int i = 0; i < n; i++) {
		char *one[6];

		for (int k = 0; k < 6; k++) {
			one[k] = hkm_malloc(SLOT);
			memset(one[k], 1, SLOT);
		}
		for (int k = 0; k < 6; k += 2)
			hkm_free(one[k]);
		p = hkm_malloc(3 * SLOT);
		check(is_whale(p));
		/* it holds what it is given, whatever was there */
		memset(p, i + 2, 3 * SLOT);
		for (int k = 1; k < 6; k += 2)
			check(all_bytes(one[k], SLOT, 1));
		check(all_bytes(p, 3 * SLOT, i + 2));
		for (int k = 1; k < 6; k += 2)
			hkm_free(one[k]);
		hkm_free(p);
		check_int(hkm_release_all(), 6 * SLOT);
	}
}

/* what it costs is measured once, with one move there and one back */
static void moves_that_cost_more_are_not_made(void)
{
	no_device();
	setenv("HAKMEM_THP", "on", 1);
	fake.slow_moves = 100000;
	exchange(1);
	check_int(fake.mremaps, 2);
	exchange(3);
	check_int(fake.mremaps, 2);
}

static void moves_that_cost_less_are(void)
{
	bool pays;

	no_device();
	setenv("HAKMEM_THP", "on", 1);
	exchange(1);
	/* whether they do is the machine's to say; the two that follow go by it */
	pays = fake.mremaps == 2 + 2;
	check(pays || fake.mremaps == 2);
	exchange(3);
	check_int(fake.mremaps, pays ? 2 + 2 + 9 : 2);
	printf("# a move %s\n", pays ? "costs less" : "costs more");
}

/* a move that cannot be made, there or back, is no reason to lose a block */
static void fails(int which)
{
	no_device();
	setenv("HAKMEM_THP", "on", 1);
	fake.failing_moves = 1U << which;
	exchange(2);
	check_int(fake.mremaps, which + 1);
}

static void a_move_that_fails_is_not_made_again(void)
{
	fails(0);
}

static void a_move_back_that_fails_is_not_made_again(void)
{
	fails(1);
}

#ifndef SANITIZED	/* they read the clock, and lock nothing */
static void nothing_is_timed_where_the_counter_is_a_signal(void)
{
	check_int(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0), 0);
	no_device();
	setenv("HAKMEM_THP", "on", 1);
	exchange(2);
	check_int(fake.mremaps, 0);
}

/* a move takes the lock off what it leaves */
static void what_is_locked_stays_locked(void)
{
	char *p[4];

	no_device();
	setenv("HAKMEM_THP", "on", 1);
	setenv("HAKMEM_MOVE", "on", 1);
	if (mlockall(MCL_CURRENT | MCL_FUTURE)) {
		printf("# not allowed to lock memory\n");
		return;
	}
	exchange(1);
	check(fake.mremaps);
	for (int i = 0; i < 4; i++) {
		p[i] = hkm_malloc(3 * SLOT);
		check(has_vm_flag(p[i], "lo"));
		check(has_vm_flag(p[i] + 2 * SLOT, "lo"));
	}
}
#endif

/* a process that has none is not told that it has */
static void a_process_without_huge_pages_moves_its_memory(void)
{
	check_int(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	check(!hkm_machine_learn().huge);
	exchange_for_the_oldest("auto", "auto", true);
	check(!has_vm_flag(hkm_malloc(SLOT), "hg"));
}

/* a kernel that was built without huge pages refuses all hints */
static bool is_built(void)
{
	return !access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

static void hints_follow_the_machine(void)
{
	no_device();
	check_int(has_vm_flag(hkm_malloc(SLOT), "hg"),
		  hkm_machine_learn().huge && is_built());
}

static void hints_by_environment(void)
{
	bool built = is_built();

	no_device();
	setenv("HAKMEM_THP", "off", 1);
	check_int(has_vm_flag(hkm_malloc(SLOT), "nh"), built);
}

static void hints_by_the_program(void)
{
	bool built = !access("/sys/kernel/mm/transparent_hugepage", F_OK);
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .thp = HKM_THP_OFF,
	};

	no_device();
	setenv("HAKMEM_THP", "on", 1);
	check_int(hkm_init(&cfg), 0);
	check_int(has_vm_flag(hkm_malloc(SLOT), "nh"), built);
	cfg.thp = (enum hkm_thp)4;
	hkm_shutdown();
	check_int(hkm_init(&cfg), -EINVAL);
}

static void the_window_has_a_name(void)
{
	no_device();
	check(is_whale(hkm_malloc(SLOT)));
	check(is_whale(hkm_malloc(SLOT)));
	check_int(fake.names, 1);
	check(fake.named == (void *)hkm_window.base);
	check_int(fake.named_size, hkm_window.size);
}

static void or_none_if_told(void)
{
	no_device();
	setenv("HAKMEM_NAME", "0", 1);
	check(is_whale(hkm_malloc(SLOT)));
	check_int(fake.names, 0);
}

static const struct tap_case cases[] = {
	CASE(huge_pages_are_exchanged_for_new_ones_if_told),
	CASE(huge_pages_are_moved_if_told),
	CASE(huge_pages_are_moved_if_the_program_says_so),
	CASE(they_are_not_if_the_program_says_so),
	CASE(small_pages_are_moved),
	CASE(small_pages_are_not_moved_if_told),
	CASE(moves_that_cost_more_are_not_made),
	CASE(moves_that_cost_less_are),
	CASE(a_move_that_fails_is_not_made_again),
	CASE(a_move_back_that_fails_is_not_made_again),
#ifndef SANITIZED
	CASE(nothing_is_timed_where_the_counter_is_a_signal),
	CASE(what_is_locked_stays_locked),
#endif
	CASE(a_process_without_huge_pages_moves_its_memory),
	CASE(hints_follow_the_machine),
	CASE(hints_by_environment),
	CASE(hints_by_the_program),
	CASE(the_window_has_a_name),
	CASE(or_none_if_told),
};

TAP_MAIN(cases)
