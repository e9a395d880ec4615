// SPDX-License-Identifier: MIT
/*
 * The scenario `idle`: what a process still holds after it freed everything, and
 * what the machine says is available, over time.
 *
 * One process at a time gets a block, touches it and frees it; from then on it
 * does nothing, or is stopped (SIGSTOP). The parent reads its resident size and
 * MemAvailable every hundred milliseconds. Nothing else runs, since MemAvailable
 * is the machine's.
 *
 * "All back" is judged by the resident size, to a slot: a few pages of stack
 * come and go.
 */

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hkbench.h"

#define STEP_MS		100
#define BLOCK		(64UL << 20)
#define AFTER_MS	800		/* go on for so long after the decay */
#define TICK_MS		100		/* the device's epoch, the thread's tick */
#define PARAMETERS	"/sys/module/hakmem_region/parameters/"

static const struct {
	const char *name, *backend;
} kinds[] = {
	{ "keep", "floor" },
	{ "free-thp", "free-thp" },
	{ "dontneed-thp", "dontneed-thp" },
	{ "decay", "decay" },
	{ "region", "region" },
	{ "region-heap", "region-heap" },
};

const char *hb_idle_backend(size_t i)
{
	return i < sizeof(kinds) / sizeof(kinds[0]) ? kinds[i].name : NULL;
}

struct idle_shm {
	int err;
	uint64_t freed_ns;
};

struct child {
	pid_t pid;
	int to, from;
	struct idle_shm *shm;
};

/* ---- the process ---- */

static void next_step(int in, int out)
{
	char byte;

	if (write(out, "", 1) != 1 || read(in, &byte, 1) != 1)
		_exit(1);
}

static void idle_process(const struct hb_backend *be, size_t size, int in,
			 int out, struct idle_shm *shm)
{
	struct hb_ctx ctx = {
		.size = size,
		.len = (size + HB_HUGE - 1) & ~(HB_HUGE - 1),
	};
	void *p;

	shm->err = be->open(&ctx);
	next_step(in, out);
	p = be->get(&ctx);
	if (p)
		hb_touch_block(p, size, HB_TOUCH_PAGE);
	else
		shm->err = -errno;
	next_step(in, out);
	be->put(&ctx, p);
	shm->freed_ns = hb_now_ns();
	next_step(in, out);
	_exit(0);
}

/* ---- the parent ---- */

static uint64_t rss_kib(pid_t pid)
{
	char path[64], line[128];
	unsigned long long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Rss: %llu", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

static int read_decay_ms(const struct hb_backend *be)
{
	FILE *f;
	int ms = 1000;

	if (!(be->flags & HB_DEVICE))
		return ms;
	f = fopen(PARAMETERS "idle_decay_ms", "re");
	if (!f)
		return ms;
	if (fscanf(f, "%d", &ms) != 1 || ms < 0)
		ms = 1000;
	fclose(f);
	return ms;
}

static void start(struct child *c, const struct hb_backend *be, size_t size)
{
	int in, out;

	c->shm = hb_map_shared(sizeof(*c->shm));
	c->pid = hb_fork(&in, &out);
	if (!c->pid)
		idle_process(be, size, in, out, c->shm);
	c->to = out;
	c->from = in;
}

/* until the process has done its step; 0 or -errno of it */
static int step_done(const struct child *c)
{
	char byte;

	if (read(c->from, &byte, 1) != 1)
		return -ECHILD;
	return c->shm->err;
}

static void finish(struct child *c)
{
	kill(c->pid, SIGKILL);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(c->to);
	close(c->from);
	munmap(c->shm, sizeof(*c->shm));
}

static void sample(struct hb_idle *r, const struct child *c, double at_ms)
{
	r->at_ms[r->n] = at_ms;
	r->rss_kib[r->n] = rss_kib(c->pid);
	r->mem_available_kib[r->n++] = hb_mem_available() / 1024;
}

static double since_free(const struct child *c)
{
	return ((double)hb_now_ns() - (double)c->shm->freed_ns) / 1e6;
}

/* at whole steps after the free: so decay + 2 ticks is one of them */
static void watch(struct hb_idle *r, const struct child *c, uint64_t base_kib)
{
	double slots = (double)r->size / (double)HB_HUGE;
	double judge = r->decay_ms + 2 * r->tick_ms;
	double last = r->decay_ms + AFTER_MS, left, now;

	for (double due = 0; due <= last && r->n < HB_IDLE_SAMPLES;
	     due += STEP_MS) {
		now = since_free(c);
		if (now < due)
			hb_sleep_ns((uint64_t)((due - now) * 1e6));
		sample(r, c, since_free(c));
		left = ((double)r->rss_kib[r->n - 1] - (double)base_kib) /
		       (double)(HB_HUGE / 1024);
		left = left > 0.5 ? round(left) : 0;
		if (left == 0 && isnan(r->back_ms))
			r->back_ms = r->at_ms[r->n - 1];
		if (r->at_ms[r->n - 1] >= judge && isnan(r->back_percent))
			r->back_percent = 100 * (1 - left / slots);
	}
}

/* 0 or -errno */
static int run_one(size_t kind, bool stopped, unsigned int run, size_t size)
{
	const char *name = kinds[kind].backend;
	const struct hb_backend *be = hb_find_backend(name, strlen(name));
	const char *why = hb_lane_refuse(be, size);
	struct child c;
	struct hb_idle *r;
	uint64_t base;
	siginfo_t info;
	int err;

	if (why) {
		hb_add_skip("idle", kinds[kind].name, size, "%s", why);
		return 0;
	}
	if (be->flags & HB_DEVICE)
		hb_device_wait_clean(5000);
	start(&c, be, size);
	err = step_done(&c);
	base = rss_kib(c.pid);
	if (!err && write(c.to, "", 1) == 1)
		err = step_done(&c);
	if (err) {
		finish(&c);
		return err;
	}
	r = hb_add_idle(kinds[kind].name);
	r->stopped = stopped;
	r->run = run;
	r->size = size;
	r->decay_ms = (unsigned int)read_decay_ms(be);
	r->tick_ms = TICK_MS;
	sample(r, &c, -1);
	if (write(c.to, "", 1) == 1)
		err = step_done(&c);
	if (stopped && !kill(c.pid, SIGSTOP))
		waitid(P_PID, (id_t)c.pid, &info, WSTOPPED | WNOWAIT);
	if (!err)
		watch(r, &c, base);
	finish(&c);
	return err;
}

/* quick: stopped where that can make a difference, else running */
static bool left_out(size_t kind, bool stopped)
{
	const char *name = kinds[kind].name;
	bool returns_later = !strcmp(name, "decay") ||
			     !strncmp(name, "region", 6);

	return hb_opt.quick && stopped != returns_later;
}

int hb_run_idle(void)
{
	unsigned int runs = hb_opt.runs ? hb_opt.runs : 1;
	size_t size = hb_opt.size ? hb_opt.size : BLOCK;
	int err;

	for (unsigned int run = 0; run < runs; run++) {
		for (size_t i = 0; hb_idle_backend(i); i++) {
			if (!hb_listed(kinds[i].name))
				continue;
			hb_progress(kinds[i].name);
			err = 0;
			for (int stopped = 0; stopped < 2 && !err; stopped++)
				if (!left_out(i, stopped))
					err = run_one(i, stopped, run, size);
			if (err)
				hb_add_skip("idle", kinds[i].name, size, "%s",
					    strerror(-err));
		}
	}
	return 0;
}
