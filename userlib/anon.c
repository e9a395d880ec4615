// SPDX-License-Identifier: MIT
/*
 * Whales of anonymous memory: the source that always works.
 *
 * It is given a part of a window (window.c), closed address space. A commit
 * finds the first run of free slots in a bitmap and opens it with mprotect(); a
 * drop gives the memory back and closes the addresses, so that a use after drop
 * faults.
 * First fit by address keeps the open runs together at the low end, where
 * neighbours of the same protection merge into one kernel VMA.
 *
 * A slot's bit says that somebody has it, busy or idle; nothing else is kept.
 * The kernel cannot tell idle runs from busy ones here, so the policy decides
 * what idle costs: memory (KEEP), or a system call on each free (DONTNEED,
 * FREE). DECAY is KEEP here: it is for who keeps idle runs to drop them in time.
 * Reuse never fails: with DONTNEED and FREE the contents may be gone,
 * which idle allows, and the addresses stay open.
 *
 * A bit is set before the run is opened and cleared after it is closed, so the
 * system calls need no lock. In a forked child the whales are ordinary
 * copy-on-write copies.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "checker.h"
#include "lock.h"
#include "machine.h"
#include "moving.h"
#include "sys.h"
#include "tables.h"
#include "window.h"

/*
 * Slots that may be mappings of their own because idle memory was moved to them. The
 * kernel allows a process 65530 mappings, which the program needs, too.
 */
#define STRAYS 4096

/* Is memory that is to serve elsewhere moved there, or given back for new? */
enum moving { UNKNOWN, PAYS, LOSES };

/**
 * struct anon - slots of a window
 * @be: first member; fixed after open
 * @lock: protects @used, @first_free and the strays
 * @first_free: no slot below this one is free
 * @nr_strays: bits that are set in @strays
 * @policy: atomic
 * @moving: atomic
 * @flags: HKM_ANON_*; fixed after open
 * @strays: a bit for each slot, behind those of @used
 * @used: a bit for each slot
 */
struct anon {
	struct hkm_backend be;
	struct hkm_lock lock;
	size_t first_free;
	size_t nr_strays;
	enum hkm_policy policy;
	enum moving moving;
	unsigned int flags;
	uint64_t *strays;
	uint64_t used[];
};

static struct anon *to_anon(struct hkm_backend *be)
{
	return (struct anon *)be;
}

static size_t words_for(size_t nr_slots)
{
	return (nr_slots + 63) / 64;
}

static size_t table_size(size_t nr_slots)
{
	return sizeof(struct anon) + 2 * words_for(nr_slots) * sizeof(uint64_t);
}

/* ---- the bitmap ---------------------------------------------------------- */

/* First slot from @from on whose bit is @used; without any before @to, that or more. */
static size_t next_slot(const struct anon *a, size_t from, size_t to, bool used)
{
	size_t nr_words = words_for(to);
	uint64_t flip = used ? 0 : ~0ULL;
	uint64_t word;
	size_t w = from / 64;

	if (w >= nr_words)
		return to;
	word = (a->used[w] ^ flip) & ~0ULL << from % 64;
	while (!word) {
		if (++w == nr_words)
			return to;
		word = a->used[w] ^ flip;
	}
	return w * 64 + (size_t)__builtin_ctzll(word);
}

static void mark_in(uint64_t *bits, size_t first, size_t nr, bool on)
{
	size_t end = first + nr;

	while (first < end) {
		size_t bit = first % 64;
		size_t n = 64 - bit < end - first ? 64 - bit : end - first;
		uint64_t mask = ~0ULL >> (64 - n) << bit;

		if (on)
			bits[first / 64] |= mask;
		else
			bits[first / 64] &= ~mask;
		first += n;
	}
}

static void mark(struct anon *a, size_t first, size_t nr, bool used)
{
	mark_in(a->used, first, nr, used);
}

/* How many of these were never moved to. Under the lock. */
static size_t new_strays(const struct anon *a, size_t first, size_t nr)
{
	size_t new = 0;

	for (size_t i = first; i < first + nr; i++)
		new += !(a->strays[i / 64] >> i % 64 & 1);
	return new;
}

static int take_slots(struct anon *a, size_t nr, size_t *first)
{
	size_t at, end;
	int err = -ENOSPC;

	if (!nr || nr > a->be.nr_slots)
		return nr ? -ENOSPC : -EINVAL;

	hkm_lock(&a->lock);
	at = next_slot(a, a->first_free, a->be.nr_slots, false);
	a->first_free = at;
	while (at + nr <= a->be.nr_slots) {
		end = next_slot(a, at, at + nr, true);
		if (end - at >= nr) {
			mark(a, at, nr, true);
			*first = at;
			err = 0;
			break;
		}
		at = next_slot(a, end, a->be.nr_slots, false);
	}
	hkm_unlock(&a->lock);
	return err;
}

/* Just these, which are perhaps free. */
static int take_slots_at(struct anon *a, size_t first, size_t nr)
{
	int err = -ENOSPC;

	hkm_lock(&a->lock);
	if (nr <= a->be.nr_slots - first &&
	    next_slot(a, first, first + nr, true) >= first + nr) {
		mark(a, first, nr, true);
		err = 0;
	}
	hkm_unlock(&a->lock);
	return err;
}

/* How many slots directly before @first are free; counted up to @most. */
static size_t free_before(const struct anon *a, size_t first, size_t most)
{
	size_t n = 0;

	while (n < most && n < first &&
	       !(a->used[(first - n - 1) / 64] >> (first - n - 1) % 64 & 1))
		n++;
	return n;
}

/*
 * @more slots around the @nr from @first on, which are somebody's: behind them as
 * far as that goes, the rest before them. How many are before. Under the lock.
 */
static int find_slots_around(const struct anon *a, size_t first, size_t nr,
			     size_t more, size_t *before)
{
	size_t end = first + nr, most = a->be.nr_slots - end, behind;

	most = most < more ? most : more;
	behind = next_slot(a, end, end + most, true) - end;
	behind = behind < most ? behind : most;
	*before = behind < more ? more - behind : 0;
	return free_before(a, first, *before) == *before ? 0 : -ENOSPC;
}

static int take_slots_around(struct anon *a, size_t first, size_t nr,
			     size_t more, size_t *before)
{
	int err;

	hkm_lock(&a->lock);
	err = find_slots_around(a, first, nr, more, before);
	if (!err)
		mark(a, first - *before, nr + more, true);
	hkm_unlock(&a->lock);
	return err;
}

static void give_slots(struct anon *a, size_t first, size_t nr)
{
	hkm_lock(&a->lock);
	mark(a, first, nr, false);
	if (first < a->first_free)
		a->first_free = first;
	hkm_unlock(&a->lock);
}

/* ---- operations ---------------------------------------------------------- */

static size_t slot_of(const struct anon *a, const void *run)
{
	return (size_t)((const char *)run - a->be.base) >> HKM_SLOT_SHIFT;
}

/* Slots that a run of @nr takes: a guard is one that is never opened. */
static size_t with_guard(const struct anon *a, size_t nr)
{
	return nr + !!(a->flags & HKM_ANON_GUARD);
}

/* A kernel without huge pages refuses the advice: no loss. */
static int open_slots(const struct anon *a, void *at, size_t nr)
{
	size_t size = nr << HKM_SLOT_SHIFT;
	int err = hkm_sys_mprotect(at, size, PROT_READ | PROT_WRITE);

	if (err)
		return err;
	if (a->flags & HKM_ANON_THP)
		hkm_sys_madvise_hugepage(at, size);
	else if (a->flags & HKM_ANON_NO_THP)
		hkm_sys_madvise_nohugepage(at, size);
	return 0;
}

/*
 * Where the kernel counts what may be written (HKM_ANON_STAY is not set) it does
 * not stop counting what is no longer open, so a new mapping takes its place. The
 * old one keeps its name.
 */
static int close_slots(const struct anon *a, void *at, size_t size)
{
	if (a->flags & HKM_ANON_STAY && !hkm_sys_madvise_dontneed(at, size) &&
	    !hkm_sys_mprotect(at, size, PROT_NONE))
		return 0;
	return hkm_window_shut(at, size);
}

static int anon_commit(struct hkm_backend *be, size_t nr_slots,
		       unsigned int flags, void **run, bool *zeroed)
{
	struct anon *a = to_anon(be);
	size_t first;
	char *start;
	int err;

	if (!nr_slots)
		return -EINVAL;
	err = take_slots(a, with_guard(a, nr_slots), &first);
	if (err)
		return err;

	start = be->base + (first << HKM_SLOT_SHIFT);
	if (!(flags & HKM_COMMIT_FROM_IDLE))
		err = open_slots(a, start, nr_slots);
	if (err) {
		give_slots(a, first, with_guard(a, nr_slots));
		return err;
	}
	*run = start;
	if (zeroed)
		*zeroed = true;
	return 0;
}

/* Advice may be refused (locked memory): the contents then stay, as idle may. */
static bool anon_idle(struct hkm_backend *be, void *run, size_t nr_slots)
{
	size_t size = nr_slots << HKM_SLOT_SHIFT;

	switch (read_once(&to_anon(be)->policy)) {
	case HKM_POLICY_DECAY:
	case HKM_POLICY_KEEP:
	case HKM_POLICY_REGION:	/* not of this source */
		break;
	case HKM_POLICY_DONTNEED:
		return !hkm_sys_madvise_dontneed(run, size);
	case HKM_POLICY_FREE:
		hkm_sys_madvise_free(run, size);
		break;
	}
	return false;
}

static int anon_reuse(struct hkm_backend *be, void *run, size_t nr_slots)
{
	(void)be;
	(void)run;
	(void)nr_slots;
	return 0;
}

static int anon_fresh(struct hkm_backend *be, void *run, size_t nr_slots)
{
	(void)be;
	return hkm_sys_madvise_dontneed(run, nr_slots << HKM_SLOT_SHIFT);
}

static int anon_extend(struct hkm_backend *be, void *run, size_t nr_slots,
		       size_t more)
{
	struct anon *a = to_anon(be);
	size_t first = slot_of(a, run) + nr_slots;
	int err;

	if (a->flags & HKM_ANON_GUARD)
		return -ENOSPC;
	err = take_slots_at(a, first, more);
	if (err)
		return err;
	err = open_slots(a, be->base + (first << HKM_SLOT_SHIFT), more);
	if (err)
		give_slots(a, first, more);
	return err;
}

static bool anon_has_room(struct hkm_backend *be, void *run, size_t nr_slots,
			  size_t new_nr)
{
	struct anon *a = to_anon(be);
	size_t before;
	int err;

	hkm_lock(&a->lock);
	err = find_slots_around(a, slot_of(a, run), nr_slots, new_nr - nr_slots,
				&before);
	hkm_unlock(&a->lock);
	return !err;
}

static int anon_widen(struct hkm_backend *be, void *run, size_t nr_slots,
		      size_t new_nr, unsigned int flags, void **new_run)
{
	struct anon *a = to_anon(be);
	size_t first = slot_of(a, run), more = new_nr - nr_slots, before;
	char *start, *end = (char *)run + (nr_slots << HKM_SLOT_SHIFT);
	int err = take_slots_around(a, first, nr_slots, more, &before);

	if (err)
		return err;
	start = (char *)run - (before << HKM_SLOT_SHIFT);
	if (!(flags & HKM_COMMIT_FROM_IDLE)) {
		if (before)
			err = open_slots(a, start, before);
		if (!err && more > before)
			err = open_slots(a, end, more - before);
	}
	if (err) {
		give_slots(a, first - before, before);
		give_slots(a, first + nr_slots, more - before);
		return err;
	}
	*new_run = start;
	return 0;
}

static int anon_drop(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct anon *a = to_anon(be);
	size_t size = nr_slots << HKM_SLOT_SHIFT;
	int err = close_slots(a, run, size);

	/*
	 * Closing may split a VMA, which fails at the limit on their number.
	 * Then the memory goes back and the addresses stay open: a commit that
	 * gets them reads zeroes all the same.
	 */
	if (err)
		err = hkm_sys_madvise_dontneed(run, size);
	if (!err)
		give_slots(a, slot_of(a, run), with_guard(a, nr_slots));
	return err;
}

/* Where memory is counted, a move counts it twice for a moment, and may then fail. */
static int anon_move(struct hkm_backend *be, void *run, size_t nr_slots,
		     size_t new_nr, void **new_run)
{
	struct anon *a = to_anon(be);
	size_t first;
	char *to;
	int err;

	if (a->flags & HKM_ANON_GUARD || !(a->flags & HKM_ANON_STAY))
		return -EOPNOTSUPP;
	err = take_slots(a, new_nr, &first);
	if (err)
		return err;
	to = be->base + (first << HKM_SLOT_SHIFT);
	err = open_slots(a, to, new_nr);
	if (err) {
		give_slots(a, first, new_nr);
		return err;
	}
	hkm_move_pages(to, run, nr_slots << HKM_SLOT_SHIFT);
	*new_run = to;
	anon_drop(be, run, nr_slots);
	return 0;
}

/* Slots that were moved to may be mappings of their own from then on. */
static bool may_stray(struct anon *a, const void *at, size_t nr)
{
	size_t first = slot_of(a, at), new;
	bool may;

	hkm_lock(&a->lock);
	new = new_strays(a, first, nr);
	may = a->nr_strays + new <= STRAYS;
	if (may && new) {
		a->nr_strays += new;
		mark_in(a->strays, first, nr, true);
	}
	hkm_unlock(&a->lock);
	return may;
}

/*
 * Does moving pay? The first who has to know finds out, with the first slot of each
 * run: then @from has no memory there any more, @to has some, and nothing is moved.
 */
static bool moves(struct anon *a, char *to, char *from)
{
	enum moving moving = read_once(&a->moving);

	if (likely(moving != UNKNOWN))
		return moving == PAYS;
	if (!__atomic_compare_exchange_n(&a->moving, &moving, LOSES, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false;
	if (hkm_machine_learn().counter && may_stray(a, from, 1) &&
	    !open_slots(a, to, 1) &&
	    !hkm_sys_madvise_dontneed(from, HKM_SLOT_SIZE) &&
	    hkm_moving_pays(to, from))
		write_once(&a->moving, PAYS);
	return false;
}

/* As many slots of a run as can be, from the first on; they are nobody's then. */
static size_t move_slots(struct anon *a, char *to, char *from, size_t nr)
{
	size_t size = nr << HKM_SLOT_SHIFT, at = 0, n;

	if (!may_stray(a, to, nr) || open_slots(a, to, nr))
		return 0;
	do {
		n = hkm_one_mapping(from + at, size - at);
		if (!n || !hkm_move_mapping(to + at, from + at, n))
			break;
		at += n;
	} while (at < size);
	if (at)
		give_slots(a, slot_of(a, from), at >> HKM_SLOT_SHIFT);
	return at >> HKM_SLOT_SHIFT;
}

static int anon_fill(struct hkm_backend *be, void *to, void *from,
		     size_t nr_slots)
{
	struct anon *a = to_anon(be);
	size_t n = 0;

	if (from && a->flags & HKM_ANON_STAY && moves(a, to, from))
		n = move_slots(a, to, from, nr_slots);
	if (n == nr_slots)
		return 0;
	to = (char *)to + (n << HKM_SLOT_SHIFT);
	if (from)
		anon_drop(be, (char *)from + (n << HKM_SLOT_SHIFT),
			  nr_slots - n);
	return open_slots(a, to, nr_slots - n);
}

static void anon_evict(struct hkm_backend *be, void *run, size_t nr_slots)
{
	anon_drop(be, run, nr_slots);
}

static void anon_close(struct hkm_backend *be)
{
	struct anon *a = to_anon(be);

	hkm_lock_unregister(&a->lock);
	hkm_window_shut(be->base, be->nr_slots << HKM_SLOT_SHIFT);
	hkm_tables_free(a, table_size(be->nr_slots));
}

static const struct hkm_backend_ops anon_ops = {
	.name = "anon",
	.exchange_from = SIZE_MAX,
	.commit = anon_commit,
	.idle = anon_idle,
	.reuse = anon_reuse,
	.fresh = anon_fresh,
	.extend = anon_extend,
	.has_room = anon_has_room,
	.widen = anon_widen,
	.move = anon_move,
	.fill = anon_fill,
	.drop = anon_drop,
	.evict = anon_evict,
	.close = anon_close,
};

/* ---- open ---------------------------------------------------------------- */

int hkm_anon_open(void *at, size_t nr_slots, enum hkm_policy policy,
		  unsigned int flags, struct hkm_backend **be)
{
	struct anon *a;

	if ((unsigned int)policy > HKM_POLICY_FREE || !nr_slots)
		return -EINVAL;
	a = hkm_tables_near(table_size(nr_slots));
	if (!a)
		return -ENOMEM;
	a->be.ops = &anon_ops;
	a->be.base = at;
	a->be.nr_slots = nr_slots;
	a->policy = policy;
	a->flags = flags;
	a->strays = a->used + words_for(nr_slots);
	/* else it is found out, or taken for more where it cannot be */
	if (flags & HKM_ANON_NO_MOVE)
		a->moving = LOSES;
	else if (flags & HKM_ANON_MOVE || !(flags & HKM_ANON_THP))
		a->moving = PAYS;
	hkm_lock_register(&a->lock);
	*be = &a->be;
	return 0;
}

void hkm_anon_set_policy(struct hkm_backend *be, enum hkm_policy policy)
{
	write_once(&to_anon(be)->policy, policy);
}
