/* SPDX-License-Identifier: GPL-2.0-only */
/* Processes that a system call was given by number, as the initial namespace numbers them. */

#ifndef HOOKLINE_PIDS_H
#define HOOKLINE_PIDS_H

#define PIDS_LEVELS	6	/* of the tree of ids, 6 bits each: more than PID_MAX_LIMIT has */

/* 0 where there is no such process. */
static __always_inline u32 pids_number(struct pid *pid)
{
	return READ(((struct upid *)&pid->numbers)->nr);
}

/* As the kernel's find_pid_ns(). */
static __always_inline struct pid *pids_find(struct pid_namespace *ns, u32 number)
{
	u64 entry = (u64)READ(ns->idr_idr_rt_xa_head);

	/* An inner node of an xarray is its address with bit 1 set. */
#pragma clang loop unroll(disable)
	for (int level = 0; level < PIDS_LEVELS; level++) {
		struct xa_node *node = (struct xa_node *)(entry - 2);
		u32 index;

		if ((entry & 3) != 2)
			break;
		index = number >> (READ(node->shift) & 31);
		if (!level && index > 63)
			return NULL;
		bpf_probe_read_kernel(&entry, sizeof(entry), (void *)&node->slots + 8 * (index & 63));
	}
	return entry & 3 ? NULL : (struct pid *)entry;
}

/* What the caller calls `number`; 0 where there is no such process (any more). */
static __always_inline u32 pids_from_caller(u32 number)
{
	struct task_struct *task = hl_task();
	struct pid *own = READ(task->thread_pid);
	u32 level = READ(own->level);
	struct upid *upid = (struct upid *)&own->numbers + (level & 31);

	return level ? pids_number(pids_find(READ(upid->ns), number)) : number;
}

#endif
