/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_PINS_H
#define HKR_PINS_H

/*
 * Kinds of use that hold a page of a slot for as long as a test likes:
 *
 *   pipe      vmsplice(): until the pipe is read
 *   buffer    a registered buffer of io_uring: until the ring is gone
 *   write_io  a write by O_DIRECT, in the queue of a device that its cgroup
 *   read_io   throttles, and a read: until the limit is lifted
 *   process   another process's process_vm_readv(), whose own memory is missing
 *             until its userfaultfd fills it in
 *
 * begin() in the process of the test, hold() in that of the slot's owner, end()
 * in that of the test again: ends the use and tells whether the data was right.
 */

#include "group.h"
#include <liburing.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define DISK	"/dev/vda"
#define SEED	100UL
#define OTHER	77UL	/* a seed for what is on the disk */
#define HELD_AT	PAGE	/* offset into the slot */
#define HELD	(64 * PAGE)
#define IO_GROUP	"/hkr-io"

struct pin {
	int fd[2], go[2];
	struct io_uring ring;
	pthread_t thread;
	pid_t owner;	/* a child, or 0 */
	char *slot;
	bool write;
	ssize_t done;
};

struct kind {
	int (*begin)(struct pin *p);
	int (*hold)(struct pin *p, char *slot);
	bool (*end)(struct pin *p);
	bool keeps_memory;	/* that of a dying owner lives on with it */
	bool keeps_owner;	/* and so does the owner */
};

/* is @mem what fill(slot, SEED) left at that offset */
static inline bool is_slots(const void *mem, size_t at, size_t len)
{
	const uint64_t *p = mem;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (p[i] != SEED + at / 8 + i)
			return false;
	return true;
}

/* @len bytes of the disk, in memory that may be used for O_DIRECT; or NULL */
static inline void *disk_buffer(void)
{
	void *p = mmap(NULL, HELD, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* what fill(slot, OTHER) would leave in its first bytes, to the disk */
static inline int disk_prepare(void)
{
	int fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC), ret = -1;
	uint64_t *p = disk_buffer();
	size_t i;

	for (i = 0; p && i < HELD / 8; i++)
		p[i] = OTHER + i;
	if (p && pwrite(fd, p, HELD, 0) == HELD)
		ret = 0;
	if (p)
		munmap(p, HELD);
	close(fd);
	return ret;
}

/* is that on the disk which the slot had */
static inline bool disk_has(off_t offset, bool slots)
{
	int fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t *p = disk_buffer();
	bool right = p && pread(fd, p, HELD, offset) == HELD;

	if (right && slots)
		right = is_slots(p, HELD_AT, HELD);
	else if (right)
		right = p[0] == OTHER && p[HELD / 8 - 1] == OTHER + HELD / 8 - 1;
	if (p)
		munmap(p, HELD);
	close(fd);
	return right;
}

static int pipe_begin(struct pin *p)
{
	return pipe(p->fd) ? -errno : 0;
}

static int pipe_hold(struct pin *p, char *slot)
{
	struct iovec iov = { slot + HELD_AT, PAGE };

	return vmsplice(p->fd[1], &iov, 1, 0) == PAGE ? 0 : -errno;
}

static bool pipe_end(struct pin *p)
{
	static char page[PAGE];
	bool right = read(p->fd[0], page, PAGE) == PAGE &&
		     is_slots(page, HELD_AT, PAGE);

	close(p->fd[0]);
	close(p->fd[1]);
	return right;
}

static int buffer_begin(struct pin *p)
{
	return disk_prepare() ?: io_uring_queue_init(4, &p->ring, 0);
}

static int buffer_hold(struct pin *p, char *slot)
{
	struct iovec iov = { slot, SLOT };

	return io_uring_register_buffers(&p->ring, &iov, 1);
}

static ssize_t buffer_io(struct pin *p, int fd, bool write, char *at,
			 off_t offset)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&p->ring);
	struct io_uring_cqe *cqe;
	ssize_t res;

	if (write)
		io_uring_prep_write_fixed(sqe, fd, at, HELD, offset, 0);
	else
		io_uring_prep_read_fixed(sqe, fd, at, HELD, offset, 0);
	if (io_uring_submit_and_wait(&p->ring, 1) != 1 ||
	    io_uring_wait_cqe(&p->ring, &cqe))
		return -1;
	res = cqe->res;
	io_uring_cqe_seen(&p->ring, cqe);
	return res;
}

/* its contents to the disk; then those of the disk into it and out again */
static bool buffer_end(struct pin *p)
{
	int fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	char *at = p->slot + HELD_AT;
	bool right;

	right = buffer_io(p, fd, true, at, SLOT) == HELD &&
		disk_has(SLOT, true) &&
		buffer_io(p, fd, false, at, 0) == HELD &&
		buffer_io(p, fd, true, at, 2 * SLOT) == HELD &&
		disk_has(2 * SLOT, false);
	close(fd);
	io_uring_unregister_buffers(&p->ring);
	io_uring_queue_exit(&p->ring);
	return right;
}

static inline int io_limit(const char *limit)
{
	char line[64];
	struct stat st;

	if (stat(DISK, &st))
		return -errno;
	snprintf(line, sizeof(line), "%u:%u rbps=%s wbps=%s", major(st.st_rdev),
		 minor(st.st_rdev), limit, limit);
	return group_write(IO_GROUP, "io.max", line);
}

static int io_begin(struct pin *p)
{
	return disk_prepare() ?: group_write("", "cgroup.subtree_control",
					     "+io") ?:
	       group_make(IO_GROUP, 0) ?: io_limit("2");
}

static int write_io_begin(struct pin *p)
{
	p->write = true;
	return io_begin(p);
}

static void *io_thread(void *arg)
{
	struct pin *p = arg;
	int fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC);
	char *at = p->slot + HELD_AT;

	p->done = p->write ? pwrite(fd, at, HELD, SLOT) :
			     pread(fd, at, HELD, 0);
	close(fd);
	return NULL;
}

static int io_hold(struct pin *p, char *slot)
{
	int ret = group_enter(IO_GROUP);

	p->slot = slot;
	return ret ?: -pthread_create(&p->thread, NULL, io_thread, p);
}

static bool io_end(struct pin *p)
{
	bool right = !io_limit("max");

	if (p->owner)
		right &= waitpid(p->owner, NULL, 0) == p->owner;
	else
		right &= !pthread_join(p->thread, NULL) && p->done == HELD;
	right &= !group_enter("") && !group_remove(IO_GROUP);
	return right && (!p->write || disk_has(SLOT, true));
}

struct reader {
	struct iovec local, remote;
	pid_t owner;
	ssize_t done;
};

static void *reader_thread(void *arg)
{
	struct reader *r = arg;

	r->done = process_vm_readv(r->owner, &r->local, 1, &r->remote, 1, 0);
	return NULL;
}

/* memory that is missing; a userfaultfd for it, or -1 */
static inline int missing_memory(struct iovec *iov)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	iov->iov_len = PAGE;
	iov->iov_base = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)iov->iov_base;
	reg.range.len = PAGE;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		return -1;
	return fd;
}

/* tells by a byte that it is at it, and by another whether the data was right */
static int reader(struct pin *p, char *slot, pid_t owner)
{
	struct reader r = { .owner = owner,
			    .remote = { slot + HELD_AT, PAGE } };
	struct uffdio_zeropage zero = {};
	struct uffd_msg msg;
	pthread_t thread;
	char c;
	int fd = missing_memory(&r.local);

	close(p->go[1]);
	if (fd < 0 || pthread_create(&thread, NULL, reader_thread, &r) ||
	    read(fd, &msg, sizeof(msg)) != sizeof(msg))
		return 1;
	if (write(p->fd[1], "h", 1) != 1 || read(p->go[0], &c, 1) != 1)
		return 2;
	zero.range.start = (uintptr_t)r.local.iov_base;
	zero.range.len = PAGE;
	if (ioctl(fd, UFFDIO_ZEROPAGE, &zero))
		return 3;
	pthread_join(thread, NULL);
	c = r.done == PAGE && is_slots(r.local.iov_base, HELD_AT, PAGE) ?
	    'r' : 'w';
	return write(p->fd[1], &c, 1) != 1;
}

static int process_begin(struct pin *p)
{
	return pipe(p->fd) || pipe(p->go) ? -errno : 0;
}

static int process_hold(struct pin *p, char *slot)
{
	pid_t owner = getpid();
	char c = 0;

	if (!fork())
		_exit(reader(p, slot, owner));
	return read(p->fd[0], &c, 1) == 1 && c == 'h' ? 0 : -1;
}

static bool process_end(struct pin *p)
{
	char c = 0;
	bool right = write(p->go[1], "", 1) == 1 &&
		     read(p->fd[0], &c, 1) == 1 && c == 'r';
	int i;

	for (i = 0; i < 2; i++) {
		close(p->fd[i]);
		close(p->go[i]);
	}
	if (!p->owner)
		wait(NULL);
	return right;
}

static const struct kind kind_pipe = { pipe_begin, pipe_hold, pipe_end };
static const struct kind kind_buffer = {
	buffer_begin, buffer_hold, buffer_end,
};
static const struct kind kind_write_io = {
	write_io_begin, io_hold, io_end, .keeps_memory = true,
	.keeps_owner = true,
};
static const struct kind kind_read_io = {
	io_begin, io_hold, io_end, .keeps_memory = true, .keeps_owner = true,
};
static const struct kind kind_process = {
	process_begin, process_hold, process_end, .keeps_memory = true,
};

#endif /* HKR_PINS_H */
