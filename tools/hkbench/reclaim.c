// SPDX-License-Identifier: MIT
/*
 * The scenario `reclaim`: what does a reuse cost while the kernel takes memory back?
 *
 * A process beside the lanes frees slots of its own and has the device's trigger
 * take some, again and again: count and scan as the shrinker runs them, but
 * nothing is scarce, so that what is measured is reclaim and not the want of
 * memory. Every lane has the same beside it, `floor` too. A lane's own slot is
 * idle between two operations, and younger than those: where it is taken all the
 * same, that is a miss, and the next operation's HANDOUT is in its time.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "hkbench.h"

#define SCENARIO	"reclaim"
#define TRIGGER		"/sys/kernel/debug/hakmem_region/shrink"
#define ASK		"2"	/* slots of one call, in the trigger's words */
#define RESERVE_MB	"/sys/module/hakmem_region/parameters/reserve_mb"
#define TAKER_SLOTS	16	/* more than the module reserves */
#define PERIOD_MS	1

/* what the process tells: shared */
struct told {
	int err;		/* negative errno of the first pass */
	uint64_t calls, taken;
};

struct taker {
	pid_t pid;
	int from, to;
	struct told *told;
};

/* how many of the arena's idle slots the kernel has taken since they were freed */
static uint64_t gone(const struct hb_arena *a)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; i < a->nr; i++)
		nr += HKR_WORD_STATE(__atomic_load_n(&a->words[i],
				__ATOMIC_RELAXED)) != HKR_WORD_IDLE;
	return nr;
}

/* all slots in use, all idle, and some are taken; 0 or -errno */
static int pass(struct hb_ctx *c, int trigger, struct told *t)
{
	void *p = hb_words_get(c);

	if (!p)
		return -errno;
	hb_words_put(c, p);
	if (write(trigger, ASK, strlen(ASK)) < 0)
		return -errno;
	t->calls++;
	t->taken += gone(c->priv);
	return 0;
}

/* bytes that the module keeps whoever is in need: reclaim takes what is above */
static size_t reserved(void)
{
	FILE *f = fopen(RESERVE_MB, "re");
	size_t mb = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%zu", &mb) != 1)
		mb = 0;
	fclose(f);
	return mb << 20;
}

/* in the process: until a byte comes from the parent */
static void take(int from, int to, struct told *t)
{
	struct pollfd parent = { .fd = from, .events = POLLIN };
	struct hb_ctx c = { .no_decay = true };
	int trigger = open(TRIGGER, O_WRONLY | O_CLOEXEC);

	c.size = c.len = reserved() + TAKER_SLOTS * HB_HUGE;
	t->err = trigger < 0 ? -errno : hb_words_open(&c);
	if (!t->err)
		t->err = pass(&c, trigger, t);
	if (write(to, "", 1) != 1 || t->err)
		_exit(1);
	while (poll(&parent, 1, PERIOD_MS) == 0)
		if (pass(&c, trigger, t))
			_exit(1);
	_exit(0);
}

/* 0, or -EIO where it ended by itself before */
static int taker_stop(struct taker *t)
{
	int status;

	/* one that has ended does not read it */
	(void)!write(t->to, "", 1);
	waitpid(t->pid, &status, 0);
	close(t->to);
	close(t->from);
	return status ? -EIO : 0;
}

/* 0, or -errno with no process left */
static int taker_start(struct taker *t)
{
	char ready;
	int err;

	t->told = hb_map_shared(sizeof(*t->told));
	t->pid = hb_fork(&t->from, &t->to);
	if (!t->pid)
		take(t->from, t->to, t->told);
	err = read(t->from, &ready, 1) == 1 ? t->told->err : -EPIPE;
	if (err)
		taker_stop(t);
	return err;
}

/* the references, and those that the kernel takes from */
static void run_lanes(size_t size, enum hb_touch touch, double seconds)
{
	struct hb_options all = hb_opt;

	hb_opt.nr_backends = 0;
	for (size_t i = 0; i < all.nr_backends; i++)
		if (all.backends[i]->flags & (HB_ALWAYS | HB_WORDS))
			hb_opt.backends[hb_opt.nr_backends++] = all.backends[i];
	hb_run_loop(SCENARIO, size, touch, seconds);
	hb_opt = all;
}

static void note_taken(size_t from, const struct told *t, double seconds)
{
	for (size_t i = from; i < hb_book.nr_results; i++) {
		struct hb_result *r = &hb_book.results[i];

		if (r->has_ring && !r->note[0])
			snprintf(r->note, sizeof(r->note), "beside it %.0f slots "
				 "a second taken, by %.0f calls of reclaim",
				 (double)t->taken / seconds,
				 (double)t->calls / seconds);
	}
}

void hb_run_reclaim(size_t size, enum hb_touch touch, double seconds)
{
	size_t from = hb_book.nr_results;
	struct taker t;
	uint64_t start;
	int err;

	if (!hb_device_present()) {
		hb_add_skip(SCENARIO, "region", size, "%s", hb_device_why_not());
		return;
	}
	if (access(TRIGGER, W_OK)) {
		hb_add_skip(SCENARIO, "region", size, "cannot write " TRIGGER);
		return;
	}
	err = taker_start(&t);
	if (!err) {
		start = hb_now_ns();
		run_lanes(size, touch, seconds);
		err = taker_stop(&t);
		note_taken(from, t.told, (double)(hb_now_ns() - start) / 1e9);
	}
	if (err) {
		/* without reclaim all the while it is another scenario */
		hb_book.nr_results = from;
		hb_add_skip(SCENARIO, "region", size, "given up: %s",
			    strerror(-err));
	}
	munmap(t.told, sizeof(*t.told));
}
