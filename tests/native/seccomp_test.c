// SPDX-License-Identifier: GPL-2.0
/*
 * In a sandbox: what anonymous whales ask of the kernel once the first one has been
 * made. A program that forbids itself all else before it goes on may go on.
 *
 * What the filter does not allow (sandbox.h) is told, and ends the case. The preload
 * object allows this from before the first whale on: preload/victim.c has that. There
 * are no threads: they would wait for each other by futex.
 * Times are read without a system call: the library asks for the coarse clock,
 * which needs none on any clock source.
 */
#include "heap_test.h"
#include "sandbox.h"

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

static void close_the_door(void)
{
	struct sigaction sa = {
		.sa_sigaction = forbidden, .sa_flags = SA_SIGINFO,
	};

	/* stdio asks about the file once, and has its buffer from then on */
	printf("# inside\n");
	fflush(stdout);
	check_int(sigaction(SIGSYS, &sa, NULL), 0);
	check_int(allow_memory_only(SECCOMP_RET_TRAP), 0);
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
