// SPDX-License-Identifier: GPL-2.0
/*
 * Idle slots go back after their decay: neither before nor much later, by the
 * kernel's own clock, with owners that are stopped. settings loads the module
 * with idle_decay_ms=700.
 *
 * The module's trace says how old a slot was when it went, in epochs of 100 ms.
 * Never is it too young; since a busy machine may let any tick be late, one
 * round of several has to be in time.
 */
#include "reclaim.h"
#include <hakmem.h>
#include "harness.h"

#define DEFAULT_EPOCHS	7	/* see settings */
#define LATE		2	/* ticks, unless HK_LATE in the environment says */
#define ROUNDS		8
#define NR		160
#define NR_SLOTS	512
#define MIB		(1UL << 20)
#define EVENT		"hakmem_region/hkr_reclaim"

static unsigned int late(void)
{
	return (unsigned int)env_number("HK_LATE", LATE);
}

static long decay_open(struct arena *a, int32_t ms, uint32_t flags)
{
	struct hkr_setup s = {
		.size = sizeof(s), .flags = flags,
		.nr_slots = NR_SLOTS, .idle_decay_ms = ms,
	};
	long ret;

	memset(a, 0, sizeof(*a));
	a->fd = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	ret = hkr_call(a->fd, HKR_IOC_SETUP, &s);
	a->setup = s;
	return ret ?: hkr_map(a, PROT_READ | PROT_WRITE);
}

/* in a child: all of its slots idle, then stopped */
static int stops(int nr, int32_t ms, uint32_t flags)
{
	struct arena a;
	int i;

	if (decay_open(&a, ms, flags) || handout(&a, nr, COMMIT))
		return 1;
	/* of one epoch, the newest that there is */
	for (i = 0; i < nr; i++)
		mark_idle_at(&a, i, sysfs("epoch"));
	raise(SIGSTOP);
	return 0;
}

struct ages {
	unsigned int nr, youngest, oldest;
};

static void age_of(const char *line, void *arg)
{
	struct ages *ages = arg;
	const char *p = strstr(line, " age=");
	unsigned int age = p ? strtoul(p + 5, NULL, 10) : 0;

	if (age < ages->youngest)
		ages->youngest = age;
	if (age > ages->oldest)
		ages->oldest = age;
	ages->nr++;
}

/* how old the slots of one stopped process were when they went; -1: an error */
static int one_round(int nr, int32_t ms, uint32_t flags, struct ages *ages)
{
	long others = sysfs("resident");
	char owner[32];
	int status;
	pid_t pid;

	if (trace_on(EVENT, "0"))
		return -1;
	pid = fork();
	if (!pid)
		_exit(stops(nr, ms, flags));
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status) ||
	    !sysfs_becomes("resident", others))
		return -1;
	trace_off(EVENT);
	*ages = (struct ages){ .youngest = -1 };
	snprintf(owner, sizeof(owner), " owner=%d ", pid);
	trace_each(owner, "why=decay", age_of, ages);
	kill(pid, SIGCONT);
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -1;
}

FIXTURE(decay)
{
};

FIXTURE_VARIANT(decay)
{
	uint32_t flags;
	int32_t ms;
	unsigned int epochs;
};

FIXTURE_VARIANT_ADD(decay, of_the_module) { .epochs = DEFAULT_EPOCHS };
FIXTURE_VARIANT_ADD(decay, of_setup) {
	.flags = HKR_SETUP_DECAY, .ms = 301, .epochs = 4,
};
FIXTURE_VARIANT_ADD(decay, of_no_time) {
	.flags = HKR_SETUP_DECAY, .ms = 0, .epochs = 0,
};

FIXTURE_SETUP(decay)
{
}

FIXTURE_TEARDOWN(decay)
{
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(decay, takes_all_slots_of_a_stopped_owner_in_time)
{
	unsigned int best = -1;
	struct ages ages;
	int i;

	for (i = 0; i < ROUNDS && best > variant->epochs + late(); i++) {
		ASSERT_EQ(0, one_round(32, variant->ms, variant->flags, &ages));
		ASSERT_EQ(32, ages.nr);
		ASSERT_LE(variant->epochs, ages.youngest);
		if (ages.oldest < best)
			best = ages.oldest;
	}
	EXPECT_LE(best, variant->epochs + late());
}

/* what others have idle, for longer, is not in its way */
TEST_F(decay, takes_them_in_time_beside_older_ones_that_are_kept)
{
	unsigned int best = -1;
	struct ages ages;
	struct arena a;
	int i;

	ASSERT_EQ(0, decay_open(&a, -1, HKR_SETUP_DECAY));
	ASSERT_EQ(0, handout(&a, NR, COMMIT));
	for (i = 0; i < NR; i++)
		mark_idle_at(&a, i, a.header->epoch - 100);
	ASSERT_TRUE(sampled(NR));
	for (i = 0; i < ROUNDS && best > variant->epochs + late(); i++) {
		ASSERT_EQ(0, one_round(NR, variant->ms, variant->flags, &ages));
		ASSERT_EQ(NR, ages.nr);
		ASSERT_LE(variant->epochs, ages.youngest);
		if (ages.oldest < best)
			best = ages.oldest;
	}
	EXPECT_LE(best, variant->epochs + late());
	/* -1 is never, however long they are idle */
	EXPECT_EQ(NR, stats_of(&a).resident);
	EXPECT_EQ(0, stats_of(&a).reclaimed);
	arena_close(&a);
}

/* the library's blocks, from malloc to nothing */
TEST(resident_size_is_back_when_everything_was_freed)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };
	void *block[32];
	long base, full;
	int i;

	ASSERT_EQ(0, hkm_init(&cfg));
	/* what the library itself needs */
	block[0] = hkm_malloc(4 * MIB);
	ASSERT_NE(NULL, block[0]);
	hkm_free(block[0]);
	ASSERT_TRUE(sysfs_becomes("resident", 0));
	base = proc_value("/proc/self/status", "VmRSS");
	for (i = 0; i < 32; i++) {
		block[i] = hkm_malloc(4 * MIB);
		ASSERT_NE(NULL, block[i]);
		memset(block[i], 1, 4 * MIB);
	}
	full = proc_value("/proc/self/status", "VmRSS");
	EXPECT_GE(full, base + 127 * 1024);
	EXPECT_LE(full, base + 132 * 1024);
	for (i = 0; i < 32; i++)
		hkm_free(block[i]);
	EXPECT_TRUE(sysfs_becomes("resident", 0));
	EXPECT_LE(proc_value("/proc/self/status", "VmRSS"), base + 1024);
	hkm_shutdown();
}

TEST_HARNESS_MAIN
