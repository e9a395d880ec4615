// SPDX-License-Identifier: MIT
/*
 * Frames of a video, say: a buffer of 6 MiB for each, freed when it was used.
 * All but the first are served from the cache, without a system call.
 */
#include <stdio.h>
#include <string.h>

#include <hakmem.h>

#define FRAME ((size_t)6 << 20)

int main(void)
{
	struct hkm_heap_stats st;

	for (int i = 0; i < 100; i++) {
		char *frame = hkm_malloc(FRAME);

		if (!frame) {
			perror("hkm_malloc");
			return 1;
		}
		memset(frame, i, FRAME);
		hkm_free(frame);
	}
	hkm_stats(&st);
	printf("%llu of 100 frames from the cache\n",
	       (unsigned long long)st.ring.hits);
	return 0;
}
