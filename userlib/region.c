// SPDX-License-Identifier: MIT
/*
 * Whales of /dev/hakmem_region.
 *
 * The arena is mapped once and stays. Which slots exist for this process is the
 * kernel's business (HANDOUT and RECYCLE); whether a slot is busy or idle is
 * one 64-bit word in the control pages, changed here without a system call.
 *
 * An idle run belongs to nobody. The kernel may take slots of it back at any
 * moment, and hand them out again to another thread of this process as part of
 * another run. So a run that has been idle is never trusted as a whole: each
 * slot is *claimed*, by a compare-and-swap of an IDLE word to BUSY, and only
 * claimed slots are used or dropped. Two cached runs may overlap after the
 * kernel took slots back; whoever claims first wins, and the loser has lost
 * nothing, since idle contents are disposable. A BUSY word that this claim did
 * not write is somebody's live memory and is left alone.
 *
 * When only a part of a run is gone, HANDOUT with AT brings it back in place.
 * AT takes slots that are handed out as they are, so it must not meet a slot
 * that another thread is just being given: commits hold `handouts` shared, the
 * recommit holds it alone, and gives up where it would have to wait.
 *
 * The device belongs to the process that opened it. In a forked child a page
 * that the kernel wipes at fork() reads zero, and every operation fails or does
 * nothing: the words are shared with the parent and must not be touched.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include <linux/hakmem_region.h>

#include "backend.h"
#include "compiler.h"
#include "sys.h"

/**
 * struct region - the arena; all of it is fixed after open
 * @be: first member
 * @owner: a page that reads 1 here and 0 in a forked child
 * @reserved, @reserved_size: the mapping that holds the arena
 * @handouts: held shared around HANDOUT, alone around HANDOUT with AT. Only
 *	the process that opened the device gets here, so fork() does not matter
 */
struct region {
	struct hkm_backend be;
	const struct hkr_control *control;
	uint64_t *words;
	unsigned int *owner;
	int fd;
	size_t control_size;
	void *reserved;
	size_t reserved_size;
	pthread_rwlock_t handouts;
};

static struct region *to_region(const struct hkm_backend *be)
{
	return (struct region *)be;
}

static bool owned(const struct region *r)
{
	return read_once(r->owner);
}

static size_t slot_of(const struct region *r, const void *run)
{
	return (size_t)((const char *)run - r->be.base) >> HKM_SLOT_SHIFT;
}

/* ---- ioctls of one request ----------------------------------------------- */

static int handout(struct region *r, struct hkr_handout_req *req)
{
	struct hkr_handout arg = {
		.size = sizeof(arg),
		.nr = 1,
		.reqs = (uintptr_t)req,
	};
	int ret = hkm_sys_region_handout(r->fd, &arg);

	return ret < 0 ? ret : req->result;
}

static int recycle(struct region *r, unsigned int mode, size_t first, size_t nr)
{
	struct hkr_range range = {
		.first = first,
		.nr_slots = (uint32_t)nr,
	};
	struct hkr_recycle arg = {
		.size = sizeof(arg),
		.mode = mode,
		.nr = 1,
		.ranges = (uintptr_t)&range,
	};
	int ret = hkm_sys_region_recycle(r->fd, &arg);

	return ret < 0 ? ret : range.result;
}

/* ---- claims -------------------------------------------------------------- */

/*
 * IDLE -> BUSY, keeping the generation. Acquire: pairs with the store-release
 * in region_idle(), so that what the last owner did to the slot comes before
 * what the next one does. Failing means that kernel or thread was faster.
 */
static bool claim_slot(uint64_t *word)
{
	uint64_t old = read_once(word);

	if (HKR_WORD_STATE(old) != HKR_WORD_IDLE)
		return false;
	return __atomic_compare_exchange_n(word, &old,
			HKR_WORD_MAKE(HKR_WORD_BUSY, 0, HKR_WORD_GEN(old)),
			false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* How many slots from @first on could be claimed before one could not. */
static size_t claim(struct region *r, size_t first, size_t nr)
{
	size_t n = 0;

	while (n < nr && claim_slot(&r->words[first + n]))
		n++;
	return n;
}

/* Drop what is still idle of a run, in as few calls as its gaps allow. */
static void drop_idle(struct region *r, size_t first, size_t nr)
{
	while (nr) {
		size_t n = claim(r, first, nr);

		if (n)
			recycle(r, HKR_RECYCLE_DROP, first, n);
		else
			n = 1;
		first += n;
		nr -= n;
	}
}

/*
 * Drop the BUSY stretches of a run whose slots are all known to be either ours
 * (BUSY) or nobody's (EMPTY). Needs `handouts` alone: EMPTY must stay so.
 */
static void drop_busy(struct region *r, size_t first, size_t nr)
{
	size_t n;

	for (size_t i = 0; i < nr; i += n + 1) {
		n = 0;
		while (i + n < nr && HKR_WORD_STATE(read_once(
				&r->words[first + i + n])) == HKR_WORD_BUSY)
			n++;
		if (n)
			recycle(r, HKR_RECYCLE_DROP, first + i, n);
	}
}

/*
 * Claim on where @n slots are ours; how far it went. EMPTY slots are passed
 * over: nobody can be given them while `handouts` is held alone. BUSY is
 * somebody's. RECLAIM may fall back to IDLE and to another thread's claim.
 */
static size_t claim_around_empty(struct region *r, size_t first, size_t nr,
				 size_t n)
{
	for (; n < nr; n++) {
		uint64_t *word = &r->words[first + n];

		if (!claim_slot(word) &&
		    HKR_WORD_STATE(read_once(word)) != HKR_WORD_EMPTY)
			break;
	}
	return n;
}

static bool all_busy(struct region *r, size_t first, size_t nr)
{
	while (nr--)
		if (HKR_WORD_STATE(read_once(&r->words[first + nr])) !=
		    HKR_WORD_BUSY)
			return false;
	return true;
}

/*
 * A run of which @claimed slots are ours and the next one is not: whole again,
 * or gone. A slot whose word is EMPTY and which the kernel still has on record
 * is passed over by AT, hence the look at the words afterwards.
 */
static int recommit(struct region *r, size_t first, size_t nr, size_t claimed)
{
	struct hkr_handout_req req = {
		.nr_slots = (uint32_t)nr,
		.flags = HKR_HANDOUT_COMMIT | HKR_HANDOUT_AT,
		.node = HKR_NODE_ANY,
		.first = first,
	};
	size_t n;

	n = claim_around_empty(r, first, nr, claimed);
	if (n == nr && !handout(r, &req) && all_busy(r, first, nr))
		return 0;

	drop_busy(r, first, n);
	drop_idle(r, first + n, nr - n);
	return -ESTALE;
}

/* ---- operations ---------------------------------------------------------- */

static int region_commit(struct hkm_backend *be, size_t nr_slots, void **run,
			 bool *zeroed)
{
	struct region *r = to_region(be);
	struct hkr_handout_req req = {
		.nr_slots = (uint32_t)nr_slots,
		.flags = HKR_HANDOUT_COMMIT,
		.node = HKR_NODE_ANY,
	};
	int err;

	if (!owned(r))
		return -EPERM;
	if (!nr_slots || nr_slots > be->nr_slots)
		return nr_slots ? -ENOSPC : -EINVAL;

	pthread_rwlock_rdlock(&r->handouts);
	err = handout(r, &req);
	pthread_rwlock_unlock(&r->handouts);
	if (err)
		return err;

	*run = be->base + (req.first << HKM_SLOT_SHIFT);
	if (zeroed)
		*zeroed = req.nr_zeroed == nr_slots;
	return 0;
}

/*
 * BUSY -> IDLE, keeping the generation. Release: pairs with the acquire of
 * claim_slot() and of the kernel's compare-and-swap to RECLAIM; the owner's
 * last access to the slot comes before anybody else's first.
 */
static void region_idle(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct region *r = to_region(be);
	uint64_t *word = &r->words[slot_of(r, run)];
	uint64_t epoch;

	if (!owned(r))
		return;
	epoch = read_once(&r->control->epoch);
	for (size_t i = 0; i < nr_slots; i++)
		store_release(&word[i],
			      HKR_WORD_MAKE(HKR_WORD_IDLE, epoch,
					    HKR_WORD_GEN(read_once(&word[i]))));
}

static int region_reuse(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct region *r = to_region(be);
	size_t first = slot_of(r, run);
	size_t n;
	int err;

	if (!owned(r))
		return -ESTALE;
	n = claim(r, first, nr_slots);
	if (likely(n == nr_slots))
		return 0;

	if (!pthread_rwlock_trywrlock(&r->handouts)) {
		err = recommit(r, first, nr_slots, n);
		pthread_rwlock_unlock(&r->handouts);
		return err;
	}
	if (n)
		recycle(r, HKR_RECYCLE_DROP, first, n);
	drop_idle(r, first + n, nr_slots - n);
	return -ESTALE;
}

static int region_fresh(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct region *r = to_region(be);

	if (!owned(r))
		return -EPERM;
	return recycle(r, HKR_RECYCLE_FRESH, slot_of(r, run), nr_slots);
}

/* A run that is not BUSY from end to end is idle, or was. */
static int region_drop(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct region *r = to_region(be);
	size_t first = slot_of(r, run);

	if (!owned(r))
		return -EPERM;
	if (all_busy(r, first, nr_slots))
		return recycle(r, HKR_RECYCLE_DROP, first, nr_slots);
	drop_idle(r, first, nr_slots);
	return 0;
}

static void region_evict(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct region *r = to_region(be);

	if (owned(r))
		drop_idle(r, slot_of(r, run), nr_slots);
}

static void region_close(struct hkm_backend *be)
{
	struct region *r = to_region(be);

	hkm_sys_munmap(r->reserved, r->reserved_size);
	hkm_sys_munmap((void *)(uintptr_t)r->control, r->control_size);
	hkm_sys_close(r->fd);
	hkm_sys_munmap(r->owner, sizeof(*r->owner));
	pthread_rwlock_destroy(&r->handouts);
	hkm_sys_munmap(r, sizeof(*r));
}

static const struct hkm_backend_ops region_ops = {
	.name = "region",
	.commit = region_commit,
	.idle = region_idle,
	.reuse = region_reuse,
	.fresh = region_fresh,
	.drop = region_drop,
	.evict = region_evict,
	.close = region_close,
};

/* ---- open ---------------------------------------------------------------- */

/* -EPROTONOSUPPORT: a device that speaks another version of the protocol */
static int check_device(int fd, size_t *nr_slots)
{
	struct hkr_info info = { .size = sizeof(info) };
	int err = hkm_sys_region_info(fd, &info);

	if (err < 0)
		return err;
	if (info.abi_version != HKR_ABI_VERSION ||
	    info.slot_size != HKM_SLOT_SIZE)
		return -EPROTONOSUPPORT;
	if (!*nr_slots) {
		*nr_slots = hkm_default_slots();
		if (*nr_slots > info.max_slots)
			*nr_slots = (size_t)info.max_slots;
	}
	return 0;
}

static int map_control(struct region *r, const struct hkr_setup *setup)
{
	char *map = hkm_sys_mmap(NULL, setup->control_size,
				 PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
				 setup->control_offset);

	if (HKM_SYS_FAILED(map))
		return -HKM_SYS_ERRNO(map);
	r->control = (const struct hkr_control *)map;
	r->control_size = setup->control_size;
	r->words = (uint64_t *)(map + setup->words_offset);
	if (r->control->magic == HKR_CONTROL_MAGIC)
		return 0;
	hkm_sys_munmap(map, r->control_size);
	return -EPROTONOSUPPORT;
}

/*
 * The kernel is asked first, because it knows to align the arena; where it is
 * not asked that way (an old emulator, a security module), the place is found
 * by reserving 2 MiB more than needed.
 */
static int map_arena(struct region *r, const struct hkr_setup *setup)
{
	size_t spare = setup->arena_size + HKM_SLOT_SIZE;
	int flags = MAP_SHARED;
	char *at, *map;

	r->reserved_size = setup->arena_size;
	map = hkm_sys_mmap(NULL, setup->arena_size, PROT_READ | PROT_WRITE,
			   flags, r->fd, setup->arena_offset);
	if (!HKM_SYS_FAILED(map) && !((uintptr_t)map % HKM_SLOT_SIZE)) {
		r->reserved = r->be.base = map;
		return 0;
	}
	if (!HKM_SYS_FAILED(map))
		hkm_sys_munmap(map, setup->arena_size);
	else if (HKM_SYS_ERRNO(map) != EINVAL)
		return -HKM_SYS_ERRNO(map);

	map = hkm_sys_mmap(NULL, spare, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (HKM_SYS_FAILED(map))
		return -HKM_SYS_ERRNO(map);
	at = map + (-(uintptr_t)map % HKM_SLOT_SIZE);
	r->reserved = map;
	r->reserved_size = spare;
	map = hkm_sys_mmap(at, setup->arena_size, PROT_READ | PROT_WRITE,
			   flags | MAP_FIXED, r->fd, setup->arena_offset);
	if (HKM_SYS_FAILED(map)) {
		hkm_sys_munmap(r->reserved, spare);
		return -HKM_SYS_ERRNO(map);
	}
	r->be.base = map;
	return 0;
}

/* A kernel that cannot wipe the page at fork() is too old for the module. */
static int make_owner_page(struct region *r)
{
	unsigned int *page = hkm_sys_table(sizeof(*page));
	int err;

	if (!page)
		return -ENOMEM;
	err = hkm_sys_madvise_wipeonfork(page, sizeof(*page));
	if (err) {
		hkm_sys_munmap(page, sizeof(*page));
		return err;
	}
	*page = 1;
	r->owner = page;
	return 0;
}

static int open_arena(struct region *r, size_t nr_slots)
{
	struct hkr_setup setup = {
		.size = sizeof(setup),
	};
	int err;

	err = check_device(r->fd, &nr_slots);
	if (err)
		return err;
	setup.nr_slots = nr_slots;
	err = hkm_sys_region_setup(r->fd, &setup);
	if (err < 0)
		return err;
	err = map_control(r, &setup);
	if (err)
		return err;
	err = map_arena(r, &setup);
	if (err)
		goto unmap_control;
	err = make_owner_page(r);
	if (err)
		goto unmap_arena;
	r->be.nr_slots = nr_slots;
	return 0;

unmap_arena:
	hkm_sys_munmap(r->reserved, r->reserved_size);
unmap_control:
	hkm_sys_munmap((void *)(uintptr_t)r->control, r->control_size);
	return err;
}

int hkm_region_open(size_t nr_slots, struct hkm_backend **be)
{
	struct region *r;
	int err, fd;

	fd = hkm_sys_region_open();
	if (fd < 0)
		return fd;
	err = -ENOMEM;
	r = hkm_sys_table(sizeof(*r));
	if (!r)
		goto close_fd;

	r->fd = fd;
	r->be.ops = &region_ops;
	pthread_rwlock_init(&r->handouts, NULL);
	err = open_arena(r, nr_slots);
	if (err)
		goto free_region;
	*be = &r->be;
	return 0;

free_region:
	pthread_rwlock_destroy(&r->handouts);
	hkm_sys_munmap(r, sizeof(*r));
close_fd:
	hkm_sys_close(fd);
	return err;
}

int hkm_region_fd(const struct hkm_backend *be)
{
	return be->ops == &region_ops ? to_region(be)->fd : -EBADF;
}
