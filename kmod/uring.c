// SPDX-License-Identifier: GPL-2.0
/*
 * HANDOUT and RECYCLE as IORING_OP_URING_CMD.
 *
 * The command area of the SQE (struct hkr_sqe) has the address of the structure
 * that the ioctl takes; from there on it is the ioctl, hkr_run_command(), and
 * its result is the completion's. What io_uring changes is who runs it:
 *
 *   - Both commands take mutexes and may zero memory, so nothing of them is
 *     for the submitter's own context. A non-blocking issue is -EAGAIN before
 *     anything is looked at, and the core issues the command again from
 *     io-wq, where it may sleep as long as an ioctl may.
 *   - The payload may still be in the ring, which its owner can write at any
 *     time: the core makes a copy for the second issue, but some kernels
 *     (6.12 among them) pass the SQE itself all the same, unless IOSQE_ASYNC
 *     made them copy it at submission. So each field is read once, and what
 *     it says is no more trusted than an ioctl's argument.
 *   - A worker of io-wq is a thread of the task that submitted, with its mm
 *     and its signals. So the view is found by current->mm here as anywhere:
 *     a child that submits to a ring it inherited has a worker of its own mm,
 *     and acts on its own view. A thread of SQPOLL has the mm of the process
 *     that made the ring, and so have its workers: whoever can write into
 *     such a ring acts as that process, which is so for every command of
 *     io_uring.
 *   - It completes before it returns. Nothing is left behind that holds a
 *     request, so there is no state in the command's pdu, no
 *     io_uring_cmd_done() from another context, and nothing to be marked
 *     cancelable: IO_URING_F_CANCEL never comes.
 *
 * Cancellation (a ring that is closed, exec, exit, IORING_OP_ASYNC_CANCEL)
 * ends commands that wait for a worker without our help. To one that runs it
 * is a TIF_NOTIFY_SIGNAL of the worker, not a fatal signal. That is looked at
 * between the entries of an array, because an array of FRESH may zero for
 * minutes and whoever tears the ring down waits for it; one entry is bounded
 * by the caps. Outside of io-wq this flag means nothing of the kind and is
 * not looked at.
 *
 * Nothing here depends on the file's lifetime: the request holds a reference.
 */

#include <linux/build_bug.h>
#include <linux/sched/signal.h>

#include "hkr.h"

/* what every SQE has room for, without IORING_SETUP_SQE128 */
static_assert(sizeof(struct hkr_sqe) ==
	      sizeof(struct io_uring_sqe) - offsetof(struct io_uring_sqe, cmd));

/**
 * hkr_uring_cancelled - is the command at work to end early
 *
 * Return: true in a worker of io-wq that was told to stop
 */
bool hkr_uring_cancelled(void)
{
	return (current->flags & PF_IO_WORKER) &&
	       test_thread_flag(TIF_NOTIFY_SIGNAL);
}

/**
 * hkr_uring_cmd - the device's uring_cmd operation
 * @cmd: HANDOUT or RECYCLE
 * @issue_flags: IO_URING_F_*
 *
 * Return: what the ioctl of that number would, or -EAGAIN
 */
int hkr_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	const struct hkr_sqe *sqe;
	u64 arg, reserved;
	long ret;

	if (issue_flags & IO_URING_F_NONBLOCK)
		return -EAGAIN;
	if (cmd->cmd_op != HKR_IOC_HANDOUT && cmd->cmd_op != HKR_IOC_RECYCLE)
		return -ENOTTY;
	sqe = hkr_uring_payload(cmd);
	arg = READ_ONCE(sqe->arg);
	reserved = READ_ONCE(sqe->__reserved);
	if (reserved || (cmd->flags & IORING_URING_CMD_FIXED))
		return -EINVAL;
	ret = hkr_run_command(cmd->file->private_data, cmd->cmd_op, arg);
	return hkr_uring_result(cmd, ret, issue_flags);
}
