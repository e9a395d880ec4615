// SPDX-License-Identifier: GPL-2.0
/*
 * Two NUMA nodes, see settings: memory where it is asked for, a pool and a
 * zeroing thread for each, and reclaim of the one leaves the other alone.
 *
 * The reserve is 16 folios, for both nodes together; busy slots of a second
 * arena make up for it, so that all else may go.
 */
#include "group.h"
#include "reclaim.h"
#include "zeroing.h"
#include <sched.h>
#include "harness.h"

#define NR		8	/* on each node */
#define NR_SLOTS	128
#define RESERVE		16	/* folios, see settings */

FIXTURE(nodes)
{
	struct arena a, ballast;
};

static long handout_node(struct arena *a, uint64_t first, uint32_t nr, int node,
			 uint32_t flags)
{
	struct hkr_handout_req req = {
		.nr_slots = nr, .flags = flags | AT, .node = node,
		.first = first,
	};

	return hkr_request(a, &req);
}

/* where a page that is mapped lies */
static int node_of(void *addr)
{
	int status = -1000;

	if (syscall(SYS_move_pages, 0, 1UL, &addr, NULL, &status, 0))
		return -errno;
	return status;
}

/* of a run; touches it. -1: of both */
static int node_of_run(struct arena *a, int first, int nr)
{
	int i, node = -1;

	for (i = first; i < first + nr; i++) {
		*(volatile char *)slot_of(a, i) = 1;
		if (i > first && node_of(slot_of(a, i)) != node)
			return -1;
		node = node_of(slot_of(a, i));
	}
	return node;
}

static bool on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

static bool pool_of(struct hkr_node_info *node)
{
	struct hkr_info info = {
		.size = sizeof(info), .nr_nodes = 2, .nodes = (uintptr_t)node,
	};
	int fd = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	bool ok = !hkr_call(fd, HKR_IOC_INFO, &info) && info.nr_nodes == 2 &&
		  node[0].node == 0 && node[1].node == 1;

	close(fd);
	return ok;
}

/* as many of the run as are EMPTY are those from @first on */
static bool lost_just(struct arena *a, int first, int nr, int lost)
{
	int i;

	for (i = 0; i < nr; i++)
		if ((word_state(a, first + i) == HKR_WORD_EMPTY) != (i < lost))
			return false;
	return true;
}

FIXTURE_SETUP(nodes)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, arena_open(&self->ballast, NR_SLOTS));
	ASSERT_EQ(0, handout_node(&self->ballast, 0, RESERVE / 2, 0, COMMIT));
	ASSERT_EQ(0, handout_node(&self->ballast, RESERVE / 2, RESERVE / 2, 1,
				  COMMIT));
	drain_pool(2);
}

FIXTURE_TEARDOWN(nodes)
{
	arena_close(&self->a);
	arena_close(&self->ballast);
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(nodes, handout_on_a_node_gets_memory_there)
{
	struct arena *a = &self->a;
	int node, from;

	for (from = 0; from < 2; from++) {
		ASSERT_TRUE(on_cpu(from));
		for (node = 0; node < 2; node++) {
			/* new, then what the pool of the node has */
			ASSERT_EQ(0, handout_node(a, 0, NR, node, COMMIT));
			EXPECT_EQ(node, node_of_run(a, 0, NR));
			ASSERT_EQ(0, recycle(a, DROP, 0, NR));
			ASSERT_EQ(0, handout_node(a, 16, NR, node, COMMIT));
			EXPECT_EQ(node, node_of_run(a, 16, NR));
			ASSERT_EQ(0, recycle(a, DROP, 16, NR));
		}
		/* where it is not said: the caller's, a worker's, and the toucher's */
		ASSERT_EQ(0, handout_node(a, 0, NR, HKR_NODE_ANY, COMMIT));
		if (!hkr_goes_by_uring(HKR_IOC_HANDOUT))
			EXPECT_EQ(from, node_of_run(a, 0, NR));
		ASSERT_EQ(0, handout_node(a, 16, NR, HKR_NODE_ANY, 0));
		EXPECT_EQ(from, node_of_run(a, 16, NR));
		ASSERT_EQ(0, recycle(a, DROP, 0, NR));
		ASSERT_EQ(0, recycle(a, DROP, 16, NR));
	}
	EXPECT_EQ(-ENXIO, handout_node(a, 0, 1, 2, COMMIT));
	EXPECT_EQ(-ENXIO, handout_node(a, 0, 1, -2, COMMIT));
}

TEST_F(nodes, reclaim_of_a_node_takes_its_idle_slots_oldest_first)
{
	struct arena *a = &self->a;
	struct shrunk s;
	int i;

	ASSERT_EQ(0, handout_node(a, 0, NR, 0, COMMIT));
	ASSERT_EQ(0, handout_node(a, NR, NR, 1, COMMIT));
	ASSERT_EQ(0, node_of_run(a, 0, NR));
	ASSERT_EQ(1, node_of_run(a, NR, NR));
	/* all of node 1 are older than any of node 0 */
	for (i = 0; i < NR; i++) {
		mark_idle_at(a, i, a->header->epoch - 10 + i);
		mark_idle_at(a, NR + i, a->header->epoch - 40 + i);
	}
	ASSERT_TRUE(sampled(2 * NR));
	ASSERT_EQ(0, shrink_node(3, 0, &s));
	EXPECT_EQ(NR, s.count);
	EXPECT_EQ(3, s.freed);
	EXPECT_LE(s.looked, 6);
	EXPECT_EQ(NR - 3, s.left);
	EXPECT_TRUE(lost_just(a, 0, NR, 3));
	EXPECT_TRUE(lost_just(a, NR, NR, 0));
	ASSERT_EQ(0, shrink_node(5, 1, &s));
	EXPECT_EQ(NR, s.count);
	EXPECT_EQ(5, s.freed);
	EXPECT_TRUE(lost_just(a, 0, NR, 3));
	EXPECT_TRUE(lost_just(a, NR, NR, 5));
	/* more than there is: that of one node, all of it */
	ASSERT_EQ(0, shrink_node(100, 0, &s));
	EXPECT_EQ(NR - 3, s.freed);
	/* a little, for what may be idle by now */
	EXPECT_EQ(1, s.left);
	EXPECT_TRUE(lost_just(a, NR, NR, 5));
	EXPECT_EQ(2 * NR - 13, stats_of(a).resident);
}

static void count_line(const char *line, void *arg)
{
	(*(int *)arg)++;
}

/* zeroed by the thread of its node, and by no other */
static int zeroed(int node, int by)
{
	pid_t thread = zero_thread(by);
	char who[32], where[32];
	int n = 0;

	if (thread < 0)
		return -1;
	snprintf(who, sizeof(who), "-%d ", thread);
	snprintf(where, sizeof(where), "node=%d background=1", node);
	trace_each(who, where, count_line, &n);
	return n;
}

TEST_F(nodes, each_has_a_pool_and_a_thread_that_zeroes_it)
{
	struct hkr_node_info node[2] = {};
	struct arena *a = &self->a;
	struct shrunk s;

	ASSERT_TRUE(pool_of(node));
	EXPECT_EQ(0, node[0].clean + node[0].dirty + node[1].clean +
		     node[1].dirty);
	ASSERT_EQ(0, handout_node(a, 0, 5, 0, COMMIT));
	ASSERT_EQ(0, handout_node(a, 8, 9, 1, COMMIT));
	ASSERT_EQ(0, trace_on("hakmem_region/hkr_zero", "0"));
	ASSERT_EQ(0, recycle(a, DROP, 0, 5));
	ASSERT_EQ(0, recycle(a, DROP, 8, 9));
	EXPECT_TRUE(sysfs_becomes("clean", 14));
	trace_off("hakmem_region/hkr_zero");
	ASSERT_TRUE(pool_of(node));
	EXPECT_EQ(5, node[0].clean);
	EXPECT_EQ(9, node[1].clean);
	EXPECT_EQ(0, node[0].dirty + node[1].dirty);
	EXPECT_EQ(5, zeroed(0, 0));
	EXPECT_EQ(9, zeroed(1, 1));
	EXPECT_EQ(0, zeroed(0, 1));
	EXPECT_EQ(0, zeroed(1, 0));

	/* spare folios go by node too, before anybody's slots */
	ASSERT_EQ(0, handout_node(a, 0, 1, 0, COMMIT));
	mark_idle(a, 0);
	ASSERT_TRUE(sampled(1));
	ASSERT_EQ(0, shrink_node(4, 0, &s));
	EXPECT_EQ(4, s.freed);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 0));
	ASSERT_TRUE(pool_of(node));
	EXPECT_EQ(0, node[0].clean);
	EXPECT_EQ(9, node[1].clean);
	ASSERT_EQ(0, shrink_node(6, 1, &s));
	EXPECT_EQ(6, s.freed);
	ASSERT_TRUE(pool_of(node));
	EXPECT_EQ(3, node[1].clean);
	EXPECT_EQ(HKR_WORD_IDLE, word_state(a, 0));
}

/* and it is counted once, not for each node */
TEST_F(nodes, reserve_is_not_available)
{
	struct arena *b = &self->ballast;
	struct shrunk s;
	int i;

	ASSERT_EQ(0, handout_node(&self->a, 0, 6, 0, COMMIT));
	ASSERT_EQ(0, handout_node(&self->a, 8, 6, 1, COMMIT));
	for (i = 0; i < RESERVE; i++)
		mark_idle(b, i);
	for (i = 0; i < 6; i++) {
		mark_idle(&self->a, i);
		mark_idle(&self->a, 8 + i);
	}
	ASSERT_TRUE(sampled(RESERVE + 12));
	EXPECT_TRUE(reported_becomes(12));
	/* as much as was promised can be had, and not one more */
	ASSERT_EQ(0, shrink_node(100, 0, &s));
	EXPECT_EQ(12, s.freed);
	ASSERT_EQ(0, shrink_node(100, 1, &s));
	EXPECT_EQ(0, s.freed);
	EXPECT_TRUE(reported_becomes(0));
	EXPECT_EQ(RESERVE, sysfs("live_folios"));
}

#define G "/hkr-nodes"

static int nr_empty(struct arena *a, int first, int nr)
{
	int i, n = 0;

	for (i = first; i < first + nr; i++)
		n += word_state(a, i) == HKR_WORD_EMPTY;
	return n;
}

/* an arena of a group, with @nr slots on each node, all idle since @ago epochs */
static bool group_idle_on_both(struct arena *a, const char *group, int nr, int ago)
{
	int i;

	if (group_make(group, 200) || group_enter(group) ||
	    arena_open(a, NR_SLOTS) || a->setup.charged != 1 ||
	    handout_node(a, 0, nr, 0, COMMIT) ||
	    handout_node(a, 16, nr, 1, COMMIT) ||
	    node_of_run(a, 0, nr) != 0 || node_of_run(a, 16, nr) != 1)
		return false;
	for (i = 0; i < nr; i++) {
		mark_idle_at(a, i, a->header->epoch - ago);
		mark_idle_at(a, 16 + i, a->header->epoch - ago);
	}
	return true;
}

/* a charged arena has lists of its own on each node */
TEST_F(nodes, reclaim_of_a_group_takes_from_both_nodes_and_from_it_alone)
{
	struct arena *a = &self->a, mine, theirs;
	int i;

	ASSERT_EQ(0, handout_node(a, 0, NR, 0, COMMIT));
	ASSERT_EQ(0, group_delegate(""));
	/* what others have is older, in no group and in another one */
	for (i = 0; i < NR; i++)
		mark_idle_at(a, i, a->header->epoch - 50);
	ASSERT_TRUE(group_idle_on_both(&theirs, G "-2", NR, 50));
	ASSERT_TRUE(group_idle_on_both(&mine, G, NR, 0));
	/* one of ours is in use */
	ASSERT_EQ(0, handout_node(&mine, 16 + NR, 1, 1, COMMIT));
	ASSERT_TRUE(sampled(5 * NR));
	/* it may say that it got less: what shrinkers free is not its count */
	group_write(G, "memory.reclaim", "31M");
	EXPECT_LE(NR - 1, nr_empty(&mine, 0, NR));
	EXPECT_LE(NR - 1, nr_empty(&mine, 16, NR));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(&mine, 16 + NR));
	EXPECT_EQ(0, nr_empty(&theirs, 0, NR));
	EXPECT_EQ(0, nr_empty(&theirs, 16, NR));
	EXPECT_EQ(0, nr_empty(a, 0, NR));
	arena_close(&mine);
	arena_close(&theirs);
	EXPECT_EQ(0, group_enter(""));
	EXPECT_EQ(0, group_remove(G));
	EXPECT_EQ(0, group_remove(G "-2"));
}

TEST_HARNESS_MAIN
