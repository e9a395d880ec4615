// SPDX-License-Identifier: GPL-2.0
/*
 * Caps, in slots, per open file, per user and for all together: a user may have
 * others at his command, by subordinate ids.
 *
 * A slot is charged when it is handed out, backed or not, so that a touch can
 * never fail for a cap; but one that ends sharing since a fork can, for the sum of
 * all. A folio that something still pins after its slot let
 * go of it stays charged to the user (not to the open file) until it is free:
 * a user can hold only a finite amount of memory, however it is held.
 *
 * Files, records and words are kernel memory, charged to the memory cgroup of
 * whoever needs it. Where no group has a limit they are finite too: records and
 * words stay until their file is closed, whatever is handed out meanwhile, so
 * that many arenas could take all of the machine and be nobody's. These caps are
 * far above what honest use needs: that is some 20 KiB for a process with a
 * hundred slots in an arena of 4096.
 */

#include <linux/mutex.h>
#include <linux/slab.h>

#include "hkr.h"

static LIST_HEAD(hkr_users);
static DEFINE_MUTEX(hkr_users_lock);
static atomic_long_t hkr_charged;	/* slots, all users */
static atomic_long_t hkr_kmem;	/* bytes, all users */

/**
 * hkr_user_get - the record of a user, made when there is none
 * @uid: the user
 *
 * Return: the record with a reference, or NULL when out of memory
 */
struct hkr_user *hkr_user_get(kuid_t uid)
{
	struct hkr_user *user;

	mutex_lock(&hkr_users_lock);
	list_for_each_entry(user, &hkr_users, link) {
		if (uid_eq(user->uid, uid)) {
			refcount_inc(&user->refs);
			goto unlock;
		}
	}
	user = kzalloc(sizeof(*user), HKR_GFP_RECORDS);
	if (!user)
		goto unlock;
	user->uid = uid;
	refcount_set(&user->refs, 1);
	list_add(&user->link, &hkr_users);
unlock:
	mutex_unlock(&hkr_users_lock);
	return user;
}

/**
 * hkr_user_put - drop a reference; the record ends with the last one
 * @user: from hkr_user_get()
 */
void hkr_user_put(struct hkr_user *user)
{
	if (!refcount_dec_and_mutex_lock(&user->refs, &hkr_users_lock))
		return;
	WARN_ON_ONCE(atomic_long_read(&user->charged) ||
		     atomic_long_read(&user->kmem));
	list_del(&user->link);
	mutex_unlock(&hkr_users_lock);
	kfree(user);
}

/**
 * hkr_charge - account for slots that are about to be handed out
 * @view: locked
 * @nr: slots
 *
 * Return: 0, or -EDQUOT with nothing charged
 */
int hkr_charge(struct hkr_view *view, unsigned long nr)
{
	long charged;

	lockdep_assert_held(&view->lock);
	if (nr > hkr_limits.open_max - atomic_long_read(&view->charged))
		return -EDQUOT;

	charged = atomic_long_add_return(nr, &view->user->charged);
	if (charged > (long)hkr_limits.user_max)
		goto uncharge_user;
	charged = atomic_long_add_return(nr, &hkr_charged);
	if (charged > (long)hkr_limits.total_max)
		goto uncharge_total;
	atomic_long_add(nr, &view->charged);
	return 0;

uncharge_total:
	atomic_long_sub(nr, &hkr_charged);
uncharge_user:
	atomic_long_sub(nr, &view->user->charged);
	return -EDQUOT;
}

/**
 * hkr_uncharge - undo hkr_charge(); any context
 * @view: whose it was
 * @nr: slots
 */
void hkr_uncharge(struct hkr_view *view, unsigned long nr)
{
	atomic_long_sub(nr, &view->charged);
	atomic_long_sub(nr, &view->user->charged);
	atomic_long_sub(nr, &hkr_charged);
}

/**
 * hkr_charge_lent - a forked child has a slot of its parent's
 * @view: the child's
 *
 * It counts against the cap of a view, where it fits because the parent's did.
 * To the user it is not charged: memory that is shared is charged once.
 */
void hkr_charge_lent(struct hkr_view *view)
{
	atomic_long_inc(&view->charged);
}

/**
 * hkr_charge_settle - a lent slot gets memory of its own, whatever the caps
 * @view: whose it is
 */
void hkr_charge_settle(struct hkr_view *view)
{
	atomic_long_inc(&view->user->charged);
	atomic_long_inc(&hkr_charged);
}

/**
 * hkr_charge_touch - the same, for a touch
 * @view: whose it is
 *
 * The user's own cap must not be in the way: nobody can foresee at a fork what
 * the child will touch, and the answer would be a signal. As with orphans, a user
 * above it is handed nothing more. The cap on all users together holds.
 *
 * Return: 0, or -EDQUOT with nothing charged
 */
int hkr_charge_touch(struct hkr_view *view)
{
	if (atomic_long_inc_return(&hkr_charged) >
	    (long)hkr_limits.total_max) {
		atomic_long_dec(&hkr_charged);
		return -EDQUOT;
	}
	atomic_long_inc(&view->user->charged);
	return 0;
}

/**
 * hkr_uncharge_shared - shared memory is nobody's any more, or one slot's own
 * @view: of its last holder; all views of an arena have the same user
 */
void hkr_uncharge_shared(struct hkr_view *view)
{
	atomic_long_dec(&view->user->charged);
	atomic_long_dec(&hkr_charged);
}

/**
 * hkr_uncharge_slot - a slot is no longer handed out; any context
 * @view: whose it was
 * @lent: to the user it was not charged
 */
void hkr_uncharge_slot(struct hkr_view *view, bool lent)
{
	if (lent)
		atomic_long_dec(&view->charged);
	else
		hkr_uncharge(view, 1);
}

/**
 * hkr_charge_orphan - a user's slot is uncharged, but its memory is not free yet
 * @user: whose it is; keeps a reference
 *
 * Cannot be refused: above a cap, nothing more is handed out until it is free.
 */
void hkr_charge_orphan(struct hkr_user *user)
{
	refcount_inc(&user->refs);
	atomic_long_inc(&user->charged);
	atomic_long_inc(&hkr_charged);
}

/**
 * hkr_uncharge_orphan - the memory is free
 * @user: of hkr_charge_orphan()
 */
void hkr_uncharge_orphan(struct hkr_user *user)
{
	atomic_long_dec(&user->charged);
	atomic_long_dec(&hkr_charged);
	hkr_user_put(user);
}

/**
 * hkr_room - slots that could be handed out before a cap is met
 * @view: locked
 */
unsigned long hkr_room(struct hkr_view *view)
{
	unsigned long open_room = hkr_limits.open_max -
				  atomic_long_read(&view->charged);
	long charged = atomic_long_read(&view->user->charged);
	long total = atomic_long_read(&hkr_charged);
	unsigned long user_room = 0, total_room = 0;

	lockdep_assert_held(&view->lock);
	if (charged < (long)hkr_limits.user_max)
		user_room = hkr_limits.user_max - charged;
	if (total < (long)hkr_limits.total_max)
		total_room = hkr_limits.total_max - total;
	return min3(open_room, user_room, total_room);
}

/**
 * hkr_charge_kmem - account for kernel memory that an arena needs
 * @view: whose it will be; need not be locked
 * @bytes: how much
 *
 * Return: 0, or -EDQUOT with nothing charged
 */
int hkr_charge_kmem(struct hkr_view *view, unsigned long bytes)
{
	unsigned long charged;

	charged = atomic_long_add_return(bytes, &view->user->kmem);
	if (charged > hkr_limits.user_kmem)
		goto uncharge_user;
	charged = atomic_long_add_return(bytes, &hkr_kmem);
	if (charged > hkr_limits.total_kmem)
		goto uncharge_total;
	atomic_long_add(bytes, &view->kmem);
	return 0;

uncharge_total:
	atomic_long_sub(bytes, &hkr_kmem);
uncharge_user:
	atomic_long_sub(bytes, &view->user->kmem);
	return -EDQUOT;
}

/**
 * hkr_uncharge_kmem - kernel memory of an arena is free, or was not to be had
 * @view: whose it was
 * @bytes: how much
 */
void hkr_uncharge_kmem(struct hkr_view *view, unsigned long bytes)
{
	atomic_long_sub(bytes, &view->kmem);
	atomic_long_sub(bytes, &view->user->kmem);
	atomic_long_sub(bytes, &hkr_kmem);
}
