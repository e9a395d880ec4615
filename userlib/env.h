/* SPDX-License-Identifier: MIT */
#ifndef HKM_ENV_H
#define HKM_ENV_H

/*
 * Settings from the environment. A value that cannot be used is reported in one
 * line on stderr, once for each variable, and the default is used instead.
 */

#include <stdbool.h>
#include <stddef.h>

/* Those that may have a bad value. Where a variable is read it is called by this name. */
#define HKM_ENV_VARIABLES(V)			\
	V(HAKMEM_ALIGNED)			\
	V(HAKMEM_CALLOC_EXCHANGE)		\
	V(HAKMEM_CAPACITY)			\
	V(HAKMEM_COLOUR)			\
	V(HAKMEM_DECAY_MS)			\
	V(HAKMEM_DISABLE)			\
	V(HAKMEM_GUARD)				\
	V(HAKMEM_LIMIT)				\
	V(HAKMEM_MODE)				\
	V(HAKMEM_MOVE)				\
	V(HAKMEM_NAME)				\
	V(HAKMEM_PACK)				\
	V(HAKMEM_POLICY)			\
	V(HAKMEM_SITES)				\
	V(HAKMEM_SOURCE)			\
	V(HAKMEM_STATS)				\
	V(HAKMEM_THP)				\
	V(HAKMEM_TIMING)			\
	V(HAKMEM_TRIM)				\
	V(HAKMEM_VERBOSE)			\
	V(HAKMEM_WHALE_ORDER)			\
	V(HAKMEM_WHALE_SLOTS)			\
	V(HAKMEM_WHALE_THRESHOLD)

enum hkm_env {
#define V(name) name,
	HKM_ENV_VARIABLES(V)
#undef V
	HKM_ENV_NR
};

/* hkm_message - one line on stderr, with the library's name in front */
void hkm_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* hkm_verbose - is HAKMEM_VERBOSE=1 set? */
bool hkm_verbose(void);

/* hkm_env_flag - 0 or 1; absent means 0, or @def */
bool hkm_env_flag(enum hkm_env var);
bool hkm_env_flag_or(enum hkm_env var, bool def);

/* hkm_env_number - @def where it is absent or bad; 0, or -EINVAL for bad */
int hkm_env_number(enum hkm_env var, size_t min, size_t max, size_t def,
		   size_t *value);

/* hkm_env_bytes - the same, with K, M or G behind the number, or nothing */
int hkm_env_bytes(enum hkm_env var, size_t min, size_t max, size_t def,
		  size_t *value);

/* hkm_env_bytes_or - the same, but 1 where it is @word, with @def as the value */
int hkm_env_bytes_or(enum hkm_env var, const char *word, size_t min, size_t max,
		     size_t def, size_t *value);

/* hkm_env_choice - index into @words, which NULL ends; absent or bad means @def */
int hkm_env_choice(enum hkm_env var, const char *const *words, int def);

/* HAKMEM_WHALE_SLOTS for the ring; the heap has a default of its own */
#define HKM_SLOTS_MAX	  65536
#define HKM_SLOTS_DEFAULT 8
int hkm_env_slots(size_t *slots);

#endif /* HKM_ENV_H */
