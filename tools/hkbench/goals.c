// SPDX-License-Identifier: MIT
/*
 * The figures that the project set itself, judged from this run's results.
 * Each one is a comparison inside one table. What a run cannot decide (another
 * accelerator, no device) is left open and says why; it is never a pass.
 */

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hkbench.h"

#define COMPARE_MAX	8

static struct hb_book *book;
static bool tcg;

struct key {
	const char *scenario, *backend;
	enum hb_phase phase;
	enum hb_touch touch;
	enum hb_mode mode;
	unsigned int burst;
	uint64_t iterations;		/* cold phase only */
};

static const struct hb_result *find(struct key k)
{
	for (size_t i = 0; i < book->nr_results; i++) {
		const struct hb_result *r = &book->results[i];

		if (!strcmp(r->scenario, k.scenario) &&
		    !strcmp(r->backend, k.backend) && r->size == HB_HUGE &&
		    r->phase == k.phase && r->touch == k.touch &&
		    r->mode == k.mode &&
		    (k.mode != HB_BURST || k.phase == HB_COLD ||
		     r->burst == k.burst) &&
		    (k.phase == HB_STEADY || r->iterations == k.iterations))
			return r;
	}
	return NULL;
}

static const struct hb_result *steady(const char *backend, enum hb_touch touch)
{
	return find((struct key){ "vm", backend, HB_STEADY, touch, HB_PLAIN,
				  0, 0 });
}

/* bursts of 8: as long as everybody else's turn */
static const struct hb_result *burst(const char *backend, enum hb_touch touch)
{
	return find((struct key){ "vm", backend, HB_STEADY, touch, HB_BURST,
				  HB_TURN, 0 });
}

static const struct hb_result *sustained(const char *backend,
					 enum hb_touch touch)
{
	return find((struct key){ "vm", backend, HB_STEADY, touch, HB_SUSTAINED,
				  0, 0 });
}

static const struct hb_result *taken_beside(const char *backend)
{
	return find((struct key){ "reclaim", backend, HB_STEADY, HB_TOUCH_PAGE,
				  HB_PLAIN, 0, 0 });
}

static const struct hb_result *cold(const char *backend, uint64_t n)
{
	return find((struct key){ "vm", backend, HB_COLD, HB_TOUCH_PAGE,
				  HB_PLAIN, 0, n });
}

static double p50(const struct hb_result *r)
{
	return r ? r->ns_p50 : NAN;
}

struct hb_goal *hb_add_goal(struct hb_book *b, const char *figure, double value,
			    bool at_least, double limit)
{
	struct hb_goal *g;

	b->goals = realloc(b->goals, (b->nr_goals + 1) * sizeof(*g));
	if (!b->goals) {
		perror("hkbench");
		exit(1);
	}
	g = &b->goals[b->nr_goals++];
	memset(g, 0, sizeof(*g));
	snprintf(g->figure, sizeof(g->figure), "%s", figure);
	g->value = value;
	g->limit = limit;
	g->at_least = at_least;
	if (isnan(value)) {
		g->ok = -1;
		strcpy(g->note, "not measured here");
	} else {
		g->ok = at_least ? value >= limit : value <= limit;
	}
	return g;
}

static struct hb_goal *add(const char *figure, double value, bool at_least,
			   double limit)
{
	return hb_add_goal(book, figure, value, at_least, limit);
}

static void open_goal(struct hb_goal *g, const char *why)
{
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "%s", why);
	g->ok = -1;
}

static void judge_saving(const char *backend)
{
	char figure[120];

	snprintf(figure, sizeof(figure),
		 "%s against mmap, page-touch: less time, %%", backend);
	add(figure,
	    100 * (1 - p50(steady(backend, HB_TOUCH_PAGE)) /
			       p50(steady("mmap", HB_TOUCH_PAGE))),
	    true, 60.2);
}

static void judge_hits(const char *backend)
{
	static const uint64_t steps[] = { 10, 100 };
	const struct hb_result *r, *mm = cold("mmap", 100);
	struct hb_goal *g;
	char figure[120];

	for (int i = 0; i < 2; i++) {
		uint64_t samples;

		r = cold(backend, steps[i]);
		snprintf(figure, sizeof(figure), "%s: hits in %llu operations",
			 backend, (unsigned long long)steps[i]);
		/* counters add up over the processes of this row */
		samples = r ? r->n / steps[i] : 0;
		add(figure, samples ? (double)r->counters.hits /
					      (double)samples : NAN,
		    true, (double)(steps[i] - 1));
	}
	r = cold(backend, 100);
	snprintf(figure, sizeof(figure),
		 "%s: munmap calls in 100 operations", backend);
	g = add(figure, r && r->has_calls ?
		(double)r->calls.n[HB_CALL_MUNMAP] : NAN, false, 1);
	if (g->ok >= 0 && mm && mm->has_calls)
		snprintf(g->note, sizeof(g->note), "mmap: %llu; and %llu at the "
			 "close", (unsigned long long)
			 mm->calls.n[HB_CALL_MUNMAP],
			 (unsigned long long)r->close_munmaps);
}

static void judge_region(void)
{
	const struct hb_result *r = steady("region", HB_TOUCH_PAGE);
	struct hb_goal *g;

	add("region against floor, page-touch: times the time",
	    p50(r) / p50(steady("floor", HB_TOUCH_PAGE)), false, 1.2);
	add("the same while reclaim takes slots beside it",
	    p50(taken_beside("region")) / p50(taken_beside("floor")), false,
	    1.2);
	add("region, page-touch: faults/op", r ? r->faults_per_op : NAN, false,
	    0);
	add("region, page-touch: system calls/op",
	    r ? r->syscalls_per_op : NAN, false, 0);
	g = add("region against free-thp, page-touch: times faster",
		p50(steady("free-thp", HB_TOUCH_PAGE)) / p50(r), true, 20);
	if (!tcg)
		open_goal(g, "the limit is for TCG");
	add("region against decay, page-touch: times the time",
	    p50(r) / p50(steady("decay", HB_TOUCH_PAGE)), false, 1.05);
}

/* the worst of all sizes */
static void judge_full(void)
{
	double worst = NAN, x;
	unsigned int sizes = 0;
	struct hb_goal *g;
	char at[16] = "";

	for (size_t size = HB_HUGE; size <= 64UL << 20; size *= 2) {
		x = hb_swept(book, "region", size, HB_TOUCH_FULL) /
		    hb_swept(book, "free-thp", size, HB_TOUCH_FULL);
		sizes += !isnan(x);
		if (!(x > worst) && !isnan(worst))
			continue;
		worst = x;
		hb_size_str(at, sizeof(at), size);
	}
	g = add("region against free-thp, full memset, 2 to 64 MiB: times the time",
		worst, false, 1);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "at %s, the worst of %u "
			 "sizes", at, sizes);
}

static void judge_fresh_against(const char *rival)
{
	const struct hb_result *s = sustained("region-fresh", HB_TOUCH_PAGE);
	double other = p50(steady(rival, HB_TOUCH_PAGE)), zero;
	struct hb_goal *g;
	char figure[120];

	snprintf(figure, sizeof(figure), "region-fresh burst against %s, "
		 "page-touch: times faster", rival);
	add(figure, other / p50(burst("region-fresh", HB_TOUCH_PAGE)), true, 40);
	zero = s ? s->zero_ns_per_slot : NAN;
	snprintf(figure, sizeof(figure), "region-fresh sustained against %s, "
		 "page-touch: times faster", rival);
	g = add(figure, s ? other / s->ns_mean : NAN, true, 0.8 * other / zero);
	if (g->ok >= 0 && isnan(zero))
		open_goal(g, "the zeroing time is not known");
	else if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "0.8 of %s %.2f ms / zeroing "
			 "a slot %.2f ms", rival, other / 1e6, zero / 1e6);
}

static void judge_fresh(void)
{
	const struct hb_result *b = burst("region-fresh", HB_TOUCH_PAGE);
	const struct hb_result *f = steady("floor", HB_TOUCH_FULL);
	struct hb_goal *g;

	judge_fresh_against("dontneed");
	judge_fresh_against("dontneed-thp");
	add("region-fresh burst, page-touch: faults/op",
	    b ? b->faults_per_op : NAN, false, 1);
	add("region-fresh burst, page-touch: part mapped by PMD",
	    b ? b->pmd_fraction : NAN, true, 1);
	/* where memory is real, the floor's hot block is in the cache */
	g = add("region-fresh burst against floor, full memset: times the time",
		p50(burst("region-fresh", HB_TOUCH_FULL)) /
			(tcg ? p50(f) : f ? f->ns_first_p50 : NAN),
		false, 1.10);
	if (g->ok >= 0 && !tcg)
		strcpy(g->note, "against the floor's cache-cold operation");
}

static void judge_cold(void)
{
	const struct hb_result *r = find((struct key){
		"cold", "region-ioctl", HB_COLD, HB_TOUCH_PAGE, HB_BURST, 1, 1 });
	const struct hb_result *m = find((struct key){
		"cold", "mmap-thp", HB_COLD, HB_TOUCH_PAGE, HB_PLAIN, 0, 1 });
	struct hb_goal *g;

	g = add("cold, region-ioctl against mmap-thp, page-touch: times faster",
		p50(m) / p50(r), true, 20);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note),
			 "apart: open %.0f us, SETUP %.0f us, mmap %.0f us",
			 r->open_ns / 1e3, r->setup_ns / 1e3, r->mmap_ns / 1e3);
}

/* from the first call of a fresh process on: what a user waits for */
static double from_start(const char *backend)
{
	const struct hb_result *r = find((struct key){
		"cold", backend, HB_COLD, HB_TOUCH_PAGE, HB_PLAIN, 0, 1 });

	return r ? r->start_ns : NAN;
}

static void judge_cold_start(void)
{
	struct hb_goal *g;

	add("cold with the start, anon-heap against floor, page: times the time",
	    from_start("anon-heap") / from_start("floor"), false, 1.10);
	add("cold with the start, anon-heap against mmap-thp, page: times the time",
	    from_start("anon-heap") / from_start("mmap-thp"), false, 0.9);
	g = add("cold with the start, region-heap against mmap-thp: times faster",
		from_start("mmap-thp") / from_start("region-heap"), true, 20);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "%.0f us of %.0f us",
			 from_start("region-heap") / 1e3,
			 from_start("mmap-thp") / 1e3);
}

static double ring_cycles(const char *figure)
{
	for (size_t i = 0; i < book->nr_results; i++)
		if (!strcmp(book->results[i].figure, figure))
			return book->results[i].cycles;
	return NAN;
}

static void judge_ring(void)
{
	struct hb_goal *g;

	g = add("whale_get hit, one thread: cycles",
		ring_cycles("get, hit, one thread"), false, 30);
	if (tcg)
		open_goal(g, "the limit is for real processors");
	g = add("whale_get hit, a second thread alive: cycles",
		ring_cycles("get, hit, a second thread alive"), false, 50);
	if (tcg)
		open_goal(g, "the limit is for real processors");
	add("whale get + put, 4096 slots against 8: times the cycles",
	    ring_cycles("get + put, 4096 slots") /
		    ring_cycles("get + put, 8 slots"),
	    false, 1.3);
}

/* the worst of all rows of the scenario; NAN where none was measured */
static double worst_zeroing(double (*of)(const struct hb_result *on,
					 const struct hb_result *off))
{
	double worst = NAN;

	for (size_t i = 0; i + 1 < book->nr_results; i++) {
		const struct hb_result *off = &book->results[i], *on = off + 1;

		if (off->background == HB_ZERO_OFF &&
		    on->background == HB_ZERO_ON)
			worst = fmax(worst, of(on, off));
	}
	return worst;
}

static double zeroing_cpu(const struct hb_result *on,
			  const struct hb_result *off)
{
	(void)off;
	return on->paired_cpu;
}

static double zeroing_time(const struct hb_result *on,
			   const struct hb_result *off)
{
	(void)off;
	return on->paired_time;
}

static double zeroing_counts(const struct hb_result *on,
			     const struct hb_result *off)
{
	return fmax(on->faults_per_op - off->faults_per_op,
		    on->syscalls_per_op - off->syscalls_per_op);
}

static void judge_zeroing(void)
{
	struct hb_goal *g;

	add("background zeroing on against off, any row: times the CPU time",
	    worst_zeroing(zeroing_cpu), false, 1.02);
	add("background zeroing on, any row: more faults or calls/op than off",
	    worst_zeroing(zeroing_counts), false, 0);
	g = add("background zeroing on against off, any row: paired median, times",
		worst_zeroing(zeroing_time), false, 1.02);
	if (tcg)
		open_goal(g, "the limit is for KVM and real processors");
}

void hb_judge(struct hb_book *b)
{
	book = b;
	tcg = !strcmp(b->machine.accel, "TCG");
	hb_judge_memory(b);
	hb_judge_peers(b);
	/* those two run alone */
	if (!b->nr_results || !strcmp(b->results[0].scenario, "scattered") ||
	    !strcmp(b->results[0].scenario, "peers"))
		return;
	judge_saving("whale");
	judge_saving("region");
	judge_hits("whale");
	judge_hits("region");
	judge_region();
	judge_full();
	judge_fresh();
	judge_cold();
	judge_cold_start();
	judge_ring();
	judge_zeroing();
}

/* ---- one table of several files ---- */

static void compare_cell(FILE *out, const json_t *goal)
{
	const json_t *ok = json_object_get(goal, "ok");
	const json_t *value = json_object_get(goal, "value");
	char text[32] = "-";

	if (json_is_number(value))
		snprintf(text, sizeof(text), "%.4g %s",
			 json_number_value(value),
			 json_is_true(ok) ? "met" :
			 json_is_false(ok) ? "MISSED" : "open");
	fprintf(out, "  %-14s", text);
}

/* goal @i in all files; a limit that was itself measured is in their tables */
static void compare_limit(FILE *out, json_t *const *goals, int nr, size_t i)
{
	const json_t *goal = json_array_get(goals[nr - 1], i), *limit;
	char text[32] = "-";
	bool same = true;

	limit = json_object_get(goal, "limit");
	for (int f = 0; f < nr; f++)
		same &= json_equal(limit, json_object_get(
				json_array_get(goals[f], i), "limit"));
	if (!same)
		snprintf(text, sizeof(text), "measured");
	else if (json_is_number(limit))
		snprintf(text, sizeof(text), "%s %.4g",
			 json_is_true(json_object_get(goal, "at_least")) ?
				 ">=" : "<=",
			 json_number_value(limit));
	fprintf(out, "  %-9s", text);
}

/* the name of a result file without directory and .json */
static void compare_title(FILE *out, const char *path)
{
	const char *base = strrchr(path, '/');
	int len;

	base = base ? base + 1 : path;
	len = (int)strlen(base);
	if (len > 5 && !strcmp(base + len - 5, ".json"))
		len -= 5;
	fprintf(out, "  %-14.*s", len, base);
}

int hb_compare_goals(FILE *out, char *const *paths, int nr)
{
	json_t *goals[COMPARE_MAX], *root, *goal;
	json_error_t error;
	size_t i;

	if (nr > COMPARE_MAX) {
		fprintf(stderr, "hkbench: --compare takes up to %d files\n",
			COMPARE_MAX);
		return 1;
	}
	/* loaded until the program ends, which is right after */
	for (int f = 0; f < nr; f++) {
		root = json_load_file(paths[f], 0, &error);
		goals[f] = json_object_get(root, "goals");
		if (!goals[f]) {
			fprintf(stderr, "hkbench: %s: %s\n", paths[f],
				root ? "no goals in it" : error.text);
			return 1;
		}
	}
	fprintf(out, "%-71s  %-9s", "goal", "limit");
	for (int f = 0; f < nr; f++)
		compare_title(out, paths[f]);
	fputc('\n', out);
	json_array_foreach(goals[nr - 1], i, goal) {
		fprintf(out, "%-71s", json_string_value(
				json_object_get(goal, "figure")));
		compare_limit(out, goals, nr, i);
		for (int f = 0; f < nr; f++)
			compare_cell(out, json_array_get(goals[f], i));
		fputc('\n', out);
	}
	return 0;
}
