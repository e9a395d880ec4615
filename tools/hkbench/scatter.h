/* SPDX-License-Identifier: MIT */
#ifndef SCATTER_H
#define SCATTER_H

/*
 * Memory that is free but scattered: one pinned page in each block of 2 MiB.
 *
 * Nearly all memory is taken as single pages, one of each block goes into a
 * pipe, and the rest is given back; again, until there are no new blocks among
 * it. A page in a pipe cannot be moved, so no compaction makes a block of it.
 * heal() empties the pipes. For a machine that does not matter, and for root.
 */

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define SCATTER_PAGE	4096UL
#define SCATTER_PIPES	64U
#define PIPE_BYTES	(1UL << 20)
#define PIPE_PAGES	(PIPE_BYTES / SCATTER_PAGE)
#define MAX_BLOCKS	4096U		/* of 2 MiB: 8 GiB */

struct scattered {
	int pipe[SCATTER_PIPES][2];
	unsigned int nr_pipes;
	unsigned int nr_pinned;
	uint8_t seen[MAX_BLOCKS];
};

/* a line of /proc/meminfo; -1 where there is none */
static inline long meminfo_kb(const char *name)
{
	size_t n = strlen(name);
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && kb < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, n) && line[n] == ':')
			sscanf(line + n + 1, "%ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/* pins the page at @p; false when there is no more room for it */
static inline bool pin_page(struct scattered *s, void *p)
{
	struct iovec iov = { p, SCATTER_PAGE };

	if (s->nr_pinned == s->nr_pipes * PIPE_PAGES) {
		int *fd = s->pipe[s->nr_pipes];

		if (s->nr_pipes == SCATTER_PIPES || pipe2(fd, O_CLOEXEC) ||
		    fcntl(fd[1], F_SETPIPE_SZ, PIPE_BYTES) < (int)PIPE_BYTES)
			return false;
		s->nr_pipes++;
	}
	if (vmsplice(s->pipe[s->nr_pipes - 1][1], &iov, 1, 0) !=
	    (ssize_t)SCATTER_PAGE)
		return false;
	s->nr_pinned++;
	return true;
}

static inline void heal(struct scattered *s)
{
	while (s->nr_pipes) {
		s->nr_pipes--;
		close(s->pipe[s->nr_pipes][0]);
		close(s->pipe[s->nr_pipes][1]);
	}
	s->nr_pinned = 0;
	memset(s->seen, 0, sizeof(s->seen));
}

static inline bool pin_one_of_each_block(struct scattered *s, char *p,
					 size_t len)
{
	uint64_t entry[SCATTER_PAGE / 8];
	size_t i, n = len / SCATTER_PAGE;
	bool good = true;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	for (i = 0; i < n && good; i++) {
		uint64_t block, at = (uintptr_t)p / SCATTER_PAGE + i;

		if (i % (SCATTER_PAGE / 8) == 0 &&
		    pread(fd, entry, SCATTER_PAGE, (off_t)(at * 8)) < 8)
			good = false;
		block = (entry[i % (SCATTER_PAGE / 8)] &
			 ((1ULL << 55) - 1)) >> 9;
		if (block >= MAX_BLOCKS || s->seen[block])
			continue;
		s->seen[block] = 1;
		good = good && pin_page(s, p + i * SCATTER_PAGE);
	}
	close(fd);
	return good;
}

static inline bool fragment_round(struct scattered *s, long leave_kb)
{
	size_t len = (size_t)(meminfo_kb("MemAvailable") - leave_kb) * 1024 &
		     ~(SCATTER_PAGE * 512 - 1);
	size_t i;
	bool good;
	char *p;

	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		 -1, 0);
	if (p == MAP_FAILED || madvise(p, len, MADV_NOHUGEPAGE))
		return false;
	for (i = 0; i < len; i += SCATTER_PAGE)
		p[i] = 1;
	good = pin_one_of_each_block(s, p, len);
	munmap(p, len);
	return good;
}

/* all but @leave_kb of what is available; false: nothing was changed */
static inline bool fragment(struct scattered *s, long leave_kb)
{
	unsigned int before;

	memset(s, 0, sizeof(*s));
	if (meminfo_kb("MemAvailable") < 2 * leave_kb)
		return false;
	do {
		before = s->nr_pinned;
		if (!fragment_round(s, leave_kb)) {
			heal(s);
			return false;
		}
	} while (s->nr_pinned > before + 2);
	return true;
}

#endif /* SCATTER_H */
