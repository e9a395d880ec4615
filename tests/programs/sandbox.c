// SPDX-License-Identifier: GPL-2.0
/*
 * sandbox COMMAND [ARGS]: in a sandbox as a service manager or a container makes
 * it, where calls that an allocator has no business with kill the process. Its
 * children are in it, too.
 *
 * sandbox --try: each of these calls kills, and no other one.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define SIZE(array)	(sizeof(array) / sizeof(*(array)))

static const unsigned int forbidden[] = {
	/* other ways to ask for something */
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_io_setup, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd,
	/* memory by another name, or in another place */
	SYS_memfd_create, SYS_memfd_secret, SYS_shmget, SYS_shmat,
	SYS_remap_file_pages, SYS_pkey_alloc, SYS_pkey_mprotect, SYS_mlock,
	SYS_mlock2, SYS_mlockall, SYS_mbind, SYS_set_mempolicy,
	SYS_set_mempolicy_home_node, SYS_migrate_pages, SYS_move_pages,
	/* of other processes */
	SYS_process_madvise, SYS_process_mrelease, SYS_process_vm_readv,
	SYS_process_vm_writev, SYS_ptrace, SYS_kcmp, SYS_pidfd_getfd,
	/* for the whole machine, or another view of it */
	SYS_personality, SYS_unshare, SYS_setns, SYS_mount, SYS_chroot,
	SYS_pivot_root, SYS_init_module, SYS_finit_module, SYS_delete_module,
	SYS_kexec_load, SYS_swapon, SYS_swapoff, SYS_keyctl, SYS_add_key,
	SYS_iopl, SYS_ioperm, SYS_modify_ldt,
};

#define LOAD(field)							\
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_##what)
#define SKIP(how, value, yes, no)					\
	BPF_JUMP(BPF_JMP | (how) | BPF_K, value, yes, no)

static int close_the_door(void)
{
	static struct sock_filter filter[2 * SIZE(forbidden) + 7] = {
		LOAD(arch),
		SKIP(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
		RETURN(KILL_PROCESS),
		LOAD(nr),
		/* of x32 */
		SKIP(BPF_JGE, 0x40000000, 0, 1),
		RETURN(KILL_PROCESS),
	};
	const struct sock_filter kill = RETURN(KILL_PROCESS);
	const struct sock_filter allow = RETURN(ALLOW);
	struct sock_fprog prog = { .len = SIZE(filter), .filter = filter };
	size_t i, n = 6;

	for (i = 0; i < SIZE(forbidden); i++) {
		filter[n++] = (struct sock_filter)SKIP(BPF_JEQ, forbidden[i], 0, 1);
		filter[n++] = kill;
	}
	filter[n] = allow;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* with what no call can do anything with */
static int kills(unsigned int nr)
{
	struct rlimit none = { 0, 0 };
	int status;
	pid_t pid = fork();

	if (!pid) {
		setrlimit(RLIMIT_CORE, &none);
		if (close_the_door())
			_exit(1);
		syscall(nr, -1, -1, -1, -1, -1, -1);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? 1 : -1;
	return WEXITSTATUS(status) ? -1 : 0;
}

static int try_all(void)
{
	size_t i;

	for (i = 0; i < SIZE(forbidden); i++) {
		if (kills(forbidden[i]) != 1) {
			printf("# system call %u does not kill\n", forbidden[i]);
			return 1;
		}
	}
	return kills(SYS_madvise) || kills(SYS_getppid);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "--try"))
		return try_all();
	if (close_the_door()) {
		perror("seccomp");
		return 3;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
