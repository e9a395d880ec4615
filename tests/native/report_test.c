// SPDX-License-Identifier: GPL-2.0
/*
 * The heap's counters as text: that a file is told what a program is, each number in
 * its line, and that HAKMEM_STATS and HAKMEM_STATS_FILE have the same at exit.
 */
#include "heap_test.h"
#include "report.h"

typedef unsigned long long ull;

/* what hkm_dump_heap_stats() writes to a FILE */
static void dump(char *text, size_t room)
{
	FILE *out = tmpfile();
	size_t n;

	hkm_dump_heap_stats(out);
	rewind(out);
	n = fread(text, 1, room - 1, out);
	text[n] = '\0';
	fclose(out);
}

static size_t slot_of(const void *whale)
{
	return ((uintptr_t)whale - hkm_window.base) / SLOT;
}

/* what follows a label at the beginning of a line */
static const char *line(const char *text, const char *label)
{
	char start[32];

	snprintf(start, sizeof(start), "\n%s ", label);
	text = strstr(text, start);
	check(text);
	return text + strlen(start);
}

static ull number(const char *text, const char *label)
{
	ull n;

	check_int(sscanf(line(text, label), "%llu", &n), 1);
	return n;
}

static void check_counts(const char *text, const struct hkm_heap_stats *st)
{
	check_int(number(text, "hits"), st->ring.hits);
	check_int(number(text, "misses"), st->ring.misses);
	check_int(number(text, "evictions"), st->ring.evictions);
	check_int(number(text, "lost"), st->lost);
	check_int(number(text, "threshold"), st->threshold);
}

static void check_sizes(const char *text, const struct hkm_heap_stats *st)
{
	ull nr, bytes, of, grown, shrunk;

	check_int(sscanf(line(text, "live"), "%llu whales, %llu bytes\n", &nr,
			 &bytes), 2);
	check_int(nr, st->live);
	check_int(bytes, st->live_bytes);
	check_int(sscanf(line(text, "idle"), "%llu of %llu runs, %llu bytes\n",
			 &nr, &of, &bytes), 3);
	check_int(nr, st->ring.cached);
	check_int(of, st->ring.slots);
	check_int(bytes, st->idle_bytes);
	check_int(sscanf(line(text, "capacity"),
			 "%llu bytes, grown %llu times, shrunk %llu\n", &bytes,
			 &grown, &shrunk), 3);
	check_int(bytes, st->capacity_bytes);
	check_int(grown, st->capacity_grown);
	check_int(shrunk, st->capacity_shrunk);
}

/* a live slot between any two runs, so that none are joined */
static void apart(int round)
{
	if (!round)
		check(is_whale(hkm_malloc(SLOT)));
}

/* Each counter gets a number of its own, so that none can stand for another. */
static void use_the_heap(void)
{
	char *p[12];

	setenv("HAKMEM_LIMIT", "512M", 1);
	setenv("HAKMEM_CAPACITY", "auto", 1);
	with_device();
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 12; i++) {
			p[i] = hkm_malloc(2 * SLOT);
			apart(round);
		}
		for (int i = 0; i < 11; i++)
			hkm_free(p[i]);
	}
	/* what was freed last is next, but the kernel is taking it just then */
	for (int i = 0; i < 2; i++) {
		p[0] = hkm_malloc(6 * SLOT);
		hkm_free(p[0]);
		check(fake_reclaim_begin(slot_of(p[0])));
		check(is_whale(hkm_malloc(6 * SLOT)));
	}
}

static void check_all_differ(const uint64_t *n, int nr)
{
	for (int i = 0; i < nr; i++)
		for (int j = 0; j < i; j++)
			check(n[i] != n[j]);
}

static void a_file_is_told_what_the_program_is(void)
{
	char text[HKM_REPORT_ROOM], backend[16];
	struct hkm_heap_stats st;

	use_the_heap();
	dump(text, sizeof(text));
	hkm_stats(&st);
	check_all_differ((const uint64_t []){
		st.live, st.live_bytes, st.ring.cached, st.ring.slots,
		st.idle_bytes, st.ring.hits, st.ring.misses, st.ring.evictions,
		st.lost, st.capacity_bytes, st.capacity_grown,
		st.capacity_shrunk, st.threshold, 0,
	}, 14);
	check(!strncmp(text, "libhakmem heap\n", 15));
	check_int(sscanf(line(text, "backend"), "%15s", backend), 1);
	check(!strcmp(backend, "region"));
	check(!strcmp(backend, st.backend));
	check_counts(text, &st);
	check_sizes(text, &st);
	check(strstr(line(text, "threshold"), " bytes, fixed, 0 games\n"));
	check_int(count_lines(text), 11);
}

/* where the threshold is being found out there is a line more */
static void ratings_are_told_while_there_are_any(void)
{
	char text[HKM_REPORT_ROOM];
	struct hkm_heap_stats st;
	const char *at;
	size_t kib;
	int n, len;

	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "auto", 1);
	for (int i = 0; i < 500; i++)
		hkm_free(hkm_malloc(SLOT));
	dump(text, sizeof(text));
	hkm_stats(&st);
	check(st.threshold_is_rated && st.threshold_games);
	check_int(sscanf(line(text, "threshold"),
			 "%*u bytes, being rated, %d games\n", &n), 1);
	check_int(n, st.threshold_games);
	at = line(text, "ratings");
	for (int i = 0; i < HKM_THRESHOLDS; i++) {
		check_int(sscanf(at, " %zuK %d%n", &kib, &n, &len), 2);
		check_int(kib, 512 << i);
		check_int(n, st.threshold_ratings[i]);
		at += len + 1;
	}
	check_int(count_lines(text), 12);
}

/* ---- at exit ----------------------------------------------------------------- */

static void use_and_say(void)
{
	use_the_heap();
	hkm_dump_heap_stats(NULL);	/* to stderr, as at exit */
}

static void use_small_blocks(void)
{
	no_device();
	hkm_free(hkm_malloc(100));
}

static void are_printed_at_exit(void)
{
	char text[4096];
	size_t half;

	setenv("HAKMEM_STATS", "1", 1);
	check(exited_well(run_child(use_and_say, text, sizeof(text))));
	half = strlen(text) / 2;
	check_int(count_lines(text), 2 * 11);
	check(!strncmp(text, "libhakmem heap\n", 15));
	check(!memcmp(text, text + half, half));
}

static void are_not_printed_unasked(void)
{
	char text[4096];

	check(exited_well(run_child(use_the_heap, text, sizeof(text))));
	check(!*text);
	setenv("HAKMEM_STATS", "0", 1);
	check(exited_well(run_child(use_the_heap, text, sizeof(text))));
	check(!*text);
}

/* a file that is gone with this process, for HAKMEM_STATS_FILE */
static int stats_file(void)
{
	int fd = memfd_create("stats", 0);
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	setenv("HAKMEM_STATS_FILE", path, 1);
	return fd;
}

/* a script would have a block of zeros of each command in it */
static void are_not_printed_where_there_was_no_whale(void)
{
	char text[4096] = "of the command before";
	int fd = stats_file();

	check_int(pwrite(fd, text, 21, 0), 21);
	setenv("HAKMEM_STATS", "1", 1);
	check(exited_well(run_child(use_small_blocks, text, sizeof(text))));
	check(!*text);
	check_int(pread(fd, text, sizeof(text) - 1, 0), 21);
}

static void use_and_say_json(void)
{
	char text[HKM_REPORT_ROOM];

	use_the_heap();
	hkm_report_json(text, sizeof(text));
	fputs(text, stderr);
}

static void are_written_to_a_file_at_exit(void)
{
	char text[4096], written[4096] = "";
	int fd = stats_file();

	check(exited_well(run_child(use_and_say_json, text, sizeof(text))));
	check(pread(fd, written, sizeof(written) - 1, 0) > 0);
	check(strstr(text, "{\"backend\": \"region\", \"live\": "));
	check(!strcmp(text, written));
}

static void a_file_that_cannot_be_written_is_told(void)
{
	char text[4096];

	setenv("HAKMEM_STATS_FILE", "/nowhere/stats", 1);
	check(exited_well(run_child(use_the_heap, text, sizeof(text))));
	check(!strcmp(text, "libhakmem: HAKMEM_STATS_FILE=/nowhere/stats: No such file or directory\n"));
}

static const struct tap_case cases[] = {
	CASE(a_file_is_told_what_the_program_is),
	CASE(ratings_are_told_while_there_are_any),
	CASE(are_printed_at_exit),
	CASE(are_not_printed_unasked),
	CASE(are_not_printed_where_there_was_no_whale),
	CASE(are_written_to_a_file_at_exit),
	CASE(a_file_that_cannot_be_written_is_told),
};

TAP_MAIN(cases)
