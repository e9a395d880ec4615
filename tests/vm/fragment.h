/* SPDX-License-Identifier: GPL-2.0 */
#ifndef FRAGMENT_H
#define FRAGMENT_H

/*
 * Memory that is free but scattered, as the benchmark makes it, and what it
 * means for the device.
 */
#include "hkr_test.h"
#include "../../tools/hkbench/scatter.h"

/* free blocks of 2 MiB, by the buddy allocator */
static HKR_UNUSED long free_blocks(void)
{
	char line[512], *p;
	FILE *f = fopen("/proc/buddyinfo", "re");
	long order[12], blocks = 0;
	int n;

	while (f && fgets(line, sizeof(line), f)) {
		p = strstr(line, "zone");
		if (!p)
			continue;
		p += strcspn(p, " ");
		p += strspn(p, " ");
		p += strcspn(p, " ");
		for (n = 0; n < 12; n++) {
			char *end;

			order[n] = strtol(p, &end, 10);
			if (end == p)
				break;
			p = end;
		}
		if (n > 9)
			blocks += order[9];
		if (n > 10)
			blocks += 2 * order[10];
	}
	if (f)
		fclose(f);
	return blocks;
}

static inline bool compact(void)
{
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
	bool good = write(fd, "1", 1) == 1;

	close(fd);
	return good;
}

/* what heal() does, for pipes that another process has open as well */
static HKR_UNUSED void drain(const struct scattered *s)
{
	char page[PAGE];
	unsigned int i;

	for (i = 0; i < s->nr_pipes; i++) {
		fcntl(s->pipe[i][0], F_SETFL, O_NONBLOCK);
		while (read(s->pipe[i][0], page, PAGE) > 0)
			;
	}
}

/*
 * Pages that were freed one by one lie in a list of their CPU for a while, and are
 * missing in their blocks. So many others, freed after them, push them out.
 */
static HKR_UNUSED bool stir(size_t len)
{
	size_t i;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || madvise(p, len, MADV_NOHUGEPAGE))
		return false;
	for (i = 0; i < len; i += PAGE)
		p[i] = 1;
	return !munmap(p, len);
}

/*
 * What blocks there are, what compaction can make, and what folios the pool has:
 * whoever asks for slots beside @hog gets single pages.
 *
 * The slot that got single pages here has the module's thread compact, too, and a
 * compaction holds free blocks in its hands: that there was none at one moment says
 * little. None twice in a row, after a whole compaction each time, does.
 */
static HKR_UNUSED bool hog_blocks(struct arena *hog, long nr_slots, long *hogged)
{
	unsigned int dry = 0;
	long before, i = 0;

	while (dry < 2 && compact()) {
		before = i;
		while (i < nr_slots && !handout_at(hog, i, 1, COMMIT) &&
		       !stats_of(hog).singles)
			i++;
		if (i == nr_slots || recycle(hog, DROP, i, 1))
			return false;
		dry = i == before ? dry + 1 : 0;
	}
	*hogged = i;
	return dry == 2;
}

#endif /* FRAGMENT_H */
