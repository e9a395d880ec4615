/* SPDX-License-Identifier: MIT */
#ifndef HKM_WINDOW_H
#define HKM_WINDOW_H

/*
 * The process's window: the one range of addresses that all whales are in.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

/**
 * struct hkm_window - a range of addresses; it never moves and never shrinks
 * @base: aligned to a slot; fixed once @size is not 0
 * @size: in bytes; stored last, with release
 */
struct hkm_window {
	uintptr_t base;
	size_t size;
};

extern struct hkm_window hkm_window;

/* hkm_window_has - is @ptr ours? NULL never is. */
static inline bool hkm_window_has(const void *ptr)
{
	/* Acquire: pairs with the release in hkm_window_open(). */
	size_t size = load_acquire(&hkm_window.size);

	return (uintptr_t)ptr - hkm_window.base < size;
}

/*
 * hkm_window_open - reserve the window, of a size that suits the machine, halved
 * until it can be had; @named: it has a name in /proc/pid/smaps. 0, also when that was done before, or a negative errno.
 * Under hkm_setup_lock.
 */
int hkm_window_open(bool named);

/*
 * hkm_window_reserve - @nr_slots slots of closed address space, aligned to a
 * slot, and a page behind them, so that no slot has nothing behind it. 0 or a negative
 * errno.
 */
int hkm_window_reserve(size_t nr_slots, char **base);

/* hkm_window_unreserve - give back what was reserved. */
void hkm_window_unreserve(void *base, size_t nr_slots);

/*
 * hkm_window_may_move - does a mapping more fit what this process may have? Else a
 * mremap() to addresses that are taken fails when it has unmapped what was there
 */
bool hkm_window_may_move(void);

/*
 * hkm_window_mend - a call that failed may have unmapped @size bytes at @at: if so,
 * they are ours again, open and empty. Where that cannot be, it is the end
 */
void hkm_window_mend(void *at, size_t size);

/* hkm_window_shut - close a part again: its memory goes back. 0 or -errno */
int hkm_window_shut(void *at, size_t size);

/* hkm_default_slots - twice the RAM, but no more than half of RLIMIT_AS */
size_t hkm_default_slots(void);

#endif /* HKM_WINDOW_H */
