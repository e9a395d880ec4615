// SPDX-License-Identifier: MIT
/*
 * Idle runs, for any number of threads, without a lock.
 *
 * A cached run is one 64-bit word in a table: first slot, length, flags. The
 * words arbitrate. Whoever changes a word from a run to something else, by
 * compare-and-swap, owns that run from then on, whoever put it there; so a
 * whale that another thread freed, a thread that has ended and two threads that
 * want the same run need no mechanism. A word says all there is to know about
 * its run, hence there is no ABA: the same word again is the same run, idle
 * again. A run larger than what is wanted is split by the same compare-and-swap:
 * the word becomes what is left.
 *
 * The table is cut into lines of eight words, a cache line each (tables.h). A thread has a
 * home line, where it looks first for the exact length and puts what it frees;
 * that is a hint and no more, all runs are everybody's. A free and the next
 * malloc of one thread touch its own line and its own counters, nothing shared.
 * Only when home has no run of that length is the whole table looked through,
 * as far as it was ever filled, for the smallest run that will do.
 *
 * Runs are not joined when they are freed, which would cost every free a search
 * and a program of one size its hot run. A get that home has nothing for joins
 * all neighbours at once where that is quick, because what is taken from joined
 * runs leaves fewer pieces that fit nobody; and where it is not, a miss does.
 *
 * Beside each word is a stamp, the time at which its run became idle. It is
 * written after the word, so it may be that of the word's last run for a moment:
 * stamps choose among idle runs, and any idle run may be chosen.
 */
#include "cache.h"
#include "compiler.h"
#include "lane.h"
#include "lock.h"
#include "word.h"

#define TRIES 8
#define JOIN_EARLY 64	/* words that are looked through for neighbours by a get */

#define STAMP_SEQ_BITS 24

/*
 * Atomic, each for itself: a thread that still has the old ones puts a run
 * where they allowed it.
 */
static size_t capacity;		/* 0: closed */
static size_t filled;		/* words from this one on were never used */
static enum hkm_order order;
static bool whole;
static size_t border;
static void (*evict)(const struct hkm_run *run);

/* Held by who joins runs; by try only, so nobody ever waits for it. */
static struct hkm_lock merging;

__attribute__((constructor)) static void register_merging(void)
{
	hkm_lock_register(&merging);
}

/* ---- places ----------------------------------------------------------------- */

static inline void count(uint64_t cached, uint64_t idle)
{
	struct hkm_lane *lane = hkm_lane();

	if (cached)
		hkm_lane_add(&lane->cached, cached);
	hkm_lane_add(&lane->idle, idle);
}

/* Stamps of one thread differ; the clock alone ticks too slowly for that. */
static inline uint64_t make_stamp(struct hkm_lane *lane, uint64_t now_ms)
{
	uint64_t seq = read_once(&lane->seq);

	write_once(&lane->seq, seq + 1);
	return now_ms << STAMP_SEQ_BITS |
	       (seq & ((1U << STAMP_SEQ_BITS) - 1));
}

/* Take @nr slots of the run in place @i, all of it if little would be left. */
static bool take(size_t i, uint64_t word, size_t nr, struct hkm_run *run)
{
	size_t have = nr_of(word), rest = have - nr;

	if (rest <= nr / 10 || read_once(&whole)) {
		nr = have;
		rest = 0;
	}
	if (!swap(i, word, rest ? pack(first_of(word) + nr, rest,
				       flags_of(word)) : 0))
		return false;
	run->first = first_of(word);
	run->nr = nr;
	run->flags = flags_of(word);
	count(rest ? 0 : -1UL, -(uint64_t)nr);
	return true;
}

/* ---- get -------------------------------------------------------------------- */

static size_t home_of(const struct hkm_lane *lane, size_t nr_words)
{
	size_t lines = (nr_words + LINE - 1) / LINE;

	return read_once(&lane->line) % lines * LINE;
}

static inline bool is_better(size_t i, size_t than)
{
	uint64_t a = read_once(stamp_at(i)), b = read_once(stamp_at(than));

	return read_once(&order) == HKM_HOT_FIRST ? a > b : a < b;
}

/**
 * struct wanted - what a run must be like
 * @nr: slots
 * @lowest: slot
 * @mask: bits of the word that are looked at
 * @bits: how they must be
 */
struct wanted {
	size_t nr;
	size_t lowest;
	uint64_t mask;
	uint64_t bits;
};

static always_inline bool suits(const struct wanted *want, uint64_t word)
{
	return first_of(word) >= want->lowest &&
	       (word & want->mask) == want->bits;
}

/* The run of exactly @want->nr slots at home that comes first in the order. */
static always_inline bool get_at_home(size_t home, const struct wanted *want,
				      struct hkm_run *run)
{
	const struct hkm_cache_line *line = &hkm_tables.lines[home / LINE];
	size_t best = LINE;
	uint64_t word = 0;

	for (size_t i = 0; i < LINE; i++) {
		uint64_t w = read_once(&line->words[i]);

		if (nr_of(w) == want->nr && suits(want, w) &&
		    (best == LINE || is_better(home + i, home + best))) {
			best = i;
			word = w;
		}
	}
	return best < LINE && take(home + best, word, want->nr, run);
}

/* The smallest run that will do; among equals as the order says. */
static size_t find_best(const struct wanted *want, uint64_t *word)
{
	size_t nr_words = read_once(&filled);
	size_t best = MAX_ENTRIES, best_nr = HKM_RUN_MAX;

	for (size_t i = 0; i < nr_words; i++) {
		uint64_t w = read_once(word_at(i));
		size_t have = nr_of(w);

		if (have < want->nr || have > best_nr || !suits(want, w) ||
		    (read_once(&whole) && have > want->nr))
			continue;
		if (have == best_nr && !is_better(i, best))
			continue;
		best = i;
		best_nr = have;
		*word = w;
	}
	return best;
}

/* Only if this thread has put something that may have neighbours. */
static void join_early(struct hkm_lane *lane)
{
	uint64_t puts = read_once(&lane->puts);

	if (puts == read_once(&lane->joined) ||
	    read_once(&filled) > JOIN_EARLY)
		return;
	write_once(&lane->joined, puts);
	hkm_cache_merge();
}

static bool get_anywhere(const struct wanted *want, struct hkm_run *run)
{
	uint64_t word;

	for (int tries = 0; tries < TRIES; tries++) {
		size_t i = find_best(want, &word);

		if (i == MAX_ENTRIES)
			break;
		if (take(i, word, want->nr, run))
			return true;
	}
	return false;
}

static always_inline bool get(const struct wanted *want, struct hkm_run *run)
{
	struct hkm_lane *lane = hkm_lane();
	size_t cap = read_once(&capacity);

	if (likely(cap) &&
	    likely(get_at_home(home_of(lane, cap), want, run)))
		return true;
	join_early(lane);
	return get_anywhere(want, run);
}

bool hkm_cache_get(size_t nr, size_t lowest, struct hkm_run *run)
{
	const struct wanted any = { .nr = nr, .lowest = lowest };

	return get(&any, run);
}

bool hkm_cache_get_of(unsigned int site, size_t nr, size_t lowest,
		      struct hkm_run *run)
{
	struct wanted want = { nr, lowest, SITE_MASK, (uint64_t)site << SITE_BITS };

	if (get(&want, run))
		return true;
	want.bits = 0;
	return get_anywhere(&want, run);
}

bool hkm_cache_get_at(size_t first, size_t nr, struct hkm_run *run)
{
	size_t nr_words = read_once(&filled);

	for (size_t i = 0; i < nr_words && !read_once(&whole); i++) {
		uint64_t w = read_once(word_at(i));

		if (first_of(w) == first && nr_of(w) >= nr)
			return !(flags_of(w) & HKM_RUN_PINNED) &&
			       take(i, w, nr, run);
	}
	return false;
}

static size_t find_ranked(size_t lowest,
			  size_t (*rank)(const struct hkm_run *run, size_t best,
					 const void *arg),
			  const void *arg, uint64_t *word)
{
	size_t nr_words = read_once(&filled);
	size_t found_at = MAX_ENTRIES, best = 0, r;
	struct hkm_run run;

	for (size_t i = 0; i < nr_words; i++) {
		uint64_t w = read_once(word_at(i));

		if (!w || first_of(w) < lowest || flags_of(w) & HKM_RUN_PINNED)
			continue;
		unpack(w, &run);
		r = rank(&run, best, arg);
		if (r <= best)
			continue;
		found_at = i;
		best = r;
		*word = w;
	}
	return found_at;
}

bool hkm_cache_get_best(size_t lowest,
			size_t (*rank)(const struct hkm_run *run, size_t best,
				       const void *arg),
			const void *arg, struct hkm_run *run)
{
	uint64_t word;

	for (int tries = 0; tries < TRIES && !read_once(&whole); tries++) {
		size_t i = find_ranked(lowest, rank, arg, &word);

		if (i == MAX_ENTRIES)
			break;
		if (take(i, word, nr_of(word), run))
			return true;
	}
	return false;
}

/* ---- put -------------------------------------------------------------------- */

/* Of those that may leave, the one that has been idle longest. */
static size_t find_oldest(uint64_t before_ms, size_t lowest, bool pinned,
			  uint64_t *word)
{
	size_t nr_words = read_once(&filled), oldest = MAX_ENTRIES;
	uint64_t least = UINT64_MAX;

	if (before_ms < UINT64_MAX >> STAMP_SEQ_BITS)
		least = before_ms << STAMP_SEQ_BITS;
	for (size_t i = 0; i < nr_words; i++) {
		uint64_t w = read_once(word_at(i));

		if (!w || first_of(w) < lowest ||
		    (!pinned && flags_of(w) & HKM_RUN_PINNED) ||
		    read_once(stamp_at(i)) >= least)
			continue;
		least = read_once(stamp_at(i));
		oldest = i;
		*word = w;
	}
	return oldest;
}

static void extend_filled(size_t end)
{
	size_t old = read_once(&filled);

	while (old < end &&
	       !__atomic_compare_exchange_n(&filled, &old, end, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static inline bool put_into(size_t i, uint64_t word, uint64_t stamp)
{
	if (read_once(word_at(i)) || !swap(i, 0, word))
		return false;
	write_once(stamp_at(i), stamp);
	if (unlikely(i >= read_once(&filled)))
		extend_filled(i + 1);
	return true;
}

static bool put_anywhere(size_t home, size_t cap, uint64_t word, uint64_t stamp)
{
	for (size_t n = 0; n < cap; n++) {
		size_t i = home + n < cap ? home + n : home + n - cap;

		if (put_into(i, word, stamp))
			return true;
	}
	return false;
}

/* The table is full: the oldest run's place is the new one's. */
static bool replace_oldest(uint64_t word, uint64_t stamp)
{
	struct hkm_run out;
	uint64_t old;

	for (int tries = 0; tries < TRIES; tries++) {
		size_t i = find_oldest(UINT64_MAX, 0, false, &old);

		if (i == MAX_ENTRIES)
			return false;
		if (!swap(i, old, word))
			continue;
		write_once(stamp_at(i), stamp);
		unpack(old, &out);
		count(-1UL, -(uint64_t)out.nr);
		hkm_lane_add(&hkm_lane()->evictions, 1);
		read_once(&evict)(&out);
		return true;
	}
	return false;
}

static bool put_word(uint64_t word, uint64_t stamp)
{
	size_t cap = load_acquire(&capacity);

	if (unlikely(!cap))
		return false;
	return put_anywhere(home_of(hkm_lane(), cap), cap, word, stamp) ||
	       replace_oldest(word, stamp) ||
	       /* all that are there stay, and so does this one */
	       (flags_of(word) & HKM_RUN_PINNED &&
		put_anywhere(0, MAX_ENTRIES, word, stamp));
}

/* Counted first: a run that is in the table may be taken at once. */
bool hkm_cache_put(const struct hkm_run *run, uint64_t now_ms)
{
	struct hkm_lane *lane = hkm_lane();

	count(1, run->nr);
	if (likely(put_word(pack(run->first, run->nr, run->flags),
			    make_stamp(lane, now_ms)))) {
		hkm_lane_add(&lane->puts, 1);
		return true;
	}
	count(-1UL, -(uint64_t)run->nr);
	return false;
}

bool hkm_cache_pop(uint64_t before_ms, size_t lowest, bool pinned, size_t most,
		   struct hkm_run *run)
{
	uint64_t word;
	size_t i, rest;

	do {
		i = find_oldest(before_ms, lowest, pinned, &word);
		if (i == MAX_ENTRIES)
			return false;
		unpack(word, run);
		rest = run->nr > most ? run->nr - most : 0;
		if (rest && read_once(&whole))
			return false;
	} while (!swap(i, word, rest ? pack(run->first, rest, run->flags) : 0));
	run->first += rest;
	run->nr -= rest;
	count(rest ? 0 : -1UL, -(uint64_t)run->nr);
	return true;
}

bool hkm_cache_oldest(size_t lowest, uint64_t *ms)
{
	uint64_t word;
	size_t i = find_oldest(UINT64_MAX, lowest, false, &word);

	if (i == MAX_ENTRIES)
		return false;
	*ms = read_once(stamp_at(i)) >> STAMP_SEQ_BITS;
	return true;
}

/* ---- neighbours --------------------------------------------------------------- */

/**
 * struct found - a word as it was when it was looked at, and where
 */
struct found {
	uint64_t word;
	uint32_t place;
};

/* Protected by merging. */
struct found found[MAX_ENTRIES] behind_all("hkm_cache_found");

/* By address. Not qsort(), which may call malloc(). */
static void sort_found(size_t nr)
{
	for (size_t gap = nr / 2; gap; gap = gap == 2 ? 1 : gap * 5 / 11) {
		for (size_t i = gap; i < nr; i++) {
			struct found f = found[i];
			size_t k = i;

			for (; k >= gap && first_of(found[k - gap].word) >
					   first_of(f.word); k -= gap)
				found[k] = found[k - gap];
			found[k] = f;
		}
	}
}

static size_t find_all(void)
{
	size_t nr_words = read_once(&filled), nr = 0;

	for (size_t i = 0; i < nr_words; i++) {
		uint64_t w = read_once(word_at(i));

		if (w && !(flags_of(w) & HKM_RUN_PINNED)) {
			found[nr].word = w;
			found[nr++].place = (uint32_t)i;
		}
	}
	return nr;
}

/*
 * @b is taken out and added to @a. If @a has been taken meanwhile, @b goes back
 * as it was; where others have filled the table, it is @homeless.
 */
static bool join(struct found *a, const struct found *b,
		 struct hkm_run *homeless)
{
	uint64_t both = pack(first_of(a->word), nr_of(a->word) + nr_of(b->word),
			     flags_of(a->word) & flags_of(b->word));
	uint64_t stamp = read_once(stamp_at(b->place));

	if (!swap(b->place, b->word, 0))
		return false;
	if (!swap(a->place, a->word, both)) {
		if (!put_anywhere(0, read_once(&capacity), b->word, stamp)) {
			unpack(b->word, homeless);
			count(-1UL, -(uint64_t)homeless->nr);
		}
		return false;
	}
	if (read_once(stamp_at(a->place)) < stamp)
		write_once(stamp_at(a->place), stamp);
	count(-1UL, 0);
	a->word = both;
	return true;
}

bool hkm_cache_merge(void)
{
	struct hkm_run homeless = { 0 };
	bool joined = false;
	size_t nr, a = 0;

	if (read_once(&whole) || !hkm_trylock(&merging))
		return false;
	nr = find_all();
	sort_found(nr);
	for (size_t b = 1; b < nr && !homeless.nr; b++) {
		size_t end = first_of(found[a].word) + nr_of(found[a].word);

		if (end == first_of(found[b].word) && end != read_once(&border) &&
		    !((found[a].word ^ found[b].word) & SITE_MASK) &&
		    join(&found[a], &found[b], &homeless))
			joined = true;
		else
			a = b;
	}
	hkm_unlock_shared(&merging);
	if (homeless.nr)
		read_once(&evict)(&homeless);
	return joined;
}

/* ---- set-up -------------------------------------------------------------------- */

void hkm_cache_open(const struct hkm_cache_config *cfg)
{
	/* The first page of the table is there before the first free is. */
	__atomic_fetch_or(word_at(0), 0, __ATOMIC_RELAXED);
	write_once(&evict, cfg->evict);
	write_once(&order, cfg->order);
	write_once(&whole, cfg->whole);
	write_once(&border, cfg->border);
	/* Release: pairs with the acquire in put_word(), which needs evict. */
	store_release(&capacity, cfg->capacity);
}

void hkm_cache_close(void)
{
	write_once(&capacity, 0);
}

bool hkm_cache_is_divisible(void)
{
	return !read_once(&whole);
}

size_t hkm_cache_capacity(void)
{
	return read_once(&capacity);
}
