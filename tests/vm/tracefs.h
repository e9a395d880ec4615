/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_TRACEFS_H
#define HKR_TRACEFS_H

/*
 * The module's trace events, as tracefs shows them. One line is one event:
 *	<task> ... hkr_reclaim: arena=5 owner=77 comm=x slot=3 ...
 */

#include "hkr_test.h"
#include <stdarg.h>

#define TRACEFS	"/sys/kernel/tracing/"
#define EVENTS	TRACEFS "events/hakmem_region/"

static inline int trace_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (*value && write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* @event: or NULL for all */
static HKR_UNUSED int trace_enable(const char *event, bool on)
{
	char path[128];

	snprintf(path, sizeof(path), EVENTS "%s%senable", event ?: "",
		 event ? "/" : "");
	return trace_write(path, on ? "1" : "0");
}

static HKR_UNUSED int trace_clear(void)
{
	return trace_write(TRACEFS "trace", "");
}

/*
 * How many events there are of a name (NULL: of ours) that say this; @last: out,
 * what the last of them says, or NULL.
 */
static inline int trace_lines(const char *event, const char *needle,
			      char *last, size_t room)
{
	FILE *f = fopen(TRACEFS "trace", "re");
	char line[512], name[64];
	int nr = 0;

	if (!f)
		return -errno;
	snprintf(name, sizeof(name), " %s%s", event ?: "hkr_",
		 event ? ": " : "");
	while (fgets(line, sizeof(line), f)) {
		char *text = strstr(line, name);

		if (*line == '#' || !text || !strstr(text, needle))
			continue;
		nr++;
		if (last)
			snprintf(last, room, "%s", text);
	}
	fclose(f);
	return nr;
}

__attribute__((format(printf, 2, 3)))
static HKR_UNUSED int trace_count(const char *event, const char *fmt, ...)
{
	char needle[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(needle, sizeof(needle), fmt, ap);
	va_end(ap);
	return trace_lines(event, needle, NULL, 0);
}

/* a number that the last such event carries, after " key="; or -1 */
static HKR_UNUSED long trace_number(const char *event, const char *needle,
				    const char *key)
{
	char line[512], word[32], *at;

	snprintf(word, sizeof(word), " %s=", key);
	if (trace_lines(event, needle, line, sizeof(line)) < 1)
		return -1;
	at = strstr(line, word);
	return at ? strtol(at + strlen(word), NULL, 0) : -1;
}

#endif /* HKR_TRACEFS_H */
