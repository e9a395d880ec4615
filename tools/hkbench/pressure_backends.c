// SPDX-License-Identifier: MIT
/*
 * The ways to keep idle slots in the scenario `pressure`. All but the device's
 * are anonymous memory of one process in slots of 2 MiB:
 *
 *   keep       kept, whatever happens
 *   free-thp   MADV_FREE when a slot becomes idle; its contents tell what is left
 *   decay      a word for each slot; a thread drops what was idle for a second
 *   psi        a word; a thread waits for the kernel to report memory pressure,
 *              and then drops all that is idle: windows of 500 ms, which takes a
 *              privilege, of 2 s without one, and of 50 ms where the kernel
 *              (6.5) allows that to the privileged
 *   droppable  MAP_DROPPABLE (Linux 6.11): the kernel may drop any page at any
 *              time, of slots in use as well
 *   region     slots of the device; its words and nothing else
 *
 * The trigger is set as eager as it can be, 1 ms of stall in a window, to the
 * advantage of `psi`: a program that did this on a real machine would drop its
 * caches all day.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hakmem.h>

#include "arena.h"
#include "pressure.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif

#define NOBODY		65534

static void *slot_at(struct pr_owner *o, size_t slot)
{
	return o->base + slot * HB_HUGE;
}

static int open_thp(struct pr_owner *o)
{
	int err = hb_map_thp(&o->ctx, o->nr * HB_HUGE);

	o->base = o->ctx.block;
	return err;
}

/* ---- keep, free-thp, droppable: no state of their own ---- */

static void nothing_idle(struct pr_owner *o, size_t slot)
{
	(void)o;
	(void)slot;
}

static enum pr_reuse always_kept(struct pr_owner *o, size_t slot)
{
	(void)o;
	(void)slot;
	return PR_KEPT;
}

static enum pr_reuse look(struct pr_owner *o, size_t slot)
{
	(void)o;
	(void)slot;
	return PR_LOOK;
}

static void free_idle(struct pr_owner *o, size_t slot)
{
	hkm_sys_madvise_free(slot_at(o, slot), HB_HUGE);
}

static int open_droppable(struct pr_owner *o)
{
	void *p = hkm_sys_mmap(NULL, o->nr * HB_HUGE, PROT_READ | PROT_WRITE,
			       MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);

	if (HKM_SYS_FAILED(p))
		/* an older kernel does not know this type of mapping */
		return HKM_SYS_ERRNO(p) == EINVAL ? -EOPNOTSUPP :
						    -HKM_SYS_ERRNO(p);
	o->base = p;
	return 0;
}

/* ---- decay, psi: a word for each slot, and a thread that drops ---- */

enum { WORD_BUSY, WORD_IDLE, WORD_DROPPING, WORD_EMPTY };

#define WORD_STATE(w)	((w) & 3)
#define WORD_EPOCH(w)	((w) >> 2)

#define DECAY_TICK_NS	100000000ULL
#define DECAY_TICKS	10

static int open_words(struct pr_owner *o, void *(*thread)(void *))
{
	pthread_t t;
	void *p;
	int err = open_thp(o);

	if (err)
		return err;
	p = hkm_sys_mmap(NULL, o->nr * sizeof(*o->words),
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (HKM_SYS_FAILED(p))
		return -HKM_SYS_ERRNO(p);
	o->words = p;
	return -pthread_create(&t, NULL, thread, o);
}

static void words_idle(struct pr_owner *o, size_t slot)
{
	atomic_store_explicit(&o->words[slot],
			      atomic_load(&o->epoch) << 2 | WORD_IDLE,
			      memory_order_release);
}

static enum pr_reuse words_reuse(struct pr_owner *o, size_t slot)
{
	uint64_t word = atomic_load(&o->words[slot]);

	for (;;) {
		if (WORD_STATE(word) == WORD_DROPPING) {
			sched_yield();
			word = atomic_load(&o->words[slot]);
		} else if (atomic_compare_exchange_weak_explicit(
				&o->words[slot], &word, WORD_BUSY,
				memory_order_acquire, memory_order_relaxed)) {
			return WORD_STATE(word) == WORD_EMPTY ? PR_LOST :
								PR_KEPT;
		}
	}
}

/*
 * Drop what has been idle for @age ticks. Not what a stopped owner could drop
 * only when it ran again, and the need was over: that would look like help.
 */
static void drop_idle(struct pr_owner *o, uint64_t age)
{
	uint64_t now = atomic_load(&o->epoch);

	for (size_t i = o->nr_busy; i < o->nr; i++) {
		uint64_t word = atomic_load(&o->words[i]);

		if (atomic_load(&o->shm->over))
			return;
		if (WORD_STATE(word) != WORD_IDLE ||
		    now - WORD_EPOCH(word) < age ||
		    !atomic_compare_exchange_strong(&o->words[i], &word,
						    WORD_DROPPING))
			continue;
		hkm_sys_madvise_dontneed(slot_at(o, i), HB_HUGE);
		atomic_store(&o->words[i], WORD_EMPTY);
	}
}

static void *decay_thread(void *arg)
{
	struct pr_owner *o = arg;

	for (;;) {
		hb_sleep_ns(DECAY_TICK_NS);
		atomic_fetch_add(&o->epoch, 1);
		drop_idle(o, DECAY_TICKS);
	}
	return NULL;
}

static int open_decay(struct pr_owner *o)
{
	return open_words(o, decay_thread);
}

static void *psi_thread(void *arg)
{
	struct pr_owner *o = arg;
	struct pollfd pfd = { .fd = o->psi_fd, .events = POLLPRI };

	for (;;)
		if (poll(&pfd, 1, -1) == 1 && pfd.revents & POLLPRI)
			drop_idle(o, 0);
	return NULL;
}

static int open_psi(struct pr_owner *o, const char *trigger)
{
	o->psi_fd = open("/proc/pressure/memory", O_RDWR | O_CLOEXEC);
	if (o->psi_fd < 0)
		return -errno;
	/* with the terminating zero, as the kernel wants it */
	if (write(o->psi_fd, trigger, strlen(trigger) + 1) < 0)
		return -errno;
	return open_words(o, psi_thread);
}

static int open_psi_500ms(struct pr_owner *o)
{
	return open_psi(o, "some 1000 500000");
}

static int open_psi_50ms(struct pr_owner *o)
{
	int err = open_psi(o, "some 1000 50000");

	return err == -EINVAL ? -EOPNOTSUPP : err;
}

static int open_psi_2s(struct pr_owner *o)
{
	int err;

	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		return -errno;
	err = open_psi(o, "some 1000 2000000");
	/* before 6.5 nobody else may set a trigger */
	return err == -EPERM || err == -EACCES ? -EOPNOTSUPP : err;
}

/* ---- region ---- */

static int open_region(struct pr_owner *o)
{
	int err;

	o->ctx.size = o->ctx.len = o->nr * HB_HUGE;
	o->ctx.no_decay = true;
	err = hb_words_open(&o->ctx);
	if (err)
		return err;
	o->base = hb_words_get(&o->ctx);
	return o->base ? 0 : -errno;
}

static void region_idle(struct pr_owner *o, size_t slot)
{
	struct hb_arena *a = o->ctx.priv;

	hb_word_idle(&a->words[slot], hb_arena_epoch(a));
}

static enum pr_reuse region_reuse(struct pr_owner *o, size_t slot)
{
	int ret = hb_arena_reuse(o->ctx.priv, slot, 1);

	if (ret < 0) {
		errno = -ret;
		perror("hkbench: HANDOUT of a slot that was taken");
		_exit(1);
	}
	return ret ? PR_LOST : PR_KEPT;
}

const struct pr_backend pr_backends[] = {
	{ "keep", 0, open_thp, nothing_idle, always_kept },
	{ "free-thp", PR_DRAIN, open_thp, free_idle, look },
	{ "decay", 0, open_decay, words_idle, words_reuse },
	{ "psi", PR_PSI, open_psi_500ms, words_idle, words_reuse },
	{ "psi-50ms", PR_PSI, open_psi_50ms, words_idle, words_reuse },
	{ "psi-2s", PR_PSI, open_psi_2s, words_idle, words_reuse },
	{ "droppable", 0, open_droppable, nothing_idle, look },
	{ "region", PR_DEVICE | PR_DRAIN, open_region, region_idle,
	  region_reuse },
};

const size_t pr_nr_backends = sizeof(pr_backends) / sizeof(pr_backends[0]);
