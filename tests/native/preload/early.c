// SPDX-License-Identifier: GPL-2.0
/*
 * A library whose IFUNC resolver allocates: that is while objects loaded before
 * this one, the preloaded one among them, are not relocated yet. And one whose
 * handlers of fork() allocate, installed before those of the preloaded object.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

char *early_block;
static char *block;

static int one(void)
{
	return 1;
}

static int (*resolve(void))(void)
{
	char *p = malloc(3);

	p = realloc(p, 50);
	p[0] = 'e', p[1] = 'a', p[2] = 'r', p[3] = 'l', p[4] = 'y', p[5] = 0;
	free(calloc(3, 7));
	block = realloc(p, 100);
	return one;
}

int early_number(void) __attribute__((ifunc("resolve")));

static void allocate(void)
{
	size_t mib = (size_t)1 << 20;
	char *p = malloc(4 * mib), *q = malloc(64 * mib);

	if (!p || !q)
		abort();
	p[4 * mib - 1] = q[64 * mib - 1] = 1;
	free(p);
	free(q);
}

__attribute__((constructor)) static void start(void)
{
	pthread_atfork(allocate, allocate, allocate);
	if (early_number() == 1)
		early_block = block;
}
