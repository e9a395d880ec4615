// SPDX-License-Identifier: GPL-2.0
/*
 * The preload object's front on a stand-in for the device: this program has it linked
 * in place of the library's own, so its malloc() is that of preload.c. Which devices
 * it takes unasked, and what it says of those that it does not.
 */
#include <linux/hakmem_region.h>

#include "heap.h"
#include "heap_test.h"
#include "source.h"

/* as if the program started here */
static void with_features(uint64_t features)
{
	with_device();
	fake.features = features;
	hkm_source_look();
}

/* the first whale, which is when the device is looked at */
static const char *backend(void)
{
	char *p = malloc(2 * SLOT);

	check(is_whale(p));
	memset(p, 1, 2 * SLOT);
	free(p);
	return stats().backend;
}

static void this_is_the_preload_objects_front(void)
{
	check_int(hkm_front.features, HKR_FEAT_FORK);
	check(!strcmp(hkm_front.prefix, ""));
	no_device();
	check(!strcmp(backend(), "anon"));
}

static void none_is_looked_for_that_was_not_there_at_the_start(void)
{
	no_device();
	hkm_source_look();
	with_device();
	fake.features = HKR_FEAT_FORK;
	check(!strcmp(backend(), "anon"));
	check_int(fake.opens, 0);
}

static void a_device_that_forks_is_taken(void)
{
	with_features(HKR_FEAT_RECLAIM | HKR_FEAT_FORK);
	check(!strcmp(backend(), "region"));
	check_int(fake.handouts, 1);
}

static void one_that_does_not_is_left_alone(void)
{
	with_features(~HKR_FEAT_FORK);
	check(!strcmp(backend(), "anon"));
	check_int(fake.opens, 1);
	check_int(fake.nr_slots, 0);	/* no SETUP either */
	check_int(fake.handouts, 0);
}

/* who asks for it has it: no child may need it */
static void it_is_taken_where_it_is_asked_for(void)
{
	with_features(0);
	setenv("HAKMEM_SOURCE", "region", 1);
	check(!strcmp(backend(), "region"));
}

/* ---- what is said ------------------------------------------------------------- */

static uint64_t features;
static int setup_error;

static void use_device(void)
{
	with_features(features);
	fake.setup_error = setup_error;
	for (int i = 0; i < 3; i++) {
		check(!strcmp(backend(), "anon"));
		hkm_shutdown();
	}
}

static void check_told(const char *error, const char *advice)
{
	char text[4096], want[512];

	snprintf(want, sizeof(want),
		 "libhakmem: /dev/hakmem_region: %s; using anonymous memory, which the kernel cannot take back while it is idle: %s\n",
		 error, advice);
	unsetenv("HAKMEM_VERBOSE");
	check(exited_well(run_child(use_device, text, sizeof(text))));
	check(!*text);
	setenv("HAKMEM_VERBOSE", "1", 1);
	check(exited_well(run_child(use_device, text, sizeof(text))));
	if (strcmp(text, want))
		printf("# %s# not %s", text, want);
	check(!strcmp(text, want));
}

static void a_device_that_does_not_fork_is_told_as_that(void)
{
	check_told(strerrordesc_np(ENOSYS),
		   "a child of fork() could not read what its parent had: update the module");
}

static void huge_pages_that_are_disabled_are_told_as_that(void)
{
	features = HKR_FEAT_FORK;
	setup_error = -EOPNOTSUPP;
	check_told("Operation not supported",
		   "huge pages are disabled for this process by prctl(), or the module is to charge memory (charge=always) that it cannot");
}

static const struct tap_case cases[] = {
	CASE(this_is_the_preload_objects_front),
	CASE(none_is_looked_for_that_was_not_there_at_the_start),
	CASE(a_device_that_forks_is_taken),
	CASE(one_that_does_not_is_left_alone),
	CASE(it_is_taken_where_it_is_asked_for),
	CASE(a_device_that_does_not_fork_is_told_as_that),
	CASE(huge_pages_that_are_disabled_are_told_as_that),
};

TAP_MAIN(cases)
