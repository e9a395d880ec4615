/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_H
#define HKR_H

/*
 * Private header of hakmem_region.
 *
 * Lock order, outermost first:
 *
 *   mmap_lock of the owner; in a fork the child's, too
 *     hkr_views_lock
 *     arena->lock			who has a view of it
 *       view->lock			one call at a time changes a view; two only
 *					in a fork, the parent's first
 *         slot->lock			(two only under view->lock: MOVE)
 *           folio lock, or those of a slot's 512 single pages, first to last
 *             i_mmap_rwsem, page table locks (inside unmap_mapping_range)
 *         ages->lock			below slot->lock, a leaf
 *     hkr_zero_lock			a leaf, for parameters and the tick
 *     pool->lock, orphan_lock		leaves, never nested in each other
 *     locks of hkr_lru (memcg.c)	leaves
 *
 * What reclaim takes it only tries: from ages->lock it goes up to slot->lock and
 * the folio lock by trylock.
 *
 * No copy to or from user space and no zeroing under any of ours, but for fork:
 * what it shares is copied under the slot->lock of who touches it, and what is
 * pinned at once, into a folio that may have to be zeroed for that. Memory may be
 * allocated under view->lock, never under slot->lock.
 */

#include <linux/atomic.h>
#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/numa.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/uidgid.h>
#include <linux/hakmem_region.h>

#include "compat.h"

static_assert(HKR_NODE_ANY == NUMA_NO_NODE);
static_assert(sizeof(struct hkr_control) <= 128);

#define HKR_SLOT_ORDER		(HKR_SLOT_SHIFT - PAGE_SHIFT)
#define HKR_SLOT_PAGES		(1UL << HKR_SLOT_ORDER)
#define HKR_WORDS_OFFSET	128UL	/* behind the header, in its page */
#define HKR_SLOTS_PER_REC	64UL	/* slot records allocated together */
#define HKR_EPOCH_MS		100U

/*
 * Where a slot is in its life, as the kernel knows it. Only HANDED may fault.
 *
 *   FREE -> FILLING   HANDOUT found the run and gets memory for it
 *   FILLING -> HANDED the run is its owner's
 *   HANDED -> CLOSING RECYCLE, TRIM, FROM_IDLE: no new fault may start
 *   CLOSING -> FREE   memory gone
 *
 * MOVE takes its target HANDED -> CLOSING -> HANDED.
 */
enum hkr_slot_state {
	HKR_FREE,
	HKR_FILLING,
	HKR_HANDED,
	HKR_CLOSING,
};

/*
 * The kernel's record of one slot; the word in the control page is only the
 * owner's hint.
 */
struct hkr_slot {
	struct mutex lock;	/* of this record; see the lock order */
	struct folio *folio;	/* names its memory (mem.c): changed under lock
				 * and the locks of all of its pages
				 */
	u32 gen;		/* lock; the generation that the word carries */
	u8 state;		/* enum hkr_slot_state: lock */
	bool held;		/* a call is at work, not to be taken: lock */
	bool lent;		/* since a fork: not charged to the user; lock */
	struct hkr_share *share;	/* in place of folio (share.c): lock */
	struct hkr_run *filler;	/* the HANDOUT that fills it: view->lock */

	/* where age.c keeps it while it has memory: the list's lock */
	struct list_head age;
	struct hkr_view *view;	/* immutable */
	u32 idx;		/* immutable */
	u64 seen;		/* the word when it was last seen idle */
	bool idle;		/* on the idle list */
	bool fooled;		/* a taker found it in use there, last at ... */
	u32 used_at;		/* ... this epoch */
};

/* the word of a slot that is being taken; slot->lock */
static inline u64 hkr_word_reclaim(const struct hkr_slot *slot)
{
	return HKR_WORD_MAKE(HKR_WORD_RECLAIM, 0ULL, (u64)slot->gen);
}

/* counters of struct hkr_stats; any context */
struct hkr_counters {
	atomic64_t faults;
	atomic64_t handouts;
	atomic64_t served_clean;
	atomic64_t served_dirty;
	atomic64_t served_new;
	atomic64_t served_idle;
	atomic64_t served_single;
	atomic64_t dropped;
	atomic64_t idled;
	atomic64_t refreshed;
	atomic64_t moved;
	atomic64_t trimmed;
	atomic64_t reclaimed;
	atomic64_t orphaned;
	atomic64_t copied;
};

/* A user's share of all slots: one of these for each uid with an open file */
struct hkr_user {
	struct list_head link;	/* hkr_users, hkr_users_lock */
	refcount_t refs;	/* views and orphans */
	kuid_t uid;		/* immutable */
	atomic_long_t charged;	/* slots; never above the user's limit */
	atomic_long_t kmem;	/* bytes of kernel memory; likewise */
};

enum hkr_phase {
	HKR_UNMAPPED,
	HKR_MAPPED,
	HKR_GONE,
};

struct hkr_ages;
struct hkr_share;

/* What is open: one for each open file. Ends with it. */
struct hkr_arena {
	struct mutex lock;	/* who has a view of it */
	struct list_head views;	/* one for each mm that has it: lock */
	struct hkr_view *first;	/* of who opened it; immutable, kept by the file */
	struct inode *inode;	/* private, for its mapping; immutable */
};

/*
 * One process's view of an arena. The first is made by open(), sized by SETUP,
 * and ends with the file; that of a forked child is made by the fork and ends
 * with the child's mappings. Its memory ends with the last VMA of the arena
 * mapping, whatever the descriptor does.
 */
struct hkr_view {
	struct mutex lock;	/* one command at a time; fields say so */
	refcount_t refs;	/* the file, each VMA, each call; see hkr_view_put() */
	struct hkr_arena *arena;	/* immutable */
	struct list_head sibling;	/* arena->views, arena->lock */
	struct mm_struct *mm;	/* owner, grabbed; immutable */
	pid_t tgid;		/* who opened the file, for tracing; immutable */
	char comm[TASK_COMM_LEN];	/* likewise */
	struct inode *inode;	/* the arena's; immutable */
	struct hkr_user *user;	/* immutable */
	struct list_head link;	/* hkr_views, hkr_views_lock */

	/* lock for writing; fixed once nr_slots is set */
	unsigned long nr_slots;	/* 0 before SETUP */
	u32 setup_flags;
	struct hkr_control *header;	/* in control[0] */
	/* a bit for each slot not FREE: set under lock, cleared under slot->lock */
	unsigned long *taken;
	/*
	 * One for each that once was mapped by PTEs: no zap frees a page table,
	 * and where one is the core maps no PMD. Set by faults, never cleared.
	 */
	unsigned long *tables;
	unsigned long *sharing;	/* a bit for each slot with a share: slot->lock */

	/*
	 * Filled in when first needed by cmpxchg, freed with the view, so a
	 * pointer that was read once stays good.
	 */
	void **control;		/* pages of header and words, shared with the owner */
	struct hkr_slot **recs;	/* HKR_SLOTS_PER_REC slots each */

	enum hkr_phase phase;	/* lock */
	unsigned int nr_vmas;	/* arena VMAs of the owner: lock */
	atomic_long_t charged;	/* slots handed out or being so */
	atomic_long_t kmem;	/* bytes of kernel memory charged to the user */
	atomic_long_t resident;	/* slots with memory */
	atomic_long_t singles;	/* of these, with single pages */
	atomic_long_t shared;	/* slots with a share, not in resident */
	atomic_t takers;	/* age.c at work on slots of this view */
	s32 decay_epochs;	/* idle slots go back after it; < 0: never */
	/*
	 * Lists by age of this arena alone, for each node: its memory is charged
	 * to the owner's memory cgroup. NULL: it uses the pool. Fixed by SETUP.
	 */
	struct hkr_ages **ages;
	struct hkr_counters count;
};

/* main.c: parameters turned into slots, fixed at load */
s32 hkr_decay_epochs(s32 ms);

struct hkr_limits {
	unsigned long reserve;	/* folios taken at load and kept */
	unsigned long pool_max;	/* most folios the pool holds */
	unsigned long open_max;	/* most slots handed out on one open file */
	unsigned long user_max;	/* and to one user */
	unsigned long total_max;	/* and to all of them */
	unsigned long max_slots;	/* largest arena */
	unsigned long user_kmem;	/* most bytes for the arenas of one user */
	unsigned long total_kmem;	/* and of all of them */
	s32 decay_epochs;	/* where SETUP says nothing; < 0: never */
};

extern struct hkr_limits hkr_limits;

/* folio.c: folios that are ours */
struct folio *hkr_folio_alloc(gfp_t gfp, int nid);
bool hkr_folio_lies_about(int nid);
bool hkr_folio_leave(struct folio *folio);
bool hkr_folio_give_up(struct folio *folio);

/* pool.c: folios that no slot holds */
enum hkr_served {
	HKR_SERVED_CLEAN,
	HKR_SERVED_DIRTY,
	HKR_SERVED_NEW,
	HKR_SERVED_SINGLE,
};

/*
 * In line nobody compacts or reclaims for us, nor are emergency reserves used:
 * whoever wants 2 MiB can fall back to something else. The refill thread and the
 * load of the module may try.
 */
#define HKR_GFP_INLINE	\
	((GFP_HIGHUSER & ~__GFP_RECLAIM) | __GFP_NOMEMALLOC | __GFP_NOWARN)
#define HKR_GFP_REFILL	(GFP_HIGHUSER | __GFP_NORETRY | __GFP_NOWARN)

int hkr_pool_init(void);
void hkr_pool_exit(void);
struct folio *hkr_pool_take(int nid, enum hkr_served *served);
void hkr_pool_give(struct folio *folio);
void hkr_pool_give_clean(struct folio *folio);
void hkr_pool_count(int nid, unsigned long *clean, unsigned long *dirty);
unsigned long hkr_pool_above_reserve(void);
unsigned long hkr_pool_spare(int nid);
unsigned long hkr_pool_shrink(int nid, unsigned long want);
void hkr_pool_hold(int nid, u64 until);
unsigned long hkr_pool_empty(int nid);
void hkr_pool_resume(int nid);
void hkr_pools_kick(void);

/* why a zeroing thread that has something to do waits; zero.c */
enum hkr_pause {
	HKR_PAUSE_NONE,
	HKR_PAUSE_PRESSURE,
	HKR_PAUSE_BUSY,
	HKR_PAUSE_RATE,
	HKR_NR_PAUSES,
};

struct hkr_pool_stats {
	atomic_long_t live;	/* folios that are ours: pool, slots, orphans */
	atomic_long_t charged;	/* of these, to a memory cgroup: never in the pool */
	atomic64_t inline_bytes;	/* zeroed while somebody waited */
	atomic64_t inline_ns;
	atomic64_t background_bytes;
	atomic64_t background_ns;
	atomic_long_t poisoned;	/* folios given up: a subpage is bad */
	atomic_long_t pauses[HKR_NR_PAUSES];	/* of the zeroing threads */
};

extern struct hkr_pool_stats hkr_pool_stats;

/* mem.c: memory of a slot, one folio or single pages */
static inline bool hkr_is_singles(struct folio *folio)
{
	return !folio_test_large(folio);
}

struct page *hkr_mem_page(struct folio *folio, unsigned long i);
void hkr_mem_lock(struct folio *folio);
bool hkr_mem_trylock(struct folio *folio);
void hkr_mem_unlock(struct folio *folio);
bool hkr_mem_is_used(struct folio *folio);
bool hkr_mem_is_ours(struct folio *folio);
bool hkr_mem_looks_pinned(struct folio *folio);
struct folio *hkr_singles_alloc(gfp_t account, int nid);
void hkr_singles_free(struct folio *folio);
bool hkr_mem_copy(struct folio *to, struct folio *from);
unsigned long hkr_singles(void);
bool hkr_is_scattered(void);

/* zero.c: zeroing, and when the threads do it */
bool hkr_zero_pending(void);
void hkr_zero_press(int nid);

/*
 * Records, words and what else an arena needs: charged to whoever needs it.
 * Where a cgroup has no room left, it is ENOMEM and not the OOM killer's turn.
 */
#define HKR_GFP_RECORDS	\
	(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

/* quota.c: caps per open file and per user */
struct hkr_user *hkr_user_get(kuid_t uid);
void hkr_user_put(struct hkr_user *user);
int hkr_charge(struct hkr_view *view, unsigned long nr);
void hkr_uncharge(struct hkr_view *view, unsigned long nr);
unsigned long hkr_room(struct hkr_view *view);
void hkr_charge_lent(struct hkr_view *view);
int hkr_charge_touch(struct hkr_view *view);
void hkr_charge_settle(struct hkr_view *view);
void hkr_uncharge_shared(struct hkr_view *view);
void hkr_uncharge_slot(struct hkr_view *view, bool lent);
int hkr_charge_kmem(struct hkr_view *view, unsigned long bytes);
void hkr_uncharge_kmem(struct hkr_view *view, unsigned long bytes);
void hkr_charge_orphan(struct hkr_user *user);
void hkr_uncharge_orphan(struct hkr_user *user);

/* orphan.c: folios that somebody else still uses after their slot let go */
bool hkr_folio_is_ours(struct folio *folio);
void hkr_folio_release(struct hkr_view *view, struct folio *folio);
unsigned long hkr_orphans_retry(void);
void hkr_orphans_exit(void);
unsigned long hkr_orphans(void);

/* slot.c: records and words */
struct hkr_slot *hkr_slot(struct hkr_view *view, unsigned long idx);
int hkr_slot_make(struct hkr_view *view, unsigned long idx);
u64 *hkr_word(struct hkr_view *view, unsigned long idx);
unsigned long hkr_control_pages(unsigned long nr_slots);
void *hkr_control_make(struct hkr_view *view, unsigned long n);
unsigned long hkr_nr_recs(unsigned long nr_slots);
void hkr_zap(struct hkr_view *view, unsigned long first, unsigned long nr);
void hkr_zap_control(struct hkr_view *view);
void hkr_slot_install_locked(struct hkr_view *view, unsigned long idx,
			     struct hkr_slot *slot, struct folio *folio);
void hkr_slot_detach_locked(struct hkr_view *view, struct hkr_slot *slot);
struct folio *hkr_slot_remove_locked(struct hkr_view *view, unsigned long idx,
				     struct hkr_slot *slot);
void hkr_word_set_locked(struct hkr_view *view, unsigned long idx,
			 struct hkr_slot *slot, u64 state, u64 epoch);
void hkr_slot_publish_locked(struct hkr_view *view, unsigned long idx,
			     struct hkr_slot *slot);
void hkr_slot_free_locked(struct hkr_view *view, unsigned long idx,
			  struct hkr_slot *slot);

/* view.c: from open() to the last mapping */
struct hkr_arena *hkr_arena_new(struct file *file);
void hkr_arena_end(struct hkr_arena *arena);
int hkr_view_setup(struct hkr_view *view, u64 nr_slots, u32 flags,
		   s32 decay_epochs);
struct hkr_view *hkr_view_get(struct hkr_arena *arena);
struct hkr_view *hkr_view_inherit(struct hkr_view *parent,
				  struct mm_struct *mm);
void hkr_view_put(struct hkr_view *view);
int hkr_view_enter(struct hkr_view *view);
void hkr_view_leave(struct hkr_view *view);

/* arena.c: mappings and faults */
int hkr_mmap(struct file *file, struct vm_area_struct *vma);
void hkr_view_clear_locked(struct hkr_view *view);
struct folio *hkr_view_take_folio(struct hkr_view *view, int nid);

/* share.c: memory of several slots, each in another view, since a fork */
struct hkr_share *hkr_share_alloc(void);
struct hkr_share *hkr_share_hold_locked(struct hkr_view *view,
					struct hkr_slot *slot,
					struct hkr_share **spare);
void hkr_share_join_locked(struct hkr_view *view, struct hkr_slot *slot,
			   struct hkr_share *share);
void hkr_share_move_locked(struct hkr_view *view, struct hkr_slot *from,
			   struct hkr_slot *to);
struct folio *hkr_share_drop_locked(struct hkr_view *view,
				    struct hkr_slot *slot);
bool hkr_share_adopt_locked(struct hkr_view *view, struct hkr_slot *slot);
bool hkr_share_copy_locked(struct hkr_view *view, struct hkr_slot *slot,
			   struct folio *own);
void hkr_share_tick(struct hkr_view *view);
unsigned long hkr_shares(void);

/* fork.c: a child's view */
void hkr_fork_arena(struct vm_area_struct *vma, struct hkr_view *parent);
void hkr_fork_control(struct vm_area_struct *vma, struct hkr_view *parent);

/* why an idle slot is taken; trace.h has the names */
enum hkr_why {
	HKR_WHY_SHRINKER,
	HKR_WHY_CGROUP,
	HKR_WHY_OOM,
	HKR_WHY_DECAY,
	HKR_WHY_HANDOUT,
	HKR_WHY_TRIGGER,
	HKR_WHY_TRIM,
	HKR_WHY_FROM_IDLE,
	HKR_WHY_OFFLINE,
	HKR_WHY_HIBERNATE,
};

/* which idle slots to take, see hkr_take_idle_locked() */
struct hkr_idle_want {
	unsigned long max;	/* at most so many */
	u32 min_age;		/* epochs idle */
	enum hkr_why why;	/* for tracing */
	bool with_memory;	/* pass over slots that were never touched */
	unsigned long skip_first;	/* pass over a run: first slot */
	unsigned long skip_nr;		/* and length */
};

/* handout.c, recycle.c, idle.c: the commands on runs of slots */
int hkr_handout(struct hkr_view *view, struct hkr_handout_req *req);
int hkr_check_range(struct hkr_view *view, u64 first, u64 nr);
int hkr_gather(struct hkr_view *view, int node, unsigned long nr,
	       struct list_head *folios);
void hkr_give_back(struct list_head *folios, unsigned long nr_unzeroed);
int hkr_recycle(struct hkr_view *view, u32 mode, struct hkr_range *range);
int hkr_trim(struct hkr_view *view, struct hkr_trim *trim);
unsigned long hkr_take_idle_locked(struct hkr_view *view,
				   const struct hkr_idle_want *want,
				   struct list_head *folios);
unsigned long hkr_count_idle(struct hkr_view *view);

/* reclaim.c: epochs, the tick, what it samples */
void hkr_tick_kick(void);
void hkr_tick_start(struct hkr_view *view);
u32 hkr_epoch(void);
void hkr_views_add(struct hkr_view *view);
void hkr_views_del(struct hkr_view *view);
int hkr_reclaim_init(void);
void hkr_reclaim_exit(void);
unsigned long hkr_idle_seen(void);
unsigned long hkr_reclaim_idle(int nid, enum hkr_why why);

extern atomic_long_t hkr_resident;	/* slots with memory, all views */
extern struct dentry *hkr_debugfs;	/* a directory, or an error */

/* offline.c: memory that goes away */
int hkr_offline_init(void);
void hkr_offline_exit(void);

/* ioctl.c, stats.c, uring.c */
long hkr_run_command(struct hkr_arena *arena, unsigned int cmd, u64 uaddr);
long hkr_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
int hkr_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags);
bool hkr_uring_cancelled(void);
void hkr_view_stats(struct hkr_view *view, struct hkr_stats *st);
extern const struct attribute_group *hkr_groups[];

#endif /* HKR_H */
