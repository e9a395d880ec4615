// SPDX-License-Identifier: MIT
/*
 * The only file that enters the kernel.
 *
 * A wrapper returns 0 (or a number, or an address) or a negative errno, so that
 * no other file reads errno, and hkm_free() keeps it for free: on x86-64 the
 * instruction is issued here and errno is never written. Elsewhere libc's
 * syscall() is used and errno put back.
 *
 * Timing sits in exactly this layer (and around the ring), so a row of the
 * table is what the kernel costs and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <linux/hakmem_region.h>

#include "sys.h"
#include "timing.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* Descriptors below this are left to the program, which may count on them. */
#define FIRST_HIGH_FD 512

#if defined(__x86_64__) && !defined(__ILP32__)
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#else
static long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long ret = syscall(nr, a, b, c, d, e, f);

	if (ret == -1)
		ret = -errno;
	errno = saved;
	return ret;
}
#endif

#define SYS3(nr, a, b, c) \
	sys6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)

/* 32-bit machines count the offset of mmap2 in units of 4096 bytes. */
#ifdef SYS_mmap2
#define SYS_MMAP	 SYS_mmap2
#define SYS_MMAP_OFF(o)	 ((long)((o) >> 12))
#else
#define SYS_MMAP	 SYS_mmap
#define SYS_MMAP_OFF(o)	 ((long)(o))
#endif

void *hkm_sys_mmap(void *addr, size_t size, int prot, int flags, int fd,
		   uint64_t offset)
{
	return (void *)HKM_TIMED(HKM_T_MMAP,
				 sys6(SYS_MMAP, (long)addr, (long)size, prot,
				      flags, fd, SYS_MMAP_OFF(offset)));
}

int hkm_sys_munmap(void *addr, size_t size)
{
	return (int)HKM_TIMED(HKM_T_MUNMAP, SYS3(SYS_munmap, addr, size, 0));
}

static int sys_madvise(void *addr, size_t size, int advice)
{
	return (int)HKM_TIMED(HKM_T_MADVISE,
			      SYS3(SYS_madvise, addr, size, advice));
}

int hkm_sys_madvise_dontneed(void *addr, size_t size)
{
	return sys_madvise(addr, size, MADV_DONTNEED);
}

int hkm_sys_madvise_free(void *addr, size_t size)
{
	return sys_madvise(addr, size, MADV_FREE);
}

int hkm_sys_madvise_hugepage(void *addr, size_t size)
{
	return sys_madvise(addr, size, MADV_HUGEPAGE);
}

int hkm_sys_madvise_nohugepage(void *addr, size_t size)
{
	return sys_madvise(addr, size, MADV_NOHUGEPAGE);
}

int hkm_sys_madvise_willneed(void *addr, size_t size)
{
	return sys_madvise(addr, size, MADV_WILLNEED);
}

int hkm_sys_madvise_wipeonfork(void *addr, size_t size)
{
	return sys_madvise(addr, size, MADV_WIPEONFORK);
}

int hkm_sys_mprotect(void *addr, size_t size, int prot)
{
	return (int)SYS3(SYS_mprotect, addr, size, prot);
}

/*
 * Asked to grow by a page, where there is no room for that, the kernel first says
 * whether there are several, or one that is sealed, and does nothing.
 */
bool hkm_sys_is_one_mapping(void *addr, size_t size)
{
	long ret = sys6(SYS_mremap, (long)addr, (long)size, (long)(size + 4096),
			0, 0, 0);

	return ret != -EFAULT && ret != -EPERM;
}

/* Linux 5.7; before it, -EINVAL and nothing done. */
int hkm_sys_mremap_away(void *addr, size_t size, void *to)
{
	long ret = sys6(SYS_mremap, (long)addr, (long)size, (long)size,
			MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			(long)to, 0);

	return ret == (long)to ? 0 : (int)ret;
}

/* Linux 5.17, if it was built with CONFIG_ANON_VMA_NAME. */
void hkm_sys_name(void *addr, size_t size, const char *name)
{
	sys6(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)addr,
	     (long)size, (long)name, 0);
}

/* Since Linux 6.18 there are more answers: disabled but where asked for, say. */
int hkm_sys_thp_is_disabled(void)
{
	return sys6(SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0, 0) == 1;
}

/* Only x86 has this, and only there it is read without being asked to. */
bool hkm_sys_counter_is_readable(void)
{
#if defined(__x86_64__)
	int how = 0;

	return !sys6(SYS_prctl, PR_GET_TSC, (long)&how, 0, 0, 0, 0) &&
	       how == PR_TSC_ENABLE;
#else
	return false;
#endif
}

int hkm_sys_close(int fd)
{
	return (int)SYS3(SYS_close, fd, 0, 0);
}

void hkm_sys_write_stderr(const char *text, size_t len)
{
	SYS3(SYS_write, STDERR_FILENO, text, len);
}

void hkm_sys_futex_wait(unsigned int *word, unsigned int value)
{
	SYS3(SYS_futex, word, FUTEX_WAIT_PRIVATE, value);
}

void hkm_sys_futex_wait_ms(unsigned int *word, unsigned int value, uint64_t ms)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	sys6(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, value, (long)&ts, 0, 0);
}

void hkm_sys_futex_wake(unsigned int *word, int nr)
{
	SYS3(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr);
}

uint64_t hkm_sys_clock_ns(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t hkm_sys_minor_faults(void)
{
	struct rusage usage = { 0 };

	SYS3(SYS_getrusage, RUSAGE_SELF, &usage, 0);
	return (uint64_t)usage.ru_minflt;
}

long hkm_sys_read_file(const char *path, char *text, size_t room)
{
	int fd = (int)sys6(SYS_openat, AT_FDCWD, (long)path,
			   O_RDONLY | O_CLOEXEC, 0, 0, 0);
	long len;

	if (fd < 0)
		return fd;
	len = SYS3(SYS_read, fd, text, room);
	hkm_sys_close(fd);
	return len;
}

int hkm_sys_write_file(const char *path, const char *text, size_t len)
{
	int fd = (int)sys6(SYS_openat, AT_FDCWD, (long)path,
			   O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666, 0, 0);
	long ret;

	if (fd < 0)
		return fd;
	ret = SYS3(SYS_write, fd, text, len);
	hkm_sys_close(fd);
	return ret < 0 ? (int)ret : 0;
}

bool hkm_sys_is_cgroup2(const char *path)
{
	struct statfs fs = { 0 };

	return !SYS3(SYS_statfs, path, &fs, 0) &&
	       fs.f_type == CGROUP2_SUPER_MAGIC;
}

uint64_t hkm_sys_ram(void)
{
	struct sysinfo info = { 0 };

	if (SYS3(SYS_sysinfo, &info, 0, 0) < 0)
		return 0;
	return (uint64_t)info.totalram * info.mem_unit;
}

uint64_t hkm_sys_address_space(void)
{
	struct rlimit64 limit = { .rlim_cur = RLIM64_INFINITY };

	sys6(SYS_prlimit64, 0, RLIMIT_AS, 0, (long)&limit, 0, 0);
	return limit.rlim_cur;
}

bool hkm_sys_data_is_limited(void)
{
	struct rlimit64 limit = { .rlim_cur = RLIM64_INFINITY };

	sys6(SYS_prlimit64, 0, RLIMIT_DATA, 0, (long)&limit, 0, 0);
	return limit.rlim_cur != RLIM64_INFINITY;
}

void *hkm_sys_table(size_t size)
{
	void *table = hkm_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				   -1, 0);

	return HKM_SYS_FAILED(table) ? NULL : table;
}

static int open_high(const char *path, int flags)
{
	int fd = (int)sys6(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC,
			   0, 0, 0);
	int high;

	if (fd < 0 || fd >= FIRST_HIGH_FD)
		return fd;

	/* Where the limit on descriptors is low the first one will do. */
	high = (int)SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FIRST_HIGH_FD);
	if (high < 0)
		return fd;
	hkm_sys_close(fd);
	return high;
}

int hkm_sys_region_open(void)
{
	return open_high(HKM_DEVICE, O_RDWR);
}

int hkm_sys_region_access(void)
{
	/* by the rights that count for open(), which Linux 5.8 learnt to ask for */
	int err = (int)sys6(SYS_faccessat2, AT_FDCWD, (long)HKM_DEVICE,
			    R_OK | W_OK, AT_EACCESS, 0, 0);

	return err != -ENOSYS ? err :
	       (int)sys6(SYS_faccessat, AT_FDCWD, (long)HKM_DEVICE,
			 R_OK | W_OK, 0, 0, 0);
}

int hkm_sys_open_trigger(const char *trigger)
{
	int fd = open_high(HKM_PRESSURE, O_RDWR | O_NONBLOCK);
	long len;

	if (fd < 0)
		return fd;
	len = SYS3(SYS_write, fd, trigger, strlen(trigger) + 1);
	if (len >= 0)
		return fd;
	hkm_sys_close(fd);
	return (int)len;
}

int hkm_sys_wait_trigger(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLPRI };
	struct timespec ts = {
		.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L,
	};
	long ret = sys6(SYS_ppoll, (long)&pfd, 1, (long)&ts, 0, 0, 0);

	if (ret <= 0)
		return (int)ret;
	if (pfd.revents & POLLNVAL)
		return -EBADF;
	return pfd.revents & POLLERR ? -EIO : 1;
}

/* statx(): what it fills in is the same on every machine. */
int hkm_sys_which_file(int fd, struct hkm_sys_file *file)
{
	struct statx st = { 0 };
	long err = sys6(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_INO,
			(long)&st, 0);

	if (err)
		return (int)err;
	file->dev = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	file->ino = st.stx_ino;
	return 0;
}

int hkm_sys_region_info(int fd, struct hkr_info *info)
{
	return (int)SYS3(SYS_ioctl, fd, HKR_IOC_INFO, info);
}

int hkm_sys_region_setup(int fd, struct hkr_setup *setup)
{
	return (int)SYS3(SYS_ioctl, fd, HKR_IOC_SETUP, setup);
}

int hkm_sys_region_handout(int fd, struct hkr_handout *handout)
{
	return (int)HKM_TIMED(HKM_T_HANDOUT,
			      SYS3(SYS_ioctl, fd, HKR_IOC_HANDOUT, handout));
}

int hkm_sys_region_recycle(int fd, struct hkr_recycle *recycle)
{
	return (int)HKM_TIMED(HKM_T_RECYCLE,
			      SYS3(SYS_ioctl, fd, HKR_IOC_RECYCLE, recycle));
}

int hkm_sys_region_trim(int fd, struct hkr_trim *trim)
{
	return (int)SYS3(SYS_ioctl, fd, HKR_IOC_TRIM, trim);
}

int hkm_sys_region_stats(int fd, struct hkr_stats *stats)
{
	return (int)SYS3(SYS_ioctl, fd, HKR_IOC_STATS, stats);
}
