/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HEAP_TEST_H
#define HEAP_TEST_H

#include <sys/resource.h>

#include <malloc.h>

#include "backend.h"
#include "fakedev.h"
#include "sys.h"
#include "tap.h"
#include "window.h"

#define SLOT HKM_SLOT_SIZE

static inline struct hkm_heap_stats stats(void)
{
	struct hkm_heap_stats st;

	hkm_stats(&st);
	return st;
}

/* how many bytes later than it could a whale begins */
static inline size_t colour_of(const void *p)
{
	return (uintptr_t)p % (SLOT / 2);
}

/* one that shares its first slot begins in the middle of it */
static inline bool is_whale(const void *p)
{
	return hkm_window_has(p) && colour_of(p) < 4096 && !(colour_of(p) % 64);
}

/* its part of its slots: what it may use, and its colour */
static inline size_t room_of(void *p)
{
	return colour_of(p) + hkm_malloc_usable_size(p);
}

/* a slow machine must not look like idleness */
static inline void no_decay(void)
{
	setenv("HAKMEM_DECAY_MS", "3600000", 0);
}

/* the device is never there in tests that want it absent, nor by chance */
static inline void no_device(void)
{
	no_decay();
	fake.enabled = true;
	fake.open_error = -ENOENT;
}

static inline void with_device(void)
{
	no_decay();
	fake.enabled = true;
	fake.open_error = 0;
}

/* where no sanitizer wants terabytes: the window gets half of these slots, libc has the other half */
static inline void limit_addresses(size_t slots)
{
	struct rlimit limit = { 0, RLIM_INFINITY };
	size_t kib = 0;
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");

	while (fgets(line, sizeof(line), f))
		sscanf(line, "VmSize: %zu kB", &kib);
	fclose(f);
	limit.rlim_cur = kib * 1024 + slots * SLOT;
	check_int(setrlimit(RLIMIT_AS, &limit), 0);
}

/* @child prints an address, and is to die for what it does @offset behind it */
static inline void check_child_aborts(void (*child)(void), const char *call,
				      size_t offset, const char *message)
{
	char text[8192], want[256];
	void *p;
	int status = run_child(child, text, sizeof(text));

	check(WIFSIGNALED(status));
	check_int(WTERMSIG(status), SIGABRT);
	check_int(sscanf(text, "%p", &p), 1);
	snprintf(want, sizeof(want), "\nlibhakmem: %s(%p): %s\n", call,
		 (void *)((char *)p + offset), message);
	check(strstr(text, want));
}

#endif /* HEAP_TEST_H */
