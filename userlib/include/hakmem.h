/* SPDX-License-Identifier: MIT */
#ifndef HAKMEM_H
#define HAKMEM_H

/*
 * libhakmem: keep big blocks mapped and hand them out again without a system
 * call, on /dev/hakmem_region where it exists and on anonymous memory elsewhere.
 *
 * Every function is safe to call from any thread unless it says otherwise.
 * Sizes are bytes. Functions that can fail return NULL or a negative errno and
 * change nothing when they fail.
 *
 * After fork() the child has all blocks of its parent with the same contents, and
 * allocates and frees for itself, on the device as well; there the first touch of
 * 2 MiB, even a read, copies them, and is SIGBUS where the caps leave no room for
 * that. libhakmem(7) has the exceptions.
 */

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)	/* the library hides everything else */
#endif

/** HKM_WHALE_MIN - smallest block the ring and the whale heap keep: 2 MiB */
#define HKM_WHALE_MIN ((size_t)2 << 20)

/* ---- the whale ring: a cache of blocks that the caller made ------------- */

enum hkm_order {
	HKM_HOT_FIRST,	/* get returns the block that was put last: warm */
	HKM_FIFO,	/* get returns the block that was put first */
};

/**
 * hkm_release_fn - takes over a block that the ring evicts
 * @ptr, @size: as they were put
 * @arg: from struct hkm_whale_config
 *
 * Called without the ring's lock, so it may call the ring.
 */
typedef void (*hkm_release_fn)(void *ptr, size_t size, void *arg);

/**
 * struct hkm_whale_config - what hkm_whale_init() may be told
 * @slots: blocks kept, 1 to 65536; 0 takes HAKMEM_WHALE_SLOTS, else 8
 * @order: which block of a size a get returns; eviction is always FIFO
 * @release: gets evicted blocks; NULL unmaps them with munmap()
 * @arg: handed to @release
 */
struct hkm_whale_config {
	size_t slots;
	enum hkm_order order;
	hkm_release_fn release;
	void *arg;
};

/**
 * struct hkm_whale_stats - counters of a ring since its init
 * @hits, @misses: gets that found a block of that exact size, or did not
 * @puts: blocks taken
 * @evictions: blocks handed to the release function to make room
 * @cached, @slots: blocks held now, and how many it may hold
 */
struct hkm_whale_stats {
	uint64_t hits;
	uint64_t misses;
	uint64_t puts;
	uint64_t evictions;
	size_t cached;
	size_t slots;
};

/*
 * hkm_whale_init - set up the process's ring; @cfg NULL means all defaults.
 * 0; -EINVAL for a bad @cfg or HAKMEM_WHALE_SLOTS; -EALREADY when it is set up;
 * -ENOMEM. The other calls set it up with defaults when this was not called.
 */
int hkm_whale_init(const struct hkm_whale_config *cfg);

/* hkm_whale_get - a cached block of exactly @size bytes, or NULL. O(1). */
void *hkm_whale_get(size_t size);

/*
 * hkm_whale_put - keep a block for the next get of @size. O(1). 0 when taken;
 * -EINVAL when not (NULL or @size below HKM_WHALE_MIN): it is still the caller's.
 * When the ring is full the oldest block goes to the release function.
 */
int hkm_whale_put(void *ptr, size_t size);

void hkm_whale_get_stats(struct hkm_whale_stats *st);

/* hkm_whale_dump_stats - the statistics block, as text, to @out (NULL: stderr) */
void hkm_whale_dump_stats(FILE *out);

/*
 * hkm_whale_shutdown - release every cached block; the ring can be set up again.
 * No other thread may be inside the ring.
 */
void hkm_whale_shutdown(void);

/* ---- the heap ------------------------------------------------------------ */

enum hkm_source {
	HKM_SOURCE_AUTO,	/* the device where it opens, else anonymous */
	HKM_SOURCE_ANON,
	HKM_SOURCE_REGION,	/* the device or -ENODEV and the like */
};

/* what becomes of idle whales; on the device it is always what the kernel decides */
enum hkm_policy {
	HKM_POLICY_DECAY,	/* give it back when it has been idle for a time */
	HKM_POLICY_KEEP,	/* keep the memory */
	HKM_POLICY_DONTNEED,	/* MADV_DONTNEED at once */
	HKM_POLICY_FREE,	/* MADV_FREE at once */
	HKM_POLICY_REGION,	/* the kernel decides: the device is needed, and what
				   does not fit there decays */
};

/* how much memory may be idle */
enum hkm_capacity {
	HKM_CAPACITY_FIXED,	/* as much as the limit says */
	HKM_CAPACITY_AUTO,	/* less, if more has not been worth it */
};

/* defaults that fit together, for what is 0 beside them */
enum hkm_mode {
	HKM_MODE_NONE,
	HKM_MODE_MINIMAL,	/* HKM_POLICY_DONTNEED, and a 64th of memory idle */
	HKM_MODE_BALANCED,	/* HKM_POLICY_DECAY, and an eighth */
	HKM_MODE_FAST,		/* HKM_POLICY_KEEP, and a quarter */
};

/* huge pages of anonymous whales */
enum hkm_thp {
	HKM_THP_DEFAULT,	/* as HAKMEM_THP says, else HKM_THP_AUTO */
	HKM_THP_AUTO,		/* where there are any */
	HKM_THP_ON,
	HKM_THP_OFF,
};

/* a part of the library that can be switched */
enum hkm_switch {
	HKM_SWITCH_DEFAULT,	/* as the environment says, else HKM_SWITCH_AUTO */
	HKM_SWITCH_AUTO,	/* as is best where nobody says anything */
	HKM_SWITCH_ON,
	HKM_SWITCH_OFF,
};

/* which memory blocks have that are to be aligned to a page or more */
enum hkm_aligned {
	HKM_ALIGNED_DEFAULT,	/* as HAKMEM_ALIGNED says, else HKM_ALIGNED_ANON */
	HKM_ALIGNED_ANON,
	HKM_ALIGNED_REGION,
};

/**
 * struct hkm_config - what hkm_init() may be told
 * @source: where whales come from; environment HAKMEM_SOURCE=auto|anon|region
 * @policy: environment HAKMEM_POLICY=decay|keep|dontneed|free|region; the last is
 *	HKM_POLICY_DECAY with HKM_SOURCE_REGION, and cannot be with HKM_SOURCE_ANON
 * @slots: runs the whale cache keeps; 0 takes HAKMEM_WHALE_SLOTS, else 256
 * @order: environment HAKMEM_WHALE_ORDER=hot|fifo
 * @limit: bytes the whale cache keeps; 0 takes HAKMEM_LIMIT, else an eighth of
 *	the memory that there is, or that the memory cgroup allows
 * @decay_ms: how long idle whales are kept with HKM_POLICY_DECAY; 0 takes
 *	HAKMEM_DECAY_MS, else 1000
 * @capacity: environment HAKMEM_CAPACITY=fixed|auto
 * @exchange: bytes of the smallest whale for which hkm_calloc() gets zeroed memory
 *	in exchange for idle memory instead of clearing that; 0 takes
 *	HAKMEM_CALLOC_EXCHANGE, else what was measured best for each source
 *
 * @threshold: bytes of the smallest whale, from 512 KiB to 1 TiB, or
 *	HKM_THRESHOLD_AUTO: what costs least of 512 KiB to 32 MiB is found out; 0
 *	takes HAKMEM_WHALE_THRESHOLD, else HKM_WHALE_MIN
 * @sites: each place of the program that allocates whales has idle ones of its own;
 *	environment HAKMEM_SITES=1
 * @mode: which @policy and @limit are meant where those are 0; environment
 *	HAKMEM_MODE=minimal|balanced|fast
 * @thp: looked at once, when the first anonymous whale is made; environment
 *	HAKMEM_THP=auto|on|off
 * @aligned: environment HAKMEM_ALIGNED=anon|region
 * @move: idle anonymous memory is moved to where it can serve; looked at when @thp
 *	is; environment HAKMEM_MOVE=auto|on|off
 * @name: anonymous whales have a name in /proc/pid/smaps; looked at once, when the
 *	first whale is made; environment HAKMEM_NAME=0|1
 * @pack: whales may share a slot; environment HAKMEM_PACK=0|1
 * @colour: whales begin at different lines of a page; environment HAKMEM_COLOUR=0|1
 * @guard: for debugging, anonymous whales with a closed slot behind each, neither
 *	packed nor coloured, and no device; HKM_SWITCH_AUTO is off; looked at until
 *	the first anonymous whale is made; environment HAKMEM_GUARD=0|1
 * @reserved: zero; for what is to come
 *
 * The environment decides where hkm_init(NULL) is called, or nothing is.
 */
struct hkm_config {
	enum hkm_source source;
	enum hkm_policy policy;
	size_t slots;
	enum hkm_order order;
	size_t limit;
	uint32_t decay_ms;
	enum hkm_capacity capacity;
	size_t exchange;
	size_t threshold;
	bool sites;
	enum hkm_mode mode;
	enum hkm_thp thp;
	enum hkm_aligned aligned;
	enum hkm_switch move;
	enum hkm_switch name;
	enum hkm_switch pack;
	enum hkm_switch colour;
	enum hkm_switch guard;
	uint64_t reserved[8];
};

#define HKM_THRESHOLD_AUTO ((size_t)-1)
#define HKM_THRESHOLDS 7	/* that are rated: 512 KiB, 1 MiB, ... 32 MiB */

/*
 * hkm_init - 0, -EINVAL for a bad @cfg, -EALREADY, -ENOMEM, or, with
 * HKM_SOURCE_REGION or HKM_POLICY_REGION, why the device cannot be used (-EBUSY: whales began without
 * it, and have all addresses; -ENODEV: HAKMEM_GUARD=1 wants none). A bad value in the environment is reported on stderr and its default used.
 */
int hkm_init(const struct hkm_config *cfg);

/* hkm_shutdown - give back every idle whale. Live ones stay valid. */
void hkm_shutdown(void);

/*
 * The malloc family. From the threshold up (HKM_WHALE_MIN, unless
 * HAKMEM_WHALE_THRESHOLD says otherwise) a block is a whale: a run of 2 MiB slots,
 * which begins with one, or with half of one where it shares it. One that leaves a
 * page of that unused begins up to 4032 bytes later, at a multiple of 64: who needs
 * more alignment asks for it, hkm_memalign(). Below the threshold
 * everything is libc's, and so are blocks that want an alignment of more than 2 MiB.
 * Each is as its namesake in malloc(3), posix_memalign(3) and so on.
 */
void *hkm_malloc(size_t size);
void *hkm_calloc(size_t nr, size_t size);
void *hkm_realloc(void *ptr, size_t size);
void *hkm_reallocarray(void *ptr, size_t nr, size_t size);
void *hkm_memalign(size_t align, size_t size);
void *hkm_aligned_alloc(size_t align, size_t size);
int hkm_posix_memalign(void **ptr, size_t align, size_t size);
void *hkm_valloc(size_t size);
void *hkm_pvalloc(size_t size);

/*
 * hkm_free - of this family or of libc's. NULL is allowed. errno is kept. The
 * others are C23's, and take their word for nothing.
 */
void hkm_free(void *ptr);
void hkm_free_sized(void *ptr, size_t size);
void hkm_free_aligned_sized(void *ptr, size_t align, size_t size);

size_t hkm_malloc_usable_size(void *ptr);

/*
 * hkm_alloc_batch - @n blocks of @size bytes each, as hkm_malloc() gives them,
 * into @ptrs. How many there are: fewer than @n where memory ran out, and the rest
 * of @ptrs is NULL. -ENOMEM where there is none at all, -EINVAL where @n is more
 * than INT_MAX; @n may be 0. What cannot be taken from idle whales is one call to
 * the kernel, or a few.
 */
int hkm_alloc_batch(void **ptrs, size_t n, size_t size);

/*
 * hkm_free_batch - hkm_free() of the @n blocks in @ptrs, of any sizes, in any
 * order, NULL allowed. Neighbours become idle together. @ptrs is all NULL then.
 */
void hkm_free_batch(void **ptrs, size_t n);

/* hkm_malloc_trim - whales first, then libc; 1 if anything went back */
int hkm_malloc_trim(size_t pad);

/* hkm_mallinfo2 - libc's, with whales among the mapped blocks */
struct mallinfo2 hkm_mallinfo2(void);
void hkm_malloc_stats(void);

/* hkm_set_limit - most bytes of idle whales, from now on; sets the heap up if need be */
void hkm_set_limit(size_t bytes);

/* who gives idle anonymous whales back in time; the device leaves it to the kernel */
enum hkm_trim {
	HKM_TRIM_OFF,		/* the calls of the program, as they come */
	HKM_TRIM_THREAD,	/* a thread, while something is idle */
	HKM_TRIM_PSI,		/* a thread, all of it when memory is short */
};

/*
 * hkm_set_trim - from now on, with the decay that the heap was or will be set up
 * with; until it is called, environment HAKMEM_TRIM=off|thread|psi. 0 or -EINVAL. Where the kernel does not
 * report pressure to this process, HKM_TRIM_PSI is HKM_TRIM_THREAD.
 */
int hkm_set_trim(enum hkm_trim how);

/**
 * hkm_low_memory_fn - gives back what the program can do without
 * @wanted: bytes of the block that cannot be had; 0 when the kernel has reported
 *	memory pressure (HKM_TRIM_PSI; on a thread of the library then, with a
 *	small stack and all signals blocked)
 * @arg: as hkm_set_low_memory() was told
 *
 * 0: there is nothing, the block is NULL. Otherwise it is tried again. May call
 * the heap, and is not called by calls that it makes.
 */
typedef int (*hkm_low_memory_fn)(size_t wanted, void *arg);

/* hkm_set_low_memory - call @fn before a block of a whale's size fails; NULL: nobody */
void hkm_set_low_memory(hkm_low_memory_fn fn, void *arg);

/* hkm_release_all - give back every idle whale that is not pinned; how many bytes */
size_t hkm_release_all(void);

/*
 * hkm_pin - keep the memory of a live whale also while it is idle: it is neither
 * trimmed nor evicted (but by hkm_shutdown()), nor taken by the kernel, until it is live
 * again and unpinned.
 * 0, or -EINVAL where @ptr is outside the heap's addresses: NULL, or a block of libc's.
 * A pointer into a whale that is not its start, or to one that was freed, is a mistake
 * of the program, as in hkm_free(): its address is written to stderr, and abort().
 */
int hkm_pin(void *ptr, int on);

/**
 * struct hkm_heap_stats - the heap's counters
 * @ring: the whale cache's
 * @backend: of the whale that was made last, "region" or "anon"; "none" before
 *	the first
 * @live_bytes: whales in use
 * @idle_bytes: whales in the cache
 * @lost: cached whales that the kernel had taken back
 * @live: number of whales in use
 * @capacity_bytes: most idle bytes there may be now
 * @capacity_grown, @capacity_shrunk: how often that has changed by itself
 * @threshold: bytes of the smallest whale now; before the first large block it
 *	may not be known
 * @threshold_games: that have been played for it; 0 where it is not found out
 * @threshold_is_rated: there are more games to come
 * @threshold_ratings: of the candidates
 */
struct hkm_heap_stats {
	struct hkm_whale_stats ring;
	const char *backend;
	uint64_t live_bytes;
	uint64_t idle_bytes;
	uint64_t lost;
	uint64_t live;
	uint64_t capacity_bytes;
	uint64_t capacity_grown;
	uint64_t capacity_shrunk;
	uint64_t threshold;
	uint64_t threshold_games;
	int threshold_is_rated;
	int threshold_ratings[HKM_THRESHOLDS];
};

void hkm_stats(struct hkm_heap_stats *st);

/* hkm_dump_heap_stats - the same as text, to @out (NULL: stderr) */
void hkm_dump_heap_stats(FILE *out);

/*
 * hkm_stats_json - the same as one line of JSON, as HAKMEM_STATS_FILE has it, to @out
 * (NULL: stderr), which is flushed. 0, or why it could not be written.
 */
int hkm_stats_json(FILE *out);

/* ---- timing --------------------------------------------------------------- */

enum hkm_timed {
	HKM_T_MMAP,
	HKM_T_MUNMAP,
	HKM_T_MADVISE,
	HKM_T_HANDOUT,
	HKM_T_RECYCLE,
	HKM_T_WHALE_GET,
	HKM_T_WHALE_PUT,
	HKM_T_NR,
};

struct hkm_timing {
	uint64_t calls[HKM_T_NR];
	uint64_t cycles[HKM_T_NR];
};

/*
 * Timing is compiled in with HAKMEM_DEBUG_TIMING=1 and switched on with
 * HAKMEM_TIMING=1 in the environment or hkm_timing_enable(1). Each thread
 * counts for itself; these add up all threads, living and gone. The table is
 * printed to stderr at exit when the environment switched timing on.
 * hkm_timing_enable: 0, or -EOPNOTSUPP where it was not compiled in.
 */
int hkm_timing_enable(int on);
void hkm_timing_read(struct hkm_timing *sum);
void hkm_timing_reset(void);
void hkm_timing_dump(FILE *out);

/* hkm_strtiming - "mmap", "munmap", ... or NULL */
const char *hkm_strtiming(enum hkm_timed what);

/* ---- system calls, timed: return 0 (or an address) or a negative errno ---- */

void *hkm_sys_mmap(void *addr, size_t size, int prot, int flags, int fd,
		   uint64_t offset);	/* HKM_SYS_FAILED() tells an error */
int hkm_sys_munmap(void *addr, size_t size);
int hkm_sys_madvise_dontneed(void *addr, size_t size);
int hkm_sys_madvise_free(void *addr, size_t size);
int hkm_sys_madvise_hugepage(void *addr, size_t size);
int hkm_sys_madvise_willneed(void *addr, size_t size);

#define HKM_SYS_FAILED(p) ((uintptr_t)(p) >= (uintptr_t)-4095)
#define HKM_SYS_ERRNO(p)  ((int)-(intptr_t)(p))

struct hkr_info;
struct hkr_setup;
struct hkr_handout;
struct hkr_recycle;
struct hkr_trim;
struct hkr_stats;

/* hkm_sys_region_open - a descriptor (close-on-exec), or a negative errno */
int hkm_sys_region_open(void);
int hkm_sys_region_info(int fd, struct hkr_info *info);
int hkm_sys_region_setup(int fd, struct hkr_setup *setup);
int hkm_sys_region_handout(int fd, struct hkr_handout *handout);
int hkm_sys_region_recycle(int fd, struct hkr_recycle *recycle);
int hkm_sys_region_trim(int fd, struct hkr_trim *trim);
int hkm_sys_region_stats(int fd, struct hkr_stats *stats);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* HAKMEM_H */
