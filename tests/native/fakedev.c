// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <hakmem.h>
#include <linux/hakmem_region.h>

#include "cache.h"
#include "fakedev.h"

#define MAX_SLOTS 4096

struct fakedev fake = {
	.abi_version = HKR_ABI_VERSION,
	.max_slots = 512,
};

/* protects taken; words change by compare-and-swap, as in the kernel */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool taken[MAX_SLOTS];
static struct hkr_control *control;
static uint64_t *words;
static int memfd = -1;

#define count(field) __atomic_fetch_add(&fake.field, 1, __ATOMIC_RELAXED)

/* ---- what the kernel does on its own -------------------------------------- */

static void punch(size_t first, size_t nr)
{
	fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (off_t)(first << HKR_SLOT_SHIFT),
		  (off_t)(nr << HKR_SLOT_SHIFT));
}

bool fake_reclaim_begin(size_t slot)
{
	uint64_t old = __atomic_load_n(&words[slot], __ATOMIC_RELAXED);

	if (HKR_WORD_STATE(old) != HKR_WORD_IDLE)
		return false;
	return __atomic_compare_exchange_n(&words[slot], &old,
			old | HKR_WORD_RECLAIM, false, __ATOMIC_ACQ_REL,
			__ATOMIC_RELAXED);
}

static uint64_t next_gen(uint64_t word)
{
	return (HKR_WORD_GEN(word) + 1) & 0xffffffff;
}

void fake_reclaim_end(size_t slot, bool take)
{
	uint64_t old = __atomic_load_n(&words[slot], __ATOMIC_RELAXED);
	uint64_t word;

	if (!take) {
		word = (old & ~HKR_WORD_STATE_MASK) | HKR_WORD_IDLE;
		__atomic_store_n(&words[slot], word, __ATOMIC_RELEASE);
		return;
	}
	punch(slot, 1);
	pthread_mutex_lock(&lock);
	word = HKR_WORD_MAKE(HKR_WORD_EMPTY, 0, next_gen(old));
	taken[slot] = false;
	__atomic_store_n(&words[slot], word, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
}

size_t fake_reclaim(size_t first, size_t nr)
{
	size_t got = 0;

	for (size_t i = first; i < first + nr; i++) {
		if (!fake_reclaim_begin(i))
			continue;
		fake_reclaim_end(i, true);
		got++;
	}
	return got;
}

bool fake_is_taken(size_t slot)
{
	bool is;

	pthread_mutex_lock(&lock);
	is = taken[slot];
	pthread_mutex_unlock(&lock);
	return is;
}

uint64_t fake_word(size_t slot)
{
	return __atomic_load_n(&words[slot], __ATOMIC_RELAXED);
}

void fake_set_epoch(uint32_t epoch)
{
	__atomic_store_n(&control->epoch, epoch, __ATOMIC_RELAXED);
}

void fake_set_clean(uint64_t folios)
{
	__atomic_store_n(&control->pool_clean, folios, __ATOMIC_RELAXED);
}

bool fake_has_memory(size_t slot)
{
	off_t at = (off_t)(slot << HKR_SLOT_SHIFT);
	off_t data = lseek(memfd, at, SEEK_DATA);

	return data >= 0 && data < at + (off_t)HKR_SLOT_SIZE;
}

/* ---- the system calls ----------------------------------------------------- */

#define WRAP(ret, name, params)		\
	ret __real_##name params;	\
	ret __wrap_##name params;	\
	ret __wrap_##name params

WRAP(int, hkm_sys_region_access, (void))
{
	return fake.enabled ? fake.open_error :
			      __real_hkm_sys_region_access();
}

WRAP(int, hkm_sys_region_open, (void))
{
	size_t room = 4096 + MAX_SLOTS * sizeof(*words);

	if (!fake.enabled)
		return __real_hkm_sys_region_open();
	count(opens);
	if (fake.open_error)
		return fake.open_error;
	memfd = memfd_create("fakedev", MFD_CLOEXEC);
	if (ftruncate(memfd, (off_t)(HKR_OFF_CONTROL + room)))
		abort();
	control = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, memfd,
		       (off_t)HKR_OFF_CONTROL);
	if (control == MAP_FAILED)
		abort();
	words = (uint64_t *)((char *)control + 4096);
	control->magic = HKR_CONTROL_MAGIC;
	memset(taken, 0, sizeof(taken));
	return dup(memfd);
}

WRAP(int, hkm_sys_region_info, (int fd, struct hkr_info *info))
{
	if (!fake.enabled)
		return __real_hkm_sys_region_info(fd, info);
	info->abi_version = fake.abi_version;
	info->features = fake.features;
	info->slot_size = HKR_SLOT_SIZE;
	info->max_slots = fake.max_slots;
	return 0;
}

WRAP(int, hkm_sys_region_setup, (int fd, struct hkr_setup *setup))
{
	if (!fake.enabled)
		return __real_hkm_sys_region_setup(fd, setup);
	if (fake.setup_error)
		return fake.setup_error;
	if (!setup->nr_slots || setup->nr_slots > fake.max_slots)
		return -EINVAL;
	fake.nr_slots = setup->nr_slots;
	setup->arena_offset = HKR_OFF_ARENA;
	setup->arena_size = setup->nr_slots << HKR_SLOT_SHIFT;
	setup->control_offset = HKR_OFF_CONTROL;
	setup->control_size = 4096 + MAX_SLOTS * sizeof(*words);
	setup->words_offset = 4096;
	return 0;
}

/*
 * The library gets the mapping that is used here, because ThreadSanitizer takes
 * a word that is reached at two addresses for two words.
 */
WRAP(void *, hkm_sys_mmap, (void *addr, size_t size, int prot, int flags,
			    int fd, uint64_t offset))
{
	char *map;

	if (fake.enabled && offset == HKR_OFF_CONTROL)
		return control;
	if (fake.refuse_arena && fd >= 0) {
		munmap(addr, size);
		return (void *)(intptr_t)-ENODEV;
	}
	if (fake.misalign && !addr) {
		map = __real_hkm_sys_mmap(NULL, size + 2 * HKR_SLOT_SIZE, prot,
					  flags, fd, offset);
		map += -(uintptr_t)map % HKR_SLOT_SIZE;
		return map + 4096;
	}
	return __real_hkm_sys_mmap(addr, size, prot, flags, fd, offset);
}

static bool is_free_run(size_t first, size_t nr)
{
	for (size_t i = first; i < first + nr; i++)
		if (taken[i])
			return false;
	return true;
}

static int find_run(struct hkr_handout_req *req)
{
	size_t nr_free = 0;

	if (!(req->flags & HKR_HANDOUT_AT)) {
		for (size_t i = 0; i + req->nr_slots <= fake.nr_slots; i++) {
			if (!is_free_run(i, req->nr_slots))
				continue;
			req->first = i;
			return 0;
		}
		return -ENOSPC;
	}
	for (size_t i = req->first; i < req->first + req->nr_slots; i++)
		nr_free += !taken[i];
	return nr_free ? 0 : -EEXIST;
}

static int handout_one(struct hkr_handout_req *req)
{
	int err = fake.handout_error;

	pthread_mutex_lock(&lock);
	if (!err)
		err = find_run(req);
	for (size_t i = req->first; !err && i < req->first + req->nr_slots; i++) {
		uint64_t old = fake_word(i);

		if (taken[i]) {	/* AT: an IDLE word becomes BUSY */
			if (HKR_WORD_STATE(old) == HKR_WORD_IDLE)
				__atomic_compare_exchange_n(&words[i], &old,
					(old & ~HKR_WORD_STATE_MASK) |
					HKR_WORD_BUSY, false, __ATOMIC_ACQ_REL,
					__ATOMIC_RELAXED);
			continue;
		}
		taken[i] = true;
		req->nr_zeroed++;
		__atomic_store_n(&words[i], HKR_WORD_MAKE(HKR_WORD_BUSY, 0,
				 next_gen(old)), __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
	return err;
}

WRAP(int, hkm_sys_region_handout, (int fd, struct hkr_handout *handout))
{
	struct hkr_handout_req *req;
	int done = 0;

	if (!fake.enabled)
		return __real_hkm_sys_region_handout(fd, handout);
	req = (void *)(uintptr_t)handout->reqs;
	__atomic_store_n(&fake.last_flags, req->flags, __ATOMIC_RELAXED);
	if (!(req->flags & HKR_HANDOUT_AT)) {
		count(handouts);
	} else {
		count(at_handouts);
		if (fake.before_at)
			fake.before_at();
	}
	if (fake.handout_call_error)
		return fake.handout_call_error;
	for (uint32_t i = 0; i < handout->nr; i++) {
		req[i].result = handout_one(&req[i]);
		done += !req[i].result;
	}
	return done;
}

static int check_taken(const struct hkr_range *range)
{
	if (range->first + range->nr_slots > fake.nr_slots)
		return -ERANGE;
	if (range->first + range->nr_slots == fake.refuse_range)
		return -EBUSY;
	for (size_t i = range->first; i < range->first + range->nr_slots; i++)
		if (!taken[i])
			return -ENXIO;
	return 0;
}

static void recycle_one(const struct hkr_recycle *recycle,
			struct hkr_range *range)
{
	pthread_mutex_lock(&lock);
	range->result = check_taken(range);
	if (!range->result)
		punch(range->first, range->nr_slots);
	for (size_t i = range->first;
	     !range->result && recycle->mode == HKR_RECYCLE_DROP &&
	     i < range->first + range->nr_slots; i++) {
		taken[i] = false;
		__atomic_store_n(&words[i], HKR_WORD_MAKE(HKR_WORD_EMPTY, 0,
				 next_gen(fake_word(i))), __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
}

/* the file has the memory, so it moves by copying; the words as in the kernel */
static void move_one(struct hkr_range *range)
{
	static char buffer[HKR_SLOT_SIZE];

	pthread_mutex_lock(&lock);
	range->result = check_taken(range);
	for (size_t i = 0; !range->result && i < range->nr_slots; i++) {
		size_t from = range->first + i, to = range->to + i;
		off_t at = (off_t)(to << HKR_SLOT_SHIFT);

		if (pread(memfd, buffer, sizeof(buffer),
			  (off_t)(from << HKR_SLOT_SHIFT)) != sizeof(buffer) ||
		    pwrite(memfd, buffer, sizeof(buffer), at) != sizeof(buffer))
			abort();
		punch(from, 1);
		taken[from] = false;
		__atomic_store_n(&words[from], HKR_WORD_MAKE(HKR_WORD_EMPTY, 0,
				 next_gen(fake_word(from))), __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
}

WRAP(int, hkm_sys_region_recycle, (int fd, struct hkr_recycle *recycle))
{
	struct hkr_range *range;
	int done = 0;

	if (!fake.enabled)
		return __real_hkm_sys_region_recycle(fd, recycle);
	if (fake.recycle_error)
		return fake.recycle_error;
	range = (void *)(uintptr_t)recycle->ranges;
	if (recycle->mode == HKR_RECYCLE_MOVE) {
		count(moves);
		move_one(range);
		if (fake.after_move)
			fake.after_move();
		return !range->result;
	}
	if (recycle->mode == HKR_RECYCLE_DROP)
		count(drops);
	else
		count(fresh);
	for (uint32_t i = 0; i < recycle->nr; i++) {
		recycle_one(recycle, &range[i]);
		done += !range[i].result;
	}
	return done;
}

WRAP(void, hkm_sys_name, (void *addr, size_t size, const char *name))
{
	__real_hkm_sys_name(addr, size, name);
	if (strcmp(name, "hakmem"))
		return;
	count(names);
	fake.named = addr;
	fake.named_size = size;
}

WRAP(void *, hkm_sys_table, (size_t size))
{
	count(tables);
	if (fake.refuse_tables && size >= fake.refuse_tables)
		return NULL;
	return __real_hkm_sys_table(size);
}

/* Numbers in the order in which callers come. */
WRAP(unsigned int, hkm_site, (const void *caller))
{
	static const void *callers[HKM_RUN_SITES];
	unsigned int site = __real_hkm_site(caller), i;

	if (!site || !fake.tell_sites_apart)
		return site;
	for (i = 0; i < HKM_RUN_SITES - 1; i++) {
		const void *seen = NULL;

		if (__atomic_compare_exchange_n(&callers[i], &seen, caller,
						false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED) ||
		    seen == caller)
			break;
	}
	return i + 1;
}

WRAP(bool, hkm_sys_is_one_mapping, (void *addr, size_t size))
{
	return !(fake.enabled && fake.refuse_move) &&
	       __real_hkm_sys_is_one_mapping(addr, size);
}

/*
 * Nobody may ask for several mappings at once: what then becomes of them depends on
 * the kernel. One that fails late has unmapped what was at @to.
 */
WRAP(int, hkm_sys_mremap_away, (void *addr, size_t size, void *to))
{
	int n;

	if (!__real_hkm_sys_is_one_mapping(addr, size))
		abort();
	if (!fake.enabled)
		return __real_hkm_sys_mremap_away(addr, size, to);
	n = count(mremaps);
	if (fake.slow_moves)
		usleep(fake.slow_moves);
	if (n >= 64 || !(fake.failing_moves >> n & 1))
		return __real_hkm_sys_mremap_away(addr, size, to);
	munmap(to, size);
	return -ENOMEM;
}

/* The first trigger is the one that needs privilege: its window is shorter. */
WRAP(int, hkm_sys_open_trigger, (const char *trigger))
{
	int window;

	if (!fake.enabled)
		return __real_hkm_sys_open_trigger(trigger);
	count(triggers);
	if (sscanf(trigger, "some %*d %d", &window) != 1)
		return -EINVAL;
	if (window % 2000000)
		return fake.root_trigger_error ? fake.root_trigger_error :
						 memfd_create("psi", 0);
	return fake.any_trigger_error ? fake.any_trigger_error :
					memfd_create("psi", 0);
}

WRAP(int, hkm_sys_wait_trigger, (int fd, int ms))
{
	if (!fake.enabled)
		return __real_hkm_sys_wait_trigger(fd, ms);
	count(waits);
	if (__atomic_load_n(&fake.trigger_lost, __ATOMIC_ACQUIRE))
		return -EBADF;
	if (fake.in_wait)
		fake.in_wait(fd);
	usleep(1000);
	return __atomic_exchange_n(&fake.pressure, false, __ATOMIC_ACQ_REL);
}

WRAP(uint64_t, hkm_sys_clock_ns, (void))
{
	return fake.clock_ns ? fake.clock_ns() : __real_hkm_sys_clock_ns();
}

WRAP(uint64_t, hkm_sys_minor_faults, (void))
{
	return fake.minor_faults ? fake.minor_faults() :
				   __real_hkm_sys_minor_faults();
}
