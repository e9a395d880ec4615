// SPDX-License-Identifier: GPL-2.0
/* Another allocator, of some functions only: libc's, counted. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void __libc_free(void *ptr);

static int calls;

void *malloc(size_t size)
{
	calls++;
	return __libc_malloc(size);
}

void *calloc(size_t nr, size_t size)
{
	return __libc_calloc(nr, size);
}

void *realloc(void *ptr, size_t size)
{
	calls++;
	return __libc_realloc(ptr, size);
}

void free(void *ptr)
{
	__libc_free(ptr);
}

__attribute__((destructor)) static void tell(void)
{
	dprintf(2, "other: %s\n", calls ? "called" : "not called");
}
