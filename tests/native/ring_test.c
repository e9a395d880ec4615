// SPDX-License-Identifier: GPL-2.0
/*
 * The ring: order, eviction, exact sizes, against a model that is too simple to
 * be wrong. The pointers are never followed, so any number will do.
 */
#include <pthread.h>

#include <hakmem.h>

#include "ring.h"
#include "tap.h"

#define MIB ((size_t)1 << 20)
#define S2 (2 * MIB)

static void *block(uintptr_t n)
{
	return (void *)(n << 21);
}

/* ---- what was released, in order ---------------------------------------- */

static struct {
	void *ptr;
	size_t size;
} released[200000];
static size_t nr_released;
static int arg_seen;

static void record(void *ptr, size_t size, void *arg)
{
	released[nr_released].ptr = ptr;
	released[nr_released].size = size;
	nr_released++;
	if (arg)
		arg_seen = *(int *)arg;
}

static void init(size_t slots, enum hkm_order order)
{
	struct hkm_whale_config cfg = {
		.slots = slots,
		.order = order,
		.release = record,
	};

	check_int(hkm_whale_init(&cfg), 0);
}

/* ---- order ---------------------------------------------------------------- */

static void hot_first_returns_the_newest(void)
{
	init(8, HKM_HOT_FIRST);
	for (uintptr_t i = 1; i <= 5; i++)
		check_int(hkm_whale_put(block(i), S2), 0);
	for (uintptr_t i = 5; i >= 1; i--)
		check(hkm_whale_get(S2) == block(i));
	check(!hkm_whale_get(S2));
}

static void fifo_returns_the_oldest(void)
{
	init(8, HKM_FIFO);
	for (uintptr_t i = 1; i <= 5; i++)
		check_int(hkm_whale_put(block(i), S2), 0);
	for (uintptr_t i = 1; i <= 5; i++)
		check(hkm_whale_get(S2) == block(i));
	check(!hkm_whale_get(S2));
}

static void only_the_exact_size_is_a_hit(void)
{
	init(8, HKM_HOT_FIRST);
	check_int(hkm_whale_put(block(1), S2 + 4096), 0);
	check(!hkm_whale_get(S2));
	check(!hkm_whale_get(S2 + 8192));
	check(!hkm_whale_get(S2 + 4097));
	check(hkm_whale_get(S2 + 4096) == block(1));
}

/* ---- eviction ------------------------------------------------------------- */

static void eviction_takes_the_oldest(enum hkm_order order)
{
	struct hkm_whale_stats st;

	init(4, order);
	for (uintptr_t i = 1; i <= 10; i++)
		check_int(hkm_whale_put(block(i), S2 * (1 + i % 3)), 0);
	check_int(nr_released, 6);
	for (uintptr_t i = 1; i <= 6; i++) {
		check(released[i - 1].ptr == block(i));
		check_int(released[i - 1].size, S2 * (1 + i % 3));
	}
	hkm_whale_get_stats(&st);
	check_int(st.evictions, 6);
	check_int(st.puts, 10);
	check_int(st.cached, 4);
	check_int(st.slots, 4);
}

static void hot_ring_evicts_the_oldest(void)
{
	eviction_takes_the_oldest(HKM_HOT_FIRST);
}

static void fifo_ring_evicts_the_oldest(void)
{
	eviction_takes_the_oldest(HKM_FIFO);
}

static void release_gets_its_argument(void)
{
	int seven = 7;
	struct hkm_whale_config cfg = {
		.slots = 1, .release = record, .arg = &seven,
	};

	check_int(hkm_whale_init(&cfg), 0);
	hkm_whale_put(block(1), S2);
	hkm_whale_put(block(2), S2);
	check_int(nr_released, 1);
	check_int(arg_seen, 7);
}

/* a release function that puts its block back would recurse for ever: once */
static void call_the_ring(void *ptr, size_t size, void *arg)
{
	struct hkm_whale_stats st;

	(void)arg;
	hkm_whale_get_stats(&st);
	check(!hkm_whale_get(S2 * 7));
	if (!nr_released++)
		check_int(hkm_whale_put(ptr, size * 2), 0);
}

/* with a second thread alive the lock is real, and not recursive */
static void *sleeper(void *arg)
{
	pause();
	return arg;
}

static void release_may_call_the_ring(void)
{
	struct hkm_whale_config cfg = { .slots = 2, .release = call_the_ring };
	pthread_t thread;

	pthread_create(&thread, NULL, sleeper, NULL);
	check_int(hkm_whale_init(&cfg), 0);
	for (uintptr_t i = 1; i <= 3; i++)
		check_int(hkm_whale_put(block(i), S2), 0);
	check_int(nr_released, 2);
	check(hkm_whale_get(S2 * 2) == block(1));
	hkm_whale_shutdown();
}

static void default_release_unmaps(void)
{
	struct hkm_whale_config cfg = { .slots = 1 };
	void *a, *b;

	a = hkm_sys_mmap(NULL, S2, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	b = hkm_sys_mmap(NULL, S2, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check_int(hkm_whale_init(&cfg), 0);
	hkm_whale_put(a, S2);
	check(resident_pages(a, S2) != SIZE_MAX);
	hkm_whale_put(b, S2);
	check(resident_pages(a, S2) == SIZE_MAX);
	hkm_whale_shutdown();
	check(resident_pages(b, S2) == SIZE_MAX);
}

static void wraps_many_times(void)
{
	init(3, HKM_FIFO);
	for (uintptr_t i = 1; i <= 100000; i++)
		check_int(hkm_whale_put(block(i), S2), 0);
	for (uintptr_t i = 1; i <= 99997; i++)
		check(released[i - 1].ptr == block(i));
	for (uintptr_t i = 99998; i <= 100000; i++)
		check(hkm_whale_get(S2) == block(i));
}

static void fill_and_wrap(size_t slots)
{
	struct hkm_whale_stats st;

	init(slots, HKM_HOT_FIRST);
	for (uintptr_t i = 1; i <= 2 * slots; i++)
		check_int(hkm_whale_put(block(i), S2 + 4096 * (i % 1000)), 0);
	hkm_whale_get_stats(&st);
	check_int(st.cached, slots);
	check_int(nr_released, slots);
	for (uintptr_t i = 2 * slots; i > slots; i--)
		check(hkm_whale_get(S2 + 4096 * (i % 1000)) == block(i));
	hkm_whale_get_stats(&st);
	check_int(st.cached, 0);
}

static void holds_4096(void)
{
	fill_and_wrap(4096);
}

static void holds_65536(void)
{
	fill_and_wrap(65536);
}

/* as many classes as slots, whose table places collide, come and go */
static void every_block_its_own_size(void)
{
	init(4096, HKM_HOT_FIRST);
	for (uintptr_t i = 1; i <= 20000; i++) {
		check_int(hkm_whale_put(block(i), S2 + i), 0);
		if (i > 4096)
			check(!hkm_whale_get(S2 + i - 4096));
	}
	for (uintptr_t i = 20000; i > 20000 - 4096; i--)
		check(hkm_whale_get(S2 + i) == block(i));
}

/* ---- against a model ------------------------------------------------------ */

struct model {
	struct { void *ptr; size_t size; } b[512];	/* oldest first */
	size_t nr, slots;
	enum hkm_order order;
};

static void model_remove(struct model *m, size_t i)
{
	memmove(&m->b[i], &m->b[i + 1], (m->nr - i - 1) * sizeof(m->b[0]));
	m->nr--;
}

static void *model_get(struct model *m, size_t size)
{
	size_t found = SIZE_MAX;
	void *ptr;

	for (size_t i = 0; i < m->nr; i++) {
		if (m->b[i].size != size)
			continue;
		found = i;
		if (m->order == HKM_FIFO)
			break;
	}
	if (found == SIZE_MAX)
		return NULL;
	ptr = m->b[found].ptr;
	model_remove(m, found);
	return ptr;
}

static void model_put(struct model *m, void *ptr, size_t size, void **evicted)
{
	*evicted = NULL;
	if (m->nr == m->slots) {
		*evicted = m->b[0].ptr;
		model_remove(m, 0);
	}
	m->b[m->nr].ptr = ptr;
	m->b[m->nr].size = size;
	m->nr++;
}

static void compare_with_model(size_t slots, unsigned int sizes,
			       enum hkm_order order, uint64_t seed)
{
	static struct model m;
	struct hkm_whale_stats st;
	void *evicted;

	memset(&m, 0, sizeof(m));
	m.slots = slots;
	m.order = order;
	init(slots, order);
	for (uintptr_t i = 1; i <= 20000; i++) {
		/* strides that meet in the upper bits of the hash */
		size_t size = S2 + (size_t)(next_random(&seed) % sizes) * 4096;

		if (next_random(&seed) % 9 < 4) {
			check(hkm_whale_get(size) == model_get(&m, size));
			continue;
		}
		nr_released = 0;
		check_int(hkm_whale_put(block(i), size), 0);
		model_put(&m, block(i), size, &evicted);
		check_int(nr_released, !!evicted);
		check(!evicted || released[0].ptr == evicted);
	}
	hkm_whale_get_stats(&st);
	check_int(st.cached, m.nr);
	nr_released = 0;
	hkm_whale_shutdown();
	check_int(nr_released, m.nr);
	for (size_t i = 0; i < m.nr; i++)
		check(released[i].ptr == m.b[i].ptr);
}

static void does_what_the_model_does(void)
{
	static const size_t slots[] = { 1, 2, 3, 8, 64, 500 };
	static const unsigned int sizes[] = { 1, 2, 7, 100, 3000 };

	for (size_t s = 0; s < 6; s++)
		for (size_t n = 0; n < 5; n++)
			for (int order = 0; order < 2; order++)
				compare_with_model(slots[s], sizes[n],
						   (enum hkm_order)order,
						   s * 10 + n);
}

/* ---- bad input ------------------------------------------------------------ */

static void refused_blocks_change_nothing(void)
{
	struct hkm_whale_stats st;

	init(2, HKM_HOT_FIRST);
	errno = 1234;
	check_int(hkm_whale_put(NULL, S2), -EINVAL);
	check_int(hkm_whale_put(block(1), 0), -EINVAL);
	check_int(hkm_whale_put(block(1), HKM_WHALE_MIN - 1), -EINVAL);
	check(!hkm_whale_get(0));
	check(!hkm_whale_get(HKM_WHALE_MIN - 1));
	check_int(errno, 1234);
	hkm_whale_get_stats(&st);
	check_int(st.puts + st.misses, 0);
	check_int(st.cached, 0);
	check_int(hkm_whale_put(block(1), SIZE_MAX), 0);
	check(hkm_whale_get(SIZE_MAX) == block(1));
}

static void refuses_a_bad_config(void)
{
	struct hkm_whale_config cfg = { .slots = 65537 };
	struct hkm_whale_stats st;

	check_int(hkm_whale_init(&cfg), -EINVAL);
	cfg.slots = SIZE_MAX;
	check_int(hkm_whale_init(&cfg), -EINVAL);
	cfg.slots = 5;
	cfg.order = (enum hkm_order)2;
	check_int(hkm_whale_init(&cfg), -EINVAL);
	cfg.order = HKM_FIFO;
	check_int(hkm_whale_init(&cfg), 0);
	check_int(hkm_whale_init(&cfg), -EALREADY);
	check_int(hkm_whale_init(NULL), -EALREADY);
	hkm_whale_get_stats(&st);
	check_int(st.slots, 5);
}

/* ---- set-up --------------------------------------------------------------- */

static size_t slots_now(void)
{
	struct hkm_whale_stats st;

	hkm_whale_get_stats(&st);
	return st.slots;
}

static void first_put_sets_up_eight_slots(void)
{
	check_int(hkm_whale_put(block(1), S2), 0);
	check_int(slots_now(), 8);
	check_int(hkm_whale_init(NULL), -EALREADY);
	check(hkm_whale_get(S2) == block(1));
}

static void first_get_sets_up_eight_slots(void)
{
	struct hkm_whale_stats st;

	check(!hkm_whale_get(S2));
	hkm_whale_get_stats(&st);
	check_int(st.slots, 8);
	check_int(st.misses, 1);
}

static void environment_sets_the_slots(void)
{
	setenv("HAKMEM_WHALE_SLOTS", "4096", 1);
	check_int(hkm_whale_init(NULL), 0);
	check_int(slots_now(), 4096);
}

static void config_beats_environment(void)
{
	setenv("HAKMEM_WHALE_SLOTS", "4096", 1);
	init(3, HKM_FIFO);
	check_int(slots_now(), 3);
}

static const char *bad_value;

static void use_bad_value(void)
{
	setenv("HAKMEM_WHALE_SLOTS", bad_value, 1);
	check_int(hkm_whale_init(NULL), -EINVAL);
	check_int(hkm_whale_init(NULL), -EINVAL);
	check_int(hkm_whale_put(block(1), S2), 0);
	check_int(slots_now(), 8);
	check(hkm_whale_get(S2) == block(1));
}

static void bad_environment_is_told_once(void)
{
	static const char *const bad[] = {
		"", "0", "-1", "65537", "8x", " 8", "+8", "0x8",
		"99999999999999999999999999", "eight",
	};
	char text[4096], line[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		bad_value = bad[i];
		check(exited_well(run_child(use_bad_value, text, sizeof(text))));
		snprintf(line, sizeof(line),
			 "libhakmem: HAKMEM_WHALE_SLOTS=%s is not a number from 1 to 65536; using 8\n",
			 bad[i]);
		check(!strcmp(text, line));
	}
}

static void shutdown_releases_and_can_begin_again(void)
{
	init(4, HKM_HOT_FIRST);
	for (uintptr_t i = 1; i <= 3; i++)
		hkm_whale_put(block(i), S2 * i);
	hkm_whale_shutdown();
	check_int(nr_released, 3);
	for (uintptr_t i = 1; i <= 3; i++)
		check(released[i - 1].ptr == block(i));
	hkm_whale_shutdown();
	check_int(nr_released, 3);
	init(6, HKM_FIFO);
	check_int(slots_now(), 6);
	check(!hkm_whale_get(S2));
}

static void stats_are_told_as_text(void)
{
	char text[1024] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");

	init(2, HKM_HOT_FIRST);
	for (uintptr_t i = 1; i <= 3; i++)
		hkm_whale_put(block(i), S2);
	hkm_whale_get(S2);
	hkm_whale_get(S2 * 2);
	hkm_whale_get(S2 * 2);
	hkm_whale_dump_stats(out);
	fclose(out);
	check(!strcmp(text, "libhakmem whale ring\n"
			    "hits                  1\n"
			    "misses                2\n"
			    "puts                  3\n"
			    "evictions             1\n"
			    "hit rate          33.3%\n"
			    "cached                1 of 2 slots\n"));
}

static const struct tap_case cases[] = {
	CASE(hot_first_returns_the_newest),
	CASE(fifo_returns_the_oldest),
	CASE(only_the_exact_size_is_a_hit),
	CASE(hot_ring_evicts_the_oldest),
	CASE(fifo_ring_evicts_the_oldest),
	CASE(release_gets_its_argument),
	CASE(release_may_call_the_ring),
	CASE(default_release_unmaps),
	CASE(wraps_many_times),
	CASE(holds_4096),
	CASE(holds_65536),
	CASE(every_block_its_own_size),
	CASE(does_what_the_model_does),
	CASE(refused_blocks_change_nothing),
	CASE(refuses_a_bad_config),
	CASE(first_put_sets_up_eight_slots),
	CASE(first_get_sets_up_eight_slots),
	CASE(environment_sets_the_slots),
	CASE(config_beats_environment),
	CASE(bad_environment_is_told_once),
	CASE(shutdown_releases_and_can_begin_again),
	CASE(stats_are_told_as_text),
};

TAP_MAIN(cases)
