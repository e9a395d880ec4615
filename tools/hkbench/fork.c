// SPDX-License-Identifier: MIT
/*
 * The scenario `fork`: what a fork costs with a big block in use, and what the
 * first touches after it cost, in the child and in the parent.
 *
 * Each way to hold the block has a process of its own, which forks when it is
 * its turn. Fork is where they differ in kind: ordinary memory copies its page
 * tables at once and each page, of 4 KiB or less than that, on the first write;
 * the device copies nothing at once and all of a slot on the first touch, even a
 * read. So a fork is never shown without the touches.
 */

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hkbench.h"

#define ROUNDS_MIN	5	/* after one that is not kept */
#define CHUNKS		6	/* of 2 MiB, that one round touches */

static const struct {
	const char *name, *backend;
	bool splits;	/* a write after a fork leaves it in pages of 4 KiB */
	bool small;	/* whatever THP is set to */
} kinds[] = {
	{ "anon-thp", "floor", .splits = true },
	{ "anon-4k", "mmap", .small = true },
	{ "region", "region", .small = false },
	{ "region-heap", "region-heap", .small = false },
};

#define NR_KINDS	(sizeof(kinds) / sizeof(kinds[0]))

const char *hb_fork_backend(size_t i)
{
	return i < NR_KINDS ? kinds[i].name : NULL;
}

enum figure {
	FORK,			/* in the parent, until it returns */
	WHOLE,			/* until a child that does nothing is gone */
	CHILD_READ, CHILD_BYTE, CHILD_PAGES,
	PARENT_BYTE, PARENT_PAGES,	/* while the child lives */
	ALONE_PAGES,			/* when it is gone */
	NR_FIGURES,
};

static const char *const figure_str[NR_FIGURES] = {
	[FORK] = "fork",
	[WHOLE] = "fork, exit and wait",
	[CHILD_READ] = "child reads a byte of 2 MiB",
	[CHILD_BYTE] = "child writes a byte of 2 MiB",
	[CHILD_PAGES] = "child writes each page of 2 MiB",
	[PARENT_BYTE] = "parent writes a byte of 2 MiB, child alive",
	[PARENT_PAGES] = "parent writes each page of 2 MiB, child alive",
	[ALONE_PAGES] = "parent writes each page of 2 MiB, child gone",
};

/* of one round, in cycles; memory in bytes. Shared with the process's child */
struct round {
	int err;
	int64_t taken;		/* by a fork, before anything is touched */
	uint64_t cycles[NR_FIGURES];
};

static struct lane {
	const char *name;
	pid_t pid;
	int to, from;
	struct hb_samples cycles[NR_FIGURES], taken;
} lanes[NR_KINDS];

/* ---- the process that forks ---- */

static char *chunk(const struct hb_ctx *c, char *block, unsigned int nr)
{
	return block + nr % (c->len / HB_HUGE) * HB_HUGE;
}

static uint64_t timed_touch(char *p, size_t size, enum hb_touch touch)
{
	uint64_t start = hb_tsc();

	hb_touch_block(p, size, touch);
	return hb_tsc() - start;
}

static bool reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return !status;
}

static int time_whole(struct round *r)
{
	uint64_t start = hb_tsc();
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0)
		return -errno;
	r->cycles[FORK] = hb_tsc() - start;
	if (!reap(pid))
		return -ECHILD;
	r->cycles[WHOLE] = hb_tsc() - start;
	return 0;
}

static void child_touches(const struct hb_ctx *c, char *block, unsigned int at,
			  struct round *r)
{
	r->cycles[CHILD_READ] = timed_touch(chunk(c, block, at),
					    sizeof(uint64_t), HB_TOUCH_READ);
	r->cycles[CHILD_BYTE] = timed_touch(chunk(c, block, at + 1), 1,
					    HB_TOUCH_PAGE);
	r->cycles[CHILD_PAGES] = timed_touch(chunk(c, block, at + 2), HB_HUGE,
					     HB_TOUCH_PAGE);
}

/* the child touches when it is told to, and ends at the second word */
static int time_touches(const struct hb_ctx *c, char *block, unsigned int at,
			struct round *r)
{
	uint64_t before = hb_mem_available();
	int in, out;
	pid_t pid = hb_fork(&in, &out);
	char byte;

	if (!pid) {
		if (read(in, &byte, 1) != 1)
			_exit(1);
		child_touches(c, block, at, r);
		if (write(out, "", 1) != 1 || read(in, &byte, 1) != 1)
			_exit(1);
		_exit(0);
	}
	r->taken = (int64_t)(before - hb_mem_available());
	if (write(out, "", 1) != 1 || read(in, &byte, 1) != 1) {
		r->err = -ECHILD;
	} else {
		r->cycles[PARENT_BYTE] = timed_touch(chunk(c, block, at + 3), 1,
						     HB_TOUCH_PAGE);
		r->cycles[PARENT_PAGES] = timed_touch(chunk(c, block, at + 4),
						      HB_HUGE, HB_TOUCH_PAGE);
		if (write(out, "", 1) != 1)
			r->err = -ECHILD;
	}
	if (!reap(pid))
		r->err = -ECHILD;
	close(in);
	close(out);
	r->cycles[ALONE_PAGES] = timed_touch(chunk(c, block, at + 5), HB_HUGE,
					     HB_TOUCH_PAGE);
	return r->err;
}

/* each round begins with what the first began with */
static void make_whole(const struct hb_ctx *c, char *block, unsigned int at)
{
	for (unsigned int i = 0; i < CHUNKS; i++) {
		madvise(chunk(c, block, at + i), HB_HUGE, MADV_DONTNEED);
		hb_touch_block(chunk(c, block, at + i), HB_HUGE, HB_TOUCH_PAGE);
	}
}

static __attribute__((noreturn)) void
forking_process(size_t kind, const struct hb_backend *be, size_t size, int in,
		int out)
{
	struct hb_ctx ctx = {
		.size = size,
		.len = (size + HB_HUGE - 1) & ~(HB_HUGE - 1),
	};
	struct round *r = hb_map_shared(sizeof(*r));
	unsigned int at = 0;
	char *block = NULL;
	char byte;

	r->err = be->open(&ctx);
	if (!r->err) {
		block = be->get(&ctx);
		if (!block)
			r->err = -errno;
	}
	if (!r->err && kinds[kind].small)
		madvise(block, size, MADV_NOHUGEPAGE);
	if (!r->err)
		hb_touch_block(block, size, HB_TOUCH_PAGE);
	while (write(out, r, sizeof(*r)) == sizeof(*r) &&
	       read(in, &byte, 1) == 1) {
		memset(r, 0, sizeof(*r));
		r->err = time_whole(r);
		if (!r->err)
			r->err = time_touches(&ctx, block, at, r);
		if (kinds[kind].splits)
			make_whole(&ctx, block, at);
		at += CHUNKS;
	}
	_exit(0);
}

/* ---- who measures ---- */

static void stop_lane(struct lane *l)
{
	if (l->pid > 0) {
		kill(l->pid, SIGKILL);
		reap(l->pid);
		close(l->to);
		close(l->from);
	}
	l->pid = 0;
}

/* false when the lane is lost */
static bool answered(struct lane *l, size_t size, struct round *r)
{
	if (read(l->from, r, sizeof(*r)) != sizeof(*r))
		hb_add_skip("fork", l->name, size, "its process ended early");
	else if (r->err)
		hb_add_skip("fork", l->name, size, "%s", strerror(-r->err));
	else
		return true;
	stop_lane(l);
	return false;
}

static void start_lane(struct lane *l, size_t kind, size_t size)
{
	const char *name = kinds[kind].backend;
	const struct hb_backend *be = hb_find_backend(name, strlen(name));
	const char *why = hb_lane_refuse(be, size);
	struct round r;
	int in, out;

	memset(l, 0, sizeof(*l));
	l->name = kinds[kind].name;
	if (!hb_listed(l->name))
		return;
	if (why) {
		hb_add_skip("fork", l->name, size, "%s", why);
		return;
	}
	l->pid = hb_fork(&in, &out);
	if (!l->pid)
		forking_process(kind, be, size, in, out);
	l->to = out;
	l->from = in;
	answered(l, size, &r);
}

static void turn(struct lane *l, size_t size, bool keep)
{
	struct round r;

	if (l->pid <= 0)
		return;
	if (write(l->to, "", 1) != 1 || !answered(l, size, &r) || !keep)
		return;
	for (int f = 0; f < NR_FIGURES; f++)
		hb_samples_add(&l->cycles[f], r.cycles[f]);
	/* what others gave back meanwhile is not the fork's */
	hb_samples_add(&l->taken, r.taken > 0 ? (uint64_t)r.taken : 0);
}

static void book_lane(struct lane *l, size_t size)
{
	for (int f = 0; f < NR_FIGURES && l->cycles[f].n; f++) {
		struct hb_result *r = hb_add_result("fork", l->name);

		snprintf(r->figure, sizeof(r->figure), "%s", figure_str[f]);
		r->size = size;
		r->phase = HB_STEADY;
		r->threads = 1;
		r->iterations = r->n = l->cycles[f].n;
		r->ns_p50 = hb_percentile(&l->cycles[f], 50) * hb_ns_per_cycle;
		r->ns_p99 = hb_percentile(&l->cycles[f], 99) * hb_ns_per_cycle;
		r->ns_mean = hb_mean(&l->cycles[f]) * hb_ns_per_cycle;
		if (f == FORK)
			r->memory_taken = hb_percentile(&l->taken, 50);
		hb_samples_free(&l->cycles[f]);
	}
	hb_samples_free(&l->taken);
}

static void run_size(size_t size, double seconds)
{
	uint64_t end;

	if (hb_mem_available() < size * (NR_KINDS + 1)) {
		hb_add_skip("fork", "all", size, "needs %zu MiB available",
			    (size * (NR_KINDS + 1)) >> 20);
		return;
	}
	for (size_t i = 0; i < NR_KINDS; i++) {
		start_lane(&lanes[i], i, size);
		hb_progress(kinds[i].name);
	}
	end = hb_now_ns() + (uint64_t)(seconds * 1e9);
	for (int n = 0; n <= ROUNDS_MIN || hb_now_ns() < end; n++) {
		for (size_t i = 0; i < NR_KINDS; i++)
			turn(&lanes[i], size, n > 0);
		hb_progress("forks");
	}
	for (size_t i = 0; i < NR_KINDS; i++) {
		stop_lane(&lanes[i]);
		book_lane(&lanes[i], size);
	}
}

int hb_run_fork(double seconds)
{
	if (hb_opt.size) {
		run_size(hb_opt.size, seconds);
		return 0;
	}
	run_size(64UL << 20, seconds / 2);
	run_size(512UL << 20, seconds / 2);
	return 0;
}

/* ---- the table ---- */

static const struct hb_result *find(const struct hb_book *b, const char *name,
				    size_t size, enum figure f)
{
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (!strcmp(r->scenario, "fork") && r->size == size &&
		    !strcmp(r->backend, name) &&
		    !strcmp(r->figure, figure_str[f]))
			return r;
	}
	return NULL;
}

static void table_row(FILE *out, const struct hb_book *b, const char *name,
		      size_t size)
{
	const struct hb_result *fork = find(b, name, size, FORK);

	if (!fork)
		return;
	fprintf(out, "  %-12s %9.1f %9.1f", name, fork->ns_p50 / 1000,
		fork->ns_p99 / 1000);
	for (int f = WHOLE; f < NR_FIGURES; f++) {
		const struct hb_result *r = find(b, name, size, (enum figure)f);

		fprintf(out, " %9.1f", r ? r->ns_p50 / 1000 : NAN);
	}
	fprintf(out, " %9.1f %6llu\n", fork->memory_taken / (1 << 20),
		(unsigned long long)fork->n);
}

static void table(FILE *out, const struct hb_book *b, size_t size)
{
	fprintf(out, "\nfork: %zu MiB in use; us, medians, and the first touch "
		"of 2 MiB after the fork: read a byte, write a byte, write "
		"each page\n  %-12s %9s %9s %9s %29s %19s %9s %9s %6s\n"
		"  %-12s %9s %9s %9s %9s %9s %9s %9s %9s %9s %9s\n", size >> 20,
		"", "", "", "and exit", "the child, of its copy",
		"parent, child alive", "and gone", "MiB taken", "", "backend",
		"fork", "p99", "and wait", "read", "byte", "pages", "byte",
		"pages", "pages", "by fork");
	for (size_t i = 0; i < NR_KINDS; i++)
		table_row(out, b, kinds[i].name, size);
}

void hb_report_fork(FILE *out, const struct hb_book *b)
{
	size_t size = 0;

	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (strcmp(r->scenario, "fork") || r->size == size)
			continue;
		size = r->size;
		table(out, b, size);
	}
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, "fork"))
			fprintf(out, "  %s, %zu MiB: not run, %s\n",
				b->skips[i].backend, b->skips[i].size >> 20,
				b->skips[i].why);
}

static void judge_size(struct hb_book *b, size_t size)
{
	const struct hb_result *r = find(b, "region-heap", size, FORK);
	const struct hb_result *t = find(b, "anon-thp", size, FORK);
	struct hb_goal *g;
	char figure[120];

	if (!r && !t)
		return;
	snprintf(figure, sizeof(figure), "fork with %zu MiB in use: region-heap "
		 "against anon-thp", size >> 20);
	g = hb_add_goal(b, figure, r && t ? r->ns_p50 / t->ns_p50 : NAN, false,
			1.5);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "%.0f and %.0f us, medians of "
			 "%llu and %llu", r->ns_p50 / 1e3, t->ns_p50 / 1e3,
			 (unsigned long long)r->n, (unsigned long long)t->n);
	snprintf(figure, sizeof(figure), "fork with %zu MiB in use: memory taken "
		 "before a touch, %%", size >> 20);
	hb_add_goal(b, figure, r ? 100 * r->memory_taken / (double)size : NAN,
		    false, 10);
}

void hb_judge_fork(struct hb_book *b)
{
	judge_size(b, 64UL << 20);
	judge_size(b, 512UL << 20);
}
