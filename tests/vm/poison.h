/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_POISON_H
#define HKR_POISON_H

/*
 * Memory that is said to be broken, in the two ways that the kernel learns of it. By
 * madvise() some kernels keep a reference for ever; a page that the machine reports by
 * its address, and that is not the core's own, is only marked.
 */
#include "reclaim.h"

/* false: this kernel has no CONFIG_MEMORY_FAILURE. It says that it failed, anyway. */
static inline bool poison(void *page)
{
	/* newer kernels tell the owner at once */
	signal(SIGBUS, SIG_IGN);
	errno = 0;
	madvise(page, PAGE, MADV_HWPOISON);
	return errno != EINVAL;
}

/* does the kernel's own record of a page say so */
static inline bool is_poisoned(uint64_t pfn)
{
	uint64_t flags = 0;
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &flags, 8, pfn * 8) != 8)
		flags = 0;
	close(fd);
	return flags >> 19 & 1;
}

/* the same for a page by its number, as a machine check tells it */
static inline bool poison_pfn(uint64_t pfn)
{
	char text[32];

	snprintf(text, sizeof(text), "%#lx", pfn * PAGE);
	if (write_file("/sys/devices/system/memory/hard_offline_page", text) == -ENOENT) {
		/* where there is no such file, on the debug kernel */
		snprintf(text, sizeof(text), "%#lx", pfn);
		write_file("/sys/kernel/debug/hwpoison/corrupt-pfn", text);
	}
	return is_poisoned(pfn);
}

#endif /* HKR_POISON_H */
