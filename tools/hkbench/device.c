// SPDX-License-Identifier: MIT
/*
 * The shared state that lanes are measured against: the device's pool and its
 * zeroing thread, seen from outside, and the kernel's huge page pool.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hakmem.h>
#include <linux/hakmem_region.h>

#include "hkbench.h"

#define SYSFS		"/sys/class/misc/hakmem_region/"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
#define MAX_NODES	64
#define QUIET_NS	40000000ULL

/* ---- the device ---- */

static int device_fd = -ENODEV;		/* for INFO only: never set up */
static uint64_t features;

static int read_info(struct hkr_info *info, struct hkr_node_info *nodes)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	if (nodes) {
		info->nr_nodes = MAX_NODES;
		info->nodes = (uintptr_t)nodes;
	}
	return hkm_sys_region_info(device_fd, info);
}

void hb_device_init(void)
{
	struct hkr_info info;
	int err;

	device_fd = hkm_sys_region_open();
	if (device_fd < 0)
		return;
	err = read_info(&info, NULL);
	if (err < 0) {
		close(device_fd);
		device_fd = err;
		return;
	}
	features = info.features;
}

bool hb_device_present(void)
{
	return device_fd >= 0;
}

const char *hb_device_why_not(void)
{
	static char why[80];

	if (device_fd == -ENOENT || device_fd == -ENODEV ||
	    device_fd == -ENXIO)
		return "no /dev/hakmem_region: load the module";
	snprintf(why, sizeof(why), "/dev/hakmem_region: %s",
		 strerror(-device_fd));
	return why;
}

bool hb_device_reclaims(void)
{
	return features & HKR_FEAT_RECLAIM;
}

bool hb_device_pool(uint64_t *clean, uint64_t *dirty)
{
	struct hkr_node_info nodes[MAX_NODES] = { 0 };
	struct hkr_info info;

	*clean = *dirty = 0;
	if (device_fd < 0 || read_info(&info, nodes) < 0)
		return false;
	for (uint32_t i = 0; i < info.nr_nodes && i < MAX_NODES; i++) {
		*clean += nodes[i].clean;
		*dirty += nodes[i].dirty;
	}
	return true;
}

/*
 * A folio that the thread is zeroing just now is in neither list. So either as
 * many are clean as were at the last quiet moment, or, where some are in use
 * now, nothing has moved for much longer than one folio takes.
 */
bool hb_device_wait_clean(unsigned int timeout_ms)
{
	static uint64_t quiet_clean = UINT64_MAX;
	uint64_t now = hb_now_ns(), end = now + timeout_ms * 1000000ULL;
	uint64_t clean, dirty, before = UINT64_MAX, since = now;

	for (; now < end; now = hb_now_ns()) {
		if (!hb_device_pool(&clean, &dirty))
			return false;
		if (dirty || clean != before)
			since = now;
		before = clean;
		if (!dirty && (clean >= quiet_clean || now - since > QUIET_NS)) {
			quiet_clean = clean;
			return true;
		}
		hb_sleep_ns(dirty > 4 ? 8000000 : 2000000);
	}
	return false;
}

uint64_t hb_device_depth(void)
{
	uint64_t clean, dirty;

	hb_device_wait_clean(5000);
	return hb_device_pool(&clean, &dirty) ? clean : 0;
}

static bool read_number(const char *path, uint64_t *value)
{
	FILE *f = fopen(path, "re");
	unsigned long long v;
	bool ok;

	if (!f)
		return false;
	ok = fscanf(f, "%llu", &v) == 1;
	fclose(f);
	if (ok)
		*value = v;
	return ok;
}

struct hb_zeroing hb_device_zeroing(void)
{
	struct hb_zeroing z = { 0 };

	z.ok = device_fd >= 0 &&
	       read_number(SYSFS "zero_background_ns", &z.ns) &&
	       read_number(SYSFS "zeroed_background_bytes", &z.bytes);
	return z;
}

/* ---- huge pages: borrowed from the system, and given back ---- */

static uint64_t hugepages_before;
static bool hugepages_taken;
static pid_t hugepages_owner;

static bool write_number(const char *path, uint64_t value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	/* no stdio: a signal handler comes here too */
	if (fd < 0)
		return false;
	ok = dprintf(fd, "%llu\n", (unsigned long long)value) > 0;
	return close(fd) == 0 && ok;
}

static uint64_t free_hugepages(void)
{
	uint64_t n = 0;

	read_number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
		    &n);
	return n;
}

void hb_hugetlb_restore(void)
{
	if (hugepages_taken && hugepages_owner == getpid())
		write_number(NR_HUGEPAGES, hugepages_before);
	hugepages_taken = false;
}

bool hb_hugetlb_reserve(size_t bytes)
{
	uint64_t want = (bytes + HB_HUGE - 1) / HB_HUGE;

	if (free_hugepages() >= want)
		return true;
	if (!hugepages_taken) {
		if (!read_number(NR_HUGEPAGES, &hugepages_before))
			return false;
		hugepages_owner = getpid();
		hugepages_taken = true;
		atexit(hb_hugetlb_restore);
	}
	if (write_number(NR_HUGEPAGES, hugepages_before + want) &&
	    free_hugepages() >= want)
		return true;
	hb_hugetlb_restore();
	return false;
}

uint64_t hb_mem_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}
