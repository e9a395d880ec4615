// SPDX-License-Identifier: MIT
/*
 * The scenario `scattered`: how long does one wait for 2 MiB where hundreds of
 * MiB are free, and hardly two of them in one piece?
 *
 * That is what a machine looks like after some weeks. Here it is made on purpose
 * (scatter.h), by one page in each block of 2 MiB that cannot be moved. Then the
 * backends take turns: each gets block after block, writes to all pages of each,
 * and gives all of them back at the end of the turn. A wait is the time of one
 * block, from asking for it to having written to its last page: what a program
 * notices, whoever spends it.
 *
 *   small        pages of 4 KiB: nothing to look for, 512 faults
 *   thp-advised  MADV_HUGEPAGE: the kernel compacts memory while one waits, and
 *                then mostly gives single pages all the same
 *   region       HANDOUT: the device looks for a block without compaction, and
 *                takes 512 single pages where there is none
 */

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hakmem.h>
#include <linux/hakmem_region.h>

#include "arena.h"
#include "hkbench.h"
#include "scatter.h"

#define SCENARIO	"scattered"
#define BLOCKS		48U		/* of a turn */
#define LEAVE_KB	(64L << 10)	/* not scattered: the kernel's own */
#define HOG_BLOCKS	160U

struct lane;

/* 0 or -errno; @i counts the blocks of this turn */
struct kind {
	const char *name;
	unsigned int flags;
	int (*begin)(struct lane *l);
	int (*get)(struct lane *l, unsigned int i, void **p);
	void (*end)(struct lane *l);
};

struct lane {
	const struct kind *kind;
	struct hb_ctx ctx;
	struct hb_samples waits;
	uint64_t failed, faults, calls;
	uint64_t stalls;		/* compactions that somebody waited for */
	uint64_t singles;		/* slots with single pages */
	struct hb_calls counted;
};

/* ---- anonymous memory ---- */

static int anon_begin(struct lane *l, int advice)
{
	void *p = mmap(NULL, (BLOCKS + 1) * HB_HUGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t at = ((uintptr_t)p + HB_HUGE - 1) & ~(HB_HUGE - 1);

	if (p == MAP_FAILED)
		return -errno;
	l->ctx.map = p;
	l->ctx.map_len = (BLOCKS + 1) * HB_HUGE;
	l->ctx.block = (void *)at;
	return madvise((void *)at, BLOCKS * HB_HUGE, advice) ? -errno : 0;
}

static int small_begin(struct lane *l)
{
	return anon_begin(l, MADV_NOHUGEPAGE);
}

static int thp_begin(struct lane *l)
{
	return anon_begin(l, MADV_HUGEPAGE);
}

static int anon_get(struct lane *l, unsigned int i, void **p)
{
	*p = (char *)l->ctx.block + i * HB_HUGE;
	return 0;
}

static void anon_end(struct lane *l)
{
	munmap(l->ctx.map, l->ctx.map_len);
}

/* ---- the device ---- */

static int region_begin(struct lane *l)
{
	l->ctx.size = l->ctx.len = BLOCKS * HB_HUGE;
	return hb_ioctl_open(&l->ctx);
}

static int region_get(struct lane *l, unsigned int i, void **p)
{
	struct hb_arena *a = l->ctx.priv;
	int err = hb_arena_handout_at(a, i, 1);

	*p = a->base + i * HB_HUGE;
	return err;
}

static void region_end(struct lane *l)
{
	const struct hb_arena *a = l->ctx.priv;
	struct hkr_stats st = { .size = sizeof(st) };

	if (hkm_sys_region_stats(a->fd, &st) >= 0)
		l->singles += st.singles;
	hb_arena_close(&l->ctx);
}

static const struct kind kinds[] = {
	{ "small", 0, small_begin, anon_get, anon_end },
	{ "thp-advised", 0, thp_begin, anon_get, anon_end },
	{ "region", HB_DEVICE, region_begin, region_get, region_end },
};

#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *hb_scattered_backend(size_t i)
{
	return i < NR_KINDS ? kinds[i].name : NULL;
}

/* ---- turns ---- */

static uint64_t compact_stalls(void)
{
	unsigned long long n = 0;
	char line[128];
	FILE *f = fopen("/proc/vmstat", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "compact_stall %llu", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

static void turn(struct lane *l)
{
	uint64_t stalls = compact_stalls(), start;
	void *p;
	int err = l->kind->begin(l);

	if (err) {
		l->failed += BLOCKS;
		return;
	}
	for (unsigned int i = 0; i < BLOCKS; i++) {
		start = hb_tsc();
		err = l->kind->get(l, i, &p);
		if (err) {
			l->failed++;
			continue;
		}
		hb_touch_block(p, HB_HUGE, HB_TOUCH_PAGE);
		hb_samples_add(&l->waits, hb_tsc() - start);
	}
	l->stalls += compact_stalls() - stalls;
	l->kind->end(l);
}

static void add_row(struct lane *l)
{
	struct hb_result *r = hb_add_result(SCENARIO, l->kind->name);
	uint64_t asked = l->waits.n + l->failed;

	r->size = HB_HUGE;
	r->touch = HB_TOUCH_PAGE;
	r->phase = HB_STEADY;
	r->threads = 1;
	r->iterations = asked;
	r->n = l->waits.n;
	r->ns_p50 = hb_percentile(&l->waits, 50) * hb_ns_per_cycle;
	r->ns_p99 = hb_percentile(&l->waits, 99) * hb_ns_per_cycle;
	r->ns_p999 = hb_percentile(&l->waits, 99.9) * hb_ns_per_cycle;
	r->ns_max = hb_percentile(&l->waits, 100) * hb_ns_per_cycle;
	r->ns_mean = hb_mean(&l->waits) * hb_ns_per_cycle;
	r->failed = l->failed;
	r->stalls_per_op = (double)l->stalls / (double)asked;
	if (l->kind->flags & HB_DEVICE)
		r->single_fraction = (double)l->singles / (double)asked;
}

/* ---- the run ---- */

static long huge_kb(void)
{
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "re");

	while (f && kb < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "AnonHugePages: %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/*
 * Takes the blocks that are whole, or that compaction can make, so that the
 * backends do not live on them: up to @room. How many there were.
 */
static unsigned int take_whole_blocks(char *p, unsigned int room)
{
	unsigned int n = 0;
	long before = huge_kb(), now;

	for (; n < room; n++, before = now) {
		hb_touch_block(p + n * HB_HUGE, HB_HUGE, HB_TOUCH_PAGE);
		now = huge_kb();
		if (now <= before)
			break;
	}
	if (n < room)
		madvise(p + n * HB_HUGE, HB_HUGE, MADV_DONTNEED);
	return n;
}

static const char *refusal(void)
{
	if (!hb_throwaway_guest() && !hb_opt.mean_it)
		return "this machine's memory would be scattered: run it in a "
		       "guest (tools/vm/run), or give --i-mean-it";
	if (geteuid())
		return "only root may see where pages are";
	if (hb_mem_available() < 384UL << 20)
		return "less than 384 MiB available";
	if (hb_mem_available() > 2048UL << 20)
		return "more than 2 GiB available: it would take too long";
	return NULL;
}

/* as many rounds as were asked for, else as time allows */
static bool go_on(unsigned int round, double done, double seconds)
{
	if (hb_opt.runs)
		return round < hb_opt.runs;
	return !round || done < seconds;
}

static void run_turns(struct lane *lanes, double seconds)
{
	uint64_t start = hb_now_ns();
	double done = 0;

	for (unsigned int round = 0; go_on(round, done, seconds); round++) {
		for (size_t i = 0; i < NR_KINDS; i++) {
			struct lane *l = &lanes[(i + round) % NR_KINDS];

			if (l->kind)
				turn(l);
			hb_progress(SCENARIO);
		}
		done = (double)(hb_now_ns() - start) / 1e9;
	}
}

/* NULL, or why there is no table */
static const char *scatter(struct scattered *memory, struct hb_ctx *hog)
{
	if (!fragment(memory, LEAVE_KB))
		return "the memory could not be scattered";
	if (hb_map_thp(hog, HOG_BLOCKS * HB_HUGE) ||
	    take_whole_blocks(hog->block, HOG_BLOCKS) == HOG_BLOCKS)
		return "there are still too many whole blocks";
	return NULL;
}

int hb_run_scattered(double seconds)
{
	struct hb_ctx hog = { .map = NULL };
	struct lane lanes[NR_KINDS] = { 0 };
	static struct scattered memory;
	const char *why = refusal();

	if (!why)
		why = scatter(&memory, &hog);
	if (why) {
		hb_add_skip(SCENARIO, "all", HB_HUGE, "%s", why);
		goto heal;
	}
	for (size_t i = 0; i < NR_KINDS; i++) {
		if (!hb_listed(kinds[i].name))
			continue;
		if ((kinds[i].flags & HB_DEVICE) && !hb_device_present())
			hb_add_skip(SCENARIO, kinds[i].name, HB_HUGE, "%s",
				    hb_device_why_not());
		else
			lanes[i].kind = &kinds[i];
	}
	run_turns(lanes, seconds);
	for (size_t i = 0; i < NR_KINDS; i++) {
		if (lanes[i].kind)
			add_row(&lanes[i]);
		hb_samples_free(&lanes[i].waits);
	}
heal:
	if (hog.map)
		munmap(hog.map, hog.map_len);
	heal(&memory);
	return 0;
}

/* ---- the table ---- */

static void report_row(FILE *out, const struct hb_result *r)
{
	fprintf(out, "  %-13s %9.1f %9.1f %9.1f %9.1f %9.1f %7llu %8.2f",
		r->backend, r->ns_p50 / 1e6, r->ns_p99 / 1e6, r->ns_p999 / 1e6,
		r->ns_max / 1e6, r->ns_mean / 1e6, (unsigned long long)r->failed,
		r->stalls_per_op);
	if (isfinite(r->single_fraction))
		fprintf(out, " %7.1f %%", 100 * r->single_fraction);
	else
		fprintf(out, " %9s", "-");
	fprintf(out, " %7llu\n", (unsigned long long)r->iterations);
}

void hb_report_scattered(FILE *out, const struct hb_book *b)
{
	bool any = false;

	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (strcmp(r->scenario, SCENARIO))
			continue;
		if (!any)
			fprintf(out, "\nscattered: wait for 2 MiB, got and "
				"written to, where one page of each block is "
				"pinned; ms\n  %-13s %9s %9s %9s %9s %9s %7s %8s "
				"%9s %7s\n", "", "p50", "p99", "p99.9", "max",
				"mean", "failed", "stalls", "singles",
				"blocks");
		report_row(out, r);
		any = true;
	}
	if (any)
		fprintf(out, "  stalls: times somebody waited for compaction, a "
			"block; singles: blocks made of single pages\n");
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, SCENARIO))
			fprintf(out, "%s  %s: %s\n", any ? "" :
				"\nscattered:\n", b->skips[i].backend,
				b->skips[i].why);
}
