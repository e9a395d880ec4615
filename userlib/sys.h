/* SPDX-License-Identifier: MIT */
#ifndef HKM_SYS_H
#define HKM_SYS_H

/*
 * System calls that the library needs and does not offer to others. As the
 * public ones in hakmem.h they return a negative errno and leave errno alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

#define HKM_DEVICE "/dev/hakmem_region"
#define HKM_PRESSURE "/proc/pressure/memory"

int hkm_sys_mprotect(void *addr, size_t size, int prot);
int hkm_sys_madvise_nohugepage(void *addr, size_t size);
/*
 * hkm_sys_is_one_mapping - to the kernel, which may have several that look as one;
 *	what is behind @addr + @size must be mapped
 * hkm_sys_mremap_away - the pages of @addr go to @to, whatever was there; @addr stays
 *	mapped, empty. An error may leave nothing at @to, so that any thread's next
 *	mapping may land there; of what is several mappings, Linux before 6.17 does,
 *	and later ones may move some of them
 */
bool hkm_sys_is_one_mapping(void *addr, size_t size);
int hkm_sys_mremap_away(void *addr, size_t size, void *to);
int hkm_sys_madvise_wipeonfork(void *addr, size_t size);
/* what smaps calls this; nothing where the kernel has no names for it */
void hkm_sys_name(void *addr, size_t size, const char *name);
/* has this process had huge pages disabled by prctl()? */
int hkm_sys_thp_is_disabled(void);

/* hkm_sys_counter_is_readable - is reading the time-stamp counter no signal here? */
bool hkm_sys_counter_is_readable(void);
int hkm_sys_close(int fd);
void hkm_sys_write_stderr(const char *text, size_t len);

/* wait while *@word is @value, or shorter: the caller looks again */
void hkm_sys_futex_wait(unsigned int *word, unsigned int value);
void hkm_sys_futex_wait_ms(unsigned int *word, unsigned int value, uint64_t ms);
void hkm_sys_futex_wake(unsigned int *word, int nr);

/*
 * hkm_sys_open_trigger - a descriptor that tells of memory pressure, or -errno
 * hkm_sys_wait_trigger - 1 for pressure, 0 when @ms have passed, or -errno
 */
int hkm_sys_open_trigger(const char *trigger);
int hkm_sys_wait_trigger(int fd, int ms);

/* hkm_sys_which_file - what tells @fd's file from another one; 0 or -errno */
struct hkm_sys_file {
	uint64_t dev, ino;
};
int hkm_sys_which_file(int fd, struct hkm_sys_file *file);

/* hkm_sys_clock_ns - of a clock that goes on; no system call, where the kernel can */
uint64_t hkm_sys_clock_ns(void);

/* hkm_sys_minor_faults - of this process so far */
uint64_t hkm_sys_minor_faults(void);

/* hkm_sys_read_file - at most @room bytes of @path; how many, or -errno */
long hkm_sys_read_file(const char *path, char *text, size_t room);

/* hkm_sys_write_file - make @path anew; 0 or -errno */
int hkm_sys_write_file(const char *path, const char *text, size_t len);

/* is a cgroup v2 mounted there? */
bool hkm_sys_is_cgroup2(const char *path);

/* hkm_sys_region_access - 0, or why the device could not be opened; opens nothing */
int hkm_sys_region_access(void);

/* bytes of RAM, and the limit on this process's address space */
uint64_t hkm_sys_ram(void);
uint64_t hkm_sys_address_space(void);

/* is there a limit on what this process may write (RLIMIT_DATA)? */
bool hkm_sys_data_is_limited(void);

/*
 * Memory for the library's own tables, zeroed and a whole number of pages; it
 * does not come from malloc(), so a malloc() can be built on this library.
 */
void *hkm_sys_table(size_t size);

#endif /* HKM_SYS_H */
