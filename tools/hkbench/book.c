// SPDX-License-Identifier: MIT
/* The book of results: every table and file is made from it. */

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "hkbench.h"

struct hb_book hb_book;

static void *grow(void *array, size_t nr, size_t size)
{
	/* by powers of two, at the moment when @nr reaches one */
	if (nr & (nr - 1))
		return array;
	array = realloc(array, (nr ? 2 * nr : 1) * size);
	if (!array) {
		perror("hkbench");
		exit(1);
	}
	return array;
}

struct hb_result *hb_add_result(const char *scenario, const char *backend)
{
	struct hb_book *b = &hb_book;
	struct hb_result *r;

	b->results = grow(b->results, b->nr_results, sizeof(*r));
	r = &b->results[b->nr_results++];
	memset(r, 0, sizeof(*r));
	snprintf(r->scenario, sizeof(r->scenario), "%s", scenario);
	r->backend = backend;
	r->ns_p50 = r->ns_p99 = r->ns_mean = r->ns_first_p50 = NAN;
	r->faults_per_op = r->syscalls_per_op = NAN;
	r->cpu_ns_per_op = r->kthread_ns_per_op = NAN;
	r->bytes_zeroed = r->zero_ns_per_slot = NAN;
	r->pmd_fraction = r->rss_after = NAN;
	r->open_ns = r->setup_ns = r->mmap_ns = NAN;
	r->start_ns = r->exec_ns = r->cycles = NAN;
	r->paired_time = r->paired_cpu = NAN;
	r->ns_p999 = r->ns_max = NAN;
	r->requested_peak = r->rss_peak = r->rss_idle = r->rss_call = NAN;
	r->stalls_per_op = r->single_fraction = r->memory_taken = NAN;
	return r;
}

struct hb_pressure *hb_add_pressure(const char *backend)
{
	struct hb_book *b = &hb_book;
	struct hb_pressure *p;

	b->pressure = grow(b->pressure, b->nr_pressure, sizeof(*p));
	p = &b->pressure[b->nr_pressure++];
	memset(p, 0, sizeof(*p));
	p->backend = backend;
	p->ms_to_get = p->slots_needed = NAN;
	p->reuse_kept_ns = p->reuse_taken_ns = NAN;
	return p;
}

struct hb_idle *hb_add_idle(const char *backend)
{
	struct hb_book *b = &hb_book;
	struct hb_idle *r;

	b->idle = grow(b->idle, b->nr_idle, sizeof(*r));
	r = &b->idle[b->nr_idle++];
	memset(r, 0, sizeof(*r));
	r->backend = backend;
	r->back_percent = r->back_ms = NAN;
	return r;
}

void hb_add_skip(const char *scenario, const char *backend, size_t size,
		 const char *fmt, ...)
{
	struct hb_book *b = &hb_book;
	struct hb_skip *s;
	char why[sizeof(s->why)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < b->nr_skips; i++) {
		s = &b->skips[i];
		if (!strcmp(s->scenario, scenario) && s->backend == backend &&
		    s->size == size && !strcmp(s->why, why))
			return;
	}
	b->skips = grow(b->skips, b->nr_skips, sizeof(*s));
	s = &b->skips[b->nr_skips++];
	memset(s, 0, sizeof(*s));
	snprintf(s->scenario, sizeof(s->scenario), "%s", scenario);
	s->backend = backend;
	s->size = size;
	strcpy(s->why, why);
}

bool hb_same_table(const struct hb_result *a, const struct hb_result *b)
{
	return !strcmp(a->scenario, b->scenario) && a->size == b->size &&
	       a->touch == b->touch && a->phase == b->phase &&
	       (a->phase == HB_STEADY || a->iterations == b->iterations);
}

const struct hb_result *hb_reference(const struct hb_result *r,
				     const char *backend)
{
	for (size_t i = 0; i < hb_book.nr_results; i++) {
		const struct hb_result *ref = &hb_book.results[i];

		if (!strcmp(ref->backend, backend) && hb_same_table(r, ref))
			return ref;
	}
	return NULL;
}

bool hb_listed(const char *name)
{
	const char *p = hb_opt.backend_list;
	size_t len = strlen(name);

	if (!p)
		return true;
	for (; *p; p += strspn(p, ",")) {
		if (strcspn(p, ",") == len && !memcmp(p, name, len))
			return true;
		p += strcspn(p, ",");
	}
	return false;
}

const char *hb_touch_str(enum hb_touch touch)
{
	static const char *const str[] = { "none", "page", "full", "read" };

	return str[touch];
}

const char *hb_mode_str(enum hb_mode mode)
{
	return mode == HB_BURST ? "burst" :
	       mode == HB_SUSTAINED ? "sustained" : "";
}

void hb_size_str(char *buf, size_t room, size_t size)
{
	static const char unit[][4] = { "B", "KiB", "MiB", "GiB" };
	int u = 0;

	while (u < 3 && size && size % 1024 == 0) {
		size /= 1024;
		u++;
	}
	snprintf(buf, room, "%zu %s", size, unit[u]);
}
