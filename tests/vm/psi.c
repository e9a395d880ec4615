// SPDX-License-Identifier: GPL-2.0
/*
 * HAKMEM_TRIM=psi on a kernel that reports pressure: while others wait for memory
 * a program that does nothing gives back what it has idle, and only that.
 * tests/native has the same with a trigger that is none. settings gives a small
 * machine without the module, so that whales are anonymous.
 */
#include "reclaim.h"
#include "group.h"
#include <grp.h>
#include <hakmem.h>
#include <sys/prctl.h>
#include "harness.h"

#define MIB		(1UL << 20)
#define BLOCK		(4 * MIB)
#define NR_BLOCKS	50
#define NR_LIVE		5
#define IDLE_BYTES	((NR_BLOCKS - NR_LIVE) * BLOCK)
#define IDLE_KB		((long)(IDLE_BYTES >> 10))
#define SLACK_KB	2048L	/* what else a process may need meanwhile: less than a block */
#define G		"/hkr-psi"
#define SCALE		"/proc/sys/vm/watermark_scale_factor"

/* the line of what is not so, or 0 */
#define CHECK(cond)	do { if (!(cond)) return __LINE__ & 0xff; } while (0)

static char *block[NR_BLOCKS];

static long rss_kb(void)
{
	return proc_value("/proc/self/status", "VmRSS");
}

/* us for which somebody waited, since the machine began */
static long waited_us(void)
{
	FILE *f = fopen("/proc/pressure/memory", "re");
	long us = -1;

	if (f && fscanf(f, "some avg10=%*f avg60=%*f avg300=%*f total=%ld",
			&us) != 1)
		us = -1;
	if (f)
		fclose(f);
	return us;
}

/* a trigger may fire for what was before it: for users the kernel counts every 2 s */
static bool is_quiet(void)
{
	long before;
	int i = 0;

	do {
		before = waited_us();
		usleep(2500000);
	} while (waited_us() != before && ++i < 20);
	return i < 20;
}

/* the program's last call is a free: nothing but pressure ends what it has idle */
static bool make_idle(void)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = HKM_POLICY_KEEP,
		.limit = NR_BLOCKS * BLOCK,
	};
	int i;

	if (hkm_init(&cfg) || hkm_set_trim(HKM_TRIM_PSI))
		return false;
	for (i = 0; i < NR_BLOCKS; i++) {
		block[i] = hkm_malloc(BLOCK);
		if (!block[i])
			return false;
		memset(block[i], i + 1, BLOCK);
	}
	/* huge pages may have been waited for; the first free sets the trigger */
	if (!is_quiet())
		return false;
	for (i = NR_LIVE; i < NR_BLOCKS; i++)
		hkm_free(block[i]);
	return true;
}

static struct hkm_heap_stats heap_stats(void)
{
	struct hkm_heap_stats st;

	hkm_stats(&st);
	return st;
}

static bool is_idle(long before_kb)
{
	return heap_stats().idle_bytes == IDLE_BYTES &&
	       rss_kb() >= before_kb + IDLE_KB;
}

/* the bound is for a very busy machine */
static bool goes(long full_kb)
{
	int i;

	for (i = 0; i < 3000 && rss_kb() > full_kb - IDLE_KB + SLACK_KB; i++)
		usleep(10000);
	return i < 3000;
}

static bool live_is_whole(void)
{
	size_t at;
	int i;

	for (i = 0; i < NR_LIVE; i++)
		for (at = 0; at < BLOCK; at += PAGE)
			if (block[i][at] != i + 1)
				return false;
	return true;
}

struct owner {
	bool user;
	int ready;	/* a pipe: it waits for pressure now */
};

/* a process that does nothing but look at its size; 0 or what is not so */
static int owner(void *arg)
{
	const struct owner *o = arg;
	long before = rss_kb(), full;

	if (o->user)
		CHECK(!setgroups(0, NULL) && !setgid(1000) && !setuid(1000));
	CHECK(make_idle());
	full = rss_kb();
	CHECK(is_idle(before));
	/* while nobody waits it stays */
	usleep(1500000);
	CHECK(is_idle(before));
	CHECK(write(o->ready, "", 1) == 1);
	CHECK(goes(full));
	CHECK(heap_stats().idle_bytes == 0);
	CHECK(heap_stats().live_bytes == NR_LIVE * BLOCK);
	CHECK(live_is_whole());
	return 0;
}

static pid_t start(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();

	if (!pid) {
		/* also where an assertion ends the test */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	return pid;
}

/* more than its group is to have, so that it is made to wait again and again */
static int needs_too_much(void *arg)
{
	return group_enter(G) ?: need((void *)(128 * MIB));
}

/* reads @len of the disk from @at, which the kernel keeps while there is room */
static bool reads(int fd, off_t at, size_t len)
{
	static char buf[MIB];

	for (; len; len -= MIB, at += MIB)
		if (pread(fd, buf, MIB, at) != MIB)
			return false;
	return true;
}

/*
 * Needs more than there is without what is idle. Fast while there is enough, then
 * slowly, and with files to read, as a machine has that is short of memory for a
 * while before the last is gone. It is to be killed first.
 */
static int grows(void *arg)
{
	size_t len = (size_t)(mem_available_kb() + IDLE_KB / 2) << 10, i;
	int fd = open("/dev/vda", O_RDONLY | O_CLOEXEC);
	volatile char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || write_file("/proc/self/oom_score_adj", "1000") ||
	    write_file(SCALE, "300"))
		return 1;
	for (i = 0; i < len; i += PAGE) {
		p[i] = 1;
		if (i % MIB || mem_available_kb() > 32 * 1024)
			continue;
		if (!reads(fd, i / MIB % 4 * 16 * MIB, 16 * MIB))
			return 2;
	}
	return 0;
}

FIXTURE(idle)
{
	struct owner owner;
	pid_t pid;
	long waited;
};

FIXTURE_VARIANT(idle)
{
	bool user;
	int (*waits)(void *arg);
};

FIXTURE_VARIANT_ADD(idle, of_root) { .waits = needs_too_much };
/* whose trigger is another one */
FIXTURE_VARIANT_ADD(idle, of_a_user) { .waits = needs_too_much, .user = true };
FIXTURE_VARIANT_ADD(idle, of_root_in_a_small_machine) { .waits = grows };

static int status_of(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

FIXTURE_SETUP(idle)
{
	int ready[2];
	char c;

	ASSERT_EQ(0, group_delegate(""));
	ASSERT_EQ(0, group_make(G, 0));
	ASSERT_EQ(0, group_write(G, "memory.high", "8M"));
	ASSERT_EQ(0, pipe(ready));
	self->owner = (struct owner){ variant->user, ready[1] };
	self->pid = start(owner, &self->owner);
	ASSERT_LT(0, self->pid);
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		ASSERT_EQ(0, status_of(self->pid));
	close(ready[0]);
	self->waited = waited_us();
	ASSERT_LE(0, self->waited);
}

FIXTURE_TEARDOWN(idle)
{
	EXPECT_EQ(0, write_file(SCALE, "10"));
	EXPECT_EQ(0, group_remove(G));
}

TEST_F(idle, memory_goes_while_a_process_waits_for_memory)
{
	pid_t pid = start(variant->waits, NULL);

	ASSERT_LT(0, pid);
	EXPECT_EQ(0, status_of(self->pid));
	TH_LOG("%ld us were waited for memory", waited_us() - self->waited);
	if (variant->waits == grows) {
		EXPECT_EQ(0, status_of(pid));
	} else {
		kill(pid, SIGKILL);
		EXPECT_EQ(SIGKILL, status_of(pid));
	}
}

TEST_HARNESS_MAIN
