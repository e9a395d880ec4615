// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel memory for arenas: files, records and words. It stays until the file is
 * closed, so a process could ask for it without end. A memory cgroup's limit
 * bounds it, by ENOMEM; and where there is none, a cap for each user: EDQUOT.
 */
#include "group.h"
#include "reclaim.h"
#include <grp.h>
#include "harness.h"

#define G		"/hkr"
#define GROUP_MB	12L
#define MIB		(1L << 20)
#define USER		1000
#define MANY		10000	/* arenas */
#define RECORDS		64UL	/* slots whose records are made together */

static uint64_t max_slots(void)
{
	struct hkr_info info = { .size = sizeof(info) };
	int fd = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	long ret = hkr_call(fd, HKR_IOC_INFO, &info);

	close(fd);
	return ret ? 0 : info.max_slots;
}

static bool may_open_many(void)
{
	struct rlimit lim = { MANY + 100, MANY + 100 };

	return !setrlimit(RLIMIT_NOFILE, &lim);
}

/* the largest arena, its descriptor kept open; 0 or -errno */
static long open_largest(struct arena *a, uint64_t nr_slots)
{
	memset(a, 0, sizeof(*a));
	a->fd = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	if (a->fd < 0)
		return -errno;
	return hkr_setup(a->fd, nr_slots, 0, &a->setup);
}

/* the records of @nr times RECORDS slots, by a slot of each that is handed out for a moment */
static long use_records(struct arena *a, uint64_t first, uint32_t nr)
{
	struct hkr_handout_req req[HKR_MAX_BATCH];
	struct hkr_range range[HKR_MAX_BATCH];
	struct hkr_handout get = {
		.size = sizeof(get), .nr = nr, .reqs = (uintptr_t)req,
	};
	struct hkr_recycle drop = {
		.size = sizeof(drop), .mode = DROP, .nr = nr,
		.ranges = (uintptr_t)range,
	};
	long ret, dropped;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		req[i] = (struct hkr_handout_req){
			.nr_slots = 1, .flags = AT, .node = HKR_NODE_ANY,
			.first = first + i * RECORDS,
		};
		range[i] = (struct hkr_range){
			.first = first + i * RECORDS, .nr_slots = 1,
		};
	}
	ret = hkr_call(a->fd, HKR_IOC_HANDOUT, &get);
	if (ret < 0)
		return ret;
	dropped = hkr_call(a->fd, HKR_IOC_RECYCLE, &drop);
	for (i = 0; i < nr; i++)
		if (req[i].result)
			return req[i].result;
	return dropped == nr ? 0 : -EIO;
}

/* every record and every word of it made */
static long use_all_records(struct arena *a)
{
	long ret = hkr_map(a, PROT_READ | PROT_WRITE);
	uint64_t i, left;

	for (i = 0; !ret && i < a->setup.nr_slots; i += RECORDS * HKR_MAX_BATCH) {
		left = (a->setup.nr_slots - i + RECORDS - 1) / RECORDS;
		ret = use_records(a, i, left < HKR_MAX_BATCH ? left : HKR_MAX_BATCH);
	}
	return ret;
}

/**
 * struct greed - what came of asking for MANY arenas
 * @go_on: after a refusal
 * @end: what ended it, or the first refusal
 * @nr: how many there were before that
 * @more: how many there were after it
 * @odd: refusals of another kind
 * @taken_kb: of the machine
 */
struct greed {
	uint64_t nr_slots;
	bool use, go_on;
	long end;
	long nr, more, odd;
	long taken_kb;
};

static long want_another(const struct greed *g)
{
	struct arena a;
	long ret = open_largest(&a, g->nr_slots);

	return ret || !g->use ? ret : use_all_records(&a);
}

static void be_greedy(struct greed *g)
{
	long many = env_number("HK_ARENAS", MANY), ret, i;

	/* an emulated Linux 6.1 takes milliseconds to wake a worker for a command */
	if (g->use && hkr_by_uring())
		many /= 20;
	g->nr = g->more = g->odd = g->end = 0;
	for (i = 0; i < many && (!g->end || g->go_on); i++) {
		ret = want_another(g);
		if (!ret && g->end)
			g->more++;
		else if (!ret)
			g->nr++;
		else if (!g->end)
			g->end = ret;
		else if (ret != g->end)
			g->odd++;
	}
}

static struct greed *shared_greed(void)
{
	void *p = mmap(NULL, sizeof(struct greed), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* with no room left in the group, whatever the kernel does for us may kill us */
static int in_group(void *arg)
{
	if (!may_open_many() || group_enter(G))
		return 1;
	be_greedy(arg);
	return 0;
}

FIXTURE(records)
{
	struct greed *greed;
};

FIXTURE_VARIANT(records)
{
	bool use;
};

FIXTURE_VARIANT_ADD(records, of_open_files) { false };
FIXTURE_VARIANT_ADD(records, of_used_slots) { true };

FIXTURE_SETUP(records)
{
	self->greed = shared_greed();
	ASSERT_NE(NULL, self->greed);
	self->greed->nr_slots = max_slots();
	self->greed->use = variant->use;
	ASSERT_NE(0, self->greed->nr_slots);
}

FIXTURE_TEARDOWN(records)
{
	EXPECT_TRUE(nothing_leaked());
}

/*
 * To open a file is the core's work too, and may call the group's killer, as it
 * may for any other file. What a HANDOUT needs never does; mappings are the
 * core's again, and so one try of several ends well.
 */
TEST_F(records, of_a_group_are_bounded_by_its_limit)
{
	struct greed *g = self->greed;
	int status = -1, i;
	struct arena a;

	ASSERT_EQ(0, group_delegate(""));
	ASSERT_EQ(0, group_make(G, GROUP_MB));
	for (i = 0; i < 5 && status; i++) {
		long kills = group_kills(G);

		status = in_child(in_group, g);
		ASSERT_TRUE(!status || status == 128 + SIGKILL);
		EXPECT_EQ(kills + !!status, group_kills(G));
	}
	if (variant->use || !status) {
		EXPECT_EQ(0, status);
		EXPECT_EQ(-ENOMEM, g->end);
	}
	EXPECT_LE(group_read(G, "memory.peak", NULL), GROUP_MB * MIB);
	TH_LOG("%ld arenas of %lu slots in %ld MiB", g->nr,
	       (unsigned long)g->nr_slots, GROUP_MB);
	EXPECT_GT(g->nr, 10);
	EXPECT_LT(g->nr, MANY);
	/* the machine has more, and the group gets all of it back */
	EXPECT_EQ(0, arena_open(&a, 8));
	EXPECT_EQ(0, handout(&a, 4, COMMIT));
	arena_close(&a);
	for (i = 0; i < 2000 &&
	     group_read(G, "memory.current", NULL) > 2 * MIB; i++)
		usleep(10000);
	EXPECT_LE(group_read(G, "memory.current", NULL), 2 * MIB);
	EXPECT_EQ(0, group_remove(G));
}

static bool become_user(void)
{
	gid_t hakmem = 999;

	/* the device is the group's, see run-tests */
	return may_open_many() && !setgroups(1, &hakmem) && !setgid(USER) &&
	       !setuid(USER);
}

static int as_user(void *arg)
{
	long before = proc_value("/proc/meminfo", "MemFree");
	struct greed *g = arg;

	if (!become_user())
		return 1;
	be_greedy(g);
	g->taken_kb = before - proc_value("/proc/meminfo", "MemFree");
	return 0;
}

TEST_F(records, of_a_user_are_bounded_without_any_limit)
{
	long cap_kb = proc_value("/proc/meminfo", "MemTotal") / 64;
	struct greed *g = self->greed;
	long first;

	/* who is refused may have 10000 descriptors all the same, and asks again */
	g->go_on = true;
	ASSERT_EQ(0, in_child(as_user, g));
	TH_LOG("%ld arenas of %lu slots, then %ld, take %ld of %ld KiB", g->nr,
	       (unsigned long)g->nr_slots, g->more, g->taken_kb, cap_kb);
	EXPECT_EQ(-EDQUOT, g->end);
	EXPECT_EQ(0, g->odd);
	EXPECT_GT(g->nr, variant->use ? 50 : 1000);
	/* with what the allocators need themselves; %, more where they are checked */
	EXPECT_LE(g->taken_kb, cap_kb * env_number("HK_OVERHEAD", 150) / 100);
	first = g->nr;
	/* all of it comes back */
	g->go_on = false;
	ASSERT_EQ(0, in_child(as_user, g));
	EXPECT_EQ(-EDQUOT, g->end);
	EXPECT_EQ(first, g->nr);
}

/* what there was stays good; and words that were never needed are not to be had */
static int at_the_cap(void *arg)
{
	struct arena roots, users;
	struct greed *g = arg, rest = { .nr_slots = 1 };
	size_t at, had = 0;

	if (arena_open(&roots, g->nr_slots) || handout_at(&roots, 0, 1, COMMIT))
		return 2;
	fill(slot_of(&roots, 0), 5);
	if (!become_user())
		return 3;
	if (open_largest(&users, g->nr_slots) ||
	    hkr_map(&users, PROT_READ | PROT_WRITE) ||
	    handout_at(&users, 0, 1, COMMIT))
		return 4;
	fill(slot_of(&users, 0), 6);
	be_greedy(g);
	/* what ended it may have asked for several pages */
	be_greedy(&rest);
	if (!filled(slot_of(&users, 0), 6) || handout_at(&users, 1, 1, COMMIT))
		return 5;
	/* there may be room for one page left */
	for (at = PAGE; at < users.setup.control_size; at += PAGE)
		had += !touch((char *)users.header + at, true);
	if (had > 1 || touch((char *)users.header, true))
		return 6;
	/* not counted as the user's */
	if (!filled(slot_of(&roots, 0), 5) ||
	    touch((char *)roots.header + roots.setup.control_size - 1, true) ||
	    handout_at(&roots, g->nr_slots - 1, 1, COMMIT))
		return 7;
	return 0;
}

TEST_F(records, of_one_user_are_no_others)
{
	struct greed *g = self->greed;

	ASSERT_EQ(0, in_child(at_the_cap, g));
	EXPECT_EQ(-EDQUOT, g->end);
}

TEST_HARNESS_MAIN
