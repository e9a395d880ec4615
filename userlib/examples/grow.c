// SPDX-License-Identifier: MIT
/*
 * An array that grows by half each time. From 2 MiB up no byte is copied: its
 * pages are moved, or the slots behind it were free.
 */
#include <stdint.h>
#include <stdio.h>

#include <hakmem.h>

int main(void)
{
	size_t room = 1000, nr = 0, moves = 0;
	uint64_t *array = hkm_malloc(room * sizeof(*array)), sum = 0;

	for (uint64_t i = 0; array && i < 10000000; i++) {
		if (nr == room) {
			uint64_t *old = array;

			room += room / 2;
			array = hkm_reallocarray(array, room, sizeof(*array));
			if (!array)
				break;
			moves += array != old;
		}
		array[nr++] = i;
	}
	if (!array) {
		perror("hkm_reallocarray");
		return 1;
	}
	for (size_t i = 0; i < nr; i++)
		sum += array[i];
	fprintf(stderr, "moved %zu times\n", moves);
	printf("sum %llu\n", (unsigned long long)sum);
	hkm_free(array);
	return 0;
}
