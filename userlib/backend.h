/* SPDX-License-Identifier: MIT */
#ifndef HKM_BACKEND_H
#define HKM_BACKEND_H

/*
 * What a source of whales must do. A source owns one range of addresses,
 * 2 MiB-aligned, cut into slots; a run is some consecutive slots. Between
 * commit and drop a run is either busy (its user's) or idle (contents
 * disposable, wherever the source decides to keep or lose them).
 *
 *   commit   a new busy run; with HKM_COMMIT_FROM_IDLE it is made of the memory
 *            of idle runs, which the source finds itself or is told by fill
 *   commit_many  @n busy runs of @nr_slots each; how many, or -errno for none.
 *            Anonymous memory has none: there one run is committed and cut
 *   idle     busy -> idle; no system call on the device. True: reads as zeroes
 *   reuse    idle -> busy; 0, or -ESTALE when a part of it is gone: the run is
 *            then no longer the caller's in any state
 *   fresh    a busy run gets zeroed memory in place, stays busy; -EAGAIN where
 *            none is ready and the kernel would clear it while we wait
 *   extend   a busy run gets the slots behind it, or -ENOSPC and the like
 *   widen    the same, with slots before it where those behind are not enough
 *            and, with HKM_COMMIT_FROM_IDLE, without memory; not on the device.
 *            has_room says whether that was possible a moment ago
 *   move     the contents of a busy run to a new, larger one; without copying
 *   fill     every part of a run that was committed FROM_IDLE gets memory in
 *            exchange for that of an idle run, which is then gone, or, with @from
 *            NULL, new memory; not on the device, whose commit finds idle memory
 *            itself
 *   drop     busy or idle -> nothing; the memory goes back
 *   evict    idle -> nothing, for a run that has been idle while others used
 *            the source: what they have made of parts of it is left alone
 *   evict_many  the same of many, by as few calls as can be. Anonymous memory has
 *            none: there it is a call or two for each
 *
 * While a run of the device is idle the kernel may take slots of it back, and
 * the next commit, of any thread, may be given them: even the very same run.
 * So reuse and evict go by the words, one slot at a time, and drop is for a run
 * that the caller knows to be whole.
 *
 * Slots, words and epochs are as in linux/hakmem_region.h. All operations
 * are thread-safe; one run is used by one thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hakmem.h>

#define HKM_SLOT_SHIFT 21
#define HKM_SLOT_SIZE ((size_t)1 << HKM_SLOT_SHIFT)

#define HKM_COMMIT_FROM_IDLE (1U << 0)

struct hkm_backend;

/* a run, as its source knows it */
struct hkm_place {
	void *run;
	size_t nr_slots;
};

struct hkm_backend_ops {
	const char *name;
	/* bytes from which on fresh is cheaper than to clear, as it was measured */
	size_t exchange_from;
	/* -ENOMEM, -EDQUOT, -ENOSPC ...; *run is set on 0. zeroed may be NULL */
	int (*commit)(struct hkm_backend *be, size_t nr_slots,
		      unsigned int flags, void **run, bool *zeroed);
	int (*commit_many)(struct hkm_backend *be, size_t nr_slots,
			   unsigned int flags, void **runs, unsigned int n);
	bool (*idle)(struct hkm_backend *be, void *run, size_t nr_slots);
	int (*reuse)(struct hkm_backend *be, void *run, size_t nr_slots);
	int (*fresh)(struct hkm_backend *be, void *run, size_t nr_slots);
	int (*extend)(struct hkm_backend *be, void *run, size_t nr_slots,
		      size_t more);
	bool (*has_room)(struct hkm_backend *be, void *run, size_t nr_slots,
			 size_t new_nr);
	int (*widen)(struct hkm_backend *be, void *run, size_t nr_slots,
		     size_t new_nr, unsigned int flags, void **new_run);
	int (*move)(struct hkm_backend *be, void *run, size_t nr_slots,
		    size_t new_nr, void **new_run);
	int (*fill)(struct hkm_backend *be, void *to, void *from,
		    size_t nr_slots);
	int (*drop)(struct hkm_backend *be, void *run, size_t nr_slots);
	void (*evict)(struct hkm_backend *be, void *run, size_t nr_slots);
	void (*evict_many)(struct hkm_backend *be,
			   const struct hkm_place *places, size_t n);
	/* is what is neither idle nor dropped still there? NULL: always */
	bool (*is_here)(struct hkm_backend *be);
	void (*close)(struct hkm_backend *be);
};

struct hkm_backend {
	const struct hkm_backend_ops *ops;
	char *base;		/* first slot */
	size_t nr_slots;
	size_t exchange_from;	/* atomic; as of the ops, or as the user says */
};

/*
 * hkm_anon_open - @nr_slots slots of a window (window.h) from @at on, in which
 * runs of anonymous memory are opened; idle runs follow @policy. 0 or a negative
 * errno.
 */
int hkm_anon_open(void *at, size_t nr_slots, enum hkm_policy policy,
		  unsigned int flags, struct hkm_backend **be);

#define HKM_ANON_THP	(1U << 0)	/* MADV_HUGEPAGE */
#define HKM_ANON_NO_THP	(1U << 1)	/* MADV_NOHUGEPAGE */
#define HKM_ANON_GUARD	(1U << 2)	/* a closed slot behind each run */
#define HKM_ANON_STAY	(1U << 3)	/* what is closed stays the mapping it was */
#define HKM_ANON_MOVE	(1U << 4)	/* idle memory is moved to where it is to serve */
#define HKM_ANON_NO_MOVE (1U << 5)	/* or never; neither: where that costs less */

/*
 * hkm_region_open - an arena of the device, mapped over the slots of a window
 * from @at on: @nr_slots of them, or as many as the device allows. The device
 * must have all of @features (HKR_FEAT_*). 0, or a negative errno: -ENOENT (no
 * device), -EACCES, -ENOSYS (features), ...
 */
int hkm_region_open(void *at, size_t nr_slots, uint64_t features,
		    struct hkm_backend **be);

/* hkm_anon_set_policy - for runs that become idle from now on */
void hkm_anon_set_policy(struct hkm_backend *be, enum hkm_policy policy);

/* hkm_region_fd - the descriptor, for STATS and the benchmark */
int hkm_region_fd(const struct hkm_backend *be);

#endif /* HKM_BACKEND_H */
