/* SPDX-License-Identifier: MIT */
#ifndef HKBENCH_H
#define HKBENCH_H

/*
 * hkbench: what alloc, touch, free of a big block costs, backend by backend.
 *
 * Words with a fixed meaning here:
 *
 *   operation   get a block, touch it, put it back; timed as a whole
 *   backend     a way to get and put a block
 *   lane        one backend in one mode, in a process of its own (lane.c)
 *   turn        operations that one lane does in a row, 8 unless it says so;
 *               the lanes of a table take turns until its time is used up
 *   first, hot  the first operation of a turn, and the others
 *   result      one row of a table
 *
 * Only ratios inside one table mean anything: the machine may be shared, or
 * emulated, and changes its speed from minute to minute.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define HB_PAGE		4096UL
#define HB_HUGE		(2UL << 20)
#define HB_TURN		8
#define HB_LANES_MAX	32
#define HB_SAMPLES_MAX	16384

enum hb_touch {
	HB_TOUCH_NONE, HB_TOUCH_PAGE, HB_TOUCH_FULL, HB_TOUCH_READ, HB_TOUCH_NR
};
enum hb_phase { HB_COLD, HB_STEADY };
enum hb_mode { HB_PLAIN, HB_BURST, HB_SUSTAINED };

/* ---- clock.c: cycles, nanoseconds, exact percentiles ---- */

static inline uint64_t hb_tsc(void)
{
	uint32_t lo, hi;

	/* the fences keep what is timed between the two reads */
	__asm__ volatile("lfence; rdtsc; lfence"
			 : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

/*
 * The end of an operation that has written: its stores are made. Else what ends
 * with stores that miss leaves the last of them, as many as the processor can hold
 * back, to the time after it, while an allocator, with a locked instruction or
 * stores of its own behind them, waits for room. A loop takes the same time with
 * and without those: 64 operations timed as one differ by less than a hundredth,
 * where single ones of 2 MiB, a byte in each page, differed by a quarter.
 */
static inline void hb_stores_made(void)
{
	__asm__ volatile("mfence" : : : "memory");
}

struct hb_samples {
	uint64_t *v;
	size_t n, room;
	bool sorted;
};

extern double hb_ns_per_cycle;

void hb_clock_init(void);
uint64_t hb_now_ns(void);
void hb_sleep_ns(uint64_t ns);
void hb_samples_add(struct hb_samples *s, uint64_t value);
void hb_samples_free(struct hb_samples *s);
/* @percent of the samples are at most this; exact (nearest rank); NAN if none */
double hb_percentile(struct hb_samples *s, double percent);
double hb_mean(const struct hb_samples *s);
/* of the samples from number @from on */
double hb_median_from(const struct hb_samples *s, size_t from);
/* sorts @v; NAN if there are none */
double hb_median(double *v, size_t n);

/* ---- syscount.c: system calls of this thread, counted by the kernel's help ---- */

enum hb_call {
	HB_CALL_MMAP, HB_CALL_MUNMAP, HB_CALL_MADVISE,
	HB_CALL_HANDOUT, HB_CALL_RECYCLE,
	HB_CALL_WHALE_GET, HB_CALL_WHALE_PUT,	/* ring functions, no call */
	HB_CALL_BRK, HB_CALL_OTHER,
	HB_CALL_NR,
};

struct hb_calls {
	uint64_t n[HB_CALL_NR];
	uint64_t cycles[HB_CALL_NR];
};

extern const char *const hb_call_name[HB_CALL_NR];
/* set while counting: backends then time their ring calls into it */
extern struct hb_calls *hb_counting;

/* 0, or -errno where the kernel has no user dispatch of system calls (< 5.11) */
int hb_syscount_start(struct hb_calls *into);
void hb_syscount_stop(void);
uint64_t hb_syscalls(const struct hb_calls *c);

/* ---- backends*.c ---- */

struct hb_counters {
	uint64_t hits, misses, puts, evictions;		/* whale, region */
	uint64_t served_clean, served, zeroed_inline;	/* region-* */
};

/* what one lane's backend knows; lives in the lane's process */
struct hb_ctx {
	size_t size;		/* bytes the user asked for */
	size_t len;		/* the same in whole 2 MiB */
	void *map;		/* what munmap gets */
	size_t map_len;
	void *block;
	uint64_t open_ns, setup_ns, mmap_ns;	/* of the device, when opened */
	bool no_decay;		/* idle slots are taken under pressure only */
	void *priv;
};

#define HB_WHALE_ONLY	1U	/* below 2 MiB this is libc */
#define HB_DEVICE	2U	/* needs /dev/hakmem_region */
#define HB_ZEROER	4U	/* lives on the zeroing thread: burst, sustained */
#define HB_HUGETLB	8U	/* needs a pool of huge pages */
#define HB_THREAD	16U	/* a second thread in the process */
#define HB_RING		32U	/* has hits and misses */
#define HB_ALWAYS	64U	/* in every table: a reference */
#define HB_WORDS	128U	/* idle slots: can the kernel take them? */

struct hb_backend {
	const char *name;
	unsigned int flags;
	int (*open)(struct hb_ctx *c);		/* 0 or -errno */
	void *(*get)(struct hb_ctx *c);		/* NULL with errno */
	void (*put)(struct hb_ctx *c, void *p);
	void (*close)(struct hb_ctx *c);
	void (*counters)(struct hb_ctx *c, struct hb_counters *now);
};

extern const struct hb_backend hb_backends[];
extern const size_t hb_nr_backends;
const struct hb_backend *hb_find_backend(const char *name, size_t len);
void hb_touch_block(void *p, size_t size, enum hb_touch touch);
/* @len bytes, 2 MiB-aligned, with MADV_HUGEPAGE; fills map, map_len, block */
int hb_map_thp(struct hb_ctx *c, size_t len);

int hb_decay_open(struct hb_ctx *c);
void *hb_decay_get(struct hb_ctx *c);
void hb_decay_put(struct hb_ctx *c, void *p);
void hb_decay_close(struct hb_ctx *c);
int hb_whale_open(struct hb_ctx *c);
void *hb_whale_get(struct hb_ctx *c);
void hb_whale_put(struct hb_ctx *c, void *p);
void hb_whale_close(struct hb_ctx *c);
void hb_whale_counters(struct hb_ctx *c, struct hb_counters *now);
int hb_ioctl_open(struct hb_ctx *c);
int hb_fresh_open(struct hb_ctx *c);
void *hb_ioctl_get(struct hb_ctx *c);
void hb_ioctl_put(struct hb_ctx *c, void *p);
void *hb_fresh_get(struct hb_ctx *c);
void hb_fresh_put(struct hb_ctx *c, void *p);
void hb_arena_close(struct hb_ctx *c);
void hb_arena_counters(struct hb_ctx *c, struct hb_counters *now);
int hb_words_open(struct hb_ctx *c);
void *hb_words_get(struct hb_ctx *c);
void hb_words_put(struct hb_ctx *c, void *p);
void hb_words_counters(struct hb_ctx *c, struct hb_counters *now);
int hb_heap_open(struct hb_ctx *c);
int hb_anon_heap_open(struct hb_ctx *c);
void *hb_heap_get(struct hb_ctx *c);
void hb_heap_put(struct hb_ctx *c, void *p);
void hb_heap_close(struct hb_ctx *c);
void hb_heap_counters(struct hb_ctx *c, struct hb_counters *now);

/* ---- device.c: the device seen from outside, and the huge page pool ---- */

struct hb_zeroing {		/* the zeroing thread's counters; see .ok */
	bool ok;
	uint64_t ns, bytes;
};

void hb_device_init(void);
bool hb_device_present(void);
const char *hb_device_why_not(void);
bool hb_device_reclaims(void);
bool hb_device_pool(uint64_t *clean, uint64_t *dirty);
/* until nothing waits to be zeroed; false after @timeout_ms */
bool hb_device_wait_clean(unsigned int timeout_ms);
uint64_t hb_device_depth(void);		/* clean folios when nothing waits */
struct hb_zeroing hb_device_zeroing(void);
bool hb_hugetlb_reserve(size_t bytes);	/* at least @bytes; false if it cannot */
void hb_hugetlb_restore(void);
uint64_t hb_mem_available(void);

/* ---- machine.c ---- */

struct hb_machine {
	char kernel[80], accel[16], cpu[80], thp[16], init_on_alloc[16];
	unsigned int cpus;
	bool erms;
	uint64_t memory;
	double tsc_mhz;
};

void hb_machine_read(struct hb_machine *m);
/* a virtual machine without a disk: its root is the initramfs */
bool hb_throwaway_guest(void);

/* ---- results ---- */

/* a number that was not measured is NAN, and null in JSON */
struct hb_result {
	char scenario[12];
	const char *backend;
	char note[96];
	size_t size;
	enum hb_touch touch;
	enum hb_phase phase;
	enum hb_mode mode;
	unsigned int burst;	/* operations of a burst */
	unsigned int batch;	/* blocks of a batch; figures are for each */
	unsigned int threads;
	uint64_t iterations;	/* of this row: asked for (cold), done (steady) */
	uint64_t n;		/* samples behind ns_* */
	double ns_p50, ns_p99, ns_mean, ns_first_p50;
	double faults_per_op, syscalls_per_op, cpu_ns_per_op, kthread_ns_per_op;
	bool has_ring, has_served, has_calls;
	struct hb_counters counters;
	struct hb_calls calls;
	uint64_t counted_ops;
	uint64_t close_munmaps;	/* cold phase: munmap calls of the close */
	double bytes_zeroed, zero_ns_per_slot, pmd_fraction, rss_after;
	/* scenario cold */
	double open_ns, setup_ns, mmap_ns, start_ns, exec_ns;
	/* scenario zeroing */
	enum { HB_ZERO_ANY, HB_ZERO_OFF, HB_ZERO_ON } background;
	size_t pairs;		/* on against off, as the next two */
	double paired_time, paired_cpu;
	/* scenario scattered */
	double ns_p999, ns_max, stalls_per_op, single_fraction;
	uint64_t failed;
	/* scenario fork: bytes */
	double memory_taken;
	/* scenario peers */
	double requested_peak, rss_peak, rss_idle, rss_call;
	/* scenario ring */
	char figure[64];
	double cycles;
};

struct hb_skip {
	char scenario[12];
	const char *backend;
	size_t size;
	char why[96];
};

/*
 * Scenario pressure: one run. Slots are those of all owners, and for them
 * idle = kept + taken + dead + corrupted ones.
 */
struct hb_pressure {
	const char *backend;
	bool stopped;		/* the owners, by SIGSTOP */
	bool drain;		/* to the last slot, not for a fixed need */
	unsigned int run;
	uint64_t need, got;	/* bytes of the needy process */
	uint64_t oom_kills;	/* as the kernel counts them */
	uint64_t owners_killed, needy_killed;	/* by the kernel */
	uint64_t failed;	/* processes that hung or crashed */
	double ms_to_get;	/* NAN: it was killed */
	uint64_t slots_idle, slots_kept, slots_taken;
	uint64_t slots_dead;	/* gone with their owner */
	uint64_t slots_corrupted;	/* idle or in use, wrong contents */
	uint64_t slots_busy, slots_busy_lost;
	double slots_needed;	/* what the machine had left did not cover */
	double reuse_kept_ns, reuse_taken_ns;	/* medians */
};

/* all runs alike: sums of counts, medians of times */
struct hb_pressure_row {
	struct hb_pressure sum;
	unsigned int runs, got_it;
	double ms_to_get_p90;
	double obtained;	/* drain: least part of the idle slots; or NAN */
};

#define HB_IDLE_SAMPLES	64

/* scenario idle: one process, from its free on */
struct hb_idle {
	const char *backend;
	bool stopped;
	unsigned int run;
	uint64_t size;
	unsigned int decay_ms, tick_ms;
	double back_percent;	/* at decay + 2 ticks */
	double back_ms;		/* all back, first seen then; NAN: not seen */
	unsigned int n;
	double at_ms[HB_IDLE_SAMPLES];	/* after the free; the first before it */
	uint64_t rss_kib[HB_IDLE_SAMPLES];
	uint64_t mem_available_kib[HB_IDLE_SAMPLES];
};

struct hb_goal {
	char figure[120];
	double value;
	double limit;
	bool at_least;		/* else at most */
	int ok;			/* 1, 0, or -1: not decided in this run */
	char note[120];
};

struct hb_book {
	struct hb_machine machine;
	struct hb_result *results;
	size_t nr_results;
	struct hb_skip *skips;
	size_t nr_skips;
	struct hb_goal *goals;
	size_t nr_goals;
	struct hb_pressure *pressure;
	size_t nr_pressure;
	struct hb_idle *idle;
	size_t nr_idle;
};

extern struct hb_book hb_book;

struct hb_result *hb_add_result(const char *scenario, const char *backend);
struct hb_pressure *hb_add_pressure(const char *backend);
struct hb_idle *hb_add_idle(const char *backend);
void hb_add_skip(const char *scenario, const char *backend, size_t size,
		 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* the same table: comparable with each other */
bool hb_same_table(const struct hb_result *a, const struct hb_result *b);
const struct hb_result *hb_reference(const struct hb_result *r,
				     const char *backend);

/* ---- options, and the scenarios ---- */

struct hb_options {
	const struct hb_backend *backends[HB_LANES_MAX];
	size_t nr_backends;
	size_t size;		/* 0: the scenario's own */
	int touch;		/* -1: the scenario's own */
	uint64_t iterations;	/* 0: until the time is used up */
	bool quick, suite;
	/* pressure, idle, scattered, fork and peers have backends of their own */
	const char *backend_list;	/* NULL: all */
	unsigned int runs;	/* 0: the scenario's own */
	unsigned int owners;
	const char *preload;	/* peers: our own library */
	bool mean_it;		/* also on a machine that matters */
};

extern struct hb_options hb_opt;

/* scenario peers: the file that was given for an allocator, or NULL */
const char *hb_opt_peer_path(const char *name);

void hb_run_loop(const char *scenario, size_t size, enum hb_touch touch,
		 double seconds);
void hb_run_reclaim(size_t size, enum hb_touch touch, double seconds);
/* the others: 0, or the exit status after a message */
int hb_run_cold_phase(const char *scenario, size_t size, enum hb_touch touch);
int hb_run_sweep(enum hb_touch touch, double seconds);
int hb_run_cold(size_t size, enum hb_touch touch, unsigned int processes);
int hb_run_ring(void);
int hb_run_zeroing(size_t size, double seconds);
/* the parameter that the scenario zeroing changes, as it was */
void hb_zeroing_restore(void);
int hb_run_scattered(double seconds);
int hb_run_peers(double seconds);
int hb_run_batch(double seconds);
int hb_run_fork(double seconds);
int hb_run_pressure(void);
int hb_run_idle(void);
/* their backends' names; NULL after the last */
const char *hb_pressure_backend(size_t i);
const char *hb_idle_backend(size_t i);
const char *hb_scattered_backend(size_t i);
const char *hb_fork_backend(size_t i);
const char *hb_peer_name(size_t i);
/* is @name among hb_opt.backend_list? */
bool hb_listed(const char *name);
int hb_cold_child(const char *backend, size_t size, enum hb_touch touch);

/* ---- process.c ---- */

/* as fork(); a pipe each way, closed at exec */
pid_t hb_fork(int *in, int *out);
/* zeroed, and shared with the processes that are forked later */
void *hb_map_shared(size_t size);

/* ---- lane.c ---- */

enum hb_keep {
	HB_KEEP_NONE,		/* warm-up */
	HB_KEEP_TURN,		/* the first apart from the others */
	HB_KEEP_ALL,		/* all alike: the cold phase */
};

struct hb_lane {
	const struct hb_backend *be;
	enum hb_mode mode;
	unsigned int burst;	/* operations of a turn */
	unsigned int every;	/* takes part in each n-th round */
	size_t size;
	enum hb_touch touch;
	pid_t pid;
	int to, from;		/* pipes */
	struct hb_lane_shm *shm;
	bool thread_off;	/* the zeroing thread is: not to be waited for */
	bool open, failed;
	char why[96];
	struct hb_samples first, hot;
	uint64_t ops, first_faults, hot_faults, cpu_ns, zero_ns, zero_bytes;
	bool zero_known;
	struct hb_counters counters;
	struct hb_calls calls;
	uint64_t counted_ops, close_munmaps;
	bool counted;
	double pmd_fraction, rss_after;
};

/* fork the lane's process and open the backend in it; !failed when it did */
void hb_lane_start(struct hb_lane *l);
/* @n operations in a row, stopping after the one that passes @max_ns (0: none) */
void hb_lane_turn(struct hb_lane *l, uint64_t n, uint64_t max_ns,
		  enum hb_keep keep);
/* @n operations, not timed, system calls counted; @close: then of the close */
void hb_lane_count(struct hb_lane *l, uint64_t n, bool close);
/* end the process; nothing of it is left when this returns */
void hb_lane_stop(struct hb_lane *l);
void hb_lane_free(struct hb_lane *l);
void hb_lane_result(struct hb_lane *l, const char *scenario,
		    enum hb_phase phase, uint64_t iterations);
/* why the backend cannot take part at this size, or NULL */
const char *hb_lane_refuse(const struct hb_backend *be, size_t size);

/* ---- output ---- */

void hb_progress_begin(double total_seconds);
void hb_progress_step(double seconds);	/* the next step takes about that */
void hb_progress(const char *what);
void hb_progress_end(void);
const char *hb_touch_str(enum hb_touch touch);
const char *hb_mode_str(enum hb_mode mode);
void hb_size_str(char *buf, size_t room, size_t size);
void hb_report(FILE *out, const struct hb_book *book);
/* the hot median of a row of sweep, or NAN */
double hb_swept(const struct hb_book *book, const char *backend, size_t size,
		enum hb_touch touch);
void hb_report_zeroing(FILE *out, const struct hb_book *book);
void hb_report_peers(FILE *out, const struct hb_book *book);
void hb_judge_peers(struct hb_book *book);
void hb_report_scattered(FILE *out, const struct hb_book *book);
void hb_report_batch(FILE *out, const struct hb_book *book);
void hb_report_fork(FILE *out, const struct hb_book *book);
void hb_judge_fork(struct hb_book *book);
void hb_report_machine(FILE *out, const struct hb_machine *m);
void hb_judge(struct hb_book *book);
struct hb_goal *hb_add_goal(struct hb_book *book, const char *figure,
			    double value, bool at_least, double limit);
void hb_judge_memory(struct hb_book *book);
/* pressure_out.c, idle_out.c */
size_t hb_pressure_rows(const struct hb_book *book,
			struct hb_pressure_row *rows, size_t room);
void hb_report_pressure(FILE *out, const struct hb_book *book);
void hb_csv_pressure(FILE *f, const struct hb_book *book);
void hb_report_idle(FILE *out, const struct hb_book *book);
void hb_csv_idle(FILE *f, const struct hb_book *book);
const char *hb_ns_str(char buf[24], double ns);
int hb_write_json(const char *path, const struct hb_book *book);
int hb_write_csv(const char *path, const struct hb_book *book);
/* one goals table of several result files */
int hb_compare_goals(FILE *out, char *const *paths, int nr);

#endif /* HKBENCH_H */
