// SPDX-License-Identifier: GPL-2.0
/*
 * Forks, and has the parent and the child write other things into a block that both have. For a
 * debugger, forks.gdb.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE ((size_t)5 << 20)

char *block;

__attribute__((noinline)) void child_is_here(void)
{
	__asm__ volatile("");
}

__attribute__((noinline)) void parent_is_here(void)
{
	__asm__ volatile("");
}

int main(void)
{
	int status;
	pid_t pid;

	block = malloc(SIZE);
	memset(block, 'x', SIZE);
	free(block);
	block = malloc(SIZE);
	memset(block, 'p', SIZE);
	pid = fork();
	if (!pid) {
		memset(block, 'c', SIZE / 2);
		child_is_here();
		/* which the debugger has written */
		_exit(block[SIZE - 1] == 'd' ? 7 : 8);
	}
	memset(block + SIZE / 2, 'q', SIZE / 2);
	parent_is_here();
	if (waitpid(pid, &status, 0) != pid || block[SIZE - 1] != 'q')
		return 1;
	free(block);
	return WEXITSTATUS(status);
}
