// SPDX-License-Identifier: MIT
/*
 * What the scenario `peers` has an allocator do, and the process that does it.
 *
 * All of it goes through malloc() and free(), which the dynamic linker bound to
 * the allocator that was preloaded. Only the floor does not: it takes blocks from
 * memory that was mapped and written before, so that there is nothing left but
 * the touching; it needs as much memory as the largest request times the blocks
 * that are live, which no allocator could afford.
 *
 * The first command begins the work and runs one turn, whose first operation is
 * the first of the process; each further one runs a turn. The end of the pipe
 * ends the process.
 */

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "peers.h"

#define KIB		(1UL << 10)
#define MIB		(1UL << 20)
#define LIVE_MAX	64U
#define BATCH		256U		/* pairs in one sample */
#define THREADS_MAX	8U
#define noinline	__attribute__((noinline))
#define SETTLE_NS	3000000000ULL

static bool is_floor;
static struct hb_ctx floor_map;
static void *floor_free[LIVE_MAX];
static unsigned int nr_floor_free;

static void *live[LIVE_MAX];
static size_t live_size[LIVE_MAX];
static size_t requested, requested_peak;

/* ---- memory ---- */

/* blocks that are kept, dirty, on 2 MiB pages; 0 or -errno */
static int floor_open(unsigned int blocks, size_t size)
{
	int err = hb_map_thp(&floor_map, blocks * size);

	if (err)
		return err;
	hb_touch_block(floor_map.block, blocks * size, HB_TOUCH_FULL);
	for (unsigned int i = 0; i < blocks; i++)
		floor_free[nr_floor_free++] =
			(char *)floor_map.block + i * size;
	return 0;
}

static void *get(size_t size, enum hb_touch touch)
{
	void *p;

	if (is_floor) {
		p = floor_free[--nr_floor_free];
		if (touch == HB_TOUCH_READ)
			memset(p, 0, size);
	} else {
		p = touch == HB_TOUCH_READ ? calloc(1, size) : malloc(size);
	}
	/* the compiler may not pair this with a free */
	__asm__ volatile("" : "+r"(p));
	return p;
}

static void put(void *p)
{
	if (is_floor)
		floor_free[nr_floor_free++] = p;
	else
		free(p);
}

static size_t whole(size_t size)
{
	return (size + HB_HUGE - 1) & ~(HB_HUGE - 1);
}

/* ---- one block, again and again ---- */

static int loop_begin(const struct peer_work *w)
{
	return is_floor ? floor_open(1, whole(w->size)) : 0;
}

static bool loop_op(const struct peer_work *w)
{
	void *p = get(w->size, w->touch);

	if (!p)
		return false;
	/* calloc() and then a byte in each page, as for page */
	hb_touch_block(p, w->size, w->touch == HB_TOUCH_READ ? HB_TOUCH_PAGE :
							       w->touch);
	put(p);
	return true;
}

/* pairs of malloc and free without touching, too short to be timed alone */
static bool pair_turn(const struct peer_work *w, struct peer_shm *shm)
{
	uint64_t start;

	for (unsigned int i = 0; i < w->ops; i++) {
		start = hb_tsc();
		for (unsigned int k = 0; k < BATCH; k++) {
			void *p = get(w->size, HB_TOUCH_NONE);

			if (!p)
				return false;
			put(p);
		}
		shm->cycles[i] = hb_tsc() - start;
	}
	shm->n = w->ops;
	return true;
}

/* ---- many sizes, several live ---- */

/* the same sequence for every allocator */
static uint64_t draw(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005UL + 1442695040888963407UL;
	return state >> 33;
}

static size_t draw_size(const struct peer_work *w)
{
	/* w->size is the largest */
	size_t least = w->least ?: w->size > 4 * MIB ? 2 * MIB :
						       2 * MIB + 64 * KIB;

	return least + draw() % ((w->size - least) / (64 * KIB) + 1) * 64 * KIB;
}

static unsigned int mixed_live(const struct peer_work *w)
{
	return w->size > 4 * MIB ? 8 : LIVE_MAX;
}

static int mixed_begin(const struct peer_work *w)
{
	return is_floor ? floor_open(mixed_live(w), whole(w->size)) : 0;
}

/* what is live, and @more that is so for a moment */
static void note_peak(size_t more)
{
	if (requested + more > requested_peak)
		requested_peak = requested + more;
}

static bool replace(const struct peer_work *w, unsigned int i)
{
	if (live[i])
		put(live[i]);
	requested -= live_size[i];
	live_size[i] = draw_size(w);
	live[i] = get(live_size[i], HB_TOUCH_NONE);
	if (!live[i])
		return false;
	requested += live_size[i];
	note_peak(0);
	hb_touch_block(live[i], live_size[i], HB_TOUCH_PAGE);
	return true;
}

static bool mixed_op(const struct peer_work *w)
{
	return replace(w, draw() % mixed_live(w));
}

static void mixed_end(const struct peer_work *w)
{
	(void)w;
	for (unsigned int i = 0; i < LIVE_MAX; i++) {
		if (live[i])
			put(live[i]);
		live[i] = NULL;
		requested -= live_size[i];
		live_size[i] = 0;
	}
}

/* ---- two sites: a large block again and again, and small ones that stay ---- */

#define STAY	8U

/* Its own call of malloc(), and not get()'s: who goes by the caller sees two. */
static noinline void *get_small(size_t size)
{
	void *p = is_floor ? get(size, HB_TOUCH_NONE) : malloc(size);

	__asm__ volatile("" : "+r"(p));
	return p;
}

static int sites_begin(const struct peer_work *w)
{
	return is_floor ? floor_open(STAY + 1, whole(w->size)) : 0;
}

static bool sites_op(const struct peer_work *w)
{
	unsigned int i = draw() % STAY;
	void *p = get(w->size, HB_TOUCH_NONE);

	if (!p)
		return false;
	hb_touch_block(p, w->size, HB_TOUCH_PAGE);
	note_peak(w->size);
	put(p);
	if (live[i])
		put(live[i]);
	requested -= live_size[i];
	live_size[i] = 2 * MIB + draw() % 97 * 64 * KIB;
	requested += live_size[i];
	live[i] = get_small(live_size[i]);
	if (!live[i])
		return false;
	hb_touch_block(live[i], live_size[i], HB_TOUCH_PAGE);
	return true;
}

/* ---- all at once, then none ---- */

static bool phase_op(const struct peer_work *w)
{
	bool good = true;

	for (unsigned int i = 0; good && i < LIVE_MAX; i++)
		good = replace(w, i);
	mixed_end(w);
	return good;
}

/* ---- realloc: from 1 to 256 MiB ---- */

static bool realloc_op(const struct peer_work *w)
{
	size_t size = MIB, next;
	char *p = get(size, HB_TOUCH_NONE), *q;

	if (!p)
		return false;
	hb_touch_block(p, size, HB_TOUCH_PAGE);
	for (; size < w->size; size = next) {
		next = (size + size / 2) & ~(4 * KIB - 1);
		if (next > w->size)
			next = w->size;
		q = realloc(p, next);
		if (!q)
			return false;
		p = q;
		hb_touch_block(p + size, next - size, HB_TOUCH_PAGE);
	}
	put(p);
	return true;
}

/* ---- threads ---- */

static struct team {
	const struct peer_work *work;
	bool remote;			/* who frees is the next thread */
	pthread_barrier_t barrier;
	pthread_t thread[THREADS_MAX];
	void *mailbox[THREADS_MAX];
	bool failed;
} team;

static void take_mail(unsigned int i)
{
	void *p = __atomic_exchange_n(&team.mailbox[i], NULL, __ATOMIC_ACQ_REL);

	if (p)
		free(p);
}

static void *team_member(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	unsigned int next = (me + 1) % team.work->threads;

	pthread_barrier_wait(&team.barrier);
	for (unsigned int k = 0; k < BATCH; k++) {
		char *p = malloc(team.work->size);

		if (!p) {
			team.failed = true;
			break;
		}
		*(volatile char *)p = 1;
		if (!team.remote) {
			free(p);
			continue;
		}
		/* what still lies there was not fetched: it is ours to free */
		p = __atomic_exchange_n(&team.mailbox[next], p,
					__ATOMIC_ACQ_REL);
		if (p)
			free(p);
		take_mail(me);
	}
	pthread_barrier_wait(&team.barrier);
	take_mail(me);
	return NULL;
}

/* time per operation of each thread: the whole turn through what one did */
static bool team_turn(const struct peer_work *w, struct peer_shm *shm)
{
	uint64_t start;

	team.work = w;
	team.remote = strstr(w->name, "remote");
	for (unsigned int i = 0; i < w->ops; i++) {
		if (pthread_barrier_init(&team.barrier, NULL, w->threads + 1))
			return false;
		for (unsigned int t = 0; t < w->threads; t++)
			if (pthread_create(&team.thread[t], NULL, team_member,
					   (void *)(uintptr_t)t))
				abort();
		pthread_barrier_wait(&team.barrier);
		start = hb_tsc();
		pthread_barrier_wait(&team.barrier);
		shm->cycles[i] = hb_tsc() - start;
		for (unsigned int t = 0; t < w->threads; t++)
			pthread_join(team.thread[t], NULL);
		pthread_barrier_destroy(&team.barrier);
	}
	shm->n = w->ops;
	return !team.failed;
}

/* ---- what is kept ---- */

/* 64 blocks live at once; the second turn frees them, the third is one call */
static bool memory_turn(const struct peer_work *w, struct peer_shm *shm)
{
	static bool full;

	shm->n = 0;
	if (full && !live[0]) {
		/* the next call, for who trims only then */
		put(get(2 * MIB, HB_TOUCH_NONE));
		return true;
	}
	if (full) {
		for (unsigned int i = 0; i < LIVE_MAX; i++) {
			put(live[i]);
			live[i] = NULL;
		}
		return true;
	}
	full = true;
	for (unsigned int i = 0; i < LIVE_MAX; i++)
		if (!replace(w, i))
			return false;
	return true;
}

/* ---- the rows ---- */

#define LOOP(NAME, SIZE, TOUCH, OPS, TURNS) \
	{ .name = NAME, .size = SIZE, .touch = TOUCH, .ops = OPS, \
	  .turns = TURNS, .threads = 1, .begin = loop_begin, .op = loop_op }
#define SIZES(NAME, TOUCH) \
	LOOP("64 KiB " NAME, 64 * KIB, TOUCH, 32, 4), \
	LOOP("256 KiB " NAME, 256 * KIB, TOUCH, 32, 4), \
	LOOP("1 MiB " NAME, 1 * MIB, TOUCH, 16, 4), \
	LOOP("2 MiB " NAME, 2 * MIB, TOUCH, 8, 4), \
	LOOP("4 MiB " NAME, 4 * MIB, TOUCH, 8, 4), \
	LOOP("16 MiB " NAME, 16 * MIB, TOUCH, 8, 2), \
	LOOP("64 MiB " NAME, 64 * MIB, TOUCH, 4, 2), \
	LOOP("256 MiB " NAME, 256 * MIB, TOUCH, 2, 1), \
	LOOP("1 GiB " NAME, 1024 * MIB, TOUCH, 1, 1)
#define PAIR(NAME, SIZE) \
	{ .name = NAME, .size = SIZE, .ops = 20, .turns = 2, .threads = 1, \
	  .begin = loop_begin, .scale = BATCH, .turn = pair_turn }
#define TEAM(NAME, N) \
	{ .name = NAME, .size = 2 * MIB, .ops = 2, .turns = 2, .threads = N, \
	  .starts_threads = true, .no_floor = true, .scale = BATCH, \
	  .turn = team_turn }

static const struct peer_work works[] = {
	SIZES("page", HB_TOUCH_PAGE),
	SIZES("full", HB_TOUCH_FULL),
	SIZES("calloc", HB_TOUCH_READ),
	{ .name = "2-16 MiB, 8 live", .size = 16 * MIB, .touch = HB_TOUCH_PAGE,
	  .ops = 2000, .turns = 2, .threads = 1, .mixed = true,
	  .begin = mixed_begin, .op = mixed_op, .end = mixed_end },
	{ .name = "2.06-3 MiB, 64 live", .size = 3 * MIB, .touch = HB_TOUCH_PAGE,
	  .ops = 2000, .turns = 2, .threads = 1, .mixed = true,
	  .begin = mixed_begin, .op = mixed_op, .end = mixed_end },
	{ .name = "0.5-2 MiB, 64 live", .size = 2 * MIB, .least = MIB / 2,
	  .touch = HB_TOUCH_PAGE, .ops = 2000, .turns = 2, .threads = 1,
	  .mixed = true, .begin = mixed_begin, .op = mixed_op,
	  .end = mixed_end },
	{ .name = "64 x 0.5-2 MiB, none", .size = 2 * MIB, .least = MIB / 2,
	  .touch = HB_TOUCH_PAGE, .ops = 20, .turns = 2, .threads = 1,
	  .mixed = true, .no_floor = true, .op = phase_op },
	{ .name = "64 x 2-16 MiB, none", .size = 16 * MIB,
	  .touch = HB_TOUCH_PAGE, .ops = 20, .turns = 2, .threads = 1,
	  .mixed = true, .no_floor = true, .op = phase_op },
	{ .name = "16 MiB beside 2-8 MiB", .size = 16 * MIB,
	  .touch = HB_TOUCH_PAGE, .ops = 500, .turns = 2, .threads = 1,
	  .mixed = true, .begin = sites_begin, .op = sites_op,
	  .end = mixed_end },
	{ .name = "realloc to 256 MiB", .size = 256 * MIB,
	  .touch = HB_TOUCH_PAGE, .ops = 2, .turns = 1, .threads = 1,
	  .no_floor = true, .op = realloc_op },
	PAIR("64 B pair", 64), PAIR("4 KiB pair", 4 * KIB),
	PAIR("32 KiB pair", 32 * KIB), PAIR("2 MiB pair", 2 * MIB),
	PAIR("64 MiB pair", 64 * MIB),
	TEAM("1 thread, own frees", 1), TEAM("2 threads, own frees", 2),
	TEAM("4 threads, own frees", 4), TEAM("8 threads, own frees", 8),
	TEAM("2 threads, remote frees", 2), TEAM("4 threads, remote frees", 4),
	TEAM("8 threads, remote frees", 8),
	{ .name = "64 live, then idle", .size = 16 * MIB, .touch = HB_TOUCH_PAGE,
	  .ops = 1, .turns = 1, .threads = 1, .no_floor = true, .memory = true,
	  .turn = memory_turn },
};

const struct peer_work *hb_peer_work(size_t i)
{
	return i < sizeof(works) / sizeof(works[0]) ? &works[i] : NULL;
}

/* ---- the process ---- */

static uint64_t minor_faults(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)ru.ru_minflt;
}

static bool one_turn(const struct peer_work *w, struct peer_shm *shm)
{
	uint64_t begun = hb_tsc(), start;
	bool good = true;

	if (w->turn)
		return w->turn(w, shm);
	shm->n = 0;
	do {
		start = hb_tsc();
		good = w->op(w);
		hb_stores_made();
		shm->cycles[shm->n++] = hb_tsc() - start;
	} while (good && shm->n < w->ops && hb_tsc() - begun < shm->turn_cycles);
	return good;
}

static bool timed_turn(const struct peer_work *w, struct peer_shm *shm)
{
	uint64_t faults = minor_faults();
	bool good = one_turn(w, shm);

	shm->faults = minor_faults() - faults;
	shm->requested_peak = requested_peak;
	return good;
}

static bool counted_turn(const struct peer_work *w, struct peer_shm *shm)
{
	struct hb_calls calls;
	bool good;

	shm->counted = !hb_syscount_start(&calls);
	good = one_turn(w, shm);
	if (!shm->counted)
		return good;
	hb_syscount_stop();
	shm->calls = hb_syscalls(&calls);
	return good;
}

/* what a threshold is found out with; not for longer than is worth it */
static void settle(const struct peer_work *w, uint64_t ops)
{
	uint64_t begun = hb_now_ns();

	if (!w->op || w->size < MIB / 2 || w->size >= 32 * MIB)
		return;
	while (ops-- && hb_now_ns() - begun < SETTLE_NS && w->op(w))
		;
}

int hb_peer_child(size_t work, bool floor, int shm_fd, int in, int out)
{
	const struct peer_work *w = hb_peer_work(work);
	struct peer_shm *shm;
	bool settled = false;
	Dl_info info;
	char byte;

	shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED,
		   shm_fd, 0);
	if (shm == MAP_FAILED || !w)
		return 1;
	if (dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && info.dli_fname)
		snprintf(shm->malloc_is, sizeof(shm->malloc_is), "%s",
			 info.dli_fname);
	is_floor = floor;
	if (w->begin)
		shm->err = w->begin(w);
	/* all pages of what the turns write to */
	memset(shm->cycles, 0, sizeof(shm->cycles));
	while (read(in, &byte, 1) == 1) {
		if (!shm->err && !(byte == PEER_COUNT ? counted_turn(w, shm) :
							timed_turn(w, shm)))
			shm->err = -ENOMEM;
		if (!shm->err && !settled)
			settle(w, shm->settle_ops);
		settled = true;
		if (write(out, "", 1) != 1)
			break;
	}
	return 0;
}
