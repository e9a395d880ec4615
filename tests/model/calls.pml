/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module: a fault, the end of a mapping, HANDOUT, RECYCLE and TRIM. Included by
 * slot.pml; the names are as in kmod.pml.
 *
 * RECYCLE IDLE is left out, a store of IDLE as free_slot() does it, and MOVE: see
 * slot.pml.
 */

/* ---- arena.c --------------------------------------------------------------- */

/* hkr_view_take_folio(): where the pool has none, the oldest idle slot's */
inline hkr_view_take_folio()
{
	pool_take();
#if STEAL
	if
	:: !n -> hkr_take_slots(); pool_take()
	:: else
	fi
#endif
}

/* n back to the pool as it came: hkr_pool_give_clean() */
inline pool_give_clean()
{
	if
	:: n -> pool_give(n)
	:: else
	fi
}

/*
 * hkr_fault_page() and hkr_fault_back(). ok: the folio is in f, with a reference
 * and locked (VM_FAULT_LOCKED); else SIGBUS. The record's look-ups and the
 * reference are one step with the lock of the mutex: nobody else may change them.
 */
inline hkr_arena_fault(v)
{
	atomic {
		lock(slot_lock[v]);
		ok = (state[v] == HANDED);
		f = folio[v];
		if
		:: ok && f -> ref[f]++
		:: else -> unlock(slot_lock[v])
		fi
	};
	if
	:: ok && !f ->
		hkr_view_take_folio();
		ok = (n > 0);
		if
		:: ok -> atomic {
			lock(slot_lock[v]);
			ok = (state[v] == HANDED);
			if
			:: ok && !folio[v] -> hkr_slot_install(v, n)
			:: else -> pool_give_clean()
			fi;
			if
			:: ok -> f = folio[v]; ref[f]++
			:: else -> unlock(slot_lock[v])
			fi
		   }
		:: else
		fi
	:: else
	fi;
	if
	:: ok ->
#ifdef LATE_FOLIO_LOCK
		unlock(slot_lock[v]);
		lock(flock[f])
#else
		/* before the mutex is dropped: see the top of arena.c */
		atomic { lock(flock[f]); unlock(slot_lock[v]) }
#endif
	:: else
	fi
}

/*
 * munmap() of all of it: the translations go, then hkr_arena_close() with
 * hkr_view_clear_locked(), with mmap_lock held for writing throughout.
 */
inline munmap(v)
{
	atomic {
		!mm_writer[v] && !mm_readers[v] -> mm_writer[v] = ME;
		mm_unmapped[v] = true
	};
	zap(v);
	atomic { lock(view_lock[v]); gone[v] = true };
	if
	:: state[v] == HANDED ->
		lock_and_remove(v);
		atomic {
			if
			:: state[v] == HANDED -> hkr_slot_free(v)
			:: else		/* reclaim was faster */
			fi;
			unlock(slot_lock[v])
		};
		release_if_any(v)
	:: else
	fi;
	atomic { unlock(view_lock[v]); unlock(mm_writer[v]) }
}

/* ---- handout.c ------------------------------------------------------------- */

/*
 * hkr_handout() of a run of one slot. With COMMIT the memory is gathered while no
 * lock is held and the slot is FILLING.
 */
inline hkr_handout(v, commit)
{
	/*
	 * hkr_find_run_locked(), hkr_mark_filling_locked(): only a slot that is
	 * free is looked at more closely, and it stays so under the view's lock.
	 */
	atomic { lock(view_lock[v]); ok = (state[v] == FREE && !gone[v]) };
	atomic {
		if
		:: ok ->
			lock(slot_lock[v]);
			assert(state[v] == FREE);
			state[v] = FILLING;
			unlock(slot_lock[v])
		:: else
		fi;
		unlock(view_lock[v])
	};
	if
	:: ok && commit -> hkr_view_take_folio(); got = (n > 0)
	:: else -> got = ok
	fi;
	if
	:: ok ->
		atomic { lock(view_lock[v]); ok = (got && !gone[v]) };
		atomic {
			lock(slot_lock[v]);
			assert(state[v] == FILLING);
			if
			:: ok ->	/* hkr_publish_run_locked() */
				if
				:: n -> hkr_slot_install(v, n)
				:: else
				fi;
				hkr_slot_publish(v)
			:: else ->	/* hkr_unmark_filling_locked() */
				state[v] = FREE
			fi;
			unlock(slot_lock[v]);
			unlock(view_lock[v])
		}
	:: else
	fi;
	got = false;
	pool_give_clean()
}

/* ---- recycle.c ------------------------------------------------------------- */

/* hkr_hold_run_locked(): from here on reclaim leaves it alone */
inline hkr_hold_run(v)
{
	atomic {
		lock(slot_lock[v]);
		ok = (state[v] == HANDED && !gone[v]);
		if
#ifndef NO_HELD
		:: ok -> held[v] = true
#endif
		:: else
		fi;
		unlock(slot_lock[v])
	}
}

inline hkr_drop(v)
{
	lock(view_lock[v]);
	hkr_hold_run(v);
	if
	:: ok ->
		/* hkr_close_run_locked() */
		atomic {
			lock(slot_lock[v]);
			assert(state[v] == HANDED);
			state[v] = CLOSING;
			hkr_word_set(v, RECLAIM);
			unlock(slot_lock[v])
		};
#ifndef NO_ZAP
		zap(v);
#endif
		lock_and_remove(v);
		atomic { hkr_slot_free(v); unlock(slot_lock[v]) };
		release_if_any(v)
	:: else
	fi;
	unlock(view_lock[v])
}

/*
 * hkr_fresh(), hkr_refresh_locked() for one slot. The first look at the run and
 * its charge are left out: they are done under locks that are dropped again.
 */
inline hkr_fresh(v)
{
	hkr_view_take_folio();
	if
	:: n ->
		lock(view_lock[v]);
		hkr_hold_run(v);
		if
		:: ok ->
			lock_and_remove(v);
			atomic {
				hkr_slot_install(v, n);
				assert(state[v] == HANDED);
				held[v] = false;
				hkr_word_set(v, BUSY);
				unlock(slot_lock[v])
			};
			release_if_any(v)
		:: else
		fi;
		unlock(view_lock[v])
	:: else -> ok = false
	fi;
	pool_give_clean()
}

/* ---- idle.c ---------------------------------------------------------------- */

/*
 * hkr_take_idle_locked() for one slot, from hkr_trim(): claimed and CLOSING, the
 * mutex is dropped for the zap, then what was claimed is collected.
 */
inline hkr_trim(v)
{
	atomic { lock(view_lock[v]); cand = word[v] };
	/* hkr_claim_idle_locked() */
	atomic {
		lock(slot_lock[v]);
		if
		:: STATE(cand) == IDLE && state[v] == HANDED &&
		   (!folio[v] || !LOOKS_PINNED(v)) ->
			cas(word[v], cand, WORD(RECLAIM, gen[v]));
			if
			:: ok -> state[v] = CLOSING
			:: else
			fi
		:: else -> ok = false
		fi;
		unlock(slot_lock[v])
	};
	if
	:: ok ->
		zap(v);
		/* hkr_collect_locked() */
		lock_and_remove(v);
		if
		:: f -> atomic { hkr_folio_is_ours(f) }
		:: else -> ok = true
		fi;
		if
		:: ok ->
			atomic { hkr_slot_free(v); unlock(slot_lock[v]) };
			if
			:: f -> pool_give(f)
			:: else
			fi
		:: else ->
			atomic {
				hkr_slot_install(v, f);
				state[v] = HANDED;
				cas(word[v], WORD(RECLAIM, gen[v]), cand);
				assert(ok || SCRIBBLED(v));
				unlock(slot_lock[v])
			}
		fi
	:: else
	fi;
	unlock(view_lock[v]);
	cand = 0
}
