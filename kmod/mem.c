// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of a slot: one folio of 2 MiB, or 512 single pages in its place; and
 * where it is looked for (hkr_view_take_folio()).
 *
 * Free memory that is scattered holds no block of 2 MiB, and making one by
 * compaction costs whoever waits for it more than the block is worth. A slot
 * then gets single pages: what fails elsewhere only costs 512 faults here. They
 * are a makeshift and stay until the slot is next idle (age.c), and the thread
 * that fills the pool, which alone may compact, looks for a folio meanwhile.
 *
 * Where a slot's memory comes from, in this order: the pool's clean folios, its
 * dirty ones, a block that lies free, the oldest idle slot of any arena, single
 * pages. The free block goes before the idle slot: nobody wants it back, while an
 * idle slot is what its owner counts on finding, and who takes it has 2 MiB to
 * zero either way. When free memory is short, the shrinker takes idle slots by
 * itself; here it is for when free memory is there and scattered.
 *
 * A slot's memory has a name, slot->folio, whichever it is. Single pages are
 * named by the first of them, a folio of order 0, whose ->private leads to all
 * 512. So a folio of order 0 on a list of ours stands for 512 pages. They are
 * allocated in blocks as large as can be had, which keeps what is scattered
 * together, and split; they are zeroed by the buddy allocator.
 *
 * To lock a slot's memory is to lock all of its pages. A fault leaves its page
 * locked until it is mapped (arena.c), so whoever has locked them all is past
 * every fault.
 *
 * Single pages never enter the pool. They are freed one by one, by dropping our
 * reference: one that somebody pins is then the pinner's, costs what is pinned
 * and is free when the pin is gone, as a page of anonymous memory is after its
 * munmap(). It is never handed out by us again, so it is no orphan.
 */

#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/page_ref.h>
#include <linux/page-flags.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "age.h"
#include "hkr.h"
#include "memcg.h"
#include "pool.h"

/*
 * What is left to others, in pages. Single pages can be had to the last one,
 * and then nobody's stack or page table could be; order-9 folios run out long
 * before.
 */
#define HKR_SINGLES_MARGIN	(8 * (long)HKR_SLOT_PAGES)

static atomic_long_t hkr_nr_singles;	/* units of 512 pages */

/**
 * hkr_singles - units of 512 single pages that slots or calls under way hold
 */
unsigned long hkr_singles(void)
{
	return atomic_long_read(&hkr_nr_singles);
}

/**
 * hkr_is_scattered - would a slot get single pages now
 *
 * A guess: some slot has them, and the pool has nothing better yet.
 */
bool hkr_is_scattered(void)
{
	unsigned long clean, dirty;

	if (!hkr_singles())
		return false;
	hkr_pool_count(HKR_NODE_ANY, &clean, &dirty);
	return !clean;
}

static struct page **hkr_singles_of(struct folio *folio)
{
	return folio->private;
}

/**
 * hkr_mem_page - one page of a slot's memory
 * @folio: names the memory
 * @i: which page, below HKR_SLOT_PAGES
 */
struct page *hkr_mem_page(struct folio *folio, unsigned long i)
{
	return hkr_is_singles(folio) ? hkr_singles_of(folio)[i] :
				       folio_page(folio, i);
}

static void hkr_mem_unlock_first(struct folio *folio, unsigned long nr)
{
	struct page **pages = hkr_singles_of(folio);

	while (nr--)
		unlock_page(pages[nr]);
}

/**
 * hkr_mem_lock - lock all of a slot's memory
 * @folio: names it; no other memory is locked by the caller, or only by trying
 *
 * Waits for faults, which lock one page under the slot's mutex and let go of it
 * without wanting another.
 */
void hkr_mem_lock(struct folio *folio)
{
	unsigned long i;

	if (!hkr_is_singles(folio)) {
		folio_lock(folio);
		return;
	}
	for (i = 0; i < HKR_SLOT_PAGES; i++)
		lock_page(hkr_singles_of(folio)[i]);
}

/**
 * hkr_mem_trylock - the same without waiting
 * @folio: names the memory
 */
bool hkr_mem_trylock(struct folio *folio)
{
	unsigned long i;

	if (!hkr_is_singles(folio))
		return folio_trylock(folio);
	for (i = 0; i < HKR_SLOT_PAGES; i++) {
		if (trylock_page(hkr_singles_of(folio)[i]))
			continue;
		hkr_mem_unlock_first(folio, i);
		return false;
	}
	return true;
}

/**
 * hkr_mem_unlock - undo hkr_mem_lock() or hkr_mem_trylock()
 * @folio: names the memory
 */
void hkr_mem_unlock(struct folio *folio)
{
	if (hkr_is_singles(folio))
		hkr_mem_unlock_first(folio, HKR_SLOT_PAGES);
	else
		folio_unlock(folio);
}

/**
 * hkr_mem_is_used - does anybody but us have a reference
 * @folio: names the memory; mappings count as users
 */
bool hkr_mem_is_used(struct folio *folio)
{
	unsigned long i;

	if (!hkr_is_singles(folio))
		return folio_ref_count(folio) != 1;
	for (i = 0; i < HKR_SLOT_PAGES; i++)
		if (page_ref_count(hkr_singles_of(folio)[i]) != 1)
			return true;
	return false;
}

/**
 * hkr_mem_is_ours - hkr_folio_is_ours() for all of a slot's memory
 * @folio: names memory that is zapped and in no slot
 */
bool hkr_mem_is_ours(struct folio *folio)
{
	unsigned long i;

	if (!hkr_is_singles(folio))
		return hkr_folio_is_ours(folio);
	for (i = 0; i < HKR_SLOT_PAGES; i++)
		if (!hkr_folio_is_ours(page_folio(hkr_singles_of(folio)[i])))
			return false;
	return true;
}

static bool hkr_page_looks_pinned(struct page *page)
{
	int mapped = atomic_read(&page->_mapcount) + 1;

	return folio_maybe_dma_pinned(page_folio(page)) ||
	       page_ref_count(page) > 1 + mapped;
}

/*
 * Each translation has a reference, and we have one. A fault or a zap under way
 * may have one more for a moment.
 */
static bool hkr_folio_looks_pinned(struct folio *folio)
{
	if (folio_maybe_dma_pinned(folio))
		return true;
	/* first as a PMD, which is what nearly all are mapped by */
	if (folio_ref_count(folio) <= 1 + folio_entire_mapcount(folio))
		return false;
	return folio_ref_count(folio) > 1 + hkr_folio_mapcount(folio);
}

/**
 * hkr_mem_looks_pinned - a first look, without a zap
 * @folio: names the memory of a slot
 *
 * What it misses the reference count after the zap tells.
 */
bool hkr_mem_looks_pinned(struct folio *folio)
{
	unsigned long i;

	if (!hkr_is_singles(folio))
		return hkr_folio_looks_pinned(folio);
	for (i = 0; i < HKR_SLOT_PAGES; i++)
		if (hkr_page_looks_pinned(hkr_singles_of(folio)[i]))
			return true;
	return false;
}

/**
 * hkr_mem_copy - copy all of a slot's memory
 * @to: names the copy
 * @from: names what nobody writes to
 *
 * Return: false where a page is poisoned, which must not even be read
 */
bool hkr_mem_copy(struct folio *to, struct folio *from)
{
	unsigned long i;

	for (i = 0; i < HKR_SLOT_PAGES; i++) {
		struct page *page = hkr_mem_page(from, i);

		if (unlikely(PageHWPoison(page)))
			return false;
		copy_highpage(hkr_mem_page(to, i), page);
		cond_resched();
	}
	return true;
}

/* a poisoned page is leaked: memory_failure() counts on us to keep it */
static void hkr_single_free(struct page *page)
{
	if (unlikely(PageHWPoison(page))) {
		atomic_long_inc(&hkr_pool_stats.poisoned);
		return;
	}
	put_page(page);
}

static void hkr_free_pages(struct page **pages, unsigned long nr)
{
	while (nr--)
		hkr_single_free(pages[nr]);
	kfree(pages);
}

/**
 * hkr_singles_free - drop our references to 512 single pages
 * @folio: names them; in no slot and on no list
 */
void hkr_singles_free(struct folio *folio)
{
	struct page **pages = hkr_singles_of(folio);

	folio->private = NULL;
	atomic_long_dec(&hkr_nr_singles);
	hkr_free_pages(pages, HKR_SLOT_PAGES);
}

/*
 * Larger blocks are only taken where they lie about. Reclaim helps for single
 * pages without compaction, and may: whoever wants memory gets it from the page
 * cache as usual, but nobody is killed for it.
 */
static gfp_t hkr_singles_gfp(gfp_t account, unsigned int order)
{
	gfp_t gfp = order ? HKR_GFP_INLINE : HKR_GFP_REFILL;

	return gfp | account | __GFP_NOMEMALLOC | __GFP_ZERO;
}

/* how many of 512 could be had */
static unsigned long hkr_fill_pages(struct page **pages, gfp_t account, int nid)
{
	unsigned int order = HKR_SLOT_ORDER - 1;
	unsigned long nr = 0, i;

	while (nr < HKR_SLOT_PAGES && !fatal_signal_pending(current)) {
		struct page *page;

		while ((1UL << order) > HKR_SLOT_PAGES - nr)
			order--;
		page = alloc_pages_node(nid, hkr_singles_gfp(account, order),
					order);
		if (!page && !order)
			break;
		if (!page) {
			order--;
			continue;
		}
		split_page(page, order);
		for (i = 0; i < 1UL << order; i++)
			pages[nr++] = page + i;
		cond_resched();
	}
	return nr;
}

/**
 * hkr_singles_alloc - 512 zeroed single pages
 * @account: __GFP_ACCOUNT to charge the active memory cgroup, or 0
 * @nid: node to prefer
 *
 * Never compacts and never wakes the OOM killer.
 *
 * Return: the folio that names them, or NULL
 */
struct folio *hkr_singles_alloc(gfp_t account, int nid)
{
	ktime_t start = ktime_get();
	struct page **pages;
	struct folio *folio;
	unsigned long nr;

	might_sleep();
	if (si_mem_available() < HKR_SINGLES_MARGIN)
		return NULL;
	pages = kmalloc_array(HKR_SLOT_PAGES, sizeof(*pages),
			      HKR_GFP_RECORDS);
	if (!pages)
		return NULL;
	nr = hkr_fill_pages(pages, account, nid);
	if (nr < HKR_SLOT_PAGES) {
		hkr_free_pages(pages, nr);
		return NULL;
	}
	folio = page_folio(pages[0]);
	folio->private = pages;
	INIT_LIST_HEAD(&folio->lru);
	if (atomic_long_inc_return(&hkr_nr_singles) == 1)
		hkr_pools_kick();
	hkr_count_zeroed(folio_nid(folio), false, start);
	return folio;
}

/* the oldest idle slot of any arena gives way: its memory to the pool */
static bool hkr_steal_from(int nid)
{
	struct hkr_take take = {
		.want = 1,
		.look = 64,
		.why = HKR_WHY_HANDOUT,
	};

	return hkr_take_node(nid, &take);
}

static void hkr_steal(int nid)
{
	int other;

	if (hkr_steal_from(nid == HKR_NODE_ANY ? numa_mem_id() : nid))
		return;
	for_each_node_state(other, N_MEMORY)
		if (hkr_steal_from(other))
			return;
}

static void hkr_count_served(struct hkr_view *view, enum hkr_served served)
{
	switch (served) {
	case HKR_SERVED_CLEAN:
		atomic64_inc(&view->count.served_clean);
		break;
	case HKR_SERVED_DIRTY:
		atomic64_inc(&view->count.served_dirty);
		break;
	case HKR_SERVED_NEW:
		atomic64_inc(&view->count.served_new);
		break;
	case HKR_SERVED_SINGLE:
		atomic64_inc(&view->count.served_single);
		break;
	}
}

/**
 * hkr_view_take_folio - zeroed memory for a slot of this view, counted
 * @view: set up; may be locked, but no slot may
 * @nid: node to prefer, or HKR_NODE_ANY
 */
struct folio *hkr_view_take_folio(struct hkr_view *view, int nid)
{
	enum hkr_served served = HKR_SERVED_NEW;
	struct folio *folio;

	if (view->ages)
		folio = hkr_memcg_folio(view, nid);
	else
		folio = hkr_pool_take(nid, &served);
	if (!folio && !view->ages) {
		hkr_steal(nid);
		folio = hkr_pool_take(nid, &served);
	}
	if (!folio && !view->ages)
		folio = hkr_singles_alloc(0, nid == HKR_NODE_ANY ?
					     numa_mem_id() : nid);
	if (!folio)
		return NULL;
	if (hkr_is_singles(folio))
		served = HKR_SERVED_SINGLE;
	hkr_count_served(view, served);
	return folio;
}
