/* SPDX-License-Identifier: GPL-2.0-only */

int fork_process(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx->args[0];
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	struct mm_struct *mm = READ(parent->mm);
	struct task_struct *grandparent = READ(parent->real_parent);
	struct nsproxy *nsproxy = READ(parent->nsproxy);
	struct uts_namespace *uts_ns = READ(nsproxy->uts_ns);
	struct hl_record *record;
	struct hl_fork *body;

	/* A new thread of the same process is not a fork. */
	if (READ(child->pid) != READ(child->tgid))
		return 0;
	record = hl_begin(HL_KIND_FORK, HL_SLOT_FORK, HL_SIZE_FORK);
	if (!record)
		return 0;
	body = hl_body(record, fork);
	body->child_pid = READ(child->pid);
	body->child_tgid = READ(child->tgid);
	body->child_start_time = READ(child->start_boottime);
	body->grandparent_pid = READ(grandparent->pid);
	body->grandparent_tgid = READ(grandparent->tgid);
	body->uts_inum = READ(uts_ns->ns_inum);
	body->cmdline_length = hl_append_block(record, READ(mm->arg_start), READ(mm->arg_end),
					       HL_FORK_CMDLINE_MAX, HL_FORK_CMDLINE_CUT);
	hl_submit(record);
	return 0;
}
