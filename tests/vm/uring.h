/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_TEST_URING_H
#define HKR_TEST_URING_H

/*
 * Commands by io_uring. With HKR_BY_URING in its environment a program sends
 * HANDOUT and RECYCLE, and numbers that are none, this way instead of by
 * ioctl(): settings says which programs run a second time so.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <liburing.h>
#include <linux/hakmem_region.h>

static inline void hkr_prep(struct io_uring_sqe *sqe, int fd, unsigned int cmd,
			    const void *arg)
{
	struct hkr_sqe area = { .arg = (uintptr_t)arg };

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = cmd;
	memcpy(sqe->cmd, &area, sizeof(area));
}

/* the commands that only ioctl() takes */
static inline bool hkr_is_ioctl_only(unsigned int cmd)
{
	return cmd == HKR_IOC_INFO || cmd == HKR_IOC_SETUP ||
	       cmd == HKR_IOC_TRIM || cmd == HKR_IOC_STATS;
}

static inline bool hkr_by_uring(void)
{
	static int by_uring = -1;

	if (by_uring < 0)
		by_uring = !!getenv("HKR_BY_URING");
	return by_uring;
}

static inline bool hkr_goes_by_uring(unsigned int cmd)
{
	return hkr_by_uring() && !hkr_is_ioctl_only(cmd);
}

static inline __attribute__((noreturn)) void
hkr_no_ring(const char *what, int ret)
{
	/* never fall back: the test would be the same as by ioctl() */
	printf("# %s: %s\n", what, strerror(-ret));
	fflush(stdout);
	abort();
}

static inline struct io_uring_sqe *hkr_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		hkr_no_ring("io_uring_get_sqe", -EBUSY);
	return sqe;
}

/* one for each thread, and a new one in a forked child */
static inline struct io_uring *hkr_ring(void)
{
	static __thread struct io_uring ring;
	static __thread pid_t owner;
	int ret;

	if (owner == getpid())
		return &ring;
	ret = io_uring_queue_init(1, &ring, 0);
	if (ret)
		hkr_no_ring("io_uring_queue_init", ret);
	owner = getpid();
	return &ring;
}

/* the result of the next completion, and what it belongs to */
static inline int hkr_reap(struct io_uring *ring, uint64_t *user_data)
{
	struct io_uring_cqe *cqe;
	int ret;

	do
		ret = io_uring_wait_cqe(ring, &cqe);
	while (ret == -EINTR);
	if (ret)
		hkr_no_ring("io_uring_wait_cqe", ret);
	ret = cqe->res;
	if (user_data)
		*user_data = cqe->user_data;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

static inline long hkr_uring_call(int fd, unsigned int cmd, void *arg)
{
	struct io_uring *ring = hkr_ring();
	int ret;

	hkr_prep(hkr_sqe(ring), fd, cmd, arg);
	ret = io_uring_submit(ring);
	if (ret != 1)
		hkr_no_ring("io_uring_submit", ret);
	return hkr_reap(ring, NULL);
}

#endif /* HKR_TEST_URING_H */
