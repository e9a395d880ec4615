/* SPDX-License-Identifier: MIT */
#ifndef HKM_PROBES_H
#define HKM_PROBES_H

/*
 * Static probes (USDT) of the provider `hakmem`, for bpftrace, perf and gdb. Each
 * is a nop and a note in the file that says where the arguments are; so an argument
 * should be a value that is there anyway, in a register or on the stack. What they
 * are is in libhakmem(7), which is what users rely on.
 *
 * Without <sys/sdt.h> (systemtap-sdt-dev), or with HAKMEM_PROBES=0, there are none.
 */

#ifndef HAKMEM_PROBES
#define HAKMEM_PROBES 1
#endif

#if HAKMEM_PROBES && __has_include(<sys/sdt.h>)

#include <sys/sdt.h>

#define HKM_PROBE1(name, a)	STAP_PROBE1(hakmem, name, a)
#define HKM_PROBE2(name, a, b)	STAP_PROBE2(hakmem, name, a, b)

#else

/* The arguments are not evaluated, and no value is unused for that. */
#define HKM_PROBE1(name, a)	((void)sizeof(a))
#define HKM_PROBE2(name, a, b)	((void)sizeof(a), (void)sizeof(b))

#endif

#endif /* HKM_PROBES_H */
