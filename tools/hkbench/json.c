// SPDX-License-Identifier: MIT
/* The results as JSON and as CSV. What was not measured is null, or empty. */

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "hkbench.h"

static void set_str(json_t *o, const char *key, const char *value)
{
	json_object_set_new(o, key, json_string(value));
}

static void set_int(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void set_real(json_t *o, const char *key, double value)
{
	json_object_set_new(o, key, isfinite(value) ? json_real(value) :
						      json_null());
}

/* fields that only some results have are left out of the others */
static void set_known(json_t *o, const char *key, double value)
{
	if (isfinite(value))
		set_real(o, key, value);
}

static json_t *machine_json(const struct hb_machine *m)
{
	json_t *o = json_object();

	set_str(o, "kernel", m->kernel);
	set_str(o, "accelerator", m->accel);
	set_str(o, "cpu", m->cpu);
	set_int(o, "cpus", m->cpus);
	set_int(o, "memory", m->memory);
	set_str(o, "thp", m->thp);
	set_str(o, "init_on_alloc", m->init_on_alloc);
	json_object_set_new(o, "erms", json_boolean(m->erms));
	set_real(o, "tsc_mhz", m->tsc_mhz);
	json_object_set_new(o, "device", json_boolean(hb_device_present()));
	json_object_set_new(o, "reclaim", json_boolean(hb_device_reclaims()));
	return o;
}

static json_t *calls_json(const uint64_t *n)
{
	json_t *o = json_object();

	for (int i = 0; i < HB_CALL_NR; i++)
		set_int(o, hb_call_name[i], n[i]);
	return o;
}

/* where memory is scattered, the slowest operations are what counts */
static void set_tail(json_t *o, const struct hb_result *r)
{
	set_real(o, "ns_p999", r->ns_p999);
	set_real(o, "ns_max", r->ns_max);
	set_int(o, "failed", r->failed);
	set_real(o, "compact_stalls_per_op", r->stalls_per_op);
	set_known(o, "single_fraction", r->single_fraction);
}

static json_t *result_json(const struct hb_result *r)
{
	json_t *o = json_object();

	set_str(o, "scenario", r->scenario);
	set_str(o, "backend", r->backend);
	if (r->figure[0])
		set_str(o, "figure", r->figure);
	set_int(o, "size", r->size);
	set_str(o, "touch", hb_touch_str(r->touch));
	set_str(o, "phase", r->phase == HB_COLD ? "cold" : "steady");
	if (r->mode != HB_PLAIN)
		set_str(o, "mode", hb_mode_str(r->mode));
	if (r->mode == HB_BURST)
		set_int(o, "burst", r->burst);
	if (r->batch)
		set_int(o, "batch", r->batch);
	set_int(o, "threads", r->threads);
	set_int(o, "iterations", r->iterations);
	set_int(o, "n", r->n);
	set_real(o, "ns_p50", r->ns_p50);
	set_real(o, "ns_p99", r->ns_p99);
	set_real(o, "ns_mean", r->ns_mean);
	set_known(o, "ns_first_p50", r->ns_first_p50);
	set_real(o, "faults_per_op", r->faults_per_op);
	set_real(o, "syscalls_per_op", r->syscalls_per_op);
	set_known(o, "cpu_ns_per_op", r->cpu_ns_per_op);
	set_known(o, "kthread_ns_per_op", r->kthread_ns_per_op);
	if (r->has_ring) {
		set_int(o, "hits", r->counters.hits);
		set_int(o, "misses", r->counters.misses);
		set_int(o, "puts", r->counters.puts);
		set_int(o, "evictions", r->counters.evictions);
	}
	if (r->has_calls) {
		json_object_set_new(o, "calls", calls_json(r->calls.n));
		json_object_set_new(o, "cycles", calls_json(r->calls.cycles));
		set_int(o, "counted_ops", r->counted_ops);
		if (r->phase == HB_COLD)
			set_int(o, "munmap_at_close", r->close_munmaps);
	}
	if (r->has_served) {
		set_int(o, "bytes_zeroed_inline", r->counters.zeroed_inline);
		if (r->counters.served)
			set_real(o, "served_clean",
				 (double)r->counters.served_clean /
					 (double)r->counters.served);
	}
	set_known(o, "bytes_zeroed", r->bytes_zeroed);
	set_known(o, "zero_ns_per_slot", r->zero_ns_per_slot);
	set_known(o, "pmd_fraction", r->pmd_fraction);
	set_known(o, "rss_after", r->rss_after);
	set_known(o, "open_ns", r->open_ns);
	set_known(o, "setup_ns", r->setup_ns);
	set_known(o, "mmap_ns", r->mmap_ns);
	set_known(o, "start_ns", r->start_ns);
	set_known(o, "exec_to_exit_ns", r->exec_ns);
	if (r->background != HB_ZERO_ANY)
		json_object_set_new(o, "background",
				    json_boolean(r->background == HB_ZERO_ON));
	if (r->pairs)
		set_int(o, "pairs", r->pairs);
	set_known(o, "paired_time", r->paired_time);
	set_known(o, "paired_cpu", r->paired_cpu);
	set_known(o, "requested_peak", r->requested_peak);
	set_known(o, "rss_peak", r->rss_peak);
	set_known(o, "rss_idle", r->rss_idle);
	set_known(o, "rss_after_call", r->rss_call);
	if (isfinite(r->ns_p999))
		set_tail(o, r);
	set_known(o, "memory_taken", r->memory_taken);
	set_known(o, "cycles_per_call", r->cycles);
	if (r->note[0])
		set_str(o, "note", r->note);
	return o;
}

/* counts are sums over the runs, times are medians of them */
static json_t *pressure_json(const struct hb_pressure_row *row)
{
	const struct hb_pressure *s = &row->sum;
	json_t *o = json_object();

	set_str(o, "scenario", "pressure");
	set_str(o, "backend", s->backend);
	json_object_set_new(o, "stopped", json_boolean(s->stopped));
	set_str(o, "mode", s->drain ? "drain" : "need");
	set_int(o, "runs", row->runs);
	set_int(o, "got_it", row->got_it);
	set_int(o, "oom_kills", s->oom_kills);
	set_int(o, "owners_killed", s->owners_killed);
	set_int(o, "needy_killed", s->needy_killed);
	set_int(o, "failed", s->failed);
	set_real(o, "ms_to_get", s->ms_to_get);
	set_real(o, "ms_to_get_p90", row->ms_to_get_p90);
	set_int(o, "need_bytes", s->need);
	set_int(o, "slots_idle", s->slots_idle);
	set_int(o, "slots_kept", s->slots_kept);
	set_int(o, "slots_taken", s->slots_taken);
	if (!s->drain)
		set_real(o, "slots_needed", s->slots_needed);
	set_int(o, "slots_dead", s->slots_dead);
	set_int(o, "slots_corrupted", s->slots_corrupted);
	set_int(o, "slots_busy", s->slots_busy);
	set_int(o, "slots_busy_lost", s->slots_busy_lost);
	set_known(o, "obtained", row->obtained);
	set_real(o, "reuse_kept_ns", s->reuse_kept_ns);
	set_real(o, "reuse_taken_ns", s->reuse_taken_ns);
	return o;
}

/* a time series: three arrays of the same length */
static json_t *idle_json(const struct hb_idle *r)
{
	json_t *o = json_object(), *at = json_array(), *rss = json_array();
	json_t *available = json_array();

	for (unsigned int i = 0; i < r->n; i++) {
		json_array_append_new(at, json_real(r->at_ms[i]));
		json_array_append_new(rss,
				      json_integer((json_int_t)r->rss_kib[i]));
		json_array_append_new(available, json_integer(
				(json_int_t)r->mem_available_kib[i]));
	}
	set_str(o, "scenario", "idle");
	set_str(o, "backend", r->backend);
	json_object_set_new(o, "stopped", json_boolean(r->stopped));
	set_int(o, "run", r->run);
	set_int(o, "size", r->size);
	set_int(o, "decay_ms", r->decay_ms);
	set_real(o, "returned_percent", r->back_percent);
	set_real(o, "returned_ms", r->back_ms);
	json_object_set_new(o, "at_ms", at);
	json_object_set_new(o, "rss_kib", rss);
	json_object_set_new(o, "mem_available_kib", available);
	return o;
}

static void memory_json(json_t *results, const struct hb_book *book)
{
	struct hb_pressure_row rows[64];
	size_t nr = hb_pressure_rows(book, rows, 64);

	for (size_t i = 0; i < nr; i++)
		json_array_append_new(results, pressure_json(&rows[i]));
	for (size_t i = 0; i < book->nr_idle; i++)
		json_array_append_new(results, idle_json(&book->idle[i]));
}

static json_t *goal_json(const struct hb_goal *g)
{
	json_t *o = json_object();

	set_str(o, "figure", g->figure);
	set_real(o, "value", g->value);
	set_real(o, "limit", g->limit);
	json_object_set_new(o, "at_least", json_boolean(g->at_least));
	json_object_set_new(o, "ok", g->ok < 0 ? json_null() :
						 json_boolean(g->ok));
	if (g->note[0])
		set_str(o, "note", g->note);
	return o;
}

int hb_write_json(const char *path, const struct hb_book *book)
{
	json_t *root = json_object(), *results = json_array();
	json_t *skipped = json_array(), *goals = json_array(), *o;
	int err;

	for (size_t i = 0; i < book->nr_results; i++)
		json_array_append_new(results, result_json(&book->results[i]));
	memory_json(results, book);
	for (size_t i = 0; i < book->nr_skips; i++) {
		o = json_object();
		set_str(o, "scenario", book->skips[i].scenario);
		set_str(o, "backend", book->skips[i].backend);
		set_int(o, "size", book->skips[i].size);
		set_str(o, "why", book->skips[i].why);
		json_array_append_new(skipped, o);
	}
	for (size_t i = 0; i < book->nr_goals; i++)
		json_array_append_new(goals, goal_json(&book->goals[i]));
	json_object_set_new(root, "machine", machine_json(&book->machine));
	json_object_set_new(root, "results", results);
	json_object_set_new(root, "skipped", skipped);
	json_object_set_new(root, "goals", goals);
	err = json_dump_file(root, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
	json_decref(root);
	if (err)
		fprintf(stderr, "hkbench: cannot write %s: %s\n", path,
			strerror(errno));
	return err ? 1 : 0;
}

static void csv_real(FILE *f, double value)
{
	if (isfinite(value))
		fprintf(f, ",%.6g", value);
	else
		fputc(',', f);
}

static void csv_results(FILE *f, const struct hb_book *book)
{
	fprintf(f, "scenario,backend,figure,size,touch,phase,mode,burst,threads,"
		"iterations,n,ns_p50,ns_p99,ns_mean,ns_first_p50,faults_per_op,"
		"syscalls_per_op,cpu_ns_per_op,kthread_ns_per_op,hits,misses,"
		"evictions,pmd_fraction,rss_after,start_ns,exec_to_exit_ns\n");
	for (size_t i = 0; i < book->nr_results; i++) {
		const struct hb_result *r = &book->results[i];

		fprintf(f, "%s,%s,\"%s\",%zu,%s,%s,%s,%u,%u,%llu,%llu",
			r->scenario, r->backend, r->figure, r->size,
			hb_touch_str(r->touch),
			r->phase == HB_COLD ? "cold" : "steady",
			hb_mode_str(r->mode), r->burst, r->threads,
			(unsigned long long)r->iterations,
			(unsigned long long)r->n);
		csv_real(f, r->ns_p50);
		csv_real(f, r->ns_p99);
		csv_real(f, r->ns_mean);
		csv_real(f, r->ns_first_p50);
		csv_real(f, r->faults_per_op);
		csv_real(f, r->syscalls_per_op);
		csv_real(f, r->cpu_ns_per_op);
		csv_real(f, r->kthread_ns_per_op);
		if (r->has_ring)
			fprintf(f, ",%llu,%llu,%llu",
				(unsigned long long)r->counters.hits,
				(unsigned long long)r->counters.misses,
				(unsigned long long)r->counters.evictions);
		else
			fputs(",,,", f);
		csv_real(f, r->pmd_fraction);
		csv_real(f, r->rss_after);
		csv_real(f, r->start_ns);
		csv_real(f, r->exec_ns);
		fputc('\n', f);
	}
}

/* one table to a file: the columns are the scenario's */
int hb_write_csv(const char *path, const struct hb_book *book)
{
	FILE *f = fopen(path, "we");

	if (!f)
		goto cannot_write;
	if (book->nr_pressure)
		hb_csv_pressure(f, book);
	else if (book->nr_idle)
		hb_csv_idle(f, book);
	else
		csv_results(f, book);
	if (!fclose(f))
		return 0;
cannot_write:
	fprintf(stderr, "hkbench: cannot write %s: %s\n", path, strerror(errno));
	return 1;
}
