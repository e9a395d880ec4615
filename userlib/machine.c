// SPDX-License-Identifier: MIT
/*
 * How much memory there is, and of what kind.
 *
 * A limit of any cgroup above this process binds, so all of them are read, from
 * the process's own up to the root of what it can see. cgroup v2 only: under v1,
 * and where there is no /proc or /sys, the machine's memory is taken.
 *
 * A preloaded process pays for this at every start, also the one that never has a
 * whale, so no file is opened that could be done without. What the kernel is set to
 * do with huge pages is one of these: it can be asked for them in any case.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "compiler.h"
#include "machine.h"
#include "sys.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

static struct hkm_machine machine;
enum { UNKNOWN, BEING_WRITTEN, KNOWN };
static unsigned int state; /* atomic */

/* A decimal number, or what "max" means. */
static uint64_t read_limit(const char *path)
{
	char text[32];
	uint64_t limit = 0;
	long len = hkm_sys_read_file(path, text, sizeof(text) - 1);

	for (long i = 0; i < len && text[i] >= '0' && text[i] <= '9'; i++)
		limit = limit * 10 + (uint64_t)(text[i] - '0');
	return limit ? limit : UINT64_MAX;
}

/* The line "0::/path" of /proc/self/cgroup; its path, or NULL. */
static char *own_cgroup(char *text)
{
	char *line = strncmp(text, "0::/", 4) ? strstr(text, "\n0::/") : text;
	char *path, *end;

	if (!line)
		return NULL;
	path = strchr(line, '/');
	end = strchr(path, '\n');
	if (end)
		*end = '\0';
	return path;
}

static uint64_t cgroup_limit(void)
{
	char text[1024], file[1100], *path, *slash;
	uint64_t least = UINT64_MAX, limit;
	long len;

	/* Of a v1 the file has a line for each hierarchy, and takes long to read. */
	if (!hkm_sys_is_cgroup2(CGROUP_ROOT))
		return least;
	len = hkm_sys_read_file("/proc/self/cgroup", text, sizeof(text) - 1);
	if (len <= 0)
		return least;
	text[len] = '\0';
	path = own_cgroup(text);
	/* the root itself: its file is that of no path */
	if (path && !path[1])
		*path = '\0';
	while (path) {
		snprintf(file, sizeof(file), CGROUP_ROOT "%s/memory.max", path);
		limit = read_limit(file);
		if (limit < least)
			least = limit;
		slash = strrchr(path, '/');
		if (!slash || !*path)
			break;
		*slash = '\0';
	}
	return least;
}

static bool is_strict(void)
{
	char mode = 0;

	hkm_sys_read_file("/proc/sys/vm/overcommit_memory", &mode, 1);
	return mode == '2' || hkm_sys_data_is_limited();
}

/*
 * Nobody waits: of threads that find out at once the first one writes it down, also
 * for all who come later, and the others know it as well.
 */
struct hkm_machine hkm_machine_learn(void)
{
	unsigned int unknown = UNKNOWN;
	struct hkm_machine m;

	if (load_acquire(&state) == KNOWN)
		return machine;
	m.ram = hkm_sys_ram();
	m.address_space = hkm_sys_address_space();
	m.memory = cgroup_limit();
	if (m.memory > m.ram)
		m.memory = m.ram;
	m.huge = !hkm_sys_thp_is_disabled();
	m.strict = is_strict();
	m.counter = hkm_sys_counter_is_readable();
	if (__atomic_compare_exchange_n(&state, &unknown, BEING_WRITTEN, false,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		machine = m;
		/* Release: pairs with the acquire above. */
		store_release(&state, KNOWN);
	}
	return m;
}
