/* SPDX-License-Identifier: MIT */
#ifndef HKM_LOCK_H
#define HKM_LOCK_H

/*
 * Lock order
 *
 *	hkm_setup_lock		set-up and shutdown of the ring and the heap
 *	  registry (lock.c)	the list of leaf locks
 *	    leaf locks		ring, anonymous window, joining of cached runs,
 *				timing, rating of thresholds; never two at a
 *				time, and no system call under one, but under
 *				the last, which malloc() and free() only try
 *
 * fork() takes all of them in this order, so that the child inherits tables
 * that no other thread was in the middle of changing. From then until it lets go
 * of them the thread that forks may take and release any of them again.
 */

#include <stdbool.h>
#include <sys/single_threaded.h>

#include "compiler.h"
#include "thread.h"

/**
 * struct hkm_lock - a mutex of one word
 * @word: 0 free, 1 taken, 2 taken and somebody may be waiting in the kernel
 * @registered, @next: the list of locks; protected by the registry's lock
 * @in_child: called in a forked child with the lock free again, or NULL
 */
struct hkm_lock {
	unsigned int word;
	bool registered;
	struct hkm_lock *next;
	void (*in_child)(void);
};

extern struct hkm_lock hkm_setup_lock;

/* Returns with the lock, at once where this thread is forking. */
void hkm_lock_wait(struct hkm_lock *lock);
void hkm_lock_wake(struct hkm_lock *lock);

/*
 * Only a registered lock survives a fork() in another thread, so it is done
 * before the lock is used: at load for static ones. Twice is once.
 */
void hkm_lock_register(struct hkm_lock *lock);
void hkm_lock_unregister(struct hkm_lock *lock);

/* Acquire: pairs with the release in hkm_unlock_shared() of the last owner. */
static inline void hkm_lock_shared(struct hkm_lock *lock)
{
	unsigned int free = 0;

	if (unlikely(!__atomic_compare_exchange_n(&lock->word, &free, 1, false,
						  __ATOMIC_ACQUIRE,
						  __ATOMIC_RELAXED)))
		hkm_lock_wait(lock);
}

static inline void hkm_unlock_shared(struct hkm_lock *lock)
{
	if (unlikely(hkm_is_in(HKM_IN_FORK)))
		return;
	if (unlikely(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2))
		hkm_lock_wake(lock);
}

/*
 * A process that never started a thread needs no lock. libc clears the flag
 * before pthread_create() starts one, and nothing between a lock and its unlock
 * in this library starts one, so both see the same answer.
 */
static inline void hkm_lock(struct hkm_lock *lock)
{
	if (!__libc_single_threaded)
		hkm_lock_shared(lock);
}

/* hkm_trylock - false when it is taken; hkm_unlock_shared() ends it */
static inline bool hkm_trylock(struct hkm_lock *lock)
{
	unsigned int free = 0;

	return __atomic_compare_exchange_n(&lock->word, &free, 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) ||
	       hkm_is_in(HKM_IN_FORK);
}

static inline void hkm_unlock(struct hkm_lock *lock)
{
	if (!__libc_single_threaded)
		hkm_unlock_shared(lock);
}

#endif /* HKM_LOCK_H */
