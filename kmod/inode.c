// SPDX-License-Identifier: GPL-2.0
/*
 * A pseudo file system for the inodes of arenas.
 *
 * The device's own inode is shared by all who open it and has size 0. An arena
 * needs an address_space of its own (a zap must reach its VMAs only) whose host
 * has a size: since 6.12 the core maps a PMD only below i_size.
 *
 * A mounted file system pins its module, so it is mounted only while there are
 * inodes, as DRM does.
 */

#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "inode.h"

#define HKR_FS_MAGIC	0x484b4d52	/* "HKMR" */

static struct vfsmount *hkr_mnt;	/* valid while hkr_mnt_users > 0 */
static int hkr_mnt_users;

static int hkr_init_fs_context(struct fs_context *fc)
{
	return init_pseudo(fc, HKR_FS_MAGIC) ? 0 : -ENOMEM;
}

static struct file_system_type hkr_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "hakmem_region",
	.init_fs_context	= hkr_init_fs_context,
	.kill_sb		= kill_anon_super,
};

/**
 * hkr_inode_new - an empty inode
 *
 * Return: the inode, for hkr_inode_free(), or an error pointer
 */
struct inode *hkr_inode_new(void)
{
	struct inode *inode;
	int ret;

	ret = simple_pin_fs(&hkr_fs_type, &hkr_mnt, &hkr_mnt_users);
	if (ret)
		return ERR_PTR(ret);
	inode = alloc_anon_inode(hkr_mnt->mnt_sb);
	if (IS_ERR(inode))
		simple_release_fs(&hkr_mnt, &hkr_mnt_users);
	return inode;
}

/**
 * hkr_inode_free - the end of an inode
 * @inode: from hkr_inode_new(), mapped nowhere
 */
void hkr_inode_free(struct inode *inode)
{
	iput(inode);
	simple_release_fs(&hkr_mnt, &hkr_mnt_users);
}
