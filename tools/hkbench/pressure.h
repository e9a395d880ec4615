/* SPDX-License-Identifier: MIT */
#ifndef HB_PRESSURE_H
#define HB_PRESSURE_H

/*
 * Inside the scenario `pressure`: what its owners, its ways to keep memory and
 * its book of runs know of each other. pressure.c says what the scenario does.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "hkbench.h"

#define PR_SLOTS_MAX	8192	/* of one owner */
#define PR_OWNERS_MAX	16

/* what an owner is told when it reuses an idle slot */
enum pr_reuse {
	PR_KEPT,	/* contents are there */
	PR_LOST,	/* memory was taken: the slot is backed anew, by zeroes */
	PR_LOOK,	/* nobody knows: the contents have to tell */
};

struct pr_owner_shm;

/* one process that keeps memory; lives in that process */
struct pr_owner {
	unsigned int id;	/* makes its contents its own; not zero */
	size_t nr, nr_busy;	/* slots; the first nr_busy stay in use */
	char *base;
	struct hb_ctx ctx;
	/* states of slots, where user space keeps them */
	_Atomic uint64_t *words;
	_Atomic uint64_t epoch;
	int psi_fd;
	struct pr_owner_shm *shm;
};

#define PR_DEVICE	1U	/* needs /dev/hakmem_region */
#define PR_PSI		2U	/* needs /proc/pressure/memory */
#define PR_DRAIN	4U	/* gives memory up: shown to the last slot */

struct pr_backend {
	const char *name;
	unsigned int flags;
	int (*open)(struct pr_owner *o);		/* 0 or -errno */
	void (*idle)(struct pr_owner *o, size_t slot);
	enum pr_reuse (*reuse)(struct pr_owner *o, size_t slot);
};

extern const struct pr_backend pr_backends[];
extern const size_t pr_nr_backends;

/* ---- pressure_owner.c: the processes ---- */

/* the owner's answer; cycles and taken for each idle slot */
struct pr_owner_shm {
	/* set by the parent: what is dropped from now on helps nobody */
	_Atomic bool over;
	int err;
	uint64_t idle, kept, taken, corrupted;
	uint64_t busy, busy_lost, busy_corrupted;
	bool slot_taken[PR_SLOTS_MAX];
	uint64_t slot_cycles[PR_SLOTS_MAX];
};

struct pr_needy_shm {
	_Atomic uint64_t got;		/* bytes so far */
	_Atomic uint64_t start_ns, end_ns;
};

struct pr_child {
	pid_t pid;			/* 0: not there, or reaped */
	int to, from;			/* pipes; from: end of file at its end */
	int status;			/* as of waitpid(), once reaped */
	bool hung;			/* no answer: ended by us */
	size_t shm_size;
	union {
		void *shm;
		struct pr_owner_shm *owner;
		struct pr_needy_shm *needy;
	};
};

/* 0 or -errno; slots are filled and idle, or nothing is left of it */
int pr_owner_start(struct pr_child *c, const struct pr_backend *be,
		   unsigned int id, size_t nr, size_t nr_busy);
/* stopped when this returns; false where it is gone */
bool pr_owner_stop(struct pr_child *c);
/*
 * Lets it run, and reuse and check every slot; false when it was killed before.
 * It has ended in any case; its answer stays.
 */
bool pr_owner_check(struct pr_child *c);
/* @bytes, page by page; false when it was killed, or hangs. It has ended */
bool pr_needy_run(struct pr_child *c, uint64_t bytes, bool first_to_die);
/* by a SIGKILL that was not ours */
bool pr_child_was_killed(const struct pr_child *c);
/* end what still runs, forget what it said */
void pr_child_free(struct pr_child *c);

#endif /* HB_PRESSURE_H */
