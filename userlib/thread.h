/* SPDX-License-Identifier: MIT */
#ifndef HKM_THREAD_H
#define HKM_THREAD_H

/*
 * What a thread has of its own: one word. It is the thread's lane (lane.h), if it has
 * one, and in the bits below that what the thread is inside of.
 *
 * One word, reached as initial-exec, because a library that is loaded late gets its
 * thread-local memory from a small reserve of libc's for all of them, and has to have
 * it without a call that may call malloc().
 *
 * A signal handler that comes between reading and writing the word leaves it as it
 * was, but for a lane that it was given: the thread is then given another.
 */

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"

#define HKM_IN_FORK	((uintptr_t)1 << 0)	/* has every registered lock */
#define HKM_IN_SEARCH	((uintptr_t)1 << 1)	/* dlsym() for the next allocator */
#define HKM_IN_CALLBACK	((uintptr_t)1 << 2)	/* for low memory */
#define HKM_IN_RATED	((uintptr_t)1 << 3)	/* a call that is rated */
#define HKM_IN_TIMING	((uintptr_t)1 << 4)	/* is made a block of counters */
#define HKM_IN_EXIT	((uintptr_t)1 << 5)	/* gave its block of counters away */
#define HKM_IN_ANY	((uintptr_t)127)	/* a lane is aligned to more */

/* It is defined in lane.c. */
extern __thread uintptr_t hkm_thread;

static inline bool hkm_is_in(uintptr_t what)
{
	return hkm_thread & what;
}

/*
 * Written for sure: of some that are called in between, dlsym() for one, libc says that
 * they never call back, and the compiler would leave out what only we see meanwhile.
 */
static inline void hkm_enter(uintptr_t what)
{
	write_once(&hkm_thread, hkm_thread | what);
}

static inline void hkm_exit(uintptr_t what)
{
	write_once(&hkm_thread, hkm_thread & ~what);
}

#endif /* HKM_THREAD_H */
