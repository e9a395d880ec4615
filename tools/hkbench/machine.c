// SPDX-License-Identifier: MIT
/* What a table was measured on: without it no figure can be compared. */

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/klog.h>
#include <sys/vfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "hkbench.h"

static void read_accel(struct hb_machine *m)
{
	unsigned int a, b, c, d, leaf[4];
	char sign[13] = "";

	strcpy(m->accel, "bare metal");
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1U << 31)))
		return;
	__cpuid(0x40000000, leaf[0], leaf[1], leaf[2], leaf[3]);
	memcpy(sign, &leaf[1], 12);
	sign[strcspn(sign, " ")] = '\0';
	if (!strcmp(sign, "TCGTCGTCGTCG"))
		strcpy(m->accel, "TCG");
	else if (!strcmp(sign, "KVMKVMKVM"))
		strcpy(m->accel, "KVM");
	else
		snprintf(m->accel, sizeof(m->accel), "%s",
			 sign[0] ? sign : "hypervisor");
}

/* the kernel then clears and copies memory by bytes, which real processors do at full speed */
static bool has_erms(void)
{
	unsigned int a, b = 0, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1U << 9));
}

static void read_cpu(struct hb_machine *m)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	strcpy(m->cpu, "unknown");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "model name", 10) || !strchr(line, ':'))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(m->cpu, sizeof(m->cpu), "%.79s", strchr(line, ':') + 2);
		break;
	}
	fclose(f);
}

static void read_thp(struct hb_machine *m)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[64], *from, *to;

	strcpy(m->thp, "none");
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && (from = strchr(line, '[')) &&
	    (to = strchr(from, ']'))) {
		*to = '\0';
		snprintf(m->thp, sizeof(m->thp), "%.15s", from + 1);
	}
	fclose(f);
}

/* in the kernel's own words at boot; where those are gone, its command line */
static void read_init_on_alloc(struct hb_machine *m)
{
	static char log[1 << 20];
	char *said;
	FILE *f;
	int n;

	strcpy(m->init_on_alloc, "unknown");
	n = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);
	if (n > 0) {
		log[n] = '\0';
		said = strstr(log, "heap alloc:");
		if (said) {
			strcpy(m->init_on_alloc,
			       strncmp(said + 11, "on", 2) ? "off" : "on");
			return;
		}
	}
	f = fopen("/proc/cmdline", "re");
	if (!f)
		return;
	if (fgets(log, sizeof(log), f) && (said = strstr(log, "init_on_alloc=")))
		strcpy(m->init_on_alloc, said[14] == '1' ? "on" : "off");
	fclose(f);
}

bool hb_throwaway_guest(void)
{
	struct statfs fs;

	return strcmp(hb_book.machine.accel, "bare metal") &&
	       !statfs("/", &fs) &&
	       (fs.f_type == RAMFS_MAGIC || fs.f_type == TMPFS_MAGIC);
}

void hb_machine_read(struct hb_machine *m)
{
	struct utsname u;

	memset(m, 0, sizeof(*m));
	uname(&u);
	snprintf(m->kernel, sizeof(m->kernel), "%.79s", u.release);
	read_accel(m);
	m->erms = has_erms();
	read_cpu(m);
	read_thp(m);
	read_init_on_alloc(m);
	m->cpus = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	m->memory = (uint64_t)sysconf(_SC_PHYS_PAGES) *
		    (uint64_t)sysconf(_SC_PAGESIZE);
	m->tsc_mhz = 1000.0 / hb_ns_per_cycle;
}
