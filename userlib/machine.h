/* SPDX-License-Identifier: MIT */
#ifndef HKM_MACHINE_H
#define HKM_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct hkm_machine - what the sizes of things follow
 * @ram: bytes
 * @address_space: RLIMIT_AS
 * @memory: bytes that this process may hope for: @ram, or the least limit of the
 *	memory cgroups that it is in
 * @huge: this process has not had huge pages disabled by prctl()
 * @strict: what is writable is counted against a limit (vm.overcommit_memory=2, or
 *	RLIMIT_DATA)
 * @counter: the time-stamp counter may be read, without a call
 */
struct hkm_machine {
	uint64_t ram;
	uint64_t address_space;
	uint64_t memory;
	bool huge;
	bool strict;
	bool counter;
};

/*
 * hkm_machine_learn - ask once. The preload object does at start, because a
 * program may later forbid itself to open files.
 */
struct hkm_machine hkm_machine_learn(void);

#endif /* HKM_MACHINE_H */
