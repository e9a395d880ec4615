// SPDX-License-Identifier: MIT
/*
 * Obtaining and releasing many blocks of 2 MiB at once, by every way that the
 * kernel offers. Only the calls are timed. What has to be there before them
 * (slots handed out, memory touched) is made before, and taken away afterwards.
 *
 *   ioctl            a call for each block
 *   array            one call with an entry for each block
 *   range            one call with one entry: the blocks lie side by side
 *   uring            an SQE for each block, one io_uring_enter() for all
 *   uring-array      one SQE with an entry for each block
 *   mprotect         anonymous addresses opened and advised, a pair of calls for
 *                    each block; closed by mapping PROT_NONE over each
 *   mprotect-range   the same once for all, side by side
 *   madvise          MADV_POPULATE_WRITE and MADV_DONTNEED of each block
 *   madvise-range    the same once for all, side by side
 *   process-madvise  one call with a vector (of one's own process: Linux 6.13)
 *   uring-madvise    an SQE for each block
 *
 * Each has a process of its own: io_uring's workers are threads, and where a
 * process has run on two processors its TLB is flushed on both. The time of all
 * its threads is counted as well, which is what a worker costs that the caller
 * does not wait for.
 */

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <hakmem.h>
#include <linux/hakmem_region.h>

#include "batch.h"
#include "hkbench.h"

#ifndef MADV_POPULATE_WRITE	/* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

struct entry {			/* a call, and what it has for one block */
	union {
		struct hkr_handout handout;
		struct hkr_recycle recycle;
	} call;
	union {
		struct hkr_handout_req req;
		struct hkr_range range;
	} one;
};

static struct {
	int fd, pidfd;
	uint64_t depth;		/* folios of a full pool */
	char *base;
	struct io_uring ring;
	struct entry entries[HB_BATCH_MAX];
	struct hkr_handout_req reqs[HB_BATCH_MAX];
	struct hkr_range ranges[HB_BATCH_MAX];
	struct iovec iov[HB_BATCH_MAX];
} own;

static struct hkr_handout_req request(enum hb_act act, unsigned int first,
				      unsigned int nr)
{
	return (struct hkr_handout_req){
		.nr_slots = nr,
		.flags = HKR_HANDOUT_AT |
			 (act == HB_OBTAIN ? HKR_HANDOUT_COMMIT : 0),
		.node = HKR_NODE_ANY,
		.first = first,
	};
}

/* a call with @nr entries at @array */
static void make_call(struct entry *e, enum hb_act act, void *array,
		      unsigned int nr)
{
	if (hb_is_obtain(act))
		e->call.handout = (struct hkr_handout){
			.size = sizeof(e->call.handout),
			.nr = nr,
			.reqs = (uintptr_t)array,
		};
	else
		e->call.recycle = (struct hkr_recycle){
			.size = sizeof(e->call.recycle),
			.mode = HKR_RECYCLE_DROP,
			.nr = nr,
			.ranges = (uintptr_t)array,
		};
}

/* a call with one entry: @nr blocks from @first on */
static void make_one(struct entry *e, enum hb_act act, unsigned int first,
		     unsigned int nr)
{
	if (hb_is_obtain(act))
		e->one.req = request(act, first, nr);
	else
		e->one.range = (struct hkr_range){
			.first = first, .nr_slots = nr,
		};
	make_call(e, act, &e->one, 1);
}

/* a call with an entry for each of @n blocks */
static void make_array(struct entry *e, enum hb_act act, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (hb_is_obtain(act))
			own.reqs[i] = request(act, i, 1);
		else
			own.ranges[i] = (struct hkr_range){
				.first = i, .nr_slots = 1,
			};
	}
	make_call(e, act, hb_is_obtain(act) ? (void *)own.reqs :
					   (void *)own.ranges, n);
}

/* 0 when all @nr entries were met */
static int ioctl_entry(struct entry *e, enum hb_act act, unsigned int nr)
{
	int ret = hb_is_obtain(act) ?
		  hkm_sys_region_handout(own.fd, &e->call.handout) :
		  hkm_sys_region_recycle(own.fd, &e->call.recycle);

	if (ret < 0)
		return ret;
	if (ret == (int)nr)
		return 0;
	return e->call.handout.nr != 1 ? -ENODATA : hb_is_obtain(act) ?
	       e->one.req.result : e->one.range.result;
}

static int run_ioctl(enum hb_act act, unsigned int n)
{
	int err = 0;

	for (unsigned int i = 0; i < n && !err; i++) {
		make_one(&own.entries[i], act, i, 1);
		err = ioctl_entry(&own.entries[i], act, 1);
	}
	return err;
}

static int run_array(enum hb_act act, unsigned int n)
{
	make_array(&own.entries[0], act, n);
	return ioctl_entry(&own.entries[0], act, n);
}

static int run_range(enum hb_act act, unsigned int n)
{
	make_one(&own.entries[0], act, 0, n);
	return ioctl_entry(&own.entries[0], act, 1);
}

/* the ring has room for a batch, and is empty before each */
static struct io_uring_sqe *next_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&own.ring);

	if (!sqe)
		abort();
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

static void queue(struct entry *e, enum hb_act act)
{
	struct io_uring_sqe *sqe = next_sqe();
	struct hkr_sqe area = { .arg = (uintptr_t)&e->call };

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_ASYNC;
	sqe->fd = own.fd;
	sqe->cmd_op = hb_is_obtain(act) ? HKR_IOC_HANDOUT : HKR_IOC_RECYCLE;
	memcpy(sqe->cmd, &area, sizeof(area));
}

/* submit what is queued; 0 when all @n SQEs have the result @want */
static int submit(unsigned int n, int want)
{
	struct io_uring_cqe *cqe;
	int err, bad = 0;

	err = io_uring_submit_and_wait(&own.ring, n);
	if (err < 0)
		return err;
	for (unsigned int i = 0; i < n; i++) {
		err = io_uring_wait_cqe(&own.ring, &cqe);
		if (err)
			return err;
		if (cqe->res != want)
			bad = cqe->res < 0 ? cqe->res : -ENODATA;
		io_uring_cqe_seen(&own.ring, cqe);
	}
	return bad;
}

static int run_uring(enum hb_act act, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		make_one(&own.entries[i], act, i, 1);
		queue(&own.entries[i], act);
	}
	return submit(n, 1);
}

static int run_uring_array(enum hb_act act, unsigned int n)
{
	make_array(&own.entries[0], act, n);
	queue(&own.entries[0], act);
	return submit(1, (int)n);
}

static int populate(char *at, size_t size)
{
	return madvise(at, size, MADV_POPULATE_WRITE) ? -errno : 0;
}

static int advise(enum hb_act act, char *at, size_t size)
{
	return hb_is_obtain(act) ? populate(at, size) :
				   hkm_sys_madvise_dontneed(at, size);
}

static int run_madvise(enum hb_act act, unsigned int n)
{
	int err = 0;

	for (unsigned int i = 0; i < n && !err; i++)
		err = advise(act, own.base + i * HB_HUGE, HB_HUGE);
	return err;
}

static int run_madvise_range(enum hb_act act, unsigned int n)
{
	return advise(act, own.base, n * HB_HUGE);
}

/* as the library's anonymous source does */
static int open_or_close(enum hb_act act, char *at, size_t size)
{
	void *p;

	if (hb_is_obtain(act)) {
		if (mprotect(at, size, PROT_READ | PROT_WRITE))
			return -errno;
		return hkm_sys_madvise_hugepage(at, size);
	}
	p = hkm_sys_mmap(at, size, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
				 MAP_NORESERVE, -1, 0);
	return HKM_SYS_FAILED(p) ? -HKM_SYS_ERRNO(p) : 0;
}

static int run_mprotect(enum hb_act act, unsigned int n)
{
	int err = 0;

	for (unsigned int i = 0; i < n && !err; i++)
		err = open_or_close(act, own.base + i * HB_HUGE, HB_HUGE);
	return err;
}

static int run_mprotect_range(enum hb_act act, unsigned int n)
{
	return open_or_close(act, own.base, n * HB_HUGE);
}

static int run_process_madvise(enum hb_act act, unsigned int n)
{
	long ret;

	(void)act;
	for (unsigned int i = 0; i < n; i++)
		own.iov[i] = (struct iovec){ own.base + i * HB_HUGE, HB_HUGE };
	ret = syscall(SYS_process_madvise, own.pidfd, own.iov, n, MADV_DONTNEED,
		      0);
	if (ret < 0)
		return -errno;
	return ret == (long)(n * HB_HUGE) ? 0 : -ENODATA;
}

static int run_uring_madvise(enum hb_act act, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		io_uring_prep_madvise(next_sqe(), own.base + i * HB_HUGE,
				      HB_HUGE, hb_is_obtain(act) ?
				      MADV_POPULATE_WRITE : MADV_DONTNEED);
	return submit(n, 0);
}

#define BARE	(1U << HB_OBTAIN_BARE | 1U << HB_RELEASE_BARE)
#define MEMORY	(1U << HB_OBTAIN | 1U << HB_RELEASE)

const struct hb_way hb_ways[] = {
	{ "ioctl", HB_WAY_DEVICE, BARE | MEMORY, run_ioctl },
	{ "array", HB_WAY_DEVICE, BARE | MEMORY, run_array },
	{ "range", HB_WAY_DEVICE, BARE | MEMORY, run_range },
	{ "uring", HB_WAY_DEVICE | HB_WAY_RING, BARE | MEMORY, run_uring },
	{ "uring-array", HB_WAY_DEVICE | HB_WAY_RING, BARE | MEMORY,
	  run_uring_array },
	{ "mprotect", 0, BARE | 1U << HB_RELEASE, run_mprotect },
	{ "mprotect-range", 0, BARE | 1U << HB_RELEASE, run_mprotect_range },
	{ "madvise", 0, MEMORY, run_madvise },
	{ "madvise-range", 0, MEMORY, run_madvise_range },
	{ "process-madvise", HB_WAY_PIDFD, 1U << HB_RELEASE,
	  run_process_madvise },
	{ "uring-madvise", HB_WAY_RING, MEMORY, run_uring_madvise },
};

const size_t hb_nr_ways = sizeof(hb_ways) / sizeof(hb_ways[0]);

static int open_arena(void)
{
	struct hkr_setup setup = { .size = sizeof(setup) };
	void *p;
	int err;

	own.fd = hkm_sys_region_open();
	if (own.fd < 0)
		return own.fd;
	setup.nr_slots = HB_BATCH_MAX;
	err = hkm_sys_region_setup(own.fd, &setup);
	if (err < 0)
		return err;
	p = hkm_sys_mmap(NULL, setup.arena_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, own.fd, setup.arena_offset);
	if (HKM_SYS_FAILED(p))
		return -HKM_SYS_ERRNO(p);
	own.base = p;
	return 0;
}

/* Addresses that are open, or slots that are handed out, as @act expects. */
static int set_up(const struct hb_way *w, enum hb_act act, unsigned int n)
{
	if (hb_is_obtain(act))
		return 0;
	if (w->acts & 1U << HB_OBTAIN_BARE)
		return w->run(act == HB_RELEASE && w->acts & 1U << HB_OBTAIN ?
			      HB_OBTAIN : HB_OBTAIN_BARE, n);
	return 0;
}

/* what has to be there before @act */
static int prepare(const struct hb_way *w, enum hb_act act, unsigned int n)
{
	int err = set_up(w, act, n);

	/* what is more than the pool holds is zeroed in line, come what may */
	if (act == HB_OBTAIN && w->flags & HB_WAY_DEVICE &&
	    n <= own.depth)
		hb_device_wait_clean(5000);
	if (act == HB_RELEASE)
		for (unsigned int i = 0; i < n && !err; i++)
			own.base[i * HB_HUGE] = 1;
	return err;
}

static int open_way(const struct hb_way *w)
{
	struct hb_ctx c = { 0 };
	int err;

	if (w->flags & HB_WAY_DEVICE) {
		own.depth = hb_device_depth();
		err = open_arena();
	} else {
		err = hb_map_thp(&c, HB_BATCH_MAX * HB_HUGE);
		own.base = c.block;
	}
	if (!err && w->flags & HB_WAY_RING)
		err = io_uring_queue_init(HB_BATCH_MAX, &own.ring, 0);
	if (!err && w->flags & HB_WAY_PIDFD) {
		own.pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
		err = own.pidfd < 0 ? -errno : 0;
	}
	if (err)
		return err;
	/* does the kernel know the command at all? And the mapping is empty now. */
	if (!(w->flags & HB_WAY_DEVICE))
		return w->run(HB_RELEASE, HB_BATCH_MAX);
	return w->run(HB_OBTAIN_BARE, 1) ?: w->run(HB_RELEASE_BARE, 1);
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void take_turn(const struct hb_way *w, const struct hb_batch_order *o,
		      struct hb_batch_answer *a)
{
	uint64_t t, cpu;

	a->err = 0;
	for (a->count = 0; a->count < o->count; a->count++) {
		a->err = prepare(w, o->act, o->n);
		if (a->err)
			return;
		cpu = cpu_ns();
		t = hb_tsc();
		a->err = w->run(o->act, o->n);
		a->cycles[a->count] = hb_tsc() - t;
		a->cpu_ns[a->count] = cpu_ns() - cpu;
		if (!a->err && hb_is_obtain(o->act))
			a->err = w->run(HB_RELEASE, o->n);
		if (a->err)
			return;
	}
}

void hb_way_serve(const struct hb_way *w, int from, int to)
{
	struct hb_batch_answer a = { .err = open_way(w) };
	struct hb_batch_order o;

	if (write(to, &a, sizeof(a)) != sizeof(a) || a.err)
		_exit(0);
	while (read(from, &o, sizeof(o)) == sizeof(o)) {
		take_turn(w, &o, &a);
		if (write(to, &a, sizeof(a)) != sizeof(a))
			break;
	}
	_exit(0);
}
