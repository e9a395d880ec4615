/* SPDX-License-Identifier: MIT */
#ifndef HKM_SYS_H
#define HKM_SYS_H

/*
 * System calls that the library needs and does not offer to others. As the
 * public ones in hakmem.h they return a negative errno and leave errno alone.
 */

#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

#define HKM_DEVICE "/dev/hakmem_region"

int hkm_sys_mprotect(void *addr, size_t size, int prot);
int hkm_sys_madvise_wipeonfork(void *addr, size_t size);
int hkm_sys_close(int fd);
void hkm_sys_write_stderr(const char *text, size_t len);

/* wait while *@word is @value, or shorter: the caller looks again */
void hkm_sys_futex_wait(unsigned int *word, unsigned int value);
void hkm_sys_futex_wake(unsigned int *word, int nr);

/* bytes of RAM, and the limit on this process's address space */
uint64_t hkm_sys_ram(void);
uint64_t hkm_sys_address_space(void);

/*
 * Memory for the library's own tables, zeroed and a whole number of pages; it
 * does not come from malloc(), so a malloc() can be built on this library.
 */
void *hkm_sys_table(size_t size);

#endif /* HKM_SYS_H */
