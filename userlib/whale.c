// SPDX-License-Identifier: MIT
/*
 * Whales: runs of slots, live at the program or idle in the cache.
 *
 * A live whale's length is kept in an array beside its source, one number for
 * each slot of which the first slot's counts: never in the block, where an
 * overrun of the program would reach it. The number says LIVE from the moment
 * the program gets the whale to the moment it frees it, and changes by
 * compare-and-swap, so of two frees of one whale exactly one succeeds.
 *
 * "Is it ours" is one subtraction and one comparison for each source. A source
 * once open stays so for the rest of the process: its addresses mean "ours"
 * for ever, and nobody has to be asked whether a pointer is still out there.
 *
 * An idle run in the cache is a hint and no more. On the device the kernel may
 * have taken it back, and another thread may hold the same slots by now; so
 * nothing here is changed for a cached run before its source has confirmed it
 * (reuse), and a run that leaves the cache is evicted, not dropped. A cached
 * run that was lost is counted and the next one tried.
 *
 * What cannot fail: free. What does not fit the device gets anonymous memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "compiler.h"
#include "env.h"
#include "ring.h"
#include "sys.h"
#include "whale.h"

#define RUN_LIVE  (1U << 31)
#define RUN_FREED (1U << 30)
#define RUN_SLOTS (RUN_FREED - 1)

/**
 * struct source - where whales come from
 * @be, @base, @runs: fixed once @size is not 0
 * @size: of the window, or 0; stored last, with release
 */
struct source {
	struct hkm_backend *be;
	uintptr_t base;
	uint32_t *runs;
	size_t size;
};

enum { REGION, ANON, NR_SOURCES };

static struct source sources[NR_SOURCES];
static struct hkm_ring cache = HKM_RING_INIT;

/* Atomic, each for itself. */
static enum hkm_policy policy;	/* of the anonymous source when it is opened */
static bool is_open;
static bool use_region;
static const char *last_backend = "none";
static uint64_t live_bytes;
static uint64_t lost;

__attribute__((constructor)) static void register_cache(void)
{
	hkm_ring_register(&cache);
}

/* Acquire: pairs with the release in open_source(); the other fields follow. */
static inline struct source *source_of(const void *ptr)
{
	for (int i = 0; i < NR_SOURCES; i++) {
		struct source *s = &sources[i];
		size_t size = load_acquire(&s->size);

		if ((uintptr_t)ptr - s->base < size)
			return s;
	}
	return NULL;
}

static inline uint32_t *run_of(const struct source *s, const void *ptr)
{
	return &s->runs[((uintptr_t)ptr - s->base) >> HKM_SLOT_SHIFT];
}

/* ---- allocation ---------------------------------------------------------- */

static void *make_live(struct source *s, void *run, size_t nr)
{
	write_once(run_of(s, run), RUN_LIVE | (uint32_t)nr);
	__atomic_fetch_add(&live_bytes, nr << HKM_SLOT_SHIFT, __ATOMIC_RELAXED);
	return run;
}

static void *alloc_cached(size_t nr)
{
	void *run;

	while ((run = hkm_ring_get(&cache, nr << HKM_SLOT_SHIFT))) {
		struct source *s = source_of(run);

		if (likely(!s->be->ops->reuse(s->be, run, nr)))
			return make_live(s, run, nr);
		__atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *alloc_from(struct source *s, size_t nr, int *err)
{
	void *run;

	*err = s->be->ops->commit(s->be, nr, &run, NULL);
	if (*err)
		return NULL;
	write_once(&last_backend, s->be->ops->name);
	return make_live(s, run, nr);
}

/* Limits and shortages pass; any other error will be there next time, too. */
static void tell_device_error(int err)
{
	static bool told;

	if (err == -ENOMEM || err == -EDQUOT || err == -ENOSPC || err == -EPERM)
		return;
	if (__atomic_exchange_n(&told, true, __ATOMIC_RELAXED) || !hkm_verbose())
		return;
	hkm_message(HKM_DEVICE ": lost (%s); new whales are anonymous memory, live ones are not affected",
		    strerrordesc_np(-err));
}

static int open_source(struct source *s, struct hkm_backend *be);

/* The anonymous source is opened when it is needed first. */
static struct source *anon_source(void)
{
	struct source *s = &sources[ANON];
	struct hkm_backend *be;

	if (likely(load_acquire(&s->size)))
		return s;

	hkm_lock(&hkm_setup_lock);
	if (!s->size && !hkm_anon_open(0, read_once(&policy), true, &be))
		open_source(s, be);
	hkm_unlock(&hkm_setup_lock);
	return load_acquire(&s->size) ? s : NULL;
}

static void *alloc_new(size_t nr)
{
	struct source *anon;
	void *run;
	int err;

	if (read_once(&use_region)) {
		run = alloc_from(&sources[REGION], nr, &err);
		if (run)
			return run;
		tell_device_error(err);
	}
	anon = anon_source();
	return anon ? alloc_from(anon, nr, &err) : NULL;
}

void *hkm_whale_alloc(size_t size)
{
	size_t nr = (size + HKM_SLOT_SIZE - 1) >> HKM_SLOT_SHIFT;
	void *run;

	if (nr > RUN_SLOTS)
		return NULL;
	run = alloc_cached(nr);
	return likely(run) ? run : alloc_new(nr);
}

/* ---- free ---------------------------------------------------------------- */

static cold __attribute__((noreturn)) void wild_free(const void *ptr,
						     uint32_t run)
{
	if (run & RUN_FREED)
		hkm_message("hkm_free(%p): double free", ptr);
	else
		hkm_message("hkm_free(%p): not the start of a block", ptr);
	abort();
}

/* LIVE -> FREED; the number of slots. Relaxed: idle() is what publishes. */
static size_t take_back(const struct source *s, void *ptr)
{
	uint32_t *run = run_of(s, ptr);
	uint32_t old = read_once(run);

	if (unlikely(((uintptr_t)ptr - s->base) % HKM_SLOT_SIZE))
		wild_free(ptr, 0);
	if (unlikely(!(old & RUN_LIVE)))
		wild_free(ptr, old);
	if (unlikely(!__atomic_compare_exchange_n(run, &old,
						  RUN_FREED | (old & RUN_SLOTS),
						  false, __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED)))
		wild_free(ptr, old);
	return old & RUN_SLOTS;
}

bool hkm_whale_free(void *ptr)
{
	struct source *s = source_of(ptr);
	struct hkm_backend *be;
	size_t nr, size;

	if (!s)
		return false;
	nr = take_back(s, ptr);
	size = nr << HKM_SLOT_SHIFT;
	__atomic_fetch_sub(&live_bytes, size, __ATOMIC_RELAXED);

	be = s->be;
	be->ops->idle(be, ptr, nr);
	if (unlikely(hkm_ring_put(&cache, ptr, size)))
		be->ops->evict(be, ptr, nr);	/* the cache is closed */
	return true;
}

static void evict_run(void *run, size_t size, void *arg)
{
	struct hkm_backend *be = source_of(run)->be;

	(void)arg;
	be->ops->evict(be, run, size >> HKM_SLOT_SHIFT);
}

/* ---- sources ------------------------------------------------------------- */

static int open_source(struct source *s, struct hkm_backend *be)
{
	uint32_t *runs = hkm_sys_table(be->nr_slots * sizeof(*runs));

	if (!runs) {
		be->ops->close(be);
		return -ENOMEM;
	}
	s->be = be;
	s->base = (uintptr_t)be->base;
	s->runs = runs;
	/* Release: pairs with the acquire in source_of(). */
	store_release(&s->size, be->nr_slots << HKM_SLOT_SHIFT);
	return 0;
}

static const char *device_advice(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return "load the module with modprobe hakmem_region";
	case -EACCES:
	case -EPERM:
		return "add this user to the group hakmem";
	case -EPROTONOSUPPORT:
		return "module and library are of different versions: update both";
	case -EOPNOTSUPP:
		return "huge pages are disabled for this process by prctl()";
	default:
		return "see the kernel's log";
	}
}

static int open_region(enum hkm_source source)
{
	static bool told;
	struct hkm_backend *be;
	int err;

	if (sources[REGION].size)
		return 0;
	err = hkm_region_open(0, &be);
	if (!err)
		err = open_source(&sources[REGION], be);
	if (!err || source == HKM_SOURCE_REGION)
		return err;

	if (!told && hkm_verbose())
		hkm_message(HKM_DEVICE ": %s; using anonymous memory, which the kernel cannot take back while it is idle: %s",
			    strerrordesc_np(-err), device_advice(err));
	told = true;
	return err;
}

int hkm_whale_open(const struct hkm_config *cfg)
{
	const struct hkm_whale_config ring_cfg = {
		.slots = cfg->slots,
		.order = cfg->order,
		.release = evict_run,
	};
	bool region = false;
	int err;

	if (is_open)
		return -EALREADY;
	if (cfg->source != HKM_SOURCE_ANON) {
		err = open_region(cfg->source);
		if (err && cfg->source == HKM_SOURCE_REGION)
			return err;
		region = !err;
	}
	err = hkm_ring_setup(&cache, &ring_cfg);
	if (err)
		return err;

	write_once(&use_region, region);
	write_once(&policy, cfg->policy);
	if (sources[ANON].size)
		hkm_anon_set_policy(sources[ANON].be, cfg->policy);
	/* Release: pairs with the acquire in hkm_whale_is_open(). */
	store_release(&is_open, true);
	return 0;
}

void hkm_whale_close(void)
{
	store_release(&is_open, false);
	hkm_ring_drain(&cache);
}

bool hkm_whale_is_open(void)
{
	return load_acquire(&is_open);
}

void hkm_whale_heap_stats(struct hkm_heap_stats *st)
{
	hkm_ring_get_stats(&cache, &st->ring, &st->idle_bytes);
	st->backend = read_once(&last_backend);
	st->live_bytes = read_once(&live_bytes);
	st->lost = read_once(&lost);
}
