/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_TEST_URING_CALLS_H
#define HKR_TEST_URING_CALLS_H

/*
 * Calls that stay the kernel's until they complete, with their arrays, and a
 * page that keeps whoever touches it waiting.
 */

#include <poll.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>
#include "hkr_test.h"

#define NR_SLOTS	64
#define UNTRIED		77	/* a result that no command writes */

/* a call and its array, of one entry or of the longest */
struct handout_call {
	struct hkr_handout call;
	struct hkr_handout_req req;
};

struct recycle_call {
	struct hkr_recycle call;
	struct hkr_range range[HKR_MAX_BATCH];
};

static inline void make_handout(struct handout_call *h, uint32_t nr,
				uint32_t flags, uint64_t first)
{
	*h = (struct handout_call){
		.call = { .size = sizeof(h->call), .nr = 1,
			  .reqs = (uintptr_t)&h->req },
		.req = { .nr_slots = nr, .flags = flags, .node = HKR_NODE_ANY,
			 .first = first, .result = UNTRIED },
	};
}

/* the same slot @nr times */
static inline void make_recycle(struct recycle_call *r, uint32_t mode,
				uint64_t first, uint32_t nr)
{
	uint32_t i;

	r->call = (struct hkr_recycle){
		.size = sizeof(r->call), .mode = mode, .nr = nr,
		.ranges = (uintptr_t)r->range,
	};
	for (i = 0; i < nr; i++)
		r->range[i] = (struct hkr_range){
			.first = first, .nr_slots = 1, .result = UNTRIED,
		};
}

static inline struct io_uring_sqe *queue(struct io_uring *ring,
					 struct arena *a, unsigned int cmd,
					 const void *arg)
{
	struct io_uring_sqe *sqe = hkr_sqe(ring);

	hkr_prep(sqe, a->fd, cmd, arg);
	sqe->user_data = (uintptr_t)arg;
	return sqe;
}

/* a page whose first touch waits until it is served; its descriptor */
static inline int blocking_page(void **page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	*page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)*page;
	reg.range.len = PAGE;
	if (*page == MAP_FAILED || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg))
		return -errno;
	return fd;
}

/* until somebody waits for the page; the bound is for a very busy machine */
static inline bool is_waited_for(int uffd)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	return poll(&pfd, 1, 20000) == 1 &&
	       read(uffd, &msg, sizeof(msg)) == sizeof(msg) &&
	       msg.event == UFFD_EVENT_PAGEFAULT;
}

static inline int serve(int uffd, void *page, const void *contents)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page, .src = (uintptr_t)contents, .len = PAGE,
	};

	return ioctl(uffd, UFFDIO_COPY, &copy);
}

#endif /* HKR_TEST_URING_CALLS_H */
