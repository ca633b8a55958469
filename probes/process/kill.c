/* SPDX-License-Identifier: GPL-2.0-only */

#include "process/pids.h"

#define KILL_NR_RT_SIGQUEUEINFO		129	/* x86-64 */
#define KILL_NR_PIDFD_SEND_SIGNAL	424
#define KILL_EBADF			9
#define KILL_PIDFD_SELF			-10000	/* PIDFD_SELF_THREAD_GROUP is one less; Linux 6.14 */

/* A process, or its negative: a process group; -1: whatever may be signalled. */
static __always_inline s32 kill_from_caller(s32 number)
{
	struct task_struct *task = hl_task();

	if (number == -1)
		return -1;
	if (!number)
		return -hl_pid_of_type(READ(task->signal), HL_PIDTYPE_PGID);
	return number < 0 ? -pids_from_caller(-number) : pids_from_caller(number);
}

/* Whom a pidfd means; 0 of a directory of /proc, which can stand for one. */
static __always_inline u32 kill_from_descriptor(s32 descriptor, s64 result)
{
	struct file *file;
	struct inode *inode;
	struct pid *pid;

	if (descriptor == KILL_PIDFD_SELF || descriptor == KILL_PIDFD_SELF - 1)
		return bpf_get_current_pid_tgid() >> 32;
	if (result == -KILL_EBADF)
		return 0;
	file = hl_descriptor(descriptor);
	pid = READ(file->private_data);
	if (pid)
		return pids_number(pid);
	/* Since Linux 6.9 a pidfd is a file of its own file system. */
	inode = READ(file->f_inode);
	return pids_number(READ(inode->i_private));
}

/* Attached to the returns of kill, rt_sigqueueinfo and pidfd_send_signal. */
int kill_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	u32 signal = READ(registers->si);
	struct hl_record *record;
	struct hl_kill *body;

	if (!signal)
		return 0;
	record = hl_begin(HL_KIND_KILL, HL_SLOT_KILL, HL_SIZE_KILL);
	if (!record)
		return 0;
	body = hl_body(record, kill);
	body->result = ctx->result;
	body->call = ctx->number;
	body->signal = signal;
	if (ctx->number == KILL_NR_PIDFD_SEND_SIGNAL) {
		body->target_pid = kill_from_descriptor(READ(registers->di), ctx->result);
	} else {
		body->asked_pid = READ(registers->di);
		body->target_pid = kill_from_caller(body->asked_pid);
	}
	hl_submit(record);
	return 0;
}
