/* SPDX-License-Identifier: MIT */
#ifndef HB_PEERS_H
#define HB_PEERS_H

/*
 * The scenario `peers`: what the process (peers_work.c) and its parent (peers.c)
 * have in common. The process is this program, run anew with an allocator
 * preloaded; both map the file behind @shm.
 */

#include "hkbench.h"

#define PEER_OPS_MAX	4096

struct peer_shm {
	uint64_t turn_cycles;		/* a turn ends after so many */
	uint64_t settle_ops;		/* of which so many are not measured */
	/* of the last turn */
	uint64_t n;
	uint64_t cycles[PEER_OPS_MAX];
	uint64_t faults;
	bool counted;			/* the turn's system calls; it was not timed */
	uint64_t calls;
	/* since the start */
	uint64_t requested_peak;	/* bytes that were live at once */
	char malloc_is[256];		/* the file that malloc comes from */
	int err;
};

/* what is done with an allocator: a row of the table */
struct peer_work {
	const char *name;
	size_t size;
	size_t least;		/* where sizes are drawn; 0: 2 MiB or a little more */
	enum hb_touch touch;
	unsigned int ops;	/* of a turn */
	unsigned int turns;	/* of a process, with others in between */
	unsigned int threads;
	bool starts_threads;	/* no calls are counted then */
	bool mixed;		/* a turn may take longer: the first is a warm-up */
	bool no_floor;
	bool memory;		/* what it keeps is looked at, not its time */
	int (*begin)(const struct peer_work *w);
	/* one operation; false: no memory */
	bool (*op)(const struct peer_work *w);
	/* instead of single operations; cycles go to @shm */
	unsigned int scale;	/* a sample is so many times one operation */
	bool (*turn)(const struct peer_work *w, struct peer_shm *shm);
	void (*end)(const struct peer_work *w);
};

const struct peer_work *hb_peer_work(size_t i);	/* NULL after the last */
/*
 * in the process: commands from @in, a byte to @out when each is done: a turn, or one
 * whose system calls are counted
 */
#define PEER_TURN	't'
#define PEER_COUNT	'c'
int hb_peer_child(size_t work, bool floor, int shm, int in, int out);

#endif /* HB_PEERS_H */
