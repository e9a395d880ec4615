// SPDX-License-Identifier: GPL-2.0
/*
 * Every allocation on the way fails once, on a kernel with fault injection.
 *
 * A whole life of an arena is a list of steps. It is lived again and again, and
 * in the n-th round the n-th allocation of this thread, from a slab or of pages,
 * fails (/proc/thread-self/fail-nth). A step that does not get over it says
 * ENOMEM, or SIGBUS for a touch, and has changed nothing: the same step is then
 * done again, and the life goes on to its end, with the right contents. The
 * sweep is over when a whole life needed fewer than n allocations. settings
 * gives the module no reserve, so that slots need memory from the kernel.
 *
 * A sweep takes minutes. HK_EVERY=n in the environment has every n-th allocation
 * fail, from another first one on each time; HK_FIRST=k says which, to see again
 * what failed.
 */
#include "group.h"
#include <sys/syscall.h>
#include "harness.h"

#define G		"/hkr"
#define NR_SLOTS	1024	/* more than a page of words */
#define FAR		1000
#define MODULE		"modules/plain.ko"
#define EXPEDITED	"/sys/kernel/rcu_expedited"
#define MOST		2000	/* allocations in one life, at the very most */
#define AROUND		10

/* ---- fault injection ---- */

static int nth_fd = -1;

static int put_setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

/* no kind of allocation is spared, and nothing is said about it */
static int inject_init(void)
{
	static const char *const settings[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
	};
	char path[128];
	size_t i;
	int ret;

	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s",
			 settings[i][0]);
		ret = put_setting(path, settings[i][1]);
		if (ret)
			return ret;
	}
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return nth_fd < 0 ? -errno : 0;
}

static void inject(unsigned int nth)
{
	char buf[16];

	snprintf(buf, sizeof(buf), "%u", nth);
	if (pwrite(nth_fd, buf, strlen(buf), 0) < 0)
		abort();
}

/* allocations still to come before one fails; none will from now on */
static unsigned int left_of(void)
{
	char buf[16] = "";

	if (pread(nth_fd, buf, sizeof(buf) - 1, 0) <= 0)
		abort();
	inject(0);
	return (unsigned int)atoi(buf);
}

/* true: an allocation has failed since inject() */
static bool injected(void)
{
	return !left_of();
}

/* ---- a life ---- */

struct life {
	struct arena a;
	int ko;		/* of the module, for a life of that kind */
};

struct step {
	const char *name;
	long (*run)(struct life *l);
};

static long do_open(struct life *l)
{
	l->a.fd = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	return l->a.fd < 0 ? -errno : 0;
}

static long do_setup(struct life *l)
{
	return hkr_setup(l->a.fd, NR_SLOTS, 0, &l->a.setup);
}

static long do_map(struct life *l)
{
	void *p = mmap(NULL, l->a.setup.arena_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED, l->a.fd, l->a.setup.arena_offset);

	if (p == MAP_FAILED)
		return -errno;
	l->a.base = p;
	return 0;
}

static long do_map_control(struct life *l)
{
	void *p = mmap(NULL, l->a.setup.control_size, PROT_READ | PROT_WRITE,
		       MAP_SHARED, l->a.fd, l->a.setup.control_offset);

	if (p == MAP_FAILED)
		return -errno;
	l->a.header = p;
	l->a.words = (void *)((char *)p + l->a.setup.words_offset);
	return 0;
}

static long do_touch(volatile void *p)
{
	return touch(p, true) ? -ENOMEM : 0;
}

static long do_read_words(struct life *l)
{
	return do_touch(&l->a.words[0]) ?: do_touch(&l->a.words[FAR]);
}

static long do_commit(struct life *l)
{
	return handout_at(&l->a, 0, 3, COMMIT);
}

static long do_handout(struct life *l)
{
	return handout_at(&l->a, FAR, 2, 0);
}

static long do_first_touch(struct life *l)
{
	return do_touch(slot_of(&l->a, 0)) ?: do_touch(slot_of(&l->a, FAR));
}

static long do_write(struct life *l)
{
	fill(slot_of(&l->a, 0), 1);
	fill(slot_of(&l->a, 1), 2);
	fill(slot_of(&l->a, 2), 3);
	return 0;
}

/* a part of a slot: the core splits the mapping, and what maps it */
static long do_protect(struct life *l)
{
	return mprotect(slot_of(&l->a, 2) + PAGE, PAGE, PROT_READ) ? -errno : 0;
}

static long do_touch_part(struct life *l)
{
	return touch(slot_of(&l->a, 2), false) ? -ENOMEM : 0;
}

static long do_move(struct life *l)
{
	return recycle_to(&l->a, MOVE, 1, 1, FAR + 1);
}

static long do_fresh(struct life *l)
{
	return recycle(&l->a, FRESH, 0, 1);
}

static long do_idle(struct life *l)
{
	return recycle(&l->a, IDLE, 0, 1);
}

static long do_from_idle(struct life *l)
{
	return handout_at(&l->a, 4, 2, COMMIT | FROM_IDLE);
}

static long do_idle_again(struct life *l)
{
	return recycle(&l->a, IDLE, 4, 2);
}

static long do_trim(struct life *l)
{
	long ret = trim(&l->a, 0, 0);

	return ret < 0 ? ret : 0;
}

static long do_drop(struct life *l)
{
	return recycle(&l->a, DROP, FAR, 1);
}

static long do_check(struct life *l)
{
	if (filled(slot_of(&l->a, 2), 3) && filled(slot_of(&l->a, FAR + 1), 2))
		return 0;
	return -EILSEQ;
}

static long do_munmap(struct life *l)
{
	if (munmap(l->a.base, l->a.setup.arena_size))
		return -errno;
	l->a.base = NULL;
	return 0;
}

static long do_close(struct life *l)
{
	arena_close(&l->a);
	return 0;
}

static const struct step arena_life[] = {
	{ "open", do_open },
	{ "SETUP", do_setup },
	{ "mmap", do_map },
	{ "mmap of the control pages", do_map_control },
	{ "read words", do_read_words },
	{ "HANDOUT with COMMIT", do_commit },
	{ "HANDOUT", do_handout },
	{ "first touch", do_first_touch },
	{ "write", do_write },
	{ "mprotect", do_protect },
	{ "touch of a part", do_touch_part },
	{ "MOVE", do_move },
	{ "FRESH", do_fresh },
	{ "IDLE", do_idle },
	{ "HANDOUT with FROM_IDLE", do_from_idle },
	{ "IDLE again", do_idle_again },
	{ "TRIM", do_trim },
	{ "DROP", do_drop },
	{ "check", do_check },
	{ "munmap", do_munmap },
	{ "close", do_close },
	{ }
};

static long do_load(struct life *l)
{
	return syscall(SYS_finit_module, l->ko, "reserve_mb=4", 0) ? -errno : 0;
}

static long do_unload(struct life *l)
{
	return syscall(SYS_delete_module, "hakmem_region", O_NONBLOCK) ?
	       -errno : 0;
}

static const struct step module_life[] = {
	{ "load", do_load },
	{ "unload", do_unload },
	{ }
};

/* ---- the sweep ---- */

struct sweep {
	unsigned int rounds;	/* lives in which an allocation failed */
	unsigned int errors;	/* of these, in which a step said so */
};

/* 1: an allocation failed; 0: there are fewer than @nth; -1: something is wrong */
static int live(const struct step *steps, unsigned int nth, struct life *l,
		struct sweep *s)
{
	const struct step *step;
	bool failed = false;

	inject(nth);
	for (step = steps; step->run; step++) {
		long ret = step->run(l);

		if (!ret)
			continue;
		if (failed || !injected() || ret != -ENOMEM) {
			inject(0);
			printf("# allocation %u: %s: %s%s\n", nth, step->name,
			       strerror(-ret), failed ? " once more" : "");
			return -1;
		}
		failed = true;
		s->errors++;
		/* once more, and then the rest */
		step--;
	}
	return failed || injected();
}

static unsigned int every(void)
{
	return (unsigned int)env_number("HK_EVERY", 1);
}

/* from allocation @nth on, until nothing is left to fail */
static int sweep(const struct step *steps, unsigned int nth, struct life *l,
		 struct sweep *s)
{
	unsigned int first = (unsigned int)env_number("HK_FIRST", getpid());
	unsigned int most = nth + MOST;
	int ret = 1;

	first %= every();
	printf("# HK_EVERY=%u HK_FIRST=%u\n", every(), first);
	for (nth += first; ret > 0 && nth < most; nth += every()) {
		l->a = (struct arena){ .fd = -1 };
		ret = live(steps, nth, l, s);
		s->rounds += ret > 0;
		if (ret < 0)
			break;
		if (steps == arena_life && !nothing_leaked()) {
			printf("# allocation %u: leaked\n", nth);
			ret = -1;
		}
	}
	printf("# %u allocations failed, %u times a call said so\n", s->rounds,
	       s->errors);
	return ret;
}

FIXTURE(arena)
{
};

FIXTURE_VARIANT(arena)
{
	bool charged;
};

FIXTURE_VARIANT_ADD(arena, of_the_pool) { .charged = false };
FIXTURE_VARIANT_ADD(arena, of_a_group) { .charged = true };

FIXTURE_SETUP(arena)
{
	ASSERT_EQ(0, inject_init());
	ASSERT_EQ(0, group_delegate(""));
	ASSERT_EQ(0, group_make(G, 200));
	if (variant->charged)
		ASSERT_EQ(0, group_enter(G));
}

FIXTURE_TEARDOWN(arena)
{
	EXPECT_EQ(0, group_enter(""));
	EXPECT_EQ(0, group_remove(G));
}

TEST_F(arena, survives_each_allocation_that_fails)
{
	struct sweep s = {};
	struct life l = {};

	EXPECT_EQ(0, sweep(arena_life, 1, &l, &s));
	/* a sweep that hits nothing proves nothing */
	EXPECT_LE(15, s.errors * every());
	EXPECT_LT(s.errors, s.rounds);
}

FIXTURE(module)
{
	int ko;
};

FIXTURE_SETUP(module)
{
	ASSERT_EQ(0, inject_init());
	/* an unload waits for RCU again and again */
	ASSERT_EQ(0, put_setting(EXPEDITED, "1"));
	self->ko = open(MODULE, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->ko);
	ASSERT_EQ(0, do_unload(NULL));
}

FIXTURE_TEARDOWN(module)
{
	struct life l = { .ko = self->ko };

	EXPECT_EQ(0, do_load(&l));
	EXPECT_EQ(0, put_setting(EXPEDITED, "0"));
	close(self->ko);
}

/*
 * Allocations of a load before the module's own begin. Those are for sections,
 * trace events and sysfs, and not ours to survive: Linux 6.12 warns when one for
 * an event's fields fails. The module refuses these parameters before it
 * allocates anything.
 */
static long before_init(int ko)
{
	inject(10 * MOST);
	if (!syscall(SYS_finit_module, ko, "reserve_mb=4 pool_max_mb=2", 0) ||
	    errno != EINVAL)
		return -1;
	return 10 * MOST - (long)left_of();
}

TEST_F(module, survives_each_allocation_that_fails)
{
	struct life l = { .ko = self->ko };
	long before = before_init(self->ko);
	struct sweep s = {};

	TH_LOG("%ld allocations before the module's own", before);
	ASSERT_LT(AROUND, before);
	/* the kernel's own vary by a page of a slab or two */
	EXPECT_EQ(0, sweep(module_life, (unsigned int)before - AROUND, &l, &s));
	EXPECT_LE(10, s.errors * every());
}

TEST_HARNESS_MAIN
