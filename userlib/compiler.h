/* SPDX-License-Identifier: MIT */
#ifndef HKM_COMPILER_H
#define HKM_COMPILER_H

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#define cold		__attribute__((cold, noinline))
#define always_inline	inline __attribute__((always_inline))

/* A word that threads share: no tearing, no invented accesses. */
#define read_once(p)	 __atomic_load_n((p), __ATOMIC_RELAXED)
#define write_once(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define load_acquire(p)	 __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#endif /* HKM_COMPILER_H */
