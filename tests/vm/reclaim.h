/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_RECLAIM_H
#define HKR_RECLAIM_H

/*
 * What the kernel takes back, and what it says it could: the debugfs trigger,
 * the module's own trace of what was taken, the kernel's counters, and a
 * process in need of memory.
 */

#include "hkr_test.h"
#include <sys/syscall.h>

#define TRIGGER	"/sys/kernel/debug/hakmem_region/shrink"
#define TRACING	"/sys/kernel/tracing/"
#define ANY	(-1)	/* a node */

struct shrunk {
	unsigned long count, asked, looked, freed, left;
};

/* run reclaim for so many slots; 0 or -1 */
static HKR_UNUSED int shrink_node(unsigned long want, int node,
				  struct shrunk *out)
{
	char buf[128] = "";
	int fd = open(TRIGGER, O_RDWR | O_CLOEXEC);
	int len, ret = -1;

	if (fd < 0)
		return -1;
	len = snprintf(buf, sizeof(buf), "%lu", want);
	if (node != ANY)
		len += snprintf(buf + len, sizeof(buf) - len, " %d", node);
	if (write(fd, buf, len) == len &&
	    pread(fd, buf, sizeof(buf) - 1, 0) > 0 &&
	    sscanf(buf, "count %lu asked %lu looked %lu freed %lu left %lu",
		   &out->count, &out->asked, &out->looked, &out->freed,
		   &out->left) == 5)
		ret = 0;
	close(fd);
	return ret;
}

static HKR_UNUSED int shrink(unsigned long want, struct shrunk *out)
{
	return shrink_node(want, ANY, out);
}

/* the same; how many it freed, or -1 */
static HKR_UNUSED long freed_by(unsigned long want)
{
	struct shrunk s;

	return shrink(want, &s) ? -1 : (long)s.freed;
}

/*
 * The pool may hold spare folios, which go first; and the zeroing thread may
 * have one in hand, which is in no list but live.
 */
static HKR_UNUSED void drain_pool(int nr_nodes)
{
	struct shrunk s;
	int node, freed;

	while (sysfs("live_folios") > sysfs("resident")) {
		for (node = freed = 0; node < nr_nodes; node++)
			if (!shrink_node(sysfs("pool_depth"), node, &s))
				freed += s.freed;
		if (!freed)
			usleep(10000);
	}
}

/* until the kernel's own sample has seen so many idle */
static HKR_UNUSED bool sampled(long idle)
{
	return sysfs_becomes("idle", idle);
}

/* the same of one arena's slots; those that the machine has taken already count too */
static HKR_UNUSED bool sampled_or_reclaimed(struct arena *a, long nr)
{
	int i;

	for (i = 0; i < 2000; i++) {
		if (sysfs("idle") + (long)stats_of(a).reclaimed >= nr)
			return true;
		usleep(10000);
	}
	return false;
}

/* what is reclaimed is counted a little later than its word says so */
static HKR_UNUSED bool reclaimed_becomes(struct arena *a, uint64_t nr)
{
	int i;

	for (i = 0; i < 2000; i++) {
		if (stats_of(a).reclaimed == nr)
			return true;
		usleep(10000);
	}
	return false;
}

/* Is a slot that was idle in use again? Else the machine was faster: it is EMPTY. */
static HKR_UNUSED bool gets_again(struct arena *a, uint64_t idx)
{
	uint64_t seen = word_of(a, idx);

	while (HKR_WORD_STATE(seen) != HKR_WORD_EMPTY) {
		if (HKR_WORD_STATE(seen) == HKR_WORD_IDLE &&
		    take_again(a, idx, seen))
			return true;
		/* on its way, or pinned and on its way back */
		usleep(1000);
		seen = word_of(a, idx);
	}
	return false;
}

/* the number behind a key, as in /proc/meminfo, vmstat or self/status */
static HKR_UNUSED long proc_value(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	size_t n = strlen(key);
	char line[256];
	long value = -1;

	while (f && value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, n) && strchr(": \t", line[n]))
			value = strtol(line + n + 1, NULL, 10);
	if (f)
		fclose(f);
	return value;
}

static HKR_UNUSED long mem_available_kb(void)
{
	return proc_value("/proc/meminfo", "MemAvailable");
}

/* slots that MemAvailable counts as kernel memory that may be reclaimed */
static HKR_UNUSED long reported(void)
{
	return proc_value("/proc/vmstat", "nr_kernel_misc_reclaimable") /
	       (long)(SLOT / PAGE);
}

static HKR_UNUSED bool reported_becomes(long slots)
{
	int i;

	for (i = 0; i < 2000 && reported() != slots; i++)
		usleep(10000);
	return i < 2000;
}

/* by the kernel's clock, where there is nothing to be seen that could be waited for */
static HKR_UNUSED void wait_epochs(long nr)
{
	long start = sysfs("epoch");

	while (sysfs("epoch") < start + nr)
		usleep(10000);
}

/* in a child: touch so many bytes of private memory */
static HKR_UNUSED int need(void *arg)
{
	size_t len = (size_t)arg, i;
	volatile char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 1;
	for (i = 0; i < len; i += PAGE)
		p[i] = 1;
	return 0;
}

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* one event, "system/name", into an empty buffer; @filter may be "0" */
static HKR_UNUSED int trace_on(const char *event, const char *filter)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), TRACING "events/%s/filter", event);
	ret = write_file(path, filter) ?: write_file(TRACING "trace", "");
	snprintf(path, sizeof(path), TRACING "events/%s/enable", event);
	return ret ?: write_file(path, "1");
}

/* from here on, without a patch of the kernel's text as trace_on() is one */
static HKR_UNUSED int trace_anew(void)
{
	return write_file(TRACING "trace", "");
}

static HKR_UNUSED void trace_off(const char *event)
{
	char path[128];

	snprintf(path, sizeof(path), TRACING "events/%s/enable", event);
	write_file(path, "0");
}

/* each line of the trace that has both strings; how many there were */
static HKR_UNUSED int trace_each(const char *one, const char *two,
				 void (*fn)(const char *line, void *arg),
				 void *arg)
{
	FILE *f = fopen(TRACING "trace", "re");
	char line[512];
	int n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (*line == '#' || !strstr(line, one) || !strstr(line, two))
			continue;
		if (fn)
			fn(line, arg);
		n++;
	}
	if (f)
		fclose(f);
	return n;
}

#endif /* HKR_RECLAIM_H */
