/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_ZEROING_H
#define HKR_ZEROING_H

/* The zeroing threads' parameters and what they have done. */

#include "hkr_test.h"
#include <glob.h>

#define HKR_PARAMS	"/sys/module/hakmem_region/parameters/"

/* 0 or -errno */
static HKR_UNUSED int set_param(const char *name, const char *value)
{
	char path[128];
	int fd, ret = 0;

	snprintf(path, sizeof(path), HKR_PARAMS "%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) != (ssize_t)strlen(value))
		ret = -errno;
	close(fd);
	return ret;
}

/* does a parameter read so */
static HKR_UNUSED bool param_is(const char *name, const char *value)
{
	char path[128], buf[64] = "";
	int fd;
	ssize_t len = 0;

	snprintf(path, sizeof(path), HKR_PARAMS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		len = read(fd, buf, sizeof(buf) - 1);
		close(fd);
	}
	return len > 0 && !strncmp(buf, value, strlen(value)) &&
	       buf[strlen(value)] == '\n';
}

/* MiB and bytes are more than an int holds, but not more than a long */
static HKR_UNUSED long zeroed_behind(void)
{
	return sysfs("zeroed_background_bytes");
}

/* an owner that writes @nr slots and exits */
static HKR_UNUSED int leave_dirty(int nr)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct arena a;
		int i;

		if (arena_open(&a, nr) || handout_at(&a, 0, nr, COMMIT))
			_exit(1);
		for (i = 0; i < nr; i++)
			slot_of(&a, i)[i * 64] = 1;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/* the thread that zeroes for @node, or -1 */
static HKR_UNUSED pid_t zero_thread(int node)
{
	char want[32], name[32];
	pid_t pid = -1;
	glob_t procs;
	size_t i;
	FILE *f;

	snprintf(want, sizeof(want), "hakmem_zero/%d\n", node);
	if (glob("/proc/[0-9]*/comm", GLOB_NOSORT, NULL, &procs))
		return -1;
	for (i = 0; i < procs.gl_pathc && pid < 0; i++) {
		f = fopen(procs.gl_pathv[i], "re");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && !strcmp(name, want))
			pid = atoi(procs.gl_pathv[i] + strlen("/proc/"));
		fclose(f);
	}
	globfree(&procs);
	return pid;
}

#endif /* HKR_ZEROING_H */
