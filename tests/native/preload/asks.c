// SPDX-License-Identifier: GPL-2.0
/*
 * To be in front of the preload object: a dlsym() that allocates each time, as those of tools do,
 * and libc's where it has to say that there is no such symbol. The preload object asks it for
 * the next malloc(), so the first block is wanted while there is none.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

char *early_block;

static void need(int holds)
{
	if (!holds)
		abort();
}

static void allocate(void)
{
	char *p = malloc(3), *q = calloc(10, 10);
	void *v;

	need(p && q && !q[0] && !q[99]);
	strcpy(p, "ea");
	p = realloc(p, 1000);
	need(p && !strcmp(p, "ea"));
	p = reallocarray(p, 50, 2);
	need(p && !strcmp(strcat(p, "rly"), "early"));
	need(!posix_memalign(&v, 256, 300) && !((uintptr_t)v % 256));
	need(malloc_usable_size(v) >= 300);
	free(q);
	free(v);
	if (early_block)
		free(p);
	else
		early_block = p;
}

/* A jump at the end: where RTLD_NEXT begins depends on who calls. */
void *dlsym(void *restrict handle, const char *restrict name)
{
	static void *(*next)(void *handle, const char *name);

	if (!next)
		*(void **)&next = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	allocate();
	return next(handle, name);
}
