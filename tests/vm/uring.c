// SPDX-License-Identifier: GPL-2.0
/*
 * What is particular to commands that come by io_uring: what kinds of ring take
 * them, who runs them, in what order, and what of the SQE counts. That they do the
 * same as ioctls is for abi.uring, handout.uring and the like to say; what becomes
 * of them when the ring or its process goes, for uring_end.
 */
#include "uring_calls.h"
#include "harness.h"

/* Every kind of ring that takes commands. */
FIXTURE(ring)
{
	struct arena a;
	struct io_uring ring;
	struct hkr_stats before;
};

FIXTURE_VARIANT(ring)
{
	unsigned int setup;
	unsigned int sqe;
};

FIXTURE_VARIANT_ADD(ring, plain) { .setup = 0 };
FIXTURE_VARIANT_ADD(ring, async) { .sqe = IOSQE_ASYNC };
FIXTURE_VARIANT_ADD(ring, sqpoll) { .setup = IORING_SETUP_SQPOLL };
FIXTURE_VARIANT_ADD(ring, big) {
	.setup = IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
};
FIXTURE_VARIANT_ADD(ring, deferring) {
	.setup = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_SETUP(ring)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, io_uring_queue_init(NR_SLOTS, &self->ring, variant->setup));
	self->before = stats_of(&self->a);
}

FIXTURE_TEARDOWN(ring)
{
	io_uring_queue_exit(&self->ring);
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

/*
 * All @n that are queued. Where a thread of the kernel takes them it may have taken
 * some before they are counted, so there the number says nothing.
 */
static bool submit(struct io_uring *ring, int n)
{
	int ret = io_uring_submit(ring);

	return ring->flags & IORING_SETUP_SQPOLL ? ret >= 0 : ret == n;
}

/* one command, alone */
#define RUN(cmd, arg) ({						\
	queue(&self->ring, &self->a, cmd, arg)->flags |= variant->sqe;	\
	io_uring_submit(&self->ring);					\
	hkr_reap(&self->ring, NULL);					\
})

TEST_F(ring, runs_commands)
{
	struct arena *a = &self->a;
	struct recycle_call r;
	struct handout_call h;

	make_handout(&h, 3, COMMIT | AT, 5);
	ASSERT_EQ(1, RUN(HKR_IOC_HANDOUT, &h));
	EXPECT_EQ(0, h.req.result);
	EXPECT_EQ(3, h.req.nr_zeroed);
	EXPECT_EQ(3, stats_of(a).resident);
	EXPECT_TRUE(all_zero(slot_of(a, 5), 3 * SLOT));
	fill(slot_of(a, 6), 1);
	make_recycle(&r, FRESH, 6, 2);
	ASSERT_EQ(2, RUN(HKR_IOC_RECYCLE, &r));
	EXPECT_TRUE(all_zero(slot_of(a, 6), SLOT));
	make_recycle(&r, DROP, 6, 2);
	/* the second time it is not handed out any more */
	ASSERT_EQ(1, RUN(HKR_IOC_RECYCLE, &r));
	EXPECT_EQ(0, r.range[0].result);
	EXPECT_EQ(-ENXIO, r.range[1].result);
	EXPECT_EQ(2, stats_of(a).handed_out);
}

TEST_F(ring, runs_many_at_once)
{
	static struct handout_call h[NR_SLOTS];
	static struct recycle_call r[NR_SLOTS];
	bool seen[NR_SLOTS] = { };
	struct arena *a = &self->a;
	uint64_t first;
	int i;

	for (i = 0; i < NR_SLOTS; i++) {
		make_handout(&h[i], 1, COMMIT, 0);
		queue(&self->ring, a, HKR_IOC_HANDOUT, &h[i])->flags |=
			variant->sqe;
	}
	ASSERT_TRUE(submit(&self->ring, NR_SLOTS));
	for (i = 0; i < NR_SLOTS; i++)
		EXPECT_EQ(1, hkr_reap(&self->ring, NULL));
	for (i = 0; i < NR_SLOTS; i++) {
		first = h[i].req.first;
		ASSERT_EQ(0, h[i].req.result);
		ASSERT_GT(NR_SLOTS, first);
		EXPECT_FALSE(seen[first]);
		seen[first] = true;
		EXPECT_TRUE(all_zero(slot_of(a, first), SLOT));
		fill(slot_of(a, first), first);
	}
	EXPECT_EQ(NR_SLOTS, stats_of(a).resident);

	for (i = 0; i < NR_SLOTS; i++) {
		make_recycle(&r[i], DROP, i, 1);
		queue(&self->ring, a, HKR_IOC_RECYCLE, &r[i])->flags |=
			variant->sqe;
	}
	ASSERT_TRUE(submit(&self->ring, NR_SLOTS));
	for (i = 0; i < NR_SLOTS; i++)
		EXPECT_EQ(1, hkr_reap(&self->ring, NULL));
	EXPECT_EQ(0, stats_of(a).handed_out);
	EXPECT_EQ(0, stats_of(a).resident);
}

TEST_F(ring, links_keep_the_order)
{
	struct recycle_call drop, bad;
	struct handout_call h[2];
	struct arena *a = &self->a;
	int i;

	for (i = 0; i < 8; i++) {
		make_handout(&h[0], 1, COMMIT | AT, 9);
		make_recycle(&drop, DROP, 9, 1);
		make_handout(&h[1], 1, AT, 9);
		make_recycle(&bad, MOVE + 1, 9, 1);
		queue(&self->ring, a, HKR_IOC_HANDOUT, &h[0])->flags |=
			variant->sqe | IOSQE_IO_LINK;
		queue(&self->ring, a, HKR_IOC_RECYCLE, &drop)->flags |=
			variant->sqe | IOSQE_IO_LINK;
		queue(&self->ring, a, HKR_IOC_HANDOUT, &h[1])->flags |=
			variant->sqe;
		ASSERT_TRUE(submit(&self->ring, 3));
		EXPECT_EQ(1, hkr_reap(&self->ring, NULL));
		EXPECT_EQ(1, hkr_reap(&self->ring, NULL));
		EXPECT_EQ(1, hkr_reap(&self->ring, NULL));

		/* and an error ends the chain */
		queue(&self->ring, a, HKR_IOC_RECYCLE, &bad)->flags |=
			variant->sqe | IOSQE_IO_LINK;
		queue(&self->ring, a, HKR_IOC_RECYCLE, &drop)->flags |=
			variant->sqe;
		ASSERT_TRUE(submit(&self->ring, 2));
		EXPECT_EQ(-EOPNOTSUPP, hkr_reap(&self->ring, NULL));
		EXPECT_EQ(-ECANCELED, hkr_reap(&self->ring, NULL));
		EXPECT_EQ(1, stats_of(a).handed_out);
		EXPECT_EQ(0, recycle(a, DROP, 9, 1));
	}
}

TEST_F(ring, takes_only_what_it_says)
{
	unsigned int other[] = {
		HKR_IOC_INFO, HKR_IOC_SETUP, HKR_IOC_TRIM, HKR_IOC_STATS, 0, ~0U,
		HKR_IOC_HANDOUT | 1U << 30, _IO(HKR_IOC_MAGIC, 0x7f),
	};
	struct hkr_info info = { .size = sizeof(info) };
	struct hkr_sqe area = { };
	struct io_uring_sqe *sqe;
	struct handout_call h;
	struct iovec iov = { &h, sizeof(h) };
	uint64_t bit;
	size_t i;

	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	EXPECT_TRUE(info.features & HKR_FEAT_URING);
	make_handout(&h, 1, COMMIT, 0);
	for (i = 0; i < sizeof(other) / sizeof(*other); i++) {
		unsigned int cmd = other[i];

		EXPECT_EQ(-ENOTTY, RUN(cmd, &h)) {
			TH_LOG("%#x", cmd);
		}
	}
	for (bit = 1; bit; bit <<= 9) {
		sqe = queue(&self->ring, &self->a, HKR_IOC_HANDOUT, &h);
		sqe->flags |= variant->sqe;
		area = (struct hkr_sqe){ (uintptr_t)&h, bit };
		memcpy(sqe->cmd, &area, sizeof(area));
		io_uring_submit(&self->ring);
		EXPECT_EQ(-EINVAL, hkr_reap(&self->ring, NULL));
	}
	ASSERT_EQ(0, io_uring_register_buffers(&self->ring, &iov, 1));
	sqe = queue(&self->ring, &self->a, HKR_IOC_HANDOUT, &h);
	sqe->flags |= variant->sqe;
	sqe->rw_flags = IORING_URING_CMD_FIXED;
	io_uring_submit(&self->ring);
	EXPECT_EQ(-EINVAL, hkr_reap(&self->ring, NULL));

	EXPECT_EQ(UNTRIED, h.req.result);
	EXPECT_TRUE(same_stats(&self->a, &self->before));
	EXPECT_EQ(1, RUN(HKR_IOC_HANDOUT, &h));
}

/* The same arena, and a ring of the plain kind. */
FIXTURE(command)
{
	struct arena a;
	struct io_uring ring;
	struct recycle_call *r;
};

FIXTURE_SETUP(command)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, io_uring_queue_init(NR_SLOTS, &self->ring, 0));
	self->r = calloc(1, sizeof(*self->r));
	ASSERT_NE(NULL, self->r);
}

FIXTURE_TEARDOWN(command)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
	free(self->r);
}

TEST_F(command, of_a_polled_ring_is_eopnotsupp)
{
	struct io_uring polled;
	struct handout_call h;

	ASSERT_EQ(0, io_uring_queue_init(4, &polled, IORING_SETUP_IOPOLL));
	make_handout(&h, 1, COMMIT, 0);
	queue(&polled, &self->a, HKR_IOC_HANDOUT, &h);
	ASSERT_EQ(1, io_uring_submit(&polled));
	EXPECT_EQ(-EOPNOTSUPP, hkr_reap(&polled, NULL));
	EXPECT_EQ(0, stats_of(&self->a).handed_out);
	io_uring_queue_exit(&polled);
}

/*
 * A command that blocks is not the submitter's to wait for: it can even be the
 * one that ends the wait.
 */
TEST_F(command, never_blocks_who_submits)
{
	static char contents[PAGE];
	struct hkr_handout *call;
	struct handout_call h;
	static void *page;
	int uffd;

	uffd = blocking_page(&page);
	ASSERT_LE(0, uffd);
	make_handout(&h, 2, COMMIT, 0);
	call = (void *)contents;
	*call = h.call;
	queue(&self->ring, &self->a, HKR_IOC_HANDOUT, page);
	ASSERT_EQ(1, io_uring_submit(&self->ring));
	ASSERT_TRUE(is_waited_for(uffd));
	EXPECT_EQ(0, io_uring_cq_ready(&self->ring));
	EXPECT_EQ(0, stats_of(&self->a).handed_out);
	ASSERT_EQ(0, serve(uffd, page, contents));
	EXPECT_EQ(1, hkr_reap(&self->ring, NULL));
	EXPECT_EQ(0, h.req.result);
	EXPECT_EQ(2, stats_of(&self->a).resident);
	close(uffd);
}

/*
 * The SQE is free for other use once it is submitted. Linux 6.12 keeps that
 * promise for uring_cmd only with IOSQE_ASYNC.
 */
TEST_F(command, does_what_was_submitted)
{
	struct handout_call h, other;
	struct hkr_sqe area = { .arg = (uintptr_t)&other };
	struct io_uring_sqe *sqe;
	int i;

	make_handout(&other, 9, 0, 0);
	for (i = 0; i < 32; i++) {
		make_handout(&h, 1, 0, 0);
		sqe = queue(&self->ring, &self->a, HKR_IOC_HANDOUT, &h);
		sqe->flags |= IOSQE_ASYNC;
		io_uring_submit(&self->ring);
		memcpy(sqe->cmd, &area, sizeof(area));
		sqe->cmd_op = HKR_IOC_RECYCLE;
		EXPECT_EQ(1, hkr_reap(&self->ring, NULL));
		EXPECT_EQ(0, h.req.result);
	}
	EXPECT_EQ(UNTRIED, other.req.result);
	EXPECT_EQ(32, stats_of(&self->a).handed_out);
}

/* 0, or what did not go as it should when another process uses its ring */
static int heir(void *arg)
{
	FIXTURE_DATA(command) *self = arg;
	struct handout_call h;
	struct recycle_call *r = self->r;
	int i;

	for (i = 0; i < 2; i++) {
		struct io_uring_sqe *sqe;

		make_handout(&h, 1, COMMIT, 0);
		make_recycle(r, DROP, i, 1);

		sqe = queue(&self->ring, &self->a, HKR_IOC_HANDOUT, &h);
		if (i) {
			sqe->fd = 0;
			sqe->flags |= IOSQE_FIXED_FILE;
		}
		sqe = queue(&self->ring, &self->a, HKR_IOC_RECYCLE, r);
		if (i) {
			sqe->fd = 0;
			sqe->flags |= IOSQE_FIXED_FILE;
		}
		if (io_uring_submit(&self->ring) != 2)
			return 1;
		if (hkr_reap(&self->ring, NULL) != 1 ||
		    hkr_reap(&self->ring, NULL) != 1)
			return 2;
	}
	/* its own: two came, two went */
	return stats_of(&self->a).handed_out == 2 &&
	       word_state(&self->a, 1) == HKR_WORD_EMPTY ? 0 : 3;
}

TEST_F(command, of_a_child_with_the_ring_is_for_its_own_view)
{
	ASSERT_EQ(0, handout_at(&self->a, 0, 2, COMMIT));
	fill(slot_of(&self->a, 0), 1);
	fill(slot_of(&self->a, 1), 2);
	ASSERT_EQ(0, io_uring_register_files(&self->ring, &self->a.fd, 1));
	EXPECT_EQ(0, in_child(heir, self));
	EXPECT_EQ(2, stats_of(&self->a).handed_out);
	EXPECT_TRUE(filled(slot_of(&self->a, 0), 1));
	EXPECT_TRUE(filled(slot_of(&self->a, 1), 2));
	io_uring_queue_exit(&self->ring);
}

TEST_HARNESS_MAIN
