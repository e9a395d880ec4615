// SPDX-License-Identifier: GPL-2.0
/*
 * charge=always and charge=never: who is charged to a memory cgroup then.
 * settings gives this program the one; module.sh runs it with the other.
 */
#include "group.h"
#include "harness.h"

#define G	"/hkr"

static bool always(void)
{
	char mode[16] = "";
	int fd = open("/sys/module/hakmem_region/parameters/charge",
		      O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, mode, sizeof(mode) - 1) <= 0)
		return false;
	close(fd);
	return !strcmp(mode, "always\n");
}

static long charged_with(long limit)
{
	struct arena a;
	long ret;

	if (group_make(G, limit) || group_enter(G))
		return -1;
	ret = arena_open(&a, 8);
	if (!ret)
		ret = handout(&a, 4, COMMIT);
	if (!ret && a.setup.charged != (sysfs("charged_folios") == 4))
		ret = -2;
	if (!ret)
		ret = a.setup.charged;
	arena_close(&a);
	group_enter("");
	group_remove(G);
	return ret;
}

TEST(charges_as_the_parameter_says)
{
	ASSERT_EQ(0, group_delegate(""));
	EXPECT_EQ(always(), charged_with(0));
	EXPECT_EQ(always(), charged_with(100));
}

TEST(root_group_is_never_charged)
{
	struct arena a;

	ASSERT_EQ(0, arena_open(&a, 8));
	EXPECT_EQ(0, a.setup.charged);
	EXPECT_EQ(0, handout(&a, 4, COMMIT));
	EXPECT_EQ(0, sysfs("charged_folios"));
	arena_close(&a);
}

TEST_HARNESS_MAIN
