// SPDX-License-Identifier: GPL-2.0
/*
 * The rest of the malloc family: zeroes, other sizes, alignment, and what it
 * tells about itself.
 */
#include <sys/resource.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "heap_test.h"
#include "window.h"

#define MIB ((size_t)1 << 20)

/* each byte says which page it is in, and whose block */
static void fill(char *p, size_t from, size_t to, int mark)
{
	for (size_t at = from; at < to; at++)
		p[at] = (char)(mark + at / 4096);
}

static bool is_filled(const char *p, size_t size, int mark)
{
	for (size_t at = 0; at < size; at++)
		if (p[at] != (char)(mark + at / 4096))
			return false;
	return true;
}

/* ---- zeroes ------------------------------------------------------------------ */

static void calloc_clears_what_was_used(void)
{
	char *p;

	no_device();
	p = hkm_calloc(3, SLOT);
	check(is_whale(p) && all_bytes(p, 3 * SLOT, 0));
	memset(p, 1, 3 * SLOT);
	hkm_free(p);
	check(hkm_calloc(1, 3 * SLOT - 7) == p);
	check(all_bytes(p, 3 * SLOT - 7, 0));
	check_int(stats().ring.hits, 1);
	/* small ones are libc's */
	p = hkm_calloc(10, 100);
	check(all_bytes(p, 1000, 0));
	hkm_free(p);
}

/* memory that the kernel has just zeroed is not touched, so it is not there */
static void calloc_leaves_zeroes_alone(void)
{
	char *p;

	no_device();
	p = hkm_calloc(1, 4 * SLOT);
	check_int(resident_pages(p, 4 * SLOT), 0);
	memset(p, 1, 4 * SLOT);
	setenv("HAKMEM_POLICY", "dontneed", 1);
	hkm_shutdown();
	check_int(hkm_init(NULL), 0);
	hkm_free(p);
	check(hkm_calloc(1, 4 * SLOT) == p);
	check_int(resident_pages(p, 4 * SLOT), 0);
	check_int(stats().ring.hits, 1);
}

static void calloc_of_the_device(void)
{
	char *p;

	with_device();
	p = hkm_calloc(1, 2 * SLOT);
	memset(p, 1, 2 * SLOT);
	hkm_free(p);
	check(hkm_calloc(1, 2 * SLOT) == p);
	check(all_bytes(p, 2 * SLOT, 0));
	check_int(fake.fresh, 0);
	memset(p, 1, 2 * SLOT);
	hkm_free(p);
	fake_set_clean(2);
	check(hkm_calloc(1, 2 * SLOT) == p);
	check(all_bytes(p, 2 * SLOT, 0));
	check_int(fake.fresh, 1);
	hkm_free(p);
	hkm_shutdown();
	setenv("HAKMEM_CALLOC_EXCHANGE", "8M", 1);
	p = hkm_calloc(1, 2 * SLOT);
	check(all_bytes(p, 2 * SLOT, 0));
	check_int(fake.fresh, 1);
}

/* used, freed, and asked for as zeroes */
static char *calloc_again(size_t size)
{
	char *p = hkm_calloc(1, size);

	memset(p, 1, size);
	hkm_free(p);
	check(hkm_calloc(1, size) == p);
	return p;
}

/* what was exchanged is there again when it is touched */
static void calloc_exchanges_from_a_size_on(void)
{
	char *p, *q;

	no_device();
	setenv("HAKMEM_CALLOC_EXCHANGE", "6M", 1);
	p = calloc_again(3 * SLOT - 1);
	check_int(resident_pages(p, 2 * SLOT), 2 * SLOT / 4096);
	check(all_bytes(p, 3 * SLOT - 1, 0));
	q = calloc_again(3 * SLOT);
	check_int(resident_pages(q, 3 * SLOT), 0);
	check(all_bytes(q, 3 * SLOT, 0));
	/* a call says something else, and then nothing */
	hkm_free(q);
	hkm_shutdown();
	check_int(hkm_init(&(struct hkm_config){ .source = HKM_SOURCE_ANON,
						 .exchange = SLOT }), 0);
	check_int(resident_pages(calloc_again(SLOT), SLOT), 0);
	hkm_shutdown();
	unsetenv("HAKMEM_CALLOC_EXCHANGE");
	check_int(hkm_init(NULL), 0);
	check_int(resident_pages(calloc_again(SLOT), SLOT), SLOT / 4096);
}

/* pages that are locked cannot be exchanged; they must be zero all the same */
static void calloc_clears_what_stays(void)
{
	char *p;

	no_device();
	setenv("HAKMEM_CALLOC_EXCHANGE", "1", 1);
	p = hkm_calloc(1, SLOT);
	if (mlock(p, 4096))
		return;
	p[0] = 1;
	hkm_free(p);
	check(hkm_calloc(1, SLOT) == p);
	check(all_bytes(p, SLOT, 0));
}

static void products_that_overflow_fail(void)
{
	volatile size_t huge = (size_t)1 << 33;
	char *p = hkm_malloc(10);

	errno = 0;
	check(!hkm_calloc(huge, huge));
	check_int(errno, ENOMEM);
	errno = 0;
	check(!hkm_reallocarray(p, huge, huge));
	check_int(errno, ENOMEM);
	errno = 0;
	check(!hkm_calloc(1, (size_t)PTRDIFF_MAX + 1));
	check_int(errno, ENOMEM);
	errno = 0;
	check(!hkm_pvalloc(SIZE_MAX - 5));
	check_int(errno, ENOMEM);
	hkm_free(p);
}

/* ---- realloc -------------------------------------------------------------------- */

static void grow_steps(size_t first)
{
	char *p = hkm_malloc(first), *q;
	size_t size = first;

	fill(p, 0, size, 3);
	while (size < 100 * MIB) {
		size_t more = size + size / 2;

		q = hkm_realloc(p, more);
		check(q);
		p = q;
		check(hkm_malloc_usable_size(p) >= more);
		fill(p, size, more, 3);
		size = more;
	}
	check(is_filled(p, size, 3));
	p = hkm_realloc(p, 5 * MIB);
	check(is_filled(p, 5 * MIB, 3));
	p = hkm_realloc(p, 1000);
	check(is_filled(p, 1000, 3));
	hkm_free(p);
	check_int(stats().live_bytes, 0);
	check_int(stats().live, 0);
}

static void realloc_keeps_contents(void)
{
	no_device();
	grow_steps(300000);
}

static void realloc_keeps_contents_on_the_device(void)
{
	with_device();
	grow_steps(300000);
	check(!strcmp(stats().backend, "region"));
}

static void realloc_grows_in_place_where_it_can(void)
{
	char *p, *q;

	no_device();
	p = hkm_malloc(2 * SLOT);
	check(hkm_realloc(p, 2 * SLOT - 100) == p);
	check(hkm_realloc(p, 5 * SLOT) == p);
	check_int(hkm_malloc_usable_size(p), 5 * SLOT);
	check_int(stats().live_bytes, 5 * SLOT);
	/* an idle neighbour will do as well, and what is left of it stays idle */
	q = hkm_malloc(4 * SLOT);
	check(q == p + 5 * SLOT);
	hkm_free(q);
	check(hkm_realloc(p, 6 * SLOT) == p);
	check_int(stats().idle_bytes, 3 * SLOT);
	check_int(stats().live_bytes, 6 * SLOT);
	memset(p, 1, 6 * SLOT);
}

static void realloc_shrinks_in_place(void)
{
	char *p, *q;

	no_device();
	p = hkm_malloc(8 * SLOT);
	fill(p, 0, 8 * SLOT, 1);
	check(hkm_realloc(p, 3 * SLOT) == p);
	check_int(stats().live_bytes, 3 * SLOT);
	check_int(stats().idle_bytes, 5 * SLOT);
	q = hkm_malloc(5 * SLOT);
	check(q == p + 3 * SLOT);
	memset(q, 9, 5 * SLOT);
	check(is_filled(p, 3 * SLOT, 1));
	hkm_free(p);
	hkm_free(q);
}

/* pages move, so nothing becomes resident that was not */
static void realloc_moves_pages(void)
{
	char *p, *q, *wall;

	no_device();
	setenv("HAKMEM_THP", "off", 1);
	p = hkm_malloc(10 * SLOT);
	wall = hkm_malloc(SLOT);
	memset(p, 1, 4096);
	memset(p + 9 * SLOT, 2, 4096);
	q = hkm_realloc(p, 11 * SLOT);
	check(q != p && q != wall);
	check_int(resident_pages(q, 11 * SLOT), 2);
	check_int(resident_pages(p, 10 * SLOT), 0);
	check(q[4095] == 1 && q[9 * SLOT] == 2);
	/* the addresses it left are free */
	check(hkm_malloc(10 * SLOT) == p);
}

/* the program made several mappings of the block: they move one by one */
static void realloc_moves_a_changed_block(void)
{
	char *p, *q;

	no_device();
	p = hkm_malloc(4 * SLOT);
	hkm_malloc(SLOT);
	fill(p, 0, 4 * SLOT, 5);
	check_int(mprotect(p + SLOT + 4096, 8192, PROT_READ), 0);
	check_int(mprotect(p + 3 * SLOT, SLOT, PROT_READ), 0);
	q = hkm_realloc(p, 6 * SLOT);
	check(q && q != p);
	check(is_filled(q, 4 * SLOT, 5));
	memset(q + 4 * SLOT, 1, 2 * SLOT);
	hkm_free(q);
}

/* what has moved and grown is several mappings, without anybody's doing */
static void grow_again_and_again(const char *thp)
{
	char *p, *q;

	no_device();
	setenv("HAKMEM_THP", thp, 1);
	p = hkm_malloc(2 * SLOT);
	for (size_t nr = 2; nr < 24; nr += nr / 2) {
		/* in the way, and too large for what p has left before */
		hkm_malloc((nr + nr / 2) * SLOT);
		fill(p, 0, nr * SLOT, (int)nr);
		q = hkm_realloc(p, (nr + nr / 2) * SLOT);
		check(q && q != p);
		check(is_filled(q, nr * SLOT, (int)nr));
		p = q;
	}
}

static void realloc_moves_what_has_moved_before(void)
{
	grow_again_and_again("off");
}

static void realloc_moves_huge_pages_that_have_moved_before(void)
{
	grow_again_and_again("on");
}

/* what the kernel refuses to move, early or late, is copied */
static void realloc_loses_nothing_where_a_move_fails(void)
{
	static const uint64_t failing[] = { 1, 2, 4, 6, 8, UINT64_MAX };

	for (size_t i = 0; i < sizeof(failing) / sizeof(*failing); i++) {
		char *p, *q;

		no_device();
		p = hkm_malloc(6 * SLOT);
		hkm_malloc(SLOT);
		fill(p, 0, 6 * SLOT, 5);
		/* one of five pieces, and one slot that is several */
		if (i)
			check_int(mprotect(p + SLOT, SLOT, PROT_READ), 0);
		if (i > 1)
			check_int(mprotect(p + 3 * SLOT + 4096, 8192,
					   PROT_READ), 0);
		fake.mremaps = 0;
		fake.failing_moves = failing[i];
		q = hkm_realloc(p, 9 * SLOT);
		check(q && q != p);
		check(fake.mremaps > (i ? 2 : 0));
		check(is_filled(q, 6 * SLOT, 5));
		fill(q, 6 * SLOT, 9 * SLOT, 6);
		hkm_free(q);
		fake.failing_moves = 0;
		hkm_shutdown();
	}
}

#ifndef SANITIZED
/* a limit that is below what there is already: nothing more can be mapped */
static void realloc_bears_a_limit_that_was_lowered(void)
{
	static const int limits[] = { RLIMIT_AS, RLIMIT_DATA };

	for (int i = 0; i < 2; i++) {
		struct rlimit limit = { SLOT, RLIM_INFINITY };
		char *p, *q;

		no_device();
		p = hkm_malloc(4 * SLOT);
		check(is_whale(hkm_malloc(SLOT)));
		fill(p, 0, 4 * SLOT, 5);
		check_int(setrlimit(limits[i], &limit), 0);
		q = hkm_realloc(p, 32 * SLOT);
		limit.rlim_cur = RLIM_INFINITY;
		check_int(setrlimit(limits[i], &limit), 0);
		check(is_filled(q ? q : p, 4 * SLOT, 5));
		hkm_free(q ? q : p);
		hkm_shutdown();
	}
}
#endif

static void realloc_on_the_device_moves_folios(void)
{
	char *p, *q, *wall;

	with_device();
	p = hkm_malloc(2 * SLOT);
	check(hkm_realloc(p, 3 * SLOT) == p);
	check_int(fake.at_handouts, 1);
	wall = hkm_malloc(SLOT);
	check(wall == p + 3 * SLOT);
	fill(p, 0, 3 * SLOT, 7);
	q = hkm_realloc(p, 5 * SLOT);
	check(q && q != p);
	check_int(fake.moves, 1);
	check(is_filled(q, 3 * SLOT, 7));
	check(!fake_is_taken(0) && !fake_is_taken(2));
	hkm_free(wall);
	hkm_free(q);
	hkm_shutdown();
	for (size_t i = 0; i < 10; i++)
		check(!fake_is_taken(i));
}

static char *got_meanwhile;

static void get_meanwhile(void)
{
	got_meanwhile = hkm_malloc(2 * SLOT);
}

/* another thread, which this one plays, may be quick */
static void what_realloc_moves_away_from_is_the_next_ones(void)
{
	char *p, *q;

	with_device();
	p = hkm_malloc(2 * SLOT);
	check(hkm_malloc(SLOT) == p + 2 * SLOT);
	fill(p, 0, 2 * SLOT, 7);
	fake.after_move = get_meanwhile;
	q = hkm_realloc(p, 4 * SLOT);
	check(q != p && got_meanwhile == p);
	check_int(hkm_malloc_usable_size(p), 2 * SLOT);
	memset(p, 1, 2 * SLOT);
	check(is_filled(q, 2 * SLOT, 7));
	hkm_free(p);
	hkm_free(q);
}

static void a_block_that_cannot_move_stays(void)
{
	char *p;

	with_device();
	p = hkm_malloc(2 * SLOT);
	check(hkm_malloc(SLOT) == p + 2 * SLOT);
	fill(p, 0, 2 * SLOT, 7);
	fake.handout_error = -ENOSPC;
	p = hkm_realloc(p, 4 * SLOT);
	check(is_filled(p, 2 * SLOT, 7));
	hkm_free(p);
	check_int(stats().live, 1);
	check_int(stats().live_bytes, SLOT);
}

static void realloc_ends_and_begins(void)
{
	char *p;

	no_device();
	p = hkm_realloc(NULL, 2 * SLOT);
	check(is_whale(p));
	check(!hkm_realloc(p, 0));
	check_int(stats().live, 0);
	p = hkm_realloc(NULL, 10);
	check(p && !is_whale(p));
	fill(p, 0, 10, 1);
	p = hkm_reallocarray(p, 3, SLOT);
	check(is_whale(p) && is_filled(p, 10, 1));
	errno = 0;
	check(!hkm_realloc(p, PTRDIFF_MAX));
	check_int(errno, ENOMEM);
	check(is_filled(p, 10, 1));
	/* a little below the threshold it stays, further below it goes */
	check(hkm_realloc(p, SLOT - 1) == p);
	p = hkm_realloc(p, SLOT / 2 - 1);
	check(!hkm_window_has(p) && is_filled(p, 10, 1));
	hkm_free(p);
	check_int(stats().live_bytes, 0);
}

/* ---- alignment ------------------------------------------------------------------- */

static void aligned_blocks(void)
{
	static const size_t aligns[] = { 8, 64, 4096, 65536, SLOT, 8 * SLOT };
	void *p, *before;

	no_device();
	for (int i = 0; i < 6; i++) {
		p = hkm_memalign(aligns[i], 3 * SLOT);
		check(p && !((uintptr_t)p % aligns[i]));
		memset(p, 1, 3 * SLOT);
		hkm_free(p);
		p = hkm_aligned_alloc(aligns[i], 100);
		check(p && !((uintptr_t)p % aligns[i]));
		hkm_free(p);
		errno = 4321;
		check_int(hkm_posix_memalign(&p, aligns[i], 3 * SLOT), 0);
		check(!((uintptr_t)p % aligns[i]));
		hkm_free_aligned_sized(p, aligns[i], 3 * SLOT);
		check_int(errno, 4321);
	}
	p = before = &p;
	check_int(hkm_posix_memalign(&p, 24, 3 * SLOT), EINVAL);
	check_int(hkm_posix_memalign(&p, 4, 3 * SLOT), EINVAL);
	check_int(hkm_posix_memalign(&p, 64, PTRDIFF_MAX), ENOMEM);
	check_int(errno, 4321);
	check(p == before);
	p = hkm_valloc(SLOT);
	check(is_whale(p));
	hkm_free_sized(p, SLOT);
	p = hkm_pvalloc(SLOT - 4095);
	check(is_whale(p));
	hkm_free(p);
	p = hkm_pvalloc(1);
	check_int((uintptr_t)p % 4096, 0);
	hkm_free(p);
	check_int(stats().live, 0);
}

static void aligned_alloc_wants_a_power_of_two(void)
{
	static const size_t bad[] = { 0, 3, 24, 4097, SLOT + 1, 3 * SLOT };

	no_device();
	for (int i = 0; i < 12; i++) {
		errno = 0;
		check(!hkm_aligned_alloc(bad[i / 2], i % 2 ? 3 * SLOT : 96));
		check_int(errno, EINVAL);
	}
	check(is_whale(hkm_aligned_alloc(1, 3 * SLOT)));
	check(is_whale(hkm_memalign(24, 3 * SLOT)));
}

/* who asks for pages may want to protect some of them, or to make code there */
static void pages_are_anonymous_unless_told(void)
{
	void *p;

	with_device();
	p = hkm_memalign(64, SLOT);
	check(!strcmp(stats().backend, "region"));
	hkm_free(p);
	p = hkm_memalign(4096, SLOT);
	check(!strcmp(stats().backend, "anon"));
	hkm_free(p);
	check(hkm_memalign(4096, SLOT) == p);
	hkm_shutdown();
	setenv("HAKMEM_ALIGNED", "region", 1);
	p = hkm_memalign(4096, SLOT);
	check(!strcmp(stats().backend, "region"));
}

/* ---- what it tells ----------------------------------------------------------------- */

static void mallinfo_has_the_whales(void)
{
	struct mallinfo2 before, now;
	void *p;

	no_device();
	before = hkm_mallinfo2();
	p = hkm_malloc(4 * SLOT);
	now = hkm_mallinfo2();
	check_int(now.hblks - before.hblks, 1);
	check_int(now.hblkhd - before.hblkhd, 4 * SLOT);
	hkm_free(p);
	now = hkm_mallinfo2();
	check_int(now.hblks - before.hblks, 0);
	check_int(now.keepcost - before.keepcost, 4 * SLOT);
}

static void print_stats(void)
{
	no_device();
	hkm_free(hkm_malloc(2 * SLOT));
	hkm_malloc(SLOT);
	hkm_malloc_stats();
}

static void malloc_stats_has_the_whales(void)
{
	char text[8192];

	check(exited_well(run_child(print_stats, text, sizeof(text))));
	check(strstr(text, "libhakmem: 2097152 bytes in 1 whales in use, 2097152 bytes idle\n"));
}

static void stats_are_written_as_json(void)
{
	FILE *f, *full = fopen("/dev/full", "w");
	char *text;
	size_t len;
	void *p;

	no_device();
	p = hkm_malloc(SLOT);
	hkm_free(hkm_malloc(2 * SLOT));
	f = open_memstream(&text, &len);
	check_int(hkm_stats_json(f), 0);
	check_int(len, strlen(text));
	check_int(count_lines(text), 1);
	check(strstr(text, "{\"backend\": \"anon\", \"live\": 1, "
		     "\"live_bytes\": 2097152, \"idle\": 1, "
		     "\"idle_bytes\": 4194304, ") == text);
	check(!strcmp(text + len - 3, "]}\n"));
	fclose(f);
	free(text);
	check_int(hkm_stats_json(full), -ENOSPC);
	fclose(full);
	hkm_free(p);
}

static void print_json(void)
{
	no_device();
	check_int(hkm_stats_json(NULL), 0);
}

static void json_of_no_file_is_on_stderr(void)
{
	char text[4096];

	check(exited_well(run_child(print_json, text, sizeof(text))));
	check(strstr(text, "{\"backend\": \"none\", \"live\": 0, ") == text);
}

static void trim_gives_idle_whales_back(void)
{
	char *p;

	no_device();
	p = hkm_malloc(2 * SLOT);
	memset(p, 1, 2 * SLOT);
	hkm_free(p);
	check_int(hkm_malloc_trim(0), 1);
	check_int(resident_pages(p, 2 * SLOT), 0);
	check_int(stats().idle_bytes, 0);
}

static void threshold_by_environment(void)
{
	char *p;

	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "16M", 1);
	p = hkm_malloc(16 * MIB - 1);
	check(p && !hkm_window_has(p));
	hkm_free(p);
	check(hkm_window_has(hkm_malloc(16 * MIB)));
}

static void low_threshold_by_environment(void)
{
	char *p;

	no_device();
	setenv("HAKMEM_WHALE_THRESHOLD", "524288", 1);
	p = hkm_malloc(600000);
	check(hkm_window_has(p));
	check_int(hkm_malloc_usable_size(p), SLOT);
	p = hkm_malloc(524287);
	check(p && !hkm_window_has(p));
	hkm_free(p);
}

#ifndef SANITIZED	/* sanitizers make calls of their own */
#define ALLOW(nr)							\
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##nr, 0, 1),		\
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void forbid_all_but_memory_calls(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		ALLOW(mmap), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise),
		ALLOW(mprotect), ALLOW(brk), ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = {
		.len = sizeof(filter) / sizeof(*filter), .filter = filter,
	};

	check_int(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_int(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

/* a sandbox that is entered after the start kills for anything else */
static void memory_calls_are_enough(void)
{
	struct hkm_config cfg = { .source = HKM_SOURCE_ANON };
	char *p[20], *q;

	check_int(hkm_init(&cfg), 0);
	forbid_all_but_memory_calls();
	for (int i = 0; i < 20; i++) {
		p[i] = hkm_malloc((size_t)(i + 1) * SLOT);
		memset(p[i], 1, 4096);
	}
	q = hkm_realloc(p[4], 50 * SLOT);
	for (int i = 0; i < 20; i++)
		if (i != 4)
			hkm_free(p[i]);
	hkm_free(q);
	hkm_free(hkm_calloc(1, 30 * SLOT));
	hkm_release_all();
	hkm_free(hkm_malloc(SLOT));
	_exit(0);
}
#endif

static const struct tap_case cases[] = {
	CASE(calloc_clears_what_was_used),
	CASE(calloc_leaves_zeroes_alone),
	CASE(calloc_of_the_device),
	CASE(calloc_exchanges_from_a_size_on),
	CASE(calloc_clears_what_stays),
	CASE(products_that_overflow_fail),
	CASE(realloc_keeps_contents),
	CASE(realloc_keeps_contents_on_the_device),
	CASE(realloc_grows_in_place_where_it_can),
	CASE(realloc_shrinks_in_place),
	CASE(realloc_moves_pages),
	CASE(realloc_moves_a_changed_block),
	CASE(realloc_moves_what_has_moved_before),
	CASE(realloc_moves_huge_pages_that_have_moved_before),
	CASE(realloc_loses_nothing_where_a_move_fails),
#ifndef SANITIZED
	CASE(realloc_bears_a_limit_that_was_lowered),
#endif
	CASE(realloc_on_the_device_moves_folios),
	CASE(what_realloc_moves_away_from_is_the_next_ones),
	CASE(a_block_that_cannot_move_stays),
	CASE(realloc_ends_and_begins),
	CASE(aligned_blocks),
	CASE(aligned_alloc_wants_a_power_of_two),
	CASE(pages_are_anonymous_unless_told),
	CASE(mallinfo_has_the_whales),
	CASE(malloc_stats_has_the_whales),
	CASE(stats_are_written_as_json),
	CASE(json_of_no_file_is_on_stderr),
	CASE(trim_gives_idle_whales_back),
#ifndef SANITIZED
	CASE(memory_calls_are_enough),
#endif
	CASE(threshold_by_environment),
	CASE(low_threshold_by_environment),
};

TAP_MAIN(cases)
