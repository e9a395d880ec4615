// SPDX-License-Identifier: MIT
/* The scenario `idle` as a table and as CSV. */

#include <math.h>
#include <string.h>

#include "hkbench.h"

static bool same_row(const struct hb_idle *a, const struct hb_idle *b)
{
	return !strcmp(a->backend, b->backend) && a->stopped == b->stopped;
}

/* the last sample at or before @ms; the table shows one run, the CSV all */
static size_t at(const struct hb_idle *r, double ms)
{
	size_t i = 0;

	if (ms < 0)
		return 0;
	while (i + 1 < r->n && r->at_ms[i + 1] <= ms + 50)
		i++;
	return i;
}

static void table_row(FILE *out, const struct hb_book *b,
		      const struct hb_idle *r)
{
	static const double when[] = { -1, 0, 200, 1000, 1200, 1800 };
	double worst = 0;
	bool never = false;

	fprintf(out, "  %-13s %-8s", r->backend,
		r->stopped ? "stopped" : "running");
	for (size_t k = 0; k < sizeof(when) / sizeof(when[0]); k++)
		fprintf(out, " %7.1f",
			(double)r->rss_kib[at(r, when[k])] / 1024);
	for (size_t k = 0; k < sizeof(when) / sizeof(when[0]); k++)
		fprintf(out, " %7.0f",
			(double)r->mem_available_kib[at(r, when[k])] / 1024);
	for (size_t i = 0; i < b->nr_idle; i++) {
		if (!same_row(&b->idle[i], r))
			continue;
		never |= isnan(b->idle[i].back_ms);
		worst = fmax(worst, b->idle[i].back_ms);
	}
	if (never)
		fprintf(out, "  not all\n");
	else
		fprintf(out, "  %.0f ms\n", worst);
}

void hb_report_idle(FILE *out, const struct hb_book *b)
{
	fprintf(out, "\nidle: %llu MiB got, touched and freed; MiB, so many "
		"milliseconds after the free (in use: before it)\n"
		"  %-22s %47s %47s\n  %-13s %-8s",
		(unsigned long long)b->idle[0].size >> 20, "",
		"resident size of the process", "MemAvailable", "backend",
		"process");
	for (int i = 0; i < 2; i++)
		fprintf(out, " %7s %7s %7s %7s %7s %7s", "in use", "0", "200",
			"1000", "1200", "1800");
	fprintf(out, "  all back\n");
	for (size_t i = 0; i < b->nr_idle; i++)
		if (b->idle[i].run == 0)
			table_row(out, b, &b->idle[i]);
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, "idle"))
			fprintf(out, "  %-13s %s\n", b->skips[i].backend,
				b->skips[i].why);
}

void hb_csv_idle(FILE *f, const struct hb_book *b)
{
	fprintf(f, "kernel,backend,stopped,run,at_ms,rss_kib,"
		"mem_available_kib\n");
	for (size_t i = 0; i < b->nr_idle; i++) {
		const struct hb_idle *r = &b->idle[i];

		for (unsigned int k = 0; k < r->n; k++)
			fprintf(f, "%s,%s,%d,%u,%.1f,%llu,%llu\n",
				b->machine.kernel, r->backend, r->stopped,
				r->run, r->at_ms[k],
				(unsigned long long)r->rss_kib[k],
				(unsigned long long)r->mem_available_kib[k]);
	}
}
