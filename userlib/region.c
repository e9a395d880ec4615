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
 * A forked child has what was busy, in words and slots of its own (HKR_FEAT_FORK).
 * What was idle is EMPTY there, so that the runs it has inherited in its cache
 * are lost to it as if the kernel had taken them. A page that the kernel wipes at
 * fork() tells the child what it is, before anything else is looked at: a lock of
 * the parent's may have been taken by a thread that the child does not have, and
 * where the kernel had no memory for its slots, or is too old to share them,
 * every operation fails or does nothing, and the words must not be touched.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/hakmem_region.h>

#include "owner.h"
#include "region.h"
#include "sys.h"
#include "window.h"

/* In a child any call tells if it has slots; without a descriptor it has, too. */
static bool look_in_child(void *arg)
{
	struct hkr_stats stats = { .size = sizeof(stats) };
	struct hkm_region *r = arg;
	int err;

	pthread_rwlock_init(&r->handouts, NULL);
	err = hkm_sys_region_stats(r->fd, &stats);
	return r->inherited && err != -EPERM && err != -EBADFD;
}

bool hkm_region_owned(struct hkm_region *r)
{
	return hkm_owner_is_here(r->owner, look_in_child, r);
}

/* ---- ioctls of one request ----------------------------------------------- */

static int handout(struct hkm_region *r, struct hkr_handout_req *req)
{
	struct hkr_handout arg = {
		.size = sizeof(arg),
		.nr = 1,
		.reqs = (uintptr_t)req,
	};
	int ret = hkm_sys_region_handout(r->fd, &arg);

	return ret < 0 ? ret : req->result;
}

static int recycle_range(struct hkm_region *r, unsigned int mode,
			 struct hkr_range *range)
{
	struct hkr_recycle arg = {
		.size = sizeof(arg),
		.mode = mode,
		.nr = 1,
		.ranges = (uintptr_t)range,
	};
	int ret = hkm_sys_region_recycle(r->fd, &arg);

	return ret < 0 ? ret : range->result;
}

static int recycle(struct hkm_region *r, unsigned int mode, size_t first, size_t nr)
{
	struct hkr_range range = { .first = first, .nr_slots = (uint32_t)nr };

	return recycle_range(r, mode, &range);
}

/* ---- claims -------------------------------------------------------------- */

/*
 * BUSY -> IDLE, keeping the generation. Release: pairs with the acquire of
 * hkm_region_claim_slot() and of the kernel's compare-and-swap to RECLAIM; the owner's
 * last access to the slot comes before anybody else's first.
 */
static inline void set_idle(uint64_t *word, uint64_t epoch)
{
	store_release(word, HKR_WORD_MAKE(HKR_WORD_IDLE, epoch,
					  HKR_WORD_GEN(read_once(word))));
}

/*
 * Nobody will use them any more, because the program has closed the device, say; the
 * kernel may have them.
 */
void hkm_region_forsake(struct hkm_region *r, size_t first, size_t nr)
{
	uint64_t *word = &r->words[first], epoch = read_once(&r->control->epoch);

	for (size_t i = 0; i < nr; i++)
		if (HKR_WORD_STATE(read_once(&word[i])) == HKR_WORD_BUSY)
			set_idle(&word[i], epoch);
}

/* Drop slots that are ours. */
static int drop_ours(struct hkm_region *r, size_t first, size_t nr)
{
	int err = recycle(r, HKR_RECYCLE_DROP, first, nr);

	if (err)
		hkm_region_forsake(r, first, nr);
	return err;
}

/* Drop what is still idle of a run. */
static void drop_idle(struct hkm_region *r, size_t first, size_t nr)
{
	const struct hkm_place place = {
		r->be.base + (first << HKM_SLOT_SHIFT), nr,
	};

	if (nr)
		hkm_region_evict_many(&r->be, &place, 1);
}

/*
 * Drop the BUSY stretches of a run whose slots are all known to be either ours
 * (BUSY) or nobody's (EMPTY). Needs `handouts` alone: EMPTY must stay so.
 */
static void drop_busy(struct hkm_region *r, size_t first, size_t nr)
{
	size_t n;

	for (size_t i = 0; i < nr; i += n + 1) {
		n = 0;
		while (i + n < nr && HKR_WORD_STATE(read_once(
				&r->words[first + i + n])) == HKR_WORD_BUSY)
			n++;
		if (n)
			drop_ours(r, first + i, n);
	}
}

/*
 * Claim on where @n slots are ours; how far it went. EMPTY slots are passed
 * over: nobody can be given them while `handouts` is held alone. BUSY is
 * somebody's. RECLAIM may fall back to IDLE and to another thread's claim.
 */
static size_t claim_around_empty(struct hkm_region *r, size_t first, size_t nr,
				 size_t n)
{
	for (; n < nr; n++) {
		uint64_t *word = &r->words[first + n];

		if (!hkm_region_claim_slot(word) &&
		    HKR_WORD_STATE(read_once(word)) != HKR_WORD_EMPTY)
			break;
	}
	return n;
}

static bool all_are(struct hkm_region *r, uint64_t state, size_t first, size_t nr)
{
	while (nr--)
		if (HKR_WORD_STATE(read_once(&r->words[first + nr])) != state)
			return false;
	return true;
}

static bool all_busy(struct hkm_region *r, size_t first, size_t nr)
{
	return all_are(r, HKR_WORD_BUSY, first, nr);
}

/*
 * A run of which @claimed slots are ours and the next one is not: whole again,
 * or gone. A slot whose word is EMPTY and which the kernel still has on record
 * is passed over by AT, hence the look at the words afterwards.
 *
 * What is idle gives its memory for it, where something is: runs that gave theirs
 * for a new one still count as idle (supply.c), and must not grow beyond that. A
 * large run gets memory as it is touched, as when it was new.
 */
static int recommit(struct hkm_region *r, size_t first, size_t nr, size_t claimed)
{
	struct hkr_handout_req req = {
		.nr_slots = (uint32_t)nr,
		.flags = HKR_HANDOUT_AT |
			 hkm_region_handout_flags(nr, HKM_COMMIT_FROM_IDLE),
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

static int region_commit(struct hkm_backend *be, size_t nr_slots,
			 unsigned int flags, void **run, bool *zeroed)
{
	struct hkm_region *r = hkm_to_region(be);
	struct hkr_handout_req req = {
		.nr_slots = (uint32_t)nr_slots,
		.flags = hkm_region_handout_flags(nr_slots, flags),
		.node = HKR_NODE_ANY,
	};
	int err;

	if (!hkm_region_owned(r))
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

static bool region_idle(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct hkm_region *r = hkm_to_region(be);
	uint64_t *word = &r->words[hkm_region_slot(r, run)];
	uint64_t epoch;

	if (!hkm_region_owned(r))
		return false;
	epoch = read_once(&r->control->epoch);
	for (size_t i = 0; i < nr_slots; i++)
		set_idle(&word[i], epoch);
	return false;
}

static int region_reuse(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct hkm_region *r = hkm_to_region(be);
	size_t first = hkm_region_slot(r, run);
	size_t n;
	int err;

	if (!hkm_region_owned(r))
		return -ESTALE;
	n = hkm_region_claim(r, first, nr_slots);
	if (likely(n == nr_slots))
		return 0;

	if (!pthread_rwlock_trywrlock(&r->handouts)) {
		err = recommit(r, first, nr_slots, n);
		pthread_rwlock_unlock(&r->handouts);
		return err;
	}
	if (n)
		drop_ours(r, first, n);
	drop_idle(r, first + n, nr_slots - n);
	return -ESTALE;
}

/* Where no zeroed folios are ready it would be the kernel that clears, cold memory. */
static int region_fresh(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct hkm_region *r = hkm_to_region(be);

	if (!hkm_region_owned(r))
		return -EPERM;
	if (read_once(&r->control->pool_clean) < nr_slots)
		return -EAGAIN;
	return recycle(r, HKR_RECYCLE_FRESH, hkm_region_slot(r, run), nr_slots);
}

/*
 * Just these slots, if all of them are nobody's. AT passes over slots that are
 * handed out, hence the look at the words before, with `handouts` held alone so
 * that it stays true, and after: EMPTY may be handed out, see recommit().
 */
static int extend_alone(struct hkm_region *r, size_t first, size_t more)
{
	struct hkr_handout_req req = {
		.nr_slots = (uint32_t)more,
		.flags = HKR_HANDOUT_AT | hkm_region_handout_flags(more, 0),
		.node = HKR_NODE_ANY,
		.first = first,
	};
	int err;

	if (more > r->be.nr_slots - first ||
	    !all_are(r, HKR_WORD_EMPTY, first, more))
		return -ENOSPC;
	err = handout(r, &req);
	if (!err && !all_busy(r, first, more)) {
		drop_busy(r, first, more);
		err = -EBUSY;
	}
	return err;
}

static int region_extend(struct hkm_backend *be, void *run, size_t nr_slots,
			 size_t more)
{
	struct hkm_region *r = hkm_to_region(be);
	int err;

	if (!hkm_region_owned(r))
		return -EPERM;
	if (pthread_rwlock_trywrlock(&r->handouts))
		return -EBUSY;
	err = extend_alone(r, hkm_region_slot(r, run) + nr_slots, more);
	pthread_rwlock_unlock(&r->handouts);
	return err;
}

/*
 * The target is handed out without memory, which MOVE brings; what it does not
 * bring comes with the first touch.
 */
static int region_move(struct hkm_backend *be, void *run, size_t nr_slots,
		       size_t new_nr, void **new_run)
{
	struct hkm_region *r = hkm_to_region(be);
	struct hkr_handout_req req = {
		.nr_slots = (uint32_t)new_nr,
		.node = HKR_NODE_ANY,
	};
	struct hkr_range range = {
		.first = hkm_region_slot(r, run),
		.nr_slots = (uint32_t)nr_slots,
	};
	int err;

	if (!hkm_region_owned(r))
		return -EPERM;
	pthread_rwlock_rdlock(&r->handouts);
	err = handout(r, &req);
	pthread_rwlock_unlock(&r->handouts);
	if (err)
		return err;
	range.to = req.first;
	err = recycle_range(r, HKR_RECYCLE_MOVE, &range);
	if (err) {
		drop_ours(r, req.first, new_nr);
		return err;
	}
	*new_run = be->base + (req.first << HKM_SLOT_SHIFT);
	return 0;
}

/* A run that is not BUSY from end to end is idle, or was. */
static int region_drop(struct hkm_backend *be, void *run, size_t nr_slots)
{
	struct hkm_region *r = hkm_to_region(be);
	size_t first = hkm_region_slot(r, run);

	if (!hkm_region_owned(r))
		return -EPERM;
	if (all_busy(r, first, nr_slots))
		return drop_ours(r, first, nr_slots);
	drop_idle(r, first, nr_slots);
	return 0;
}

static void region_evict(struct hkm_backend *be, void *run, size_t nr_slots)
{
	const struct hkm_place place = { run, nr_slots };

	hkm_region_evict_many(be, &place, 1);
}

/* A forked child may not have what its parent has. */
static bool region_is_here(struct hkm_backend *be)
{
	return hkm_region_owned(hkm_to_region(be));
}

static void region_close(struct hkm_backend *be)
{
	struct hkm_region *r = hkm_to_region(be);

	hkm_window_shut(be->base, be->nr_slots << HKM_SLOT_SHIFT);
	hkm_sys_munmap((void *)(uintptr_t)r->control, r->control_size);
	hkm_sys_close(r->fd);
	hkm_owner_close(r->owner);
	pthread_rwlock_destroy(&r->handouts);
	hkm_sys_munmap(r, sizeof(*r));
}

static const struct hkm_backend_ops region_ops = {
	.name = "region",
	.exchange_from = HKM_SLOT_SIZE,
	.commit = region_commit,
	.commit_many = hkm_region_commit_many,
	.idle = region_idle,
	.reuse = region_reuse,
	.fresh = region_fresh,
	.extend = region_extend,
	.move = region_move,
	.drop = region_drop,
	.evict = region_evict,
	.evict_many = hkm_region_evict_many,
	.is_here = region_is_here,
	.close = region_close,
};

/* ---- open ---------------------------------------------------------------- */

/*
 * -EPROTONOSUPPORT: a device that speaks another version of the protocol. -ENOSYS: one
 * that lacks a feature; the device's own errors for SETUP are others (source.c has what
 * each is told as).
 */
static int check_device(struct hkm_region *r, uint64_t features, size_t *nr_slots)
{
	struct hkr_info info = { .size = sizeof(info) };
	int err = hkm_sys_region_info(r->fd, &info);

	if (err < 0)
		return err;
	if (info.abi_version != HKR_ABI_VERSION ||
	    info.slot_size != HKM_SLOT_SIZE)
		return -EPROTONOSUPPORT;
	if ((info.features & features) != features)
		return -ENOSYS;
	r->inherited = info.features & HKR_FEAT_FORK;
	if (*nr_slots > info.max_slots)
		*nr_slots = (size_t)info.max_slots;
	return 0;
}

static int map_control(struct hkm_region *r, const struct hkr_setup *setup)
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

/* A device that refuses leaves a hole in the window, which is closed again. */
static int map_arena(struct hkm_region *r, void *at, const struct hkr_setup *setup)
{
	char *map = hkm_sys_mmap(at, setup->arena_size, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_FIXED, r->fd,
				 setup->arena_offset);

	if (HKM_SYS_FAILED(map)) {
		hkm_window_shut(at, setup->arena_size);
		return -HKM_SYS_ERRNO(map);
	}
	r->be.base = map;
	return 0;
}

static int open_arena(struct hkm_region *r, void *at, size_t nr_slots,
		      uint64_t features)
{
	struct hkr_setup setup = {
		.size = sizeof(setup),
	};
	int err;

	err = check_device(r, features, &nr_slots);
	if (err)
		return err;
	setup.nr_slots = nr_slots;
	err = hkm_sys_region_setup(r->fd, &setup);
	if (err < 0)
		return err;
	err = map_control(r, &setup);
	if (err)
		return err;
	err = map_arena(r, at, &setup);
	if (err)
		goto unmap_control;
	err = hkm_owner_open(&r->owner);
	if (err)
		goto unmap_arena;
	r->be.nr_slots = nr_slots;
	return 0;

unmap_arena:
	hkm_window_shut(at, setup.arena_size);
unmap_control:
	hkm_sys_munmap((void *)(uintptr_t)r->control, r->control_size);
	return err;
}

int hkm_region_open(void *at, size_t nr_slots, uint64_t features,
		    struct hkm_backend **be)
{
	struct hkm_region *r;
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
	err = open_arena(r, at, nr_slots, features);
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
	return be->ops == &region_ops ? hkm_to_region(be)->fd : -EBADF;
}
