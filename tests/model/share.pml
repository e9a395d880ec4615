/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that is shared over fork(), as a model for spin: kmod/fork.c and
 * kmod/share.c, whose functions have the same names here. It is apart from
 * slot.pml because the two have nothing in common but the slot's lock: shared
 * memory is on no list of the takers, is mapped nowhere, and no word leads to it.
 *
 * A parent has two slots, of which a thread writes first the one and then the
 * other. It forks a child, and the child one of its own, or the parent a second,
 * while a device has a page of the parent's pinned or has not. Each then touches
 * its slots, or ends at once. What is shown:
 *
 * (a) A child sees one moment: its second slot is as far as its first, or one
 *     behind (look()). What it writes later nobody else sees (check_own()).
 * (b) Mapped means one holder; memory with more is not mapped, not pinned and does
 *     not change (write_to(), map()).
 * (c) Memory is free exactly when its last holder lets go (put_mem(), the end).
 * (d) Nothing deadlocks.
 *
 * Left out: words (a busy one is shared, any other is not: nothing to interleave
 * once the control pages are zapped, which is the same zap as here), failures, and
 * slots that were never touched. mmap_lock is taken for reading by faults and by
 * GUP, which is modelled as pinning what is mapped; lockless GUP that takes a
 * reference before the zap is the same to whoever looks after it.
 */

#ifndef FORKS
#define FORKS	1	/* of the parent */
#endif
#ifndef NESTED
#define NESTED	0	/* the first child forks, too */
#endif
#ifndef PINS
#define PINS	0
#endif
#ifndef ROUNDS
#define ROUNDS	2	/* of the parent's writer */
#endif
#ifndef TICKS
#define TICKS	1
#endif

#define NR_VIEWS	3
#define SLOT(v, s)	((v) * 2 + (s))
#define NR_MEM		8

#define ME	(_pid + 1)

byte own[6], shr[6], map[6], slot_lock[6];	/* by SLOT() */
byte mm_readers[NR_VIEWS], mm_writer[NR_VIEWS];
byte data[NR_MEM], pins[NR_MEM], holders[NR_MEM];
bool used[NR_MEM];	/* of memory; 0 is none */
bool forked[NR_VIEWS];
byte written[6];	/* ghost: what its process wrote there last; 0: nothing yet */

inline lock(l)
{
	atomic { !l -> l = ME }
}

inline unlock(l)
{
	atomic { assert(l == ME); l = 0 }
}

inline new_mem(m)
{
	atomic {
		m = 1;
		do
		:: used[m] -> m++
		:: else -> break
		od;
		used[m] = true
	}
}

inline put_mem(m)
{
	atomic {
		assert(used[m] && !pins[m] && !holders[m]);
		assert(map[0] != m && map[1] != m && map[2] != m);
		assert(map[3] != m && map[4] != m && map[5] != m);
		used[m] = false;
		data[m] = 255
	}
}

inline write_to(m, value)
{
	assert(used[m] && holders[m] <= 1);
	data[m] = value
}

/* under the slot's lock; false: another holder, or no share */
inline hkr_share_adopt_locked(i)
{
	atomic {
		if
		:: shr[i] && holders[shr[i]] == 1 ->
			own[i] = shr[i];
			holders[shr[i]] = 0;
			shr[i] = 0
		:: else
		fi
	}
}

inline hkr_share_drop_locked(i)
{
	m = shr[i];
	shr[i] = 0;
	atomic { holders[m]--; last = !holders[m] };
	if
	:: last -> put_mem(m)
	:: else
	fi
}

inline hkr_share_copy_locked(i)
{
#ifdef DROP_FIRST
	src = shr[i];
	hkr_share_drop_locked(i);
	seen = data[src];
#else
	seen = data[shr[i]];
	hkr_share_drop_locked(i);
#endif
	new_mem(m);
	data[m] = seen;
	own[i] = m
}

/* one page fault, from the lock of the mm to the translation */
inline fault(v, i)
{
	atomic { !mm_writer[v] -> mm_readers[v]++ };
	lock(slot_lock[i]);
#ifdef MAP_SHARED
	map[i] = (own[i] -> own[i] : shr[i]);
#else
	hkr_share_adopt_locked(i);
	if
	:: shr[i] -> hkr_share_copy_locked(i)
	:: else
	fi;
	assert(own[i]);
	map[i] = own[i];
#endif
	unlock(slot_lock[i]);
	mm_readers[v]--
}

/* a store or a load by the CPU, once there is a translation */
inline store(v, i, value)
{
	done = false;
	do
	:: done -> break
	:: else ->
		atomic {
			if
			:: map[i] ->
				write_to(map[i], value);
				written[i] = value;
				done = true
			:: else
			fi
		};
		if
		:: !done -> fault(v, i)
		:: else
		fi
	od
}

inline load(v, i, value)
{
	done = false;
	do
	:: done -> break
	:: else ->
		atomic {
			if
			:: map[i] -> value = data[map[i]]; done = true
			:: else
			fi
		};
		if
		:: !done -> fault(v, i)
		:: else
		fi
	od
}

#ifdef SHARE_PINNED
#define PINNED(m)	false
#else
#define PINNED(m)	pins[m]
#endif
#ifdef NO_ZAP
#define MAP_MAY_STAY	0
#define zap(s)		skip
#elif defined(SHARE_MAPPED)
#define MAP_MAY_STAY	1
#define zap(s)		skip
#else
#define MAP_MAY_STAY	0
inline zap(s)
{
	/* of all who have the file mapped */
	map[SLOT(0, s)] = 0;
	map[SLOT(1, s)] = 0;
	map[SLOT(2, s)] = 0
}
#endif

/* the slot of the child that is SLOT(c, s) gets what the parent's has */
inline hkr_share_slot(i, j)
{
	lock(slot_lock[i]);
	copy = false;
	atomic {
		if
		:: shr[i] -> holders[shr[i]]++; shr[j] = shr[i]
		:: !shr[i] && (PINNED(own[i]) || (map[i] && !MAP_MAY_STAY)) ->
			copy = true
		:: else ->
			shr[i] = own[i];
			shr[j] = own[i];
			holders[own[i]] = 2;
			own[i] = 0
		fi
	};
	if
	:: copy ->
		seen = data[own[i]];
		new_mem(m);
		data[m] = seen;
		own[j] = m
	:: else
	fi;
	unlock(slot_lock[i])
}

/* the system call: a process of its own, for which the caller waits */
proctype forker(byte v, c)
{
	byte m, seen;
	bool copy;

	atomic { !mm_writer[v] -> mm_writer[v] = ME };
	mm_readers[v] == 0;
	zap(0);
	zap(1);
	hkr_share_slot(SLOT(v, 0), SLOT(c, 0));
	hkr_share_slot(SLOT(v, 1), SLOT(c, 1));
	atomic { mm_writer[v] = 0; forked[c] = true; run child(c) }
}

inline fork(v, c)
{
	run forker(v, c);
	forked[c]
}

/* exit: every translation goes, then every slot */
inline end(v)
{
	s = 0;
	do
	:: s < 2 ->
		map[SLOT(v, s)] = 0;
		lock(slot_lock[SLOT(v, s)]);
		if
		:: shr[SLOT(v, s)] -> hkr_share_drop_locked(SLOT(v, s))
		:: own[SLOT(v, s)] ->
			m = own[SLOT(v, s)];
			own[SLOT(v, s)] = 0;
			pins[m] == 0;
			put_mem(m)
		fi;
		unlock(slot_lock[SLOT(v, s)]);
		s++
	:: else -> break
	od
}

inline look(v)
{
	load(v, SLOT(v, 1), second);
	load(v, SLOT(v, 0), first);
	assert(first == second || first == second + 1)
}

inline check_own(v, s)
{
	load(v, SLOT(v, s), seen);
	assert(seen == written[SLOT(v, s)])
}

proctype child(byte c)
{
	byte m, s, seen, first, second, src;
	bool done, copy, last;

	if
	:: true ->
		if
		:: look(c)
		:: true
		fi;
		store(c, SLOT(c, 0), 100 + c);
		store(c, SLOT(c, 1), 100 + c);
#if NESTED
		if
		:: c == 1 -> fork(1, 2)
		:: else
		fi;
#endif
		check_own(c, 0);
		check_own(c, 1)
#if NESTED
	:: c == 1 -> fork(1, 2)
#endif
	:: true
	fi;
	end(c)
}

/* the parent's other thread */
proctype writer()
{
	byte m, n = 1, seen, src;
	bool done, copy, last;

	do
	:: n <= ROUNDS ->
		store(0, SLOT(0, 0), n);
		store(0, SLOT(0, 1), n);
		n++
	:: else -> break
	od
}

/* a device that writes what it reads there, as long as it has a page pinned */
proctype pinner()
{
	byte m, i;

	atomic { !mm_writer[0] -> mm_readers[0]++ };
	atomic {
		if
		:: i = 0
		:: i = 1
		fi;
		m = map[i];
		if
		:: m -> pins[m]++
		:: else
		fi
	};
	mm_readers[0]--;
	if
	:: m ->
		write_to(m, data[m]);
		assert(own[i] == m);
		pins[m]--
	:: else
	fi
}

proctype tick(byte left)
{
	byte i;

	do
	:: left ->
		left--;
		i = 0;
		do
		:: i < 6 ->
			if
			:: atomic { !slot_lock[i] -> slot_lock[i] = ME };
				hkr_share_adopt_locked(i);
				unlock(slot_lock[i])
			:: else
			fi;
			i++
		:: else -> break
		od
	:: else -> break
	od
}

init
{
	byte m, s, seen, src, i;
	bool done, copy, last;

	atomic {
		new_mem(m);
		own[0] = m;
		new_mem(m);
		own[1] = m;
		run writer();
#if PINS
		run pinner();
#endif
#if TICKS
		run tick(TICKS)
#endif
	};
	fork(0, 1);
#if FORKS > 1
	fork(0, 2);
#endif
	_nr_pr == 1;
	load(0, SLOT(0, 0), seen);
	assert(seen == written[SLOT(0, 0)]);
	end(0);
	atomic {
		for (i : 1 .. NR_MEM - 1) {
			assert(!used[i] && !holders[i] && !pins[i])
		}
		for (i : 0 .. 5) {
			assert(!slot_lock[i] && !own[i] && !shr[i])
		}
	}
}
