// SPDX-License-Identifier: GPL-2.0
/*
 * The heap against a model of it: random calls, after each of which all that was
 * promised is looked at. No block is in another, each has the contents, the room and
 * the alignment that it should have, what calloc() gives is zero, and the slots that
 * count as live are those that blocks are in, once where two share one.
 *
 * Each seed is always the same sequence, so what fails can be had again.
 */
#include "heap_test.h"
#include "window.h"

#define BLOCKS 16
#define MANY 4		/* in a batch */
#define CALLS 250
#define SEEDS 3
#define DEVICE_SLOTS 64
#define PAGE 4096UL
#define HALF (SLOT / 2)

/**
 * struct block - of the program
 * @p: NULL for none
 * @size: that was asked for
 * @room: that it has, all of which is written to
 * @tag: what is in it
 */
struct block {
	char *p;
	size_t size;
	size_t room;
	uint64_t tag;
};

static struct block blocks[BLOCKS];
static uint64_t state, tags;

static unsigned int below(unsigned int n)
{
	return next_random(&state) % n;
}

/* 0.5 to 20 MiB, most of them a few slots, with tails of all kinds */
static size_t random_size(void)
{
	size_t slots = below(8) ? below(4) : below(10);
	static const size_t tails[] = {
		1, HALF - 1, HALF, HALF + 1, SLOT - 1, SLOT,
	};
	size_t tail = below(3) ? tails[below(6)] : 1 + below(SLOT);
	size_t size = slots * SLOT + tail;

	return size < HALF / 2 ? HALF / 2 : size;
}

/* ---- contents ------------------------------------------------------------------ */

static void write_tags(struct block *b)
{
	b->tag = ++tags << 32;
	for (size_t at = 0; at + sizeof(b->tag) <= b->room; at += PAGE) {
		uint64_t tag = b->tag + at / PAGE;

		memcpy(b->p + at, &tag, sizeof(tag));
	}
	/* the last byte is where a neighbour would begin */
	b->p[b->room - 1] = (char)tags;
}

static void check_tags(const struct block *b, size_t size)
{
	for (size_t at = 0; at + sizeof(b->tag) < size; at += PAGE) {
		uint64_t tag;

		memcpy(&tag, b->p + at, sizeof(tag));
		check_int(tag, b->tag + at / PAGE);
	}
	if (size == b->room)
		check_int(b->p[size - 1], (char)(b->tag >> 32));
}

/* ---- the model ------------------------------------------------------------------ */

static void set(struct block *b, void *p, size_t size)
{
	check(p);
	b->p = p;
	b->size = size;
	b->room = hkm_malloc_usable_size(p);
	check(b->room >= size);
	for (struct block *o = blocks; o < blocks + BLOCKS; o++)
		check(o == b || !o->p || o->p + o->room <= b->p ||
		      b->p + b->room <= o->p);
	write_tags(b);
}

/* does somebody else's block end in the slot that @b begins in? */
static bool shares_its_first(const struct block *b)
{
	char *half = b->p - colour_of(b->p);

	for (struct block *o = blocks; o < blocks + BLOCKS; o++)
		if (o->p && o->p + o->room == half && (uintptr_t)half % SLOT)
			return true;
	return false;
}

static void check_stats(void)
{
	size_t live = 0, slots = 0, first, last;

	for (struct block *b = blocks; b < blocks + BLOCKS; b++) {
		if (!b->p || !hkm_window_has(b->p))
			continue;
		first = (uintptr_t)b->p / SLOT;
		last = ((uintptr_t)b->p + b->room - 1) / SLOT;
		live++;
		slots += last - first + 1 - shares_its_first(b);
	}
	check_int(stats().live, live);
	check_int(stats().live_bytes, slots * SLOT);
}

/* ---- calls ---------------------------------------------------------------------- */

static void call_malloc(struct block *b)
{
	size_t size = random_size();

	/* two places */
	if (below(2))
		set(b, hkm_malloc(size), size);
	else
		set(b, hkm_malloc(size), size);
}

static void call_calloc(struct block *b)
{
	size_t size = random_size();
	char *p = hkm_calloc(1, size);

	check(p);
	check(all_bytes(p, size, 0));
	set(b, p, size);
}

static void call_memalign(struct block *b)
{
	size_t size = random_size(), align = 16UL << below(18);
	char *p = hkm_aligned_alloc(align, size);

	check(!((uintptr_t)p % align));
	set(b, p, size);
}

static void call_realloc(struct block *b)
{
	size_t size = below(4) ? random_size() : b->room + 1;
	struct block old = *b;
	char *p = hkm_realloc(b->p, size);

	check(p);
	b->p = old.p = p;
	check_tags(&old, old.size < size ? old.size : size);
	set(b, p, size);
}

static void call_free(struct block *b)
{
	hkm_free(b->p);
	b->p = NULL;
}

static void call_alloc_batch(void)
{
	size_t size = random_size();
	void *ptrs[MANY];
	int n = 0, got = 0;

	for (int i = 0; i < BLOCKS && n < MANY; i++)
		n += !blocks[i].p;
	check_int(hkm_alloc_batch(ptrs, (size_t)n, size), n);
	for (int i = 0; i < BLOCKS && got < n; i++)
		if (!blocks[i].p)
			set(&blocks[i], ptrs[got++], size);
}

static void call_free_batch(void)
{
	void *ptrs[MANY];
	size_t n = 0;

	while (n < MANY) {
		struct block *b = &blocks[below(BLOCKS)];

		ptrs[n++] = b->p;	/* NULL is nothing */
		b->p = NULL;
	}
	hkm_free_batch(ptrs, n);
}

static void call_one(void)
{
	struct block *b = &blocks[below(BLOCKS)];

	if (b->p)
		check_tags(b, b->room);
	switch (below(10)) {
	case 0:
		return call_alloc_batch();
	case 1:
		return call_free_batch();
	case 2:
		hkm_release_all();
		return;
	case 3:
	case 4:
	case 5:
		return b->p ? call_realloc(b) : call_calloc(b);
	case 6:
		return b->p ? call_free(b) : call_memalign(b);
	default:
		return b->p ? call_free(b) : call_malloc(b);
	}
}

static void play(uint64_t seed)
{
	state = seed;
	for (int i = 0; i < CALLS; i++) {
		call_one();
		check_stats();
		if (!fake.open_error)
			fake_reclaim(below(DEVICE_SLOTS), below(8));
	}
	for (struct block *b = blocks; b < blocks + BLOCKS; b++)
		if (b->p) {
			check_tags(b, b->room);
			call_free(b);
		}
	check_stats();
	hkm_release_all();
	check_int(stats().idle_bytes, 0);
}

static void play_all(const char *sites, const char *pack)
{
	setenv("HAKMEM_SITES", sites, 1);
	setenv("HAKMEM_PACK", pack, 1);
	/* where more is idle, hardly anything is shared: the cache has a run of its own */
	setenv("HAKMEM_LIMIT", "8M", 1);
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		play(seed);
	check(stats().ring.hits);
}

static void play_on_device(const char *sites, const char *pack)
{
	with_device();
	fake.max_slots = DEVICE_SLOTS;
	play_all(sites, pack);
	hkm_shutdown();
	for (size_t i = 0; i < DEVICE_SLOTS; i++)
		check(!fake_is_taken(i));
}

static void anonymous(void)
{
	no_device();
	play_all("0", "0");
}

static void anonymous_that_shares(void)
{
	no_device();
	play_all("0", "1");
}

static void anonymous_with_sites(void)
{
	no_device();
	play_all("1", "0");
}

static void anonymous_that_shares_with_sites(void)
{
	no_device();
	play_all("1", "1");
}

static void anonymous_with_guards(void)
{
	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	play_all("0", "1");
}

static void anonymous_with_guards_and_sites(void)
{
	no_device();
	setenv("HAKMEM_GUARD", "1", 1);
	play_all("1", "1");
}

/* what is idle is zero, and the heap knows */
static void anonymous_that_keeps_nothing(void)
{
	no_device();
	setenv("HAKMEM_POLICY", "dontneed", 1);
	play_all("0", "1");
}

/* there are whales of one slot, and nearly nothing is libc's */
static void anonymous_and_small(void)
{
	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "512K", 1);
	play_all("0", "1");
}

static void device(void)
{
	play_on_device("0", "0");
}

static void device_that_shares(void)
{
	play_on_device("0", "1");
}

static void device_with_sites(void)
{
	play_on_device("1", "0");
}

static void device_that_shares_with_sites(void)
{
	play_on_device("1", "1");
}

static void device_and_small(void)
{
	setenv("HAKMEM_WHALE_THRESHOLD", "512K", 1);
	play_on_device("0", "1");
}

static const struct tap_case cases[] = {
	CASE(anonymous),
	CASE(anonymous_that_shares),
	CASE(anonymous_with_sites),
	CASE(anonymous_that_shares_with_sites),
	CASE(anonymous_with_guards),
	CASE(anonymous_with_guards_and_sites),
	CASE(anonymous_that_keeps_nothing),
	CASE(anonymous_and_small),
	CASE(device),
	CASE(device_that_shares),
	CASE(device_with_sites),
	CASE(device_that_shares_with_sites),
	CASE(device_and_small),
};

TAP_MAIN(cases)
