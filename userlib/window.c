// SPDX-License-Identifier: MIT
/*
 * One window of addresses, reserved when the first whale is asked for.
 *
 * All whales of the process are inside it, whatever their memory is: the
 * device's arena is mapped into its low half, anonymous runs are opened in the
 * rest. So "is this pointer ours" is one subtraction and one comparison, which
 * is all that free() of somebody else's pointer costs.
 *
 * A reservation is PROT_NONE and private: no memory, nothing that the kernel
 * counts as committed, also where overcommit is off. It does count against
 * RLIMIT_AS, of which the library takes no more than half (of what is left of it, if it
 * was set after we looked), and an mlockall() of what is to come counts it against
 * RLIMIT_MEMLOCK: hence the halving. The
 * window stays for the rest of the process, because live whales are in it and
 * its addresses mean "ours" for ever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "cache.h"
#include "env.h"
#include "heap.h"
#include "machine.h"
#include "sys.h"
#include "window.h"

struct hkm_window hkm_window;

size_t hkm_default_slots(void)
{
	struct hkm_machine m = hkm_machine_learn();
	uint64_t space = m.address_space >> HKM_SLOT_SHIFT;
	uint64_t ram = m.ram + HKM_SLOT_SIZE - 1;
	uint64_t nr = (ram >> HKM_SLOT_SHIFT) * 2;

	if (nr > space / 2)
		nr = space / 2;
	if (nr > HKM_RUN_MAX)
		nr = HKM_RUN_MAX;
	return nr ? (size_t)nr : 1;
}

/* What is in front of the first slot and behind the last one is given back, but a page. */
int hkm_window_reserve(size_t nr_slots, char **base)
{
	size_t size = nr_slots << HKM_SLOT_SHIFT;
	size_t front, kept;
	char *map;

	if (!nr_slots || nr_slots >= (size_t)PTRDIFF_MAX >> HKM_SLOT_SHIFT)
		return -EINVAL;
	map = hkm_sys_mmap(NULL, size + HKM_SLOT_SIZE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (HKM_SYS_FAILED(map))
		return -HKM_SYS_ERRNO(map);

	front = -(uintptr_t)map % HKM_SLOT_SIZE;
	if (front)
		hkm_sys_munmap(map, front);
	kept = front + size + 4096;
	if (kept < size + HKM_SLOT_SIZE)
		hkm_sys_munmap(map + kept, size + HKM_SLOT_SIZE - kept);
	*base = map + front;
	return 0;
}

int hkm_window_shut(void *at, size_t size)
{
	void *map = hkm_sys_mmap(at, size, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				 MAP_FIXED, -1, 0);

	return HKM_SYS_FAILED(map) ? -HKM_SYS_ERRNO(map) : 0;
}

void hkm_window_unreserve(void *base, size_t nr_slots)
{
	hkm_sys_munmap(base, (nr_slots << HKM_SLOT_SHIFT) + 4096);
}

static void *map_open(void *at, size_t size, int flags)
{
	return hkm_sys_mmap(at, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags,
			    -1, 0);
}

/*
 * A limit may have been lowered since below what there is already (RLIMIT_AS,
 * RLIMIT_DATA). What it allows a page of it allows a move, which adds to nothing;
 * other threads only get what it allows them.
 */
bool hkm_window_may_move(void)
{
	void *page = map_open(NULL, 4096, 0);

	if (HKM_SYS_FAILED(page))
		return false;
	hkm_sys_munmap(page, 4096);
	return true;
}

/*
 * EEXIST: nothing was unmapped. A kernel that does not know NOREPLACE takes the
 * address for a wish. What is left unmapped would be taken for ours, whoever has it.
 */
void hkm_window_mend(void *at, size_t size)
{
	void *map = map_open(at, size, MAP_FIXED_NOREPLACE);

	if (HKM_SYS_FAILED(map) && HKM_SYS_ERRNO(map) != EEXIST) {
		hkm_message("addresses of a block that was to move are lost: %s",
			    strerrordesc_np(HKM_SYS_ERRNO(map)));
		abort();
	}
	if (!HKM_SYS_FAILED(map) && map != at)
		hkm_sys_munmap(map, size);
}

int hkm_window_open(bool named)
{
	size_t most = hkm_default_slots(), nr_slots = most;
	char *base;
	int err;

	if (hkm_window.size)
		return 0;
	do {
		err = hkm_window_reserve(nr_slots, &base);
		if (!err)
			break;
		nr_slots /= 2;
	} while ((err == -ENOMEM || err == -EAGAIN) && nr_slots);
	/* There is a limit that was not known; all of what is left would be too much. */
	if (!err && nr_slots < most && nr_slots > 1) {
		hkm_window_unreserve(base, nr_slots);
		nr_slots /= 2;
		err = hkm_window_reserve(nr_slots, &base);
	}
	if (err)
		return err;

	if (named)
		hkm_sys_name(base, nr_slots << HKM_SLOT_SHIFT, "hakmem");
	hkm_window.base = (uintptr_t)base;
	/* Release: pairs with the acquire in hkm_window_has(). */
	store_release(&hkm_window.size, nr_slots << HKM_SLOT_SHIFT);
	return 0;
}
