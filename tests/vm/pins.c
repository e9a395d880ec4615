// SPDX-License-Identifier: GPL-2.0
/*
 * A page of a slot is in use while the slot is lost, by each kind of use (see
 * pins.h) and each way to lose a slot: its folio reaches no other owner before
 * the use ends, whoever uses it finds the data that it came for, and then the
 * folio comes back. settings loads the module without a reserve, so that what is
 * not in use may go.
 */
#include "pins.h"
#include "reclaim.h"
#include "harness.h"

#define NR_SLOTS	128

/* Slot 0 has a page in use, slot 1 is like it but for that. */
FIXTURE(use)
{
	struct arena a;
	struct pin *pin;
	uint64_t pfn;
	bool held;
};

FIXTURE_VARIANT(use)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(use, by_pipe) { &kind_pipe };
FIXTURE_VARIANT_ADD(use, by_registered_buffer) { &kind_buffer };
FIXTURE_VARIANT_ADD(use, by_direct_write) { &kind_write_io };
FIXTURE_VARIANT_ADD(use, by_direct_read) { &kind_read_io };
FIXTURE_VARIANT_ADD(use, by_another_process) { &kind_process };

static void *shared_page(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* what the kernel says about the slot: idle by its word, and yet not */
static bool is_held(struct arena *a)
{
	int i;

	mark_idle(a, 0);
	for (i = 0; i < 2000 && stats_of(a).idle; i++)
		usleep(10000);
	return i < 2000 && take_again(a, 0, word_of(a, 0));
}

/* @a: two slots, filled; their first page in use. 0 or -errno */
static int make_use(struct arena *a, struct pin *pin, const struct kind *kind)
{
	long ret = arena_open(a, NR_SLOTS) ?: keep_from_children(a) ?:
		   handout_at(a, 0, 2, COMMIT);

	if (ret)
		return ret;
	fill(slot_of(a, 0), SEED);
	fill(slot_of(a, 1), SEED);
	pin->slot = slot_of(a, 0);
	ret = kind->hold(pin, slot_of(a, 0));
	if (!ret && !is_held(a))
		ret = -ETIME;
	return ret;
}

FIXTURE_SETUP(use)
{
	int ret;

	self->pin = shared_page();
	ASSERT_NE(NULL, self->pin);
	ASSERT_EQ(0, variant->kind->begin(self->pin));
	ret = make_use(&self->a, self->pin, variant->kind);
	if (ret == -EOPNOTSUPP)
		SKIP(return, "this kernel registers no such buffer");
	ASSERT_EQ(0, ret);
	self->held = true;
	self->pfn = pfn_of(self->a.base);
	ASSERT_NE(0, self->pfn);
}

static bool end_use(FIXTURE_DATA(use) *self, const FIXTURE_VARIANT(use) *v)
{
	self->held = false;
	return v->kind->end(self->pin);
}

FIXTURE_TEARDOWN(use)
{
	if (self->held)
		end_use(self, variant);
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

/* the harness of 6.1 runs a test whose setup said SKIP */
#define NEEDS_USE()							\
	do {								\
		if (!self->held)					\
			SKIP(return, "this kernel registers no such buffer"); \
	} while (0)

TEST_F(use, outlives_a_drop)
{
	struct arena *a = &self->a;

	NEEDS_USE();
	ASSERT_EQ(0, recycle(a, DROP, 0, 2));
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_EQ(1, stats_of(a).user_charged);
	ASSERT_EQ(0, handout_at(a, 0, 2, COMMIT));
	EXPECT_TRUE(all_zero(a->base, 2 * SLOT));
	fill(a->base, 7);
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_TRUE(end_use(self, variant));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_TRUE(filled(a->base, 7));
	/* from now on it is anybody's, but zeroed */
	EXPECT_TRUE(sysfs_becomes("dirty", 0));
	EXPECT_TRUE(all_in_place());
	EXPECT_EQ(1, next_owner_meets(self->pfn));
}

TEST_F(use, outlives_a_refresh)
{
	struct arena *a = &self->a;

	NEEDS_USE();
	ASSERT_EQ(0, recycle(a, FRESH, 0, 2));
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_TRUE(all_zero(a->base, 2 * SLOT));
	fill(a->base, 7);
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	EXPECT_TRUE(end_use(self, variant));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_TRUE(filled(a->base, 7));
}

TEST_F(use, moves_with_its_slot)
{
	struct arena *a = &self->a;

	NEEDS_USE();
	ASSERT_EQ(0, handout_at(a, 5, 2, 0));
	ASSERT_EQ(0, recycle_to(a, MOVE, 0, 2, 5));
	EXPECT_EQ(0, sysfs("orphans"));
	EXPECT_TRUE(filled(slot_of(a, 5), SEED));
	EXPECT_EQ(self->pfn, pfn_of(slot_of(a, 5)));
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	/* a registered buffer is where it was registered */
	EXPECT_TRUE(end_use(self, variant));
	EXPECT_EQ(0, sysfs("orphans"));
}

/* reclaim, TRIM and FROM_IDLE leave it alone, and take the other one */
TEST_F(use, keeps_its_slot_from_reclaim)
{
	struct arena *a = &self->a;
	struct shrunk s;
	uint64_t word;
	int i;

	NEEDS_USE();
	mark_idle_at(a, 0, a->header->epoch - 100);
	mark_idle(a, 1);
	word = word_of(a, 0);
	/* unmapped, it looks as unused as it ever will */
	ASSERT_EQ(0, madvise(a->base, SLOT, MADV_DONTNEED));
	EXPECT_TRUE(sampled(1));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, shrink(200, &s));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	EXPECT_EQ(1, stats_of(a).reclaimed);
	EXPECT_EQ(0, trim(a, 0, 0));
	ASSERT_EQ(0, handout_at(a, 8, 1, COMMIT | FROM_IDLE));
	EXPECT_EQ(0, stats_of(a).served_idle);
	EXPECT_EQ(word, word_of(a, 0));
	EXPECT_TRUE(filled(a->base, SEED));
	EXPECT_EQ(self->pfn, pfn_of(a->base));
	EXPECT_EQ(0, next_owner_meets(self->pfn));

	EXPECT_TRUE(end_use(self, variant));
	EXPECT_TRUE(sampled(1));
	for (i = 0; i < 2000 && word_state(a, 0) != HKR_WORD_EMPTY; i++)
		ASSERT_EQ(0, shrink(200, &s));
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 0));
	EXPECT_EQ(0, stats_of(a).orphaned);
}

TEST_F(use, outlives_its_arena)
{
	NEEDS_USE();
	arena_close(&self->a);
	EXPECT_EQ(1, sysfs("orphans"));
	EXPECT_EQ(0, sysfs("resident"));
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	EXPECT_TRUE(end_use(self, variant));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
}

/* the child of a fork() finds what was there, and scribbles over it */
static int child_scribbles(void *arg)
{
	struct arena *a = arg;

	if (!filled(a->base, SEED))
		return 1;
	fill(a->base, 5);
	fill(slot_of(a, 1), 5);
	return 0;
}

TEST_F(use, stays_with_its_owner_over_a_fork)
{
	struct arena *a = &self->a;

	NEEDS_USE();
	ASSERT_EQ(0, madvise(a->base, a->setup.arena_size, MADV_DOFORK));
	ASSERT_EQ(0, madvise((void *)a->header, a->setup.control_size,
			     MADV_DOFORK));
	EXPECT_EQ(0, in_child(child_scribbles, a));
	EXPECT_TRUE(filled(a->base, SEED));
	EXPECT_EQ(self->pfn, pfn_of(a->base));
	EXPECT_EQ(0, stats_of(a).copied);
	EXPECT_EQ(0, next_owner_meets(self->pfn));
	/* who uses it gets, or gives, what is the owner's */
	EXPECT_TRUE(end_use(self, variant));
	EXPECT_EQ(0, stats_of(a).copied);
}

/* an owner of its own, which is killed */
FIXTURE(owner)
{
	struct pin *pin;
	struct {
		int status;
		uint64_t pfn;
		char *slot;
	} *child;
	pid_t pid;
};

FIXTURE_VARIANT(owner)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(owner, of_pipe) { &kind_pipe };
FIXTURE_VARIANT_ADD(owner, of_registered_buffer) { &kind_buffer };
FIXTURE_VARIANT_ADD(owner, of_direct_write) { &kind_write_io };
FIXTURE_VARIANT_ADD(owner, of_another_process) { &kind_process };

FIXTURE_SETUP(owner)
{
	int ready[2];
	char c;

	self->pin = shared_page();
	self->child = shared_page();
	ASSERT_NE(NULL, self->pin);
	ASSERT_NE(NULL, (void *)self->child);
	ASSERT_EQ(0, variant->kind->begin(self->pin));
	ASSERT_EQ(0, pipe(ready));
	self->pid = fork();
	if (!self->pid) {
		struct arena a;

		self->child->status = make_use(&a, self->pin, variant->kind);
		self->child->slot = a.base;
		self->child->pfn = pfn_of(a.base);
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	close(ready[0]);
	close(ready[1]);
	self->pin->owner = self->pid;
	if (self->child->status == -EOPNOTSUPP) {
		kill(self->pid, SIGKILL);
		SKIP(return, "this kernel registers no such buffer");
	}
	ASSERT_EQ(0, self->child->status);
	ASSERT_NE(0, self->child->pfn);
}

FIXTURE_TEARDOWN(owner)
{
	EXPECT_TRUE(nothing_leaked());
}

TEST_F(owner, is_killed)
{
	if (self->child->status == -EOPNOTSUPP)
		SKIP(return, "this kernel registers no such buffer");
	ASSERT_EQ(0, kill(self->pid, SIGKILL));
	if (!variant->kind->keeps_owner)
		ASSERT_EQ(self->pid, waitpid(self->pid, NULL, 0));
	EXPECT_EQ(variant->kind->keeps_memory ? 0 : 1, sysfs("orphans"));
	EXPECT_EQ(variant->kind->keeps_memory ? 2 : 0, sysfs("resident"));
	EXPECT_EQ(0, next_owner_meets(self->child->pfn));
	EXPECT_TRUE(variant->kind->end(self->pin));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_TRUE(sysfs_becomes("resident", 0));
}

TEST_HARNESS_MAIN
