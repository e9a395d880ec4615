// SPDX-License-Identifier: MIT
/*
 * A lane: one backend in a process of its own.
 *
 * The process gives each backend its own address space, libc heap, ring, arena
 * and (for decay) thread, so that none of them changes what another one costs,
 * and so that its faults, its CPU time and its resident memory are its own. The
 * parent passes the turn from lane to lane: one runs, all others sleep in
 * read(). Samples come back through shared memory, which the process touches
 * before anything is timed.
 *
 * Before each turn the TLB is filled, with more than a block's pages, and
 * flushed. Under QEMU's TCG the software TLB grows only at a flush, and then to
 * twice its size: a loop without flushes could look 20 times slower until
 * somebody else's come along.
 */

#include <errno.h>
#include <poll.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hkbench.h"

#define ANSWER_MS	180000
#define COUNT_TOUCH_MAX	(16UL << 20)

enum cmd_op { CMD_OPEN, CMD_TURN, CMD_COUNT, CMD_COUNT_CLOSE, CMD_QUIT };

struct cmd {
	enum cmd_op op;
	uint64_t n;
	uint64_t max_cycles;
};

struct hb_lane_shm {
	int err;			/* negative errno of the last command */
	uint64_t n, faults, first_faults, cpu_ns;
	struct hb_counters counters;	/* since the last command */
	struct hb_calls calls, close_calls;
	bool counted;
	double pmd_fraction, rss_after;
	uint64_t cycles[HB_SAMPLES_MAX];
};

/* ---- in the lane's process ---- */

/* never written: it is backed by the kernel's one zero page */
static char *scratch;
static size_t scratch_size;

static void flush_tlb(void)
{
	for (size_t reach = HB_HUGE / 2; reach < scratch_size; reach *= 2) {
		for (size_t i = 0; i < scratch_size; i += HB_PAGE)
			(void)*(volatile char *)(scratch + i);
		mprotect(scratch, scratch_size, PROT_NONE);
		mprotect(scratch, scratch_size, PROT_READ);
	}
}

static void flush_tlb_init(size_t block)
{
	scratch_size = 2 * HB_HUGE;
	while (scratch_size < 2 * block)
		scratch_size *= 2;
	scratch = mmap(NULL, scratch_size, PROT_READ,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (scratch == MAP_FAILED)
		_exit(1);
	madvise(scratch, scratch_size, MADV_HUGEPAGE);
	flush_tlb();
}

static uint64_t faults_now(void)
{
	struct rusage ru;

	getrusage(RUSAGE_THREAD, &ru);
	return (uint64_t)(ru.ru_minflt + ru.ru_majflt);
}

static uint64_t cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static double rss_now(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	unsigned long kib = 0;
	char line[128];

	if (!f)
		return NAN;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Rss: %lu", &kib) == 1)
			break;
	fclose(f);
	return (double)kib * 1024;
}

/* how much of the mapping around @p is mapped by huge entries: 0 to 1 */
static double pmd_fraction(const void *p)
{
	unsigned long at = (unsigned long)p, from, to, kib;
	double rss = 0, pmd = 0;
	bool here = false;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "re");

	if (!f)
		return NAN;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = at >= from && at < to;
		if (!here)
			continue;
		if (sscanf(line, "Rss: %lu", &kib) == 1)
			rss += (double)kib;
		else if (sscanf(line, "AnonHugePages: %lu", &kib) == 1 ||
			 sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1 ||
			 sscanf(line, "FilePmdMapped: %lu", &kib) == 1)
			pmd += (double)kib;
		else if (sscanf(line, "Private_Hugetlb: %lu", &kib) == 1) {
			rss += (double)kib;
			pmd += (double)kib;
		}
	}
	fclose(f);
	return rss > 0 ? pmd / rss : NAN;
}

static int one_op(const struct hb_backend *be, struct hb_ctx *c,
		  enum hb_touch touch)
{
	void *p = be->get(c);

	if (!p)
		return errno ? -errno : -ENOMEM;
	hb_touch_block(p, c->size, touch);
	be->put(c, p);
	if (touch != HB_TOUCH_NONE)
		hb_stores_made();
	return 0;
}

static void run_ops(const struct hb_backend *be, struct hb_ctx *c,
		    enum hb_touch touch, const struct cmd *cmd,
		    struct hb_lane_shm *shm)
{
	uint64_t faults, cpu, i = 0, start, t0, t1;
	int err = 0;

	faults = faults_now();
	cpu = cpu_now();
	start = hb_tsc();
	while (i < cmd->n) {
		t0 = hb_tsc();
		err = one_op(be, c, touch);
		t1 = hb_tsc();
		if (err)
			break;
		shm->cycles[i++] = t1 - t0;
		if (i == 1)
			shm->first_faults = faults_now() - faults;
		if (cmd->max_cycles && t1 - start > cmd->max_cycles)
			break;
	}
	shm->cpu_ns = cpu_now() - cpu;
	shm->faults = faults_now() - faults;
	shm->n = i;
	shm->err = err;
}

static void run_count(const struct hb_backend *be, struct hb_ctx *c,
		      enum hb_touch touch, const struct cmd *cmd,
		      struct hb_lane_shm *shm)
{
	int err = 0;
	uint64_t i;
	void *p;

	if (cmd->op == CMD_COUNT && touch != HB_TOUCH_NONE) {
		p = be->get(c);
		if (p) {
			hb_touch_block(p, c->size, touch);
			shm->pmd_fraction = pmd_fraction(p);
			be->put(c, p);
		}
	}
	/* touching makes no call; it only gives munmap and madvise more to do */
	if (c->size > COUNT_TOUCH_MAX)
		touch = HB_TOUCH_NONE;
	shm->counted = hb_syscount_start(&shm->calls) == 0;
	for (i = 0; i < cmd->n && !err; i++)
		err = one_op(be, c, touch);
	if (shm->counted)
		hb_syscount_stop();
	if (cmd->op == CMD_COUNT_CLOSE) {
		if (shm->counted)
			hb_syscount_start(&shm->close_calls);
		be->close(c);
		if (shm->counted)
			hb_syscount_stop();
	}
	shm->n = i;
	shm->err = err;
}

static void lane_process(const struct hb_backend *be, size_t size,
			 enum hb_touch touch, int in, int out,
			 struct hb_lane_shm *shm)
{
	struct hb_ctx ctx = {
		.size = size,
		.len = (size + HB_HUGE - 1) & ~(HB_HUGE - 1),
	};
	struct hb_counters before, after;
	struct cmd cmd;
	double rss;

	memset(shm->cycles, 0xff, sizeof(shm->cycles));
	flush_tlb_init(ctx.len);
	rss = rss_now();
	while (read(in, &cmd, sizeof(cmd)) == sizeof(cmd)) {
		shm->err = 0;
		shm->n = 0;
		memset(&before, 0, sizeof(before));
		memset(&after, 0, sizeof(after));
		if (cmd.op == CMD_TURN) {
			if (be->counters)
				be->counters(&ctx, &before);
			flush_tlb();
			run_ops(be, &ctx, touch, &cmd, shm);
			if (be->counters)
				be->counters(&ctx, &after);
			shm->rss_after = rss_now() - rss;
		} else if (cmd.op == CMD_OPEN) {
			shm->err = be->open(&ctx);
		} else if (cmd.op == CMD_QUIT) {
			be->close(&ctx);
		} else {
			run_count(be, &ctx, touch, &cmd, shm);
		}
		for (size_t i = 0; i < sizeof(after) / sizeof(uint64_t); i++)
			((uint64_t *)&shm->counters)[i] =
				((uint64_t *)&after)[i] -
				((uint64_t *)&before)[i];
		if (write(out, "", 1) != 1 || cmd.op == CMD_QUIT ||
		    cmd.op == CMD_COUNT_CLOSE)
			break;
	}
	_exit(0);
}

/* ---- in the parent ---- */

const char *hb_lane_refuse(const struct hb_backend *be, size_t size)
{
	if ((be->flags & HB_WHALE_ONLY) && size < HB_HUGE)
		return "libc";
	if ((be->flags & HB_DEVICE) && !hb_device_present())
		return hb_device_why_not();
	if ((be->flags & HB_HUGETLB) && !hb_hugetlb_reserve(size))
		return "no pool of huge pages can be set up";
	return NULL;
}

static void lane_end(struct hb_lane *l, bool force)
{
	if (l->pid > 0) {
		if (force)
			kill(l->pid, SIGKILL);
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
		close(l->to);
		close(l->from);
	}
	l->pid = 0;
}

/* false when the lane is lost; it has been cleaned up then */
static bool lane_call(struct hb_lane *l, enum cmd_op op, uint64_t n,
		      uint64_t max_ns)
{
	struct cmd cmd = {
		.op = op,
		.n = n > HB_SAMPLES_MAX ? HB_SAMPLES_MAX : n,
		.max_cycles = (uint64_t)((double)max_ns / hb_ns_per_cycle),
	};
	struct pollfd pfd = { .fd = l->from, .events = POLLIN };
	const char *what = "its process ended early";
	int ready;
	char c;

	if (l->failed)
		return false;
	if (write(l->to, &cmd, sizeof(cmd)) == sizeof(cmd)) {
		do
			ready = poll(&pfd, 1, ANSWER_MS);
		while (ready < 0 && errno == EINTR);
		if (ready == 1 && read(l->from, &c, 1) == 1) {
			if (!l->shm->err)
				return true;
			what = strerror(-l->shm->err);
		} else if (!ready) {
			what = "an operation hung";
		}
	}
	snprintf(l->why, sizeof(l->why), "%s", what);
	l->failed = true;
	lane_end(l, true);
	return false;
}

void hb_lane_start(struct hb_lane *l)
{
	int in, out;

	l->open = l->failed = false;
	l->pmd_fraction = l->rss_after = NAN;
	l->shm = hb_map_shared(sizeof(*l->shm));
	l->shm->pmd_fraction = l->shm->rss_after = NAN;
	l->pid = hb_fork(&in, &out);
	if (!l->pid)
		lane_process(l->be, l->size, l->touch, in, out, l->shm);
	l->to = out;
	l->from = in;
	l->open = lane_call(l, CMD_OPEN, 0, 0);
}

static void keep_samples(struct hb_lane *l, enum hb_keep keep)
{
	const struct hb_lane_shm *shm = l->shm;
	size_t fields = sizeof(l->counters) / sizeof(uint64_t);

	if (keep == HB_KEEP_NONE)
		return;
	for (uint64_t i = 0; i < shm->n; i++)
		hb_samples_add(i || keep == HB_KEEP_ALL ? &l->hot : &l->first,
			       shm->cycles[i]);
	if (keep == HB_KEEP_ALL) {
		l->hot_faults += shm->faults;
	} else {
		l->hot_faults += shm->faults - shm->first_faults;
		l->first_faults += shm->first_faults;
	}
	l->ops += shm->n;
	l->cpu_ns += shm->cpu_ns;
	for (size_t i = 0; i < fields; i++)
		((uint64_t *)&l->counters)[i] +=
			((const uint64_t *)&shm->counters)[i];
	l->rss_after = shm->rss_after;
}

/*
 * The zeroing thread's work is charged to the turn that caused it: it is quiet
 * before the turn, and the turn ends for the books when it is quiet again.
 */
void hb_lane_turn(struct hb_lane *l, uint64_t n, uint64_t max_ns,
		  enum hb_keep keep)
{
	bool device = l->be->flags & HB_DEVICE;
	bool zeroer = (l->be->flags & HB_ZEROER) && !l->thread_off;
	struct hb_zeroing z0 = { 0 }, z1;

	if (l->failed)
		return;
	if (zeroer)
		hb_device_wait_clean(10000);
	if (device)
		z0 = hb_device_zeroing();
	if (!lane_call(l, CMD_TURN, n, max_ns))
		return;
	keep_samples(l, keep);
	if (zeroer)
		hb_device_wait_clean(10000);
	if (device && keep != HB_KEEP_NONE) {
		z1 = hb_device_zeroing();
		l->zero_known = z0.ok && z1.ok;
		l->zero_ns += z1.ns - z0.ns;
		l->zero_bytes += z1.bytes - z0.bytes;
	}
}

void hb_lane_count(struct hb_lane *l, uint64_t n, bool close)
{
	if (!lane_call(l, close ? CMD_COUNT_CLOSE : CMD_COUNT, n, 0))
		return;
	l->counted = l->shm->counted;
	l->calls = l->shm->calls;
	l->close_munmaps = l->shm->close_calls.n[HB_CALL_MUNMAP];
	l->counted_ops = l->shm->n;
	l->pmd_fraction = l->shm->pmd_fraction;
	if (close)
		lane_end(l, false);
}

void hb_lane_stop(struct hb_lane *l)
{
	if (l->pid > 0 && lane_call(l, CMD_QUIT, 0, 0))
		lane_end(l, false);
	lane_end(l, true);
	munmap(l->shm, sizeof(*l->shm));
	l->shm = NULL;
}

void hb_lane_free(struct hb_lane *l)
{
	hb_samples_free(&l->first);
	hb_samples_free(&l->hot);
}

void hb_lane_result(struct hb_lane *l, const char *scenario,
		    enum hb_phase phase, uint64_t iterations)
{
	/*
	 * A burst of one has a first operation only. Otherwise that is apart:
	 * while the others had their turns, what was idle here may have decayed.
	 */
	struct hb_samples *s = l->hot.n ? &l->hot : &l->first;
	uint64_t faults = l->hot.n ? l->hot_faults : l->first_faults;
	double ops = (double)l->ops;
	struct hb_result *r;

	if (!l->ops) {
		hb_add_skip(scenario, l->be->name, l->size, "%s",
			    l->failed ? l->why : "nothing was measured");
		return;
	}
	r = hb_add_result(scenario, l->be->name);
	r->size = l->size;
	r->touch = l->touch;
	r->phase = phase;
	r->mode = l->mode;
	r->burst = l->mode == HB_BURST ? l->burst : 0;
	r->threads = l->be->flags & HB_THREAD ? 2 : 1;
	r->iterations = iterations ? iterations : l->ops;
	r->n = s->n;
	r->ns_p50 = hb_percentile(s, 50) * hb_ns_per_cycle;
	r->ns_p99 = hb_percentile(s, 99) * hb_ns_per_cycle;
	r->ns_mean = hb_mean(s) * hb_ns_per_cycle;
	r->ns_first_p50 = hb_percentile(&l->first, 50) * hb_ns_per_cycle;
	r->faults_per_op = (double)faults / (double)s->n;
	r->cpu_ns_per_op = (double)l->cpu_ns / ops;
	if (l->zero_known) {
		r->kthread_ns_per_op = (double)l->zero_ns / ops;
		r->bytes_zeroed = (double)l->zero_bytes;
		if (l->zero_bytes)
			r->zero_ns_per_slot = (double)l->zero_ns /
				((double)l->zero_bytes / (double)HB_HUGE);
	}
	r->has_ring = l->be->flags & HB_RING;
	r->has_served = l->be->flags & HB_ZEROER;
	r->counters = l->counters;
	r->has_calls = l->counted;
	r->calls = l->calls;
	r->close_munmaps = l->close_munmaps;
	r->counted_ops = l->counted_ops;
	if (l->counted && l->counted_ops)
		r->syscalls_per_op = (double)hb_syscalls(&l->calls) /
				     (double)l->counted_ops;
	r->pmd_fraction = l->pmd_fraction;
	r->rss_after = l->rss_after;
	if ((l->be->flags & HB_WORDS) && !hb_device_reclaims())
		strcpy(r->note, "not reclaimable yet");
	if (l->failed)
		snprintf(r->note + strlen(r->note),
			 sizeof(r->note) - strlen(r->note), "%sstopped: %s",
			 r->note[0] ? "; " : "", l->why);
}
