/* SPDX-License-Identifier: GPL-2.0-only */
/* A process ends when the last of its threads does. */

#define EXIT_SIGNAL_GROUP_EXIT	4	/* signal_struct.flags, SIGNAL_GROUP_EXIT */

int exit_process(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct task_struct *leader = READ(task->group_leader);
	struct signal_struct *signal = READ(task->signal);
	struct hl_record *record;
	struct hl_exit *body;
	u32 status;

#ifdef HL_TRACEPOINT_sched_process_exit_2
	/* Since Linux 6.16 the tracepoint tells; two last threads cannot both be it. */
	if (!(ctx->args[1] & 1))
		return 0;
#else
	if (READ(signal->live) != 0)
		return 0;
#endif
	record = hl_begin(HL_KIND_EXIT, HL_SLOT_EXIT, HL_SIZE_EXIT);
	if (!record)
		return 0;
	/* As wait(2) reports it: of the group where it was ended as one, else of its leader. */
	status = READ(leader->exit_code);
	if (READ(signal->flags) & EXIT_SIGNAL_GROUP_EXIT)
		status = READ(signal->group_exit_code);
	body = hl_body(record, exit);
	body->exit_code = (status >> 8) & 0xff;
	body->signal = status & 0x7f;
	hl_submit(record);
	return 0;
}
