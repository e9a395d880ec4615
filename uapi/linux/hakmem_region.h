/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
#ifndef _UAPI_LINUX_HAKMEM_REGION_H
#define _UAPI_LINUX_HAKMEM_REGION_H

/*
 * /dev/hakmem_region: 2 MiB slots of zeroed memory in one mapping that is
 * made once and never unmapped.
 *
 * A process opens the device, calls %HKR_IOC_SETUP once, maps the arena and
 * the control pages at the offsets that SETUP returns, and then asks for runs
 * of slots with %HKR_IOC_HANDOUT. Each slot has a 64-bit word in the control
 * pages. Freeing a slot and taking it again is one atomic operation on that
 * word; neither enters the kernel. One arena belongs to each open file, and to
 * the process (the mm) that opened it.
 *
 * fork() gives the child a view of its own, as of that moment: the slots that
 * were busy are busy in it, with the same contents, and all others are empty.
 * From then on parent and child change their slots and words for themselves, and
 * commands act on the caller's view. Memory is shared until one of them touches
 * the slot, which copies it; who is the last to have it keeps it as it is.
 * Inherited slots that then become idle go back to the kernel at its next look,
 * and not only after the decay.
 *
 * Structures are extensible: @size comes first and says how much the caller
 * knows. A shorter one than the first version is %EINVAL; a longer one is
 * accepted when the bytes that this kernel does not know are zero. What comes
 * back is cut to the caller's @size.
 *
 * Errors mean the same in every command, and an error changes nothing:
 *
 *   %EINVAL      a size, pointer alignment or combination that can never be
 *                right, a count of zero, or a reserved field that is not zero
 *   %E2BIG       a byte is set beyond the last field this kernel knows, a
 *                structure is larger than a page, or an array is longer than
 *                %HKR_MAX_BATCH
 *   %EOPNOTSUPP  a flag or mode this kernel does not know; for SETUP also that
 *                huge pages are disabled for this process by prctl(), or that
 *                charge=always cannot be had (cgroup.memory=nokmem)
 *   %ENOTTY      no such command, or one that io_uring does not take
 *   %EFAULT      a pointer the kernel cannot read or write
 *   %EPERM       the caller neither opened this file nor was forked by who has
 *                it mapped, or has unmapped what it inherited
 *   %EACCES      mmap() with PROT_EXEC without %HKR_SETUP_EXEC
 *   %EBADFD      no SETUP yet, or the arena is not mapped (any more)
 *   %EBUSY       SETUP or the arena mapping was made before, or a slot is in
 *                the middle of another call
 *   %ERANGE      a run that reaches outside the arena
 *   %ENXIO       a slot that is not handed out; for a NUMA node: not online
 *   %EEXIST      nothing to do: every slot of an AT run is handed out already,
 *                or a slot of MOVE's target holds memory
 *   %ENOSPC      no run of that many free slots is left in the arena
 *   %EDQUOT      the cap of this open file, of this user or of all users: on
 *                slots, or on kernel memory for arenas
 *   %ENOMEM      no memory could be had without hurting others
 *   %EINTR       the caller is being killed, or its io_uring request was
 *                cancelled before this entry's turn
 *
 * An access to a slot that is not handed out is SIGBUS. So is the first touch of
 * a slot after a fork where the copy would exceed the cap of all users or no
 * memory can be had; and every access to the arena by a child for whose view there
 * was no memory at the fork.
 */

#include <linux/ioctl.h>
#include <linux/types.h>

/** HKR_ABI_VERSION - grows when something old changes; new fields do not */
#define HKR_ABI_VERSION		1

#define HKR_SLOT_SHIFT		21
#define HKR_SLOT_SIZE		(1UL << HKR_SLOT_SHIFT)

/** HKR_MAX_BATCH - longest array in one HANDOUT or RECYCLE */
#define HKR_MAX_BATCH		1024

/*
 * mmap() offsets. The arena is mapped once, whole, MAP_SHARED, at an address
 * that is a multiple of 2 MiB. The control pages may be mapped more than once.
 */
#define HKR_OFF_ARENA		0ULL
#define HKR_OFF_CONTROL		(1ULL << 44)

/*
 * The slot word.
 *
 *   bits 0-1 state   bits 2-31 epoch   bits 32-63 generation
 *
 *   EMPTY   -> BUSY     kernel only (HANDOUT), a new generation
 *   BUSY    -> IDLE     the owner, stamped with the published epoch: release
 *   IDLE    -> BUSY     the owner, compare-and-swap, acquire: contents intact
 *   IDLE    -> RECLAIM  kernel, compare-and-swap
 *   RECLAIM -> EMPTY    kernel, memory gone, a new generation: release
 *   RECLAIM -> IDLE     kernel, the slot could not be taken
 *
 * Only the whole 64 bits are compared, so a slot that was taken and handed out
 * again in between is told apart by its generation. An owner that meets
 * RECLAIM or EMPTY uses another slot or asks HANDOUT; it never waits. The
 * kernel takes the word as a hint about what is disposable, never as a fact
 * about who owns memory.
 */
#define HKR_WORD_EMPTY		0ULL
#define HKR_WORD_BUSY		1ULL
#define HKR_WORD_IDLE		2ULL
#define HKR_WORD_RECLAIM	3ULL
#define HKR_WORD_STATE_MASK	3ULL
#define HKR_WORD_EPOCH_SHIFT	2
#define HKR_WORD_EPOCH_MASK	0x3fffffffULL
#define HKR_WORD_GEN_SHIFT	32

#define HKR_WORD_STATE(w)	((w) & HKR_WORD_STATE_MASK)
#define HKR_WORD_EPOCH(w)	(((w) >> HKR_WORD_EPOCH_SHIFT) & \
				 HKR_WORD_EPOCH_MASK)
#define HKR_WORD_GEN(w)		((w) >> HKR_WORD_GEN_SHIFT)
#define HKR_WORD_MAKE(state, epoch, gen)				\
	((state) | (((epoch) & HKR_WORD_EPOCH_MASK) << HKR_WORD_EPOCH_SHIFT) | \
	 ((gen) << HKR_WORD_GEN_SHIFT))

/**
 * struct hkr_control - first page of the control mapping
 * @magic: %HKR_CONTROL_MAGIC
 * @abi_version: %HKR_ABI_VERSION of the kernel
 * @slot_size: bytes in a slot, 2097152
 * @nr_slots: slots in this arena
 * @words_offset: bytes from this header to the word of slot 0
 * @epoch: current epoch, 30 bits, by the clock; an owner stamps it into a word
 *	that becomes idle. Brought up to date by HANDOUT and, while anything is
 *	resident, at least every fourth epoch, every one while anything is idle
 * @epoch_ms: length of an epoch in milliseconds
 * @resident: slots of this arena that held memory at the last epoch
 * @limit: most slots this arena may have handed out
 * @reclaimed: slots the kernel took back from this arena since SETUP
 * @pool_clean: zeroed folios in the pool at the last epoch, all nodes
 *
 * Written by the kernel, never read back by it. Every field is naturally
 * aligned, so that one load sees one value; fields are not consistent with
 * each other.
 */
struct hkr_control {
	__u32 magic;
	__u32 abi_version;
	__u64 slot_size;
	__u64 nr_slots;
	__u64 words_offset;
	__u32 epoch;
	__u32 epoch_ms;
	__u64 resident;
	__u64 limit;
	__u64 reclaimed;
	__u64 pool_clean;
};

#define HKR_CONTROL_MAGIC	0x314b4d48U	/* "HMK1" */

/**
 * struct hkr_node_info - pool of one NUMA node
 * @node: node number
 * @__reserved: zero
 * @clean: zeroed folios ready to be handed out
 * @dirty: folios that wait for the zeroing thread
 */
struct hkr_node_info {
	__u32 node;
	__u32 __reserved;
	__u64 clean;
	__u64 dirty;
};

/**
 * struct hkr_info - HKR_IOC_INFO, allowed to every process at any time
 * @size: sizeof(struct hkr_info)
 * @flags: zero
 * @abi_version: out, %HKR_ABI_VERSION
 * @nr_nodes: in, entries that @nodes has room for; out, nodes that exist
 * @features: out, HKR_FEAT_* bits
 * @slot_size: out, bytes
 * @max_slots: out, largest nr_slots that SETUP accepts
 * @open_limit: out, most slots one open file may have handed out
 * @user_limit: out, most slots one user may have handed out
 * @nodes: in, address of @nr_nodes struct hkr_node_info, or 0
 */
struct hkr_info {
	__u32 size;
	__u32 flags;
	__u32 abi_version;
	__u32 nr_nodes;
	__u64 features;
	__u64 slot_size;
	__u64 max_slots;
	__u64 open_limit;
	__u64 user_limit;
	__aligned_u64 nodes;
};

/*
 * HKR_FEAT_RECLAIM - the kernel takes idle slots back, under memory pressure
 * and after the decay. Without it they stay resident until RECYCLE or TRIM.
 */
#define HKR_FEAT_RECLAIM	(1ULL << 0)
/*
 * HKR_FEAT_CHARGE - memory can be charged to the owner's memory cgroup; whether
 * it is, the module's parameter and the group decide, and SETUP says. Without it
 * the memory of an arena is outside every group's limit.
 */
#define HKR_FEAT_CHARGE		(1ULL << 1)
/* HKR_FEAT_URING - HANDOUT and RECYCLE by io_uring, see struct hkr_sqe */
#define HKR_FEAT_URING		(1ULL << 2)
/*
 * HKR_FEAT_FORK - a forked child has a view of its own. Without it every access
 * of the child is SIGBUS.
 */
#define HKR_FEAT_FORK		(1ULL << 3)

#define HKR_SETUP_EXEC		(1U << 0)	/* PROT_EXEC is allowed */
#define HKR_SETUP_DUMP		(1U << 1)	/* include in core dumps */
#define HKR_SETUP_DECAY		(1U << 2)	/* @idle_decay_ms is given */

/**
 * struct hkr_setup - HKR_IOC_SETUP, once for each open file
 * @size: sizeof(struct hkr_setup)
 * @flags: HKR_SETUP_* bits
 * @nr_slots: in, slots of address space, 1 to hkr_info.max_slots
 * @arena_offset: out, mmap() offset of the arena
 * @arena_size: out, bytes to map there
 * @control_offset: out, mmap() offset of the control pages
 * @control_size: out, bytes to map there
 * @words_offset: out, bytes from the start of the control pages to the words
 * @idle_decay_ms: in with DECAY, else zero: idle slots go back to the kernel
 *	after so many milliseconds, rounded up to whole epochs; 0 at the next
 *	tick, -1 never but under pressure. Without it the module's parameter
 * @charged: zero; out, 1 when this arena's memory is charged to its owner's
 *	memory cgroup: HANDOUT then is %ENOMEM where the group's limit allows no
 *	more, after the idle slots of the group were taken
 */
struct hkr_setup {
	__u32 size;
	__u32 flags;
	__u64 nr_slots;
	__u64 arena_offset;
	__u64 arena_size;
	__u64 control_offset;
	__u64 control_size;
	__u64 words_offset;
	__s32 idle_decay_ms;
	__u32 charged;
};

/* back the slots with memory now; otherwise at the first touch */
#define HKR_HANDOUT_COMMIT	(1U << 0)
/*
 * @first is given: slots of that run which are handed out already stay as they
 * are, word and contents, and the others are handed out. For a run of which the
 * kernel took a part: the owner makes busy the words that are still idle, then
 * asks for the rest.
 */
#define HKR_HANDOUT_AT		(1U << 1)
/*
 * With COMMIT: use the memory of the caller's own idle slots first, oldest
 * first and not zeroed, so that the resident size does not grow. These slots
 * become EMPTY, also when the request then fails for want of more.
 */
#define HKR_HANDOUT_FROM_IDLE	(1U << 2)

#define HKR_NODE_ANY		(-1)

/**
 * struct hkr_handout_req - one run of slots
 * @nr_slots: in, 1 to nr_slots of the arena
 * @flags: in, HKR_HANDOUT_* bits
 * @node: in, NUMA node to prefer, or %HKR_NODE_ANY for the caller's own
 * @result: out, 0 or a negative errno; the run is handed out whole or not
 * @first: in with AT, else zero; out, first slot of the run
 * @nr_zeroed: out, how many slots of the run read as zero
 * @__reserved: zero
 */
struct hkr_handout_req {
	__u32 nr_slots;
	__u32 flags;
	__s32 node;
	__s32 result;
	__u64 first;
	__u32 nr_zeroed;
	__u32 __reserved;
};

/**
 * struct hkr_handout - HKR_IOC_HANDOUT
 * @size: sizeof(struct hkr_handout)
 * @flags: zero
 * @nr: entries in @reqs, 1 to %HKR_MAX_BATCH
 * @__reserved: zero
 * @reqs: address of @nr struct hkr_handout_req, 8-byte aligned
 *
 * Returns how many requests were met; each one's own result is in the array.
 * A negative errno means that none was tried. The array is checked for writing
 * before anything is done; a caller that unmaps it meanwhile gets %EFAULT and
 * keeps what it was handed.
 */
struct hkr_handout {
	__u32 size;
	__u32 flags;
	__u32 nr;
	__u32 __reserved;
	__aligned_u64 reqs;
};

/*
 * DROP   memory goes back, words become EMPTY, the slots are no longer handed
 *        out. Works on BUSY and IDLE slots.
 * IDLE   as if the owner had marked the words idle: contents disposable
 * FRESH  new zeroed memory in place, words BUSY; MADV_DONTNEED without the
 *        zeroing at the next touch. Old and new memory count against the caps
 *        until the old is gone
 * MOVE   the memory of [first, first + nr) moves to [to, to + nr), which is
 *        handed out and holds none; contents stay, the source is then EMPTY.
 *        A touch of either run meanwhile is SIGBUS
 */
#define HKR_RECYCLE_DROP	0U
#define HKR_RECYCLE_IDLE	1U
#define HKR_RECYCLE_FRESH	2U
#define HKR_RECYCLE_MOVE	3U

/**
 * struct hkr_range - one run of slots to recycle
 * @first: in, first slot
 * @to: in, first slot of the target of MOVE, else zero
 * @nr_slots: in, 1 to nr_slots of the arena
 * @result: out, 0 or a negative errno; the run was recycled whole or not
 */
struct hkr_range {
	__u64 first;
	__u64 to;
	__u32 nr_slots;
	__s32 result;
};

/**
 * struct hkr_recycle - HKR_IOC_RECYCLE
 * @size: sizeof(struct hkr_recycle)
 * @flags: zero
 * @mode: HKR_RECYCLE_*
 * @nr: entries in @ranges, 1 to %HKR_MAX_BATCH
 * @ranges: address of @nr struct hkr_range, 8-byte aligned
 *
 * Returns how many ranges were recycled, or a negative errno as HANDOUT does.
 */
struct hkr_recycle {
	__u32 size;
	__u32 flags;
	__u32 mode;
	__u32 nr;
	__aligned_u64 ranges;
};

/**
 * struct hkr_sqe - command area of an IORING_OP_URING_CMD for this device
 * @arg: address of the structure that the ioctl of that number takes
 * @__reserved: zero
 *
 * With %HKR_FEAT_URING, HANDOUT and RECYCLE are io_uring commands as well: @fd
 * of the SQE is the device, its cmd_op %HKR_IOC_HANDOUT or %HKR_IOC_RECYCLE,
 * this structure is at its cmd, and the completion's result is what the ioctl
 * would return. A ring without IORING_SETUP_SQE128 has room enough. The
 * structure and its array are read and written when the command runs, so they
 * stay the kernel's until the completion. IORING_URING_CMD_FIXED is %EINVAL; a
 * ring with IORING_SETUP_IOPOLL gets %EOPNOTSUPP.
 *
 * Set IOSQE_ASYNC. Without it a command is tried in the submitter's context in
 * vain, and some kernels (6.12) then read the SQE again when the command runs,
 * although it is the submitter's for other use by then.
 *
 * Commands run in a worker thread of the submitter, several at a time and in no
 * order unless they are linked; %HKR_NODE_ANY means the node that the worker runs
 * on. A command that is cancelled while it runs finishes the entry it is at and
 * ends with its count; the entries that it did not try have %EINTR.
 */
struct hkr_sqe {
	__aligned_u64 arg;
	__u64 __reserved;
};

/**
 * struct hkr_trim - HKR_IOC_TRIM: give back idle slots of the caller's arena
 * @size: sizeof(struct hkr_trim)
 * @flags: zero
 * @min_age_ms: in, only slots idle for at least this long, in milliseconds, to
 *	within an epoch; 0 takes every idle slot
 * @max_slots: in, most slots to take; 0 means no bound
 * @nr_trimmed: out, slots given back, oldest first
 */
struct hkr_trim {
	__u32 size;
	__u32 flags;
	__u64 min_age_ms;
	__u64 max_slots;
	__u64 nr_trimmed;
};

/**
 * struct hkr_stats - HKR_IOC_STATS: counters of the caller's arena
 * @size: sizeof(struct hkr_stats)
 * @flags: zero
 * @nr_slots: slots in the arena
 * @handed_out: slots handed out now
 * @resident: slots that hold memory now, @shared included
 * @idle: resident slots whose word is IDLE and that nothing pins
 * @limit: most slots this open file may have handed out
 * @user_charged: slots charged to this user now, over all open files, with
 *	memory that a pin still keeps after its slot was recycled
 * @user_limit: most slots one user may have
 * @faults: page faults served
 * @handouts: slots handed out since SETUP
 * @served_clean: slots backed by a folio that was zeroed in the background
 * @served_dirty: slots backed by a pool folio that was zeroed in line
 * @served_new: slots backed by a folio allocated and zeroed in line
 * @served_idle: slots backed by FROM_IDLE, not zeroed
 * @dropped: slots recycled by DROP
 * @idled: slots made idle by RECYCLE IDLE
 * @refreshed: slots recycled by FRESH
 * @moved: slots moved by MOVE
 * @trimmed: slots given back by TRIM
 * @reclaimed: slots the kernel took back
 * @orphaned: folios left behind because something else still used them
 * @bytes_zeroed_inline: bytes zeroed while this process waited
 * @served_single: slots backed by 512 single pages, zeroed in line, because no
 *	2 MiB of memory in one piece could be had; each costs up to 512 faults.
 *	They are exchanged when the slot is next idle
 * @singles: slots backed so now
 * @shared: slots whose memory is shared with another process since a fork. It is
 *	charged to the user once, until the last of them lets go of it
 * @copied: slots that got a copy of shared memory, at a touch or, where the
 *	parent's was pinned, at the fork
 */
struct hkr_stats {
	__u32 size;
	__u32 flags;
	__u64 nr_slots;
	__u64 handed_out;
	__u64 resident;
	__u64 idle;
	__u64 limit;
	__u64 user_charged;
	__u64 user_limit;
	__u64 faults;
	__u64 handouts;
	__u64 served_clean;
	__u64 served_dirty;
	__u64 served_new;
	__u64 served_idle;
	__u64 dropped;
	__u64 idled;
	__u64 refreshed;
	__u64 moved;
	__u64 trimmed;
	__u64 reclaimed;
	__u64 orphaned;
	__u64 bytes_zeroed_inline;
	__u64 served_single;
	__u64 singles;
	__u64 shared;
	__u64 copied;
};

/*
 * 0xd7 is free in the kernel's list of ioctl numbers. The size is in the
 * structure, not in the number, so a command keeps its number as it grows.
 */
#define HKR_IOC_MAGIC		0xd7
#define HKR_IOC_INFO		_IO(HKR_IOC_MAGIC, 0x80)
#define HKR_IOC_SETUP		_IO(HKR_IOC_MAGIC, 0x81)
#define HKR_IOC_HANDOUT		_IO(HKR_IOC_MAGIC, 0x82)
#define HKR_IOC_RECYCLE		_IO(HKR_IOC_MAGIC, 0x83)
#define HKR_IOC_TRIM		_IO(HKR_IOC_MAGIC, 0x84)
#define HKR_IOC_STATS		_IO(HKR_IOC_MAGIC, 0x85)

#endif /* _UAPI_LINUX_HAKMEM_REGION_H */
