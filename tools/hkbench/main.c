// SPDX-License-Identifier: MIT
/* Options, and which scenarios run with how much time. */

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hkbench.h"
#include "peers.h"

struct hb_options hb_opt = { .touch = -1 };

static const char *json_path, *csv_path, *report_path;
static bool compare;
static char **files;
static int nr_files;

#define PEER_PATHS_MAX	16

static const char *peer_paths[PEER_PATHS_MAX];	/* NAME=PATH */
static unsigned int nr_peer_paths;

/* ---- what runs ---- */

enum step_kind {
	STEP_LOOP, STEP_COLD_PHASE, STEP_SWEEP, STEP_COLD, STEP_RING, STEP_BATCH,
	STEP_ZEROING, STEP_RECLAIM, STEP_PRESSURE, STEP_IDLE, STEP_SCATTERED,
	STEP_PEERS, STEP_FORK,
};

struct step {
	enum step_kind kind;
	const char *scenario;
	enum hb_touch touch;
	double seconds, quick_seconds;	/* 0: left out of a quick run */
};

/*
 * The suite, under emulation on two processors: about two minutes, or half a
 * one when quick. Times of cold phases are only for the progress bar.
 */
static const struct step suite[] = {
	{ STEP_COLD_PHASE, "vm", HB_TOUCH_PAGE, 14, 4 },
	{ STEP_LOOP, "vm", HB_TOUCH_PAGE, 16, 5 },
	{ STEP_LOOP, "vm", HB_TOUCH_FULL, 14, 4 },
	{ STEP_LOOP, "vm", HB_TOUCH_NONE, 2, 0 },
	{ STEP_COLD_PHASE, "json", HB_TOUCH_PAGE, 4, 0 },
	{ STEP_LOOP, "json", HB_TOUCH_PAGE, 3, 1 },
	{ STEP_COLD_PHASE, "mir", HB_TOUCH_PAGE, 4, 0 },
	{ STEP_LOOP, "mir", HB_TOUCH_PAGE, 3, 1 },
	{ STEP_RING, "ring", HB_TOUCH_NONE, 3, 2 },
	{ STEP_COLD, "cold", HB_TOUCH_PAGE, 25, 12 },
	{ STEP_ZEROING, "zeroing", HB_TOUCH_NONE, 24, 8 },
	{ STEP_RECLAIM, "reclaim", HB_TOUCH_PAGE, 8, 4 },
	{ STEP_SWEEP, "sweep", HB_TOUCH_FULL, 20, 12 },
	{ STEP_SWEEP, "sweep", HB_TOUCH_PAGE, 32, 0 },
};

static const struct scenario {
	const char *name;
	size_t size;
	enum step_kind kind;
	/* the names of its backends, where they are not those of the table */
	const char *(*backend)(size_t i);
} scenarios[] = {
	{ "json", 64UL << 10, STEP_LOOP, NULL },
	{ "mir", 256UL << 10, STEP_LOOP, NULL },
	{ "vm", 2UL << 20, STEP_LOOP, NULL },
	{ "sweep", 0, STEP_SWEEP, NULL },
	{ "cold", 2UL << 20, STEP_COLD, NULL },
	{ "ring", 0, STEP_RING, NULL },
	{ "zeroing", 2UL << 20, STEP_ZEROING, NULL },
	{ "reclaim", 2UL << 20, STEP_RECLAIM, NULL },
	{ "batch", 0, STEP_BATCH, NULL },
	{ "pressure", 0, STEP_PRESSURE, hb_pressure_backend },
	{ "idle", 0, STEP_IDLE, hb_idle_backend },
	{ "scattered", 0, STEP_SCATTERED, hb_scattered_backend },
	{ "fork", 0, STEP_FORK, hb_fork_backend },
	{ "peers", 0, STEP_PEERS, hb_peer_name },
};

#define NR_SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static const struct scenario *scenario = &scenarios[2];

static size_t scenario_size(const char *name)
{
	if (hb_opt.size)
		return hb_opt.size;
	for (size_t i = 0; i < NR_SCENARIOS; i++)
		if (!strcmp(scenarios[i].name, name))
			return scenarios[i].size;
	return 0;
}

/* what a step leaves to be zeroed is no cost of the next one */
#define SETTLE_MS	10000

static int run_step(const struct step *s)
{
	double seconds = hb_opt.quick ? s->quick_seconds : s->seconds;
	enum hb_touch touch = hb_opt.touch >= 0 ? (enum hb_touch)hb_opt.touch :
						  s->touch;
	size_t size = scenario_size(s->scenario);

	hb_progress_step(seconds);
	switch (s->kind) {
	case STEP_LOOP:
		hb_run_loop(s->scenario, size, touch, seconds);
		hb_device_wait_clean(SETTLE_MS);
		return 0;
	case STEP_COLD_PHASE:
		return hb_run_cold_phase(s->scenario, size, touch);
	case STEP_SWEEP:
		return hb_run_sweep(touch, seconds);
	case STEP_COLD:
		return hb_run_cold(size, touch, 30);
	case STEP_RING:
		return hb_run_ring();
	case STEP_ZEROING:
		return hb_run_zeroing(size, seconds);
	case STEP_RECLAIM:
		hb_run_reclaim(size, touch, seconds);
		hb_device_wait_clean(SETTLE_MS);
		return 0;
	case STEP_BATCH:
		return hb_run_batch(seconds);
	case STEP_PRESSURE:
		return hb_run_pressure();
	case STEP_IDLE:
		return hb_run_idle();
	case STEP_SCATTERED:
		return hb_run_scattered(seconds);
	case STEP_PEERS:
		return hb_run_peers(seconds);
	case STEP_FORK:
		return hb_run_fork(seconds);
	}
	return 1;
}

static int run_suite(void)
{
	size_t nr = sizeof(suite) / sizeof(suite[0]);
	double total = 0;
	int err = 0;

	for (size_t i = 0; i < nr; i++)
		total += hb_opt.quick ? suite[i].quick_seconds :
					suite[i].seconds;
	hb_progress_begin(total);
	for (size_t i = 0; i < nr && !err; i++)
		if (!hb_opt.quick || suite[i].quick_seconds > 0)
			err = run_step(&suite[i]);
	return err;
}

static int run_scenario(void)
{
	const struct step steps[] = {
		{ STEP_COLD_PHASE, scenario->name, HB_TOUCH_PAGE, 10, 5 },
		{ STEP_LOOP, scenario->name, HB_TOUCH_PAGE, 15, 5 },
		{ STEP_SWEEP, scenario->name, HB_TOUCH_PAGE, 600, 30 },
		{ STEP_COLD, scenario->name, HB_TOUCH_PAGE, 25, 15 },
		{ STEP_RING, scenario->name, HB_TOUCH_NONE, 3, 3 },
		{ STEP_ZEROING, scenario->name, HB_TOUCH_NONE, 60, 10 },
		{ STEP_RECLAIM, scenario->name, HB_TOUCH_PAGE, 15, 5 },
		{ STEP_BATCH, scenario->name, HB_TOUCH_NONE, 60, 10 },
		{ STEP_PRESSURE, scenario->name, HB_TOUCH_PAGE, 300, 100 },
		{ STEP_IDLE, scenario->name, HB_TOUCH_PAGE, 60, 30 },
		{ STEP_SCATTERED, scenario->name, HB_TOUCH_PAGE, 120, 20 },
		{ STEP_PEERS, scenario->name, HB_TOUCH_PAGE, 300, 30 },
		{ STEP_FORK, scenario->name, HB_TOUCH_PAGE, 30, 10 },
	};
	double total = 0;
	int err = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
			enum step_kind kind = steps[i].kind;

			if (kind == STEP_COLD_PHASE)
				kind = STEP_LOOP;
			if (kind != scenario->kind)
				continue;
			if (!pass)
				total += hb_opt.quick ? steps[i].quick_seconds :
							steps[i].seconds;
			else if (!err)
				err = run_step(&steps[i]);
		}
		if (!pass)
			hb_progress_begin(total);
	}
	return err;
}

/* ---- options ---- */

static void add_backend(const struct hb_backend *be)
{
	for (size_t i = 0; i < hb_opt.nr_backends; i++)
		if (hb_opt.backends[i] == be)
			return;
	hb_opt.backends[hb_opt.nr_backends++] = be;
}

static const char *table_backend(size_t i)
{
	return i < hb_nr_backends ? hb_backends[i].name : NULL;
}

static void check_backends(const char *list, const char *(*name)(size_t i),
			   struct argp_state *state)
{
	char known[256] = "";
	size_t i, len;

	for (i = 0; name(i); i++) {
		strcat(known, i ? ", " : "");
		strcat(known, name(i));
	}
	for (const char *p = list; p && *p; p += strspn(p, ",")) {
		len = strcspn(p, ",");
		for (i = 0; name(i); i++)
			if (strlen(name(i)) == len && !memcmp(p, name(i), len))
				break;
		if (!name(i))
			argp_failure(state, 2, 0,
				     "unknown backend '%.*s'; there are %s",
				     (int)len, p, known);
		p += len;
	}
}

/* the list in the table's order, and always the references of every ratio */
static void choose_backends(struct argp_state *state)
{
	bool own = !hb_opt.suite && scenario->backend;

	check_backends(hb_opt.backend_list,
		       own ? scenario->backend : table_backend, state);
	for (size_t i = 0; i < hb_nr_backends; i++)
		if (hb_listed(hb_backends[i].name) ||
		    hb_backends[i].flags & HB_ALWAYS)
			add_backend(&hb_backends[i]);
}

static size_t parse_size(const char *arg, struct argp_state *state)
{
	char *end;
	unsigned long long v;
	unsigned int shift = 0;

	errno = 0;
	v = strtoull(arg, &end, 10);
	switch (*end) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	}
	if (shift)
		end++;
	if (shift && !strcmp(end, "iB"))
		end += 2;
	if (errno || end == arg || *end || arg[0] == '-' || v == 0 ||
	    v > (64ULL << 30) >> shift)
		argp_failure(state, 2, 0,
			     "bad size '%s'; give 1 to 64G, such as 64K or 2M",
			     arg);
	v <<= shift;
	return v;
}

enum {
	OPT_JSON = 256, OPT_CSV, OPT_SUITE, OPT_REPORT, OPT_COMPARE, OPT_RUNS,
	OPT_OWNERS, OPT_MEAN_IT, OPT_PRELOAD, OPT_PEER,
};

static void parse_scenario(const char *arg, struct argp_state *state)
{
	for (size_t i = 0; i < NR_SCENARIOS; i++)
		if (!strcmp(scenarios[i].name, arg)) {
			scenario = &scenarios[i];
			return;
		}
	argp_failure(state, 2, 0, "unknown scenario '%s'; there are json, mir, "
		     "vm, sweep, cold, ring, zeroing, reclaim, batch, "
		     "pressure, idle, scattered, fork, peers", arg);
}

static void add_peer(const char *arg, struct argp_state *state)
{
	const char *eq = strchr(arg, '=');
	const char *name;

	for (size_t i = 0; eq && (name = hb_peer_name(i)); i++)
		if (strlen(name) == (size_t)(eq - arg) &&
		    !strncmp(name, arg, (size_t)(eq - arg)) &&
		    nr_peer_paths < PEER_PATHS_MAX) {
			peer_paths[nr_peer_paths++] = arg;
			return;
		}
	argp_failure(state, 2, 0, "bad allocator '%s'; give NAME=PATH, such as "
		     "jemalloc=/opt/lib/libjemalloc.so", arg);
}

const char *hb_opt_peer_path(const char *name)
{
	size_t n = strlen(name);

	for (unsigned int i = 0; i < nr_peer_paths; i++)
		if (!strncmp(peer_paths[i], name, n) && peer_paths[i][n] == '=')
			return peer_paths[i] + n + 1;
	return NULL;
}

static void parse_touch(const char *arg, struct argp_state *state)
{
	for (int t = 0; t < HB_TOUCH_NR; t++)
		if (!strcmp(hb_touch_str((enum hb_touch)t), arg)) {
			hb_opt.touch = t;
			return;
		}
	argp_failure(state, 2, 0, "unknown touch '%s'; there are none, page, "
		     "full, read", arg);
}

static uint64_t parse_number(const char *arg, const char *what, uint64_t most,
			     struct argp_state *state)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(arg, &end, 10);
	if (errno || *end || end == arg || arg[0] == '-' || !n || n > most)
		argp_failure(state, 2, 0, "bad number of %s '%s'; give 1 to "
			     "%llu", what, arg, (unsigned long long)most);
	return n;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 's':
		parse_scenario(arg, state);
		break;
	case 'b':
		hb_opt.backend_list = arg;
		break;
	case 'S':
		hb_opt.size = parse_size(arg, state);
		break;
	case 't':
		parse_touch(arg, state);
		break;
	case 'n':
		hb_opt.iterations = parse_number(arg, "iterations", 1ULL << 40,
						 state);
		break;
	case OPT_RUNS:
		hb_opt.runs = (unsigned int)parse_number(arg, "runs", 10000,
							 state);
		break;
	case OPT_OWNERS:
		hb_opt.owners = (unsigned int)parse_number(arg, "owners", 16,
							   state);
		break;
	case OPT_PRELOAD:
		hb_opt.preload = arg;
		break;
	case OPT_PEER:
		add_peer(arg, state);
		break;
	case OPT_MEAN_IT:
		hb_opt.mean_it = true;
		break;
	case 'q':
		hb_opt.quick = true;
		break;
	case OPT_JSON:
		json_path = arg;
		break;
	case OPT_CSV:
		csv_path = arg;
		break;
	case OPT_SUITE:
		hb_opt.suite = true;
		break;
	case OPT_REPORT:
		report_path = arg;
		break;
	case OPT_COMPARE:
		compare = true;
		break;
	case ARGP_KEY_ARGS:
		if (!compare)
			argp_failure(state, 2, 0, "'%s' is not an option; see "
				     "--help", state->argv[state->next]);
		files = state->argv + state->next;
		nr_files = state->argc - state->next;
		break;
	case ARGP_KEY_END:
		if (compare && !nr_files)
			argp_failure(state, 2, 0, "--compare needs files that "
				     "--json wrote");
		choose_backends(state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option options[] = {
	{ "scenario", 's', "NAME", 0,
	  "json (64 KiB), mir (256 KiB), vm (2 MiB, the default), sweep (2 MiB "
	  "to 1 GiB), cold (fresh processes), ring (the ring by itself), "
	  "zeroing (the device's thread on and off), reclaim (reuse while the kernel "
	  "takes memory back), batch (many blocks at once), pressure (a process needs idle memory), idle (what is held after "
	  "everything is freed), scattered (waits where free memory is not in one "
	  "piece), fork (and the first touches after it), peers (allocators side by "
	  "side)", 0 },
	{ "backend", 'b', "LIST", 0,
	  "only these, separated by commas; floor, free-thp and decay are "
	  "always there, where the scenario has no backends of its own", 0 },
	{ "size", 'S', "SIZE", 0, "instead of the scenario's own: 64K, 2M, 1G",
	  0 },
	{ "touch", 't', "HOW", 0, "none, page (default: a byte in each 4 KiB), "
	  "full (memset), read", 0 },
	{ "iterations", 'n', "N", 0,
	  "steady state: N operations of each backend instead of a fixed time",
	  0 },
	{ "runs", OPT_RUNS, "N", 0, "pressure, idle, scattered: N rounds over all "
	  "backends", 0 },
	{ "owners", OPT_OWNERS, "N", 0, "pressure: N processes with idle memory "
	  "(2), of --size each", 0 },
	{ "preload", OPT_PRELOAD, "LIB", 0, "peers: our library, where it is not "
	  "beside this program or in ../lib", 0 },
	{ "peer", OPT_PEER, "NAME=PATH", 0, "peers: the library of an allocator, "
	  "where it is not Debian's", 0 },
	{ "i-mean-it", OPT_MEAN_IT, NULL, 0, "pressure: also on a machine that "
	  "is not a guest without a disk", 0 },
	{ "json", OPT_JSON, "FILE", 0, "write results as JSON", 1 },
	{ "csv", OPT_CSV, "FILE", 0, "write results as CSV", 1 },
	{ "report", OPT_REPORT, "FILE", 0, "write tables to FILE, not to "
	  "standard output", 1 },
	{ "suite", OPT_SUITE, NULL, 0, "every scenario, as make bench does", 2 },
	{ "quick", 'q', NULL, 0, "a short version (also QUICK=1)", 2 },
	{ "compare", OPT_COMPARE, NULL, 0,
	  "run nothing: print one table of the goals in the JSON FILEs", 2 },
	{ 0 }
};

static const struct argp parser = {
	options, parse_opt, "[--compare FILE...]",
	"hkbench -- what it costs to get, touch and free a big block of memory"
	"\vTimes are only comparable inside one table: see hkbench(1).",
	NULL, NULL, NULL
};

/* ---- ---- */

static void on_signal(int sig)
{
	hb_hugetlb_restore();
	hb_zeroing_restore();
	_exit(128 + sig);
}

/* before minutes are spent on results that cannot be written */
static int check_writable(const char *path)
{
	FILE *f;

	if (!path)
		return 0;
	f = fopen(path, "ae");
	if (!f) {
		fprintf(stderr, "hkbench: cannot write %s: %s\n", path,
			strerror(errno));
		return 1;
	}
	return fclose(f) ? 1 : 0;
}

static int write_report(void)
{
	FILE *out = report_path ? fopen(report_path, "we") : stdout;

	if (!out) {
		fprintf(stderr, "hkbench: cannot write %s: %s\n", report_path,
			strerror(errno));
		return 1;
	}
	hb_report(out, &hb_book);
	return (out == stdout ? fflush(out) : fclose(out)) ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *quick = getenv("QUICK");
	int err;

	/* the fresh processes of two scenarios: no option is parsed first */
	if (argc == 7 && !strcmp(argv[1], "--peer-child"))
		return hb_peer_child(strtoul(argv[2], NULL, 10), atoi(argv[3]),
				     atoi(argv[4]), atoi(argv[5]),
				     atoi(argv[6]));
	if (argc == 6 && !strcmp(argv[1], "--cold-child")) {
		hb_ns_per_cycle = strtod(argv[5], NULL);
		return hb_cold_child(argv[2], strtoul(argv[3], NULL, 10),
				     (enum hb_touch)atoi(argv[4]));
	}
	hb_opt.quick = quick && !strcmp(quick, "1");
	argp_parse(&parser, argc, argv, 0, NULL, NULL);
	if (compare)
		return hb_compare_goals(stdout, files, nr_files);
	if (check_writable(json_path) || check_writable(csv_path) ||
	    check_writable(report_path))
		return 1;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	hb_clock_init();
	hb_machine_read(&hb_book.machine);
	hb_device_init();
	err = hb_opt.suite ? run_suite() : run_scenario();
	hb_hugetlb_restore();
	hb_progress_end();
	if (err)
		return err;
	hb_judge(&hb_book);
	if (json_path && hb_write_json(json_path, &hb_book))
		return 1;
	if (csv_path && hb_write_csv(csv_path, &hb_book))
		return 1;
	return write_report();
}
