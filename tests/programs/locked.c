// SPDX-License-Identifier: GPL-2.0
/*
 * To be preloaded: a process that has all of its memory locked, what is to come as well, and so
 * have its children.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static void lock_all(void)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		_exit(99);
}

__attribute__((constructor)) static void start(void)
{
	lock_all();
	pthread_atfork(NULL, NULL, lock_all);
}
