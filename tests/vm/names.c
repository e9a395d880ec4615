// SPDX-License-Identifier: GPL-2.0
/*
 * What /proc/self/smaps calls the library's anonymous memory, so that it says whose
 * it is: only the debug kernel has names, Debian's are built without. settings: no
 * module.
 */
#include "hkr_test.h"
#include <hakmem.h>
#include <sys/prctl.h>
#include "harness.h"

#define MIB	(1UL << 20)
#define OURS	"[anon:hakmem]"

/* the line of what is not so, or 0 */
#define CHECK(cond)	do { if (!(cond)) return __LINE__ & 0xff; } while (0)

#ifndef PR_SET_VMA
#define PR_SET_VMA		0x53564d41
#define PR_SET_VMA_ANON_NAME	0
#endif

/* resident, of all mappings that smaps calls so; -1: there is none */
static long named_kb(const char *name)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false;
	long kb = -1, rss;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			line[strcspn(line, "\n")] = 0;
			inside = strlen(line) > strlen(name) &&
				 !strcmp(line + strlen(line) - strlen(name), name);
			if (inside && kb < 0)
				kb = 0;
		} else if (inside && sscanf(line, "Rss: %ld", &rss) == 1) {
			kb += rss;
		}
	}
	if (f)
		fclose(f);
	return kb;
}

static bool has_names(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED && !prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p,
					 PAGE, "hkr-test") &&
	       named_kb("[anon:hkr-test]") == 0;
}

/* @named: whether the library was left to do so */
static int is_seen_in_smaps(void *named)
{
	struct hkm_config cfg = {
		.source = HKM_SOURCE_ANON, .policy = HKM_POLICY_DONTNEED,
	};
	char *p, *q;

	setenv("HAKMEM_NAME", named ? "1" : "0", 1);
	CHECK(named_kb(OURS) == -1);
	CHECK(!hkm_init(&cfg));
	CHECK(named_kb(OURS) == (named ? 0 : -1));
	p = hkm_malloc(6 * MIB);
	q = hkm_malloc(20 * MIB);
	CHECK(p && q);
	memset(p, 1, 6 * MIB);
	memset(q, 1, 20 * MIB);
	if (!named) {
		CHECK(named_kb(OURS) == -1);
		return 0;
	}
	/* what is not asked for may be there too: the rest of a huge page */
	CHECK(named_kb(OURS) >= 26 * 1024);
	CHECK(named_kb(OURS) <= 30 * 1024);
	hkm_free(q);
	CHECK(named_kb(OURS) >= 6 * 1024);
	CHECK(named_kb(OURS) <= 10 * 1024);
	hkm_free(p);
	CHECK(named_kb(OURS) == 0);
	return 0;
}

TEST(anonymous_whales_have_their_name_in_smaps)
{
	EXPECT_EQ(0, in_child(is_seen_in_smaps, "named"));
}

TEST(or_none_if_told)
{
	ASSERT_TRUE(has_names());
	EXPECT_EQ(0, in_child(is_seen_in_smaps, NULL));
}

TEST_HARNESS_MAIN
