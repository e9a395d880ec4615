/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_TEST_H
#define HKR_TEST_H

/*
 * What the programs of this directory share: calls that return -errno, an
 * arena made in one line, and a look at what the kernel says about it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <linux/hakmem_region.h>
#include "uring.h"

#define HKR_DEVICE	"/dev/hakmem_region"
#define HKR_SYSFS	"/sys/class/misc/hakmem_region/"
#define SLOT		HKR_SLOT_SIZE
#define PAGE		4096UL
#define COMMIT		HKR_HANDOUT_COMMIT
#define AT		HKR_HANDOUT_AT
#define FROM_IDLE	HKR_HANDOUT_FROM_IDLE
#define DROP		HKR_RECYCLE_DROP
#define IDLE		HKR_RECYCLE_IDLE
#define FRESH		HKR_RECYCLE_FRESH
#define MOVE		HKR_RECYCLE_MOVE
#define HKR_UNUSED	__attribute__((unused))

struct arena {
	int fd;
	struct hkr_setup setup;
	char *base;
	volatile struct hkr_control *header;
	volatile uint64_t *words;
};

/* ioctl() that returns -errno; by io_uring where the environment says so */
static inline long hkr_call(int fd, unsigned int cmd, void *arg)
{
	int ret;

	if (hkr_goes_by_uring(cmd))
		return hkr_uring_call(fd, cmd, arg);
	ret = ioctl(fd, cmd, arg);
	return ret < 0 ? -errno : ret;
}

static inline long hkr_setup_decay(int fd, uint64_t nr_slots, uint32_t flags,
				   int decay_ms, struct hkr_setup *setup)
{
	*setup = (struct hkr_setup){
		.size = sizeof(*setup), .flags = flags | HKR_SETUP_DECAY,
		.nr_slots = nr_slots, .idle_decay_ms = decay_ms,
	};
	return hkr_call(fd, HKR_IOC_SETUP, setup);
}

/* without decay: a test that wants idle slots to go says so itself */
static inline long hkr_setup(int fd, uint64_t nr_slots, uint32_t flags,
			     struct hkr_setup *setup)
{
	return hkr_setup_decay(fd, nr_slots, flags, -1, setup);
}

static inline long hkr_map(struct arena *a, int prot)
{
	const struct hkr_setup *s = &a->setup;
	void *p;

	p = mmap(NULL, s->arena_size, prot, MAP_SHARED, a->fd, s->arena_offset);
	if (p == MAP_FAILED)
		return -errno;
	a->base = p;
	p = mmap(NULL, s->control_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		 a->fd, s->control_offset);
	if (p == MAP_FAILED)
		return -errno;
	a->header = p;
	a->words = (void *)((char *)p + s->words_offset);
	return 0;
}

static inline long arena_open_decay(struct arena *a, uint64_t nr_slots,
				    int decay_ms)
{
	long ret;

	memset(a, 0, sizeof(*a));
	a->fd = open(HKR_DEVICE, O_RDWR | O_CLOEXEC);
	if (a->fd < 0)
		return -errno;
	ret = hkr_setup_decay(a->fd, nr_slots, 0, decay_ms, &a->setup);
	return ret ?: hkr_map(a, PROT_READ | PROT_WRITE);
}

static HKR_UNUSED long arena_open(struct arena *a, uint64_t nr_slots)
{
	return arena_open_decay(a, nr_slots, -1);
}

/* children are forked for something else, and are to share no slot */
static HKR_UNUSED int keep_from_children(struct arena *a)
{
	return madvise(a->base, a->setup.arena_size, MADV_DONTFORK) ||
	       madvise((void *)a->header, a->setup.control_size,
		       MADV_DONTFORK) ? -errno : 0;
}

static HKR_UNUSED void arena_close(struct arena *a)
{
	if (a->base)
		munmap(a->base, a->setup.arena_size);
	if (a->header)
		munmap((void *)a->header, a->setup.control_size);
	if (a->fd >= 0)
		close(a->fd);
	memset(a, 0, sizeof(*a));
	a->fd = -1;
}

static inline char *slot_of(const struct arena *a, uint64_t idx)
{
	return a->base + idx * SLOT;
}

/* one request: 0 or -errno, of the call or of the request */
static inline long hkr_request(struct arena *a, struct hkr_handout_req *req)
{
	struct hkr_handout call = {
		.size = sizeof(call), .nr = 1, .reqs = (uintptr_t)req,
	};
	long ret = hkr_call(a->fd, HKR_IOC_HANDOUT, &call);

	return ret < 0 ? ret : req->result;
}

/* the first slot of a run, or -errno */
static HKR_UNUSED long handout(struct arena *a, uint32_t nr, uint32_t flags)
{
	struct hkr_handout_req req = {
		.nr_slots = nr, .flags = flags, .node = HKR_NODE_ANY,
	};
	long ret = hkr_request(a, &req);

	return ret ?: (long)req.first;
}

static HKR_UNUSED long handout_at(struct arena *a, uint64_t first, uint32_t nr,
				  uint32_t flags)
{
	struct hkr_handout_req req = {
		.nr_slots = nr, .flags = flags | AT, .node = HKR_NODE_ANY,
		.first = first,
	};

	return hkr_request(a, &req);
}

static HKR_UNUSED long recycle_to(struct arena *a, uint32_t mode,
				  uint64_t first, uint32_t nr, uint64_t to)
{
	struct hkr_range range = { .first = first, .to = to, .nr_slots = nr };
	struct hkr_recycle call = {
		.size = sizeof(call), .mode = mode, .nr = 1,
		.ranges = (uintptr_t)&range,
	};
	long ret = hkr_call(a->fd, HKR_IOC_RECYCLE, &call);

	return ret < 0 ? ret : range.result;
}

static HKR_UNUSED long recycle(struct arena *a, uint32_t mode, uint64_t first,
			       uint32_t nr)
{
	return recycle_to(a, mode, first, nr, 0);
}

/* slots trimmed, or -errno */
static HKR_UNUSED long trim(struct arena *a, uint64_t min_age_ms, uint64_t max)
{
	struct hkr_trim call = {
		.size = sizeof(call), .min_age_ms = min_age_ms,
		.max_slots = max,
	};
	long ret = hkr_call(a->fd, HKR_IOC_TRIM, &call);

	return ret ?: (long)call.nr_trimmed;
}

static HKR_UNUSED struct hkr_stats stats_of(struct arena *a)
{
	struct hkr_stats st = { .size = sizeof(st) };

	if (hkr_call(a->fd, HKR_IOC_STATS, &st))
		memset(&st, 0xff, sizeof(st));
	return st;
}

/* what nothing but a fault or a command may change */
static HKR_UNUSED bool same_stats(struct arena *a, const struct hkr_stats *old)
{
	struct hkr_stats now = stats_of(a);

	/* folios that were got and given back may have been counted */
	now.served_clean = old->served_clean;
	now.served_dirty = old->served_dirty;
	now.served_new = old->served_new;
	now.served_single = old->served_single;
	now.bytes_zeroed_inline = old->bytes_zeroed_inline;
	return !memcmp(&now, old, sizeof(now));
}

static inline uint64_t word_of(const struct arena *a, uint64_t idx)
{
	return __atomic_load_n(&a->words[idx], __ATOMIC_ACQUIRE);
}

static HKR_UNUSED int word_state(const struct arena *a, uint64_t idx)
{
	return HKR_WORD_STATE(word_of(a, idx));
}

static HKR_UNUSED uint32_t word_gen(const struct arena *a, uint64_t idx)
{
	return HKR_WORD_GEN(word_of(a, idx));
}

/* as the owner frees: BUSY -> IDLE, stamped */
static HKR_UNUSED void mark_idle_at(struct arena *a, uint64_t idx,
				    uint32_t epoch)
{
	uint64_t gen = HKR_WORD_GEN(word_of(a, idx));

	__atomic_store_n(&a->words[idx],
			 HKR_WORD_MAKE(HKR_WORD_IDLE, (uint64_t)epoch, gen),
			 __ATOMIC_RELEASE);
}

static HKR_UNUSED void mark_idle(struct arena *a, uint64_t idx)
{
	mark_idle_at(a, idx, a->header->epoch);
}

/* as the owner takes again: IDLE -> BUSY */
static HKR_UNUSED bool take_again(struct arena *a, uint64_t idx, uint64_t seen)
{
	uint64_t busy = HKR_WORD_MAKE(HKR_WORD_BUSY, 0ULL, HKR_WORD_GEN(seen));

	return __atomic_compare_exchange_n(&a->words[idx], &seen, busy, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* every 8 bytes of a slot say whose they are and where */
static HKR_UNUSED void fill(void *slot, uint64_t seed)
{
	uint64_t *p = slot;
	size_t i;

	for (i = 0; i < SLOT / 8; i++)
		p[i] = seed + i;
}

static HKR_UNUSED bool filled(const void *slot, uint64_t seed)
{
	const uint64_t *p = slot;
	size_t i;

	for (i = 0; i < SLOT / 8; i++)
		if (p[i] != seed + i)
			return false;
	return true;
}

static HKR_UNUSED bool all_zero(const void *mem, size_t len)
{
	const uint64_t *p = mem;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (p[i])
			return false;
	return true;
}

static __thread sigjmp_buf hkr_bus_env;
static __thread volatile bool hkr_bus_expected;

static HKR_UNUSED void hkr_on_bus(int sig)
{
	if (hkr_bus_expected)
		siglongjmp(hkr_bus_env, sig);
	/* a bug: die of it at the next try */
	signal(sig, SIG_DFL);
}

/* the signal that reading (or writing) one byte raises; 0: none */
static HKR_UNUSED int touch(volatile char *p, bool write)
{
	struct sigaction sa = { .sa_handler = hkr_on_bus };
	int sig;

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sig = sigsetjmp(hkr_bus_env, 1);
	if (!sig) {
		char c;

		hkr_bus_expected = true;
		c = *p;
		if (write)
			*p = c;
	}
	hkr_bus_expected = false;
	return sig;
}

static HKR_UNUSED long minor_faults(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_minflt;
}

/* a number that settings may give by the environment; else @value */
static HKR_UNUSED long env_number(const char *name, long value)
{
	const char *said = getenv(name);

	return said ? atol(said) : value;
}

/* a sysfs attribute of the device, or -1 */
static inline long sysfs(const char *name)
{
	char path[320], buf[32] = "";
	long value = -1;
	int fd;

	snprintf(path, sizeof(path), HKR_SYSFS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (read(fd, buf, sizeof(buf) - 1) > 0)
		value = strtol(buf, NULL, 10);
	close(fd);
	return value;
}

/* all of them, for who asks why one is not what it should be */
static HKR_UNUSED void sysfs_print(void)
{
	struct dirent *d;
	DIR *dir = opendir(HKR_SYSFS);

	printf("#");
	while (dir && (d = readdir(dir)))
		if (d->d_type == DT_REG && strcmp(d->d_name, "uevent") &&
		    sysfs(d->d_name) > 0)
			printf(" %s %ld", d->d_name, sysfs(d->d_name));
	printf("\n");
	if (dir)
		closedir(dir);
}

/* does an attribute get to a value; the bound is for a very busy machine */
static HKR_UNUSED bool sysfs_becomes(const char *name, long value)
{
	int i;

	/* less and less often: who looks is in the way of what it waits for */
	for (i = 0; i < 400 && sysfs(name) != value; i++)
		usleep(i < 50 ? 10000 : 100000);
	if (i == 400)
		sysfs_print();
	return i < 400;
}

/* a slot's memory is counted as gone just before its word says so */
static HKR_UNUSED bool word_becomes(struct arena *a, uint64_t idx,
				    uint64_t state)
{
	int i;

	for (i = 0; i < 2000 && word_state(a, idx) != state; i++)
		usleep(10000);
	return i < 2000;
}

/*
 * Is so much resident once nothing is shared any more? Until then memory moves from
 * the one count to the other, and their sum may be read in between.
 */
static HKR_UNUSED bool resident_unshared(long nr)
{
	return sysfs_becomes("shared", 0) && sysfs("resident") == nr;
}

/*
 * No folio is in anybody's hand: each is in a slot or in the pool, and none is an
 * orphan. "dirty" 0 does not say so: what is being cleared is on no list.
 */
static HKR_UNUSED bool all_in_place(void)
{
	int i;

	for (i = 0; i < 2000; i++) {
		if (sysfs("live_folios") + sysfs("single_slots") ==
		    sysfs("resident") + sysfs("pool_depth"))
			return true;
		usleep(10000);
	}
	return false;
}

/*
 * With no owner left, every folio is back in the pool; and the last sample of
 * what is idle says so, which else the next test would take for its own.
 */
static HKR_UNUSED bool nothing_leaked(void)
{
	int i;

	for (i = 0; i < 2000; i++) {
		if (!sysfs("resident") && !sysfs("orphans") &&
		    !sysfs("single_slots") && !sysfs("idle") &&
		    sysfs("live_folios") == sysfs("pool_depth"))
			return true;
		usleep(10000);
	}
	return false;
}

/* kB of a field, summed over the mappings inside [p, p + len) */
static HKR_UNUSED long smaps_kb(const void *p, size_t len, const char *field)
{
	unsigned long start, end, from = (uintptr_t)p, to = from + len;
	FILE *f = fopen("/proc/self/smaps", "re");
	bool inside = false;
	size_t n = strlen(field);
	char line[512];
	long kb = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start >= from && end <= to;
		else if (inside && !strncmp(line, field, n) && line[n] == ':')
			kb += strtol(line + n + 1, NULL, 10);
	}
	fclose(f);
	return kb;
}

/* physical address, in pages, of a mapped page; 0 when it cannot be told */
static HKR_UNUSED uint64_t pfn_of(void *addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, 8, (uintptr_t)addr / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return entry & (1ULL << 63) ? entry & ((1ULL << 55) - 1) : 0;
}

/*
 * An owner like any other takes all of the pool and more, and writes to it. 1:
 * the folio at @pfn was among it; less than 0: a mistake.
 */
static HKR_UNUSED int next_owner_meets(uint64_t pfn)
{
	uint32_t nr = sysfs("pool_depth") + 8, i;
	struct arena b;
	int met = 0;

	if (arena_open(&b, nr) || handout_at(&b, 0, nr, COMMIT))
		return -1;
	for (i = 0; i < nr; i++) {
		if (!all_zero(slot_of(&b, i), PAGE))
			met = -2;
		memset(slot_of(&b, i), 0xee, 2 * PAGE);
		if (pfn_of(slot_of(&b, i)) == pfn)
			met = 1;
	}
	arena_close(&b);
	return met;
}

/* exit status of a child that ran fn(arg), 128 + signal when killed */
static HKR_UNUSED int in_child(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(fn(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif /* HKR_TEST_H */
