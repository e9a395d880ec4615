// SPDX-License-Identifier: GPL-2.0
/*
 * A small program to be watched: by a debugger at the probes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hakmem.h>

#define S ((size_t)2 << 20)

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

static const struct {
	const char *name;
	int (*fn)(void);
} cases[] = {
	{ "events", events },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (argc > 1 && !strcmp(cases[i].name, argv[1]))
			return cases[i].fn();
	return 3;
}
