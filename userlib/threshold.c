// SPDX-License-Identifier: MIT
/*
 * From what size on a block is a whale, found out while the program runs.
 *
 * Seven candidates, 512 KiB to 32 MiB, are in force in turns, each for as many
 * allocations as HKM_THRESHOLD_EPOCH says, and what the later ones cost is what
 * its games are about (elo.c). A block's cost is not what malloc() takes: a block
 * of fresh memory comes quickly, and the program pays for it when it writes.
 * So the cost of an allocation is
 *
 *	time in malloc(), free() and so on, of blocks that it is about, and
 *	minor faults of the process, times what one takes,
 *
 * where the faults are counted from epoch to epoch, and what one takes is measured
 * once. A fault of a fresh slot that gets a huge page clears 2 MiB; that takes what
 * was measured for such a one, and there are no more of them than fresh slots.
 * (Where huge pages are given unasked, libc's faults look cheaper than they are.)
 *
 * The faults of what was only reserved are none, so of blocks that nobody touches
 * all candidates cost about the same; differences of a few faults for each
 * allocation are none. Then all is a draw, and the prior, 2 MiB, stays.
 *
 * Blocks of 32 MiB and more are whales whoever wins, and are not looked at.
 *
 * Who allocates is measured, in any thread: it reads the clock before and after,
 * and adds the difference if nobody else is just doing that; nobody waits. What was
 * begun in one epoch and ends in another is left out. A call inside another one
 * (realloc() that allocates, a program's callback) belongs to that.
 *
 * Frees of the next allocator's blocks are seen because its free() is replaced from
 * the first allocation that is measured to the last. A whale is known by its address, so it does not
 * matter who was in force when it was made.
 *
 * After HKM_THRESHOLD_BOUND allocations the winner is hkm_threshold, the next
 * allocator's free() is back in its place, and no call comes here any more.
 *
 * A forked child goes on where its parent was, and begins the epoch again: its
 * faults are counted from zero.
 */
#include <sys/mman.h>

#include "cache.h"
#include "env.h"
#include "heap.h"
#include "lane.h"
#include "lock.h"
#include "machine.h"
#include "run.h"
#include "sites.h"
#include "source.h"
#include "sys.h"
#include "threshold.h"
#include "whale.h"
#include "window.h"

#define PAGE	   ((size_t)4096)
#define TRY_PAGES  32
#define TRIES	   4
#define NS_UNKNOWN 500	/* a fault, where there is no memory to try one */

/**
 * struct rating - what is known so far; protected by lock
 * @elo: the games
 * @started: the costs of a fault are known
 * @counting: the candidate in force has had its warm-up
 * @allocs, @ns, @fresh: of this epoch: allocations, time, fresh slots
 * @faults: of the process when counting began
 * @fault_ns, @huge_ns: what a fault takes, and one of a huge page
 */
struct rating {
	struct hkm_elo elo;
	bool started;
	bool counting;
	uint64_t allocs;
	uint64_t ns;
	uint64_t fresh;
	uint64_t faults;
	uint64_t fault_ns;
	uint64_t huge_ns;
};

enum hkm_threshold_state hkm_threshold_state;

static void in_child(void);
static struct hkm_lock lock = { .in_child = in_child };

static struct rating rating;

/* Atomic, each for itself. */
static size_t in_force = HKM_WHALE_MIN;
static unsigned int round_nr;	/* changes with every epoch */
static bool was_rated;

static void (*next_free)(void *ptr);	/* atomic; while it is replaced */


__attribute__((constructor)) static void register_lock(void)
{
	hkm_lock_register(&lock);
}

/* ---- epochs ------------------------------------------------------------------- */

static void begin_epoch(void)
{
	rating.counting = false;
	rating.allocs = 0;
	rating.ns = 0;
	rating.fresh = 0;
	write_once(&in_force,
		   HKM_THRESHOLD_CANDIDATE(hkm_elo_turn(&rating.elo)));
	write_once(&round_nr, read_once(&round_nr) + 1);
}

static void begin_counting(void)
{
	rating.counting = true;
	rating.allocs = 0;
	rating.ns = 0;
	rating.fresh = 0;
	rating.faults = hkm_sys_minor_faults();
}

static void in_child(void)
{
	if (read_once(&hkm_threshold_state) == HKM_THRESHOLD_RATING)
		begin_epoch();
}

/* ns for each allocation */
static uint64_t epoch_cost(void)
{
	uint64_t faults = hkm_sys_minor_faults() - rating.faults;
	uint64_t huge = rating.fresh < faults ? rating.fresh : faults;

	return (rating.ns + (faults - huge) * rating.fault_ns +
		huge * rating.huge_ns) / rating.allocs;
}

/* ---- what a fault takes -------------------------------------------------------- */

/* ns for each of @nr first writes, @step apart */
static uint64_t time_writes(char *at, size_t nr, size_t step)
{
	uint64_t begun = hkm_sys_clock_ns();

	for (size_t i = 0; i < nr; i++)
		*(volatile char *)(at + i * step) = 1;
	return (hkm_sys_clock_ns() - begun) / nr;
}

static uint64_t try_pages(void)
{
	size_t size = TRIES * TRY_PAGES * PAGE;
	uint64_t least = UINT64_MAX, ns;
	char *map = hkm_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (HKM_SYS_FAILED(map))
		return NS_UNKNOWN;
	hkm_sys_madvise_nohugepage(map, size);
	for (size_t i = 0; i < TRIES; i++) {
		ns = time_writes(map + i * TRY_PAGES * PAGE, TRY_PAGES, PAGE);
		if (ns < least)
			least = ns;
	}
	hkm_sys_munmap(map, size);
	return least ?: 1;
}

/* Of two: the first may have to wait for a page to be made. */
static uint64_t try_huge_pages(void)
{
	uint64_t least, ns;
	size_t size = 2 * HKM_SLOT_SIZE;
	char *slots;

	if (hkm_window_reserve(2, &slots))
		return 0;
	if (hkm_sys_mprotect(slots, size, PROT_READ | PROT_WRITE)) {
		hkm_window_unreserve(slots, 2);
		return 0;
	}
	hkm_sys_madvise_hugepage(slots, size);
	least = time_writes(slots, 1, PAGE);
	ns = time_writes(slots + HKM_SLOT_SIZE, 1, PAGE);
	hkm_window_unreserve(slots, 2);
	return ns < least ? ns : least;
}

static void measure_faults(void)
{
	rating.fault_ns = try_pages();
	/* where the machine has none it is a fault like any other */
	rating.huge_ns = hkm_machine_learn().huge ? try_huge_pages() : 0;
	if (rating.huge_ns < rating.fault_ns)
		rating.huge_ns = rating.fault_ns;
}

/* ---- begin and end -------------------------------------------------------------- */

/* In place of the next allocator's, for as long as something is measured. */
static void rated_free(void *ptr)
{
	size_t size = ptr ? read_once(&hkm_next.usable_size)(ptr) : 0;
	/* Acquire: pairs with the releases of who replaces it and puts it back. */
	void (*free_it)(void *ptr) = load_acquire(&hkm_next.free);
	struct hkm_rated op;

	if (free_it == rated_free)
		free_it = read_once(&next_free);
	hkm_threshold_begin(&op, size);
	free_it(ptr);
	hkm_threshold_end(&op, NULL, size);
}

static void replace_free(void)
{
	if (read_once(&hkm_next.free) == rated_free)
		return;
	write_once(&next_free, read_once(&hkm_next.free));
	store_release(&hkm_next.free, rated_free);
}

static void put_free_back(void)
{
	if (read_once(&hkm_next.free) == rated_free)
		store_release(&hkm_next.free, read_once(&next_free));
}

/* The state last: whoever still rates finds the right size in force, too. */
static void fix(size_t size)
{
	write_once(&in_force, size);
	write_once(&hkm_threshold, size);
	write_once(&hkm_threshold_state, hkm_sites_are_on() ?
					 HKM_THRESHOLD_SITES :
					 HKM_THRESHOLD_FIXED);
	put_free_back();
}

static void begin_rating(void)
{
	rating = (struct rating){ .started = false };
	hkm_elo_begin(&rating.elo);
	begin_epoch();
	write_once(&hkm_threshold_state, HKM_THRESHOLD_RATING);
	write_once(&hkm_threshold, HKM_THRESHOLD_MIN);
}

void hkm_threshold_choose(size_t size)
{
	hkm_lock_shared(&lock);
	write_once(&was_rated, size == HKM_THRESHOLD_AUTO);
	if (size == HKM_THRESHOLD_AUTO)
		begin_rating();
	else
		fix(size);
	hkm_unlock_shared(&lock);
}

void hkm_threshold_read_environment(void)
{
	size_t size;

	if (hkm_env_bytes_or(HAKMEM_WHALE_THRESHOLD, "auto",
			     HKM_THRESHOLD_MIN, HKM_THRESHOLD_MAX,
			     HKM_WHALE_MIN, &size) == 1)
		size = HKM_THRESHOLD_AUTO;
	hkm_threshold_choose(size);
}

size_t hkm_threshold_now(void)
{
	if (read_once(&hkm_threshold_state) == HKM_THRESHOLD_RATING)
		return read_once(&in_force);
	return read_once(&hkm_threshold);
}

/* ---- operations ----------------------------------------------------------------- */

static bool is_about(size_t size)
{
	return size >= HKM_THRESHOLD_MIN && size < HKM_THRESHOLD_TOP;
}

void hkm_threshold_begin(struct hkm_rated *op, size_t size)
{
	op->counts = !hkm_is_in(HKM_IN_RATED) && is_about(size) && hkm_threshold_is_rating();
	if (!op->counts)
		return;
	hkm_enter(HKM_IN_RATED);
	op->round = read_once(&round_nr);
	op->misses = read_once(&hkm_lane()->misses);
	op->begun = hkm_sys_clock_ns();
}

/* Slots of anonymous memory, which a huge page is cleared for. */
static uint64_t fresh_slots(const struct hkm_rated *op, const void *ptr,
			    size_t size)
{
	if (!hkm_window_has(ptr) || !hkm_source_is_anon(hkm_slot_number(ptr)))
		return 0;
	if (read_once(&hkm_lane()->misses) == op->misses && hkm_whale_is_kept())
		return 0;
	return hkm_slots_for(size);
}

/* True when the last epoch has ended. */
static bool count(const struct hkm_rated *op, uint64_t ns, uint64_t allocs,
		  uint64_t fresh)
{
	if (op->round != read_once(&round_nr))
		return false;
	if (!rating.started) {
		measure_faults();
		replace_free();
		rating.started = true;
		begin_epoch();
		return false;
	}
	rating.allocs += allocs;
	rating.ns += ns;
	rating.fresh += fresh;
	if (!rating.counting) {
		if (rating.allocs >= HKM_THRESHOLD_WARM_UP)
			begin_counting();
		return false;
	}
	if (rating.allocs < HKM_THRESHOLD_COUNTED)
		return false;
	hkm_elo_cost(&rating.elo, epoch_cost(),
		     HKM_THRESHOLD_LEAST * rating.fault_ns);
	begin_epoch();
	return rating.elo.settled;
}

static void report(void)
{
	if (hkm_verbose())
		hkm_message("blocks of %zu KiB and more are whales, after %d games of thresholds",
			    read_once(&hkm_threshold) >> 10, HKM_ELO_GAMES);
}

void hkm_threshold_end(const struct hkm_rated *op, const void *ptr, size_t size)
{
	uint64_t ns, fresh;
	bool settled;

	if (!op->counts)
		return;
	ns = hkm_sys_clock_ns() - op->begun;
	hkm_exit(HKM_IN_RATED);
	fresh = fresh_slots(op, ptr, size);
	if (!hkm_trylock(&lock))
		return;
	settled = hkm_threshold_is_rating() && count(op, ns, !!ptr, fresh);
	if (settled)
		fix(read_once(&in_force));
	hkm_unlock_shared(&lock);
	if (settled)
		report();
}

void hkm_threshold_stats(struct hkm_heap_stats *st)
{
	st->threshold = hkm_threshold_now();
	if (!read_once(&was_rated))
		return;
	hkm_lock_shared(&lock);
	st->threshold_games = rating.elo.games;
	st->threshold_is_rated = !rating.elo.settled && hkm_threshold_is_rating();
	for (int i = 0; i < HKM_ELO_NR; i++)
		st->threshold_ratings[i] = rating.elo.rating[i] / HKM_ELO_POINT;
	hkm_unlock_shared(&lock);
}
