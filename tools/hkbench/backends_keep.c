// SPDX-License-Identifier: MIT
/*
 * The backends that keep blocks in user space: `decay`, what good allocators
 * ship, `whale`, the library's ring on anonymous memory, `anon-heap` and `region-heap`, the
 * library's heap on slots of the device.
 */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <hakmem.h>

#include "hkbench.h"

/* ---- decay: a word, and a thread that drops what was idle for a second ---- */

enum { DECAY_EMPTY, DECAY_BUSY, DECAY_IDLE, DECAY_DROPPING };

#define DECAY_TICK_NS	100000000L
#define DECAY_TICKS	10		/* one second */

struct decay {
	_Atomic uint64_t word;		/* state, and from bit 2 on the epoch */
	_Atomic uint64_t epoch;		/* ticks, written by the thread */
	sem_t stop;
	void *block;
	size_t len;
	pthread_t thread;
};

static void *decay_thread(void *arg)
{
	struct decay *d = arg;
	uint64_t word, epoch = 0;
	struct timespec t;

	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		t.tv_nsec += DECAY_TICK_NS;
		t.tv_sec += t.tv_nsec / 1000000000L;
		t.tv_nsec %= 1000000000L;
		if (!sem_clockwait(&d->stop, CLOCK_MONOTONIC, &t))
			return NULL;
		atomic_store(&d->epoch, ++epoch);
		word = atomic_load(&d->word);
		if ((word & 3) != DECAY_IDLE || epoch - (word >> 2) < DECAY_TICKS)
			continue;
		if (!atomic_compare_exchange_strong(&d->word, &word,
						    DECAY_DROPPING))
			continue;
		hkm_sys_madvise_dontneed(d->block, d->len);
		atomic_store(&d->word, DECAY_EMPTY);
	}
}

int hb_decay_open(struct hb_ctx *c)
{
	struct decay *d = calloc(1, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	err = hb_map_thp(c, c->len);
	if (err)
		goto free_decay;
	sem_init(&d->stop, 0, 0);
	d->block = c->block;
	d->len = c->len;
	err = -pthread_create(&d->thread, NULL, decay_thread, d);
	if (err)
		goto unmap_block;
	c->priv = d;
	return 0;

unmap_block:
	hkm_sys_munmap(c->map, c->map_len);
free_decay:
	free(d);
	return err;
}

void *hb_decay_get(struct hb_ctx *c)
{
	struct decay *d = c->priv;
	uint64_t word = atomic_load_explicit(&d->word, memory_order_relaxed);

	for (;;) {
		if ((word & 3) == DECAY_DROPPING) {
			sched_yield();
			word = atomic_load(&d->word);
		} else if (atomic_compare_exchange_weak_explicit(
				&d->word, &word, DECAY_BUSY,
				memory_order_acquire, memory_order_relaxed)) {
			return d->block;
		}
	}
}

void hb_decay_put(struct hb_ctx *c, void *p)
{
	struct decay *d = c->priv;
	uint64_t epoch = atomic_load_explicit(&d->epoch, memory_order_relaxed);

	(void)p;
	atomic_store_explicit(&d->word, epoch << 2 | DECAY_IDLE,
			      memory_order_release);
}

void hb_decay_close(struct hb_ctx *c)
{
	struct decay *d = c->priv;

	sem_post(&d->stop);
	pthread_join(d->thread, NULL);
	hkm_sys_munmap(c->map, c->map_len);
	free(d);
}

/* ---- whale: hkm_whale_get, or mmap on a miss; eviction unmaps ---- */

int hb_whale_open(struct hb_ctx *c)
{
	(void)c;
	return hkm_whale_init(NULL);
}

/* one branch where nothing is counted */
#define TIMED(call, expr)						\
	do {								\
		if (__builtin_expect(hb_counting != NULL, 0)) {		\
			uint64_t t_ = hb_tsc();				\
			expr;						\
			hb_counting->cycles[call] += hb_tsc() - t_;	\
			hb_counting->n[call]++;				\
		} else {						\
			expr;						\
		}							\
	} while (0)

void *hb_whale_get(struct hb_ctx *c)
{
	void *p;

	TIMED(HB_CALL_WHALE_GET, p = hkm_whale_get(c->size));
	if (p)
		return p;
	p = hkm_sys_mmap(NULL, c->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (HKM_SYS_FAILED(p)) {
		errno = HKM_SYS_ERRNO(p);
		return NULL;
	}
	return p;
}

void hb_whale_put(struct hb_ctx *c, void *p)
{
	int err;

	TIMED(HB_CALL_WHALE_PUT, err = hkm_whale_put(p, c->size));
	if (err)
		hkm_sys_munmap(p, c->size);
}

void hb_whale_close(struct hb_ctx *c)
{
	(void)c;
	hkm_whale_shutdown();
}

static void ring_counters(const struct hkm_whale_stats *st,
			  struct hb_counters *now)
{
	now->hits = st->hits;
	now->misses = st->misses;
	now->puts = st->puts;
	now->evictions = st->evictions;
}

void hb_whale_counters(struct hb_ctx *c, struct hb_counters *now)
{
	struct hkm_whale_stats st;

	(void)c;
	hkm_whale_get_stats(&st);
	ring_counters(&st, now);
}

/*
 * ---- region-heap, anon-heap: the library as its users call it. hkm_malloc() and
 * hkm_free() go through the whale cache and the slot words; nothing is short-cut.
 */

int hb_heap_open(struct hb_ctx *c)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };

	(void)c;
	return hkm_init(&cfg);
}

int hb_anon_heap_open(struct hb_ctx *c)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_ANON };

	(void)c;
	return hkm_init(&cfg);
}

void *hb_heap_get(struct hb_ctx *c)
{
	return hkm_malloc(c->size);
}

void hb_heap_put(struct hb_ctx *c, void *p)
{
	(void)c;
	hkm_free(p);
}

void hb_heap_close(struct hb_ctx *c)
{
	(void)c;
	hkm_shutdown();
}

void hb_heap_counters(struct hb_ctx *c, struct hb_counters *now)
{
	struct hkm_heap_stats st;

	(void)c;
	hkm_stats(&st);
	ring_counters(&st.ring, now);
}
