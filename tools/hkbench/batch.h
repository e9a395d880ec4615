/* SPDX-License-Identifier: MIT */
#ifndef HKBENCH_BATCH_H
#define HKBENCH_BATCH_H

/*
 * The scenario `batch` in two halves: who measures and tells (batch.c), and the
 * ways, each in a process of its own (batch_ways.c).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HB_BATCH_MAX	512
#define HB_BATCH_TURN	8	/* most batches of a turn */

/* what is done to each block of a batch */
enum hb_act {
	HB_OBTAIN_BARE,		/* addresses without memory */
	HB_RELEASE_BARE,
	HB_OBTAIN,
	HB_RELEASE,
	HB_ACT_NR,
};

static inline bool hb_is_obtain(enum hb_act act)
{
	return act == HB_OBTAIN_BARE || act == HB_OBTAIN;
}

#define HB_WAY_DEVICE	1U
#define HB_WAY_RING	2U
#define HB_WAY_PIDFD	4U

struct hb_way {
	const char *name;
	unsigned int flags;
	unsigned int acts;	/* a bit for each it can do */
	/* 0, or -errno of the first block that failed */
	int (*run)(enum hb_act act, unsigned int n);
};

extern const struct hb_way hb_ways[];
extern const size_t hb_nr_ways;

#define HB_WAYS_MAX	16

struct hb_batch_order {
	enum hb_act act;
	unsigned int n, count;
};

struct hb_batch_answer {
	int err;
	unsigned int count;
	uint64_t cycles[HB_BATCH_TURN], cpu_ns[HB_BATCH_TURN];
};

/* hb_way_serve - answer once when all is set up, then each order; no return */
void hb_way_serve(const struct hb_way *w, int from, int to)
	__attribute__((noreturn));

#endif /* HKBENCH_BATCH_H */
