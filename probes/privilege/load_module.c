/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A module is told before its first instruction runs, for it might see to it
 * that nothing is told afterwards; and again only if that fails. One that the
 * kernel refuses is told at the return of the call. The file is the one that
 * the kernel read, where a function can be watched that is given it; else the
 * one behind the caller's descriptor at that moment.
 */

#define LOAD_MODULE_NAME	56	/* MODULE_NAME_LEN of 64-bit kernels */
#define LOAD_MODULE_FINIT	313	/* x86-64 */

/* The context of syscalls:sys_enter_finit_module. */
struct load_module_enter {
	u64 common;
	s32 number;
	u32 pad;
	u64 fd;
};

struct load_module_call {
	struct file *file;	/* that the kernel reads, where it is known */
	s32 fd;
	char name[LOAD_MODULE_NAME];
};

/* By thread; an entry is there during one finit_module or init_module. */
BPF_TABLE("lru_hash", u32, struct load_module_call, load_module_calls, 1024);

enum { LOAD_MODULE_FILE, LOAD_MODULE_CWD, LOAD_MODULE_PATHS };

int load_module_asked(struct load_module_enter *ctx)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct load_module_call call = {};

	call.fd = ctx->number == LOAD_MODULE_FINIT ? (s32)ctx->fd : -1;
	load_module_calls.update(&thread, &call);
	return 0;
}

#ifndef HL_FORM_LOAD_MODULE_TRACEPOINT

static __always_inline int load_module_remember(struct file *file, u32 purpose)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct load_module_call *call;

	if (purpose != HL_READING_MODULE)
		return 0;
	call = load_module_calls.lookup(&thread);
	if (call)
		call->file = file;
	return 0;
}

#ifdef HL_FORM_LOAD_MODULE_FENTRY
int load_module_read(u64 *ctx)
{
	return load_module_remember((struct file *)ctx[0], ctx[1]);
}
#else
int load_module_read(struct pt_regs *ctx)
{
	return load_module_remember((struct file *)PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
}
#endif

#endif

/* The module's file; NULL of one from memory, and where it is another than the kernel read. */
static __always_inline struct file *load_module_file(const struct load_module_call *call)
{
	struct file *file;

	if (call->fd < 0)
		return NULL;
	file = hl_descriptor(call->fd);
	if (call->file && call->file != file)
		return NULL;
	return file;
}

static __always_inline struct hl_record *load_module_begin(const struct load_module_call *call, s64 result)
{
	struct hl_record *record = hl_begin(HL_KIND_LOAD_MODULE, HL_SLOT_LOAD_MODULE, HL_SIZE_LOAD_MODULE);
	struct file *file = load_module_file(call);
	struct inode *inode = READ(file->f_inode);
	struct hl_load_module *body;

	if (!record)
		return NULL;
	body = hl_body(record, load_module);
	body->result = result;
	body->fd = call->fd;
	__builtin_memcpy(body->module_name, call->name, sizeof(body->module_name));
	if (file)
		hl_fill_file(&body->file, inode, READ_OF);
	record->passed[0] = (u64)file;
	return record;
}

/* Points the walk at the next path of the record; false where there is none. */
static __always_inline bool load_module_start_path(struct hl_record *record)
{
	struct task_struct *task = hl_task();
	struct fs_struct *fs = READ(task->fs);
	struct file *file = (struct file *)record->passed[0];

	if (record->stage == LOAD_MODULE_CWD) {
		hl_walk_from(record, &fs->pwd);
		return true;
	}
	if (!file)
		return false;
	hl_walk_from(record, &file->f_path);
	return true;
}

/* One path of the record a call; true when both are there. */
static __always_inline bool load_module_paths(struct hl_record *record)
{
	struct hl_load_module *body = hl_body(record, load_module);
	enum hl_walk how = HL_WALK_DONE;
	u32 length = 0;

	if (record->walking || load_module_start_path(record)) {
		how = hl_walk(record);
		if (how == HL_WALK_MORE)
			return false;
		length = hl_append_path(record, how);
	}
	record->walking = false;
	if (record->stage++ == LOAD_MODULE_FILE) {
		body->lkm_file_length = length;
		if (how == HL_WALK_CUT)
			record->header.flags |= HL_LOAD_MODULE_LKM_FILE_CUT;
		return false;
	}
	body->run_path_length = length;
	if (how == HL_WALK_CUT)
		record->header.flags |= HL_LOAD_MODULE_RUN_PATH_CUT;
	return true;
}

/* Sends what there is when no further call was possible, or all of it. */
static __always_inline void load_module_end(struct hl_record *record)
{
	if (record->stage == LOAD_MODULE_FILE)
		record->header.flags |= HL_LOAD_MODULE_LKM_FILE_CUT;
	if (record->stage < LOAD_MODULE_PATHS)
		record->header.flags |= HL_LOAD_MODULE_RUN_PATH_CUT;
	hl_submit(record);
}

int load_module_loaded(struct bpf_raw_tracepoint_args *ctx)
{
	struct module *module = (struct module *)ctx->args[0];
	u32 thread = bpf_get_current_pid_tgid();
	struct load_module_call *found = load_module_calls.lookup(&thread);
	struct load_module_call call = {};
	struct hl_record *record;

	call.fd = -1;	/* of a call that began before the probe was there */
	if (found)
		call = *found;
	bpf_probe_read_kernel_str(call.name, sizeof(call.name), &module->name);
	if (found)
		*found = call;
	record = load_module_begin(&call, 0);
	if (!record)
		return 0;
	hl_body(record, load_module)->taints = READ(module->taints);
	hl_raw_tails.call(ctx, HL_TAIL_LOAD_MODULE_LOADED_PATHS);
	load_module_end(record);
	return 0;
}

int load_module_loaded_paths(struct bpf_raw_tracepoint_args *ctx)
{
	struct hl_record *record = hl_this_record();

	if (!record)
		return 0;
	if (!load_module_paths(record))
		hl_raw_tails.call(ctx, HL_TAIL_LOAD_MODULE_LOADED_PATHS);
	load_module_end(record);
	return 0;
}

int load_module_returned(struct hl_sys_exit *ctx)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct load_module_call *found = load_module_calls.lookup(&thread);
	struct load_module_call call;
	struct hl_record *record;

	if (!found)
		return 0;
	call = *found;
	load_module_calls.delete(&thread);
	if (ctx->result >= 0)
		return 0;
	record = load_module_begin(&call, ctx->result);
	if (!record)
		return 0;
	hl_tails.call(ctx, HL_TAIL_LOAD_MODULE_REFUSED_PATHS);
	load_module_end(record);
	return 0;
}

int load_module_refused_paths(struct hl_sys_exit *ctx)
{
	struct hl_record *record = hl_this_record();

	if (!record)
		return 0;
	if (!load_module_paths(record))
		hl_tails.call(ctx, HL_TAIL_LOAD_MODULE_REFUSED_PATHS);
	load_module_end(record);
	return 0;
}
