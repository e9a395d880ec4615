// SPDX-License-Identifier: GPL-2.0
/* Unloading: refused while a file is open, clean while a pin lives on. */
#include "hkr_test.h"
#include <sys/syscall.h>
#include <sys/uio.h>
#include "harness.h"

#define MODULE	"modules/plain.ko"

static long unload(void)
{
	return syscall(SYS_delete_module, "hakmem_region", O_NONBLOCK) ?
	       -errno : 0;
}

/* io_uring may keep the file a little longer than the command that it ran */
static long unload_at_last(void)
{
	long ret = unload();
	int i;

	for (i = 0; hkr_by_uring() && ret == -EWOULDBLOCK && i < 2000; i++) {
		usleep(10000);
		ret = unload();
	}
	return ret;
}

static long load(void)
{
	int fd = open(MODULE, O_RDONLY | O_CLOEXEC);
	long ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "reserve_mb=16", 0) ? -errno : 0;
	close(fd);
	return ret;
}

TEST(is_refused_while_a_file_or_a_mapping_is_there)
{
	struct arena a;
	int fd;

	fd = open(HKR_DEVICE, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(fd);
	ASSERT_EQ(0, arena_open(&a, 4));
	ASSERT_EQ(0, handout(&a, 4, COMMIT));
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(a.fd);
	a.fd = -1;
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_EQ(0, touch(a.base, true));
	arena_close(&a);
}

TEST(leaves_an_orphan_to_its_last_user)
{
	struct iovec iov;
	int pipes[2];
	char buf[64];
	struct arena a;
	size_t i;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, arena_open(&a, 4));
	ASSERT_EQ(0, handout(&a, 4, COMMIT));
	memset(a.base, 0x5a, SLOT);
	iov = (struct iovec){ a.base + PAGE, sizeof(buf) };
	ASSERT_EQ(sizeof(buf), vmsplice(pipes[1], &iov, 1, 0));
	arena_close(&a);
	EXPECT_EQ(1, sysfs("orphans"));

	ASSERT_EQ(0, unload_at_last());
	EXPECT_EQ(-1, sysfs("orphans"));
	/* others may fill memory; the pinned page is not theirs */
	for (i = 0; i < 32; i++) {
		char *p = mmap(NULL, SLOT, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		ASSERT_NE(MAP_FAILED, p);
		memset(p, 0xee, SLOT);
	}
	ASSERT_EQ(sizeof(buf), read(pipes[0], buf, sizeof(buf)));
	for (i = 0; i < sizeof(buf); i++)
		EXPECT_EQ(0x5a, buf[i]);
	ASSERT_EQ(0, load());
	EXPECT_TRUE(nothing_leaked());
	EXPECT_TRUE(sysfs_becomes("clean", 8));
}

TEST_HARNESS_MAIN
