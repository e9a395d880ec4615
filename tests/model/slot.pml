/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protocol between a slot's owner, the kernel's takers and the mm core, as a
 * model for spin. It is searched to its end: every interleaving of the cast below.
 *
 *	core.pml	translations, TLBs, references, GUP, the end of a fault
 *	kmod.pml	the module, function by function, under the same names:
 *	calls.pml	what records and takers do; faults and ioctls
 *	user.pml	threads that keep to the protocol, one that does not, a pin
 *	cases		which casts are searched, and which bugs must be found
 *
 * What is shown, and where it is checked:
 *
 * (a) A thread whose compare-and-swap IDLE -> BUSY succeeds reads what the slot
 *     held when its word said so, and a slot that was handed out or refreshed
 *     reads as zero (touch() with EXPECT). A slot has one holder (hold()).
 * (b) Whatever a CPU reaches through a translation, stale or not, and a device
 *     through a pin is of the view it was mapped or pinned in: never the pool's,
 *     never another owner's (touch(), dma_and_unpin()). A folio is in one place
 *     (move()), is unlocked when it goes to the pool, and enters a slot that is
 *     empty. This holds for a hostile neighbour too, which writes any word at
 *     any time; then (a) is shown for the other process.
 * (c) Nothing deadlocks. All programs are finite, so that a process that is stuck
 *     is an invalid end state even while others could go on. In the end no lock
 *     is held and every reference is accounted for (check_end()).
 * (d) A slot that the kernel took is EMPTY with another generation
 *     (hkr_take_finish()). Nobody ever waits for a word: look at user(), where
 *     nothing blocks but locks. A search for cycles finds none, so whoever calls
 *     the kernel returns, without any assumption that the scheduler is fair.
 *
 * What is left out, and why that hides nothing:
 *
 * - One slot in each view. A run is a loop over slots, of which each step changes
 *   one slot's record, and its one zap is the zaps of its slots. Only MOVE looks
 *   at two records at once; it is not modelled. The takers look at the slots of
 *   all views in one batch and hold the locks of several, as take.c does.
 * - Age. Which idle slot is taken, and when, is left to the interleaving, so any
 *   order is in it. There is one epoch only: the most words that look alike.
 * - Generations do not wrap: 32 bits are thought to suffice for the time between
 *   a read of a word and its compare-and-swap.
 * - The pool is one list; zeroing is done when a folio is taken from it. Memory
 *   that goes to the buddy allocator is as free as the pool's.
 * - A folio is mapped by one PMD. Parts mapped by PTEs are more references of the
 *   same kind; whoever asks for the last reference gets the same answer.
 * - Leaf locks (page table lock, i_mmap_rwsem, the lists' and the pool's locks)
 *   are steps: nobody waits for anything else while holding one. mmap_lock only
 *   keeps munmap() apart from faults, and is there where munmap() is.
 * - A killed waiter and a failed allocation leave things as if there had been no
 *   call. Caps, charges to a cgroup and poisoned pages change no lock, word or
 *   translation.
 * - Threads do a bounded number of things: enough for two generations of a word
 *   and for a folio to pass from one owner to the next and back.
 *
 * Steps. Each access to a word, a reference or a page table entry is a step of
 * its own, and so is the taking of each lock, so that two that are taken in the
 * wrong order meet. What is done under a lock to things that only its holder may
 * touch is one step with the taking of the lock or with its release (Lipton's
 * reduction: taking it commutes with what others did before, releasing it with
 * what they do after). What is tried and not waited for may be tried in one step.
 *
 * Memory order. spin interleaves whole steps, so it cannot see a missing barrier
 * by itself. Debian 12 has no herd7 that could. The two orders that user space
 * relies on are therefore planted as bugs, by moving the access to where the
 * missing barrier would let it go, to show that they are needed: the store of
 * contents below the store of IDLE (NO_RELEASE: store_release() in region_idle())
 * and the load of contents above the swap to BUSY (NO_ACQUIRE: claim_slot()).
 * What the kernel relies on was checked by reading:
 *
 * - The swap IDLE -> RECLAIM is a cmpxchg() that succeeds, a full barrier: the
 *   zap and the look at the reference come after it, and the owner's stores from
 *   before its store-release of IDLE come before.
 * - The new generation is stored with release after the record is changed. Who
 *   sees EMPTY calls HANDOUT, which takes the slot's mutex: that orders it again.
 * - GUP-fast takes its reference by an atomic with a full barrier and then reads
 *   the entry again; a zap clears the entry by an atomic, flushes, and only then
 *   does folio_ref_freeze(), a cmpxchg, look at the reference.
 *
 * Memory that several processes share since a fork has a model of its own, in
 * share.pml.
 */

/* The cast; see cases. */
#ifndef A_THREADS
#define A_THREADS	1	/* threads of view 0: user() */
#endif
#ifndef A_ROUNDS
#define A_ROUNDS	3	/* things that each does */
#endif
#ifndef B_ROUNDS
#define B_ROUNDS	0	/* of the only thread of view 1; 0: there is none */
#endif
#ifndef PASSES
#define PASSES		0	/* of the shrinker */
#endif
#ifndef PINS
#define PINS		0	/* of pinner() in view 0 */
#endif
#ifndef RETRIES
#define RETRIES		0	/* of orphans, by the tick */
#endif
#ifndef NR_FOLIOS
#define NR_FOLIOS	2
#endif

/* What the threads do besides free and reuse. */
#ifndef DROP
#define DROP		0
#endif
#ifndef FRESH
#define FRESH		0
#endif
#ifndef TRIM
#define TRIM		0
#endif
#ifndef COMMIT
#define COMMIT		1	/* HANDOUT brings memory */
#endif
#ifndef STEAL
#define STEAL		0	/* where the pool has none */
#endif
#ifndef CLOSE
#define CLOSE		0	/* munmap() in the end */
#endif
#ifndef HOSTILE
#define HOSTILE		0	/* view 0 is hostile() */
#endif

#define NR_VIEWS	2
#define NR_THREADS	4

#define SCRIBBLED(v)	(HOSTILE && (v) == 0)
#define ONLY_THREAD(v)	((v) == 1 || A_THREADS == 1)

/* Ghost: what the holder wrote, and so what a reuse must read */
byte tag[NR_VIEWS];

#include "core.pml"
#include "kmod.pml"
#include "calls.pml"
#include "user.pml"

/* the shrinker, decay, OOM notifier: whoever calls hkr_take_slots() */
proctype shrinker(byte left)
{
	byte f, n, z, i;
	byte claim[NR_VIEWS];
	bool ok;

	do
	:: left -> left--; hkr_take_slots()
	:: !left -> break
	od
}

proctype tick(byte left)
{
	byte i;
	bool ok;

	do
	:: left -> left--; hkr_orphans_retry()
	:: !left -> break
	od
}

inline check_end_of_folio(f)
{
	assert(!flock[f]);
	assert(ref[f] == 1 + (pmd[0] == f) + (pmd[1] == f));
	assert(place[f] == POOL || place[f] == IN_SLOT);
	assert((place[f] == IN_SLOT) == (folio[0] == f || folio[1] == f))
}

inline check_end_of_slot(v)
{
	assert(!slot_lock[v] && !view_lock[v] && !mm_writer[v]);
	assert(!mm_readers[v] && !gathers[v] && !held[v]);
	assert(state[v] == HANDED || (state[v] == FREE && !folio[v]));
	assert(!pmd[v] || pmd[v] == folio[v]);
	assert(SCRIBBLED(v) ||
	       word[v] == WORD((state[v] == HANDED -> IDLE : EMPTY), gen[v]))
}

/* everybody is done, and the last orphans may go */
inline check_end()
{
	hkr_orphans_retry();
	for (i : 1 .. NR_FOLIOS) {
		check_end_of_folio(i)
	}
	for (i : 0 .. NR_VIEWS - 1) {
		check_end_of_slot(i)
	}
}

init
{
	byte i;
	bool ok;

	atomic {
		for (i : 1 .. NR_FOLIOS) {
			ref[i] = 1
		}
		i = 0;
#if HOSTILE
		run hostile(0, 0, A_ROUNDS);
#else
		run user(0, 0, A_ROUNDS);
#endif
#if A_THREADS == 2
		run user(0, 1, A_ROUNDS);
#endif
#if B_ROUNDS
		run user(1, 2, B_ROUNDS);
#endif
#if PINS
		run pinner(0, 3, PINS);
#endif
#if PASSES
		run shrinker(PASSES);
#endif
#if RETRIES
		run tick(RETRIES);
#endif
	};
	atomic {
		_nr_pr == 1 ->
#ifndef NO_END_CHECK
		check_end()
#else
		skip
#endif
	}
}
