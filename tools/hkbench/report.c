// SPDX-License-Identifier: MIT
/* The tables, for people: goals first, then one table for each comparison. */

#include <math.h>
#include <string.h>

#include "hkbench.h"

/* three digits and a unit */
const char *hb_ns_str(char buf[24], double ns)
{
	static const char *const unit[] = { "ns", "us", "ms", "s" };
	int u = 0;

	if (!isfinite(ns))
		return strcpy(buf, "-");
	while (u < 3 && ns >= 999.5) {
		ns /= 1000;
		u++;
	}
	snprintf(buf, 24, "%.*f %s",
		 u == 0 || ns >= 99.95 ? 0 : ns >= 9.995 ? 1 : 2, ns, unit[u]);
	return buf;
}

static void cell_ns(FILE *out, int width, double ns)
{
	char buf[24];

	fprintf(out, " %*s", width, hb_ns_str(buf, ns));
}

static void cell_ratio(FILE *out, const struct hb_result *r, const char *name)
{
	const struct hb_result *ref = hb_reference(r, name);
	/* sustained is a rate: its mean, not the luck of its median */
	double own = r->mode == HB_SUSTAINED ? r->ns_mean : r->ns_p50;
	double x = ref ? own / ref->ns_p50 : NAN;
	char buf[24] = "-";

	if (isfinite(x))
		snprintf(buf, sizeof(buf), x >= 100 ? "%.0fx" : x >= 10 ?
			 "%.1fx" : x >= 0.1 ? "%.2fx" : "%.3fx", x);
	fprintf(out, " %9s", buf);
}

static void cell_count(FILE *out, double x)
{
	char buf[24] = "-";

	if (isfinite(x))
		snprintf(buf, sizeof(buf), x == floor(x) || x >= 100 ? "%.0f" :
			 "%.2f", x);
	fprintf(out, " %9s", buf);
}

void hb_report_machine(FILE *out, const struct hb_machine *m)
{
	fprintf(out, "Linux %s, %s, %u processors (%s), %.1f GiB, THP %s, "
		"init_on_alloc %s, TSC %.0f MHz\n", m->kernel, m->accel, m->cpus,
		m->cpu, (double)m->memory / (1 << 30), m->thp, m->init_on_alloc,
		m->tsc_mhz);
	if (!strcmp(m->accel, "TCG") && m->erms)
		fprintf(out, "Memory is cleared byte by byte here, as on a processor "
			"with ERMS, which emulated takes several times as long as "
			"it should: EMULATE=max,-erms\n");
}

static void report_goals(FILE *out, const struct hb_book *b)
{
	fprintf(out, b->nr_results ?
		"\nGoals: 2 MiB, steady state unless it says otherwise\n" :
		"\nGoals\n");
	for (size_t i = 0; i < b->nr_goals; i++) {
		const struct hb_goal *g = &b->goals[i];
		char value[16] = "-", limit[16] = "-";

		if (isfinite(g->value))
			snprintf(value, sizeof(value), "%.4g", g->value);
		if (isfinite(g->limit))
			snprintf(limit, sizeof(limit), "%.4g", g->limit);
		fprintf(out, "  %-71s %8s  %s %-6s %-7s%s%s\n", g->figure, value,
			g->at_least ? ">=" : "<=", limit,
			g->ok > 0 ? "met" : g->ok ? "open" : "MISSED",
			g->note[0] ? "  " : "", g->note);
	}
}

/* ---- the loops and sweep ---- */

static void mode_cell(FILE *out, const struct hb_result *r)
{
	char buf[24] = "";

	if (r->mode == HB_BURST)
		snprintf(buf, sizeof(buf), "burst %u", r->burst);
	else if (r->mode == HB_SUSTAINED)
		strcpy(buf, "sustained");
	fprintf(out, "  %-13s%-10s", r->backend, buf);
}

static void skip_rows(FILE *out, const struct hb_book *b,
		      const struct hb_result *table)
{
	for (size_t i = 0; i < b->nr_skips; i++) {
		const struct hb_skip *s = &b->skips[i];

		if (!strcmp(s->scenario, table->scenario) &&
		    s->size == table->size && !hb_reference(table, s->backend))
			fprintf(out, "  %-13s%s\n", s->backend, s->why);
	}
}

static void loop_title(FILE *out, const struct hb_result *r)
{
	char size[16];

	hb_size_str(size, sizeof(size), r->size);
	fprintf(out, "\n%s: %s, touch %s, ", r->scenario, size,
		hb_touch_str(r->touch));
	if (r->phase == HB_COLD)
		fprintf(out, r->iterations == 1 ?
			"cold: the first operation of a process\n" :
			"cold: the first %llu operations of a process\n",
			(unsigned long long)r->iterations);
	else
		fprintf(out, "steady state: first = first operation of a turn "
			"(cache-cold), hot, faults/op = the others\n");
}

static void loop_row(FILE *out, const struct hb_result *r)
{
	bool cold = r->phase == HB_COLD;

	mode_cell(out, r);
	cell_ns(out, 8, r->ns_p50);
	cell_ns(out, 8, r->ns_p99);
	cell_ns(out, 8, r->ns_mean);
	if (!cold)
		cell_ns(out, 8, r->ns_first_p50);
	cell_count(out, r->faults_per_op);
	cell_count(out, r->syscalls_per_op);
	cell_ratio(out, r, "floor");
	cell_ratio(out, r, "free-thp");
	cell_ratio(out, r, "decay");
	cell_ns(out, 8, r->cpu_ns_per_op);
	cell_ns(out, 9, r->kthread_ns_per_op);
	if (isfinite(r->rss_after) && r->rss_after > -0.5e6)
		fprintf(out, " %6.1f MiB", fabs(r->rss_after) / (1 << 20));
	else
		fprintf(out, " %10s", "-");
	if (r->note[0])
		fprintf(out, "  %s", r->note);
	fputc('\n', out);
}

static void loop_header(FILE *out, bool cold)
{
	fprintf(out, "  %-13s%-10s %8s %8s %8s", "backend", "", cold ? "p50" :
		"hot p50", "p99", "mean");
	if (!cold)
		fprintf(out, " %8s", "first");
	fprintf(out, " %9s %9s %9s %9s %9s %8s %9s %10s\n", "faults/op",
		"calls/op", "/floor", "/free-thp", "/decay", "cpu/op", "zeroer/op",
		"RSS after");
}

static void ring_block(FILE *out, const struct hb_book *b,
		       const struct hb_result *table)
{
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (!hb_same_table(r, table))
			continue;
		if (r->has_ring)
			fprintf(out, "  %s: %llu hits, %llu misses, %llu puts, "
				"%llu evictions\n", r->backend,
				(unsigned long long)r->counters.hits,
				(unsigned long long)r->counters.misses,
				(unsigned long long)r->counters.puts,
				(unsigned long long)r->counters.evictions);
		if (r->has_served && r->counters.served)
			fprintf(out, "  %s %s%.0u: %.1f %% of %llu slots served "
				"clean, %llu MiB zeroed in line%s", r->backend,
				r->mode == HB_BURST ? "burst " : "sustained",
				r->burst, 100.0 * (double)r->counters.served_clean /
				(double)r->counters.served,
				(unsigned long long)r->counters.served,
				(unsigned long long)r->counters.zeroed_inline >> 20,
				isfinite(r->zero_ns_per_slot) ? "" : "\n");
		if (r->has_served && r->counters.served &&
		    isfinite(r->zero_ns_per_slot))
			fprintf(out, "; the zeroing thread took %.2f ms a slot\n",
				r->zero_ns_per_slot / 1e6);
	}
}

static void breakdown_row(FILE *out, const struct hb_result *r)
{
	uint64_t cycles = 0;
	double ops = (double)r->counted_ops;

	for (int c = 0; c < HB_CALL_NR; c++)
		cycles += r->calls.cycles[c];
	for (int c = 0; c < HB_CALL_NR; c++) {
		if (!r->calls.n[c])
			continue;
		fprintf(out, "  %-13s%-10s %10.2f %12.0f %8.1f %%\n", r->backend,
			hb_call_name[c], (double)r->calls.n[c] / ops,
			(double)r->calls.cycles[c] / ops,
			cycles ? 100.0 * (double)r->calls.cycles[c] /
				 (double)cycles : 0);
	}
}

static void breakdown(FILE *out, const struct hb_book *b,
		      const struct hb_result *table)
{
	fprintf(out, "  time in calls, from an own pass over %llu operations%s\n"
		"  %-13s%-10s %10s %12s %10s\n",
		(unsigned long long)table->counted_ops, table->phase == HB_COLD ?
		", memory not touched" : "", "backend", "call",
		"calls/op", "cycles/op", "share");
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		/* burst and sustained make the same calls: once is enough */
		if (hb_same_table(r, table) && r->has_calls &&
		    !(r->mode == HB_BURST && r->phase == HB_STEADY &&
		      r->burst != HB_TURN) &&
		    !(r->mode == HB_SUSTAINED && r->phase == HB_STEADY))
			breakdown_row(out, r);
	}
}

static void report_loop(FILE *out, const struct hb_book *b,
			const struct hb_result *table)
{
	loop_title(out, table);
	loop_header(out, table->phase == HB_COLD);
	for (size_t i = 0; i < b->nr_results; i++)
		if (hb_same_table(&b->results[i], table))
			loop_row(out, &b->results[i]);
	skip_rows(out, b, table);
	ring_block(out, b, table);
	/* where the call pattern is shown once, it need not be shown again */
	if (!strcmp(table->scenario, "vm") && table->touch == HB_TOUCH_PAGE &&
	    (table->phase == HB_STEADY || table->iterations == 100))
		breakdown(out, b, table);
}

/* ---- cold and ring ---- */

static void report_cold(FILE *out, const struct hb_book *b,
			const struct hb_result *table)
{
	char size[16];

	hb_size_str(size, sizeof(size), table->size);
	fprintf(out, "\ncold: first %s of a fresh process, touch %s, medians of "
		"%llu processes each\n", size, hb_touch_str(table->touch),
		(unsigned long long)table->n);
	fprintf(out, "  %-13s%-10s %10s %10s %9s %9s %9s %9s %12s\n", "backend",
		"", "operation", "with start", "p99", "open", "SETUP", "mmap",
		"exec to exit");
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (!hb_same_table(r, table))
			continue;
		fprintf(out, "  %-13s%-10s", r->backend, "");
		cell_ns(out, 10, r->ns_p50);
		cell_ns(out, 10, r->start_ns);
		cell_ns(out, 9, r->ns_p99);
		cell_ns(out, 9, r->open_ns);
		cell_ns(out, 9, r->setup_ns);
		cell_ns(out, 9, r->mmap_ns);
		cell_ns(out, 12, r->exec_ns);
		fprintf(out, "%s%s\n", r->note[0] ? "  " : "", r->note);
	}
	skip_rows(out, b, table);
}

static void report_ring(FILE *out, const struct hb_book *b)
{
	bool titled = false;

	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (strcmp(r->scenario, "ring"))
			continue;
		if (!titled)
			fprintf(out, "\nring: hkm_whale_get and hkm_whale_put "
				"by themselves, timed over loops\n  %-44s %12s "
				"%10s\n", "", "cycles", "time");
		titled = true;
		fprintf(out, "  %-44s %12.1f", r->figure, r->cycles);
		cell_ns(out, 10, r->ns_p50);
		fputc('\n', out);
	}
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, "ring"))
			fprintf(out, "  ring: %s\n", b->skips[i].why);
}

static bool is_swept(const struct hb_result *r, enum hb_touch touch)
{
	return !strcmp(r->scenario, "sweep") && r->touch == touch;
}

static size_t swept_sizes(const struct hb_book *b, enum hb_touch touch,
			  size_t sizes[16])
{
	size_t nr = 0, k;

	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		for (k = 0; k < nr && sizes[k] != r->size; k++)
			;
		if (is_swept(r, touch) && k == nr && nr < 16)
			sizes[nr++] = r->size;
	}
	return nr;
}

double hb_swept(const struct hb_book *b, const char *backend, size_t size,
		enum hb_touch touch)
{
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (is_swept(r, touch) && r->size == size &&
		    !strcmp(r->backend, backend))
			return r->ns_p50;
	}
	return NAN;
}

/* hot medians of all sizes side by side */
static void report_sweep(FILE *out, const struct hb_book *b,
			 enum hb_touch touch)
{
	size_t sizes[16], nr = swept_sizes(b, touch, sizes), k;
	char buf[24];

	if (!nr)
		return;
	fprintf(out, "\nsweep: all sizes, touch %s, hot median\n  %-13s",
		hb_touch_str(touch), "backend");
	for (k = 0; k < nr; k++) {
		hb_size_str(buf, sizeof(buf), sizes[k]);
		fprintf(out, " %9s", buf);
	}
	fputc('\n', out);
	for (size_t be = 0; be < hb_nr_backends; be++) {
		char line[256] = "";
		bool any = false;

		for (k = 0; k < nr; k++) {
			double ns = hb_swept(b, hb_backends[be].name, sizes[k],
					     touch);

			any |= isfinite(ns);
			snprintf(line + strlen(line), sizeof(line) - strlen(line),
				 " %9s", hb_ns_str(buf, ns));
		}
		if (any)
			fprintf(out, "  %-13s%s\n", hb_backends[be].name, line);
	}
}

static void report_sweeps(FILE *out, const struct hb_book *b)
{
	char buf[24];

	for (int touch = 0; touch < HB_TOUCH_NR; touch++)
		report_sweep(out, b, (enum hb_touch)touch);
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, "sweep") &&
		    !strcmp(b->skips[i].backend, "all")) {
			hb_size_str(buf, sizeof(buf), b->skips[i].size);
			fprintf(out, "  %s: not run, %s\n", buf, b->skips[i].why);
		}
}

/* a scenario without one row has no table that could say why */
static void report_not_run(FILE *out, const struct hb_book *b,
			   const char *scenario)
{
	for (size_t i = 0; i < b->nr_results; i++)
		if (!strcmp(b->results[i].scenario, scenario))
			return;
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, scenario))
			fprintf(out, "\n%s: not run, %s\n", scenario,
				b->skips[i].why);
}

static bool has_own_table(const char *scenario)
{
	static const char *const own[] = {
		"ring", "zeroing", "scattered", "peers", "batch", "fork",
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (!strcmp(own[i], scenario))
			return true;
	return false;
}

void hb_report(FILE *out, const struct hb_book *b)
{
	hb_report_machine(out, &b->machine);
	fprintf(out, "Compare inside one table only; /x is the time relative to "
		"backend x's.\n");
	if (hb_opt.suite || !b->nr_results)
		report_goals(out, b);
	if (b->nr_pressure)
		hb_report_pressure(out, b);
	if (b->nr_idle)
		hb_report_idle(out, b);
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];
		size_t first = 0;

		while (!hb_same_table(&b->results[first], r))
			first++;
		if (first != i || has_own_table(r->scenario))
			continue;
		if (!strcmp(r->scenario, "cold"))
			report_cold(out, b, r);
		else
			report_loop(out, b, r);
	}
	report_not_run(out, b, "reclaim");
	report_sweeps(out, b);
	hb_report_zeroing(out, b);
	hb_report_scattered(out, b);
	hb_report_peers(out, b);
	report_ring(out, b);
	hb_report_batch(out, b);
	hb_report_fork(out, b);
}
