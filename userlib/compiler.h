/* SPDX-License-Identifier: MIT */
#ifndef HKM_COMPILER_H
#define HKM_COMPILER_H

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#define cold		__attribute__((cold, noinline))
#define always_inline	inline __attribute__((always_inline))

/*
 * For a table of many pages: GNU's linkers put it behind all small variables, so that
 * these are in a page or two, of which each process has to have its own; with others it
 * is a variable like any. @name is what the linker knows it by, as nothing static can be
 * put there. ASAN guards no such variable, and gets one that it does.
 */
#if defined(__SANITIZE_ADDRESS__)
#define behind_all(name) __asm__(name)
#else
#define behind_all(name) __asm__(name) __attribute__((common))
#endif

/* A word that threads share: no tearing, no invented accesses. */
#define read_once(p)	 __atomic_load_n((p), __ATOMIC_RELAXED)
#define write_once(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define load_acquire(p)	 __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#endif /* HKM_COMPILER_H */
