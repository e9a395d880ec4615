// SPDX-License-Identifier: GPL-2.0
/*
 * Slots: the kernel's record and the owner's word of each.
 *
 * Records and control pages are made when a slot is first handed out and freed
 * with the view, so that a pointer that was read once stays good. The functions
 * here are the only ones that change a record's memory or write a word; each
 * says which locks it wants. The rules they serve are at the top of arena.c.
 */

#include <linux/bitops.h>
#include <linux/gfp.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "age.h"
#include "hkr.h"

/**
 * hkr_control_pages - how many control pages an arena has
 * @nr_slots: its slots
 *
 * The words begin in the header's page: whoever frees a slot reads the one and
 * writes the other.
 */
unsigned long hkr_control_pages(unsigned long nr_slots)
{
	return DIV_ROUND_UP(HKR_WORDS_OFFSET + nr_slots * sizeof(u64),
			    PAGE_SIZE);
}

/**
 * hkr_nr_recs - how many groups of records an arena has
 * @nr_slots: its slots
 */
unsigned long hkr_nr_recs(unsigned long nr_slots)
{
	return DIV_ROUND_UP(nr_slots, HKR_SLOTS_PER_REC);
}

/**
 * hkr_slot - the record of a slot
 * @view: set up
 * @idx: slot number; one outside the arena has no record
 *
 * Return: the record, or NULL when this slot was never handed out
 */
struct hkr_slot *hkr_slot(struct hkr_view *view, unsigned long idx)
{
	struct hkr_slot *rec;

	if (idx >= view->nr_slots)
		return NULL;
	idx = array_index_nospec(idx, view->nr_slots);
	/* the publishing cmpxchg() in hkr_slot_make() orders the contents */
	rec = READ_ONCE(view->recs[idx / HKR_SLOTS_PER_REC]);
	return rec ? rec + idx % HKR_SLOTS_PER_REC : NULL;
}

/**
 * hkr_word - the kernel's address of a slot's word
 * @view: set up
 * @idx: slot number inside the arena
 *
 * Return: the address, or NULL when its page was never needed
 */
u64 *hkr_word(struct hkr_view *view, unsigned long idx)
{
	unsigned long offset;
	void *page;

	idx = array_index_nospec(idx, view->nr_slots);
	offset = HKR_WORDS_OFFSET + idx * sizeof(u64);
	page = READ_ONCE(view->control[offset >> PAGE_SHIFT]);
	return page ? page + offset_in_page(offset) : NULL;
}

/**
 * hkr_control_make - a control page, allocated if need be
 * @view: set up
 * @n: number of the page
 *
 * Return: its address, or -ENOMEM, -EDQUOT as an error pointer
 */
void *hkr_control_make(struct hkr_view *view, unsigned long n)
{
	void *page = READ_ONCE(view->control[n]);
	void *winner;
	int ret;

	if (page)
		return page;
	ret = hkr_charge_kmem(view, PAGE_SIZE);
	if (ret)
		return ERR_PTR(ret);
	page = (void *)get_zeroed_page(HKR_GFP_RECORDS);
	if (!page) {
		winner = ERR_PTR(-ENOMEM);
		goto uncharge;
	}
	winner = cmpxchg(&view->control[n], NULL, page);
	if (!winner)
		return page;
	free_page((unsigned long)page);
uncharge:
	hkr_uncharge_kmem(view, PAGE_SIZE);
	return winner;
}

static struct hkr_slot *hkr_new_records(struct hkr_view *view, unsigned long n)
{
	struct hkr_slot *rec = kvcalloc(HKR_SLOTS_PER_REC, sizeof(*rec),
					HKR_GFP_RECORDS);
	unsigned long i;

	for (i = 0; rec && i < HKR_SLOTS_PER_REC; i++) {
		mutex_init(&rec[i].lock);
		INIT_LIST_HEAD(&rec[i].age);
		rec[i].view = view;
		rec[i].idx = n * HKR_SLOTS_PER_REC + i;
	}
	return rec;
}

/**
 * hkr_slot_make - the record of a slot and its word, made if need be
 * @view: set up
 * @idx: slot number inside the arena
 *
 * Return: 0, -ENOMEM, -EDQUOT
 */
int hkr_slot_make(struct hkr_view *view, unsigned long idx)
{
	unsigned long n = idx / HKR_SLOTS_PER_REC;
	unsigned long offset = HKR_WORDS_OFFSET + idx * sizeof(u64);
	size_t bytes = HKR_SLOTS_PER_REC * sizeof(struct hkr_slot);
	struct hkr_slot *rec;
	void *words;
	int ret;

	words = hkr_control_make(view, offset >> PAGE_SHIFT);
	if (IS_ERR(words))
		return PTR_ERR(words);
	if (READ_ONCE(view->recs[n]))
		return 0;
	ret = hkr_charge_kmem(view, bytes);
	if (ret)
		return ret;
	rec = hkr_new_records(view, n);
	if (rec && !cmpxchg(&view->recs[n], NULL, rec))
		return 0;
	/* none, or another was faster */
	kvfree(rec);
	hkr_uncharge_kmem(view, bytes);
	return rec ? 0 : -ENOMEM;
}

/**
 * hkr_zap - unmap a run of slots from every address space
 * @view: set up
 * @first: first slot
 * @nr: slots
 *
 * When it returns no CPU has a translation of the run, but for a zap elsewhere
 * that is still under way, which holds references to the folios. The core
 * flushes for a zap in the same mm (mm_tlb_flush_nested()), so that the owner
 * does not meet an old folio where it was just given a new one.
 */
void hkr_zap(struct hkr_view *view, unsigned long first, unsigned long nr)
{
	unmap_mapping_range(view->inode->i_mapping,
			    (loff_t)first << HKR_SLOT_SHIFT,
			    (loff_t)nr << HKR_SLOT_SHIFT, 1);
}

/**
 * hkr_zap_control - unmap the control pages from every address space
 * @view: set up
 */
void hkr_zap_control(struct hkr_view *view)
{
	unmap_mapping_range(view->inode->i_mapping, HKR_OFF_CONTROL,
			    PAGE_SIZE * hkr_control_pages(view->nr_slots), 1);
}

/**
 * hkr_slot_install_locked - give a slot its memory
 * @view: set up
 * @idx: slot number
 * @slot: its record, locked, without memory
 * @folio: names memory that is new or was another slot's of this view, not mapped
 */
void hkr_slot_install_locked(struct hkr_view *view, unsigned long idx,
			     struct hkr_slot *slot, struct folio *folio)
{
	lockdep_assert_held(&slot->lock);
	hkr_mem_lock(folio);
	/* the core compares this with i_size before it maps a PMD */
	folio->index = idx << HKR_SLOT_ORDER;
	slot->folio = folio;
	hkr_mem_unlock(folio);
	hkr_age_add_locked(slot);
	if (hkr_is_singles(folio))
		atomic_long_inc(&view->singles);
	atomic_long_inc(&view->resident);
	atomic_long_inc(&hkr_resident);
	hkr_tick_kick();
}

/**
 * hkr_slot_detach_locked - a slot's memory is no longer its own
 * @view: set up
 * @slot: its record, locked, its memory locked and mapped nowhere
 */
void hkr_slot_detach_locked(struct hkr_view *view, struct hkr_slot *slot)
{
	lockdep_assert_held(&slot->lock);
	hkr_age_del_locked(slot);
	if (hkr_is_singles(slot->folio))
		atomic_long_dec(&view->singles);
	slot->folio = NULL;
	atomic_long_dec(&view->resident);
	atomic_long_dec(&hkr_resident);
}

/**
 * hkr_slot_remove_locked - take a slot's memory away
 * @view: set up
 * @idx: slot number
 * @slot: its record, locked
 *
 * The caller has zapped the run as a whole. A fault that held the folio lock
 * meanwhile may have mapped it again since; having the lock now, we are past
 * it, and zap once more.
 *
 * Return: the folio, for hkr_folio_release(), or NULL when there was none
 */
struct folio *hkr_slot_remove_locked(struct hkr_view *view, unsigned long idx,
				     struct hkr_slot *slot)
{
	struct folio *folio = slot->folio;

	lockdep_assert_held(&slot->lock);
	if (slot->share)
		return hkr_share_drop_locked(view, slot);
	if (!folio)
		return NULL;
	hkr_mem_lock(folio);
	if (hkr_mem_is_used(folio))
		hkr_zap(view, idx, 1);
	hkr_slot_detach_locked(view, slot);
	hkr_mem_unlock(folio);
	return folio;
}

/**
 * hkr_word_set_locked - write a slot's word, with the record's generation
 * @view: set up
 * @idx: slot number
 * @slot: its record, locked
 * @state: HKR_WORD_*
 * @epoch: for HKR_WORD_IDLE, else 0
 */
void hkr_word_set_locked(struct hkr_view *view, unsigned long idx,
			 struct hkr_slot *slot, u64 state, u64 epoch)
{
	lockdep_assert_held(&slot->lock);
	/*
	 * Release: pairs with the acquire of the owner's read. Who sees the
	 * word sees what was done to the slot before.
	 */
	smp_store_release(hkr_word(view, idx),
			  HKR_WORD_MAKE(state, epoch, (u64)slot->gen));
}

/**
 * hkr_slot_publish_locked - a slot becomes its owner's
 * @view: set up
 * @idx: slot number
 * @slot: its record, locked
 */
void hkr_slot_publish_locked(struct hkr_view *view, unsigned long idx,
			     struct hkr_slot *slot)
{
	lockdep_assert_held(&slot->lock);
	slot->state = HKR_HANDED;
	slot->gen++;
	hkr_word_set_locked(view, idx, slot, HKR_WORD_BUSY, 0);
}

/**
 * hkr_slot_free_locked - a slot without memory goes back to the arena
 * @view: set up
 * @idx: slot number
 * @slot: its record, locked; was handed out, and is uncharged
 */
void hkr_slot_free_locked(struct hkr_view *view, unsigned long idx,
			  struct hkr_slot *slot)
{
	lockdep_assert_held(&slot->lock);
	hkr_uncharge_slot(view, slot->lent);
	slot->state = HKR_FREE;
	slot->held = false;
	slot->lent = false;
	slot->gen++;
	hkr_word_set_locked(view, idx, slot, HKR_WORD_EMPTY, 0);
	clear_bit(idx, view->taken);
}
