// SPDX-License-Identifier: MIT
/* Time: cycles for operations, nanoseconds for everything else; exact percentiles. */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hkbench.h"

double hb_ns_per_cycle;

uint64_t hb_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

void hb_sleep_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000ULL),
			      (long)(ns % 1000000000ULL) };

	while (nanosleep(&t, &t))
		;
}

/* both clocks at one moment: of several tries the one least disturbed */
static void read_both(uint64_t *ns, uint64_t *cycles)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 20; i++) {
		uint64_t before = hb_tsc(), at = hb_now_ns();
		uint64_t took = hb_tsc() - before;

		if (took >= best)
			continue;
		best = took;
		*ns = at;
		*cycles = before + took / 2;
	}
}

/*
 * Operations are timed in cycles because the guest's clock may cost a system
 * call, which would be the dearest part of an operation that makes none.
 */
void hb_clock_init(void)
{
	uint64_t ns0 = 0, ns1 = 0, cycles0 = 0, cycles1 = 0;

	read_both(&ns0, &cycles0);
	hb_sleep_ns(50000000);
	read_both(&ns1, &cycles1);
	hb_ns_per_cycle = (double)(ns1 - ns0) / (double)(cycles1 - cycles0);
}

void hb_samples_add(struct hb_samples *s, uint64_t value)
{
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 256;
		uint64_t *v = realloc(s->v, room * sizeof(*v));

		if (!v)
			return;
		s->v = v;
		s->room = room;
	}
	s->v[s->n++] = value;
	s->sorted = false;
}

void hb_samples_free(struct hb_samples *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

double hb_percentile(struct hb_samples *s, double percent)
{
	size_t rank;

	if (!s->n)
		return NAN;
	if (!s->sorted)
		qsort(s->v, s->n, sizeof(*s->v), compare);
	s->sorted = true;
	rank = (size_t)ceil(percent / 100.0 * (double)s->n);
	return (double)s->v[rank ? rank - 1 : 0];
}

double hb_median_from(const struct hb_samples *s, size_t from)
{
	struct hb_samples part = { 0 };
	double m;

	for (size_t i = from; i < s->n; i++)
		hb_samples_add(&part, s->v[i]);
	m = hb_percentile(&part, 50);
	hb_samples_free(&part);
	return m;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double hb_median(double *v, size_t n)
{
	if (!n)
		return NAN;
	qsort(v, n, sizeof(*v), compare_double);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double hb_mean(const struct hb_samples *s)
{
	double sum = 0;

	if (!s->n)
		return NAN;
	for (size_t i = 0; i < s->n; i++)
		sum += (double)s->v[i];
	return sum / (double)s->n;
}
