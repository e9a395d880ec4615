// SPDX-License-Identifier: GPL-2.0
/*
 * An ordinary program for tests/native/preloaded, which knows nothing of the
 * library. The first argument is what to do; it says what went wrong.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../sandbox.h"

#define MIB ((size_t)1 << 20)

#define check(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
		_exit(1);						\
	}								\
} while (0)

static int is_whale(const void *p)
{
	return p && !((uintptr_t)p % (2 * MIB));
}

static void family(void)
{
	char *p = malloc(5 * MIB), *q;
	volatile size_t odd = 24;
	void *v;

	check(is_whale(p));
	check(malloc_usable_size(p) == 5 * MIB);	/* half a slot is offered */
	memset(p, 1, 5 * MIB);
	errno = 4321;
	free(p);
	check(errno == 4321);
	q = calloc(5, MIB);
	check(q == p);
	for (size_t i = 0; i < 5 * MIB; i++)
		check(!q[i]);
	strcpy(q, "contents");
	q = realloc(q, 30 * MIB);
	check(is_whale(q) && !strcmp(q, "contents"));
	q = reallocarray(q, 100, 10);
	check(!is_whale(q) && !strcmp(q, "contents"));
	q = realloc(q, 3 * MIB);
	check(is_whale(q) && !strcmp(q, "contents"));
	free(q);
	check(!posix_memalign(&v, 4096, 3 * MIB) && is_whale(v));
	free(v);
	v = memalign(64, 3 * MIB);
	check(is_whale(v));
	free(v);
	v = aligned_alloc(2 * MIB, 4 * MIB);
	check(is_whale(v));
	free(v);
	for (size_t size = 1; size < 8 * MIB; size *= 4 * MIB) {
		errno = 0;
		check(!aligned_alloc(odd, size) && errno == EINVAL);
	}
	v = valloc(4 * MIB);
	check(is_whale(v));
	check(mallinfo2().hblks >= 1);
	free(v);
	v = pvalloc(4 * MIB - 1);
	check(is_whale(v));
	free(v);
	check(malloc_trim(0) == 1);
	free(NULL);
	check(!malloc((size_t)-100));
}

/* C23's, which this libc may not have: by name, as who was built with another would */
static void sized(void)
{
	void (*free_sized)(void *ptr, size_t size);
	void (*free_aligned_sized)(void *ptr, size_t align, size_t size);
	size_t mapped;
	char *p, *q;

	*(void **)&free_sized = dlsym(RTLD_DEFAULT, "free_sized");
	*(void **)&free_aligned_sized = dlsym(RTLD_DEFAULT,
					      "free_aligned_sized");
	check(free_sized && free_aligned_sized);
	p = malloc(5 * MIB);
	q = aligned_alloc(2 * MIB, 4 * MIB);
	errno = 4321;
	free_sized(p, 5 * MIB);
	free_aligned_sized(q, 2 * MIB, 4 * MIB);
	check(mallinfo2().fordblks >= 9 * MIB);
	check(malloc(5 * MIB) == p);
	check(aligned_alloc(2 * MIB, 4 * MIB) == q);
	/* libc's blocks, of a size that it maps */
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	mapped = mallinfo2().hblks;
	p = malloc(MIB);
	q = aligned_alloc(64, MIB);
	check(mallinfo2().hblks == mapped + 2);
	free_sized(p, MIB);
	check(mallinfo2().hblks == mapped + 1);
	free_aligned_sized(q, 64, MIB);
	check(mallinfo2().hblks == mapped);
	free_sized(NULL, 0);
	free_aligned_sized(NULL, 64, 0);
	check(errno == 4321);
}

static void stats(void)
{
	check(is_whale(malloc(6 * MIB)));
	free(malloc(2 * MIB));
	malloc_stats();
}

/* what is idle at the top of libc's heap goes back by nothing but malloc_trim() */
static void trim(void)
{
	char *block[8], *top;
	int i;

	mallopt(M_MMAP_THRESHOLD, 32 * MIB);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	for (i = 0; i < 8; i++)
		block[i] = malloc(MIB);
	top = sbrk(0);
	check(block[7] < top);
	for (i = 0; i < 8; i++)
		free(block[i]);
	check(sbrk(0) == top);
	/* all but what is to be kept, then that too; no whale helps */
	check(malloc_trim(4 * MIB) == 1);
	check((char *)sbrk(0) <= top - 3 * MIB);
	check((char *)sbrk(0) > top - 5 * MIB);
	check(malloc_trim(0) == 1);
	check((char *)sbrk(0) <= top - 7 * MIB);
	check(malloc_trim(0) == 0);
}

/* enough for a threshold to be found out */
static void rates(void)
{
	for (int i = 0; i < 9300; i++) {
		char *p = malloc(MIB);

		check(p);
		p[i % MIB] = 1;
		free(p);
	}
}

static void *use_and_die(void *arg)
{
	char **box = arg;

	free(box[0]);
	box[0] = malloc(4 * MIB);
	memset(box[0], 7, 4 * MIB);
	free(malloc(8 * MIB));
	return NULL;
}

static void threads(void)
{
	char *box[1] = { malloc(2 * MIB) };

	for (int i = 0; i < 200; i++) {
		pthread_t t;

		check(!pthread_create(&t, NULL, use_and_die, box));
		check(!pthread_join(t, NULL));
		check(box[0][4 * MIB - 1] == 7);
	}
	free(box[0]);
}

static void *churn(void *arg)
{
	for (int i = 0; i < 100000; i++)
		free(malloc(4 * MIB));
	return arg;
}

/* what its parent had, a child reads and writes, and it has a heap itself */
static void forks(void)
{
	unsigned char *p = malloc(8 * MIB), *q;
	pthread_t t;
	int status;

	memset(p, 3, 8 * MIB);
	check(!pthread_create(&t, NULL, churn, NULL));
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (!pid) {
			alarm(20);
			check(p[0] == 3 && p[8 * MIB - 1] == 3);
			memset(p, 4, 8 * MIB);
			/* one whatever threshold is tried out just then */
			q = malloc(32 * MIB);
			check(is_whale(q) && q != p);
			memset(q, 5, 8 * MIB);
			check(p[4 * MIB] == 4);
			free(q);
			free(p);
			_exit(0);
		}
		check(waitpid(pid, &status, 0) == pid && !status);
		check(p[0] == 3 && p[8 * MIB - 1] == 3);
	}
	pthread_join(t, NULL);
	check(!system("exit 0"));
}

static void use_late(void)
{
	char *p = malloc(4 * MIB);

	check(is_whale(p));
	memset(p, 1, 4 * MIB);
	free(p);
}

static void exits(void)
{
	atexit(use_late);
}

/* a program whose thread-local data is more than a small stack has room for */
#ifdef THREAD_LOCAL
static __thread char thread_local[THREAD_LOCAL];
#endif

/* HAKMEM_TRIM=thread: what is idle goes by itself */
static void trims(void)
{
	char *p = malloc(4 * MIB);
	unsigned char resident = 1;

#ifdef THREAD_LOCAL
	memset(thread_local, 1, sizeof(thread_local));
#endif
	check(is_whale(p));
	memset(p, 1, 4 * MIB);
	free(p);
	for (int i = 0; i < 2000 && resident & 1; i++) {
		usleep(10000);
		check(!mincore(p, 1, &resident));
	}
	check(!(resident & 1));
}

static void double_free(void)
{
	char *p = malloc(4 * MIB);

	fprintf(stderr, "%p\n", (void *)p);
	free(p);
	free(p);
}

static void inner_free(void)
{
	char *p = malloc(4 * MIB);

	fprintf(stderr, "%p\n", (void *)(p + 4096));
	free(p + 4096);
}

/* for the allocator of a sanitizer, which has something to say to that */
static void use_after_free(void)
{
	volatile char *p = malloc(5 * MIB);

	free((void *)p);
	p[3 * MIB] = 1;
}

static void no_whales(void)
{
	char *p = malloc(5 * MIB);

	check(p && !is_whale(p));
	p = realloc(p, 9 * MIB);
	check(p && !is_whale(p));
	free(p);
	free(reallocarray(NULL, 3, MIB));
}

/* of whole slots, but in an idle run of more it may begin with another line of a page */
static int is_whale_again(const void *p)
{
	return p && !((uintptr_t)p % (2 * MIB) & ~(uintptr_t)0xfc0);
}

static unsigned char *filled(unsigned char *p, size_t size)
{
	check(is_whale_again(p) && malloc_usable_size(p) >= size);
	memset(p, (int)(size / MIB), size);
	return p;
}

/* forbids itself all but the calls for memory, and only then has its first whale */
static void sandboxed(void)
{
	unsigned char *p[4], *q = NULL;

	check(!allow_memory_only(SECCOMP_RET_KILL_PROCESS));
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < 4; i++)
			p[i] = filled(malloc((2 + 6 * i) * MIB), (2 + 6 * i) * MIB);
		free(p[2]);
		p[2] = calloc(16, MIB);
		check(is_whale_again(p[2]) && !p[2][0] && !p[2][16 * MIB - 1]);
		p[1] = realloc(p[1], 40 * MIB);
		check(is_whale_again(p[1]) && p[1][0] == 8 && p[1][8 * MIB - 1] == 8);
		p[3] = realloc(p[3], 3 * MIB);
		check(p[3][0] == 20 && p[3][3 * MIB - 1] == 20);
		q = realloc(q, (4 + 2 * (size_t)round) * MIB);
		check(is_whale_again(q));
		for (size_t i = 0; i < 4; i++)
			free(p[i]);
	}
	free(q);
}

/* libraries with an allocation before everything, see early.c */
#ifdef EARLY
static void early(void)
{
	extern char *early_block;
	char *p = early_block;

	check(p && !strcmp(p, "early"));
	check(malloc_usable_size(p) >= 100);
	p = realloc(p, 5 * MIB);
	check(is_whale(p) && !strcmp(p, "early"));
	free(p);
	p = malloc(100);
	free(p);
}
#endif

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
	{ "family", family },
	{ "sized", sized },
	{ "stats", stats },
	{ "trim", trim },
	{ "rates", rates },
	{ "threads", threads },
	{ "forks", forks },
	{ "exits", exits },
	{ "trims", trims },
	{ "sandboxed", sandboxed },
	{ "double_free", double_free },
	{ "inner_free", inner_free },
	{ "use_after_free", use_after_free },
	{ "no_whales", no_whales },
#ifdef EARLY
	{ "early", early },
#endif
};

int main(int argc, char **argv)
{
	alarm(100);
	for (size_t i = 0; argc > 1 && i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(argv[1], cases[i].name))
			continue;
		cases[i].fn();
		return 0;
	}
	return 2;
}
