// SPDX-License-Identifier: MIT
/*
 * A mutex of one word, and what fork() does to all of them.
 *
 * The mutex is the three-state futex: a locked compare-and-swap to take it, a
 * locked exchange to release it. The exchange is what makes it sound without a
 * story: it reads "somebody waits" and frees the lock in one step, so a waiter
 * either sees the lock free or is seen. (A plain store would save one locked
 * instruction, 12 cycles of 24 here, and leave a window in which a waiter that
 * has announced itself and not yet slept is missed.)
 *
 * The owner is never preempted into a spinning waiter for ever: waiters spin
 * for about as long as the longest critical section and then sleep in the
 * kernel, so a real-time thread that meets a lock held by a thread of lower
 * priority yields the processor to it. Priority is not inherited.
 *
 * fork() in one thread while another holds a lock would leave the child with a
 * lock nobody releases and a half-changed table behind it. The handlers here
 * take every registered lock before the fork. This needs fork(); a child made
 * with _Fork() or clone() in a process with threads must not use the library,
 * just as it must not use malloc().
 *
 * Handlers that were installed before ours, as those of a library that was
 * initialized first, are called while all is taken: later than ours before the
 * fork, and earlier after it. They may call malloc(), where libc's takes its locks
 * after all handlers. So from here to there the thread that forks passes all locks
 * as their owner, which it is: HKM_IN_FORK.
 */
#include <limits.h>
#include <pthread.h>

#include "lock.h"
#include "sys.h"

#define SPINS 100

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

cold void hkm_lock_wait(struct hkm_lock *lock)
{
	if (hkm_is_in(HKM_IN_FORK))
		return;
	for (int i = 0; i < SPINS; i++) {
		unsigned int free = 0;

		if (!read_once(&lock->word) &&
		    __atomic_compare_exchange_n(&lock->word, &free, 1, false,
						__ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return;
		relax();
	}

	/*
	 * 2 is written before sleeping and kept when the lock is won, because
	 * others may sleep still: at worst one wake-up that nobody needed.
	 */
	while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE))
		hkm_sys_futex_wait(&lock->word, 2);
}

cold void hkm_lock_wake(struct hkm_lock *lock)
{
	hkm_sys_futex_wake(&lock->word, 1);
}

struct hkm_lock hkm_setup_lock;

static struct hkm_lock registry;
static struct hkm_lock *registered;	/* protected by registry */

/*
 * The handlers take the locks for real even where the process has one thread:
 * a handler of somebody else may start a thread between them.
 */
static void before_fork(void)
{
	hkm_lock_shared(&hkm_setup_lock);
	hkm_lock_shared(&registry);
	for (struct hkm_lock *l = registered; l; l = l->next)
		hkm_lock_shared(l);
	hkm_enter(HKM_IN_FORK);
}

static void after_fork_parent(void)
{
	hkm_exit(HKM_IN_FORK);
	for (struct hkm_lock *l = registered; l; l = l->next)
		hkm_unlock_shared(l);
	hkm_unlock_shared(&registry);
	hkm_unlock_shared(&hkm_setup_lock);
}

/* A thread that somebody else's handler has started may wait for it already. */
static void release_in_child(struct hkm_lock *lock)
{
	if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
		hkm_sys_futex_wake(&lock->word, INT_MAX);
}

static void after_fork_child(void)
{
	hkm_exit(HKM_IN_FORK);
	for (struct hkm_lock *l = registered; l; l = l->next) {
		if (l->in_child)
			l->in_child();
		release_in_child(l);
	}
	release_in_child(&registry);
	release_in_child(&hkm_setup_lock);
}

/*
 * At load, before there can be a thread that holds a lock: a fork() that has
 * begun when the handlers are installed would not call them. Should libc not
 * have the memory for it, a child of fork() is as one of _Fork().
 */
__attribute__((constructor)) static void install_handlers(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* Who forks owns them all, a new one too; its handlers release it. */
void hkm_lock_register(struct hkm_lock *lock)
{
	hkm_lock(&registry);
	if (!lock->registered) {
		if (hkm_is_in(HKM_IN_FORK))
			write_once(&lock->word, 1);
		lock->registered = true;
		lock->next = registered;
		registered = lock;
	}
	hkm_unlock(&registry);
}

void hkm_lock_unregister(struct hkm_lock *lock)
{
	struct hkm_lock **link;

	hkm_lock(&registry);
	for (link = &registered; *link; link = &(*link)->next) {
		if (*link == lock) {
			*link = lock->next;
			lock->registered = false;
			break;
		}
	}
	hkm_unlock(&registry);
}
