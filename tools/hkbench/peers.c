// SPDX-License-Identifier: MIT
/*
 * The scenario `peers`: the same program with one allocator and another.
 *
 * For each row this program is run anew for every allocator, by LD_PRELOAD (or,
 * for the C library's own, without), and the processes take turns, so that they
 * meet the same machine. A round is one process of each. A process counts once,
 * by the median of its samples, however many it had time for: the table has the
 * medians of these, and of their ratios to the floor's process of the same round.
 * The first operation of each process, with the allocator's own start in it, is
 * kept apart.
 *
 * A process says which file its malloc() comes from: an allocator that was not
 * loaded must not be measured under its name.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peers.h"

#define SCENARIO	"peers"
#define ROUNDS		20U
#define ROUNDS_QUICK	3U
#define ROUNDS_LEAST	2U
#define QUICK_LARGEST	(64UL << 20)
#define IDLE_SECONDS	5
#define SETTLE_OPS	9500U	/* hkm_init(3): threshold */
#define LIBS		"/usr/lib/x86_64-linux-gnu/"

struct peer {
	const char *name;
	const char *libs[4];	/* the first that there is */
	const char *env[2];	/* a variable, its value */
	unsigned int flags;
	/* the process */
	char lib[PATH_MAX];
	pid_t pid;
	int to, from;
	struct peer_shm *shm;
	bool absent, off;	/* in no row; not in this row */
	char why[96];
	/* of the row */
	struct hb_samples first, samples;
	uint64_t faults, ops;
	double calls_per_op;
	double round_p50, p50[ROUNDS], ratio[ROUNDS];
	size_t nr_p50, nr_ratios;
	uint64_t base_kib, peak_kib, after_kib, idle_kib, call_kib, requested;
};

#define FLOOR		1U
#define OURS		2U
#define DEVICE		4U	/* something to compare only where there is one */
#define VARIANT		8U	/* only if it is asked for by its name */
#define SETTLES		16U	/* finds something out before it is measured */
#define THREADS		32U	/* starts some: not while calls are counted */

static struct peer peers[] = {
	{ .name = "floor", .flags = FLOOR },
	{ .name = "glibc" },
	/* all from the heap, which is never given back, on huge pages */
	{ .name = "glibc-tuned",
	  .env = { "GLIBC_TUNABLES", "glibc.malloc.mmap_max=0:"
		   "glibc.malloc.trim_threshold=17179869184:"
		   "glibc.malloc.top_pad=67108864:glibc.malloc.hugetlb=1" } },
	{ .name = "jemalloc", .libs = { LIBS "libjemalloc.so.2" } },
	{ .name = "mimalloc",
	  .libs = { LIBS "libmimalloc.so.3", LIBS "libmimalloc.so.2",
		    LIBS "libmimalloc.so.2.0" } },
	{ .name = "tcmalloc",
	  .libs = { LIBS "libtcmalloc_minimal.so.4",
		    LIBS "libtcmalloc.so.4" } },
	{ .name = "hakmem", .flags = OURS },
	/* where there is a device the one before is on it */
	{ .name = "hakmem-anon", .flags = OURS | DEVICE,
	  .env = { "HAKMEM_SOURCE", "anon" } },
	{ .name = "hakmem-thread", .flags = OURS | VARIANT | THREADS,
	  .env = { "HAKMEM_TRIM", "thread" } },
	{ .name = "hakmem-auto", .flags = OURS | VARIANT,
	  .env = { "HAKMEM_CAPACITY", "auto" } },
	{ .name = "hakmem-clear", .flags = OURS | VARIANT,
	  .env = { "HAKMEM_CALLOC_EXCHANGE", "1024G" } },
	{ .name = "hakmem-exchange", .flags = OURS | VARIANT,
	  .env = { "HAKMEM_CALLOC_EXCHANGE", "1" } },
	{ .name = "hakmem-elo", .flags = OURS | VARIANT | SETTLES,
	  .env = { "HAKMEM_WHALE_THRESHOLD", "auto" } },
	{ .name = "hakmem-sites", .flags = OURS | VARIANT,
	  .env = { "HAKMEM_SITES", "1" } },
};

#define NR_PEERS (sizeof(peers) / sizeof(peers[0]))

const char *hb_peer_name(size_t i)
{
	return i < NR_PEERS ? peers[i].name : NULL;
}

/* ---- which allocators there are ---- */

/* beside this program, as it is built, or where make install puts it */
static void find_ours(struct peer *p)
{
	char self[PATH_MAX - 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (hb_opt.preload) {
		snprintf(p->lib, sizeof(p->lib), "%s", hb_opt.preload);
		return;
	}
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return;
	*slash = '\0';
	snprintf(p->lib, sizeof(p->lib), "%s/libhakmem_preload.so", self);
	if (access(p->lib, R_OK))
		snprintf(p->lib, sizeof(p->lib),
			 "%s/../lib/libhakmem_preload.so", self);
}

static void find_lib(struct peer *p)
{
	const char *given = hb_opt_peer_path(p->name);

	if (given) {
		snprintf(p->lib, sizeof(p->lib), "%s", given);
	} else if (p->flags & OURS) {
		find_ours(p);
	} else if (p->libs[0]) {
		for (size_t i = 0; i < 4 && p->libs[i]; i++)
			if (!access(p->libs[i], R_OK)) {
				snprintf(p->lib, sizeof(p->lib), "%s",
					 p->libs[i]);
				break;
			}
		if (!p->lib[0])
			snprintf(p->why, sizeof(p->why), "not installed; or "
				 "give --peer %s=PATH", p->name);
	}
	if (p->lib[0] && access(p->lib, R_OK))
		snprintf(p->why, sizeof(p->why), "cannot read %.70s", p->lib);
	if ((p->flags & DEVICE) && !hb_device_present())
		snprintf(p->why, sizeof(p->why), "%s", hb_device_why_not());
}

/* ---- processes ---- */

static void exec_peer(const struct peer *p, size_t work, int shm, int in,
		      int out)
{
	char arg[5][16];

	snprintf(arg[0], sizeof(arg[0]), "%zu", work);
	snprintf(arg[1], sizeof(arg[1]), "%d", p->flags & FLOOR);
	snprintf(arg[2], sizeof(arg[2]), "%d", shm);
	snprintf(arg[3], sizeof(arg[3]), "%d", in);
	snprintf(arg[4], sizeof(arg[4]), "%d", out);
	fcntl(shm, F_SETFD, 0);
	fcntl(in, F_SETFD, 0);
	fcntl(out, F_SETFD, 0);
	unsetenv("LD_PRELOAD");
	unsetenv("GLIBC_TUNABLES");
	if (p->lib[0])
		setenv("LD_PRELOAD", p->lib, 1);
	if (p->env[0])
		setenv(p->env[0], p->env[1], 1);
	execl("/proc/self/exe", "hkbench", "--peer-child", arg[0], arg[1],
	      arg[2], arg[3], arg[4], (char *)NULL);
	_exit(127);
}

/* what is slow is not repeated as often: the rows are many */
static uint64_t turn_cycles(const struct peer_work *w)
{
	double ns = hb_opt.quick ? 15e6 : 100e6;

	return (uint64_t)((w->mixed ? 10 : 1) * ns / hb_ns_per_cycle);
}

static void start(struct peer *p, size_t work)
{
	int in, out, shm = memfd_create("hkbench", MFD_CLOEXEC);

	if (shm < 0 || ftruncate(shm, sizeof(*p->shm))) {
		perror("hkbench: no shared memory");
		exit(1);
	}
	p->shm = mmap(NULL, sizeof(*p->shm), PROT_READ | PROT_WRITE,
		      MAP_SHARED, shm, 0);
	if (p->shm == MAP_FAILED) {
		perror("hkbench: no shared memory");
		exit(1);
	}
	p->shm->turn_cycles = turn_cycles(hb_peer_work(work));
	p->shm->settle_ops = p->flags & SETTLES ? SETTLE_OPS : 0;
	p->pid = hb_fork(&in, &out);
	if (!p->pid)
		exec_peer(p, work, shm, in, out);
	close(shm);
	p->to = out;
	p->from = in;
}

static void stop(struct peer *p)
{
	close(p->to);
	close(p->from);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	munmap(p->shm, sizeof(*p->shm));
	p->pid = 0;
}

static void give_up(struct peer *p, const char *why)
{
	snprintf(p->why, sizeof(p->why), "%s", why);
	p->off = true;
}

/* one turn of the process; false: it is out of this row */
static bool command(struct peer *p, char what)
{
	char byte;

	if (p->off)
		return false;
	if (write(p->to, &what, 1) != 1 || read(p->from, &byte, 1) != 1)
		give_up(p, "its process ended early");
	else if (p->shm->err)
		give_up(p, strerror(-p->shm->err));
	else if (p->lib[0] && !strstr(p->shm->malloc_is,
				      strrchr(p->lib, '/') ?: p->lib))
		give_up(p, "its malloc was not the one that ran");
	return !p->off;
}

static bool turn(struct peer *p)
{
	return command(p, PEER_TURN);
}

static uint64_t proc_kib(pid_t pid, const char *file, const char *key)
{
	char path[64], line[128];
	unsigned long long kib = 0;
	size_t n = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, n) && line[n] == ':') {
			sscanf(line + n + 1, "%llu", &kib);
			break;
		}
	if (f)
		fclose(f);
	return kib;
}

static uint64_t rss_kib(const struct peer *p)
{
	return proc_kib(p->pid, "smaps_rollup", "Rss");
}

/* ---- a row ---- */

static void keep_turn(struct peer *p, const struct peer_work *w)
{
	for (uint64_t i = 0; i < p->shm->n; i++)
		hb_samples_add(&p->samples, p->shm->cycles[i]);
	p->faults += p->shm->faults;
	p->ops += p->shm->n * (w->scale ? w->scale : 1);
}

/*
 * One more turn, after those that are timed. A call is made anew in a signal handler
 * (syscount.c), which the call that starts a thread does not survive.
 */
static void count_calls(struct peer *p, const struct peer_work *w)
{
	if (w->starts_threads || p->flags & THREADS)
		return;
	if (command(p, PEER_COUNT) && p->shm->counted)
		p->calls_per_op = (double)p->shm->calls / (double)p->shm->n /
				  (w->scale ? w->scale : 1);
}

/* a process of each allocator, in turns; @round changes who is first */
static void run_round(const struct peer_work *w, size_t work,
		      unsigned int round)
{
	size_t from[NR_PEERS];

	for (size_t i = 0; i < NR_PEERS; i++)
		if (!peers[i].off)
			start(&peers[i], work);
	for (unsigned int t = 0; t <= w->turns; t++) {
		for (size_t k = 0; k < NR_PEERS; k++) {
			size_t i = (k + round) % NR_PEERS;
			struct peer *p = &peers[i];

			if (!t)
				from[i] = p->samples.n;
			if (!turn(p))
				continue;
			if (t)
				keep_turn(p, w);
			else if (p->shm->n)
				hb_samples_add(&p->first, p->shm->cycles[0]);
		}
	}
	for (size_t i = 0; i < NR_PEERS; i++) {
		struct peer *p = &peers[i];

		if (!p->pid)
			continue;
		if (!round)
			count_calls(p, w);
		p->round_p50 = hb_median_from(&p->samples, from[i]);
		p->peak_kib = proc_kib(p->pid, "status", "VmHWM");
		p->requested = p->shm->requested_peak;
		stop(p);
		if (p->off)
			continue;
		p->p50[p->nr_p50++] = p->round_p50;
		if (isfinite(peers[0].round_p50) && !peers[0].off)
			p->ratio[p->nr_ratios++] =
				p->round_p50 / peers[0].round_p50;
	}
}

/* one process of each: memory in use, freed, idle, and after one more call */
static void run_memory(size_t work)
{
	for (size_t i = 0; i < NR_PEERS; i++) {
		struct peer *p = &peers[i];

		if (p->off)
			continue;
		start(p, work);
		p->base_kib = rss_kib(p);
		if (!turn(p))
			continue;
		p->peak_kib = proc_kib(p->pid, "status", "VmHWM");
		p->requested = p->shm->requested_peak;
		if (turn(p))
			p->after_kib = rss_kib(p);
	}
	hb_sleep_ns(IDLE_SECONDS * 1000000000ULL);
	for (size_t i = 0; i < NR_PEERS; i++) {
		struct peer *p = &peers[i];

		if (!p->pid)
			continue;
		p->idle_kib = rss_kib(p);
		if (turn(p))
			p->call_kib = rss_kib(p);
		stop(p);
	}
}

static double over_base(const struct peer *p, uint64_t kib)
{
	return ((double)kib - (double)p->base_kib) * 1024;
}

static void book_row(struct peer *p, const struct peer_work *w)
{
	double unit = hb_ns_per_cycle / (w->scale ? w->scale : 1);
	struct hb_result *r;

	if (p->off || (!w->memory && !p->samples.n))
		return;
	r = hb_add_result(SCENARIO, p->name);
	snprintf(r->figure, sizeof(r->figure), "%s", w->name);
	r->size = w->size;
	r->touch = w->touch;
	r->phase = HB_STEADY;
	r->threads = w->threads;
	r->iterations = p->ops;
	r->requested_peak = (double)p->requested;
	r->rss_peak = (double)p->peak_kib * 1024;
	if (w->memory) {
		r->rss_peak = over_base(p, p->peak_kib);
		r->rss_after = over_base(p, p->after_kib);
		r->rss_idle = over_base(p, p->idle_kib);
		r->rss_call = over_base(p, p->call_kib);
		return;
	}
	r->n = p->samples.n;
	/* a turn is bounded in time: where it was slow there are fewer samples */
	r->ns_p50 = hb_median(p->p50, p->nr_p50) * unit;
	r->ns_p99 = hb_percentile(&p->samples, 99) * unit;
	r->ns_mean = hb_mean(&p->samples) * unit;
	if (!w->mixed && !w->scale)
		r->ns_first_p50 = hb_percentile(&p->first, 50) * unit;
	r->faults_per_op = (double)p->faults / (double)p->ops;
	r->syscalls_per_op = p->calls_per_op;
	r->pairs = p->nr_ratios;
	r->paired_time = hb_median(p->ratio, p->nr_ratios);
}

static void row_begin(struct peer *p, const struct peer_work *w)
{
	p->off = p->absent || ((p->flags & FLOOR) && w->no_floor);
	p->faults = p->ops = 0;
	p->calls_per_op = NAN;
	p->nr_p50 = p->nr_ratios = 0;
	p->peak_kib = p->requested = 0;
	memset(&p->first, 0, sizeof(p->first));
	memset(&p->samples, 0, sizeof(p->samples));
}

static void run_row(size_t work, double seconds)
{
	const struct peer_work *w = hb_peer_work(work);
	unsigned int rounds = hb_opt.quick ? ROUNDS_QUICK : ROUNDS;
	uint64_t begun = hb_now_ns();

	for (size_t i = 0; i < NR_PEERS; i++)
		row_begin(&peers[i], w);
	hb_progress(w->name);
	if (w->memory)
		run_memory(work);
	for (unsigned int k = 0; k < rounds && !w->memory; k++) {
		if (k >= ROUNDS_LEAST &&
		    (double)(hb_now_ns() - begun) / 1e9 > seconds)
			break;
		run_round(w, work, k);
	}
	for (size_t i = 0; i < NR_PEERS; i++) {
		struct peer *p = &peers[i];

		book_row(p, w);
		hb_samples_free(&p->first);
		hb_samples_free(&p->samples);
		if (p->absent || !p->why[0])
			continue;
		hb_add_skip(SCENARIO, p->name, w->size, "%s: %s", w->name,
			    p->why);
		p->why[0] = '\0';
	}
}

static bool is_slow(const struct peer_work *w)
{
	return w->op && w->size > QUICK_LARGEST && !w->no_floor;
}

int hb_run_peers(double seconds)
{
	size_t nr = 0;

	while (hb_peer_work(nr))
		nr++;
	for (size_t i = 0; i < NR_PEERS; i++) {
		struct peer *p = &peers[i];

		if ((p->flags & VARIANT) && !hb_opt.backend_list) {
			p->absent = true;
			continue;
		}
		if (!hb_listed(p->name) && !(p->flags & FLOOR))
			snprintf(p->why, sizeof(p->why), "not asked for");
		else
			find_lib(p);
		p->absent = p->why[0];
		if (p->absent)
			hb_add_skip(SCENARIO, p->name, 0, "%s", p->why);
	}
	for (size_t work = 0; work < nr; work++)
		if (!hb_opt.quick || !is_slow(hb_peer_work(work)))
			run_row(work, seconds / (double)nr);
	if (hb_opt.quick)
		hb_add_skip(SCENARIO, "all", QUICK_LARGEST,
			    "more than 64 MiB: not in a quick run");
	return 0;
}
