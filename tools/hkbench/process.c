// SPDX-License-Identifier: MIT
/* A process of the benchmark's own, and the pipes that it is told by. */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "hkbench.h"

/*
 * Ends the program where there can be no process. In the child, which dies with
 * its parent, @in and @out are what it reads and writes; in the parent they are
 * the other ends.
 */
pid_t hb_fork(int *in, int *out)
{
	int to[2], from[2];
	pid_t parent = getpid(), pid = -1;

	if (!pipe2(to, O_CLOEXEC) && !pipe2(from, O_CLOEXEC)) {
		fflush(NULL);
		pid = fork();
	}
	if (pid < 0) {
		perror("hkbench: cannot start a process");
		exit(1);
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	*in = pid ? from[0] : to[0];
	*out = pid ? to[1] : from[1];
	close(pid ? to[0] : to[1]);
	close(pid ? from[1] : from[0]);
	return pid;
}

void *hb_map_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		perror("hkbench: no shared memory");
		exit(1);
	}
	return p;
}
