// SPDX-License-Identifier: MIT
/*
 * The processes of the scenario `pressure`: owners, which hold slots in use and
 * idle ones, and the needy one.
 *
 * Contents are checked in full: each cache line of a slot starts with a number
 * that no other line, slot, owner or run has. So a page is intact, or all zero,
 * or foreign, and what is foreign is never excused: an idle slot that is neither
 * as it was nor recognised by its owner as taken is counted as corrupted.
 *
 * The parent keeps its hands off the OOM killer's choice but for itself: owners
 * and needy process run with an oom_score_adj of 0, so that the kernel takes the
 * largest, as it would anywhere. Only where a run shall end by a kill (drain) is
 * the needy process the first to die.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pressure.h"

#define LINE		64UL
#define ANSWER_MS	120000
#define PAGES		(HB_HUGE / HB_PAGE)
/* a write of the reuse goes here: between two numbers */
#define TOUCH_AT	8

/* ---- contents ---- */

/* one to one, since the multiplier is odd; so never zero, as @owner is not */
static uint64_t number(unsigned int owner, size_t slot, size_t line)
{
	return ((uint64_t)owner << 32 | (uint64_t)slot << 16 | line) *
	       0x9e3779b97f4a7c15ULL;
}

static void fill_slot(struct pr_owner *o, size_t slot)
{
	char *p = o->base + slot * HB_HUGE;

	for (size_t at = 0; at < HB_HUGE; at += LINE)
		*(volatile uint64_t *)(p + at) = number(o->id, slot, at / LINE);
}

struct contents {
	size_t intact, zero, foreign;	/* pages */
};

static struct contents read_slot(const struct pr_owner *o, size_t slot)
{
	const char *p = o->base + slot * HB_HUGE;
	struct contents c = { 0 };

	for (size_t page = 0; page < HB_HUGE; page += HB_PAGE) {
		bool intact = true, zero = true;

		for (size_t at = page; at < page + HB_PAGE; at += LINE) {
			uint64_t v = *(const volatile uint64_t *)(p + at);

			intact &= v == number(o->id, slot, at / LINE);
			zero &= !v;
		}
		c.intact += intact;
		c.zero += zero;
		c.foreign += !intact && !zero;
	}
	return c;
}

/* ---- an owner ---- */

/* reuse, page by page, as a program would; then, not timed, what is there */
static void reuse_slot(const struct pr_backend *be, struct pr_owner *o,
		       size_t slot, struct pr_owner_shm *shm)
{
	volatile char *p = o->base + slot * HB_HUGE;
	bool corrupted = false;
	struct contents c;
	enum pr_reuse how;
	uint64_t t = hb_tsc();

	how = be->reuse(o, slot);
	for (size_t at = 0; at < HB_HUGE; at += HB_PAGE)
		p[at + TOUCH_AT] = 1;
	shm->slot_cycles[shm->idle] = hb_tsc() - t;
	c = read_slot(o, slot);
	if (how == PR_LOOK && !c.foreign)
		how = c.zero ? PR_LOST : PR_KEPT;
	else if (how == PR_LOOK || (how == PR_KEPT && c.intact != PAGES) ||
		 (how == PR_LOST && c.zero != PAGES))
		corrupted = true;
	if (corrupted)
		shm->corrupted++;
	else if (how == PR_KEPT)
		shm->kept++;
	else
		shm->taken++;
	shm->slot_taken[shm->idle++] = how == PR_LOST;
}

static void check(const struct pr_backend *be, struct pr_owner *o,
		  struct pr_owner_shm *shm)
{
	struct contents c;

	for (size_t i = o->nr_busy; i < o->nr; i++)
		reuse_slot(be, o, i, shm);
	for (size_t i = 0; i < o->nr_busy; i++) {
		c = read_slot(o, i);
		shm->busy++;
		shm->busy_lost += c.zero && !c.foreign;
		shm->busy_corrupted += !!c.foreign;
	}
}

static void owner_process(const struct pr_backend *be, struct pr_owner *o,
			  int in, int out, struct pr_owner_shm *shm)
{
	char cmd;

	o->shm = shm;
	shm->err = be->open(o);
	if (!shm->err) {
		/* from here on for one that gave up its user, too */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < o->nr; i++)
			fill_slot(o, i);
		for (size_t i = o->nr_busy; i < o->nr; i++)
			be->idle(o, i);
	}
	if (write(out, "", 1) != 1 || shm->err)
		_exit(1);
	if (read(in, &cmd, 1) == 1) {
		check(be, o, shm);
		if (write(out, "", 1) != 1)
			_exit(1);
	}
	_exit(0);
}

/* ---- the needy one ---- */

/* ordinary memory, as any program would take it */
static void needy_process(uint64_t bytes, int out, struct pr_needy_shm *shm)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		_exit(1);
	atomic_store(&shm->start_ns, hb_now_ns());
	for (uint64_t at = 0; at < bytes; at += HB_HUGE) {
		hb_touch_block(p + at, HB_HUGE, HB_TOUCH_PAGE);
		atomic_store(&shm->got, at + HB_HUGE);
	}
	atomic_store(&shm->end_ns, hb_now_ns());
	_exit(write(out, "", 1) != 1);
}

/* ---- children, from the parent ---- */

static void set_oom_score(const char *score)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, score, strlen(score)) < 0) {
		perror("hkbench: oom_score_adj");
		_exit(1);
	}
	close(fd);
}

/* in the child: true, with its ends of the pipes in @in and @out */
static bool spawn(struct pr_child *c, size_t shm_size, const char *score,
		  int *in, int *out)
{
	memset(c, 0, sizeof(*c));
	c->shm_size = shm_size;
	c->shm = hb_map_shared(shm_size);
	c->pid = hb_fork(in, out);
	if (!c->pid) {
		set_oom_score(score);
		return true;
	}
	c->to = *out;
	c->from = *in;
	return false;
}

static void reap(struct pr_child *c)
{
	while (waitpid(c->pid, &c->status, 0) < 0 && errno == EINTR)
		;
	close(c->to);
	close(c->from);
	c->pid = 0;
}

/* a kill of ours is not to be taken for the kernel's */
static void end(struct pr_child *c)
{
	if (!c->pid)
		return;
	kill(c->pid, SIGKILL);
	reap(c);
	c->status = 0;
}

/* true: it answered; else it is gone, or hung and was ended */
static bool answer(struct pr_child *c)
{
	struct pollfd pfd = { .fd = c->from, .events = POLLIN };
	int ready;
	char byte;

	do
		ready = poll(&pfd, 1, ANSWER_MS);
	while (ready < 0 && errno == EINTR);
	if (ready == 1 && read(c->from, &byte, 1) == 1)
		return true;
	c->hung = ready != 1;
	if (c->hung)
		end(c);
	else
		reap(c);
	return false;
}

bool pr_child_was_killed(const struct pr_child *c)
{
	return !c->pid && WIFSIGNALED(c->status) &&
	       WTERMSIG(c->status) == SIGKILL;
}

void pr_child_free(struct pr_child *c)
{
	end(c);
	if (c->shm)
		munmap(c->shm, c->shm_size);
	c->shm = NULL;
}

int pr_owner_start(struct pr_child *c, const struct pr_backend *be,
		   unsigned int id, size_t nr, size_t nr_busy)
{
	struct pr_owner o = { .id = id, .nr = nr, .nr_busy = nr_busy };
	int in, out, err;

	if (spawn(c, sizeof(*c->owner), "0", &in, &out))
		owner_process(be, &o, in, out, c->owner);
	err = answer(c) ? c->owner->err : -ECHILD;
	if (err)
		pr_child_free(c);
	return err;
}

bool pr_owner_stop(struct pr_child *c)
{
	siginfo_t info;

	kill(c->pid, SIGSTOP);
	/* it may be killed instead: then it is reaped later */
	return !waitid(P_PID, (id_t)c->pid, &info,
		       WSTOPPED | WEXITED | WNOWAIT) &&
	       info.si_code == CLD_STOPPED;
}

bool pr_owner_check(struct pr_child *c)
{
	atomic_store(&c->owner->over, true);
	kill(c->pid, SIGCONT);
	/* to one that is gone this fails, and so does the reading */
	if (write(c->to, "", 1) != 1 || !answer(c)) {
		if (c->pid)
			reap(c);
		return false;
	}
	reap(c);
	return true;
}

bool pr_needy_run(struct pr_child *c, uint64_t bytes, bool first_to_die)
{
	int in, out;
	bool got;

	if (spawn(c, sizeof(*c->needy), first_to_die ? "1000" : "0", &in, &out))
		needy_process(bytes, out, c->needy);
	got = answer(c);
	if (got)
		reap(c);
	return got;
}
