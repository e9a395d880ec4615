// SPDX-License-Identifier: GPL-2.0
/*
 * libhakmem on the real device: what tests/native runs against a stand-in.
 * settings loads the module without a reserve, so that all idle memory may go.
 */
#include "hkr_test.h"
#include <grp.h>
#include <hakmem.h>
#include <sys/auxv.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include "group.h"
#include "harness.h"

#define MB	(1UL << 20)
#define TRIGGER	"/sys/kernel/debug/hakmem_region/shrink"

FIXTURE(heap)
{
};

FIXTURE_SETUP(heap)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };

	ASSERT_EQ(0, hkm_init(&cfg));
}

FIXTURE_TEARDOWN(heap)
{
	hkm_shutdown();
	/* the arena stays with the process, its memory does not */
	EXPECT_TRUE(sysfs_becomes("resident", 0));
}

static struct hkm_heap_stats heap_stats(void)
{
	struct hkm_heap_stats st;

	hkm_stats(&st);
	return st;
}

TEST_F(heap, block_comes_from_the_device_and_is_reused_as_it_is)
{
	char *p = hkm_malloc(6 * MB), *q;
	long faults;

	ASSERT_NE(NULL, p);
	EXPECT_STREQ("region", heap_stats().backend);
	EXPECT_EQ(3, sysfs("resident"));
	EXPECT_EQ(0, (uintptr_t)p % SLOT);
	EXPECT_TRUE(all_zero(p, 6 * MB));
	memset(p, 7, 6 * MB);
	faults = minor_faults();
	hkm_free(p);
	q = hkm_malloc(6 * MB);
	EXPECT_EQ(p, q);
	EXPECT_EQ(7, q[0]);
	EXPECT_EQ(7, q[6 * MB - 1]);
	EXPECT_EQ(faults, minor_faults());
	EXPECT_EQ(1, heap_stats().ring.hits);
	hkm_free(q);
}

TEST_F(heap, block_that_the_kernel_took_is_made_whole_again)
{
	char *p = hkm_malloc(8 * MB);
	int fd = open(TRIGGER, O_WRONLY | O_CLOEXEC), i;

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	memset(p, 7, 8 * MB);
	hkm_free(p);
	/* spare folios go first */
	for (i = 0; i < 100 && sysfs("resident") > 2; i++)
		ASSERT_EQ(1, write(fd, "1", 1));
	EXPECT_GE(2, sysfs("resident"));
	p = hkm_malloc(8 * MB);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(4, sysfs("resident"));
	memset(p, 9, 8 * MB);
	EXPECT_EQ(9, p[8 * MB - 1]);
	hkm_free(p);
	close(fd);
}

TEST_F(heap, idle_blocks_go_back_without_a_call)
{
	char *p = hkm_malloc(16 * MB);

	ASSERT_NE(NULL, p);
	memset(p, 1, 16 * MB);
	EXPECT_EQ(8, sysfs("resident"));
	hkm_free(p);
	EXPECT_TRUE(sysfs_becomes("resident", 0));
	p = hkm_malloc(16 * MB);
	ASSERT_NE(NULL, p);
	memset(p, 2, 16 * MB);
	hkm_free(p);
}

/* more than a cap allows comes from anonymous memory */
TEST_F(heap, block_beyond_the_caps_is_anonymous)
{
	char *p = hkm_malloc(300 * MB);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, sysfs("resident"));
	p[0] = p[300 * MB - 1] = 1;
	hkm_free(p);
}

static uint64_t handout_calls(void)
{
	struct hkm_timing sum;

	hkm_timing_read(&sum);
	return sum.calls[HKM_T_HANDOUT];
}

/* whales that are apart from each other */
static bool are_good(void **ptrs, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (!ptrs[i] || (uintptr_t)ptrs[i] % SLOT)
			return false;
		else
			*(int *)ptrs[i] = i + 1;
	for (i = 0; i < n; i++)
		if (*(int *)ptrs[i] != i + 1)
			return false;
	return true;
}

TEST_F(heap, batch_is_one_call_and_the_next_one_none)
{
	void *p[64];

	ASSERT_EQ(0, hkm_timing_enable(1));
	ASSERT_EQ(64, hkm_alloc_batch(p, 64, 2 * MB));
	EXPECT_EQ(1, handout_calls());
	EXPECT_STREQ("region", heap_stats().backend);
	EXPECT_EQ(64, sysfs("resident"));
	EXPECT_TRUE(are_good(p, 64));
	hkm_free_batch(p, 64);
	ASSERT_EQ(64, hkm_alloc_batch(p, 64, 2 * MB));
	EXPECT_EQ(1, handout_calls());
	EXPECT_EQ(64, heap_stats().ring.hits);
	EXPECT_TRUE(are_good(p, 64));
	hkm_free_batch(p, 64);
}

TEST_F(heap, batch_that_the_kernel_took_a_part_of_is_whole_again)
{
	int fd = open(TRIGGER, O_WRONLY | O_CLOEXEC), i;
	void *p[16];

	ASSERT_LE(0, fd);
	ASSERT_EQ(16, hkm_alloc_batch(p, 16, 2 * MB));
	EXPECT_TRUE(are_good(p, 16));
	hkm_free_batch(p, 16);
	for (i = 0; i < 100 && sysfs("resident") > 10; i++)
		ASSERT_EQ(1, write(fd, "1", 1));
	EXPECT_GE(10, sysfs("resident"));
	ASSERT_EQ(16, hkm_alloc_batch(p, 16, 2 * MB));
	EXPECT_EQ(16, sysfs("resident"));
	EXPECT_TRUE(are_good(p, 16));
	hkm_free_batch(p, 16);
	close(fd);
}

/* of an array some entries are met */
TEST_F(heap, batch_beyond_the_caps_is_partly_anonymous)
{
	void *p[150];

	ASSERT_EQ(150, hkm_alloc_batch(p, 150, 2 * MB));
	EXPECT_EQ(128, sysfs("resident"));
	EXPECT_STREQ("anon", heap_stats().backend);
	EXPECT_TRUE(are_good(p, 150));
	hkm_free_batch(p, 150);
}

static bool is_all(const char *p, char c, size_t len)
{
	return p[0] == c && !memcmp(p, p + 1, len - 1);
}

static char *inherited, *cached;

/* the line of what is not so, or 0 */
#define CHECK(cond)	do { if (!(cond)) return __LINE__ & 0xff; } while (0)

static int use_in_child(void *arg)
{
	char *mine[8];
	int i;

	CHECK(is_all(inherited, 5, 4 * MB));
	/* what was idle in the parent's cache is not here, and of no harm */
	mine[0] = hkm_malloc(6 * MB);
	CHECK(mine[0] == cached && all_zero(mine[0], 6 * MB));
	memset(mine[0], 3, 6 * MB);
	for (i = 1; i < 8; i++) {
		mine[i] = hkm_malloc(4 * MB);
		CHECK(mine[i]);
		memset(mine[i], i, 4 * MB);
	}
	CHECK(!strcmp("region", heap_stats().backend));
	inherited = hkm_realloc(inherited, 10 * MB);
	CHECK(inherited && is_all(inherited, 5, 4 * MB));
	memset(inherited, 6, 10 * MB);
	for (i = 1; i < 8; i++) {
		CHECK(is_all(mine[i], i, 4 * MB));
		hkm_free(mine[i]);
	}
	CHECK(is_all(mine[0], 3, 6 * MB));
	CHECK(is_all(inherited, 6, 10 * MB));
	hkm_free(mine[0]);
	hkm_free(inherited);
	/* reused as it is, as in any process */
	mine[0] = hkm_malloc(6 * MB);
	CHECK(mine[0] && mine[0][0]);
	if (arg)
		CHECK(in_child(arg, NULL) == 0);
	hkm_free(mine[0]);
	return 0;
}

static int frees_only(void *arg)
{
	hkm_free(hkm_malloc(4 * MB));
	return 0;
}

TEST_F(heap, child_has_its_parents_blocks_and_a_heap_of_its_own)
{
	int i;

	inherited = hkm_malloc(4 * MB);
	cached = hkm_malloc(6 * MB);
	ASSERT_NE(NULL, inherited);
	ASSERT_NE(NULL, cached);
	memset(inherited, 5, 4 * MB);
	memset(cached, 7, 6 * MB);
	hkm_free(cached);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, in_child(use_in_child, frees_only));
		EXPECT_TRUE(is_all(inherited, 5, 4 * MB));
		memset(inherited, 5, 4 * MB);
	}
	hkm_free(inherited);
}

/* ---- what the process has lost, and the heap was not told of --------------------- */

#define NR_MINE	6

static bool has_all(char **mine)
{
	int i;

	for (i = 0; i < NR_MINE; i++)
		if (!is_all(mine[i], i + 1, (3 + i) * MB))
			return false;
	return true;
}

static bool gets_mine(char **mine, int step)
{
	int i;

	for (i = 0; i < NR_MINE; i += step) {
		mine[i] = hkm_malloc((3 + i) * MB);
		if (!mine[i])
			return false;
		memset(mine[i], i + 1, (3 + i) * MB);
	}
	return true;
}

/* with old blocks and new ones, the latter from @arg */
static int goes_on(void *arg)
{
	char *mine[NR_MINE], *zero;
	int i;

	CHECK(is_all(inherited, 5, 4 * MB));
	/* its own from the first write on, so it is reused as it is; without a call */
	memset(inherited, 4, 4 * MB);
	hkm_free(inherited);
	CHECK(hkm_malloc(4 * MB) == inherited && is_all(inherited, 4, 4 * MB));
	memset(inherited, 5, 4 * MB);
	CHECK(gets_mine(mine, 1) && has_all(mine));
	CHECK(!strcmp(arg, heap_stats().backend));
	for (i = 0; i < NR_MINE; i += 2)
		hkm_free(mine[i]);
	CHECK(gets_mine(mine, 2) && has_all(mine));
	inherited = hkm_realloc(inherited, 10 * MB);
	CHECK(inherited && is_all(inherited, 5, 4 * MB));
	memset(inherited, 6, 10 * MB);
	zero = hkm_calloc(1, 5 * MB);
	CHECK(zero && all_zero(zero, 5 * MB));
	memset(zero, 8, 5 * MB);
	CHECK(has_all(mine) && is_all(inherited, 6, 10 * MB));
	for (i = 0; i < NR_MINE; i++)
		hkm_free(mine[i]);
	hkm_free(zero);
	hkm_free(inherited);
	hkm_release_all();
	CHECK(gets_mine(mine, 1) && has_all(mine));
	for (i = 0; i < NR_MINE; i++)
		hkm_free(mine[i]);
	return 0;
}

static int closes_all(void *arg)
{
	closefrom(3);
	CHECK(goes_on("anon") == 0);
	return 0;
}

static bool has_blocks(void)
{
	inherited = hkm_malloc(4 * MB);
	cached = hkm_malloc(6 * MB);
	if (!inherited || !cached)
		return false;
	memset(inherited, 5, 4 * MB);
	memset(cached, 7, 6 * MB);
	hkm_free(cached);
	return !strcmp("region", heap_stats().backend);
}

/* by the child, and by the parent before another fork */
TEST_F(heap, descriptors_are_closed)
{
	ASSERT_TRUE(has_blocks());
	EXPECT_EQ(0, in_child(closes_all, NULL));
	EXPECT_TRUE(is_all(inherited, 5, 4 * MB));
	EXPECT_EQ(0, in_child(goes_on, "region"));
	closefrom(3);
	EXPECT_EQ(0, in_child(goes_on, "anon"));
	EXPECT_EQ(0, goes_on("anon"));
}

/* as a server does that begins as root; both of a fork go on, on the device */
static int becomes_nobody(void *arg)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };

	CHECK(hkm_init(&cfg) == 0 && has_blocks());
	CHECK(!chroot("/proc/self/fd") && !chdir("/"));
	CHECK(!setgroups(0, NULL) && !setgid(1000) && !setuid(1000));
	CHECK(open(HKR_DEVICE, O_RDWR) < 0);
	CHECK(in_child(goes_on, "region") == 0);
	return goes_on("region");
}

TEST(privileges_and_root_are_gone)
{
	EXPECT_EQ(0, in_child(becomes_nobody, NULL));
	EXPECT_TRUE(nothing_leaked());
}

/* as in a container: there is a device, but for others */
static int has_no_right(void *arg)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_REGION };
	char *p;

	CHECK(!setgroups(0, NULL) && !setgid(1000) && !setuid(1000));
	CHECK(open(HKR_DEVICE, O_RDWR) < 0 && errno == EACCES);
	CHECK(hkm_init(&cfg) == -EACCES);
	p = hkm_malloc(4 * MB);
	CHECK(p && !strcmp("anon", heap_stats().backend));
	memset(p, 1, 4 * MB);
	hkm_free(p);
	CHECK(hkm_malloc(4 * MB) == p);
	return 0;
}

TEST(device_is_for_others)
{
	EXPECT_EQ(0, in_child(has_no_right, NULL));
	EXPECT_TRUE(nothing_leaked());
}

/* ---- how much may be idle ------------------------------------------------------- */

#define G "/hkr-heap"

/* what says how much, by the limits of the cgroups above @arg */
static int is_an_eighth_of_96_mb(void *arg)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_ANON };

	CHECK(!group_enter(arg));
	CHECK(!hkm_init(&cfg));
	CHECK(heap_stats().capacity_bytes == 12 * MB);
	return 0;
}

TEST(memory_is_what_the_least_limit_of_a_group_allows)
{
	ASSERT_EQ(0, group_delegate(""));
	ASSERT_EQ(0, group_make(G, 96));
	ASSERT_EQ(0, group_delegate(G));
	ASSERT_EQ(0, group_make(G "/below", 0));
	EXPECT_EQ(0, in_child(is_an_eighth_of_96_mb, G "/below"));
	ASSERT_EQ(0, group_write(G "/below", "memory.max", "96M"));
	ASSERT_EQ(0, group_write(G, "memory.max", "200M"));
	EXPECT_EQ(0, in_child(is_an_eighth_of_96_mb, G "/below"));
	EXPECT_EQ(0, group_remove(G "/below"));
	EXPECT_EQ(0, group_remove(G));
}

/* ---- preloaded ---------------------------------------------------------------- */

/* this program again, with its own malloc() preloaded: as others do not know it */
static int forks_as_it_likes(void)
{
	char *p = malloc(8 * MB), *q;
	int status;
	pid_t pid;

	CHECK(p && sysfs("resident") == 4);
	memset(p, 1, 8 * MB);
	pid = fork();
	if (!pid) {
		q = malloc(4 * MB);
		if (!q || !is_all(p, 1, 8 * MB))
			_exit(1);
		memset(q, 2, 4 * MB);
		memset(p, 3, 8 * MB);
		free(p);
		_exit(!is_all(q, 2, 4 * MB));
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	CHECK(is_all(p, 1, 8 * MB) && sysfs("shared") == 0);
	free(p);
	return 0;
}

static int has_a_whale(bool secure)
{
	char *p = hkm_malloc(4 * MB);

	CHECK(p && !!getauxval(AT_SECURE) == secure);
	hkm_free(p);
	return 0;
}

static void __attribute__((constructor)) after_exec(void)
{
	const char *secure = getenv("HKR_TEST_SECURE");

	if (getenv("HKR_TEST_PRELOADED"))
		_exit(forks_as_it_likes());
	/* statistics are written at the end: no _exit() */
	if (secure)
		exit(has_a_whale(*secure == '1'));
}

static int preloads(void *arg)
{
	setenv("HKR_TEST_PRELOADED", "1", 1);
	setenv("LD_PRELOAD", "/lib/libhakmem_preload.so", 1);
	execl("/proc/self/exe", "heap", NULL);
	return 1;
}

TEST(preloaded_heap_is_on_the_device_and_forks)
{
	EXPECT_EQ(0, in_child(preloads, NULL));
	EXPECT_TRUE(nothing_leaked());
}

/* ---- a program with the rights of somebody else ------------------------------- */

#define PROGRAM		"/tmp/hkr-setuid"
#define STATISTICS	"/tmp/hkr-statistics"

/* this program, owned by another user, who may write the file */
static bool make_files(mode_t mode)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(PROGRAM, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
	int file = open(STATISTICS, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			0666);
	struct stat st;
	bool ok;

	ok = !fstat(from, &st) && file >= 0 && !fchmod(file, 0666) &&
	     sendfile(to, from, NULL, st.st_size) == st.st_size &&
	     !fchown(to, 1000, 1000) && !fchmod(to, mode);
	close(from);
	close(to);
	close(file);
	return ok;
}

static int runs_it(void *secure)
{
	setenv("HKR_TEST_SECURE", secure, 1);
	setenv("HAKMEM_STATS_FILE", STATISTICS, 1);
	execl(PROGRAM, "heap", NULL);
	return 1;
}

/* who runs a setuid program must not have it write where he may not */
TEST(environment_is_not_for_setuid_programs)
{
	struct stat st;

	ASSERT_TRUE(make_files(0755));
	EXPECT_EQ(0, in_child(runs_it, "0"));
	ASSERT_EQ(0, stat(STATISTICS, &st));
	EXPECT_LT(0, st.st_size);
	ASSERT_TRUE(make_files(04755));
	EXPECT_EQ(0, in_child(runs_it, "1"));
	ASSERT_EQ(0, stat(STATISTICS, &st));
	EXPECT_EQ(0, st.st_size);
	unlink(PROGRAM);
	unlink(STATISTICS);
}

TEST_HARNESS_MAIN
