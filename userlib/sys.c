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
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <linux/hakmem_region.h>

#include "sys.h"
#include "timing.h"

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

void hkm_sys_futex_wake(unsigned int *word, int nr)
{
	SYS3(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr);
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

void *hkm_sys_table(size_t size)
{
	void *table = hkm_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				   -1, 0);

	return HKM_SYS_FAILED(table) ? NULL : table;
}

int hkm_sys_region_open(void)
{
	int fd = (int)sys6(SYS_openat, AT_FDCWD, (long)HKM_DEVICE,
			   O_RDWR | O_CLOEXEC, 0, 0, 0);
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
