// SPDX-License-Identifier: MIT
/*
 * The scenario `batch`: what it costs to obtain and release 1, 8, 64 and 512
 * blocks at once, by each of the ways in batch_ways.c. They take turns, as all
 * lanes do; a way that cannot do something at some size is left out there.
 */

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "hkbench.h"

/* after one that is not kept; a GiB takes seconds under emulation */
#define ROUNDS_MIN(n)	((n) < HB_BATCH_MAX ? 3 : 2)
#define MEMORY_MIB(n)	((n) * (HB_HUGE >> 20))

static const char *const act_str[HB_ACT_NR] = {
	[HB_OBTAIN_BARE] = "obtain addresses",
	[HB_RELEASE_BARE] = "release addresses",
	[HB_OBTAIN] = "obtain memory",
	[HB_RELEASE] = "release memory",
};

static const unsigned int sizes[] = { 1, 8, 64, HB_BATCH_MAX };

#define NR_SIZES	(sizeof(sizes) / sizeof(sizes[0]))

static bool has_memory(enum hb_act act)
{
	return act == HB_OBTAIN || act == HB_RELEASE;
}

static struct lane {
	const struct hb_way *w;
	pid_t pid;
	int to, from;
	bool out;		/* cannot take part any more */
	struct hb_samples cycles, cpu;
} lanes[HB_WAYS_MAX];

static void drop_lane(struct lane *l, size_t size, const char *why)
{
	hb_add_skip("batch", l->w->name, size, "%s", why);
	l->out = true;
}

static bool get_answer(struct lane *l, struct hb_batch_answer *a)
{
	return read(l->from, a, sizeof(*a)) == sizeof(*a);
}

static void start_lane(struct lane *l, const struct hb_way *w)
{
	struct hb_batch_answer a;
	int in, out;

	l->w = w;
	l->pid = -1;
	if (w->flags & HB_WAY_DEVICE && !hb_device_present()) {
		drop_lane(l, 0, hb_device_why_not());
		return;
	}
	l->pid = hb_fork(&in, &out);
	if (!l->pid)
		hb_way_serve(w, in, out);
	l->to = out;
	l->from = in;
	if (!get_answer(l, &a))
		drop_lane(l, 0, "its process ended early");
	else if (a.err)
		drop_lane(l, 0, w->flags & HB_WAY_PIDFD && a.err == -EINVAL ?
			  "this kernel has it for no process's MADV_DONTNEED" :
			  strerror(-a.err));
}

/* a lane's pipe is also open in those that were started after it */
static void stop_lanes(void)
{
	for (size_t i = 0; i < hb_nr_ways; i++) {
		if (lanes[i].pid <= 0)
			continue;
		close(lanes[i].to);
		close(lanes[i].from);
	}
	for (size_t i = 0; i < hb_nr_ways; i++)
		while (lanes[i].pid > 0 && waitpid(lanes[i].pid, NULL, 0) < 0 &&
		       errno == EINTR)
			;
}

/* one turn; what the lane cannot do at this size is left out of the table */
static void turn(struct lane *l, const struct hb_batch_order *o, bool keep,
		 bool *failed)
{
	struct hb_batch_answer a;

	if (write(l->to, o, sizeof(*o)) != sizeof(*o) || !get_answer(l, &a)) {
		drop_lane(l, o->n * HB_HUGE, "its process ended early");
		return;
	}
	if (a.err) {
		hb_add_skip("batch", l->w->name, o->n * HB_HUGE, "%s: %s",
			    act_str[o->act], strerror(-a.err));
		*failed = true;
	}
	for (unsigned int i = 0; keep && i < a.count; i++) {
		hb_samples_add(&l->cycles, a.cycles[i]);
		hb_samples_add(&l->cpu, a.cpu_ns[i]);
	}
}

static void name_figure(char figure[64], enum hb_act act, unsigned int n)
{
	snprintf(figure, 64, "%s, %u block%s", act_str[act], n,
		 n == 1 ? "" : "s");
}

static void book_cell(struct lane *l, enum hb_act act, unsigned int n)
{
	struct hb_result *r;

	if (l->cycles.n) {
		r = hb_add_result("batch", l->w->name);
		name_figure(r->figure, act, n);
		r->size = HB_HUGE;
		r->phase = HB_STEADY;
		r->batch = n;
		r->threads = 1;
		r->iterations = r->n = l->cycles.n;
		r->ns_p50 = hb_percentile(&l->cycles, 50) * hb_ns_per_cycle / n;
		r->ns_p99 = hb_percentile(&l->cycles, 99) * hb_ns_per_cycle / n;
		r->ns_mean = hb_mean(&l->cycles) * hb_ns_per_cycle / n;
		r->cpu_ns_per_op = hb_percentile(&l->cpu, 50) / n;
	}
	hb_samples_free(&l->cycles);
	hb_samples_free(&l->cpu);
	memset(&l->cycles, 0, sizeof(l->cycles));
	memset(&l->cpu, 0, sizeof(l->cpu));
}

/* all ways with one size and one act, in turns */
static void measure(enum hb_act act, unsigned int n, double seconds)
{
	struct hb_batch_order o = {
		act, n, n <= 8 ? HB_BATCH_TURN : n <= 64 ? 2 : 1,
	};
	uint64_t end = hb_now_ns() + (uint64_t)(seconds * 1e9);
	bool failed[HB_WAYS_MAX] = { false }, any = true;

	for (int round = 0;
	     any && (round <= ROUNDS_MIN(n) || hb_now_ns() < end); round++) {
		any = false;
		for (size_t i = 0; i < hb_nr_ways; i++) {
			if (lanes[i].out || failed[i] ||
			    !(hb_ways[i].acts & 1U << act))
				continue;
			turn(&lanes[i], &o, round > 0, &failed[i]);
			any = true;
		}
		hb_progress("batches");
	}
	for (size_t i = 0; i < hb_nr_ways; i++)
		book_cell(&lanes[i], act, n);
}

int hb_run_batch(double seconds)
{
	double each = seconds / (HB_ACT_NR * NR_SIZES);

	for (size_t i = 0; i < hb_nr_ways; i++)
		start_lane(&lanes[i], &hb_ways[i]);
	for (enum hb_act act = 0; act < HB_ACT_NR; act++) {
		for (size_t k = 0; k < NR_SIZES; k++) {
			unsigned int n = sizes[k];

			if (has_memory(act) && n == HB_BATCH_MAX && hb_opt.quick)
				hb_add_skip("batch", "all", n * HB_HUGE,
					    "not in a quick run");
			else if (has_memory(act) &&
				 hb_mem_available() < n * HB_HUGE * 3 / 2)
				hb_add_skip("batch", "all", n * HB_HUGE,
					    "needs %lu MiB available",
					    MEMORY_MIB(n) * 3 / 2);
			else
				measure(act, n, each);
		}
	}
	stop_lanes();
	return 0;
}

/* ---- the tables ---- */

static const struct hb_result *find(const struct hb_book *b, const char *name,
				    enum hb_act act, unsigned int n)
{
	char figure[64];

	name_figure(figure, act, n);
	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (!strcmp(r->scenario, "batch") && !strcmp(r->backend, name) &&
		    !strcmp(r->figure, figure))
			return r;
	}
	return NULL;
}

static void cell(FILE *out, double ns)
{
	if (isfinite(ns))
		fprintf(out, " %9.2f", ns / 1000);
	else
		fprintf(out, " %9s", "-");
}

static void report_title(FILE *out, enum hb_act act)
{
	fprintf(out, "\nbatch: %s of n blocks of 2 MiB; us for each block, "
		"median, and CPU time of all threads\n  %-17s", act_str[act],
		"n");
	for (size_t k = 0; k < NR_SIZES; k++)
		fprintf(out, " %9u", sizes[k]);
	for (size_t k = 0; k < NR_SIZES; k++)
		fprintf(out, "  CPU %5u", sizes[k]);
	fputc('\n', out);
}

static void report_act(FILE *out, const struct hb_book *b, enum hb_act act)
{
	bool titled = false;

	for (size_t i = 0; i < hb_nr_ways; i++) {
		const struct hb_result *r[NR_SIZES];
		bool any = false;

		for (size_t k = 0; k < NR_SIZES; k++) {
			r[k] = find(b, hb_ways[i].name, act, sizes[k]);
			any |= !!r[k];
		}
		if (!any)
			continue;
		if (!titled)
			report_title(out, act);
		titled = true;
		fprintf(out, "  %-17s", hb_ways[i].name);
		for (size_t k = 0; k < NR_SIZES; k++)
			cell(out, r[k] ? r[k]->ns_p50 : NAN);
		for (size_t k = 0; k < NR_SIZES; k++) {
			fputc(' ', out);
			cell(out, r[k] ? r[k]->cpu_ns_per_op : NAN);
		}
		fputc('\n', out);
	}
}

void hb_report_batch(FILE *out, const struct hb_book *b)
{
	for (enum hb_act act = 0; act < HB_ACT_NR; act++)
		report_act(out, b, act);
	for (size_t i = 0; i < b->nr_skips; i++) {
		const struct hb_skip *s = &b->skips[i];

		if (strcmp(s->scenario, "batch"))
			continue;
		if (s->size)
			fprintf(out, "  %s, %lu blocks: not run, %s\n",
				s->backend, s->size / HB_HUGE, s->why);
		else
			fprintf(out, "  %s: not run, %s\n", s->backend, s->why);
	}
}
