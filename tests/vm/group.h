/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_GROUP_H
#define HKR_GROUP_H

/*
 * Memory cgroups for the tests: made under the root of the second version's
 * hierarchy, which the guest mounts. Functions return 0 or -errno.
 */

#include "hkr_test.h"
#include <sys/stat.h>

#define GROUPS	"/sys/fs/cgroup"

static inline int group_write(const char *group, const char *file,
			      const char *value)
{
	int fd, ret = 0;
	char path[256];

	snprintf(path, sizeof(path), GROUPS "%s/%s", group, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static inline long group_read(const char *group, const char *file,
			      const char *key)
{
	char path[256], line[128];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), GROUPS "%s/%s", group, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		size_t n = key ? strlen(key) : 0;

		if (key && (strncmp(line, key, n) || line[n] != ' '))
			continue;
		value = strtol(line + n, NULL, 10);
		break;
	}
	if (f)
		fclose(f);
	return value;
}

/* @limit: of memory.max, in MiB, or 0 for none */
static HKR_UNUSED int group_make(const char *group, long limit)
{
	char path[256], value[32];

	snprintf(path, sizeof(path), GROUPS "%s", group);
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	if (!limit)
		return 0;
	snprintf(value, sizeof(value), "%ldM", limit);
	return group_write(group, "memory.max", value);
}

/* groups below @group get a memory controller */
static HKR_UNUSED int group_delegate(const char *group)
{
	return group_write(group, "cgroup.subtree_control", "+memory");
}

/* the caller, from now on; "" is the root */
static HKR_UNUSED int group_enter(const char *group)
{
	return group_write(group, "cgroup.procs", "0");
}

static HKR_UNUSED int group_remove(const char *group)
{
	char path[256];
	int i;

	snprintf(path, sizeof(path), GROUPS "%s", group);
	/* a process that was just reaped may still be leaving */
	for (i = 0; i < 500 && rmdir(path); i++) {
		if (errno != EBUSY)
			return -errno;
		usleep(10000);
	}
	return i < 500 ? 0 : -EBUSY;
}

static HKR_UNUSED long group_kills(const char *group)
{
	return group_read(group, "memory.events", "oom_kill");
}

#endif /* HKR_GROUP_H */
