// SPDX-License-Identifier: MIT
/*
 * Whales of anonymous memory: the source that always works.
 *
 * The window is address space without memory: PROT_NONE, not counted by the
 * kernel as committed. A commit finds the first run of free slots in a bitmap
 * and opens it with mprotect(); a drop maps PROT_NONE over it, which gives the
 * memory back and closes the addresses, so that a use after drop faults.
 * First fit by address keeps the open runs together at the low end, where
 * neighbours of the same protection merge into one kernel VMA.
 *
 * A slot's bit says that somebody has it, busy or idle; nothing else is kept.
 * The kernel cannot tell idle runs from busy ones here, so the policy decides
 * what idle costs: memory (KEEP), or a system call on each free (DONTNEED,
 * FREE). Reuse never fails: with DONTNEED and FREE the contents may be gone,
 * which idle allows, and the addresses stay open.
 *
 * A bit is set before the run is opened and cleared after it is closed, so the
 * system calls need no lock. In a forked child the window is an ordinary
 * copy-on-write copy.
 */
#include <errno.h>
#include <sys/mman.h>

#include "backend.h"
#include "lock.h"
#include "sys.h"

/**
 * struct anon - the window
 * @be: first member; fixed after open
 * @lock: protects @used and @first_free
 * @first_free: no slot below this one is free
 * @policy: atomic
 * @thp, @reserved, @reserved_size: fixed after open
 * @used: a bit for each slot
 */
struct anon {
	struct hkm_backend be;
	struct hkm_lock lock;
	size_t first_free;
	enum hkm_policy policy;
	bool thp;
	void *reserved;
	size_t reserved_size;
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
	return sizeof(struct anon) + words_for(nr_slots) * sizeof(uint64_t);
}

/* ---- the bitmap ---------------------------------------------------------- */

/* First slot from @from on whose bit is @used; without any, nr_slots or more. */
static size_t next_slot(const struct anon *a, size_t from, bool used)
{
	size_t nr_words = words_for(a->be.nr_slots);
	uint64_t flip = used ? 0 : ~0ULL;
	uint64_t word;
	size_t w = from / 64;

	if (w >= nr_words)
		return a->be.nr_slots;
	word = (a->used[w] ^ flip) & ~0ULL << from % 64;
	while (!word) {
		if (++w == nr_words)
			return a->be.nr_slots;
		word = a->used[w] ^ flip;
	}
	return w * 64 + (size_t)__builtin_ctzll(word);
}

static void mark(struct anon *a, size_t first, size_t nr, bool used)
{
	size_t end = first + nr;

	while (first < end) {
		size_t bit = first % 64;
		size_t n = 64 - bit < end - first ? 64 - bit : end - first;
		uint64_t mask = ~0ULL >> (64 - n) << bit;

		if (used)
			a->used[first / 64] |= mask;
		else
			a->used[first / 64] &= ~mask;
		first += n;
	}
}

static int take_slots(struct anon *a, size_t nr, size_t *first)
{
	size_t at, end;
	int err = -ENOSPC;

	if (!nr || nr > a->be.nr_slots)
		return nr ? -ENOSPC : -EINVAL;

	hkm_lock(&a->lock);
	at = next_slot(a, a->first_free, false);
	a->first_free = at;
	while (at + nr <= a->be.nr_slots) {
		end = next_slot(a, at, true);
		if (end - at >= nr) {
			mark(a, at, nr, true);
			*first = at;
			err = 0;
			break;
		}
		at = next_slot(a, end, false);
	}
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

static int anon_commit(struct hkm_backend *be, size_t nr_slots, void **run,
		       bool *zeroed)
{
	struct anon *a = to_anon(be);
	size_t first, size;
	char *start;
	int err;

	err = take_slots(a, nr_slots, &first);
	if (err)
		return err;

	start = be->base + (first << HKM_SLOT_SHIFT);
	size = nr_slots << HKM_SLOT_SHIFT;
	err = hkm_sys_mprotect(start, size, PROT_READ | PROT_WRITE);
	if (err) {
		give_slots(a, first, nr_slots);
		return err;
	}
	if (a->thp)	/* a kernel without huge pages refuses: no loss */
		hkm_sys_madvise_hugepage(start, size);

	*run = start;
	if (zeroed)
		*zeroed = true;
	return 0;
}

/* Advice may be refused (locked memory): the contents then stay, as idle may. */
static void anon_idle(struct hkm_backend *be, void *run, size_t nr_slots)
{
	size_t size = nr_slots << HKM_SLOT_SHIFT;

	switch (read_once(&to_anon(be)->policy)) {
	case HKM_POLICY_KEEP:
		break;
	case HKM_POLICY_DONTNEED:
		hkm_sys_madvise_dontneed(run, size);
		break;
	case HKM_POLICY_FREE:
		hkm_sys_madvise_free(run, size);
		break;
	}
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

static int anon_drop(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct anon *a = to_anon(be);
	size_t size = nr_slots << HKM_SLOT_SHIFT;
	void *map;
	int err = 0;

	map = hkm_sys_mmap(run, size, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			   MAP_FIXED, -1, 0);
	/*
	 * Closing may split a VMA, which fails at the limit on their number.
	 * Then the memory goes back and the addresses stay open: a commit that
	 * gets them reads zeroes all the same.
	 */
	if (HKM_SYS_FAILED(map))
		err = hkm_sys_madvise_dontneed(run, size);
	if (!err)
		give_slots(a, slot_of(a, run), nr_slots);
	return err;
}

static void anon_evict(struct hkm_backend *be, void *run, size_t nr_slots)
{
	anon_drop(be, run, nr_slots);
}

static void anon_close(struct hkm_backend *be)
{
	struct anon *a = to_anon(be);

	hkm_lock_unregister(&a->lock);
	hkm_sys_munmap(a->reserved, a->reserved_size);
	hkm_sys_munmap(a, table_size(be->nr_slots));
}

static const struct hkm_backend_ops anon_ops = {
	.name = "anon",
	.commit = anon_commit,
	.idle = anon_idle,
	.reuse = anon_reuse,
	.fresh = anon_fresh,
	.drop = anon_drop,
	.evict = anon_evict,
	.close = anon_close,
};

/* ---- open ---------------------------------------------------------------- */

size_t hkm_default_slots(void)
{
	uint64_t space = hkm_sys_address_space() >> HKM_SLOT_SHIFT;
	uint64_t ram = hkm_sys_ram() + HKM_SLOT_SIZE - 1;
	uint64_t nr = (ram >> HKM_SLOT_SHIFT) * 2;

	if (nr > space / 2)
		nr = space / 2;
	return nr ? (size_t)nr : 1;
}

static int reserve(struct anon *a, size_t nr_slots)
{
	size_t size = (nr_slots + 1) << HKM_SLOT_SHIFT;
	void *map;

	map = hkm_sys_mmap(NULL, size, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (HKM_SYS_FAILED(map))
		return -HKM_SYS_ERRNO(map);

	a->reserved = map;
	a->reserved_size = size;
	a->be.base = (char *)(((uintptr_t)map + HKM_SLOT_SIZE - 1) &
			      ~(HKM_SLOT_SIZE - 1));
	return 0;
}

static int open_window(size_t nr_slots, enum hkm_policy policy, bool thp,
		       struct hkm_backend **be)
{
	struct anon *a = hkm_sys_table(table_size(nr_slots));
	int err;

	if (!a)
		return -ENOMEM;
	a->be.ops = &anon_ops;
	a->be.nr_slots = nr_slots;
	a->policy = policy;
	a->thp = thp;

	err = reserve(a, nr_slots);
	if (err) {
		hkm_sys_munmap(a, table_size(nr_slots));
		return err;
	}
	hkm_lock_register(&a->lock);
	*be = &a->be;
	return 0;
}

int hkm_anon_open(size_t nr_slots, enum hkm_policy policy, bool thp,
		  struct hkm_backend **be)
{
	size_t most = (size_t)PTRDIFF_MAX >> HKM_SLOT_SHIFT;
	int err;

	if ((unsigned int)policy > HKM_POLICY_FREE || nr_slots >= most)
		return -EINVAL;
	if (nr_slots)
		return open_window(nr_slots, policy, thp, be);

	nr_slots = hkm_default_slots();
	do {
		err = open_window(nr_slots, policy, thp, be);
		nr_slots /= 2;
	} while (err == -ENOMEM && nr_slots);
	return err;
}

void hkm_anon_set_policy(struct hkm_backend *be, enum hkm_policy policy)
{
	write_once(&to_anon(be)->policy, policy);
}
