/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User space. Included by slot.pml.
 *
 * user()	a thread that keeps to the protocol, as userlib/region.c does
 * hostile()	one that does not
 * pinner()	a device or another thread of the process, which knows nothing
 *		about words: pins, touches, drops translations
 */

byte holder[NR_VIEWS];	/* ghost: the thread whose slot it is, plus 1 */

inline hold(v, me)
{
	atomic {
		assert(!holder[v]);
		holder[v] = me + 1;
		w = 0
	}
}

inline let_go(v, me)
{
	atomic {
		assert(holder[v] == me + 1);
		holder[v] = 0
	}
}

/* An idle slot may be recycled as well, but not behind another thread's back. */
#define MAY_RECYCLE(v)	(mine || (STATE(w) == IDLE && ONLY_THREAD(v)))

inline let_go_for_drop(v, mine)
{
	atomic {
		if
		:: mine -> holder[v] = 0
		:: else
		fi;
		tag[v] = 0;
		w = 0;
		t = 0
	}
}

/*
 * BUSY -> IDLE, by the owner alone: a plain store with the generation that the
 * word had. What is remembered of it is in w and in t.
 */
inline free_slot(v, me)
{
	atomic {
		assert(STATE(word[v]) == BUSY);
		let_go(v, me);
		w = WORD(IDLE, GEN(word[v]));
		t = tag[v];
		word[v] = w
	}
}

/*
 * IDLE -> BUSY from the word that was read or written some time ago. It never
 * waits: a slot that it cannot have is another's, and w is forgotten.
 */
inline reuse_slot(v, me)
{
	atomic {
		assert(STATE(w) == IDLE);
#ifdef REUSE_BY_STORE
		ok = true;
		word[v] = WORD(BUSY, GEN(w));
#else
		cas(word[v], w, WORD(BUSY, GEN(w)));
#endif
		if
		:: ok -> hold(v, me)
		:: else -> w = 0; t = 0
		fi
	}
}

/* w and what the slot held when the word said so */
inline look(v)
{
	atomic {
		w = word[v];
		t = (STATE(w) == IDLE -> tag[v] : 0)
	}
}

/*
 * What it did decides what it then reads and writes: @expect says that the slot
 * must hold t, which is property (a), and @mark is what to write.
 */
proctype user(byte v; byte me; byte left)
{
	byte f, n, z, w, t, mark, cand, i;
	byte claim[NR_VIEWS];
	bool ok, got, mine, expect;
#ifdef NO_ACQUIRE
	byte early;
#endif

	do
	:: left ->
		left--;
		mine = (holder[v] == me + 1);
		if
		:: mine ->
			free_slot(v, me);
#ifdef NO_RELEASE
			/* what was written before IDLE comes after it */
			touch(v, me, STORE, t)
#endif
		:: !mine && STATE(w) == IDLE ->
			reuse_slot(v, me);
#ifdef NO_ACQUIRE
			assert(!ok || early == t);
#endif
			expect = ok
		:: !mine && STATE(w) != IDLE ->
#ifdef NO_ACQUIRE
			/* what is read after BUSY comes before it */
			touch(v, me, LOAD, 0);
#endif
			look(v);
			if
			:: STATE(w) == EMPTY ->
				hkr_handout(v, COMMIT);
				if
				:: ok -> hold(v, me); expect = true; mark = me + 1
				:: else
				fi
			:: else
			fi
#if DROP
		:: MAY_RECYCLE(v) ->
			let_go_for_drop(v, mine);
			hkr_drop(v);
			assert(ok || !mine)
#endif
#if FRESH
		:: MAY_RECYCLE(v) ->
			hkr_fresh(v);
			if
			:: ok ->
				/* back as it was: other threads' w say so */
				mark = (mine -> tag[v] : me + 1);
				t = 0;
				expect = true;
				if
				:: mine
				:: else -> hold(v, me)
				fi
			:: else
			fi
#endif
#if TRIM
		:: hkr_trim(v); assert(!ok || !mine)
#endif
		fi;
		if
		:: expect ->
			touch(v, me, EXPECT, t);
			/* SIGBUS only for want of memory */
			assert(ok || (!COMMIT && !folio[v]));
			expect = false
		:: else -> ok = false
		fi;
		if
		:: ok && mark ->
#ifndef NO_RELEASE
			touch(v, me, STORE, mark);
			assert(ok);
#endif
			tag[v] = mark
		:: else
		fi;
		mark = 0
	:: !left -> break
	od;
	if
#if CLOSE
	:: holder[v] == me + 1 -> let_go(v, me)
#else
	:: holder[v] == me + 1 -> free_slot(v, me)
#endif
	:: else
	fi;
#if CLOSE
	munmap(v)
#endif
}

#if HOSTILE
/* Any word at any time, any call at any time, and a touch of whatever it likes. */
proctype hostile(byte v; byte me; byte left)
{
	byte f, n, z, cand, i;
	byte claim[NR_VIEWS];
	bool ok, got;

	do
	:: left ->
		left--;
		if
		:: word[v] = WORD(EMPTY, gen[v])
		:: word[v] = WORD(BUSY, gen[v])
		:: word[v] = WORD(IDLE, gen[v])
		:: word[v] = WORD(RECLAIM, gen[v])
		:: word[v] = WORD(IDLE, 63)
		:: touch(v, me, STORE, me + 1)
		:: hkr_handout(v, COMMIT)
		:: hkr_drop(v)
		:: hkr_fresh(v)
		:: hkr_trim(v)
		fi
	:: !left -> break
	od
}
#endif

#if PINS
proctype pinner(byte v; byte me; byte left)
{
	byte f, n, z, pin, i;
	byte claim[NR_VIEWS];
	bool ok;

	do
	:: left ->
		left--;
		if
		:: gup_fast(v);
			if
			:: !pin ->
				handle_fault(v);
				gup_fast(v)
			:: else
			fi;
			if
			:: pin -> dma_and_unpin(v)
			:: else
			fi
		:: touch(v, me, LOOK_AT, 0)
		:: zap(v)	/* madvise(MADV_DONTNEED) */
		fi
	:: !left -> break
	od
}
#endif
