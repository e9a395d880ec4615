// SPDX-License-Identifier: MIT
/*
 * The scenario `ring`: what hkm_whale_get() and hkm_whale_put() cost by
 * themselves. Blocks are only addresses here, which the ring never looks into.
 * Each measurement has a process of its own, because libc and the library may
 * take dearer paths for good once a second thread has been seen.
 */

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hakmem.h>

#include "hkbench.h"

#define BLOCK(i)	((void *)(HB_HUGE * (uintptr_t)((i) + 1)))
#define GETS		64		/* hits timed in a row */
#define PAIRS		4096
#define LOOPS		300	/* a fifth of it when quick */
#define FILL_BLOCKS	8

struct ring_shm {
	int err;
	uint64_t n;
	double cycles[LOOPS];
};

static int loops;

static void keep_block(void *ptr, size_t size, void *arg)
{
	(void)ptr;
	(void)size;
	(void)arg;
}

static int ring_init(size_t slots, enum hkm_order order)
{
	struct hkm_whale_config cfg = {
		.slots = slots,
		.order = order,
		.release = keep_block,
	};

	return hkm_whale_init(&cfg);
}

/* what reading the clock itself adds to a timed loop */
static uint64_t clock_cost(void)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		uint64_t t = hb_tsc();

		t = hb_tsc() - t;
		if (t < best)
			best = t;
	}
	return best;
}

/* hits only: as many blocks of one size as are asked for, then all put back */
static void time_gets(struct ring_shm *shm)
{
	uint64_t t, cost = clock_cost();
	void *got[GETS];

	shm->err = ring_init(GETS, HKM_HOT_FIRST);
	if (shm->err)
		return;
	for (size_t i = 0; i < GETS; i++)
		hkm_whale_put(BLOCK(i), HB_HUGE);
	for (int loop = -10; loop < loops; loop++) {
		t = hb_tsc();
		for (size_t i = 0; i < GETS; i++)
			got[i] = hkm_whale_get(HB_HUGE);
		t = hb_tsc() - t;
		for (size_t i = 0; i < GETS; i++) {
			if (!got[i]) {
				shm->err = -ENODATA;
				return;
			}
			hkm_whale_put(got[i], HB_HUGE);
		}
		if (loop >= 0)
			shm->cycles[shm->n++] = (double)(t - cost) / GETS;
	}
}

/* a full ring of @slots blocks in eight sizes; a pair of calls for each in turn */
static void time_pairs(struct ring_shm *shm, size_t slots, enum hkm_order order)
{
	uint64_t t, cost = clock_cost();

	shm->err = ring_init(slots, order);
	if (shm->err)
		return;
	for (size_t i = 0; i < slots; i++)
		hkm_whale_put(BLOCK(i), HB_HUGE * (i % 8 + 1));
	for (int loop = -10; loop < loops; loop++) {
		t = hb_tsc();
		for (size_t i = 0; i < PAIRS; i++) {
			size_t size = HB_HUGE * (i % 8 + 1);
			void *p = hkm_whale_get(size);

			if (hkm_whale_put(p, size)) {
				shm->err = -ENODATA;
				return;
			}
		}
		t = hb_tsc() - t;
		if (loop >= 0)
			shm->cycles[shm->n++] = (double)(t - cost) / PAIRS;
	}
}

/* get, memset, put with eight real blocks: the oldest block or the hottest */
static void time_fill(struct ring_shm *shm, enum hkm_order order)
{
	struct hb_ctx c = { 0 };
	uint64_t t;
	void *p;

	shm->err = ring_init(FILL_BLOCKS, order);
	for (size_t i = 0; i < FILL_BLOCKS && !shm->err; i++) {
		shm->err = hb_map_thp(&c, HB_HUGE);
		if (!shm->err) {
			hb_touch_block(c.block, HB_HUGE, HB_TOUCH_FULL);
			hkm_whale_put(c.block, HB_HUGE);
		}
	}
	if (shm->err)
		return;
	for (int loop = -10; loop < loops / 3; loop++) {
		t = hb_tsc();
		p = hkm_whale_get(HB_HUGE);
		hb_touch_block(p, HB_HUGE, HB_TOUCH_FULL);
		hkm_whale_put(p, HB_HUGE);
		t = hb_tsc() - t;
		if (loop >= 0)
			shm->cycles[shm->n++] = (double)t;
	}
}

static void *sleeper(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

enum what { GET_1, GET_2, PAIR_8, PAIR_4096, PAIR_8_FIFO, PAIR_4096_FIFO,
	    FILL_HOT, FILL_FIFO, WHAT_NR };

static const char *const figures[WHAT_NR] = {
	[GET_1] = "get, hit, one thread",
	[GET_2] = "get, hit, a second thread alive",
	[PAIR_8] = "get + put, 8 slots",
	[PAIR_4096] = "get + put, 4096 slots",
	[PAIR_8_FIFO] = "get + put, 8 slots, fifo",
	[PAIR_4096_FIFO] = "get + put, 4096 slots, fifo",
	[FILL_HOT] = "get + memset 2 MiB + put, hot first",
	[FILL_FIFO] = "get + memset 2 MiB + put, fifo",
};

static void measure(enum what what, struct ring_shm *shm)
{
	pthread_t t;

	switch (what) {
	case GET_2:
		shm->err = -pthread_create(&t, NULL, sleeper, NULL);
		if (shm->err)
			return;
		hb_sleep_ns(10000000);
		/* fall through */
	case GET_1:
		time_gets(shm);
		break;
	case PAIR_8:
	case PAIR_8_FIFO:
		time_pairs(shm, 8, what == PAIR_8 ? HKM_HOT_FIRST : HKM_FIFO);
		break;
	case PAIR_4096:
	case PAIR_4096_FIFO:
		time_pairs(shm, 4096,
			   what == PAIR_4096 ? HKM_HOT_FIRST : HKM_FIFO);
		break;
	case FILL_HOT:
	case FILL_FIFO:
		time_fill(shm, what == FILL_HOT ? HKM_HOT_FIRST : HKM_FIFO);
		break;
	case WHAT_NR:
		break;
	}
}

static int run_apart(enum what what, struct ring_shm *shm)
{
	pid_t pid, parent = getpid();
	int status = 0;

	memset(shm, 0, sizeof(*shm));
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			measure(what, shm);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && shm->n ? shm->err :
	       shm->err ? shm->err : -ECHILD;
}

int hb_run_ring(void)
{
	struct ring_shm *shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct hb_samples s[WHAT_NR];
	int err[WHAT_NR] = { 0 };

	if (shm == MAP_FAILED) {
		perror("hkbench: mmap");
		return 1;
	}
	loops = hb_opt.quick ? LOOPS / 5 : LOOPS;
	memset(s, 0, sizeof(s));
	/* three rounds, so that what is compared is measured close together */
	for (int round = 0; round < 3; round++) {
		for (int w = 0; w < WHAT_NR; w++) {
			err[w] = run_apart(w, shm);
			for (uint64_t i = 0; i < shm->n && !err[w]; i++)
				/* in hundredths: a hit is a few cycles */
				hb_samples_add(&s[w],
					       (uint64_t)(shm->cycles[i] * 100));
		}
		hb_progress("ring");
	}
	for (int w = 0; w < WHAT_NR; w++) {
		struct hb_result *r;
		double cycles = hb_percentile(&s[w], 50) / 100;

		if (!s[w].n) {
			hb_add_skip("ring", "whale", HB_HUGE, "%s: %s",
				    figures[w], strerror(-err[w]));
			continue;
		}
		r = hb_add_result("ring", "whale");
		strcpy(r->figure, figures[w]);
		r->size = HB_HUGE;
		r->touch = w >= FILL_HOT ? HB_TOUCH_FULL : HB_TOUCH_NONE;
		r->phase = HB_STEADY;
		r->threads = w == GET_2 ? 2 : 1;
		r->iterations = r->n = s[w].n;
		r->cycles = cycles;
		r->ns_p50 = cycles * hb_ns_per_cycle;
		r->ns_p99 = hb_percentile(&s[w], 99) / 100 * hb_ns_per_cycle;
		r->ns_mean = hb_mean(&s[w]) / 100 * hb_ns_per_cycle;
		hb_samples_free(&s[w]);
	}
	munmap(shm, sizeof(*shm));
	return 0;
}
