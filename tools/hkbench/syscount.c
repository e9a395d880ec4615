// SPDX-License-Identifier: MIT
/*
 * System calls of this thread, counted where they are made.
 *
 * No backend is trusted to say how many calls it makes, and libc's malloc
 * cannot be asked. The kernel's user dispatch (PR_SET_SYSCALL_USER_DISPATCH,
 * Linux 5.11) turns every system call of the thread into a SIGSYS; the handler
 * counts it, makes it, times it and puts the result where the caller looks.
 * Operations run under it are never timed themselves.
 *
 * What the handler needs, the repeated call and the return from the signal, is
 * in a range of code that the kernel lets through.
 */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/hakmem_region.h>

#include "hkbench.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH	59
#define PR_SYS_DISPATCH_OFF		0
#define PR_SYS_DISPATCH_ON		1
#endif
#define FILTER_ALLOW	0
#define FILTER_BLOCK	1

const char *const hb_call_name[HB_CALL_NR] = {
	[HB_CALL_MMAP] = "mmap",	[HB_CALL_MUNMAP] = "munmap",
	[HB_CALL_MADVISE] = "madvise",	[HB_CALL_HANDOUT] = "handout",
	[HB_CALL_RECYCLE] = "recycle",	[HB_CALL_WHALE_GET] = "whale_get",
	[HB_CALL_WHALE_PUT] = "whale_put", [HB_CALL_BRK] = "brk",
	[HB_CALL_OTHER] = "other",
};

struct hb_calls *hb_counting;

static volatile char selector = FILTER_ALLOW;

extern const char hb_sud_begin[], hb_sud_end[];
void hb_sud_restorer(void);
long hb_sud_raw(long nr, const greg_t *args);

__asm__(".pushsection .text\n"
	".hidden hb_sud_begin, hb_sud_end, hb_sud_restorer, hb_sud_raw\n"
	".globl hb_sud_begin, hb_sud_end, hb_sud_restorer, hb_sud_raw\n"
	"hb_sud_begin:\n"
	"hb_sud_restorer:\n"
	"	mov	$15, %eax\n"		/* rt_sigreturn */
	"	syscall\n"
	"hb_sud_raw:\n"
	"	mov	%rdi, %rax\n"
	"	mov	%rsi, %r11\n"
	"	mov	0(%r11), %rdi\n"
	"	mov	8(%r11), %rsi\n"
	"	mov	16(%r11), %rdx\n"
	"	mov	24(%r11), %r10\n"
	"	mov	32(%r11), %r8\n"
	"	mov	40(%r11), %r9\n"
	"	syscall\n"
	"	ret\n"
	"hb_sud_end:\n"
	".popsection\n");

/* the kernel's view of a signal action, so that the restorer is ours */
struct kernel_sigaction {
	void (*handler)(int sig, siginfo_t *info, void *ctx);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

#define KERNEL_SA_RESTORER 0x04000000UL

static enum hb_call classify(long nr, const greg_t *args)
{
	switch (nr) {
	case SYS_mmap:
		return HB_CALL_MMAP;
	case SYS_munmap:
		return HB_CALL_MUNMAP;
	case SYS_madvise:
		return HB_CALL_MADVISE;
	case SYS_brk:
		return HB_CALL_BRK;
	case SYS_ioctl:
		if ((unsigned int)args[1] == HKR_IOC_HANDOUT)
			return HB_CALL_HANDOUT;
		if ((unsigned int)args[1] == HKR_IOC_RECYCLE)
			return HB_CALL_RECYCLE;
		return HB_CALL_OTHER;
	default:
		return HB_CALL_OTHER;
	}
}

static void on_syscall(int sig, siginfo_t *info, void *ctx)
{
	greg_t *regs = ((ucontext_t *)ctx)->uc_mcontext.gregs;
	greg_t args[6] = { regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
			   regs[REG_R10], regs[REG_R8], regs[REG_R9] };
	enum hb_call call = classify(info->si_syscall, args);
	uint64_t t;

	(void)sig;
	t = hb_tsc();
	regs[REG_RAX] = hb_sud_raw(info->si_syscall, args);
	hb_counting->cycles[call] += hb_tsc() - t;
	hb_counting->n[call]++;
}

int hb_syscount_start(struct hb_calls *into)
{
	struct kernel_sigaction sa = {
		.handler = on_syscall,
		.flags = SA_SIGINFO | KERNEL_SA_RESTORER,
		.restorer = hb_sud_restorer,
	};

	memset(into, 0, sizeof(*into));
	if (syscall(SYS_rt_sigaction, SIGSYS, &sa, NULL, sizeof(sa.mask)))
		return -errno;
	selector = FILTER_ALLOW;
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON,
		  (uintptr_t)hb_sud_begin,
		  (uintptr_t)hb_sud_end - (uintptr_t)hb_sud_begin, &selector))
		return -errno;
	hb_counting = into;
	selector = FILTER_BLOCK;
	return 0;
}

void hb_syscount_stop(void)
{
	selector = FILTER_ALLOW;
	hb_counting = NULL;
	prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
}

/* the ring's functions are timed beside the calls, and are none */
uint64_t hb_syscalls(const struct hb_calls *c)
{
	uint64_t sum = 0;

	for (int i = 0; i < HB_CALL_NR; i++)
		if (i != HB_CALL_WHALE_GET && i != HB_CALL_WHALE_PUT)
			sum += c->n[i];
	return sum;
}
