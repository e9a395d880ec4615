// SPDX-License-Identifier: GPL-2.0
/* The mapping: 2 MiB at a time, and what the VM's system calls do to it. */
#include "hkr_test.h"
#include <pthread.h>
#include <sched.h>
#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include "harness.h"

#define NR_SLOTS	16
#define NR		8
#define RW		(PROT_READ | PROT_WRITE)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* Slots 0 to 7 are handed out with memory. */
FIXTURE(arena)
{
	struct arena a;
	size_t size;
};

FIXTURE_SETUP(arena)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout_at(&self->a, 0, NR, COMMIT));
	self->size = self->a.setup.arena_size;
}

FIXTURE_TEARDOWN(arena)
{
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

/* faults of reading and writing every page of slots 0 to NR - 1 */
static long faults_of_a_walk(struct arena *a)
{
	long before, after;
	size_t i;

	before = minor_faults();
	before = minor_faults();
	for (i = 0; i < NR * SLOT; i += PAGE) {
		volatile char *p = a->base + i;

		*p = *p + 1;
	}
	after = minor_faults();
	return after - before;
}

static long rss_file_kb(void)
{
	char line[128];
	FILE *f = fopen("/proc/self/status", "re");
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssFile: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

TEST_F(arena, maps_each_slot_by_one_fault)
{
	struct arena *a = &self->a;
	long rss = rss_file_kb();

	EXPECT_EQ(0, (uintptr_t)a->base % SLOT);
	EXPECT_EQ(NR, faults_of_a_walk(a));
	EXPECT_EQ(NR, stats_of(a).faults);
	EXPECT_EQ(NR * SLOT / 1024, smaps_kb(a->base, self->size,
					     "FilePmdMapped"));
	EXPECT_EQ(NR * SLOT / 1024, smaps_kb(a->base, self->size, "Rss"));
	EXPECT_LE(NR * SLOT / 1024, rss_file_kb() - rss);
	EXPECT_EQ(0, faults_of_a_walk(a));

	/* new memory in place: the same again */
	ASSERT_EQ(0, recycle(a, FRESH, 0, NR));
	EXPECT_EQ(0, smaps_kb(a->base, self->size, "Rss"));
	EXPECT_EQ(NR, faults_of_a_walk(a));
	EXPECT_EQ(NR * SLOT / 1024, smaps_kb(a->base, self->size,
					     "FilePmdMapped"));
	ASSERT_EQ(0, recycle(a, DROP, 0, NR));
	ASSERT_EQ(0, handout_at(a, 0, NR, 0));
	EXPECT_EQ(NR, faults_of_a_walk(a));
	EXPECT_EQ(NR * SLOT / 1024, smaps_kb(a->base, self->size,
					     "FilePmdMapped"));
}

/* where two threads are, and slots that both touch at once */
struct together {
	struct arena *a;
	volatile unsigned int turn[2];
};

#define NR_TOUCHED	(100 * NR)

/* to have come to number @turn, and wait for the other */
static void meet(struct together *t, int me, unsigned int turn)
{
	t->turn[me] = turn;
	while (t->turn[!me] < turn)
		sched_yield();
}

static void touch_in_turn(struct together *t, int me)
{
	unsigned int i;

	for (i = 0; i < NR_TOUCHED; i++) {
		if (!me && i % NR == 0 &&
		    (recycle(t->a, DROP, 0, NR) || handout_at(t->a, 0, NR, 0)))
			exit(1);
		meet(t, me, 2 * i + 1);
		slot_of(t->a, i % NR)[me * PAGE] = 1;
		meet(t, me, 2 * i + 2);
	}
}

static void *touch_as_second(void *arg)
{
	touch_in_turn(arg, 1);
	return NULL;
}

/* a slot that got its memory twice at once is no worse for the next run */
TEST_F(arena, two_may_touch_a_slot_first)
{
	struct arena *a = &self->a;
	struct together t = { .a = a };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, touch_as_second, &t));
	touch_in_turn(&t, 0);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, recycle(a, DROP, 0, NR));
	EXPECT_EQ(0, handout(a, NR, COMMIT));
}

TEST_F(arena, keeps_data_over_mprotect_of_a_page)
{
	char *p = slot_of(&self->a, 1);

	fill(p, 1);
	ASSERT_EQ(0, mprotect(p + 5 * PAGE, PAGE, PROT_READ));
	EXPECT_TRUE(filled(p, 1));
	EXPECT_EQ(SIGSEGV, touch(p + 5 * PAGE, true));
	EXPECT_EQ(0, touch(p + 4 * PAGE, true));
	ASSERT_EQ(0, mprotect(p + 5 * PAGE, PAGE, PROT_NONE));
	EXPECT_EQ(SIGSEGV, touch(p + 5 * PAGE, false));
	ASSERT_EQ(0, mprotect(p + 5 * PAGE, PAGE, RW));
	EXPECT_TRUE(filled(p, 1));
	fill(p, 2);
	EXPECT_TRUE(filled(p, 2));
	/* recycling finds all of it, however it is mapped */
	ASSERT_EQ(0, recycle(&self->a, FRESH, 1, 1));
	EXPECT_TRUE(all_zero(p, SLOT));
}

TEST_F(arena, keeps_data_over_every_madvise)
{
	int advice[] = {
		MADV_DONTNEED, MADV_NOHUGEPAGE, MADV_HUGEPAGE, MADV_COLD,
		MADV_PAGEOUT, MADV_WILLNEED, MADV_RANDOM, MADV_SEQUENTIAL,
		MADV_FREE, MADV_REMOVE, MADV_COLLAPSE, MADV_MERGEABLE,
		MADV_DONTNEED,
	};
	char *p = slot_of(&self->a, 1);
	size_t i;

	fill(p, 1);
	fill(p + SLOT, 2);
	for (i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		madvise(p + 7 * PAGE, PAGE, advice[i]);
		EXPECT_EQ(1, *(uint64_t *)p);
		madvise(p, 2 * SLOT, advice[i]);
		EXPECT_TRUE(filled(p, 1)) {
			TH_LOG("advice %d", advice[i]);
		}
	}
	EXPECT_TRUE(filled(p + SLOT, 2));
	EXPECT_EQ(NR, stats_of(&self->a).resident);
}

static long mlocked_kb(void)
{
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Mlocked: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

TEST_F(arena, keeps_data_over_mlock)
{
	char *p = slot_of(&self->a, 1);
	long before = mlocked_kb();
	int i;

	fill(p, 1);
	fill(p + SLOT, 2);
	ASSERT_EQ(0, mlock(p + 3 * PAGE, PAGE));
	EXPECT_TRUE(filled(p, 1));
	ASSERT_EQ(0, munlock(p + 3 * PAGE, PAGE));
	ASSERT_EQ(0, mlock(p, 2 * SLOT));
	EXPECT_TRUE(filled(p, 1));
	EXPECT_TRUE(filled(p + SLOT, 2));
	ASSERT_EQ(0, munlock(p + SLOT + 3 * PAGE, PAGE));
	EXPECT_TRUE(filled(p + SLOT, 2));

	/* a folio does not stay locked for its next owner */
	ASSERT_EQ(0, recycle(&self->a, DROP, 1, 2));
	for (i = 0; i < 200 && mlocked_kb() > before; i++)
		usleep(10000);
	EXPECT_GE(before, mlocked_kb());
}

TEST_F(arena, may_be_unmapped_in_part)
{
	struct arena *a = &self->a;
	char *p;

	fill(slot_of(a, 0), 0);
	fill(slot_of(a, 1), 1);
	fill(slot_of(a, 4), 4);
	/* a slot, half a slot, and something else in place of a half */
	ASSERT_EQ(0, munmap(slot_of(a, 2), SLOT));
	ASSERT_EQ(0, munmap(slot_of(a, 3) + SLOT / 2, SLOT / 2));
	p = mmap(slot_of(a, 1) + SLOT / 2, SLOT / 2, RW,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(all_zero(p, SLOT / 2));
	memset(p, 1, SLOT / 2);

	EXPECT_EQ(SIGSEGV, touch(slot_of(a, 2), false));
	EXPECT_EQ(0, touch(slot_of(a, 3), true));
	EXPECT_TRUE(filled(slot_of(a, 0), 0));
	EXPECT_TRUE(filled(slot_of(a, 4), 4));
	EXPECT_EQ(1, *(uint64_t *)slot_of(a, 1));
	EXPECT_EQ(NR, stats_of(a).handed_out);
	EXPECT_EQ(NR, stats_of(a).resident);
	EXPECT_EQ(0, recycle(a, DROP, 1, 3));
	EXPECT_EQ(0, recycle(a, FRESH, 4, 1));
	EXPECT_TRUE(all_zero(slot_of(a, 4), SLOT));
	EXPECT_EQ(NR - 3, stats_of(a).resident);

	/* the last part takes everything with it */
	ASSERT_EQ(0, munmap(a->base, self->size));
	EXPECT_EQ(-EBADFD, handout(a, 1, 0));
	EXPECT_TRUE(nothing_leaked());
	a->base = NULL;
}

TEST_F(arena, stays_where_it_is)
{
	struct arena *a = &self->a;
	char *room, *p = slot_of(a, 1);

	fill(p, 1);
	room = mmap(NULL, self->size + SLOT, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	room = (char *)(((uintptr_t)room + SLOT - 1) & ~(SLOT - 1));

	EXPECT_EQ(MAP_FAILED, mremap(a->base, self->size, self->size,
				     MREMAP_MAYMOVE | MREMAP_FIXED, room));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mremap(p, SLOT, SLOT,
				     MREMAP_MAYMOVE | MREMAP_FIXED, room));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mremap(p + PAGE, PAGE, PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, room));
	EXPECT_EQ(MAP_FAILED, mremap(p, SLOT, SLOT,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	/* nor does it grow or double */
	EXPECT_EQ(MAP_FAILED, mremap(a->base, self->size, 2 * self->size,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(a->base, 0, self->size, MREMAP_MAYMOVE));

	EXPECT_TRUE(filled(p, 1));
	fill(p, 2);
	EXPECT_TRUE(filled(p, 2));
	EXPECT_EQ(NR, stats_of(a).resident);
	EXPECT_EQ(0, handout_at(a, NR, 1, COMMIT));
	EXPECT_EQ(0, touch(slot_of(a, NR), true));
	/* it may shrink */
	EXPECT_EQ(a->base, mremap(a->base, self->size, self->size - SLOT, 0));
	EXPECT_EQ(0, touch(slot_of(a, NR), true));
}

TEST_F(arena, cannot_be_executed_unless_asked_for)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	struct arena b = { .fd = open(HKR_DEVICE, O_RDWR) };
	void *p;

	EXPECT_EQ(-1, mprotect(self->a.base, SLOT, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect((void *)self->a.header, PAGE,
			       PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);

	ASSERT_EQ(0, hkr_setup(b.fd, 2, 0, &b.setup));
	EXPECT_EQ(-EACCES, hkr_map(&b, RW | PROT_EXEC));
	EXPECT_EQ(0, hkr_map(&b, RW));
	arena_close(&b);

	b.fd = open(HKR_DEVICE, O_RDWR);
	ASSERT_EQ(0, hkr_setup(b.fd, 2, HKR_SETUP_EXEC, &b.setup));
	p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, b.fd,
		 b.setup.control_offset);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EACCES, errno);
	ASSERT_EQ(0, hkr_map(&b, RW | PROT_EXEC));
	ASSERT_EQ(0, handout(&b, 1, COMMIT));
	memcpy(b.base, code, sizeof(code));
	EXPECT_EQ(42, ((int (*)(void))(void *)b.base)());
	ASSERT_EQ(0, mprotect(b.base, SLOT, RW));
	EXPECT_EQ(0, mprotect(b.base, SLOT, PROT_READ | PROT_EXEC));
	EXPECT_EQ(42, ((int (*)(void))(void *)b.base)());
	arena_close(&b);
}

TEST_F(arena, is_mapped_once_whole_shared_and_aligned)
{
	struct arena *a = &self->a;
	struct arena b = { .fd = open(HKR_DEVICE, O_RDWR) };
	size_t size = 4 * SLOT;
	char *room, *ro;
	int fd;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, self->size, RW, MAP_SHARED, a->fd, 0));
	EXPECT_EQ(EBUSY, errno);

	ASSERT_EQ(0, hkr_setup(b.fd, 4, 0, &b.setup));
	room = mmap(NULL, 8 * SLOT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	room = (char *)(((uintptr_t)room + SLOT - 1) & ~(SLOT - 1));
#define EXPECT_EINVAL(addr, size, prot, flags, off) do {		\
	EXPECT_EQ(MAP_FAILED, mmap(addr, size, prot, flags, b.fd, off));\
	EXPECT_EQ(EINVAL, errno);					\
} while (0)
	EXPECT_EINVAL(NULL, size, RW, MAP_PRIVATE, 0);
	EXPECT_EINVAL(NULL, PAGE, RW, MAP_PRIVATE, HKR_OFF_CONTROL);
	EXPECT_EINVAL(room + PAGE, size, RW, MAP_SHARED | MAP_FIXED, 0);
	EXPECT_EINVAL(room + SLOT / 2, size, RW, MAP_SHARED | MAP_FIXED, 0);
	EXPECT_EINVAL(NULL, size - SLOT, RW, MAP_SHARED, 0);
	EXPECT_EINVAL(NULL, size - PAGE, RW, MAP_SHARED, 0);
	EXPECT_EINVAL(NULL, size + SLOT, RW, MAP_SHARED, 0);
	EXPECT_EINVAL(NULL, size, RW, MAP_SHARED, SLOT);
	EXPECT_EINVAL(NULL, size, RW, MAP_SHARED, PAGE);
	EXPECT_EINVAL(NULL, PAGE, RW, MAP_SHARED, HKR_OFF_CONTROL + PAGE);
	EXPECT_EINVAL(NULL, b.setup.control_size + PAGE, RW, MAP_SHARED,
		      HKR_OFF_CONTROL);
	EXPECT_EQ(0, hkr_map(&b, RW));
	EXPECT_EQ(0, handout(&b, 4, COMMIT));
	arena_close(&b);

	/* a file that was opened for reading is no way round */
	fd = open(HKR_DEVICE, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, hkr_setup(fd, 4, 0, &b.setup));
	ro = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	EXPECT_EQ(MAP_FAILED, ro);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, RW, MAP_SHARED, fd,
				   HKR_OFF_CONTROL));
	close(fd);
}

TEST_F(arena, has_control_pages_that_may_be_mapped_again)
{
	struct arena *a = &self->a;
	volatile uint64_t *words;
	char *p;

	p = mmap(NULL, a->setup.control_size, RW, MAP_SHARED, a->fd,
		 a->setup.control_offset);
	ASSERT_NE(MAP_FAILED, p);
	words = (void *)(p + a->setup.words_offset);
	EXPECT_EQ(words[0], word_of(a, 0));
	mark_idle(a, 0);
	EXPECT_EQ(words[0], word_of(a, 0));
	ASSERT_EQ(0, munmap(p, a->setup.control_size));
	EXPECT_EQ(1, stats_of(a).idle);
	/* the header alone, for those who only want to read it */
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, a->fd,
		 a->setup.control_offset);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(HKR_CONTROL_MAGIC, *(uint32_t *)p);
}

static bool has_vm_flag(void *addr, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false, has = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (uintptr_t)addr >= start &&
				 (uintptr_t)addr < end;
		else if (inside && !strncmp(line, "VmFlags:", 8))
			has = strstr(line, flag);
	}
	if (f)
		fclose(f);
	return has;
}

/* ---- what hakmem_region(4) says that is otherwise than with anonymous memory ---- */

static int futex(uint32_t *word, int op, uint32_t value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0) < 0 ?
	       -errno : 0;
}

TEST_F(arena, has_private_futexes_only)
{
	uint32_t *word = (void *)slot_of(&self->a, 1);

	*word = 1;
	EXPECT_EQ(-EFAULT, futex(word, FUTEX_WAKE, 1));
	EXPECT_EQ(-EFAULT, futex(word, FUTEX_WAIT, 0));
	EXPECT_EQ(0, futex(word, FUTEX_WAKE_PRIVATE, 1));
	EXPECT_EQ(-EAGAIN, futex(word, FUTEX_WAIT_PRIVATE, 0));
}

TEST_F(arena, is_neither_merged_nor_wiped_on_fork)
{
	char *p = slot_of(&self->a, 1);

	fill(p, 1);
	/* where the kernel merges at all */
	EXPECT_TRUE(!madvise(p, SLOT, MADV_MERGEABLE) || errno == EINVAL);
	EXPECT_FALSE(has_vm_flag(p, " mg"));
	EXPECT_EQ(-1, madvise(p, SLOT, MADV_WIPEONFORK));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_FALSE(has_vm_flag(p, " wf"));
	EXPECT_TRUE(filled(p, 1));
}

static int touch_in_child(void *p)
{
	return touch(p, false);
}

TEST_F(arena, may_be_kept_from_children)
{
	struct arena *a = &self->a;

	fill(slot_of(a, 1), 1);
	ASSERT_EQ(0, madvise(a->base, self->size, MADV_DONTFORK));
	EXPECT_EQ(SIGSEGV, in_child(touch_in_child, slot_of(a, 1)));
	ASSERT_EQ(0, madvise(a->base, self->size, MADV_DOFORK));
	EXPECT_EQ(0, in_child(touch_in_child, slot_of(a, 1)));
	EXPECT_TRUE(filled(slot_of(a, 1), 1));
}

/* HANDOUT says the node: a policy is taken and says nothing */
TEST_F(arena, has_a_policy_of_its_own)
{
	char *p = slot_of(&self->a, 1);
	unsigned long nodes = 1;
	int mode = -1;

	fill(p, 1);
	EXPECT_EQ(0, syscall(SYS_mbind, p, SLOT, MPOL_BIND, &nodes,
			     8 * sizeof(nodes), MPOL_MF_MOVE));
	EXPECT_EQ(0, syscall(SYS_get_mempolicy, &mode, NULL, 0UL, p,
			     MPOL_F_ADDR));
	EXPECT_EQ(MPOL_LOCAL, mode);
	EXPECT_TRUE(filled(p, 1));
}

TEST_F(arena, has_no_faults_for_user_space)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)slot_of(&self->a, 1), SLOT },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &reg));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

TEST_F(arena, is_in_core_dumps_only_when_asked_for)
{
	struct arena b = { .fd = open(HKR_DEVICE, O_RDWR) };

	EXPECT_TRUE(has_vm_flag(self->a.base, " dd"));
	EXPECT_TRUE(has_vm_flag(self->a.base, " de"));
	ASSERT_EQ(0, hkr_setup(b.fd, 2, HKR_SETUP_DUMP, &b.setup));
	ASSERT_EQ(0, hkr_map(&b, RW));
	EXPECT_FALSE(has_vm_flag(b.base, " dd"));
	arena_close(&b);
}

TEST_F(arena, outlives_its_descriptor)
{
	struct arena *a = &self->a;
	int fd;

	fill(slot_of(a, 0), 1);
	close(a->fd);
	EXPECT_TRUE(filled(slot_of(a, 0), 1));
	EXPECT_EQ(0, touch(slot_of(a, 1), true));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(a, 1));
	EXPECT_EQ(NR, sysfs("resident"));
	/* the control pages too */
	ASSERT_EQ(0, munmap(a->base, self->size));
	EXPECT_TRUE(nothing_leaked());
	EXPECT_EQ(HKR_CONTROL_MAGIC, a->header->magic);
	EXPECT_EQ(HKR_WORD_EMPTY, word_state(a, 1));
	ASSERT_EQ(0, munmap((void *)a->header, a->setup.control_size));

	/* and the other way round */
	fd = open(HKR_DEVICE, O_RDWR);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, arena_open(a, 4));
	ASSERT_EQ(0, handout(a, 4, COMMIT));
	ASSERT_EQ(0, munmap((void *)a->header, a->setup.control_size));
	a->header = NULL;
	EXPECT_EQ(0, recycle(a, DROP, 0, 1));
	ASSERT_EQ(0, munmap(a->base, a->setup.arena_size));
	a->base = NULL;
	EXPECT_TRUE(nothing_leaked());
}

TEST_HARNESS_MAIN
