/* SPDX-License-Identifier: MIT */
#ifndef HKM_BACKEND_H
#define HKM_BACKEND_H

/*
 * What a source of whales must do. A source owns one range of addresses,
 * 2 MiB-aligned, cut into slots; a run is some consecutive slots. Between
 * commit and drop a run is either busy (its user's) or idle (contents
 * disposable, wherever the source decides to keep or lose them).
 *
 *   commit   a new busy run
 *   idle     busy -> idle; no system call on the device
 *   reuse    idle -> busy; 0, or -ESTALE when a part of it is gone: the run is
 *            then no longer the caller's in any state
 *   fresh    a busy run gets zeroed memory in place, stays busy
 *   drop     busy or idle -> nothing; the memory goes back
 *   evict    idle -> nothing, for a run that has been idle while others used
 *            the source: what they have made of parts of it is left alone
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

struct hkm_backend;

struct hkm_backend_ops {
	const char *name;
	/* -ENOMEM, -EDQUOT, -ENOSPC ...; *run is set on 0. zeroed may be NULL */
	int (*commit)(struct hkm_backend *be, size_t nr_slots, void **run,
		      bool *zeroed);
	void (*idle)(struct hkm_backend *be, void *run, size_t nr_slots);
	int (*reuse)(struct hkm_backend *be, void *run, size_t nr_slots);
	int (*fresh)(struct hkm_backend *be, void *run, size_t nr_slots);
	int (*drop)(struct hkm_backend *be, void *run, size_t nr_slots);
	void (*evict)(struct hkm_backend *be, void *run, size_t nr_slots);
	void (*close)(struct hkm_backend *be);
};

struct hkm_backend {
	const struct hkm_backend_ops *ops;
	char *base;		/* first slot */
	size_t nr_slots;
};

/*
 * hkm_anon_open - a window of @nr_slots slots of PROT_NONE address space in
 * which runs of anonymous memory are opened; idle runs follow @policy. @thp
 * asks for huge pages with MADV_HUGEPAGE. @nr_slots 0 takes a size that suits
 * the machine, halved until it can be had. 0 or a negative errno.
 */
int hkm_anon_open(size_t nr_slots, enum hkm_policy policy, bool thp,
		  struct hkm_backend **be);

/*
 * hkm_region_open - an arena of the device; @nr_slots 0 takes a size that suits
 * the machine. 0, or a negative errno: -ENOENT (no device), -EACCES, ...
 */
int hkm_region_open(size_t nr_slots, struct hkm_backend **be);

/* hkm_anon_set_policy - for runs that become idle from now on */
void hkm_anon_set_policy(struct hkm_backend *be, enum hkm_policy policy);

/* hkm_default_slots - twice the RAM, but no more than half of RLIMIT_AS */
size_t hkm_default_slots(void);

/* hkm_region_fd - the descriptor, for STATS and the benchmark */
int hkm_region_fd(const struct hkm_backend *be);

#endif /* HKM_BACKEND_H */
