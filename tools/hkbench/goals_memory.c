// SPDX-License-Identifier: MIT
/*
 * The figures for memory that comes back: the scenarios pressure and idle. That
 * the rivals lose processes is a figure too: where they do not, there was no
 * pressure, and ours says nothing.
 */

#include <math.h>
#include <string.h>

#include "hkbench.h"

#define ROWS	64

static struct hb_pressure_row rows[ROWS];
static size_t nr_rows;

static const char *owners(bool stopped)
{
	return stopped ? "stopped" : "running";
}

static const struct hb_pressure_row *find(const char *backend, bool stopped,
					  bool drain)
{
	for (size_t i = 0; i < nr_rows; i++)
		if (!strcmp(rows[i].sum.backend, backend) &&
		    rows[i].sum.stopped == stopped && rows[i].sum.drain == drain)
			return &rows[i];
	return NULL;
}

static void note_runs(struct hb_goal *g, const struct hb_pressure_row *row)
{
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "%u runs", row->runs);
}

static void judge_kills(struct hb_book *b, const char *backend, bool stopped,
			bool at_least, double limit)
{
	const struct hb_pressure_row *row = find(backend, stopped, false);
	struct hb_goal *g;
	char figure[120];
	double kills = NAN;

	/* a child that was killed is a kill, whatever the kernel's counter says */
	if (row)
		kills = fmax((double)row->sum.oom_kills,
			     (double)(row->sum.owners_killed +
				      row->sum.needy_killed));
	snprintf(figure, sizeof(figure), "%s, owners %s: OOM kills%s", backend,
		 owners(stopped), at_least ? " (it has them)" : "");
	g = hb_add_goal(b, figure, kills, at_least, limit);
	if (row)
		note_runs(g, row);
}

/* over every run of ours, drained or not */
static void judge_contents(struct hb_book *b)
{
	uint64_t bad = 0, checked = 0;
	struct hb_goal *g;

	for (size_t i = 0; i < nr_rows; i++) {
		const struct hb_pressure *s = &rows[i].sum;

		if (strcmp(s->backend, "region"))
			continue;
		bad += s->slots_corrupted + s->slots_busy_lost + s->failed;
		checked += s->slots_idle - s->slots_dead + s->slots_busy;
	}
	g = hb_add_goal(b, "region: slots corrupted, or lost in use",
			checked ? (double)bad : NAN, false, 0);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "of %llu read",
			 (unsigned long long)checked);
}

static void judge_drain(struct hb_book *b, bool stopped)
{
	const struct hb_pressure_row *row = find("region", stopped, true);
	struct hb_goal *g;
	char figure[120];

	snprintf(figure, sizeof(figure), "region, owners %s: idle memory "
		 "obtained before a kill, %%", owners(stopped));
	g = hb_add_goal(b, figure, row ? 100 * row->obtained : NAN, true, 95);
	if (row)
		note_runs(g, row);
}

static void judge_time(struct hb_book *b, bool stopped)
{
	const struct hb_pressure_row *r = find("region", stopped, false);
	const struct hb_pressure_row *f = find("free-thp", stopped, false);
	struct hb_goal *g;
	char figure[120];

	snprintf(figure, sizeof(figure), "needy process, owners %s: region "
		 "against free-thp, times the time", owners(stopped));
	g = hb_add_goal(b, figure, r && f ? r->sum.ms_to_get /
					    f->sum.ms_to_get : NAN,
			false, 1.25);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "medians of %u and %u runs; "
			 "p90 %.2f and %.2f s", r->got_it, f->got_it,
			 r->ms_to_get_p90 / 1e3, f->ms_to_get_p90 / 1e3);
}

/* the worst of all runs */
static void judge_idle(struct hb_book *b, const char *backend, bool stopped)
{
	double worst = NAN, late = 0;
	unsigned int runs = 0;
	struct hb_goal *g;
	char figure[120];

	for (size_t i = 0; i < b->nr_idle; i++) {
		const struct hb_idle *r = &b->idle[i];

		if (strcmp(r->backend, backend) || r->stopped != stopped)
			continue;
		runs++;
		worst = fmin(worst, r->back_percent);
		late = fmax(late, r->back_ms);
	}
	snprintf(figure, sizeof(figure), "%s, process %s: returned %% at decay "
		 "+ 2 ticks", backend, owners(stopped));
	g = hb_add_goal(b, figure, worst, true, 100);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "worst of %u runs; all back "
			 "after at most %.0f ms", runs, late);
}

static const struct hb_result *scattered(const struct hb_book *b,
					 const char *backend)
{
	for (size_t i = 0; i < b->nr_results; i++)
		if (!strcmp(b->results[i].scenario, "scattered") &&
		    !strcmp(b->results[i].backend, backend))
			return &b->results[i];
	return NULL;
}

static void judge_scattered(struct hb_book *b)
{
	const struct hb_result *r = scattered(b, "region");
	const struct hb_result *t = scattered(b, "thp-advised");
	struct hb_goal *g;

	if (!r && !t)
		return;
	hb_add_goal(b, "scattered memory, region: blocks not got",
		    r ? (double)r->failed : NAN, false, 0);
	g = hb_add_goal(b, "scattered memory: region against thp-advised, "
			"p99.9 of the wait", r && t ? r->ns_p999 / t->ns_p999 :
			NAN, false, 0.1);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "%.0f and %.0f ms; %.0f %% "
			 "of ours single pages", r->ns_p999 / 1e6,
			 t->ns_p999 / 1e6, 100 * r->single_fraction);
}

void hb_judge_memory(struct hb_book *b)
{
	judge_scattered(b);
	hb_judge_fork(b);
	if (b->nr_pressure) {
		nr_rows = hb_pressure_rows(b, rows, ROWS);
		judge_kills(b, "region", false, false, 0);
		judge_kills(b, "region", true, false, 0);
		judge_contents(b);
		judge_drain(b, false);
		judge_drain(b, true);
		judge_time(b, false);
		judge_time(b, true);
		judge_kills(b, "keep", false, true, 1);
		judge_kills(b, "keep", true, true, 1);
		judge_kills(b, "psi", false, true, 1);
		judge_kills(b, "psi", true, true, 1);
		judge_kills(b, "decay", true, true, 1);
	}
	if (b->nr_idle) {
		judge_idle(b, "region", false);
		judge_idle(b, "region", true);
		judge_idle(b, "region-heap", false);
		judge_idle(b, "region-heap", true);
	}
}
