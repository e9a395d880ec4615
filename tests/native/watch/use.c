// SPDX-License-Identifier: GPL-2.0
/*
 * A small program to be watched: by a debugger at the probes, and by a memory
 * checker. With -DPRELOAD it has never heard of the library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S ((size_t)2 << 20)

#ifdef PRELOAD
#define hkm_malloc malloc
#define hkm_calloc calloc
#define hkm_realloc realloc
#define hkm_free free
#else
#include <hakmem.h>
#endif

static int has_value(const char *p, size_t size, char value)
{
	for (size_t i = 0; i < size; i += 4096)
		if (p[i] != value)
			return 0;
	return 1;
}

/* every way in which memory of a whale becomes that of another */
static int clean(void)
{
	char *p[4], *q;

	q = hkm_calloc(2, S);			/* new */
	if (!q || !has_value(q, 2 * S, 0))
		return 1;
	hkm_free(q);
	for (int i = 0; i < 4; i++)
		memset(p[i] = hkm_malloc(2 * S), i, 2 * S);
	for (int i = 0; i < 3; i++)
		hkm_free(p[i]);
	q = hkm_calloc(4, S);			/* joined and cut */
	if (!q || !has_value(q, 4 * S, 0))
		return 1;
	memset(q, 7, 4 * S);
	q = hkm_realloc(q, 12 * S);		/* elsewhere */
	if (!q || !has_value(q, 4 * S, 7))
		return 1;
	memset(q, 8, 12 * S);
	q = hkm_realloc(q, S);
	q = hkm_realloc(q, 5 * S);		/* in place */
	if (!q || !has_value(q, S, 8))
		return 1;
	memset(q, 9, 5 * S);
	hkm_free(q);
#ifndef PRELOAD
	hkm_release_all();
#endif
	q = hkm_malloc(9 * S);
	memset(q, 1, 9 * S);
	hkm_free(q);
	hkm_free(p[3]);
	return 0;
}

static int read_after_free(void)
{
	volatile char *p = hkm_malloc(3 * S);

	p[S] = 1;
	hkm_free((char *)p);
	return p[S] == 2;
}

static int read_after_realloc(void)
{
	volatile char *p = hkm_malloc(3 * S);

	p[2 * S] = 1;
	p = hkm_realloc((char *)p, S);
	return p[2 * S] == 2;
}

/* what the last owner wrote is nothing that the next one may go by */
static int read_undefined(void)
{
	volatile char *p = hkm_malloc(S);

	p[5] = 1;
	hkm_free((char *)p);
	p = hkm_malloc(S);
	return p[5] ? 0 : 2;
}

static int leak(void)
{
	for (int i = 0; i < 4; i++)	/* the last one may be in a register */
		memset(hkm_malloc(S), 1, S);
	return 0;
}

#ifndef PRELOAD
static void keep(void *ptr, size_t size, void *arg)
{
	(void)ptr;
	(void)size;
	(void)arg;
}

/* each line is what a probe must say, in this order */
static int events(void)
{
	static char blocks[2][2 << 20];
	struct hkm_whale_config ring = { .slots = 1, .release = keep };
	char *p, *q;

	p = hkm_malloc(2 * S);
	printf("miss %zu\n", 2 * S);
	hkm_free(p);
	q = hkm_malloc(2 * S);
	printf("hit %p %zu\n", (void *)q, 2 * S);
	p = hkm_malloc(3 * S);
	printf("miss %zu\n", 3 * S);
	hkm_free(q);
	hkm_free(p);		/* of two runs one may be kept */
	printf("evict %p %zu\n", (void *)q, 2 * S);
	hkm_release_all();
	printf("trim %p %zu\n", (void *)p, 3 * S);

	hkm_whale_init(&ring);
	printf("ring_miss %zu\n", hkm_whale_get(S) ? 0 : S);
	hkm_whale_put(blocks[0], S);
	hkm_whale_put(blocks[1], S);
	printf("ring_evict %p %zu\n", (void *)blocks[0], S);
	printf("ring_hit %p %zu\n", hkm_whale_get(S), S);
	return 0;
}
#endif

static const struct {
	const char *name;
	int (*fn)(void);
} cases[] = {
	{ "clean", clean },
	{ "read_after_free", read_after_free },
	{ "read_after_realloc", read_after_realloc },
	{ "read_undefined", read_undefined },
	{ "leak", leak },
#ifndef PRELOAD
	{ "events", events },
#endif
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (argc > 1 && !strcmp(cases[i].name, argv[1]))
			return cases[i].fn();
	return 3;
}
