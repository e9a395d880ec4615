// SPDX-License-Identifier: GPL-2.0
/*
 * A folio that is ours, from the buddy allocator until it is there again.
 *
 * Only this file allocates and frees folios of 2 MiB; hkr_pool_stats.live counts
 * those that are ours. One that is on no list and in no slot is in the hands of
 * who took it. It is zeroed before another owner sees it, here or, where it is
 * new, by the buddy allocator, and every zeroing is counted here.
 *
 * A folio with a poisoned page is never zeroed or handed on: it is given up, with
 * our reference, for ever.
 */

#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/ktime.h>
#include <linux/memcontrol.h>
#include <linux/page-flags.h>
#include <linux/sched.h>

#include "hkr.h"
#include "pool.h"
#include "trace.h"

/**
 * hkr_count_zeroed - 2 MiB were zeroed, by us or for us
 * @nid: node of the memory
 * @background: while nobody waited
 * @start: when it began
 */
void hkr_count_zeroed(int nid, bool background, ktime_t start)
{
	u64 ns = ktime_to_ns(ktime_sub(ktime_get(), start));

	if (background) {
		atomic64_add(HKR_SLOT_SIZE, &hkr_pool_stats.background_bytes);
		atomic64_add(ns, &hkr_pool_stats.background_ns);
	} else {
		atomic64_add(HKR_SLOT_SIZE, &hkr_pool_stats.inline_bytes);
		atomic64_add(ns, &hkr_pool_stats.inline_ns);
	}
	trace_hkr_zero(nid, background, ns);
}

/**
 * hkr_folio_new - a zeroed folio from the buddy allocator
 * @gfp: as for hkr_folio_alloc()
 * @nid: node to prefer
 * @background: for the reserve, while nobody waits
 *
 * Return: the folio, counted as ours, or NULL
 */
struct folio *hkr_folio_new(gfp_t gfp, int nid, bool background)
{
	struct folio *folio;
	ktime_t start = ktime_get();

	/* __GFP_ZERO costs nothing more where init_on_alloc zeroes anyway */
	folio = __folio_alloc_node(gfp | __GFP_ZERO, HKR_SLOT_ORDER, nid);
	if (!folio)
		return NULL;
	INIT_LIST_HEAD(&folio->lru);
	atomic_long_inc(&hkr_pool_stats.live);
	if (folio_memcg_kmem(folio))
		atomic_long_inc(&hkr_pool_stats.charged);
	/* with init_on_free it was zeroed when somebody freed it */
	if (!want_init_on_free())
		hkr_count_zeroed(folio_nid(folio), background, start);
	return folio;
}

/**
 * hkr_folio_alloc - a zeroed folio for somebody who waits
 * @gfp: HKR_GFP_INLINE or HKR_GFP_REFILL; __GFP_ACCOUNT charges a cgroup
 * @nid: node to prefer
 *
 * Return: the folio, counted as ours, or NULL
 */
struct folio *hkr_folio_alloc(gfp_t gfp, int nid)
{
	return hkr_folio_new(gfp, nid, false);
}

/**
 * hkr_folio_lies_about - is there a block that hkr_folio_alloc() could have at once
 * @nid: node to prefer
 *
 * By taking it, since watermarks and reserves are the buddy allocator's to know. The
 * answer is old at once.
 */
bool hkr_folio_lies_about(int nid)
{
	struct folio *folio = __folio_alloc_node(HKR_GFP_INLINE, HKR_SLOT_ORDER,
						 nid);

	if (folio)
		folio_put(folio);
	return folio;
}

/* no longer one of ours */
static void hkr_folio_uncount(struct folio *folio)
{
	atomic_long_dec(&hkr_pool_stats.live);
	if (folio_memcg_kmem(folio))
		atomic_long_dec(&hkr_pool_stats.charged);
}

/**
 * hkr_folio_leave - drop our reference: the memory is no longer ours
 * @folio: names it; off every list
 *
 * It reaches the buddy allocator at once or when its last user lets go.
 *
 * Return: false when it never does, because a page is poisoned; of single pages
 * the others do
 */
bool hkr_folio_leave(struct folio *folio)
{
	if (hkr_is_singles(folio)) {
		hkr_singles_free(folio);
		return true;
	}
	folio->private = NULL;
	if (hkr_folio_give_up(folio))
		return false;
	hkr_folio_uncount(folio);
	folio_put(folio);
	return true;
}

/**
 * hkr_folio_give_up - leak a folio with a poisoned page
 * @folio: on no list; single pages are looked at when they are freed
 *
 * Return: true when it had one; our reference is then kept for ever
 */
bool hkr_folio_give_up(struct folio *folio)
{
	unsigned long i;

	if (hkr_is_singles(folio))
		return false;
	for (i = 0; i < HKR_SLOT_PAGES; i++)
		if (unlikely(PageHWPoison(folio_page(folio, i))))
			break;
	if (likely(i == HKR_SLOT_PAGES))
		return false;
	atomic_long_inc(&hkr_pool_stats.poisoned);
	hkr_folio_uncount(folio);
	return true;
}

/**
 * hkr_folio_zero - zero a folio that others have written
 * @folio: on no list
 *
 * Return: false when a page is poisoned: the folio was given up
 */
bool hkr_folio_zero(struct folio *folio)
{
	unsigned long i;

	might_sleep();
	/* reclaim frees, it never zeroes */
	WARN_ON_ONCE(current->flags & PF_MEMALLOC);
	if (hkr_folio_give_up(folio))
		return false;
	for (i = 0; i < HKR_SLOT_PAGES; i++) {
		clear_highpage(folio_page(folio, i));
		if (i % 16 == 15)
			cond_resched();
	}
	folio_clear_dirty(folio);
	folio_clear_referenced(folio);
	return true;
}
