// SPDX-License-Identifier: MIT
/*
 * The scenario `zeroing`: what does it cost, and whom, to zero in the background?
 *
 * The device's thread is switched on and off by its parameter, in turns, in one
 * run. Every row is of `region-fresh`: each operation gives a slot's memory back
 * and gets zeroed memory for it. With the thread off each operation zeroes the
 * memory that it gets; with it on, it gets what the thread has zeroed, as long as
 * there is some. The thread's time is then added to the lane's own, since a cost
 * that somebody else pays is a cost all the same.
 *
 * A turn with the thread on begins with a clean pool and lasts, for the books,
 * until it is clean again. A turn with it off begins with a pool where nothing is
 * clean. A pair is a turn of each, one after the other; which is first changes.
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hkbench.h"

#define PARAMETER	"/sys/module/hakmem_region/parameters/zero_background"
#define THREAD_NAME	"hakmem_zero/"
#define BACKEND		"region-fresh"
#define SCENARIO	"zeroing"
#define MIN_PAIRS	3
#define MAX_PAIRS	400
#define TURN_NS		1200000000ULL
#define SUSTAINED_TIMES	10

static char parameter_before;	/* what it was; 0: not touched */

static bool set_background(char value)
{
	int fd = open(PARAMETER, O_WRONLY | O_CLOEXEC);
	bool ok;

	/* no stdio: a signal handler comes here too */
	if (fd < 0)
		return false;
	ok = write(fd, &value, 1) == 1;
	return close(fd) == 0 && ok;
}

void hb_zeroing_restore(void)
{
	if (parameter_before)
		set_background(parameter_before);
	parameter_before = 0;
}

static bool take_parameter(void)
{
	FILE *f = fopen(PARAMETER, "re");
	int c;

	if (!f)
		return false;
	c = fgetc(f);
	fclose(f);
	if (!isalnum(c) || !set_background((char)c))
		return false;
	parameter_before = (char)c;
	return true;
}

/* ---- the thread's processor time ---- */

static double thread_ns(const char *pid)
{
	char path[300], name[32] = "";
	double ns = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(name, sizeof(name), f))
		name[0] = 0;
	fclose(f);
	if (strncmp(name, THREAD_NAME, strlen(THREAD_NAME)))
		return 0;
	snprintf(path, sizeof(path), "/proc/%s/schedstat", pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%lf", &ns) != 1)
		ns = NAN;
	if (f)
		fclose(f);
	return ns;
}

/* of the threads of all nodes; NAN where the kernel does not say */
static double threads_ns(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	double sum = 0;

	if (!proc)
		return NAN;
	while ((e = readdir(proc)))
		if (isdigit(e->d_name[0]))
			sum += thread_ns(e->d_name);
	closedir(proc);
	return sum;
}

/* ---- turns ---- */

struct ratios {
	double v[MAX_PAIRS];
	size_t n;
};

/* the two lanes of a row, and what their pairs gave */
struct row {
	enum hb_mode mode;
	struct hb_lane lane[2];		/* the thread off, on */
	double thread_cpu[2];
	/* of the last turn of each kind */
	double median[2], cpu[2];
	/* of each pair, on to off */
	struct ratios time, all_cpu;
};

/* no folio of the pool is clean: take all that are, and give them back */
static int spoil_pool(void)
{
	struct hb_ctx c = { 0 };
	uint64_t clean, dirty;
	void *p;
	int err;

	for (int i = 0; i < 10; i++) {
		if (!hb_device_pool(&clean, &dirty))
			return -EIO;
		if (!clean)
			return 0;
		c.size = c.len = clean * HB_HUGE;
		err = hb_ioctl_open(&c);
		if (err)
			return err;
		p = hb_ioctl_get(&c);
		err = p ? 0 : -errno;
		if (p)
			hb_ioctl_put(&c, p);
		hb_arena_close(&c);
		if (err)
			return err;
	}
	return -EAGAIN;
}

/* 0 or -errno of what is around the turn; the lane says itself why it failed */
static int turn(struct row *r, bool on)
{
	struct hb_lane *l = &r->lane[on];
	uint64_t ops = l->ops, cpu = l->cpu_ns;
	size_t from = l->hot.n;
	double thread;
	int err;

	if (!set_background(on ? '1' : '0'))
		return -errno;
	if (on) {
		if (!hb_device_wait_clean(10000))
			return -ETIMEDOUT;
	} else {
		err = spoil_pool();
		if (err)
			return err;
	}
	thread = threads_ns();
	hb_lane_turn(l, l->burst, TURN_NS, HB_KEEP_TURN);
	thread = threads_ns() - thread;
	r->thread_cpu[on] += thread;
	r->median[on] = hb_median_from(&l->hot, from);
	r->cpu[on] = ((double)(l->cpu_ns - cpu) + thread) /
		     (double)(l->ops - ops);
	return 0;
}

static void add_ratio(struct ratios *to, const double *values)
{
	double ratio = values[1] / values[0];

	if (isfinite(ratio) && to->n < MAX_PAIRS)
		to->v[to->n++] = ratio;
}

static int pair(struct row *r, bool on_first)
{
	int err = turn(r, on_first);

	if (!err)
		err = turn(r, !on_first);
	if (err || r->lane[0].failed || r->lane[1].failed)
		return err;
	add_ratio(&r->time, r->median);
	add_ratio(&r->all_cpu, r->cpu);
	return 0;
}

/* ---- rows ---- */

static void row_open(struct row *r, enum hb_mode mode, size_t size,
		     enum hb_touch touch, uint64_t depth)
{
	uint64_t slots = (size + HB_HUGE - 1) / HB_HUGE;

	memset(r, 0, sizeof(*r));
	r->mode = mode;
	for (int on = 0; on < 2; on++) {
		struct hb_lane *l = &r->lane[on];

		l->be = hb_find_backend(BACKEND, strlen(BACKEND));
		l->mode = mode;
		l->burst = mode == HB_BURST ? HB_TURN :
			   (unsigned int)(SUSTAINED_TIMES * depth / slots);
		l->every = 1;
		l->size = size;
		l->touch = touch;
		l->thread_off = !on;
		hb_lane_start(l);
		/* warm, however it is served */
		l->thread_off = true;
		hb_lane_turn(l, HB_TURN, TURN_NS, HB_KEEP_NONE);
		l->thread_off = !on;
	}
}

static void row_close(struct row *r)
{
	for (int on = 0; on < 2; on++) {
		struct hb_lane *l = &r->lane[on];
		size_t nr = hb_book.nr_results;
		struct hb_result *res;

		hb_lane_count(l, HB_TURN, false);
		hb_lane_stop(l);
		hb_lane_result(l, SCENARIO, HB_STEADY, 0);
		hb_lane_free(l);
		if (hb_book.nr_results == nr)
			continue;
		res = &hb_book.results[nr];
		res->background = on ? HB_ZERO_ON : HB_ZERO_OFF;
		res->kthread_ns_per_op = r->thread_cpu[on] / (double)l->ops;
		if (on) {
			res->pairs = r->time.n;
			res->paired_time = hb_median(r->time.v, r->time.n);
			res->paired_cpu = hb_median(r->all_cpu.v, r->all_cpu.n);
		}
	}
}

/* burst and sustained side by side, so that both see the same machine */
static int run_touch(size_t size, enum hb_touch touch, uint64_t depth,
		     double seconds)
{
	struct row burst, sustained;
	char what[48], size_str[16];
	uint64_t start = hb_now_ns();
	double done = 0;
	int err = 0;

	hb_size_str(size_str, sizeof(size_str), size);
	snprintf(what, sizeof(what), "zeroing %s %s", size_str,
		 hb_touch_str(touch));
	row_open(&burst, HB_BURST, size, touch, depth);
	row_open(&sustained, HB_SUSTAINED, size, touch, depth);
	for (unsigned int i = 0; !err && i < MAX_PAIRS; i++) {
		if (i >= MIN_PAIRS && done >= seconds)
			break;
		err = pair(&burst, i % 2);
		/* as long as several bursts: not as often */
		if (!err && i % 5 == 0)
			err = pair(&sustained, i % 10 == 0);
		done = (double)(hb_now_ns() - start) / 1e9;
		hb_progress(what);
	}
	row_close(&burst);
	row_close(&sustained);
	return err;
}

int hb_run_zeroing(size_t size, double seconds)
{
	static const enum hb_touch touches[] = {
		HB_TOUCH_PAGE, HB_TOUCH_FULL, HB_TOUCH_READ,
	};
	const struct hb_backend *be = hb_find_backend(BACKEND, strlen(BACKEND));
	const char *why = hb_lane_refuse(be, size);
	uint64_t depth = 0;
	int err = 0;

	if (!why && !take_parameter())
		why = "cannot set " PARAMETER;
	if (!why) {
		set_background('1');
		depth = hb_device_depth();
		if (depth * HB_HUGE < 2 * HB_TURN * size)
			why = "the pool is too small: reserve_mb";
	}
	for (size_t i = 0; !why && !err &&
	     i < sizeof(touches) / sizeof(touches[0]); i++)
		err = run_touch(size, touches[i], depth, seconds / 3);
	hb_zeroing_restore();
	if (err)
		hb_add_skip(SCENARIO, be->name, size, "given up: %s",
			    strerror(-err));
	else if (why)
		hb_add_skip(SCENARIO, be->name, size, "%s", why);
	return 0;
}

/* ---- the table ---- */

static void us(FILE *out, int width, double ns)
{
	if (isfinite(ns))
		fprintf(out, " %*.1f", width, ns / 1e3);
	else
		fprintf(out, " %*s", width, "-");
}

static void report_row(FILE *out, const struct hb_result *r)
{
	fprintf(out, "  %-10s%-4s", hb_mode_str(r->mode),
		r->background == HB_ZERO_ON ? "on" : "off");
	us(out, 9, r->ns_p50);
	us(out, 9, r->ns_p99);
	us(out, 9, r->ns_mean);
	fprintf(out, " %9.2f %9.2f", r->faults_per_op, r->syscalls_per_op);
	us(out, 9, r->cpu_ns_per_op);
	us(out, 9, r->kthread_ns_per_op);
	us(out, 9, r->cpu_ns_per_op + r->kthread_ns_per_op);
	fprintf(out, " %7.1f %%", r->counters.served ?
		100.0 * (double)r->counters.served_clean /
			(double)r->counters.served : 0);
	if (r->background == HB_ZERO_ON)
		fprintf(out, " %8.3fx %8.3fx %6zu", r->paired_time,
			r->paired_cpu, r->pairs);
	fputc('\n', out);
}

void hb_report_zeroing(FILE *out, const struct hb_book *b)
{
	static const char *const touch_str[HB_TOUCH_NR] = {
		[HB_TOUCH_PAGE] = "one byte in each page written",
		[HB_TOUCH_FULL] = "everything written",
		[HB_TOUCH_READ] = "everything read, as after calloc",
	};
	const struct hb_result *last = NULL;
	char size[16];

	for (size_t i = 0; i < b->nr_results; i++) {
		const struct hb_result *r = &b->results[i];

		if (strcmp(r->scenario, SCENARIO))
			continue;
		hb_size_str(size, sizeof(size), r->size);
		if (!last || last->touch != r->touch)
			fprintf(out, "\nzeroing: %s, %s; " BACKEND " with the "
				"zeroing thread on and off in turns, times in us\n"
				"  %-10s%-4s %9s %9s %9s %9s %9s %9s %9s %9s %9s "
				"%9s %9s %6s\n", size, touch_str[r->touch], "",
				"", "hot p50", "p99", "mean", "faults/op",
				"calls/op", "cpu/op", "thread/op", "both/op",
				"clean", "time on/", "cpu on/", "pairs");
		report_row(out, r);
		last = r;
	}
	for (size_t i = 0; i < b->nr_skips; i++)
		if (!strcmp(b->skips[i].scenario, SCENARIO))
			fprintf(out, "%s  %s\n", last ? "" : "\nzeroing:\n",
				b->skips[i].why);
}
