// SPDX-License-Identifier: MIT
/*
 * Who has which part of the window.
 *
 * The device's arena begins at the window's first slot and is at most half of
 * it; anonymous memory has the rest, or all where there is no device. The border
 * is fixed before the first whale of either is made, and so is what is open: a
 * source once open stays so for the rest of the process.
 */
#include <errno.h>
#include <string.h>

#include "env.h"
#include "heap.h"
#include "lock.h"
#include "machine.h"
#include "source.h"
#include "sys.h"

struct hkm_backend *hkm_source_low, *hkm_source_high;
size_t hkm_source_border;

static const char *const auto_on_off[] = { "auto", "on", "off", NULL };

/* Atomic, each for itself. */
static enum hkm_policy policy;	/* of the anonymous source when it is opened */
static bool use_region;
static enum hkm_thp thp;	/* as policy, and so are the next two */
static enum hkm_switch move;
static bool guard;
static size_t exchange;		/* bytes; 0: what each source thinks best */
static int not_there;		/* why the device is of no use, or 0; since the start */

static void set_exchange(struct hkm_backend *be)
{
	if (be)
		write_once(&be->exchange_from,
			   read_once(&exchange) ?: be->ops->exchange_from);
}

static unsigned int anon_flags(void)
{
	unsigned int flags = read_once(&guard) ? HKM_ANON_GUARD : 0;
	int how = (int)read_once(&thp) - HKM_THP_AUTO;

	if (how < 0)
		how = hkm_env_choice(HAKMEM_THP, auto_on_off, 0);
	if (!hkm_machine_learn().strict)
		flags |= HKM_ANON_STAY;
	if (read_once(&move) == HKM_SWITCH_ON)
		flags |= HKM_ANON_MOVE;
	else if (read_once(&move) == HKM_SWITCH_OFF)
		flags |= HKM_ANON_NO_MOVE;
	switch (how) {
	case 0:
		return flags | (hkm_machine_learn().huge ? HKM_ANON_THP : 0);
	case 1:
		return flags | HKM_ANON_THP;
	default:
		return flags | HKM_ANON_NO_THP;
	}
}

bool hkm_source_has_guards(void)
{
	return read_once(&guard);
}

static void open_anon(void)
{
	size_t nr = (hkm_window.size >> HKM_SLOT_SHIFT) - hkm_source_border;
	struct hkm_backend *be;

	if (hkm_anon_open(hkm_slot_address(hkm_source_border), nr,
			   read_once(&policy), anon_flags(), &be))
		return;
	set_exchange(be);
	store_release(&hkm_source_high, be);
}

struct hkm_backend *hkm_source_anon(void)
{
	struct hkm_backend *be = load_acquire(&hkm_source_high);

	if (likely(be))
		return be;
	hkm_lock(&hkm_setup_lock);
	if (!hkm_source_high)
		open_anon();
	be = hkm_source_high;
	hkm_unlock(&hkm_setup_lock);
	return be;
}

struct hkm_backend *hkm_source_region(void)
{
	return read_once(&use_region) ? load_acquire(&hkm_source_low) : NULL;
}

/* Limits and shortages pass; any other error will be there next time, too. */
void hkm_source_failed(int err)
{
	static bool told;

	if (err == -ENOMEM || err == -EDQUOT || err == -ENOSPC || err == -EPERM)
		return;
	if (__atomic_exchange_n(&told, true, __ATOMIC_RELAXED) || !hkm_verbose())
		return;
	hkm_message(HKM_DEVICE ": lost (%s); new whales are anonymous memory, live ones are not affected",
		    strerrordesc_np(-err));
}

static const char *device_advice(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return "load the module with modprobe hakmem_region";
	case -EACCES:
	case -EPERM:
		return "add this user to the group hakmem";
	case -EPROTONOSUPPORT:
		return "module and library are of different versions: update both";
	case -ENOSYS:
		return "a child of fork() could not read what its parent had: update the module";
	case -EOPNOTSUPP:
		return "huge pages are disabled for this process by prctl(), or the module is to charge memory (charge=always) that it cannot";
	case -EBUSY:
		return "this process began without it";
	default:
		return "see the kernel's log";
	}
}

static int open_arena(uint64_t features)
{
	size_t half = hkm_window.size >> HKM_SLOT_SHIFT >> 1;
	struct hkm_backend *be;
	int err;

	if (hkm_source_high)
		return -EBUSY;
	err = hkm_region_open((void *)hkm_window.base, half, features, &be);
	if (err)
		return err;
	hkm_source_border = be->nr_slots;
	store_release(&hkm_source_low, be);
	return 0;
}

void hkm_source_look(void)
{
	write_once(&not_there, hkm_sys_region_access());
}

static int open_region(enum hkm_source source)
{
	static bool told;
	int err;

	if (hkm_source_low)
		return 0;
	if (source == HKM_SOURCE_REGION)
		return open_arena(0);
	err = read_once(&not_there) ?: open_arena(hkm_front.features);
	if (err && !told && hkm_verbose())
		hkm_message(HKM_DEVICE ": %s; using anonymous memory, which the kernel cannot take back while it is idle: %s",
			    strerrordesc_np(-err), device_advice(err));
	told = true;
	return err;
}

int hkm_source_open(const struct hkm_config *cfg)
{
	int err = hkm_window_open(cfg->name == HKM_SWITCH_ON);

	if (err)
		return err;
	write_once(&policy, cfg->policy);
	write_once(&exchange, cfg->exchange);
	write_once(&thp, cfg->thp);
	write_once(&move, cfg->move);
	if (!hkm_source_high)
		write_once(&guard, cfg->guard == HKM_SWITCH_ON);
	if (hkm_source_high)
		hkm_anon_set_policy(hkm_source_high, cfg->policy);

	err = -ENODEV;
	if (cfg->source != HKM_SOURCE_ANON && !read_once(&guard))
		err = open_region(cfg->source);
	write_once(&use_region, !err);
	set_exchange(hkm_source_low);
	set_exchange(hkm_source_high);
	return cfg->source == HKM_SOURCE_REGION ? err : 0;
}
