// SPDX-License-Identifier: MIT
/*
 * The scenario `pressure`: does idle memory come back when somebody needs it?
 *
 * A few processes, the owners, hold slots in use and idle slots. Then another
 * process needs more than what the machine has left, and there is no swap. With
 * what the idle slots hold there is enough for it: an OOM kill is a failure of
 * the way in which they are kept. Owners run, or are stopped (SIGSTOP) from
 * before the need to after it: what helps only while they run is told apart.
 *
 *   need    the needy process wants what is left and NEED_PERCENT of what is idle
 *   drain   it takes page after page until the kernel has to kill it, and it is
 *           the first to be killed: what was still idle then could not be had
 *
 * Afterwards the needy process is gone; the owners run, reuse every idle slot
 * and read all that it holds (pressure_owner.c). All processes of a run are new.
 * Ways to keep memory take turns run by run, and every round begins with another
 * one, so that a machine that changes its speed changes it for all.
 *
 * "Left" is MemAvailable before the owners come, less what they will hold, and
 * so means the same for memory that the kernel could take back and for memory
 * that it could not. The kernel keeps some of it for itself, so the slots needed
 * are a slight overestimate.
 *
 * This brings a machine to its knees on purpose, so it runs as root in a guest
 * that lives in memory (tools/vm/run), or where somebody insists.
 */

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pressure.h"

#define NEED_PERCENT	60	/* of what is idle */
#define IDLE_PERCENT	62	/* of what is available, all owners together */
#define BUSY_PART	8	/* slots in use: an eighth of the idle ones */
#define DRAIN_EVERY	5	/* rounds: it takes long and varies little */
#define SETTLE_NS	5000000000ULL
#define SETTLE_SLACK	(16ULL << 20)
#define LEAST		(384ULL << 20)
#define TRIGGER		"/sys/kernel/debug/hakmem_region/shrink"

#ifndef RAMFS_MAGIC
#define RAMFS_MAGIC	0x858458f6
#endif
#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC	0x01021994
#endif

/* one line of the table */
struct cell {
	const struct pr_backend *be;
	bool stopped, drain;
};

static unsigned int owners, runs_done;
static size_t nr_idle, nr_busy;		/* slots of one owner */
static uint64_t available, need;	/* bytes, at the start */

/* ---- may it run here? ---- */

static bool swap_is_on(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[256];
	int lines = 0;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		lines++;
	fclose(f);
	return lines > 1;
}

static const char *refusal(void)
{
	if (!hb_throwaway_guest() && !hb_opt.mean_it)
		return "this machine would run out of memory, and processes "
		       "would be killed: run it in a guest (tools/vm/run), or "
		       "give --i-mean-it";
	if (geteuid())
		return "only root may protect this process from the OOM killer";
	if (swap_is_on())
		return "there is swap: idle memory would go there; swapoff -a";
	if (hb_mem_available() < LEAST)
		return "less than 384 MiB available";
	return NULL;
}

static const char *backend_refusal(const struct pr_backend *be)
{
	if ((be->flags & PR_DEVICE) && !hb_device_present())
		return hb_device_why_not();
	if ((be->flags & PR_PSI) && access("/proc/pressure/memory", W_OK))
		return "no PSI in this kernel: boot with psi=1";
	return NULL;
}

/* ---- the machine, before and after ---- */

static uint64_t oom_kills(void)
{
	FILE *f = fopen("/proc/vmstat", "re");
	unsigned long long kills = 0;
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "oom_kill %llu", &kills) == 1)
			break;
	fclose(f);
	return kills;
}

/*
 * What the last run used is available again before the next one begins, and the
 * device's pool holds no folios that others would have to shrink first.
 */
static uint64_t settle(uint64_t expected)
{
	uint64_t end = hb_now_ns() + SETTLE_NS, now;
	int fd;

	if (hb_device_present()) {
		hb_device_wait_clean(5000);
		fd = open(TRIGGER, O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (write(fd, "1000000", 7) < 0)
				perror("hkbench: " TRIGGER);
			close(fd);
		}
	}
	for (;;) {
		now = hb_mem_available();
		if (now + SETTLE_SLACK >= expected || hb_now_ns() > end)
			return now;
		hb_sleep_ns(10000000);
	}
}

/* ---- one run ---- */

static void count_owner(struct hb_pressure *r, const struct pr_owner_shm *a,
			struct hb_samples *kept, struct hb_samples *taken)
{
	r->slots_kept += a->kept;
	r->slots_taken += a->taken;
	r->slots_corrupted += a->corrupted + a->busy_corrupted;
	r->slots_busy_lost += a->busy_lost;
	for (uint64_t i = 0; i < a->idle; i++)
		hb_samples_add(a->slot_taken[i] ? taken : kept,
			       a->slot_cycles[i]);
}

static void check_owners(struct hb_pressure *r, struct pr_child *child)
{
	struct hb_samples kept = { 0 }, taken = { 0 };

	for (unsigned int i = 0; i < owners; i++) {
		struct pr_child *c = &child[i];

		if (pr_owner_check(c)) {
			count_owner(r, c->owner, &kept, &taken);
			continue;
		}
		r->owners_killed += pr_child_was_killed(c);
		/* hung, or crashed: on its own contents, for all we know */
		r->failed += !pr_child_was_killed(c);
		r->slots_dead += nr_idle;
	}
	r->reuse_kept_ns = hb_percentile(&kept, 50) * hb_ns_per_cycle;
	r->reuse_taken_ns = hb_percentile(&taken, 50) * hb_ns_per_cycle;
	hb_samples_free(&kept);
	hb_samples_free(&taken);
}

/* 0, or -errno where it ended for no reason of ours or the kernel's */
static int be_needy(struct hb_pressure *r)
{
	struct pr_child needy;
	int err;

	if (pr_needy_run(&needy, r->need, r->drain))
		r->ms_to_get = (double)(needy.needy->end_ns -
					needy.needy->start_ns) / 1e6;
	r->got = needy.needy->got;
	r->needy_killed = pr_child_was_killed(&needy);
	r->failed += needy.hung;
	err = isfinite(r->ms_to_get) || r->needy_killed || needy.hung ? 0 :
								-ECHILD;
	pr_child_free(&needy);
	return err;
}

/* all of them, idle; 0, or -errno and none is left */
static int start_owners(struct pr_child *child, const struct cell *cell)
{
	int err;

	for (unsigned int i = 0; i < owners; i++) {
		err = pr_owner_start(&child[i], cell->be,
				     1 + runs_done * PR_OWNERS_MAX + i,
				     nr_idle + nr_busy, nr_busy);
		if (!err)
			continue;
		while (i-- > 0)
			pr_child_free(&child[i]);
		return err;
	}
	for (unsigned int i = 0; i < owners && cell->stopped; i++)
		pr_owner_stop(&child[i]);
	return 0;
}

/* 0, or -errno of a process that could not do its part */
static int run_cell(const struct cell *cell, unsigned int round)
{
	struct pr_child child[PR_OWNERS_MAX];
	uint64_t kills, before = settle(available);
	struct hb_pressure r;
	double short_of;
	int err;

	memset(&r, 0, sizeof(r));
	r.backend = cell->be->name;
	r.stopped = cell->stopped;
	r.drain = cell->drain;
	r.run = round;
	r.ms_to_get = NAN;
	/* drain: what there was before the owners came is more than can be had */
	r.need = cell->drain ? available : need;
	kills = oom_kills();
	err = start_owners(child, cell);
	if (err)
		return err;
	err = be_needy(&r);
	r.slots_idle = owners * nr_idle;
	r.slots_busy = owners * nr_busy;
	short_of = (double)r.need + (double)(owners * (nr_idle + nr_busy) *
					     HB_HUGE) - (double)before;
	r.slots_needed = short_of > 0 ? ceil(short_of / (double)HB_HUGE) : 0;
	check_owners(&r, child);
	for (unsigned int i = 0; i < owners; i++)
		pr_child_free(&child[i]);
	r.oom_kills = oom_kills() - kills;
	if (!err)
		*hb_add_pressure(r.backend) = r;
	runs_done++;
	return err;
}

/* ---- all of them ---- */

const char *hb_pressure_backend(size_t i)
{
	return i < pr_nr_backends ? pr_backends[i].name : NULL;
}

/* of a quick run: where each way shows what it can or cannot do */
static bool in_quick(const struct cell *c)
{
	static const char *const need_running[] = {
		"keep", "free-thp", "psi", "droppable", "region",
	};

	if (c->stopped)
		return !strcmp(c->be->name, "region") ||
		       (!strcmp(c->be->name, "decay") && !c->drain);
	for (size_t i = 0; i < sizeof(need_running) / sizeof(char *); i++)
		if (!strcmp(c->be->name, need_running[i]))
			return !c->drain;
	return false;
}

static void add_cells(const struct pr_backend *be, struct cell *cells,
		      size_t *nr)
{
	for (int drain = 0; drain <= !!(be->flags & PR_DRAIN); drain++) {
		for (int stopped = 0; stopped < 2; stopped++) {
			struct cell c = { be, stopped, drain };

			if (!hb_opt.quick || in_quick(&c))
				cells[(*nr)++] = c;
		}
	}
}

static size_t plan(struct cell *cells)
{
	size_t nr = 0;

	for (size_t i = 0; i < pr_nr_backends; i++) {
		const struct pr_backend *be = &pr_backends[i];
		const char *why = backend_refusal(be);

		if (!hb_listed(be->name))
			continue;
		if (why) {
			hb_add_skip("pressure", be->name, HB_HUGE, "%s", why);
			continue;
		}
		add_cells(be, cells, &nr);
	}
	return nr;
}

static int set_sizes(void)
{
	owners = hb_opt.owners ? hb_opt.owners : 2;
	available = settle(0) & ~(HB_HUGE - 1);
	nr_idle = hb_opt.size ? (hb_opt.size + HB_HUGE - 1) / HB_HUGE :
		  available / 100 * IDLE_PERCENT / owners / HB_HUGE;
	nr_busy = (nr_idle + BUSY_PART - 1) / BUSY_PART;
	if (owners > PR_OWNERS_MAX || nr_idle + nr_busy > PR_SLOTS_MAX ||
	    owners * (nr_idle + nr_busy) * HB_HUGE > available / 10 * 9) {
		fprintf(stderr, "hkbench: %u owners of %zu MiB idle and %zu MiB "
			"in use are too much for %llu MiB available\n", owners,
			nr_idle * 2, nr_busy * 2,
			(unsigned long long)available >> 20);
		return 1;
	}
	need = available - owners * (nr_idle + nr_busy) * HB_HUGE +
	       owners * nr_idle * HB_HUGE / 100 * NEED_PERCENT;
	need -= need % HB_HUGE;
	return 0;
}

static int protect_self(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, "-1000", 5) == 5;

	if (fd >= 0)
		close(fd);
	if (!ok)
		perror("hkbench: /proc/self/oom_score_adj");
	return ok ? 0 : 1;
}

int hb_run_pressure(void)
{
	unsigned int rounds = hb_opt.runs ? hb_opt.runs : hb_opt.quick ? 1 : 2;
	struct cell cells[4 * 16];
	const char *why = refusal();
	size_t nr;
	int err;

	if (why) {
		fprintf(stderr, "hkbench: pressure: %s\n", why);
		return 1;
	}
	if (protect_self() || set_sizes())
		return 1;
	nr = plan(cells);
	for (unsigned int round = 0; round < rounds; round++) {
		for (size_t i = 0; i < nr; i++) {
			struct cell *c = &cells[(i + round) % nr];

			if (!c->be || (c->drain && round % DRAIN_EVERY))
				continue;
			hb_progress(c->be->name);
			err = run_cell(c, round);
			if (!err)
				continue;
			hb_add_skip("pressure", c->be->name, HB_HUGE, "%s",
				    err == -EOPNOTSUPP ? "not in this kernel" :
							 strerror(-err));
			c->be = NULL;
		}
	}
	return 0;
}
