// SPDX-License-Identifier: GPL-2.0
/* Bad input: each kind has its errno and changes nothing. */
#include "hkr_test.h"
#include <stddef.h>
#include <time.h>
#include <sys/prctl.h>
#include "harness.h"

#define NR_SLOTS	16
#define BAD_POINTER	((void *)0xffff800000000000UL)

/*
 * Every command, with arguments that are right, on a file where they would
 * succeed.
 */
FIXTURE(command)
{
	struct arena a;
	struct hkr_stats before;
	struct hkr_handout_req req;
	struct hkr_range range;
	size_t size;
	union {
		char bytes[4 * PAGE];
		struct hkr_info info;
		struct hkr_setup setup;
		struct hkr_handout handout;
		struct hkr_recycle recycle;
		struct hkr_trim trim;
		struct hkr_stats stats;
		struct {
			uint32_t size;
			uint32_t flags;
		};
	} *arg;
};

FIXTURE_VARIANT(command)
{
	unsigned int cmd;
};

FIXTURE_VARIANT_ADD(command, info) { .cmd = HKR_IOC_INFO };
FIXTURE_VARIANT_ADD(command, setup) { .cmd = HKR_IOC_SETUP };
FIXTURE_VARIANT_ADD(command, handout) { .cmd = HKR_IOC_HANDOUT };
FIXTURE_VARIANT_ADD(command, recycle) { .cmd = HKR_IOC_RECYCLE };
FIXTURE_VARIANT_ADD(command, trim) { .cmd = HKR_IOC_TRIM };
FIXTURE_VARIANT_ADD(command, stats) { .cmd = HKR_IOC_STATS };

FIXTURE_SETUP(command)
{
	self->arg = mmap(NULL, sizeof(*self->arg), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->arg);
	self->req = (struct hkr_handout_req){ .nr_slots = 1, .node = -1 };
	self->range = (struct hkr_range){ .nr_slots = 1 };

	if (variant->cmd == HKR_IOC_SETUP) {
		memset(&self->a, 0, sizeof(self->a));
		self->a.fd = open(HKR_DEVICE, O_RDWR);
		ASSERT_GE(self->a.fd, 0);
		self->size = sizeof(struct hkr_setup);
		self->arg->setup.nr_slots = NR_SLOTS;
	} else {
		ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
		ASSERT_EQ(0, handout(&self->a, 2, COMMIT));
		mark_idle(&self->a, 1);
		self->before = stats_of(&self->a);
	}
	switch (variant->cmd) {
	case HKR_IOC_INFO:
		self->size = sizeof(struct hkr_info);
		break;
	case HKR_IOC_HANDOUT:
		self->size = sizeof(struct hkr_handout);
		self->arg->handout.nr = 1;
		self->arg->handout.reqs = (uintptr_t)&self->req;
		break;
	case HKR_IOC_RECYCLE:
		self->size = sizeof(struct hkr_recycle);
		self->arg->recycle.nr = 1;
		self->arg->recycle.ranges = (uintptr_t)&self->range;
		break;
	case HKR_IOC_TRIM:
		self->size = sizeof(struct hkr_trim);
		break;
	case HKR_IOC_STATS:
		self->size = sizeof(struct hkr_stats);
		break;
	}
	self->arg->size = self->size;
}

FIXTURE_TEARDOWN(command)
{
	arena_close(&self->a);
}

/* nothing was done: the counters stand, or SETUP is still to be made */
static bool unchanged(FIXTURE_DATA(command) *self, unsigned int cmd)
{
	struct hkr_setup setup;

	if (cmd == HKR_IOC_SETUP)
		return !hkr_setup(self->a.fd, 1, 0, &setup);
	return same_stats(&self->a, &self->before);
}

#define CALL()	hkr_call(self->a.fd, variant->cmd, self->arg)
#define EXPECT_UNCHANGED()	EXPECT_TRUE(unchanged(self, variant->cmd))

TEST_F(command, of_the_right_size_succeeds)
{
	EXPECT_LE(0, CALL());
}

TEST_F(command, shorter_than_the_first_version_is_einval)
{
	/* STATS has grown since */
	uint32_t first = variant->cmd == HKR_IOC_STATS ?
			 offsetof(struct hkr_stats, served_single) : self->size;
	uint32_t sizes[] = { 0, 1, 4, 8, first - 8, first - 1 };
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		self->arg->size = sizes[i];
		EXPECT_EQ(-EINVAL, CALL()) {
			TH_LOG("size %u", sizes[i]);
		}
	}
	EXPECT_UNCHANGED();
}

/* what an old program does not know is not written */
TEST_F(command, of_the_first_version_of_stats_gets_no_more)
{
	struct hkr_stats *stats = &self->arg->stats;

	if (variant->cmd != HKR_IOC_STATS)
		return;
	stats->size = offsetof(struct hkr_stats, served_single);
	stats->served_single = 77;
	EXPECT_EQ(0, CALL());
	EXPECT_EQ(NR_SLOTS, stats->nr_slots);
	EXPECT_EQ(77, stats->served_single);
}

TEST_F(command, longer_with_zeros_succeeds)
{
	self->arg->size = self->size + 8;
	EXPECT_LE(0, CALL());
	EXPECT_EQ(self->size + 8, self->arg->size);
	EXPECT_TRUE(all_zero(self->arg->bytes + self->size, 64));
}

TEST_F(command, longer_with_a_byte_set_is_e2big)
{
	size_t at[] = { 0, 7, 100 };
	size_t i;

	for (i = 0; i < sizeof(at) / sizeof(*at); i++) {
		self->arg->size = self->size + at[i] + 1;
		self->arg->bytes[self->size + at[i]] = 1;
		EXPECT_EQ(-E2BIG, CALL());
		self->arg->bytes[self->size + at[i]] = 0;
	}
	self->arg->size = 2 * PAGE;
	EXPECT_EQ(-E2BIG, CALL());
	self->arg->size = ~0U;
	EXPECT_EQ(-E2BIG, CALL());
	EXPECT_UNCHANGED();
}

TEST_F(command, with_an_unknown_flag_is_eopnotsupp)
{
	unsigned int bit;

	for (bit = variant->cmd == HKR_IOC_SETUP ? 3 : 0; bit < 32; bit++) {
		self->arg->flags = 1U << bit;
		EXPECT_EQ(-EOPNOTSUPP, CALL()) {
			TH_LOG("bit %u", bit);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(command, at_a_bad_address_is_efault)
{
	unsigned int cmd = variant->cmd;
	char *edge;

	EXPECT_EQ(-EFAULT, hkr_call(self->a.fd, cmd, NULL));
	EXPECT_EQ(-EFAULT, hkr_call(self->a.fd, cmd, BAD_POINTER));
	EXPECT_EQ(-EFAULT, hkr_call(self->a.fd, cmd, (void *)-4096L));

	/* the size can be read and the rest cannot */
	edge = self->arg->bytes + 2 * PAGE;
	ASSERT_EQ(0, munmap(edge, PAGE));
	memcpy(edge - 8, self->arg->bytes, 8);
	EXPECT_EQ(-EFAULT, hkr_call(self->a.fd, cmd, edge - 8));
	EXPECT_UNCHANGED();
}

TEST_F(command, that_cannot_be_answered_does_nothing)
{
	ASSERT_EQ(0, mprotect(self->arg, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, CALL());
	EXPECT_UNCHANGED();
}

/* A file on which everything would work. */
FIXTURE(call)
{
	struct arena a;
	struct hkr_stats before;
};

FIXTURE_SETUP(call)
{
	ASSERT_EQ(0, arena_open(&self->a, NR_SLOTS));
	ASSERT_EQ(0, handout(&self->a, 4, COMMIT));
	self->before = stats_of(&self->a);
}

FIXTURE_TEARDOWN(call)
{
	arena_close(&self->a);
}

TEST_F(call, with_an_unknown_number_is_enotty)
{
	struct hkr_info info = { .size = sizeof(info) };
	unsigned int nr, dir;

	for (nr = 0; nr < 256; nr++) {
		if (nr >= _IOC_NR(HKR_IOC_INFO) && nr <= _IOC_NR(HKR_IOC_STATS))
			continue;
		EXPECT_EQ(-ENOTTY, hkr_call(self->a.fd,
					    _IO(HKR_IOC_MAGIC, nr), &info));
	}
	/* numbers that are known, with a direction or a size */
	for (nr = _IOC_NR(HKR_IOC_INFO); nr <= _IOC_NR(HKR_IOC_STATS); nr++) {
		for (dir = 1; dir < 4; dir++)
			EXPECT_EQ(-ENOTTY,
				  hkr_call(self->a.fd,
					   _IOC(dir, HKR_IOC_MAGIC, nr, 8),
					   &info));
		EXPECT_EQ(-ENOTTY, hkr_call(self->a.fd,
					    _IOC(0, HKR_IOC_MAGIC, nr, 8),
					    &info));
		EXPECT_EQ(-ENOTTY, hkr_call(self->a.fd, _IO('h', nr), &info));
	}
	EXPECT_TRUE(same_stats(&self->a, &self->before));
}

TEST_F(call, with_a_reserved_field_set_is_einval)
{
	struct hkr_handout_req req = { .nr_slots = 1, .node = -1 };
	struct hkr_handout call = {
		.size = sizeof(call), .nr = 1, .reqs = (uintptr_t)&req,
		.__reserved = 1,
	};

	EXPECT_EQ(-EINVAL, hkr_call(self->a.fd, HKR_IOC_HANDOUT, &call));
	req.__reserved = 1;
	EXPECT_EQ(-EINVAL, hkr_request(&self->a, &req));
	req.__reserved = 0;
	req.first = 1;	/* without AT */
	EXPECT_EQ(-EINVAL, hkr_request(&self->a, &req));
	EXPECT_EQ(-EINVAL, recycle_to(&self->a, DROP, 0, 1, 1));
	EXPECT_EQ(-EINVAL, recycle_to(&self->a, IDLE, 0, 1, 1));
	EXPECT_EQ(-EINVAL, recycle_to(&self->a, FRESH, 0, 1, 1));
	EXPECT_TRUE(same_stats(&self->a, &self->before));
}

TEST_F(call, with_an_unknown_mode_or_request_flag_is_eopnotsupp)
{
	unsigned int bit;

	EXPECT_EQ(-EOPNOTSUPP, recycle(&self->a, MOVE + 1, 0, 1));
	EXPECT_EQ(-EOPNOTSUPP, recycle(&self->a, ~0U, 0, 1));
	for (bit = 3; bit < 32; bit++)
		EXPECT_EQ(-EOPNOTSUPP, handout(&self->a, 1, 1U << bit));
	EXPECT_TRUE(same_stats(&self->a, &self->before));
}

static long call_array(struct arena *a, bool out, void *array, uint32_t nr)
{
	struct hkr_handout h = {
		.size = sizeof(h), .nr = nr, .reqs = (uintptr_t)array,
	};
	struct hkr_recycle r = {
		.size = sizeof(r), .nr = nr, .ranges = (uintptr_t)array,
	};

	return out ? hkr_call(a->fd, HKR_IOC_HANDOUT, &h) :
		     hkr_call(a->fd, HKR_IOC_RECYCLE, &r);
}

TEST_F(call, with_a_bad_array_tries_none_of_it)
{
	struct hkr_handout_req *req;
	struct hkr_range *range;
	char *mem, *p;
	int out;

	mem = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	for (out = 0; out < 2; out++) {
		/* two entries that would do something, in two pages */
		p = mem + PAGE - (out ? sizeof(*req) : sizeof(*range));
		req = (void *)p;
		range = (void *)p;
		if (out) {
			req[0] = (struct hkr_handout_req){ 1, 0, -1 };
			req[1] = req[0];
		} else {
			range[0] = (struct hkr_range){ 0, 0, 1 };
			range[1] = (struct hkr_range){ 1, 0, 1 };
		}
		EXPECT_EQ(-EINVAL, call_array(&self->a, out, p, 0));
		EXPECT_EQ(-E2BIG, call_array(&self->a, out, p,
					     HKR_MAX_BATCH + 1));
		EXPECT_EQ(-E2BIG, call_array(&self->a, out, p, ~0U));
		EXPECT_EQ(-EINVAL, call_array(&self->a, out, p + 4, 1));
		EXPECT_EQ(-EINVAL, call_array(&self->a, out, p + 1, 1));
		EXPECT_EQ(-EFAULT, call_array(&self->a, out, NULL, 1));
		EXPECT_EQ(-EFAULT, call_array(&self->a, out, BAD_POINTER, 1));

		ASSERT_EQ(0, mprotect(mem + PAGE, PAGE, PROT_READ));
		EXPECT_EQ(-EFAULT, call_array(&self->a, out, p, 2));
		ASSERT_EQ(0, mprotect(mem + PAGE, PAGE, PROT_NONE));
		EXPECT_EQ(-EFAULT, call_array(&self->a, out, p, 2));
		ASSERT_EQ(0, mprotect(mem + PAGE, PAGE,
				      PROT_READ | PROT_WRITE));
		EXPECT_TRUE(same_stats(&self->a, &self->before));
	}
	/* and the same array is good otherwise */
	EXPECT_EQ(2, call_array(&self->a, true, p, 2));
}

TEST_F(call, of_info_fills_no_more_nodes_than_there_is_room_for)
{
	struct hkr_node_info nodes[65] = { };
	struct hkr_info info = { .size = sizeof(info) };
	uint32_t nr;

	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	nr = info.nr_nodes;
	ASSERT_LE(1, nr);
	ASSERT_GE(64, nr);
	EXPECT_EQ(HKR_ABI_VERSION, info.abi_version);
	EXPECT_EQ(SLOT, info.slot_size);
	EXPECT_LE(512, info.max_slots);
	EXPECT_LE(1, info.open_limit);
	EXPECT_LE(1, info.user_limit);

	nodes[nr].clean = ~0ULL;
	info.nr_nodes = nr + 1;
	info.nodes = (uintptr_t)nodes;
	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	EXPECT_EQ(nr, info.nr_nodes);
	EXPECT_EQ(~0ULL, nodes[nr].clean);

	nodes[0].clean = ~0ULL;
	info.nr_nodes = 0;
	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	EXPECT_EQ(nr, info.nr_nodes);
	EXPECT_EQ(~0ULL, nodes[0].clean);

	info.nr_nodes = 1;
	info.nodes = (uintptr_t)nodes + 4;
	EXPECT_EQ(-EINVAL, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	info.nodes = (uintptr_t)BAD_POINTER;
	EXPECT_EQ(-EFAULT, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
}

/* A file that has just been opened. */
FIXTURE(file)
{
	struct arena a;
};

FIXTURE_SETUP(file)
{
	memset(&self->a, 0, sizeof(self->a));
	self->a.fd = open(HKR_DEVICE, O_RDWR);
	ASSERT_LE(0, self->a.fd);
}

FIXTURE_TEARDOWN(file)
{
	arena_close(&self->a);
}

static bool all_ebadfd(struct arena *a)
{
	struct hkr_stats st = { .size = sizeof(st) };

	return handout(a, 1, 0) == -EBADFD && recycle(a, DROP, 0, 1) == -EBADFD &&
	       recycle(a, FRESH, 0, 1) == -EBADFD && trim(a, 0, 0) == -EBADFD &&
	       hkr_call(a->fd, HKR_IOC_STATS, &st) == -EBADFD;
}

static bool info_works(struct arena *a)
{
	struct hkr_info info = { .size = sizeof(info) };

	return !hkr_call(a->fd, HKR_IOC_INFO, &info);
}

TEST_F(file, without_a_mapped_arena_is_ebadfd)
{
	struct hkr_setup *s = &self->a.setup;
	void *p;

	EXPECT_TRUE(all_ebadfd(&self->a));
	EXPECT_TRUE(info_works(&self->a));
	p = mmap(NULL, SLOT, PROT_READ, MAP_SHARED, self->a.fd, 0);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EBADFD, errno);

	ASSERT_EQ(0, hkr_setup(self->a.fd, NR_SLOTS, 0, s));
	EXPECT_TRUE(all_ebadfd(&self->a));
	/* the control pages alone do not make an owner */
	p = mmap(NULL, s->control_size, PROT_READ, MAP_SHARED, self->a.fd,
		 s->control_offset);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_TRUE(all_ebadfd(&self->a));
	ASSERT_EQ(0, munmap(p, s->control_size));

	ASSERT_EQ(0, hkr_map(&self->a, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, handout(&self->a, 1, COMMIT));
	ASSERT_EQ(0, munmap(self->a.base, s->arena_size));
	EXPECT_TRUE(all_ebadfd(&self->a));
	EXPECT_TRUE(info_works(&self->a));
	/* and there is no way back */
	p = mmap(NULL, s->arena_size, PROT_READ, MAP_SHARED, self->a.fd, 0);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EBADFD, errno);
	self->a.base = NULL;
}

TEST_F(file, is_set_up_once)
{
	struct hkr_setup *s = &self->a.setup, again;
	struct hkr_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, hkr_call(self->a.fd, HKR_IOC_INFO, &info));
	EXPECT_EQ(-EINVAL, hkr_setup(self->a.fd, 0, 0, s));
	EXPECT_EQ(-EINVAL, hkr_setup(self->a.fd, info.max_slots + 1, 0, s));
	EXPECT_EQ(-EINVAL, hkr_setup(self->a.fd, ~0ULL, 0, s));
	EXPECT_EQ(-EINVAL, hkr_setup(self->a.fd, 1ULL << 43, 0, s));
	ASSERT_EQ(0, hkr_setup(self->a.fd, info.max_slots, 0, s));
	EXPECT_EQ(-EBUSY, hkr_setup(self->a.fd, info.max_slots, 0, &again));
	EXPECT_EQ(-EBUSY, hkr_setup(self->a.fd, 1, 0, &again));

	EXPECT_EQ(HKR_OFF_ARENA, s->arena_offset);
	EXPECT_EQ(HKR_OFF_CONTROL, s->control_offset);
	EXPECT_EQ(info.max_slots * SLOT, s->arena_size);
	EXPECT_EQ(0, s->words_offset % 8);
	EXPECT_LE(s->words_offset + 8 * info.max_slots, s->control_size);

	/* the first stands: the arena has that size */
	EXPECT_EQ(0, hkr_map(&self->a, PROT_READ | PROT_WRITE));
	EXPECT_EQ(info.max_slots, stats_of(&self->a).nr_slots);
	EXPECT_EQ(-EBUSY, hkr_setup(self->a.fd, 1, 0, &again));
}

TEST_F(file, of_a_process_without_huge_pages_is_eopnotsupp)
{
	struct hkr_setup s;

	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	EXPECT_EQ(-EOPNOTSUPP, hkr_setup(self->a.fd, 1, 0, &s));
	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
	EXPECT_EQ(0, hkr_setup(self->a.fd, 1, 0, &s));
}

TEST_F(file, shows_its_header_in_the_control_pages)
{
	volatile struct hkr_control *h;
	struct timespec start, now;
	struct hkr_stats st;
	uint32_t epoch;
	int i;

	ASSERT_EQ(0, hkr_setup(self->a.fd, 600, 0, &self->a.setup));
	ASSERT_EQ(0, hkr_map(&self->a, PROT_READ | PROT_WRITE));
	h = self->a.header;
	EXPECT_EQ(HKR_CONTROL_MAGIC, h->magic);
	EXPECT_EQ(HKR_ABI_VERSION, h->abi_version);
	EXPECT_EQ(SLOT, h->slot_size);
	EXPECT_EQ(600, h->nr_slots);
	EXPECT_EQ(self->a.setup.words_offset, h->words_offset);
	EXPECT_LE(1, h->epoch_ms);
	EXPECT_EQ(0, h->resident);
	EXPECT_EQ(0, h->reclaimed);
	EXPECT_EQ(stats_of(&self->a).limit, h->limit);
	for (i = 0; i < 600; i++)
		ASSERT_EQ(0, word_of(&self->a, i));

	/* the clock first: a delay makes the time longer, never shorter */
	clock_gettime(CLOCK_MONOTONIC, &start);
	/* while memory is held, epochs go by and say how much */
	ASSERT_EQ(0, handout(&self->a, 3, COMMIT));
	epoch = h->epoch;
	for (i = 0; i < 400 && h->epoch - epoch < 3; i++)
		usleep(h->epoch_ms * 1000 / 2);
	clock_gettime(CLOCK_MONOTONIC, &now);
	EXPECT_LE(3, h->epoch - epoch);
	EXPECT_EQ(3, h->resident);
	EXPECT_LE(h->epoch, sysfs("epoch"));
	/* an epoch is not shorter than it says; the first had begun before */
	EXPECT_LE(2 * h->epoch_ms, (now.tv_sec - start.tv_sec) * 1000 +
				   (now.tv_nsec - start.tv_nsec) / 1000000);
	st = stats_of(&self->a);
	EXPECT_EQ(3, st.resident);
	/* the last page of words is there too */
	ASSERT_EQ(0, handout_at(&self->a, 599, 1, COMMIT));
	EXPECT_EQ(HKR_WORD_BUSY, word_state(&self->a, 599));
}

TEST_HARNESS_MAIN
