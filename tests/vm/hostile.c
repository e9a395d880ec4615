// SPDX-License-Identifier: GPL-2.0
/*
 * A process that lies in its words, or calls at random, harms only itself: the
 * kernel's records stay true, another process keeps its data, and every folio
 * comes back. settings loads the module without a reserve, so that all of it may
 * go.
 */
#include "reclaim.h"
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>
#include "harness.h"

#define NR_SLOTS	64
#define SECONDS		2
#define KILLS		40
#define TAKEN_KILLS	200	/* while the kernel takes; else HK_KILLS */
#define VICTIMS		3	/* of these, at once */
#define RECLAIM		"hakmem_region/hkr_reclaim"

static volatile bool stop;

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static time_t now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static bool time_is_up(time_t start)
{
	return now_seconds() - start > SECONDS;
}

/* all of the control pages, header and words */
static void scribble(struct arena *a, volatile uint64_t *p, uint64_t *seed)
{
	size_t n = a->setup.control_size / 8;
	size_t words = a->setup.words_offset / 8;
	uint64_t i, r;

	for (i = 0; i < 16; i++)
		p[rnd(seed) % n] = rnd(seed);
	/* words that look good are the better lies */
	for (i = 0; i < 64; i++) {
		r = rnd(seed);
		p[words + r % NR_SLOTS] = HKR_WORD_MAKE(r >> 8 & 3,
							r >> 16 & 0xff,
							r >> 24 & 0x3f);
	}
}

/* as fast as it goes */
static void *scribbler(void *arg)
{
	struct arena *a = arg;
	uint64_t seed = 42;

	while (!stop)
		scribble(a, (void *)a->header, &seed);
	return NULL;
}

/* one more mapping of the control pages, for those who write through it */
struct second {
	struct arena *a;
	char *p;
	volatile long written, lost;	/* rounds that ended, and that did not */
};

/* meets what is not mapped, in the middle of a write */
static void *scribbler_through_second(void *arg)
{
	struct sigaction sa = { .sa_handler = hkr_on_bus };
	struct second *second = arg;
	uint64_t seed = 43;

	sigaction(SIGSEGV, &sa, NULL);
	while (!stop) {
		if (sigsetjmp(hkr_bus_env, 1)) {
			second->lost++;
			continue;
		}
		hkr_bus_expected = true;
		scribble(second->a, (void *)second->p, &seed);
		hkr_bus_expected = false;
		second->written++;
	}
	return NULL;
}

/*
 * Unmapped by what is mapped over it, a page at a time: the address is nobody else's
 * then, who would be written to.
 */
static bool map_and_unmap(struct second *second)
{
	struct hkr_setup *s = &second->a->setup;
	long before = second->written;
	size_t i;

	if (mmap(second->p, s->control_size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, second->a->fd,
		 s->control_offset) != second->p)
		return false;
	while (second->written == before)
		sched_yield();
	for (i = 0; i < s->control_size; i += PAGE)
		if (mmap(second->p + i, PAGE, PROT_NONE, MAP_PRIVATE |
			 MAP_ANONYMOUS | MAP_FIXED, -1, 0) != second->p + i)
			return false;
	return true;
}

static long random_call(struct arena *a, uint64_t *seed)
{
	uint64_t r = rnd(seed);
	uint32_t first = r >> 8 & (NR_SLOTS - 1), nr = 1 + (r >> 16 & 7);
	uint32_t to = r >> 24 & (NR_SLOTS - 1);

	switch (r % 10) {
	case 0:
		return handout(a, nr, COMMIT);
	case 1:
		return handout_at(a, first, nr, r >> 32 & 1);
	case 2:
		return handout(a, nr, COMMIT | FROM_IDLE);
	case 3:
		return handout_at(a, first, nr, COMMIT | FROM_IDLE);
	case 4:
		return trim(a, r >> 32 & 255, r >> 40 & 7);
	case 5:
		return recycle_to(a, MOVE, first, nr, to);
	case 6:
		return touch(slot_of(a, first) + to * PAGE, true);
	default:
		return recycle(a, r >> 32 & 3, first, nr);
	}
}

/* what must hold whatever the words say */
static bool stats_are_sane(struct arena *a)
{
	struct hkr_stats st = stats_of(a);

	return st.nr_slots == a->setup.nr_slots &&
	       st.handed_out <= st.nr_slots && st.resident <= st.handed_out &&
	       st.idle <= st.resident &&
	       st.handed_out == st.handouts - st.dropped - st.trimmed -
				st.moved - st.reclaimed - st.served_idle;
}

FIXTURE(liar)
{
	struct arena a;
	pid_t neighbour;
	int sock[2];
};

/* another process, which checks its data until it is told to end */
static int neighbour(void)
{
	struct arena b;
	int i;

	if (arena_open(&b, 8) || handout(&b, 4, COMMIT))
		return 1;
	for (i = 0; i < 4; i++)
		fill(slot_of(&b, i), i);
	while (getppid() != 1 && !stop)
		for (i = 0; i < 4; i++)
			if (!filled(slot_of(&b, i), i))
				return 2;
	return stats_of(&b).resident == 4 ? 0 : 3;
}

static void on_term(int sig)
{
	stop = true;
}

FIXTURE_SETUP(liar)
{
	stop = false;
	/* the neighbour's: it may be told to end before it has run at all */
	signal(SIGTERM, on_term);
	self->neighbour = fork();
	if (!self->neighbour)
		_exit(neighbour());
	signal(SIGTERM, SIG_DFL);
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
}

FIXTURE_TEARDOWN(liar)
{
	int status;

	kill(self->neighbour, SIGTERM);
	EXPECT_EQ(self->neighbour, waitpid(self->neighbour, &status, 0));
	EXPECT_EQ(0, status);
	arena_close(&self->a);
	EXPECT_TRUE(nothing_leaked());
}

/* the records still know what is handed out: drop exactly that */
static bool is_as_good_as_new(struct arena *a)
{
	struct hkr_stats st;
	uint64_t i;

	for (i = 0; i < a->setup.nr_slots; i++)
		recycle(a, DROP, i, 1);
	st = stats_of(a);
	return stats_are_sane(a) && !st.handed_out && !st.resident &&
	       !handout_at(a, 0, 8, COMMIT) && all_zero(a->base, 8 * SLOT) &&
	       word_state(a, 0) == HKR_WORD_BUSY &&
	       word_state(a, 7) == HKR_WORD_BUSY;
}

TEST_F(liar, scribbling_over_its_words_harms_only_itself)
{
	struct arena *a = &self->a;
	uint64_t seed = 4711;
	pthread_t thread;
	time_t start = now_seconds();
	long calls = 0;

	ASSERT_EQ(0, pthread_create(&thread, NULL, scribbler, a));
	for (; calls < 100 || !time_is_up(start); calls++) {
		random_call(a, &seed);
		ASSERT_TRUE(stats_are_sane(a));
	}
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(is_as_good_as_new(a));
}

TEST_F(liar, scribbling_through_a_mapping_that_goes_harms_only_itself)
{
	struct arena b;
	struct second second = { .a = &b };
	time_t start = now_seconds();
	uint64_t seed = 4712;
	pthread_t thread;
	long rounds = 0;

	/* of several pages, so that there are parts to unmap */
	ASSERT_EQ(0, arena_open(&b, 1024));
	ASSERT_LT(PAGE, b.setup.control_size);
	second.p = mmap(NULL, b.setup.control_size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, second.p);
	ASSERT_EQ(0, pthread_create(&thread, NULL, scribbler_through_second,
				    &second));
	for (; rounds < 20 || !time_is_up(start); rounds++) {
		ASSERT_TRUE(map_and_unmap(&second));
		random_call(&b, &seed);
		ASSERT_TRUE(stats_are_sane(&b));
	}
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LT(0, second.lost);
	EXPECT_TRUE(is_as_good_as_new(&b));
	munmap(second.p, b.setup.control_size);
	arena_close(&b);
}

TEST_F(liar, calling_with_random_structures_harms_only_itself)
{
	static struct hkr_handout_req array[8];
	struct arena *a = &self->a;
	uint64_t seed = 815, arg[32], i, r;
	time_t start = now_seconds();

	while (!time_is_up(start)) {
		for (i = 0; i < sizeof(array) / 8; i++) {
			r = rnd(&seed);
			((uint64_t *)array)[i] = r & 1 ? r >> (r >> 58) : 0;
		}
		for (i = 0; i < 32; i++) {
			r = rnd(&seed);
			/* small numbers, pointers and noise */
			if (r & 1)
				arg[i] = r >> 8 & 7;
			else if (r & 2)
				arg[i] = (uintptr_t)array;
			else
				arg[i] = r & 4 ? 0 : r;
		}
		/* size, and no flags */
		arg[0] = 8 * (1 + (seed >> 20) % 24);
		hkr_call(a->fd, _IO(HKR_IOC_MAGIC, 0x80 + (seed >> 8) % 8),
			 arg);
		random_call(a, &seed);
		ASSERT_TRUE(seed % 16 || stats_are_sane(a));
	}
	stop = true;
}

static void *caller(void *arg)
{
	uint64_t seed = (uintptr_t)&seed;
	struct arena *a = arg;

	while (!stop)
		random_call(a, &seed);
	return NULL;
}

/* calls of several threads; file and arena vanish under them, either one first */
TEST_F(liar, unmapping_under_its_own_calls_harms_only_itself)
{
	struct arena *a = &self->a;
	time_t start = now_seconds();
	pthread_t thread[2];
	struct arena b;
	int i, rounds = 0;
	bool closed;

	while (!time_is_up(start)) {
		stop = false;
		ASSERT_EQ(0, arena_open(&b, NR_SLOTS));
		for (i = 0; i < 2; i++)
			ASSERT_EQ(0, pthread_create(&thread[i], NULL, caller,
						    &b));
		usleep(20000);
		closed = rounds++ % 2;
		if (closed)
			close(b.fd);
		munmap(b.base, b.setup.arena_size);
		usleep(2000);
		stop = true;
		for (i = 0; i < 2; i++)
			pthread_join(thread[i], NULL);
		if (closed)
			b.fd = -1;
		else
			ASSERT_EQ(-EBADFD, handout(&b, 1, COMMIT));
		b.base = NULL;
		arena_close(&b);
		/* the tick may have had a slot in its hands */
		ASSERT_TRUE(sysfs_becomes("resident", 4));
	}
	EXPECT_EQ(0, stats_of(a).handed_out);
}

/* a child, and threads of it, at work until it is killed */
static int works(void)
{
	pthread_t thread;
	struct arena b;
	int i;

	if (arena_open(&b, NR_SLOTS))
		return 1;
	for (i = 0; i < 2; i++)
		if (pthread_create(&thread, NULL, i ? scribbler : caller, &b))
			return 2;
	caller(&b);
	return 3;
}

/* how a child ended that was killed just now */
static int killed(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* in a call, in a touch, with threads in both */
TEST_F(liar, being_killed_at_any_point_harms_only_itself)
{
	uint64_t seed = 99;
	int n;
	pid_t pid;

	for (n = 0; n < KILLS; n++) {
		pid = fork();
		if (!pid)
			_exit(works());
		usleep(rnd(&seed) % 40000);
		ASSERT_EQ(SIGKILL, killed(pid));
		/* the neighbour's */
		ASSERT_TRUE(sysfs_becomes("resident", 4));
	}
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_EQ(4, stats_of(&self->a).user_charged);
}

/* frees what is in use, and takes again what is still there and writes to it */
static void flip(struct arena *b, uint64_t idx)
{
	uint64_t seen = word_of(b, idx);

	if (HKR_WORD_STATE(seen) == HKR_WORD_BUSY)
		mark_idle(b, idx);
	else if (HKR_WORD_STATE(seen) == HKR_WORD_IDLE && take_again(b, idx, seen))
		memset(slot_of(b, idx), 0xee, PAGE);
}

/* memory that was another's is zero, and is written to where the next one would look */
static bool gets_zeroed(struct arena *b, uint32_t nr)
{
	long first = handout(b, nr, COMMIT), i;

	for (i = first; first >= 0 && i < first + nr; i++) {
		if (!all_zero(slot_of(b, i), PAGE))
			return false;
		memset(slot_of(b, i), 0xee, PAGE);
	}
	return true;
}

/* a child whose words are true: the kernel may take most of it at any time */
static int frees_and_reuses(uint64_t seed)
{
	struct arena b;
	int i;

	/* what is idle goes at the next tick */
	if (arena_open_decay(&b, NR_SLOTS, 0))
		return 1;
	for (;;) {
		if (!gets_zeroed(&b, 8))
			return 2;
		for (i = 0; i < NR_SLOTS; i++)
			flip(&b, i);
		random_call(&b, &seed);
	}
}

/* slots, beyond what the pool has; not all the time, so that the tick finds some */
static void *taker(void *arg)
{
	volatile bool *fires = arg;
	struct shrunk s;

	while (!stop)
		if (!*fires || shrink(8 + sysfs("pool_depth"), &s))
			usleep(1000);
	return NULL;
}

static pid_t start_victim(uint64_t *seed)
{
	uint64_t its = rnd(seed);
	pid_t pid = fork();

	if (!pid) {
		/* also where an assertion ends the test */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(frees_and_reuses(its));
	}
	return pid;
}

/* with a slot of it in the hands of reclaim or of the tick */
TEST_F(liar, being_killed_while_the_kernel_takes_from_it_harms_only_itself)
{
	long kills = env_number("HK_KILLS", TAKEN_KILLS), n;
	int by_trigger, by_decay, i;
	volatile bool fires = false;
	time_t start = now_seconds();
	pid_t victim[VICTIMS];
	uint64_t seed = 77;
	pthread_t thread;

	for (i = 0; i < VICTIMS; i++)
		victim[i] = start_victim(&seed);
	ASSERT_EQ(0, trace_on(RECLAIM, "0"));
	ASSERT_EQ(0, pthread_create(&thread, NULL, taker, (void *)&fires));
	for (n = 0; n < kills; n++) {
		fires = n / VICTIMS % 2;
		usleep(rnd(&seed) % 60000);
		i = rnd(&seed) % VICTIMS;
		/* not of SIGBUS in what it uses, nor of what another one wrote */
		ASSERT_EQ(SIGKILL, killed(victim[i]));
		victim[i] = start_victim(&seed);
	}
	trace_off(RECLAIM);
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	for (i = 0; i < VICTIMS; i++)
		ASSERT_EQ(SIGKILL, killed(victim[i]));
	by_trigger = trace_each("hkr_reclaim:", " why=trigger", NULL, NULL);
	by_decay = trace_each("hkr_reclaim:", " why=decay", NULL, NULL);
	TH_LOG("%ld killed in %ld s, %d slots taken by the trigger, %d by decay",
	       n, (long)(now_seconds() - start), by_trigger, by_decay);
	EXPECT_LT(kills / 2, by_trigger);
	EXPECT_LT(kills / 2, by_decay);
	/* the neighbour's */
	EXPECT_TRUE(sysfs_becomes("resident", 4));
	EXPECT_TRUE(sysfs_becomes("orphans", 0));
	EXPECT_EQ(4, stats_of(&self->a).user_charged);
}

/* how many of the first slots have lost their memory */
static int nr_lost(struct arena *a, int nr)
{
	return nr - (int)stats_of(a).resident;
}

/* every stamp and generation there is: the memory can be had all the same */
TEST_F(liar, wild_stamps_keep_nothing_from_reclaim)
{
	static const uint64_t epochs[] = {
		0, 1, 1 << 28, (1 << 29) - 1, 1 << 29, (1 << 29) + 1,
		(1 << 30) - 2, (1 << 30) - 1,
	};
	struct arena *a = &self->a;
	uint64_t gen[16], now = a->header->epoch;
	struct shrunk s;
	int i;

	ASSERT_EQ(0, handout_at(a, 0, 17, COMMIT));
	for (i = 0; i < 16; i++) {
		gen[i] = word_gen(a, i);
		a->words[i] = HKR_WORD_MAKE(HKR_WORD_IDLE, now + epochs[i / 2],
					    i % 2 ? ~0ULL : gen[i] - i);
	}
	fill(slot_of(a, 16), 16);
	for (i = 0; i < 2000 && nr_lost(a, 17) < 16; i++)
		ASSERT_EQ(0, shrink(8, &s));
	EXPECT_EQ(16, nr_lost(a, 17));
	EXPECT_TRUE(filled(slot_of(a, 16), 16));
	/* the kernel's own generations go on from where they were */
	ASSERT_EQ(0, handout_at(a, 0, 16, COMMIT));
	for (i = 0; i < 16; i++)
		EXPECT_EQ((uint32_t)gen[i] + 2, word_gen(a, i));
}

static void *toucher(void *arg)
{
	struct arena *a = arg;
	uint64_t seed = 1234;
	int i;

	while (!stop) {
		i = rnd(&seed) % 16;
		touch(slot_of(a, i) + rnd(&seed) % SLOT, true);
	}
	return NULL;
}

/* a touch finds what was there, or is SIGBUS: no third thing */
TEST_F(liar, touching_what_the_kernel_takes_harms_only_itself)
{
	struct arena *a = &self->a;
	time_t start = now_seconds();
	pthread_t thread;
	struct shrunk s;
	int i;

	ASSERT_EQ(0, pthread_create(&thread, NULL, toucher, a));
	while (!time_is_up(start)) {
		handout_at(a, 0, 16, COMMIT);
		for (i = 0; i < 16; i++)
			mark_idle(a, i);
		ASSERT_EQ(0, shrink(1 + sysfs("pool_depth"), &s));
		ASSERT_EQ(0, shrink(4, &s));
	}
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LT(0, stats_of(a).reclaimed);

	/* EMPTY by the record, whatever the word says */
	for (i = 0; i < 16; i++)
		recycle(a, DROP, i, 1);
	for (i = 0; i < 4; i++) {
		a->words[i] = HKR_WORD_MAKE((uint64_t)i, 0ULL, 1ULL);
		EXPECT_EQ(SIGBUS, touch(slot_of(a, i), true));
	}
	/* and the other way round: what is handed out stays, and may be dropped */
	ASSERT_EQ(0, handout_at(a, 0, 2, COMMIT));
	fill(slot_of(a, 0), 3);
	a->words[0] = HKR_WORD_MAKE(HKR_WORD_RECLAIM, 0ULL, 1ULL);
	a->words[1] = HKR_WORD_EMPTY;
	EXPECT_EQ(0, touch(slot_of(a, 1), true));
	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, shrink(64, &s));
	EXPECT_EQ(0, trim(a, 0, 0));
	EXPECT_TRUE(filled(slot_of(a, 0), 3));
	EXPECT_EQ(2, stats_of(a).resident);
	EXPECT_EQ(0, recycle(a, DROP, 0, 2));
}

TEST_HARNESS_MAIN
