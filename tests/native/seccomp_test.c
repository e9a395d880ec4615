// SPDX-License-Identifier: GPL-2.0
/*
 * In a sandbox: what anonymous whales ask of the kernel once the first one has been
 * made. A program that forbids itself all else before it goes on may go on.
 *
 * The filter allows mmap, munmap, mremap, madvise and mprotect; and to the test
 * itself write and exit_group, by which it tells. Anything else is told, too, and
 * ends the case. There are no threads: they would wait for each other by futex.
 * Times are read without a system call: the library asks for the coarse clock,
 * which needs none on any clock source.
 */
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "heap_test.h"

#define ROUNDS 4000
#define NR_LIVE 24
#define NR_BATCH 16

static void forbidden(int sig, siginfo_t *info, void *context)
{
	char text[] = "# system call ...\n", *digit = strchr(text, '.') + 3;
	int nr = info->si_syscall;

	(void)sig;
	(void)context;
	for (int i = 0; i < 3; i++, nr /= 10)
		*--digit = (char)('0' + nr % 10);
	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

#define ALLOW(call) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void close_the_door(void)
{
	/* one's own process is of one's own architecture: no need to look */
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		ALLOW(mmap),
		ALLOW(munmap),
		ALLOW(mremap),
		ALLOW(madvise),
		ALLOW(mprotect),
		ALLOW(write),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog prog = {
		.len = sizeof(filter) / sizeof(*filter), .filter = filter,
	};
	struct sigaction sa = {
		.sa_sigaction = forbidden, .sa_flags = SA_SIGINFO,
	};

	/* stdio asks about the file once, and has its buffer from then on */
	printf("# inside\n");
	fflush(stdout);
	check_int(sigaction(SIGSYS, &sa, NULL), 0);
	check_int(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_int(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static size_t some_size(uint64_t *state)
{
	return SLOT + next_random(state) % (4 * SLOT);
}

/* @p or a block in its place, by any of the ways there are */
static char *churn(char *p, uint64_t *state)
{
	size_t size = some_size(state);
	char *q;

	switch (next_random(state) % 8) {
	case 0:
	case 1:
		hkm_free(p);
		return NULL;
	case 2:
		hkm_free(p);
		q = hkm_calloc(1, size);
		check(!q[0] && !q[size - 1]);
		break;
	case 3:
		hkm_free(p);
		q = hkm_memalign(1 << 16, size);
		break;
	case 4:
		/* of nothing too; half a slot is a whale still */
		q = hkm_realloc(p, p ? size - SLOT / 2 : size);
		size = SLOT / 2;
		break;
	case 5:
		hkm_free(p);
		check_int(hkm_posix_memalign((void **)&q, 64, size), 0);
		break;
	default:
		hkm_free(p);
		q = hkm_malloc(size);
	}
	check(q && hkm_malloc_usable_size(q) >= size);
	q[0] = q[size - 1] = 1;
	return q;
}

static void live(void)
{
	uint64_t state = 1;
	char *p[NR_LIVE] = { NULL };
	void *batch[NR_BATCH];

	/* the start: the first whale */
	hkm_free(hkm_malloc(SLOT));
	close_the_door();
	for (int round = 0; round < ROUNDS; round++) {
		int i = (int)(next_random(&state) % NR_LIVE);

		p[i] = churn(p[i], &state);
		if (round % 50 == 0) {
			int n = 1 + (int)(next_random(&state) % NR_BATCH);

			check_int(hkm_alloc_batch(batch, (size_t)n,
						  some_size(&state)), n);
			hkm_free_batch(batch, (size_t)n);
		}
		if (round % 500 == 0)
			hkm_release_all();
	}
	check(stats().ring.hits && stats().ring.misses);
	for (int i = 0; i < NR_LIVE; i++)
		hkm_free(p[i]);
	hkm_set_limit(4 * SLOT);
	check(stats().idle_bytes <= 4 * SLOT);
	hkm_shutdown();
	_exit(0);
}

static void with_policy(enum hkm_policy policy)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = policy,
		.slots = 16, .limit = 40 * SLOT, .decay_ms = 1,
	};

	check_int(hkm_init(&cfg), 0);
	live();
}

static void idle_memory_decays(void)
{
	with_policy(HKM_POLICY_DECAY);
}

static void idle_memory_is_kept(void)
{
	with_policy(HKM_POLICY_KEEP);
}

static void idle_memory_goes_at_once(void)
{
	with_policy(HKM_POLICY_DONTNEED);
}

static void idle_memory_may_be_taken(void)
{
	with_policy(HKM_POLICY_FREE);
}

/* set up by the first whale, from the environment and without a device */
static void nothing_is_set_up(void)
{
	no_device();
	live();
}

static void guards_are_kept(void)
{
	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	live();
}

/* the door is closed: else the other cases say nothing */
static void knock(void)
{
	close_the_door();
	syscall(SYS_getppid);
	_exit(0);
}

static void what_is_forbidden_is_told(void)
{
	char text[4096];
	int status = run_child(knock, text, sizeof(text));

	check(WIFEXITED(status));
	check_int(WEXITSTATUS(status), 1);
}

static const struct tap_case cases[] = {
	CASE(what_is_forbidden_is_told),
	CASE(idle_memory_decays),
	CASE(idle_memory_is_kept),
	CASE(idle_memory_goes_at_once),
	CASE(idle_memory_may_be_taken),
	CASE(nothing_is_set_up),
	CASE(guards_are_kept),
};

TAP_MAIN(cases)
