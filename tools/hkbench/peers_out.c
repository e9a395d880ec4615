// SPDX-License-Identifier: MIT
/* The scenario `peers` as a table, and the figures it is judged by. */

#include <math.h>
#include <string.h>

#include "peers.h"

#define SCENARIO	"peers"
#define MIB		(double)(1UL << 20)

static const struct hb_result *find(const struct hb_book *b, const char *work,
				    const char *peer)
{
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (!strcmp(r->scenario, SCENARIO) &&
		    !strcmp(r->figure, work) && !strcmp(r->backend, peer))
			return r;
	}
	return NULL;
}

static bool took_part(const struct hb_book *b, const char *peer)
{
	for (size_t i = 0; i < b->nr_results; i++)
		if (!strcmp(b->results[i].scenario, SCENARIO) &&
		    !strcmp(b->results[i].backend, peer))
			return true;
	return false;
}

/* ---- tables ---- */

/* three digits, and a nanosecond is not rounded away */
static const char *time_str(char buf[24], double ns)
{
	if (isfinite(ns) && ns < 99.95)
		snprintf(buf, 24, "%.1f ns", ns);
	else
		hb_ns_str(buf, ns);
	return buf;
}

static void head(FILE *out, const struct hb_book *b, const char *first)
{
	const char *name;

	fprintf(out, "  %-25s", first);
	for (size_t i = 0; (name = hb_peer_name(i)); i++)
		if (took_part(b, name))
			fprintf(out, " %13s", name);
}

static void time_row(FILE *out, const struct hb_book *b,
		     const struct peer_work *w)
{
	const struct hb_result *r, *ours = find(b, w->name, "hakmem");
	const char *name;
	char buf[24];

	if (!ours && !find(b, w->name, "glibc"))
		return;
	fprintf(out, "  %-25s", w->name);
	for (size_t i = 0; (name = hb_peer_name(i)); i++) {
		if (!took_part(b, name))
			continue;
		r = find(b, w->name, name);
		fprintf(out, " %13s", time_str(buf, r ? r->ns_p50 : NAN));
	}
	if (ours && isfinite(ours->paired_time))
		fprintf(out, " %9.3fx", ours->paired_time);
	else
		fprintf(out, " %10s", "-");
	if (ours)
		fprintf(out, " %9.2f", ours->faults_per_op);
	fputc('\n', out);
}

static void report_times(FILE *out, const struct hb_book *b)
{
	const struct peer_work *w;
	unsigned int pairs = 0;

	for (size_t i = 0; i < b->nr_results; i++)
		if (!strcmp(b->results[i].scenario, SCENARIO) &&
		    b->results[i].pairs > pairs)
			pairs = (unsigned int)b->results[i].pairs;
	fprintf(out, "\npeers: one operation, median; hakmem against the floor "
		"pair by pair (up to %u processes)\n", pairs);
	head(out, b, "");
	fprintf(out, " %10s %9s\n", "hakmem/fl.", "faults/op");
	for (size_t i = 0; (w = hb_peer_work(i)); i++)
		if (!w->memory)
			time_row(out, b, w);
	fprintf(out, "  page, full: malloc, a byte in each 4 KiB or everything "
		"written, free; calloc: calloc, then page (the floor clears its "
		"block)\n  pair: malloc and free without touching; threads: a "
		"byte written, time of each thread\n");
}

static double trips(const struct hb_result *r)
{
	return r ? 100 * (r->faults_per_op + r->syscalls_per_op) : NAN;
}

/* where sizes vary: one block again and again needs none */
static void report_trips(FILE *out, const struct hb_book *b)
{
	const struct peer_work *w;
	const char *name;

	fprintf(out, "\npeers: faults and system calls in 100 operations\n");
	head(out, b, "");
	fputc('\n', out);
	for (size_t i = 0; (w = hb_peer_work(i)); i++) {
		if (!w->mixed && !strstr(w->name, "realloc"))
			continue;
		fprintf(out, "  %-25s", w->name);
		for (size_t k = 0; (name = hb_peer_name(k)); k++) {
			double x = trips(find(b, w->name, name));

			if (!took_part(b, name))
				continue;
			if (isfinite(x))
				fprintf(out, " %13.1f", x);
			else
				fprintf(out, " %13s", "-");
		}
		fputc('\n', out);
	}
}

static void memory_row(FILE *out, const struct hb_book *b, const char *what,
		       const char *work, size_t field)
{
	const struct hb_result *r;
	const char *name;

	fprintf(out, "  %-25s", what);
	for (size_t i = 0; (name = hb_peer_name(i)); i++) {
		if (!took_part(b, name))
			continue;
		r = find(b, work, name);
		if (r)
			fprintf(out, " %13.1f", *(const double *)
				((const char *)r + field) / MIB);
		else
			fprintf(out, " %13s", "-");
	}
	fputc('\n', out);
}

static void report_peak(FILE *out, const struct hb_book *b, const char *work)
{
	char label[64];

	snprintf(label, sizeof(label), "%s asked", work);
	memory_row(out, b, label, work,
		   offsetof(struct hb_result, requested_peak));
	memory_row(out, b, "  peak, whole process", work,
		   offsetof(struct hb_result, rss_peak));
}

static void report_memory(FILE *out, const struct hb_book *b)
{
	const struct peer_work *w;

	fprintf(out, "\npeers: resident size over the start's, MiB\n");
	head(out, b, "64 blocks of 2-16 MiB");
	fputc('\n', out);
	for (size_t i = 0; (w = hb_peer_work(i)); i++) {
		if (!w->memory)
			continue;
		memory_row(out, b, "requested", w->name,
			   offsetof(struct hb_result, requested_peak));
		memory_row(out, b, "peak", w->name,
			   offsetof(struct hb_result, rss_peak));
		memory_row(out, b, "all freed", w->name,
			   offsetof(struct hb_result, rss_after));
		memory_row(out, b, "5 s later", w->name,
			   offsetof(struct hb_result, rss_idle));
		memory_row(out, b, "and after one more call", w->name,
			   offsetof(struct hb_result, rss_call));
	}
	report_peak(out, b, "2-16 MiB, 8 live");
	report_peak(out, b, "2.06-3 MiB, 64 live");
}

void hb_report_peers(FILE *out, const struct hb_book *b)
{
	bool any = took_part(b, "hakmem") || took_part(b, "glibc") ||
		   took_part(b, "floor");

	if (any) {
		report_times(out, b);
		report_trips(out, b);
		report_memory(out, b);
	}
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, SCENARIO))
			fprintf(out, "%s  %s: %s\n", any ? "" : "\npeers:\n",
				b->skips[i].backend, b->skips[i].why);
}

/* ---- goals ---- */

static double p50(const struct hb_book *b, const char *work, const char *peer)
{
	const struct hb_result *r = find(b, work, peer);

	return r ? r->ns_p50 : NAN;
}

static double against_floor(const struct hb_book *b, const char *work)
{
	const struct hb_result *r = find(b, work, "hakmem");

	return r ? r->paired_time : NAN;
}

static void judge_sizes(struct hb_book *b, const char *touch, double limit)
{
	static const char *const sizes[] = {
		"2 MiB", "4 MiB", "16 MiB", "64 MiB", "256 MiB", "1 GiB",
	};
	char figure[120], work[64], at[64] = "";
	double worst = NAN, x;
	struct hb_goal *g;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(work, sizeof(work), "%s %s", sizes[i], touch);
		x = against_floor(b, work);
		if (!isfinite(x) || x <= worst)
			continue;
		worst = x;
		snprintf(at, sizeof(at), "at %s", sizes[i]);
	}
	snprintf(figure, sizeof(figure), "hakmem against floor, 2 MiB to 1 GiB "
		 "%s, the worst size: times", touch);
	g = hb_add_goal(b, figure, worst, false, limit);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "%s", at);
}

/* one block again and again, threads too: both sources hit, and nothing else */
static bool only_hits(const struct peer_work *w)
{
	return !w->mixed && !w->memory && w->size >= 2UL << 20 && !strstr(w->name, "realloc");
}

static bool is_hit(const struct peer_work *w)
{
	return only_hits(w) && w->threads == 1 &&
	       (w->touch == HB_TOUCH_PAGE || w->touch == HB_TOUCH_FULL);
}

static void judge_trips(struct hb_book *b)
{
	const struct peer_work *w;
	double worst = NAN;

	for (size_t i = 0; (w = hb_peer_work(i)); i++)
		if (is_hit(w))
			worst = fmax(worst, trips(find(b, w->name, "hakmem")) /
					    100);
	hb_add_goal(b, "hakmem, page and full, the worst size: faults and system "
		    "calls per hit", worst, false, 0);
}

static void judge_faster(struct hb_book *b)
{
	static const char *const rivals[] = { "glibc", "jemalloc", "mimalloc" };
	bool always = !strcmp(b->machine.thp, "always");
	char figure[120];

	for (size_t i = 0; i < sizeof(rivals) / sizeof(rivals[0]); i++) {
		snprintf(figure, sizeof(figure), "hakmem, 64 MiB page: times "
			 "faster than %s", rivals[i]);
		hb_add_goal(b, figure, p50(b, "64 MiB page", rivals[i]) /
				       p50(b, "64 MiB page", "hakmem"),
			    true, always ? 15 : 50);
	}
}

static void judge_mixed(struct hb_book *b, const char *work)
{
	static const char *const rivals[] = {
		"glibc", "glibc-tuned", "jemalloc", "mimalloc", "tcmalloc",
	};
	const struct hb_result *r = find(b, work, "hakmem");
	const struct hb_result *f = find(b, work, "floor");
	double best = NAN, x;
	char figure[120];

	for (size_t i = 0; i < sizeof(rivals) / sizeof(rivals[0]); i++) {
		x = p50(b, work, rivals[i]);
		if (isfinite(x) && !(best <= x))
			best = x;
	}
	snprintf(figure, sizeof(figure), "%s: hakmem's median, times the best "
		 "peer's", work);
	hb_add_goal(b, figure, p50(b, work, "hakmem") / best, false, 1.05);
	snprintf(figure, sizeof(figure), "%s: hakmem's mean, times the floor's",
		 work);
	hb_add_goal(b, figure, r && f ? r->ns_mean / f->ns_mean : NAN, false,
		    1.20);
	snprintf(figure, sizeof(figure), "%s: peak resident size, times what "
		 "was asked for", work);
	hb_add_goal(b, figure, r ? r->rss_peak / r->requested_peak : NAN, false,
		    1.10);
}

static void judge_small(struct hb_book *b)
{
	static const char *const works[] = {
		"64 B pair", "4 KiB pair", "32 KiB pair",
	};
	double worst = NAN;

	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		worst = fmax(worst, p50(b, works[i], "hakmem") -
				    p50(b, works[i], "glibc"));
	hb_add_goal(b, "below the threshold: ns a pair over glibc's, the worst",
		    worst, false, 1.5);
}

static void judge_device(struct hb_book *b)
{
	const struct peer_work *w;
	const char *at = "";
	double worst = NAN;
	struct hb_goal *g;

	for (size_t i = 0; (w = hb_peer_work(i)); i++) {
		double x = p50(b, w->name, "hakmem") /
			   p50(b, w->name, "hakmem-anon");

		if (!only_hits(w) || !isfinite(x) || x <= worst)
			continue;
		worst = x;
		at = w->name;
	}
	g = hb_add_goal(b, "hits on the device, the worst row: times on "
			"anonymous memory", worst, false, 1.2);
	if (g->ok >= 0)
		snprintf(g->note, sizeof(g->note), "at %s", at);
}

/* with nobody to call anything: by the kernel, or by a thread */
static void judge_idle(struct hb_book *b, const char *who, const char *peer)
{
	const struct hb_result *r = find(b, "64 live, then idle", peer);
	char figure[120];

	snprintf(figure, sizeof(figure), "64 live, freed, 5 s, no call, %s: MiB "
		 "over the start's", who);
	hb_add_goal(b, figure, r ? r->rss_idle / MIB : NAN, false, 4);
}

void hb_judge_peers(struct hb_book *b)
{
	const struct hb_result *kept = find(b, "64 live, then idle", "hakmem");

	if (!took_part(b, "hakmem"))
		return;
	if (took_part(b, "hakmem-thread")) {
		judge_idle(b, "HAKMEM_TRIM=thread", "hakmem-thread");
		return;	/* of variants: the others are judged beside the peers */
	}
	if (took_part(b, "hakmem-anon")) {
		judge_device(b);
		judge_idle(b, "device", "hakmem");
		return;	/* the others are for a machine that is none in another */
	}
	judge_sizes(b, "page", 1.05);
	judge_sizes(b, "full", 1.10);
	judge_trips(b);
	judge_faster(b);
	judge_mixed(b, "2-16 MiB, 8 live");
	judge_mixed(b, "2.06-3 MiB, 64 live");
	hb_add_goal(b, "64 live, freed, 5 s, one call: MiB over the start's",
		    kept ? kept->rss_call / MIB : NAN, false, 4);
	hb_add_goal(b, "realloc to 256 MiB: hakmem, times glibc's",
		    p50(b, "realloc to 256 MiB", "hakmem") /
		    p50(b, "realloc to 256 MiB", "glibc"), false, 1.2);
	judge_small(b);
	hb_add_goal(b, "2 MiB pair, untouched: ns",
		    p50(b, "2 MiB pair", "hakmem"), false, 47);
	hb_add_goal(b, "64 MiB pair, untouched: ns",
		    p50(b, "64 MiB pair", "hakmem"), false, 40 + 7 * 32);
	/* on so many processors each operation takes that much longer */
	hb_add_goal(b, "8 threads, own frees, per processor: times 1 thread's",
		    p50(b, "8 threads, own frees", "hakmem") /
		    p50(b, "1 thread, own frees", "hakmem") *
		    b->machine.cpus / fmax(b->machine.cpus, 8), false, 1.2);
}
