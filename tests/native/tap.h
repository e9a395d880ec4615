/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TAP_H
#define TAP_H

/*
 * Each case runs in a process of its own, so it may set the environment before
 * the library reads it, abort, or leave the library in any state. A failed
 * check ends the case; what it says is a TAP comment.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CASE_SECONDS
#define CASE_SECONDS 50
#endif

struct tap_case {
	const char *name;
	void (*fn)(void);
};

#define check(cond) do {						\
	if (!(cond)) {							\
		printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond);	\
		fflush(stdout);						\
		_exit(1);						\
	}								\
} while (0)

#define check_int(a, b) do {						\
	long long a_ = (long long)(a), b_ = (long long)(b);		\
									\
	if (a_ != b_) {							\
		printf("# %s:%d: %s is %lld, not %lld\n", __FILE__,	\
		       __LINE__, #a, a_, b_);				\
		fflush(stdout);						\
		_exit(1);						\
	}								\
} while (0)

/*
 * Status of waitpid() of a child that runs @fn, with stderr in @text. Where
 * other threads run, @fn ends in _exit(0): the leak check of AddressSanitizer
 * at exit() waits for locks that they held.
 */
static inline int run_child(void (*fn)(void), char *text, size_t room)
{
	int fd = memfd_create("stderr", 0), status;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fd, 2);
		alarm(CASE_SECONDS);
		fn();
		exit(0);
	}
	waitpid(pid, &status, 0);
	n = pread(fd, text, room - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
	return status;
}

static inline bool exited_well(int status)
{
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return true;
	printf("# wait status %#x\n", status);
	return false;
}

static inline int count_lines(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* pages of [p, p + size) that are in memory */
static inline size_t resident_pages(void *p, size_t size)
{
	size_t pages = size / 4096, n = 0;
	unsigned char *vec = malloc(pages);

	if (mincore(p, size, vec))
		n = SIZE_MAX;
	for (size_t i = 0; n != SIZE_MAX && i < pages; i++)
		n += vec[i] & 1;
	free(vec);
	return n;
}

/* does the kernel say this of the mapping at @p? As in VmFlags of smaps: "hg" */
static inline bool has_vm_flag(const void *p, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	uintptr_t start, end;
	bool here = false, has = false;
	char line[512];

	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = (uintptr_t)p >= start && (uintptr_t)p < end;
		if (here && !strncmp(line, "VmFlags:", 8))
			has = strstr(line, flag);
	}
	fclose(f);
	return has;
}

static inline bool all_bytes(const void *p, size_t size, int value)
{
	const unsigned char *c = p;

	return c[0] == value && !memcmp(c, c + 1, size - 1);
}

static inline unsigned int next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(*state >> 33);
}

/* arguments: none for all cases, or the name of one */
static inline int tap_main(const struct tap_case *cases, int nr, int argc,
			   char **argv)
{
	static char text[65536];
	int failed = 0;

	if (argc < 2)
		printf("1..%d\n", nr);
	for (int i = 0; i < nr; i++) {
		bool passed;
		int status;

		if (argc > 1 && strcmp(argv[1], cases[i].name))
			continue;
		status = run_child(cases[i].fn, text, sizeof(text));
		passed = exited_well(status);
		if (!passed) {
			char *save = NULL;

			failed++;
			printf("# stderr:\n");
			for (char *l = strtok_r(text, "\n", &save); l;
			     l = strtok_r(NULL, "\n", &save))
				printf("#   %s\n", l);
		}
		printf("%sok %d - %s\n", passed ? "" : "not ",
		       i + 1, cases[i].name);
	}
	return !!failed;
}

#define CASE(fn) { #fn, fn }
#define TAP_MAIN(cases)							\
	int main(int argc, char **argv)					\
	{								\
		return tap_main(cases, sizeof(cases) / sizeof(*(cases)), \
				argc, argv);				\
	}

#endif /* TAP_H */
