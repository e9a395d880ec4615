// SPDX-License-Identifier: MIT
/*
 * The heap's counters for people and for programs: on demand, and at exit where
 * HAKMEM_STATS=1 or HAKMEM_STATS_FILE asks for that. At exit stdio may be closed
 * and malloc() in use, so the text is made on the stack and written in one call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hakmem.h>

#include "env.h"
#include "report.h"
#include "sys.h"
#include "threshold.h"

typedef unsigned long long ull;

static size_t bounded(int len, size_t room)
{
	if (len < 0)
		return 0;
	return (size_t)len < room ? (size_t)len : room - 1;
}

/* Behind what is there: the ratings, if there are any. */
static size_t add_ratings(char *text, size_t len, size_t room,
			  const struct hkm_heap_stats *st)
{
	if (!st->threshold_games)
		return len;
	len += bounded(snprintf(text + len, room - len, "ratings    "),
		       room - len);
	for (int i = 0; i < HKM_THRESHOLDS; i++)
		len += bounded(snprintf(text + len, room - len, "%6zuK %d%s",
					HKM_THRESHOLD_CANDIDATE(i) >> 10,
					st->threshold_ratings[i],
					i < HKM_THRESHOLDS - 1 ? "," : "\n"),
			       room - len);
	return len;
}

static const char *threshold_is(const struct hkm_heap_stats *st)
{
	if (st->threshold_is_rated)
		return "being rated";
	return st->threshold_games ? "rated" : "fixed";
}

size_t hkm_report_text(char *text, size_t room)
{
	struct hkm_heap_stats st;
	uint64_t allocs;
	size_t len;

	hkm_stats(&st);
	allocs = st.ring.hits + st.ring.misses;
	len = bounded(snprintf(text, room,
		"libhakmem heap\n"
		"backend    %12s\n"
		"live       %12llu whales, %llu bytes\n"
		"idle       %12zu of %zu runs, %llu bytes\n"
		"hits       %12llu\n"
		"misses     %12llu\n"
		"hit rate   %11.1f%%\n"
		"evictions  %12llu\n"
		"lost       %12llu\n"
		"capacity   %12llu bytes, grown %llu times, shrunk %llu\n"
		"threshold  %12llu bytes, %s, %llu games\n",
		st.backend, (ull)st.live, (ull)st.live_bytes, st.ring.cached,
		st.ring.slots, (ull)st.idle_bytes, (ull)st.ring.hits,
		(ull)st.ring.misses,
		allocs ? 100.0 * (double)st.ring.hits / (double)allocs : 0.0,
		(ull)st.ring.evictions, (ull)st.lost, (ull)st.capacity_bytes,
		(ull)st.capacity_grown, (ull)st.capacity_shrunk,
		(ull)st.threshold, threshold_is(&st),
		(ull)st.threshold_games), room);
	return add_ratings(text, len, room, &st);
}

size_t hkm_report_json(char *text, size_t room)
{
	struct hkm_heap_stats st;
	const int *r = st.threshold_ratings;

	hkm_stats(&st);
	return bounded(snprintf(text, room,
		"{\"backend\": \"%s\", \"live\": %llu, \"live_bytes\": %llu, "
		"\"idle\": %zu, \"idle_bytes\": %llu, \"slots\": %zu, "
		"\"hits\": %llu, \"misses\": %llu, \"puts\": %llu, "
		"\"evictions\": %llu, \"lost\": %llu, "
		"\"capacity_bytes\": %llu, \"capacity_grown\": %llu, "
		"\"capacity_shrunk\": %llu, \"threshold\": %llu, "
		"\"threshold_is\": \"%s\", \"threshold_games\": %llu, "
		"\"threshold_ratings\": [%d, %d, %d, %d, %d, %d, %d]}\n",
		st.backend, (ull)st.live, (ull)st.live_bytes, st.ring.cached,
		(ull)st.idle_bytes, st.ring.slots, (ull)st.ring.hits,
		(ull)st.ring.misses, (ull)st.ring.puts,
		(ull)st.ring.evictions, (ull)st.lost, (ull)st.capacity_bytes,
		(ull)st.capacity_grown, (ull)st.capacity_shrunk,
		(ull)st.threshold, threshold_is(&st), (ull)st.threshold_games,
		r[0], r[1], r[2], r[3], r[4], r[5], r[6]), room);
}

static bool was_used(void)
{
	struct hkm_heap_stats st;

	hkm_stats(&st);
	return st.ring.hits + st.ring.misses + st.threshold_games;
}

/*
 * Nothing for a process that never had a whale: a script would print a block of
 * zeros for each command in it, and the last one would overwrite the file.
 */
__attribute__((destructor)) static void report_at_exit(void)
{
	const char *path = secure_getenv("HAKMEM_STATS_FILE");
	char text[HKM_REPORT_ROOM];
	int err;

	if (!was_used())
		return;
	if (hkm_env_flag(HAKMEM_STATS))
		hkm_sys_write_stderr(text, hkm_report_text(text, sizeof(text)));
	if (!path)
		return;
	err = hkm_sys_write_file(path, text, hkm_report_json(text, sizeof(text)));
	if (err)
		hkm_message("HAKMEM_STATS_FILE=%.128s: %s", path,
			    strerrordesc_np(-err));
}
