/* SPDX-License-Identifier: GPL-2.0 */
#ifndef FAKEDEV_H
#define FAKEDEV_H

/*
 * A stand-in for /dev/hakmem_region, in this process: an arena and control
 * pages in a memfd, and the kernel's record of slots in an array. It is put in
 * with ld's --wrap in front of hkm_sys_region_*(), so that the library's own
 * file is tested as it is, together with what only the kernel can do: take
 * idle slots away, at any moment. While `enabled` is false the real calls are
 * made.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fakedev {
	bool enabled;
	int open_error;		/* negative errno, or 0 */
	int handout_error;	/* result of every request, or 0 */
	int handout_call_error;	/* of the call as a whole, or 0 */
	int setup_error;
	int recycle_error;	/* -EBADF: the program has closed the device */
	size_t refuse_range;	/* RECYCLE fails for the one that ends before this slot, or 0 */
	bool refuse_arena;	/* mmap() unmaps what was there, then fails */
	bool tell_sites_apart;	/* no two callers are one site by their hash */
	size_t refuse_tables;	/* there is no memory for one of so many bytes, or 0 */
	bool misalign;		/* mmap() chooses addresses 4 KiB off 2 MiB */
	bool refuse_move;	/* every slot is several mappings */
	uint64_t failing_moves;	/* bit n: of mremap()s, number n fails, late */
	unsigned int slow_moves;	/* microseconds */
	void (*before_at)(void);	/* called as HANDOUT with AT arrives */
	void (*after_move)(void);	/* called as RECYCLE with MOVE returns */
	uint32_t abi_version;
	uint64_t features;
	size_t max_slots;

	/* what happened, atomic */
	int opens, handouts, at_handouts, drops, fresh, moves, mremaps;
	size_t nr_slots;	/* as SETUP was told */
	uint32_t last_flags;	/* of the last HANDOUT */
	/* memory pressure: errors of the two triggers, and what happened */
	int root_trigger_error, any_trigger_error;
	int triggers, waits;
	bool pressure, trigger_lost;	/* for the next wait, atomic */
	void (*in_wait)(int fd);	/* called while it is waited for pressure */
	/* instead of the real ones, if they are set */
	uint64_t (*clock_ns)(void);
	uint64_t (*minor_faults)(void);
	int tables;		/* that were asked for */
	int names;		/* given to mappings, and the last one's: */
	const void *named;
	size_t named_size;
};

extern struct fakedev fake;

/* the kernel takes slots back that are idle; how many it got */
size_t fake_reclaim(size_t first, size_t nr);

/* its two halves: IDLE -> RECLAIM, then -> EMPTY, or back to IDLE */
bool fake_reclaim_begin(size_t slot);
void fake_reclaim_end(size_t slot, bool take);

bool fake_is_taken(size_t slot);
uint64_t fake_word(size_t slot);
void fake_set_epoch(uint32_t epoch);
void fake_set_clean(uint64_t folios);
bool fake_has_memory(size_t slot);

#endif /* FAKEDEV_H */
