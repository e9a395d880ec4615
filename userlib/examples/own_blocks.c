// SPDX-License-Identifier: MIT
/*
 * The whale ring alone: a cache in front of blocks that the program maps itself,
 * here as shared memory, which no malloc() gives.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <hakmem.h>

#define BLOCK ((size_t)4 << 20)

static int maps;

static void *get_block(void)
{
	void *block = hkm_whale_get(BLOCK);

	if (block)
		return block;
	maps++;
	block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return block == MAP_FAILED ? NULL : block;
}

int main(void)
{
	struct hkm_whale_config cfg = { .slots = 2 };

	if (hkm_whale_init(&cfg)) {
		fprintf(stderr, "hkm_whale_init failed\n");
		return 1;
	}
	for (int i = 0; i < 50; i++) {
		void *a = get_block(), *b = get_block();

		if (!a || !b) {
			perror("mmap");
			return 1;
		}
		memset(a, 1, BLOCK);
		memset(b, 2, BLOCK);
		hkm_whale_put(a, BLOCK);
		hkm_whale_put(b, BLOCK);
	}
	printf("%d blocks mapped for 100 uses\n", maps);
	hkm_whale_shutdown();
	return 0;
}
