/* SPDX-License-Identifier: GPL-2.0 */
#ifndef HKR_INODE_H
#define HKR_INODE_H

struct inode;

/* inode.c: a private inode for each open file */
struct inode *hkr_inode_new(void);
void hkr_inode_free(struct inode *inode);

#endif /* HKR_INODE_H */
