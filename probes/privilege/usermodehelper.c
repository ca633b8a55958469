/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel runs a program of its own accord: seen where it is asked to, with
 * the process that made it so (one that crashes, say); or else when the program
 * has begun, and then that is the process.
 */

#define USERMODEHELPER_ARGS	64

#ifdef HL_FORM_USERMODEHELPER_TRACEPOINT

#define USERMODEHELPER_PF_KTHREAD	0x00200000

int usermodehelper_executed(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct linux_binprm *binprm = (struct linux_binprm *)ctx->args[2];
	struct task_struct *parent = READ(task->real_parent);
	struct mm_struct *mm = READ(task->mm);
	struct hl_usermodehelper *body;
	struct hl_record *record;
	u32 length;

	/* A kernel thread made it, and this is its first program; what else it executes is its own affair. */
	if (!(READ(parent->flags) & USERMODEHELPER_PF_KTHREAD) || READ(task->self_exec_id) != 1)
		return 0;
	record = hl_begin(HL_KIND_USERMODEHELPER, HL_SLOT_USERMODEHELPER, HL_SIZE_USERMODEHELPER);
	if (!record)
		return 0;
	body = hl_body(record, usermodehelper);
	body->wait = -1;
	length = hl_append_string(record, READ(binprm->filename), HL_USERMODEHELPER_HELPER_MAX,
				  bpf_probe_read_kernel_str);
	body->helper_length = hl_chop(record, length);
	body->argv_length = hl_append_block(record, READ(mm->arg_start), READ(mm->arg_end),
					    HL_USERMODEHELPER_ARGV_MAX, HL_USERMODEHELPER_ARGV_CUT);
	hl_submit(record);
	return 0;
}

#else

/* Appends the argument strings, which lie in kernel memory; gives the flags to set. */
static __always_inline u32 usermodehelper_append_argv(struct hl_record *record, char **argv)
{
	u32 start = record->header.length;

#pragma clang loop unroll(disable)
	for (int i = 0; i <= USERMODEHELPER_ARGS; i++) {
		char *argument = NULL;
		u32 length;

		if (bpf_probe_read_kernel(&argument, sizeof(argument), argv + i))
			return HL_USERMODEHELPER_ARGV_CUT;
		if (!argument)
			return 0;
		if (i == USERMODEHELPER_ARGS ||
		    record->header.length - start > HL_USERMODEHELPER_ARGV_MAX - HL_PATH_SIZE)
			return HL_USERMODEHELPER_ARGV_CUT;
		length = hl_append_string(record, argument, HL_PATH_SIZE, bpf_probe_read_kernel_str);
		if (!length || length == HL_PATH_SIZE)
			return HL_USERMODEHELPER_ARGV_CUT;
	}
	return HL_USERMODEHELPER_ARGV_CUT;
}

static __always_inline int usermodehelper_tell(const u32 lane, struct subprocess_info *info, int wait)
{
	struct hl_usermodehelper *body;
	struct hl_record *record;
	u32 length;

	record = hl_begin_in(lane, HL_KIND_USERMODEHELPER, HL_SLOT_USERMODEHELPER, HL_SIZE_USERMODEHELPER);
	if (!record)
		return 0;
	body = hl_body(record, usermodehelper);
	body->wait = wait;
	length = hl_append_string(record, READ(info->path), HL_USERMODEHELPER_HELPER_MAX,
				  bpf_probe_read_kernel_str);
	body->helper_length = hl_chop(record, length);
	length = record->header.length;
	record->header.flags |= usermodehelper_append_argv(record, READ(info->argv));
	body->argv_length = record->header.length - length;
	hl_submit(record);
	return 0;
}

#ifdef HL_FORM_USERMODEHELPER_FENTRY
int usermodehelper_entered(u64 *ctx)
{
	return usermodehelper_tell(HL_LANE_PREEMPTIBLE, (struct subprocess_info *)ctx[0], ctx[1]);
}
#else
int usermodehelper_called(struct pt_regs *ctx)
{
	return usermodehelper_tell(HL_LANE_TASK, (struct subprocess_info *)PT_REGS_PARM1(ctx),
				   PT_REGS_PARM2(ctx));
}
#endif

#endif
