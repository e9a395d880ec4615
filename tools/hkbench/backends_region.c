// SPDX-License-Identifier: MIT
/*
 * The backends on the device's own interface, without the library's heap, so
 * that the steps of opening it can be timed one by one. `region-ioctl` hands a
 * run out and drops it each time, `region-fresh` keeps its slots and has their
 * memory exchanged for zeroed memory, and `region` keeps them and changes their
 * words only: the same steps as `decay` takes with its word, so that the two
 * compare the mechanisms. What the library adds around them is `region-heap`.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hakmem.h>
#include <linux/hakmem_region.h>

#include "arena.h"
#include "hkbench.h"

/* map the arena at a multiple of 2 MiB, as the device demands */
static int map_arena(struct hb_arena *a, uint64_t offset)
{
	uintptr_t at;
	void *window, *p;

	window = hkm_sys_mmap(NULL, a->size + HB_HUGE, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (HKM_SYS_FAILED(window))
		return -HKM_SYS_ERRNO(window);
	at = ((uintptr_t)window + HB_HUGE - 1) & ~(HB_HUGE - 1);
	p = hkm_sys_mmap((void *)at, a->size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, a->fd, offset);
	if (HKM_SYS_FAILED(p))
		return -HKM_SYS_ERRNO(p);
	a->base = p;
	return 0;
}

static int arena_open(struct hb_ctx *c)
{
	struct hkr_setup setup = { .size = sizeof(setup) };
	struct hb_arena *a = calloc(1, sizeof(*a));
	uint64_t t[4];
	int err;

	if (!a)
		return -ENOMEM;
	a->nr = (uint32_t)(c->len / HB_HUGE);
	t[0] = hb_tsc();
	a->fd = hkm_sys_region_open();
	t[1] = hb_tsc();
	if (a->fd < 0) {
		err = a->fd;
		goto free_arena;
	}
	setup.nr_slots = a->nr;
	if (c->no_decay) {
		setup.flags = HKR_SETUP_DECAY;
		setup.idle_decay_ms = -1;
	}
	err = hkm_sys_region_setup(a->fd, &setup);
	t[2] = hb_tsc();
	if (err < 0)
		goto close_fd;
	a->size = setup.arena_size;
	err = map_arena(a, setup.arena_offset);
	t[3] = hb_tsc();
	if (err)
		goto close_fd;
	c->open_ns = (uint64_t)((double)(t[1] - t[0]) * hb_ns_per_cycle);
	c->setup_ns = (uint64_t)((double)(t[2] - t[1]) * hb_ns_per_cycle);
	c->mmap_ns = (uint64_t)((double)(t[3] - t[2]) * hb_ns_per_cycle);
	a->control_size = setup.control_size;
	c->priv = a;
	return 0;

close_fd:
	close(a->fd);
free_arena:
	free(a);
	return err;
}

/* 0 or -errno; @req gets the first slot */
static int handout_req(struct hb_arena *a, struct hkr_handout_req *req)
{
	struct hkr_handout call = {
		.size = sizeof(call),
		.nr = 1,
		.reqs = (uintptr_t)req,
	};
	int ret = hkm_sys_region_handout(a->fd, &call);

	return ret < 0 ? ret : req->result;
}

int hb_arena_handout_at(struct hb_arena *a, uint64_t first, uint32_t nr)
{
	struct hkr_handout_req req = {
		.nr_slots = nr,
		.flags = HKR_HANDOUT_COMMIT | HKR_HANDOUT_AT,
		.node = HKR_NODE_ANY,
		.first = first,
	};

	return handout_req(a, &req);
}

static int handout(struct hb_arena *a)
{
	struct hkr_handout_req req = {
		.nr_slots = a->nr,
		.flags = HKR_HANDOUT_COMMIT,
		.node = HKR_NODE_ANY,
	};
	int err = handout_req(a, &req);

	if (!err)
		a->first = req.first;
	return err;
}

static int recycle(struct hb_arena *a, uint32_t mode)
{
	struct hkr_range range = { .first = a->first, .nr_slots = a->nr };
	struct hkr_recycle call = {
		.size = sizeof(call),
		.mode = mode,
		.nr = 1,
		.ranges = (uintptr_t)&range,
	};
	int ret = hkm_sys_region_recycle(a->fd, &call);

	return ret < 0 ? ret : range.result;
}

/* an operation that silently did nothing would look very fast */
static void must(int err, const char *what)
{
	if (!err)
		return;
	errno = -err;
	perror(what);
	_exit(1);
}

int hb_ioctl_open(struct hb_ctx *c)
{
	return arena_open(c);
}

void *hb_ioctl_get(struct hb_ctx *c)
{
	struct hb_arena *a = c->priv;
	int err = handout(a);

	errno = -err;
	return err ? NULL : a->base + a->first * HB_HUGE;
}

void hb_ioctl_put(struct hb_ctx *c, void *p)
{
	(void)p;
	must(recycle(c->priv, HKR_RECYCLE_DROP), "hkbench: RECYCLE DROP");
}

int hb_fresh_open(struct hb_ctx *c)
{
	int err = arena_open(c);

	if (err)
		return err;
	err = handout(c->priv);
	if (err)
		hb_arena_close(c);
	return err;
}

void *hb_fresh_get(struct hb_ctx *c)
{
	struct hb_arena *a = c->priv;

	return a->base + a->first * HB_HUGE;
}

void hb_fresh_put(struct hb_ctx *c, void *p)
{
	(void)p;
	must(recycle(c->priv, HKR_RECYCLE_FRESH), "hkbench: RECYCLE FRESH");
}

static int map_words(struct hb_arena *a)
{
	void *p = hkm_sys_mmap(NULL, a->control_size, PROT_READ | PROT_WRITE,
			       MAP_SHARED, a->fd, HKR_OFF_CONTROL);

	if (HKM_SYS_FAILED(p))
		return -HKM_SYS_ERRNO(p);
	a->control = p;
	a->words = (uint64_t *)((char *)p + a->control->words_offset);
	return 0;
}

int hb_words_open(struct hb_ctx *c)
{
	int err = arena_open(c);

	if (err)
		return err;
	err = map_words(c->priv);
	if (err)
		hb_arena_close(c);
	return err;
}

/* how many slots of the run are not in use, and cannot be by their words */
static uint32_t lost(struct hb_arena *a, uint64_t first, uint32_t nr)
{
	uint32_t n = 0;

	for (uint64_t i = first; i < first + nr; i++)
		n += HKR_WORD_STATE(__atomic_load_n(&a->words[i],
				__ATOMIC_RELAXED)) != HKR_WORD_BUSY &&
		     !hb_word_reuse(&a->words[i]);
	return n;
}

int hb_arena_reuse(struct hb_arena *a, uint64_t first, uint32_t nr)
{
	int err, some_new = 0;

	while (lost(a, first, nr)) {
		err = hb_arena_handout_at(a, first, nr);
		if (err && err != -EEXIST && err != -EBUSY)
			return err;
		some_new |= !err;
	}
	return some_new;
}

/* the kernel took some of it, or there is none yet */
static void *words_miss(struct hb_ctx *c)
{
	struct hb_arena *a = c->priv;
	int err = hb_arena_reuse(a, 0, a->nr);

	a->misses++;
	errno = err < 0 ? -err : 0;
	return err < 0 ? NULL : a->base;
}

/* every word IDLE -> BUSY; a word that is not idle was taken back */
void *hb_words_get(struct hb_ctx *c)
{
	struct hb_arena *a = c->priv;
	uint32_t i, taken = 0;

	for (i = 0; i < a->nr; i++)
		taken += !hb_word_reuse(&a->words[i]);
	if (__builtin_expect(taken, 0))
		return words_miss(c);
	a->hits++;
	return a->base;
}

void hb_words_put(struct hb_ctx *c, void *p)
{
	struct hb_arena *a = c->priv;
	uint64_t epoch = hb_arena_epoch(a);
	uint32_t i;

	(void)p;
	for (i = 0; i < a->nr; i++)
		hb_word_idle(&a->words[i], epoch);
	a->puts++;
}

void hb_words_counters(struct hb_ctx *c, struct hb_counters *now)
{
	struct hb_arena *a = c->priv;

	now->hits = a->hits;
	now->misses = a->misses;
	now->puts = a->puts;
	now->evictions = 0;
}

void hb_arena_close(struct hb_ctx *c)
{
	struct hb_arena *a = c->priv;

	hkm_sys_munmap(a->base, a->size);
	if (a->control)
		hkm_sys_munmap(a->control, a->control_size);
	close(a->fd);
	free(a);
}

void hb_arena_counters(struct hb_ctx *c, struct hb_counters *now)
{
	struct hb_arena *a = c->priv;
	struct hkr_stats st = { .size = sizeof(st) };

	if (hkm_sys_region_stats(a->fd, &st) < 0)
		return;
	now->served_clean = st.served_clean;
	now->served = st.served_clean + st.served_dirty + st.served_new +
		      st.served_idle;
	now->zeroed_inline = st.bytes_zeroed_inline;
}
