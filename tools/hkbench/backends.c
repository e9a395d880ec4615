// SPDX-License-Identifier: MIT
/*
 * The backends that need no more than Linux: the table of all of them, and the
 * ones that are a few lines each.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <hakmem.h>

#include "hkbench.h"

static void read_block(const void *p, size_t size)
{
	const uint64_t *v = p;
	uint64_t sum = 0;

	for (size_t i = 0; i < size / sizeof(*v); i++)
		sum += v[i];
	/* somebody may want to know: keep the compiler from skipping it */
	__asm__ volatile("" : : "r"(sum));
}

void hb_touch_block(void *p, size_t size, enum hb_touch touch)
{
	volatile char *c = p;

	switch (touch) {
	case HB_TOUCH_NONE:
	case HB_TOUCH_NR:
		break;
	case HB_TOUCH_PAGE:
		for (size_t i = 0; i < size; i += HB_PAGE)
			c[i] = 1;
		break;
	case HB_TOUCH_FULL:
		memset(p, 0x5a, size);
		/* the block is freed next: keep the compiler from noticing */
		__asm__ volatile("" : : "r"(p) : "memory");
		break;
	case HB_TOUCH_READ:
		read_block(p, size);
		break;
	}
}

static int map_plain(struct hb_ctx *c)
{
	void *p = hkm_sys_mmap(NULL, c->size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (HKM_SYS_FAILED(p))
		return -HKM_SYS_ERRNO(p);
	c->map = c->block = p;
	c->map_len = c->size;
	return 0;
}

/*
 * Not trimmed to the aligned part: that would be two more calls, each time, for
 * address space that costs nothing.
 */
int hb_map_thp(struct hb_ctx *c, size_t len)
{
	uintptr_t at;
	void *p = hkm_sys_mmap(NULL, len + HB_HUGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (HKM_SYS_FAILED(p))
		return -HKM_SYS_ERRNO(p);
	at = ((uintptr_t)p + HB_HUGE - 1) & ~(HB_HUGE - 1);
	c->map = p;
	c->map_len = len + HB_HUGE;
	c->block = (void *)at;
	/* fails where the kernel has no THP: then this is plain memory */
	hkm_sys_madvise_hugepage(c->block, len);
	return 0;
}

static void unmap(struct hb_ctx *c)
{
	if (c->map)
		hkm_sys_munmap(c->map, c->map_len);
	c->map = c->block = NULL;
}

/* ---- a block that is kept, whatever happens to its memory ---- */

static int keep_open_thp(struct hb_ctx *c)
{
	return hb_map_thp(c, c->len);
}

static void *keep_get(struct hb_ctx *c)
{
	return c->block;
}

static void floor_put(struct hb_ctx *c, void *p)
{
	(void)c;
	(void)p;
}

static void dontneed_put(struct hb_ctx *c, void *p)
{
	hkm_sys_madvise_dontneed(p, c->size);
}

/* whole huge pages: a part of one would be split and cost more */
static void dontneed_thp_put(struct hb_ctx *c, void *p)
{
	hkm_sys_madvise_dontneed(p, c->len);
}

static void free_thp_put(struct hb_ctx *c, void *p)
{
	hkm_sys_madvise_free(p, c->len);
}

/* ---- a new mapping each time ---- */

static int nothing_open(struct hb_ctx *c)
{
	(void)c;
	return 0;
}

static void nothing_close(struct hb_ctx *c)
{
	(void)c;
}

static void *mmap_get(struct hb_ctx *c)
{
	int err = map_plain(c);

	errno = -err;
	return err ? NULL : c->block;
}

static void *mmap_thp_get(struct hb_ctx *c)
{
	int err = hb_map_thp(c, c->len);

	errno = -err;
	return err ? NULL : c->block;
}

static void *hugetlb_get(struct hb_ctx *c)
{
	void *p = hkm_sys_mmap(NULL, c->len, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (HKM_SYS_FAILED(p)) {
		errno = HKM_SYS_ERRNO(p);
		return NULL;
	}
	c->map = p;
	c->map_len = c->len;
	return p;
}

static void mmap_put(struct hb_ctx *c, void *p)
{
	(void)p;
	unmap(c);
}

static void *malloc_get(struct hb_ctx *c)
{
	return malloc(c->size);
}

static void malloc_put(struct hb_ctx *c, void *p)
{
	(void)c;
	free(p);
}

/* ---- the table, in the order in which everything is shown ---- */

#define ARENA_OPS hb_arena_close, hb_arena_counters

const struct hb_backend hb_backends[] = {
	{ "floor", HB_ALWAYS, keep_open_thp, keep_get, floor_put, unmap, NULL },
	{ "mmap", 0, nothing_open, mmap_get, mmap_put, nothing_close, NULL },
	{ "mmap-thp", 0, nothing_open, mmap_thp_get, mmap_put, nothing_close,
	  NULL },
	{ "malloc", 0, nothing_open, malloc_get, malloc_put, nothing_close,
	  NULL },
	{ "dontneed", 0, map_plain, keep_get, dontneed_put, unmap, NULL },
	{ "dontneed-thp", 0, keep_open_thp, keep_get, dontneed_thp_put, unmap,
	  NULL },
	{ "free-thp", HB_ALWAYS, keep_open_thp, keep_get, free_thp_put, unmap,
	  NULL },
	{ "decay", HB_ALWAYS | HB_THREAD, hb_decay_open, hb_decay_get,
	  hb_decay_put, hb_decay_close, NULL },
	{ "hugetlb", HB_HUGETLB | HB_WHALE_ONLY, nothing_open, hugetlb_get,
	  mmap_put, nothing_close, NULL },
	{ "whale", HB_WHALE_ONLY | HB_RING, hb_whale_open, hb_whale_get,
	  hb_whale_put, hb_whale_close, hb_whale_counters },
	{ "anon-heap", HB_WHALE_ONLY | HB_RING, hb_anon_heap_open, hb_heap_get,
	  hb_heap_put, hb_heap_close, hb_heap_counters },
	{ "region-ioctl", HB_WHALE_ONLY | HB_DEVICE | HB_ZEROER, hb_ioctl_open,
	  hb_ioctl_get, hb_ioctl_put, ARENA_OPS },
	{ "region-fresh", HB_WHALE_ONLY | HB_DEVICE | HB_ZEROER, hb_fresh_open,
	  hb_fresh_get, hb_fresh_put, ARENA_OPS },
	{ "region", HB_WHALE_ONLY | HB_DEVICE | HB_RING | HB_WORDS,
	  hb_words_open, hb_words_get, hb_words_put, hb_arena_close,
	  hb_words_counters },
	{ "region-heap", HB_WHALE_ONLY | HB_DEVICE | HB_RING | HB_WORDS,
	  hb_heap_open, hb_heap_get, hb_heap_put, hb_heap_close,
	  hb_heap_counters },
};

const size_t hb_nr_backends = sizeof(hb_backends) / sizeof(hb_backends[0]);

const struct hb_backend *hb_find_backend(const char *name, size_t len)
{
	for (size_t i = 0; i < hb_nr_backends; i++)
		if (strlen(hb_backends[i].name) == len &&
		    !memcmp(hb_backends[i].name, name, len))
			return &hb_backends[i];
	return NULL;
}
