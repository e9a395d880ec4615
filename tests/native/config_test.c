// SPDX-License-Identifier: GPL-2.0
/*
 * What can be switched: the program's word goes before that of the environment, and
 * where neither says anything it is as the manual has it.
 */
#include "heap_test.h"

static void set_up(const struct hkm_config *cfg, const char *var, const char *value)
{
	if (!fake.enabled)
		no_device();
	setenv(var, value, 1);
	check_int(hkm_init(cfg), 0);
}

/* two that leave half a slot each: three slots, or four */
static void check_packed(bool packed)
{
	void *p[2] = { hkm_malloc(3 * SLOT / 2), hkm_malloc(3 * SLOT / 2) };

	check(is_whale(p[0]) && is_whale(p[1]));
	check_int(stats().live_bytes, (packed ? 3 : 4) * SLOT);
	hkm_free_batch(p, 2);
	hkm_shutdown();
}

static void check_coloured(bool coloured)
{
	size_t sum = 0;
	void *p[8];

	for (int i = 0; i < 8; i++) {
		p[i] = hkm_malloc(2 * SLOT - 8192);
		check(is_whale(p[i]));
		sum += colour_of(p[i]);
	}
	check_int(sum > 0, coloured);
	hkm_free_batch(p, 8);
	hkm_shutdown();
}

/* @set is a field of @cfg, @var its variable; on is the default */
static void check_switch(struct hkm_config *cfg, enum hkm_switch *set,
			 const char *var, void (*check_it)(bool on))
{
	static const struct { enum hkm_switch said; const char *value; bool on; } as[] = {
		{ HKM_SWITCH_DEFAULT, "0", false },
		{ HKM_SWITCH_DEFAULT, "1", true },
		{ HKM_SWITCH_OFF, "1", false },
		{ HKM_SWITCH_ON, "0", true },
		{ HKM_SWITCH_AUTO, "0", true },
	};

	for (size_t i = 0; i < sizeof(as) / sizeof(as[0]); i++) {
		*set = as[i].said;
		set_up(cfg, var, as[i].value);
		check_it(as[i].on);
	}
}

static void pack(void)
{
	struct hkm_config cfg = { 0 };

	check_switch(&cfg, &cfg.pack, "HAKMEM_PACK", check_packed);
}

static void colour(void)
{
	struct hkm_config cfg = { 0 };

	check_switch(&cfg, &cfg.colour, "HAKMEM_COLOUR", check_coloured);
}

/* slots from the first whale to the next */
static int distance(void)
{
	char *p = hkm_malloc(SLOT), *q = hkm_malloc(SLOT);

	return (int)((q - p) / (ptrdiff_t)SLOT);
}

static void guard_on(void)
{
	const struct hkm_config cfg = {
		.guard = HKM_SWITCH_ON, .pack = HKM_SWITCH_ON,
	};

	with_device();
	set_up(&cfg, "HAKMEM_GUARD", "0");
	check_int(distance(), 2);
	check(!strcmp(stats().backend, "anon"));
	check(hkm_malloc(3 * SLOT / 2) && hkm_malloc(3 * SLOT / 2));
	check_int(stats().live_bytes, 6 * SLOT);
}

static void guard_off(void)
{
	const struct hkm_config cfg = { .guard = HKM_SWITCH_OFF };

	set_up(&cfg, "HAKMEM_GUARD", "1");
	check_int(distance(), 1);
}

/* runs that have a guard and such that have none would not go together */
static void guard_is_for_good(void)
{
	struct hkm_config cfg = { .guard = HKM_SWITCH_ON };
	char *p[5];

	set_up(&cfg, "HAKMEM_GUARD", "0");
	hkm_free(hkm_malloc(SLOT));
	hkm_shutdown();
	cfg.guard = HKM_SWITCH_OFF;
	check_int(hkm_init(&cfg), 0);
	hkm_free(hkm_malloc(4 * SLOT));
	for (int i = 0; i < 4; i++)
		p[i] = memset(hkm_malloc(SLOT), i, SLOT);
	check_int(distance(), 2);
	hkm_free(p[0]);
	hkm_free(p[2]);
	hkm_release_all();
	p[4] = memset(hkm_malloc(3 * SLOT), 9, 3 * SLOT);
	check(all_bytes(p[1], SLOT, 1) && all_bytes(p[3], SLOT, 3));
}

static void and_so_is_none(void)
{
	struct hkm_config cfg = { 0 };

	set_up(&cfg, "HAKMEM_GUARD", "0");
	hkm_free(hkm_malloc(SLOT));
	hkm_shutdown();
	cfg.guard = HKM_SWITCH_ON;
	check_int(hkm_init(&cfg), 0);
	check_int(distance(), 1);
	hkm_free(hkm_malloc(3 * SLOT));
	check_int(distance(), 1);
}

/* until there is anonymous memory it may be said */
static void guards_after_the_device(void)
{
	struct hkm_config cfg = { 0 };

	with_device();
	set_up(&cfg, "HAKMEM_GUARD", "0");
	hkm_free(hkm_malloc(SLOT));
	check(!strcmp(stats().backend, "region"));
	hkm_shutdown();
	cfg.guard = HKM_SWITCH_ON;
	check_int(hkm_init(&cfg), 0);
	check_int(distance(), 2);
	check(!strcmp(stats().backend, "anon"));
}

static void name_on(void)
{
	const struct hkm_config cfg = { .name = HKM_SWITCH_ON };

	set_up(&cfg, "HAKMEM_NAME", "0");
	check_int(fake.names, 1);
}

static void name_off(void)
{
	const struct hkm_config cfg = { .name = HKM_SWITCH_OFF };

	set_up(&cfg, "HAKMEM_NAME", "1");
	check_int(fake.names, 0);
}

static void aligned(void)
{
	struct hkm_config cfg = { .aligned = HKM_ALIGNED_REGION };

	with_device();
	set_up(&cfg, "HAKMEM_ALIGNED", "anon");
	hkm_memalign(4096, SLOT);
	check(!strcmp(stats().backend, "region"));
	check_int(hkm_init(NULL), -EALREADY);	/* which changes nothing */
	hkm_memalign(4096, SLOT);
	check(!strcmp(stats().backend, "region"));
	hkm_shutdown();
	cfg.aligned = HKM_ALIGNED_ANON;
	set_up(&cfg, "HAKMEM_ALIGNED", "region");
	hkm_memalign(4096, SLOT);
	check(!strcmp(stats().backend, "anon"));
}

/* ---- the policy that is the device's ---------------------------------------------- */

static void policy_region_is_the_device(void)
{
	const struct hkm_config cfg = { .policy = HKM_POLICY_REGION };

	with_device();
	check_int(hkm_init(&cfg), 0);
	check(is_whale(hkm_malloc(SLOT)));
	check(!strcmp(stats().backend, "region"));
}

/* nothing is set up then */
static void policy_region_wants_the_device(void)
{
	struct hkm_config cfg = {
		.policy = HKM_POLICY_REGION, .source = HKM_SOURCE_ANON,
	};

	no_device();
	check_int(hkm_init(&cfg), -EINVAL);
	cfg.source = HKM_SOURCE_AUTO;
	check_int(hkm_init(&cfg), -ENOENT);
	cfg.policy = HKM_POLICY_KEEP;
	check_int(hkm_init(&cfg), 0);
}

static void no_device_and_policy_region(void)
{
	no_device();
	setenv("HAKMEM_POLICY", "region", 1);
	for (int i = 0; i < 3; i++)
		hkm_free(hkm_malloc(SLOT));
	check(!strcmp(stats().backend, "anon"));
	check_int(stats().idle_bytes, SLOT);
}

static void source_anon_and_policy_region(void)
{
	with_device();
	setenv("HAKMEM_POLICY", "region", 1);
	setenv("HAKMEM_SOURCE", "anon", 1);
	hkm_free(hkm_malloc(SLOT));
	check(!strcmp(stats().backend, "anon"));
	check_int(fake.opens, 0);
}

static void policy_region_by_environment(void)
{
	char text[4096];

	check(exited_well(run_child(no_device_and_policy_region, text,
				    sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_POLICY=region: /dev/hakmem_region cannot be used (No such file or directory); using anon\n"));
	check(exited_well(run_child(source_anon_and_policy_region, text,
				    sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_POLICY=region is of no use with HAKMEM_SOURCE=anon; using decay\n"));
	with_device();
	setenv("HAKMEM_POLICY", "region", 1);
	hkm_free(hkm_malloc(SLOT));
	check(!strcmp(stats().backend, "region"));
}

static void bad_values_change_nothing(void)
{
	const struct hkm_config bad[] = {
		{ .aligned = HKM_ALIGNED_REGION + 1 },
		{ .move = HKM_SWITCH_OFF + 1 },
		{ .name = HKM_SWITCH_OFF + 1 },
		{ .pack = HKM_SWITCH_OFF + 1 },
		{ .colour = HKM_SWITCH_OFF + 1 },
		{ .guard = HKM_SWITCH_OFF + 1 },
		{ .policy = HKM_POLICY_REGION + 1 },
		{ .guard = HKM_SWITCH_ON, .source = HKM_SOURCE_REGION },
		{ .guard = HKM_SWITCH_ON, .policy = HKM_POLICY_REGION },
		{ .reserved = { [7] = 1 } },
	};

	no_device();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		check_int(hkm_init(&bad[i]), -EINVAL);
	check_int(hkm_init(NULL), 0);
}

static const struct tap_case cases[] = {
	CASE(pack),
	CASE(colour),
	CASE(guard_on),
	CASE(guard_off),
	CASE(guard_is_for_good),
	CASE(and_so_is_none),
	CASE(guards_after_the_device),
	CASE(name_on),
	CASE(name_off),
	CASE(aligned),
	CASE(policy_region_is_the_device),
	CASE(policy_region_wants_the_device),
	CASE(policy_region_by_environment),
	CASE(bad_values_change_nothing),
};

TAP_MAIN(cases)
