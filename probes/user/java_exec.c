/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes of Java come from one native function, whose name Java's own code
 * needs, but which takes arrays of the virtual machine: how these lie in memory
 * differs between machines and options. So it only tells that a thread starts a
 * process. What is executed is read from the child's own call of execve(): the
 * child is one whose parent is that thread. By the time that the function
 * returns, the child has either executed or reported why not.
 */

#define JAVA_EXEC_CALLS		(4096 + 256 * HL_CPUS)	/* a CPU may keep 128 free places for itself */
#define JAVA_EXEC_SLOTS		64
#define JAVA_EXEC_ARGS		128
#define JAVA_EXEC_ARG_SIZE	4096
#define JAVA_EXEC_POSIX_SPAWN	2	/* runs a helper of the JDK's first */
#define JAVA_EXEC_ECHILD	10

/* A thread in forkAndExec(). */
struct java_exec_call {
	u32 mode;
	u32 left;	/* executions until the wanted program runs */
	s32 result;	/* of the child's last try, 0 while it is under way */
	u32 child_tgid;	/* 0: no child tried to execute anything so far */
	u64 child_start_time;
};

/* What a child executes; found by its process id, shared with others of the same last bits. */
struct java_exec_slot {
	u32 child_tgid;
	u32 cut;
	u32 command_length;
	u32 argv_length;
	u8 command[4096];
	u8 argv[8192 + JAVA_EXEC_ARG_SIZE];
};

BPF_TABLE("lru_hash", u64, struct java_exec_call, java_exec_calls, JAVA_EXEC_CALLS);
BPF_ARRAY(java_exec_slots, struct java_exec_slot, JAVA_EXEC_SLOTS);

/* The context of syscalls:sys_enter_execve. */
struct java_exec_enter {
	u64 common;
	s32 number;
	u32 pad;
	u64 filename;
	u64 argv;
	u64 envp;
};

int java_exec_entered(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct java_exec_call call = {
		.mode = PT_REGS_PARM3(ctx),
		.result = -JAVA_EXEC_ECHILD,
	};

	hl_use_stack_of_task(ctx);
	call.left = call.mode == JAVA_EXEC_POSIX_SPAWN ? 2 : 1;
	java_exec_calls.update(&thread, &call);
	return 0;
}

/* The call that the current process is a child of, and whose program does not run yet. */
static __always_inline struct java_exec_call *java_exec_call_of_parent(void)
{
	struct task_struct *task = hl_task();
	struct task_struct *parent = READ(task->real_parent);
	u64 thread = (u64)READ(parent->tgid) << 32 | READ(parent->pid);
	struct java_exec_call *call = java_exec_calls.lookup(&thread);

	return call && call->left ? call : NULL;
}

static __always_inline struct java_exec_slot *java_exec_slot_of(u32 child_tgid)
{
	u32 index = child_tgid % JAVA_EXEC_SLOTS;

	return java_exec_slots.lookup(&index);
}

/* Reads the argument strings; gives whether that is not all of them. */
static __always_inline u32 java_exec_arguments(struct java_exec_slot *slot, const char **argv)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i <= JAVA_EXEC_ARGS; i++) {
		const char *argument = NULL;
		u32 at = slot->argv_length;
		s64 length;

		if (bpf_probe_read_user(&argument, sizeof(argument), argv + i))
			return HL_JAVA_EXEC_ARGV_CUT;
		if (!argument)
			return 0;
		HIDE(at);
		if (i == JAVA_EXEC_ARGS || at >= HL_JAVA_EXEC_ARGV_MAX)
			return HL_JAVA_EXEC_ARGV_CUT;
		length = hl_read_user_str(slot->argv + at, JAVA_EXEC_ARG_SIZE, argument);
		if (length <= 0)
			return HL_JAVA_EXEC_ARGV_CUT;
		slot->argv_length = at + length;
		if (length == JAVA_EXEC_ARG_SIZE || at + length > HL_JAVA_EXEC_ARGV_MAX)
			return HL_JAVA_EXEC_ARGV_CUT;
	}
	return HL_JAVA_EXEC_ARGV_CUT;
}

/* Every try is kept in the place of the one before: a search along PATH makes many. */
int java_exec_tries(struct java_exec_enter *ctx)
{
	struct task_struct *task = hl_task();
	struct java_exec_call *call = java_exec_call_of_parent();
	struct java_exec_slot *slot;
	s64 length;

	if (!call)
		return 0;
	call->result = 0;
	call->child_tgid = READ(task->tgid);
	call->child_start_time = READ(task->start_boottime);
	slot = java_exec_slot_of(call->child_tgid);
	if (!slot)
		return 0;
	slot->child_tgid = call->child_tgid;
	slot->argv_length = 0;
	length = hl_read_user_str(slot->command, sizeof(slot->command), (void *)ctx->filename);
	slot->command_length = length > 0 ? length - 1 : 0;
	slot->cut = length <= 0 || length == sizeof(slot->command) ? HL_JAVA_EXEC_COMMAND_CUT : 0;
	slot->cut |= java_exec_arguments(slot, (const char **)ctx->argv);
	return 0;
}

int java_exec_fails(struct hl_sys_exit *ctx)
{
	struct java_exec_call *call;

	if (ctx->result >= 0)
		return 0;
	call = java_exec_call_of_parent();
	if (call)
		call->result = ctx->result;
	return 0;
}

int java_exec_runs(struct bpf_raw_tracepoint_args *ctx)
{
	struct java_exec_call *call = java_exec_call_of_parent();

	if (call)
		call->left--;
	return 0;
}

/* Appends what the child tried to execute. */
static __always_inline void java_exec_append(struct hl_record *record, struct java_exec_slot *slot)
{
	struct hl_java_exec *body = hl_body(record, java_exec);
	u32 length = slot->argv_length;

	record->header.flags |= slot->cut;
	body->command_length = hl_append_kernel(record, slot->command, slot->command_length);
	if (length > HL_JAVA_EXEC_ARGV_MAX)
		length = HL_JAVA_EXEC_ARGV_MAX;
	body->argv_length = hl_append_kernel(record, slot->argv, length);
}

int java_exec_returned(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct java_exec_call *kept = java_exec_calls.lookup(&thread);
	s32 pid = PT_REGS_RC(ctx);
	struct java_exec_call call;
	struct java_exec_slot *slot;
	struct hl_java_exec *body;
	struct hl_record *record;

	hl_use_stack_of_task(ctx);
	if (!kept)
		return 0;
	call = *kept;
	java_exec_calls.delete(&thread);
	record = hl_begin_in(HL_LANE_PREEMPTIBLE, HL_KIND_JAVA_EXEC, HL_SLOT_JAVA_EXEC, HL_SIZE_JAVA_EXEC);
	if (!record)
		return 0;
	body = hl_body(record, java_exec);
	/* A failure that the child reports gives its process id too, and throws. */
	body->result = pid > 0 || call.result ? call.result : -JAVA_EXEC_ECHILD;
	body->mode = call.mode;
	body->child_tgid = call.child_tgid;
	body->child_start_time = call.child_start_time;
	slot = java_exec_slot_of(call.child_tgid);
	if (slot && call.child_tgid && slot->child_tgid == call.child_tgid)
		java_exec_append(record, slot);
	else if (call.child_tgid)
		record->header.flags |= HL_JAVA_EXEC_COMMAND_CUT | HL_JAVA_EXEC_ARGV_CUT;
	hl_submit(record);
	return 0;
}
