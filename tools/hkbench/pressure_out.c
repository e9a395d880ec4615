// SPDX-License-Identifier: MIT
/* The scenario `pressure` as a table, as rows, and as CSV run by run. */

#include <math.h>
#include <string.h>

#include "hkbench.h"

static bool same_row(const struct hb_pressure *a, const struct hb_pressure *b)
{
	return !strcmp(a->backend, b->backend) && a->stopped == b->stopped &&
	       a->drain == b->drain;
}

static double median(const struct hb_book *b, const struct hb_pressure *like,
		     size_t field, double percent)
{
	struct hb_samples s = { 0 };
	double value;

	for (size_t i = 0; i < b->nr_pressure; i++) {
		const struct hb_pressure *r = &b->pressure[i];

		value = *(const double *)((const char *)r + field);
		if (same_row(r, like) && isfinite(value))
			hb_samples_add(&s, (uint64_t)(value * 1e3));
	}
	value = hb_percentile(&s, percent) / 1e3;
	hb_samples_free(&s);
	return value;
}

#define MEDIAN(b, like, field) \
	median(b, like, offsetof(struct hb_pressure, field), 50)

static void add_run(struct hb_pressure_row *row, const struct hb_pressure *r)
{
	struct hb_pressure *sum = &row->sum;
	double part = (double)(r->slots_idle - r->slots_kept) /
		      (double)r->slots_idle;

	row->runs++;
	row->got_it += isfinite(r->ms_to_get);
	/* what was gone with an owner was not given up */
	if (r->drain && r->needy_killed && !r->slots_dead &&
	    !(row->obtained < part))
		row->obtained = part;
	sum->got += r->got;
	sum->oom_kills += r->oom_kills;
	sum->owners_killed += r->owners_killed;
	sum->needy_killed += r->needy_killed;
	sum->failed += r->failed;
	sum->slots_idle += r->slots_idle;
	sum->slots_kept += r->slots_kept;
	sum->slots_taken += r->slots_taken;
	sum->slots_dead += r->slots_dead;
	sum->slots_corrupted += r->slots_corrupted;
	sum->slots_busy += r->slots_busy;
	sum->slots_busy_lost += r->slots_busy_lost;
	sum->slots_needed += r->slots_needed;
}

size_t hb_pressure_rows(const struct hb_book *b, struct hb_pressure_row *rows,
			size_t room)
{
	struct hb_pressure_row *row;
	size_t nr = 0;

	for (size_t i = 0; i < b->nr_pressure; i++) {
		const struct hb_pressure *r = &b->pressure[i];

		for (row = rows; row < rows + nr; row++)
			if (same_row(&row->sum, r))
				break;
		if (row == rows + nr) {
			if (nr == room)
				continue;
			nr++;
			memset(row, 0, sizeof(*row));
			row->sum.backend = r->backend;
			row->sum.stopped = r->stopped;
			row->sum.drain = r->drain;
			row->sum.need = r->need;
			row->sum.ms_to_get = MEDIAN(b, r, ms_to_get);
			row->sum.reuse_kept_ns = MEDIAN(b, r, reuse_kept_ns);
			row->sum.reuse_taken_ns = MEDIAN(b, r, reuse_taken_ns);
			row->ms_to_get_p90 = median(b, r, offsetof(
				struct hb_pressure, ms_to_get), 90);
			row->obtained = NAN;
		}
		add_run(row, r);
	}
	return nr;
}

/* ---- the table ---- */

static void cell_mean(FILE *out, int width, double sum, unsigned int runs)
{
	double mean = sum / runs;

	fprintf(out, mean == floor(mean) ? " %*.0f" : " %*.1f", width, mean);
}

static void cell_time(FILE *out, int width, double ns)
{
	char buf[24];

	fprintf(out, " %*s", width, hb_ns_str(buf, ns));
}

static void table_row(FILE *out, const struct hb_pressure_row *row)
{
	const struct hb_pressure *s = &row->sum;

	fprintf(out, "  %-10s %-8s %9llu %3u/%-3u", s->backend,
		s->stopped ? "stopped" : "running",
		(unsigned long long)s->oom_kills, row->got_it, row->runs);
	cell_time(out, 8, s->ms_to_get * 1e6);
	cell_time(out, 8, row->ms_to_get_p90 * 1e6);
	cell_mean(out, 6, (double)s->slots_idle, row->runs);
	cell_mean(out, 6, (double)s->slots_kept, row->runs);
	cell_mean(out, 6, (double)s->slots_taken, row->runs);
	/* where owners died there was no need to take what they held */
	if (s->drain || s->slots_dead)
		fprintf(out, " %7s", "-");
	else
		cell_mean(out, 7, (double)s->slots_taken - s->slots_needed,
			  row->runs);
	cell_mean(out, 6, (double)s->slots_dead, row->runs);
	fprintf(out, " %9llu %11llu", (unsigned long long)s->slots_corrupted,
		(unsigned long long)s->slots_busy_lost);
	cell_time(out, 8, s->reuse_kept_ns);
	cell_time(out, 8, s->reuse_taken_ns);
	if (s->drain && isfinite(row->obtained))
		fprintf(out, "  %5.1f %% obtained", 100 * row->obtained);
	if (s->failed)
		fprintf(out, "  %llu failed", (unsigned long long)s->failed);
	fputc('\n', out);
}

static void table(FILE *out, const struct hb_book *b, bool drain)
{
	struct hb_pressure_row rows[64];
	size_t nr = hb_pressure_rows(b, rows, 64);

	fprintf(out, "  %-10s %-8s %9s %7s %8s %8s %6s %6s %6s %7s %6s %9s %11s "
		"%8s %8s\n", "backend", "owners", "OOM kills", "got it", "median",
		"p90", "idle", "kept", "taken", "-needed", "dead", "corrupted",
		"lost in use", "kept", "taken");
	for (size_t i = 0; i < nr; i++)
		if (rows[i].sum.drain == drain)
			table_row(out, &rows[i]);
	for (size_t i = 0; i < b->nr_skips && !drain; i++)
		if (!strcmp(b->skips[i].scenario, "pressure"))
			fprintf(out, "  %-10s %s\n", b->skips[i].backend,
				b->skips[i].why);
}

void hb_report_pressure(FILE *out, const struct hb_book *b)
{
	const struct hb_pressure *first = b->pressure;

	for (size_t i = 1; i < b->nr_pressure && first->drain; i++)
		first = &b->pressure[i];
	fprintf(out, "\npressure: owners with %llu MiB idle and %llu MiB in use "
		"in all, then a process that needs %llu MiB,\n%.0f MiB more than "
		"is left; no swap. Kills, corrupted and lost in use: all runs; "
		"slots: mean of a run.\nMedian and p90: until it has the memory; "
		"last two columns: first reuse of a slot, page-touch, median\n",
		(unsigned long long)first->slots_idle * 2,
		(unsigned long long)first->slots_busy * 2,
		(unsigned long long)first->need >> 20, 2 * first->slots_needed);
	table(out, b, false);
	fprintf(out, "\npressure, drained: the process takes page after page "
		"until it is killed, itself and first\n");
	table(out, b, true);
}

/* ---- CSV, one line a run ---- */

static void csv_real(FILE *f, double value)
{
	if (isfinite(value))
		fprintf(f, ",%.6g", value);
	else
		fputc(',', f);
}

void hb_csv_pressure(FILE *f, const struct hb_book *b)
{
	fprintf(f, "kernel,backend,stopped,mode,run,oom_kills,owners_killed,"
		"needy_killed,ms_to_get,need_mib,got_mib,slots_idle,slots_kept,"
		"slots_taken,slots_needed,slots_dead,slots_corrupted,slots_busy,"
		"slots_busy_lost,reuse_kept_us,reuse_taken_us\n");
	for (size_t i = 0; i < b->nr_pressure; i++) {
		const struct hb_pressure *r = &b->pressure[i];

		fprintf(f, "%s,%s,%d,%s,%u,%llu,%llu,%llu", b->machine.kernel,
			r->backend, r->stopped, r->drain ? "drain" : "need",
			r->run, (unsigned long long)r->oom_kills,
			(unsigned long long)r->owners_killed,
			(unsigned long long)r->needy_killed);
		csv_real(f, r->ms_to_get);
		fprintf(f, ",%llu,%llu,%llu,%llu,%llu",
			(unsigned long long)r->need >> 20,
			(unsigned long long)r->got >> 20,
			(unsigned long long)r->slots_idle,
			(unsigned long long)r->slots_kept,
			(unsigned long long)r->slots_taken);
		csv_real(f, r->slots_needed);
		fprintf(f, ",%llu,%llu,%llu,%llu",
			(unsigned long long)r->slots_dead,
			(unsigned long long)r->slots_corrupted,
			(unsigned long long)r->slots_busy,
			(unsigned long long)r->slots_busy_lost);
		csv_real(f, r->reuse_kept_ns / 1e3);
		csv_real(f, r->reuse_taken_ns / 1e3);
		fputc('\n', f);
	}
}
