// SPDX-License-Identifier: GPL-2.0
/*
 * An ordinary program with another allocator preloaded behind the library. The first
 * argument says which: each knows of an address if it is one of its blocks. With a
 * second one the program has it linked in, so all blocks are its own.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

#define check(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
		_exit(1);						\
	}								\
} while (0)

/* ---- whose is it? ------------------------------------------------------------- */

static void *ask;	/* the allocator's own function */

/* it believes that the address is its own: with another's it crashes, which is told too */
static int is_jemallocs(void *p)
{
	int (*mallctl)(const char *name, void *old, size_t *old_size, void *new,
		       size_t new_size);
	unsigned int arena;
	size_t size = sizeof(arena);

	*(void **)&mallctl = ask;
	return !mallctl("arenas.lookup", &arena, &size, &p, sizeof(p));
}

static int is_mimallocs(void *p)
{
	_Bool (*mi_is_in_heap_region)(const void *p);

	*(void **)&mi_is_in_heap_region = ask;
	return mi_is_in_heap_region(p);
}

static int is_tcmallocs(void *p)
{
	int (*ownership)(const void *p);

	*(void **)&ownership = ask;
	return ownership(p) == 1;	/* kOwned; 2 is kNotOwned */
}

static const struct {
	const char *name, *function;
	int (*is_its)(void *p);
} allocators[] = {
	{ "jemalloc", "mallctl", is_jemallocs },
	{ "mimalloc", "mi_is_in_heap_region", is_mimallocs },
	{ "tcmalloc", "MallocExtension_GetOwnership", is_tcmallocs },
};

static int (*is_its)(void *p);

static int is_small(void *p)
{
	return p && is_its(p);
}

/*
 * Whales are what mallinfo2() has of mapped blocks: of these allocators none has that
 * function, so the rest is libc's, which maps nothing here.
 */
static size_t nr_whales(void)
{
	return mallinfo2().hblks;
}

/* ---- the family ------------------------------------------------------------------ */

static void small_blocks(void)
{
	void *p[7], *v = NULL;

	p[0] = malloc(100);
	p[1] = calloc(10, 100);
	p[2] = realloc(NULL, 5000);
	p[3] = reallocarray(malloc(10), 100, 100);
	p[4] = memalign(128, 1000);
	p[5] = aligned_alloc(64, MIB);
	check(!posix_memalign(&v, 4096, 4096));
	p[6] = v;
	for (int i = 0; i < 7; i++) {
		check(is_small(p[i]));
		check(malloc_usable_size(p[i]) >= 100);
		free(p[i]);
	}
}

static void whales(void)
{
	size_t before = nr_whales();
	void *p[6], *v = NULL;

	p[0] = malloc(2 * MIB);
	p[1] = calloc(3, MIB);
	p[2] = realloc(NULL, 4 * MIB);
	p[3] = reallocarray(NULL, 3, MIB);
	p[4] = memalign(4096, 2 * MIB);
	check(!posix_memalign(&v, 2 * MIB, 2 * MIB));
	p[5] = v;
	for (int i = 0; i < 6; i++) {
		check(nr_whales() == before + 6 - (size_t)i);
		check(p[i] && malloc_usable_size(p[i]) >= 2 * MIB);
		memset(p[i], 1, 2 * MIB);
		free(p[i]);
	}
	check(nr_whales() == before);
}

/* there and back, with what is in it */
static void blocks_that_change_sides(void)
{
	char *p = strcpy(malloc(1000), "contents");
	size_t before = nr_whales();

	for (int i = 0; i < 100; i++) {
		check(is_small(p) && nr_whales() == before);
		p = realloc(p, 3 * MIB);
		check(nr_whales() == before + 1 && !strcmp(p, "contents"));
		p = realloc(p, 1000 + (size_t)i);
		check(p && !strcmp(p, "contents"));
	}
	free(p);
}

static void all(void)
{
	small_blocks();
	whales();
	blocks_that_change_sides();
}

/* big ones too, and those that come from functions which it does not have */
static void all_its_own(void)
{
	for (size_t size = 100; size < 100 * MIB; size *= 200) {
		void *p[5], *v = NULL;

		p[0] = malloc(size);
		p[1] = calloc(2, size);
		p[2] = realloc(malloc(10), size);
		p[3] = reallocarray(malloc(2 * size), 3, size);
		check(!posix_memalign(&v, 4096, size));
		p[4] = v;
		for (int i = 0; i < 5; i++) {
			check(p[i] && is_its(p[i]));
			check(malloc_usable_size(p[i]) >= size);
			memset(p[i], 1, size);
		}
		for (int i = 0; i < 5; i++)
			free(p[i]);
	}
}

static void *thread(void *each)
{
	(*(void (**)(void))each)();
	return NULL;
}

int main(int argc, char **argv)
{
	void (*each)(void) = argc > 2 ? all_its_own : all;
	pthread_t t;

	alarm(100);
	for (int i = 0; argc > 1 && i < 3; i++) {
		if (strcmp(argv[1], allocators[i].name))
			continue;
		ask = dlsym(RTLD_DEFAULT, allocators[i].function);
		is_its = allocators[i].is_its;
	}
	check(ask);
	each();
	check(!pthread_create(&t, NULL, thread, &each));
	check(!pthread_join(t, NULL));
	return 0;
}
