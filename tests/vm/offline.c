// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that comes and goes. settings gives the machine a DIMM on node 1, whose
 * blocks nothing but these tests puts online, as memory of the ordinary kind; so
 * all that lies there is free or the module's.
 */
#include "tracefs.h"
#include "group.h"
#include <dirent.h>
#include "harness.h"

#define NODE		1
#define NR		16
#define RESERVE		8	/* folios, see settings */
#define MEMORY		"/sys/devices/system/memory/"
#define NODE_DIR	"/sys/devices/system/node/node1"
#define DRAIN		"/sys/kernel/debug/hakmem_region/drain"
#define MAX_BLOCKS	64

struct blocks {
	int nr;
	int nrs[MAX_BLOCKS];
	unsigned long size;
};

static void find_blocks(struct blocks *b)
{
	FILE *f = fopen(MEMORY "block_size_bytes", "re");
	DIR *dir = opendir(NODE_DIR);
	struct dirent *d;

	memset(b, 0, sizeof(*b));
	if (f && fscanf(f, "%lx", &b->size) != 1)
		b->size = 0;
	if (f)
		fclose(f);
	while (b->size && dir && (d = readdir(dir)))
		if (b->nr < MAX_BLOCKS &&
		    sscanf(d->d_name, "memory%d", &b->nrs[b->nr]) == 1)
			b->nr++;
	if (dir)
		closedir(dir);
}

/* "online_kernel" or "offline": 0 or -errno */
static int block_set(int block, const char *state)
{
	char path[128];

	snprintf(path, sizeof(path), MEMORY "memory%d/state", block);
	return trace_write(path, state);
}

static int block_of(const struct blocks *b, void *addr)
{
	*(volatile char *)addr;
	return pfn_of(addr) * PAGE / b->size;
}

static bool in_blocks(const struct blocks *b, int block)
{
	int i;

	for (i = 0; i < b->nr; i++)
		if (b->nrs[i] == block)
			return true;
	return false;
}

/* folios in a node's pool; -1: the node has no memory */
static long pool_of(int fd, unsigned int nid, bool clean_only)
{
	struct hkr_node_info nodes[8];
	struct hkr_info info = {
		.size = sizeof(info), .nr_nodes = 8, .nodes = (uintptr_t)nodes,
	};
	unsigned int i;

	if (hkr_call(fd, HKR_IOC_INFO, &info))
		return -1;
	for (i = 0; i < info.nr_nodes && i < 8; i++)
		if (nodes[i].node == nid)
			return nodes[i].clean + (clean_only ? 0 : nodes[i].dirty);
	return -1;
}

static bool pool_becomes(int fd, unsigned int nid, bool clean_only, long nr)
{
	int i;

	for (i = 0; i < 2000 && pool_of(fd, nid, clean_only) != nr; i++)
		usleep(10000);
	return i < 2000;
}

static long handout_on(struct arena *a, int node, uint64_t first, uint32_t nr)
{
	struct hkr_handout_req req = {
		.nr_slots = nr, .flags = COMMIT | AT, .node = node,
		.first = first,
	};

	return hkr_request(a, &req);
}

/* a node that was drained is on hold: the end of a hibernation ends that */
static void end_holds(void)
{
	int fd = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
}

FIXTURE(dimm)
{
	struct arena a;
	struct blocks blocks;
};

FIXTURE_VARIANT(dimm)
{
	bool charged;
};

FIXTURE_VARIANT_ADD(dimm, shared) { .charged = false };
/* its lists were made when the node had no memory */
FIXTURE_VARIANT_ADD(dimm, charged) { .charged = true };

FIXTURE_SETUP(dimm)
{
	int i;

	find_blocks(&self->blocks);
	if (!self->blocks.nr)
		SKIP(return, "no memory that can be put online");
	if (variant->charged) {
		ASSERT_EQ(0, group_delegate(""));
		ASSERT_EQ(0, group_make("/dimm", 512));
		ASSERT_EQ(0, group_enter("/dimm"));
	}
	end_holds();
	ASSERT_TRUE(sysfs_becomes("live_folios", RESERVE));
	ASSERT_EQ(0, arena_open(&self->a, 256));
	ASSERT_EQ(variant->charged, self->a.setup.charged);
	ASSERT_EQ(-1, pool_of(self->a.fd, NODE, false));
	/* while the node has no memory: Linux 6.1 has a part of a ring on each */
	if (hkr_by_uring())
		hkr_ring();
	for (i = 0; i < self->blocks.nr; i++)
		ASSERT_EQ(0, block_set(self->blocks.nrs[i], "online_kernel"));
	ASSERT_LE(0, pool_of(self->a.fd, NODE, false));
	ASSERT_EQ(0, trace_clear());
	ASSERT_EQ(0, trace_enable("hkr_reclaim", true));
}

FIXTURE_TEARDOWN(dimm)
{
	int i, k;

	EXPECT_EQ(0, trace_enable(NULL, false));
	arena_close(&self->a);
	if (variant->charged) {
		EXPECT_EQ(0, group_enter(""));
		EXPECT_EQ(0, group_remove("/dimm"));
	}
	EXPECT_TRUE(nothing_leaked());
	/* blocks that are offline already say EINVAL; the thread may have one in hand */
	trace_write(DRAIN, "1");
	for (i = 0; i < self->blocks.nr; i++)
		for (k = 0; k < 500; k++) {
			if (block_set(self->blocks.nrs[i], "offline") != -EBUSY)
				break;
			usleep(10000);
		}
}

TEST_F(dimm, busy_slots_keep_their_block_and_nothing_else_does)
{
	struct blocks *b = &self->blocks;
	struct arena *a = &self->a;
	int i, busy, gone = 0;

	/* 0-3 busy, 4-7 to the pool, 8-11 idle; 12-15 idle on the other node */
	ASSERT_EQ(0, handout_on(a, NODE, 0, 12));
	ASSERT_EQ(0, handout_on(a, 0, 12, 4));
	for (i = 0; i < NR; i++)
		fill(slot_of(a, i), i);
	busy = block_of(b, slot_of(a, 0));
	for (i = 0; i < 12; i++)
		ASSERT_TRUE(in_blocks(b, block_of(b, slot_of(a, i))));
	ASSERT_FALSE(in_blocks(b, block_of(b, slot_of(a, 12))));
	ASSERT_EQ(0, recycle(a, DROP, 4, 4));
	if (!variant->charged)
		ASSERT_TRUE(pool_becomes(a->fd, NODE, true, 4));
	for (i = 8; i < NR; i++)
		mark_idle(a, i);

	EXPECT_EQ(-EBUSY, block_set(busy, "offline"));
	for (i = 0; i < b->nr; i++)
		if (!block_set(b->nrs[i], "offline"))
			gone++;
	/* whose going made the module give the rest of the node */
	ASSERT_LE(1, gone);
	EXPECT_EQ(4, trace_count("hkr_reclaim", " node=1 "));
	EXPECT_EQ(4, trace_count("hkr_reclaim", " why=offline"));
	EXPECT_EQ(0, pool_of(a->fd, NODE, false));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(HKR_WORD_BUSY, word_state(a, i));
	for (i = 8; i < 12; i++)
		EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, i));
	for (i = 12; i < NR; i++) {
		EXPECT_EQ(HKR_WORD_IDLE, word_state(a, i));
		EXPECT_TRUE(filled(slot_of(a, i), i));
	}

	/* what was refused goes at the second try, but for the busy slots */
	for (i = 0; i < b->nr; i++)
		if (!block_set(b->nrs[i], "offline"))
			gone++;
	EXPECT_LT(gone, b->nr);
	EXPECT_EQ(-EBUSY, block_set(busy, "offline"));
	for (i = 0; i < 4; i++)
		EXPECT_TRUE(filled(slot_of(a, i), i));

	/* they do not come back to the pool, so that the last block goes too */
	ASSERT_EQ(0, recycle(a, DROP, 0, 4));
	EXPECT_EQ(0, pool_of(a->fd, NODE, false));
	for (i = 0; i < b->nr; i++)
		if (!block_set(b->nrs[i], "offline"))
			gone++;
	EXPECT_EQ(b->nr, gone);
	EXPECT_EQ(-1, pool_of(a->fd, NODE, false));
	/* the node exists, and has none: another's will do */
	EXPECT_EQ(0, handout_on(a, NODE, 0, 4));
	EXPECT_FALSE(in_blocks(b, block_of(b, slot_of(a, 0))));
}

TEST_F(dimm, node_that_gets_memory_later_has_a_pool_and_ages)
{
	struct blocks *b = &self->blocks;
	struct arena *a = &self->a;
	uint64_t before;
	int i;

	ASSERT_EQ(0, handout_on(a, NODE, 0, NR));
	for (i = 0; i < NR; i++)
		ASSERT_TRUE(in_blocks(b, block_of(b, slot_of(a, i))));
	for (i = 0; i < 4; i++)
		mark_idle(a, i);
	ASSERT_TRUE(sysfs_becomes("idle", 4));
	EXPECT_EQ(4 * (long)SLOT, sysfs("idle_bytes"));
	ASSERT_EQ(4, trim(a, 0, 0));
	EXPECT_EQ(4, trace_count("hkr_reclaim", " node=1 "));
	ASSERT_EQ(0, recycle(a, DROP, 4, 8));
	/* zeroed by the node's own thread, and handed out again from there */
	if (variant->charged)
		return;
	EXPECT_TRUE(pool_becomes(a->fd, NODE, true, 12));
	before = stats_of(a).served_clean;
	ASSERT_EQ(0, handout_on(a, NODE, 0, 12));
	EXPECT_EQ(12, stats_of(a).served_clean - before);
	EXPECT_EQ(0, pool_of(a->fd, NODE, false));
}

/* none of ours is in the way of a movable block: nothing is given for it */
TEST_F(dimm, movable_memory_that_goes_takes_nothing_along)
{
	struct blocks *b = &self->blocks;
	struct arena *a = &self->a;
	int i, last = b->nrs[0];

	for (i = 1; i < b->nr; i++)
		if (b->nrs[i] > last)
			last = b->nrs[i];
	ASSERT_EQ(0, block_set(last, "offline"));
	ASSERT_EQ(0, block_set(last, "online_movable"));
	ASSERT_EQ(0, handout_on(a, NODE, 0, NR));
	for (i = 0; i < NR; i++)
		mark_idle(a, i);
	ASSERT_EQ(0, block_set(last, "offline"));
	for (i = 0; i < NR; i++)
		EXPECT_EQ(HKR_WORD_IDLE, word_state(a, i));
	EXPECT_EQ(0, trace_count("hkr_reclaim", "%s", ""));
}

/* the reserve goes with a node that is drained, and another node has it then */
TEST_F(dimm, reserve_moves_to_another_node)
{
	struct arena *a = &self->a;

	ASSERT_TRUE(pool_becomes(a->fd, 0, true, RESERVE));
	ASSERT_EQ(0, trace_write(DRAIN, "0"));
	EXPECT_TRUE(pool_becomes(a->fd, NODE, true, RESERVE));
	EXPECT_EQ(0, pool_of(a->fd, 0, false));
	ASSERT_EQ(0, trace_write(DRAIN, "1"));
	EXPECT_EQ(0, pool_of(a->fd, NODE, false));
}

TEST(drain_by_hand_wants_a_node_with_memory)
{
	EXPECT_EQ(-EINVAL, trace_write(DRAIN, "all"));
	EXPECT_EQ(-EINVAL, trace_write(DRAIN, "-1"));
	EXPECT_EQ(-ENXIO, trace_write(DRAIN, "1"));
	EXPECT_EQ(-ENXIO, trace_write(DRAIN, "100000"));
	EXPECT_EQ(0, trace_write(DRAIN, "0"));
}

TEST_HARNESS_MAIN
