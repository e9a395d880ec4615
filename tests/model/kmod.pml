/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module: words, records, the pool, orphans, and the takers of idle slots.
 * Included by slot.pml; what a fault and the ioctls do is in calls.pml.
 *
 * Each inline bears the name of the function in kmod/ that it models, without
 * "_locked"; a comment names it where it is another. Callers have the variables f
 * and n (folios), z (for zap) and ok (the result).
 */

/* the word in the control page: state and generation; there is one epoch only */
#define EMPTY		0
#define BUSY		1
#define IDLE		2
#define RECLAIM		3
#define WORD(state, g)	((state) | ((g) << 2))
#define STATE(w)	((w) & 3)
#define GEN(w)		((w) >> 2)

byte word[NR_VIEWS];

/* struct hkr_slot; enum hkr_slot_state */
#define FREE		0
#define FILLING		1
#define HANDED		2
#define CLOSING		3

byte slot_lock[NR_VIEWS];
byte state[NR_VIEWS];
byte folio[NR_VIEWS];
byte gen[NR_VIEWS];
bool held[NR_VIEWS];

byte view_lock[NR_VIEWS];
bool gone[NR_VIEWS];		/* view->phase is HKR_GONE */

/* Where a folio is. A folio is in one place: each move checks where it came from. */
#define POOL		0
#define IN_HAND		1	/* of one call at work */
#define IN_SLOT		2
#define ORPHAN		3

byte place[NR_FOLIOS + 1];

inline move(f, from, to)
{
	assert(place[f] == from);
	place[f] = to
}

#ifdef NO_GENERATION
#define NEXT_GEN(v)
#else
#define NEXT_GEN(v)	gen[v]++
#endif

/* ---- pool.c, orphan.c ------------------------------------------------------ */

/* hkr_pool_take(): zeroed, and the first there is, so that it is soon reused */
inline pool_take()
{
	atomic {
		n = 1;
		do
		:: n <= NR_FOLIOS && place[n] != POOL -> n++
		:: else -> break
		od;
		if
		:: n > NR_FOLIOS -> n = 0
		:: else -> move(n, POOL, IN_HAND); data[n] = 0
		fi
	}
}

/*
 * hkr_folio_is_ours(): freeze and unfreeze are one step, since nobody can take a
 * reference in between. From here on the folio is nobody's.
 */
inline hkr_folio_is_ours(f)
{
#ifdef NO_FREEZE
	ok = true;
#else
	ok = (ref[f] == 1);
#endif
	if
	:: ok -> owner[f] = 0
	:: else
	fi
}

/* hkr_pool_give(), hkr_folio_leave(): a folio that the core has locked must not go */
inline pool_give(f)
{
	atomic {
		move(f, IN_HAND, POOL);
		assert(!flock[f]);
		f = 0
	}
}

inline hkr_folio_release(f)
{
	atomic {
		hkr_folio_is_ours(f);
		if
		:: ok -> pool_give(f)
		:: else -> move(f, IN_HAND, ORPHAN); f = 0
		fi
	}
}

/* where the record had one */
inline release_if_any(v)
{
	if
	:: f -> hkr_folio_release(f)
	:: else
	fi;
	ok = true
}

inline hkr_orphans_retry()
{
	for (i : 1 .. NR_FOLIOS) {
		atomic {
			if
			:: place[i] == ORPHAN ->
				hkr_folio_is_ours(i);
				if
				:: ok ->
					assert(!flock[i]);
					move(i, ORPHAN, POOL)
				:: else
				fi
			:: else
			fi
		}
	}
	i = 0
}

/* ---- slot.c ---------------------------------------------------------------- */

/* Nobody else comes near a folio in hand, so that its lock is free. */
inline hkr_slot_install(v, f)
{
	atomic {
		!flock[f] ->
		assert(LOCKED_BY_ME(slot_lock[v]) && !folio[v]);
		assert(state[v] != FREE);
		move(f, IN_HAND, IN_SLOT);
		owner[f] = v + 1;
		folio[v] = f;
		f = 0
	}
}

inline hkr_slot_detach(v)
{
	assert(LOCKED_BY_ME(slot_lock[v]));
	move(folio[v], IN_SLOT, IN_HAND);
	folio[v] = 0
}

/*
 * mutex_lock() and hkr_slot_remove_locked(): the slot's folio into f, or 0; the
 * record is then without memory, and still locked.
 */
inline lock_and_remove(v)
{
#ifdef FOLIO_LOCK_FIRST
	f = folio[v];
	if
	:: f -> lock(flock[f])
	:: else
	fi;
	lock(slot_lock[v]);
#else
	atomic { lock(slot_lock[v]); f = folio[v] };
	if
	:: f -> lock(flock[f])
	:: else
	fi;
#endif
	if
#ifndef NO_ZAP
	:: f && ref[f] > 1 -> zap(v)
#endif
	:: else
	fi;
	atomic {
		if
		:: f -> hkr_slot_detach(v); unlock(flock[f])
		:: else
		fi
	}
}

inline hkr_word_set(v, s)
{
	assert(LOCKED_BY_ME(slot_lock[v]));
	word[v] = WORD(s, gen[v])
}

inline hkr_slot_publish(v)
{
	state[v] = HANDED;
	NEXT_GEN(v);
	tag[v] = 0;
	hkr_word_set(v, BUSY)
}

inline hkr_slot_free(v)
{
	assert(!folio[v]);
	state[v] = FREE;
	held[v] = false;
	NEXT_GEN(v);
	hkr_word_set(v, EMPTY)
}

/* compare-and-swap; a full barrier */
inline cas(at, old, new)
{
	atomic {
		if
		:: at == old -> at = new; ok = true
		:: else -> ok = false
		fi
	}
}

/* ---- take.c: never waits for a lock ---------------------------------------- */

#define LOOKS_PINNED(v) \
	(pmd[v] == folio[v] && ref[folio[v]] > 2)

#ifdef CLAIM_WITHOUT_FOLIO_LOCK
#define FOLIO_TRYLOCK(f)	true
#define FOLIO_UNLOCK(f)		skip
#else
#define FOLIO_TRYLOCK(f)	!flock[f] -> flock[f] = ME
#define FOLIO_UNLOCK(f)		unlock(flock[f])
#endif

/*
 * hkr_try_claim(). A slot is on a list, and so found, while it has memory. The
 * looks and both trylocks are one step: the mutex keeps all but the word as they
 * are, and the word is looked at again by the swap. claim[v] is the old word.
 */
inline hkr_try_claim(v)
{
	atomic {
		if
		:: folio[v] && !slot_lock[v] ->
			slot_lock[v] = ME;
			claim[v] = word[v];
			ok = (state[v] == HANDED && !held[v] &&
			      STATE(claim[v]) == IDLE && !LOOKS_PINNED(v));
			if
			:: ok ->
				if
				:: FOLIO_TRYLOCK(folio[v])
				:: else -> ok = false
				fi
			:: else
			fi;
			if
			:: !ok -> claim[v] = 0; unlock(slot_lock[v])
			:: else
			fi
		:: else
		fi
	};
	if
	:: claim[v] -> atomic {
#ifdef CLAIM_BY_STORE
		word[v] = WORD(RECLAIM, gen[v]);
#else
		cas(word[v], claim[v], WORD(RECLAIM, gen[v]));
#endif
		if
		:: !ok ->	/* the owner was faster */
			claim[v] = 0;
			FOLIO_UNLOCK(folio[v]);
			unlock(slot_lock[v])
		:: else
		fi
	   }
	:: else
	fi
}

/* hkr_take_finish(), after the zap */
inline hkr_take_finish(v)
{
	f = folio[v];
	n = (ref[f] == 1);
	if
	:: n ->
		atomic {
			hkr_slot_detach(v);
			hkr_slot_free(v);
#ifndef NO_GENERATION
			/* property (d) */
			assert(word[v] == WORD(EMPTY, gen[v]));
			assert(SCRIBBLED(v) || GEN(claim[v]) != gen[v]);
#endif
			claim[v] = 0;
			FOLIO_UNLOCK(f);
			unlock(slot_lock[v])
		};
		hkr_folio_release(f)
	:: else ->
		atomic {
			cas(word[v], WORD(RECLAIM, gen[v]), claim[v]);
			assert(ok || SCRIBBLED(v));
			claim[v] = 0;
			FOLIO_UNLOCK(f);
			unlock(slot_lock[v])
		};
		f = 0
	fi;
	n = 0
}

/* hkr_take_slots(): one batch of all slots, of whatever view */
inline hkr_take_slots()
{
	for (i : 0 .. NR_VIEWS - 1) {
		hkr_try_claim(i)
	}
	for (i : 0 .. NR_VIEWS - 1) {
		if
		:: claim[i] -> zap(i)
		:: else
		fi
	}
	for (i : 0 .. NR_VIEWS - 1) {
		if
		:: claim[i] -> hkr_take_finish(i)
		:: else
		fi
	}
	i = 0
}
