// SPDX-License-Identifier: MIT
/*
 * A thread that gives idle anonymous memory back while the program does nothing.
 *
 * There is none unless HAKMEM_TRIM or hkm_set_trim() asks for it: a second thread
 * makes every lock of the process a real one, libc's too. And there is none while
 * nothing is idle: it is started by a free and ends when it finds nothing to wait
 * for.
 *
 *   thread  sleeps until the oldest idle run is due, and gives back what is
 *   psi     sleeps until the kernel reports that somebody waits for memory, and
 *           gives back all that is idle, then the program is asked (low.c);
 *           looks every second whether anything is idle still
 *
 * `running` is the hand-over between the two, and only exchanged. A free puts its
 * run and then writes that a thread runs; the thread writes that it does not and
 * then looks for runs. The later of the two reads what the other wrote: the free
 * that there is no thread, so that it starts one, or the thread that there was a
 * free, whose run it then sees (acquire and release).
 *
 * The thread has every signal blocked, so no handler of the program runs on its
 * small stack. A forked child has no such thread and begins anew.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "cache.h"
#include "capacity.h"
#include "env.h"
#include "lock.h"
#include "low.h"
#include "probes.h"
#include "source.h"
#include "sys.h"
#include "trimmer.h"

/* Memory had to be waited for during so many us of a window of so many. */
#define TRIGGER_ROOT "some 5000 500000"	  /* for CAP_SYS_RESOURCE */
#define TRIGGER_ANY  "some 20000 2000000" /* since Linux 6.5 */

#define LOOK_MS 1000

/* The coarse clock, by which runs are stamped, may be late by a tick of 10 ms. */
#define LATE_MS 11

#define STACK_SIZE ((size_t)128 << 10)

/* Atomic, each for itself. */
enum hkm_trim hkm_trimmer_how;
static uint64_t decay_ms;
static unsigned int changes;	/* of the two; waited for */
static bool running;

static void in_child(void)
{
	write_once(&running, false);
}

/* Nobody takes it; it is there for fork(). */
static struct hkm_lock forks = { .in_child = in_child };

__attribute__((constructor)) static void register_forks(void)
{
	hkm_lock_register(&forks);
}

static void give_back(uint64_t before_ms)
{
	struct hkm_backend *be;
	struct hkm_run run;

	while (hkm_cache_pop(before_ms, hkm_source_border, false, SIZE_MAX,
			     &run)) {
		HKM_PROBE2(trim, hkm_slot_address(run.first),
			   run.nr << HKM_SLOT_SHIFT);
		hkm_capacity_cold(run.nr);
		be = hkm_source_of(run.first);
		be->ops->evict(be, hkm_slot_address(run.first), run.nr);
	}
}

/* ---- waiting ------------------------------------------------------------------ */

/* True: there is more to wait for. @seen: changes, before how it is was read. */
static bool trim_old(unsigned int seen)
{
	uint64_t decay = read_once(&decay_ms), now = hkm_cache_now_ms(), oldest;

	if (decay == UINT64_MAX)
		return false;
	give_back(now < decay ? 0 : now - decay);
	if (!hkm_cache_oldest(hkm_source_border, &oldest))
		return false;
	oldest += decay + LATE_MS;
	hkm_sys_futex_wait_ms(&changes, seen, oldest > now ? oldest - now : 1);
	return true;
}

/**
 * struct trigger - the thread's descriptor for memory pressure
 * @fd: or -1
 * @file: what it was of when it was opened
 *
 * It may be lost: a program that closes all that it does not know has no way to
 * know this one. The number may be a file of the program's then, which is not the
 * thread's to wait for nor to close. So its file is looked at before either; what
 * happens between the two calls remains.
 */
struct trigger {
	int fd;
	struct hkm_sys_file file;
};

/* -EPERM and the like: there is no such trigger for this process. */
static int open_trigger(struct trigger *t)
{
	int fd = hkm_sys_open_trigger(TRIGGER_ROOT), err;

	if (fd == -EPERM || fd == -EINVAL || fd == -EACCES)
		fd = hkm_sys_open_trigger(TRIGGER_ANY);
	if (fd < 0)
		return fd;
	err = hkm_sys_which_file(fd, &t->file);
	if (err) {
		hkm_sys_close(fd);
		return err;
	}
	t->fd = fd;
	return 0;
}

static bool is_lost(const struct trigger *t)
{
	struct hkm_sys_file now;

	return hkm_sys_which_file(t->fd, &now) || now.dev != t->file.dev ||
	       now.ino != t->file.ino;
}

static int wait_for_pressure(struct trigger *t)
{
	int err = t->fd < 0 ? open_trigger(t) : 0;

	if (err)
		return err;
	err = is_lost(t) ? -EBADF : hkm_sys_wait_trigger(t->fd, LOOK_MS);
	if (err == -EBADF)
		t->fd = -1;
	return err;
}

static void close_trigger(const struct trigger *t)
{
	if (t->fd >= 0 && !is_lost(t))
		hkm_sys_close(t->fd);
}

static bool trim_on_pressure(struct trigger *t)
{
	uint64_t oldest;
	int err;

	if (!hkm_cache_oldest(hkm_source_border, &oldest))
		return false;
	err = wait_for_pressure(t);
	if (err > 0) {
		give_back(UINT64_MAX);
		hkm_low_memory(0);
	}
	if (err >= 0)
		return true;
	if (hkm_verbose())
		hkm_message("HAKMEM_TRIM=psi: " HKM_PRESSURE ": %s; using thread",
			    strerrordesc_np(-err));
	write_once(&hkm_trimmer_how, HKM_TRIM_THREAD);
	return true;
}

static bool wait_and_trim(struct trigger *t)
{
	unsigned int seen = load_acquire(&changes);

	switch (read_once(&hkm_trimmer_how)) {
	case HKM_TRIM_THREAD:
		return trim_old(seen);
	case HKM_TRIM_PSI:
		return trim_on_pressure(t);
	default:
		return false;
	}
}

/* ---- the thread --------------------------------------------------------------- */

static bool set_running(bool is)
{
	return __atomic_exchange_n(&running, is, __ATOMIC_ACQ_REL);
}

static bool is_wanted(void)
{
	enum hkm_trim how = read_once(&hkm_trimmer_how);

	return how == HKM_TRIM_PSI || (how == HKM_TRIM_THREAD &&
				       read_once(&decay_ms) != UINT64_MAX);
}

/* Is there something to do, and nobody who does it? Then it is the caller's. */
static bool claim(void)
{
	uint64_t oldest;

	while (is_wanted() && !set_running(true)) {
		if (hkm_cache_oldest(hkm_source_border, &oldest))
			return true;
		set_running(false);
		if (!hkm_cache_oldest(hkm_source_border, &oldest))
			break;
	}
	return false;
}

static void *trim(void *unused)
{
	struct trigger t = { .fd = -1 };

	(void)unused;
	do {
		while (wait_and_trim(&t))
			;
		set_running(false);
	} while (claim());
	close_trigger(&t);
	return NULL;
}

/*
 * A stack has the program's thread-local data in it, too. Where that leaves too
 * little of a small one it is EINVAL, and the thread has one of the usual size.
 */
static int create(pthread_attr_t *attr)
{
	pthread_t thread;
	size_t usual;
	int err;

	pthread_attr_getstacksize(attr, &usual);
	pthread_attr_setstacksize(attr, STACK_SIZE);
	err = pthread_create(&thread, attr, trim, NULL);
	if (err != EINVAL)
		return err;
	pthread_attr_setstacksize(attr, usual);
	return pthread_create(&thread, attr, trim, NULL);
}

static int start_thread(void)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err;

	sigfillset(&all);
	err = pthread_attr_init(&attr);
	if (err)
		return err;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	err = create(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

/* errno is the program's, whose free() this is. */
cold void hkm_trimmer_start(void)
{
	int err, saved = errno;

	if (!claim())
		return;
	err = start_thread();
	if (err) {
		write_once(&hkm_trimmer_how, HKM_TRIM_OFF);
		set_running(false);
		if (hkm_verbose())
			hkm_message("HAKMEM_TRIM: no thread: %s; using off",
				    strerrordesc_np(err));
	}
	errno = saved;
}

void hkm_trimmer_set(enum hkm_trim how, uint64_t decay)
{
	write_once(&hkm_trimmer_how, how);
	write_once(&decay_ms, decay);
	/* Release: pairs with the acquire in wait_and_trim(). */
	__atomic_fetch_add(&changes, 1, __ATOMIC_RELEASE);
	if (read_once(&running))
		hkm_sys_futex_wake(&changes, INT_MAX);
	hkm_trimmer_notice();
}
