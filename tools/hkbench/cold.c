// SPDX-License-Identifier: MIT
/*
 * The scenario `cold`: the first operation of a fresh process, which runs the
 * program anew (fork and exec), so that nothing is inherited. The parent times
 * from before the fork to the exit; the child times the start of its backend
 * (library, device) and its first operation.
 */

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hkbench.h"

struct cold_answer {
	int err;
	uint64_t start, op;			/* cycles */
	uint64_t open_ns, setup_ns, mmap_ns;
};

struct cold_lane {
	const struct hb_backend *be;
	struct hb_samples op, started, open, setup, mmap, whole;
	char why[96];
};

/* in the fresh process; the answer goes to standard output */
int hb_cold_child(const char *backend, size_t size, enum hb_touch touch)
{
	const struct hb_backend *be = hb_find_backend(backend, strlen(backend));
	struct hb_ctx ctx = {
		.size = size,
		.len = (size + HB_HUGE - 1) & ~(HB_HUGE - 1),
	};
	struct cold_answer a = { 0 };
	uint64_t t0, t1, t2;
	void *p;

	t0 = hb_tsc();
	a.err = be->open(&ctx);
	t1 = hb_tsc();
	if (!a.err) {
		p = be->get(&ctx);
		if (p) {
			hb_touch_block(p, size, touch);
			be->put(&ctx, p);
		} else {
			a.err = -errno;
		}
	}
	t2 = hb_tsc();
	a.start = t1 - t0;
	a.op = t2 - t1;
	a.open_ns = ctx.open_ns;
	a.setup_ns = ctx.setup_ns;
	a.mmap_ns = ctx.mmap_ns;
	if (!a.err)
		be->close(&ctx);
	return write(STDOUT_FILENO, &a, sizeof(a)) == sizeof(a) ? 0 : 1;
}

static int exec_child(const struct hb_backend *be, size_t size,
		      enum hb_touch touch, struct cold_answer *a)
{
	char size_arg[32], touch_arg[8], ns_arg[40];
	int fds[2], status;
	ssize_t got;
	pid_t pid;

	snprintf(size_arg, sizeof(size_arg), "%zu", size);
	snprintf(touch_arg, sizeof(touch_arg), "%d", touch);
	snprintf(ns_arg, sizeof(ns_arg), "%.17g", hb_ns_per_cycle);
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return -errno;
	}
	if (!pid) {
		dup2(fds[1], STDOUT_FILENO);
		execl("/proc/self/exe", "hkbench", "--cold-child", be->name,
		      size_arg, touch_arg, ns_arg, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	got = read(fds[0], a, sizeof(*a));
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (got != sizeof(*a) || !WIFEXITED(status) || WEXITSTATUS(status))
		return -EPIPE;
	return a->err;
}

static void one_process(struct cold_lane *l, size_t size, enum hb_touch touch)
{
	struct cold_answer a;
	uint64_t t0 = hb_tsc(), t1;
	int err = exec_child(l->be, size, touch, &a);

	t1 = hb_tsc();
	if (err) {
		snprintf(l->why, sizeof(l->why), "%s",
			 err == -EPIPE ? "its process ended early" :
					 strerror(-err));
		return;
	}
	hb_samples_add(&l->op, a.op);
	hb_samples_add(&l->started, a.start + a.op);
	hb_samples_add(&l->whole, t1 - t0);
	if (a.open_ns) {
		hb_samples_add(&l->open, a.open_ns);
		hb_samples_add(&l->setup, a.setup_ns);
		hb_samples_add(&l->mmap, a.mmap_ns);
	}
}

static void book_lane(struct cold_lane *l, size_t size, enum hb_touch touch)
{
	struct hb_result *r;

	if (l->why[0])
		hb_add_skip("cold", l->be->name, size, "%s", l->why);
	if (!l->op.n)
		return;
	r = hb_add_result("cold", l->be->name);
	r->size = size;
	r->touch = touch;
	r->phase = HB_COLD;
	r->mode = l->be->flags & HB_ZEROER ? HB_BURST : HB_PLAIN;
	r->burst = r->mode == HB_BURST;
	r->threads = l->be->flags & HB_THREAD ? 2 : 1;
	r->iterations = 1;
	r->n = l->op.n;
	r->ns_p50 = hb_percentile(&l->op, 50) * hb_ns_per_cycle;
	r->ns_p99 = hb_percentile(&l->op, 99) * hb_ns_per_cycle;
	r->ns_mean = hb_mean(&l->op) * hb_ns_per_cycle;
	r->start_ns = hb_percentile(&l->started, 50) * hb_ns_per_cycle;
	r->exec_ns = hb_percentile(&l->whole, 50) * hb_ns_per_cycle;
	r->open_ns = hb_percentile(&l->open, 50);
	r->setup_ns = hb_percentile(&l->setup, 50);
	r->mmap_ns = hb_percentile(&l->mmap, 50);
	if ((l->be->flags & HB_WORDS) && !hb_device_reclaims())
		strcpy(r->note, "not reclaimable yet");
}

/* thirty processes for every backend are not quick under emulation */
static bool in_quick(const char *name)
{
	return !strcmp(name, "mmap") || !strcmp(name, "mmap-thp") ||
	       !strcmp(name, "malloc") || !strcmp(name, "free-thp") ||
	       !strcmp(name, "region-ioctl") || !strcmp(name, "region") ||
	       !strcmp(name, "floor") || !strcmp(name, "anon-heap") ||
	       !strcmp(name, "region-heap");
}

int hb_run_cold(size_t size, enum hb_touch touch, unsigned int processes)
{
	struct cold_lane lanes[HB_LANES_MAX];
	size_t nr = 0;

	memset(lanes, 0, sizeof(lanes));
	for (size_t i = 0; i < hb_opt.nr_backends; i++) {
		const struct hb_backend *be = hb_opt.backends[i];
		const char *why = hb_lane_refuse(be, size);

		if (!why && hb_opt.quick && !in_quick(be->name))
			why = "not in a quick run";
		if (why)
			hb_add_skip("cold", be->name, size, "%s", why);
		else
			lanes[nr++].be = be;
	}
	for (unsigned int k = 0; k < processes; k++) {
		for (size_t i = 0; i < nr; i++) {
			bool device = lanes[i].be->flags & HB_DEVICE;

			if (device)
				hb_device_wait_clean(10000);
			one_process(&lanes[i], size, touch);
			if (device)
				hb_device_wait_clean(10000);
		}
		hb_progress("cold processes");
	}
	for (size_t i = 0; i < nr; i++) {
		book_lane(&lanes[i], size, touch);
		hb_samples_free(&lanes[i].op);
		hb_samples_free(&lanes[i].started);
		hb_samples_free(&lanes[i].open);
		hb_samples_free(&lanes[i].setup);
		hb_samples_free(&lanes[i].mmap);
		hb_samples_free(&lanes[i].whole);
	}
	return 0;
}
