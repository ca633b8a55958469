/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A success is seen at sched_process_exec, when the new image stands and its
 * argv lies in one block; a failure at the return of execve or execveat, when
 * the caller's registers still hold what it asked for.
 */

#include "process/socket_owner.h"

#define EXECVE_FAILED_ARGS	256
#define EXECVE_BLOCK		4096	/* bytes of an environment that are searched at once */
#define EXECVE_STEPS		512	/* words and strings that are looked at at once */
#define EXECVE_LONGEST		24	/* bytes: a word, and two in which a wanted name and its "=" fit */
#define EXECVE_PIECE		512	/* bytes that are told of a variable, with a NUL */
#define EXECVE_NR_EXECVEAT		322	/* x86-64 */

enum { EXECVE_EXE, EXECVE_CWD, EXECVE_STDIN, EXECVE_STDOUT, EXECVE_PATHS };

/*
 * What a record passes to the search of the environment: where its tail and what
 * is left of it begin, and whether a string begins there.
 */
enum { EXECVE_TAIL, EXECVE_AT, EXECVE_IS_START, EXECVE_ZERO };

static __always_inline struct file *execve_standard_file(struct hl_record *record, u32 number)
{
	struct hl_execve *body = hl_body(record, execve);
	struct file *file = hl_descriptor(number);
	struct inode *inode = READ(file->f_inode);

	if (number) {
		body->stdout_mode = READ(inode->i_mode);
		body->stdout_inode = READ(inode->i_ino);
	} else {
		body->stdin_mode = READ(inode->i_mode);
		body->stdin_inode = READ(inode->i_ino);
	}
	return file;
}

/* Points the walk at the next path of the record; false where there is none. */
static __always_inline bool execve_start_path(struct hl_record *record)
{
	struct task_struct *task = hl_task();
	struct mm_struct *mm = READ(task->mm);
	struct fs_struct *fs = READ(task->fs);
	struct file *file;

	switch (record->stage) {
	case EXECVE_EXE:
		file = READ(mm->exe_file);
		break;
	case EXECVE_CWD:
		hl_walk_from(record, &fs->pwd);
		return true;
	default:
		file = execve_standard_file(record, record->stage - EXECVE_STDIN);
	}
	if (!file)
		return false;
	hl_walk_from(record, &file->f_path);
	return true;
}

/* One path of the record a call; true when all are there. */
static __always_inline bool execve_paths(struct hl_record *record)
{
	struct hl_execve *body = hl_body(record, execve);
	enum hl_walk how = HL_WALK_DONE;
	u32 length = 0;
	u32 cut = 0;

	if (record->walking || execve_start_path(record)) {
		how = hl_walk(record);
		if (how == HL_WALK_MORE)
			return false;
		length = hl_append_path(record, how);
	}
	record->walking = false;
	cut = how == HL_WALK_CUT;
	switch (record->stage++) {
	case EXECVE_EXE:
		body->exe_path_length = length;
		record->header.flags |= cut * HL_EXECVE_EXE_PATH_CUT;
		break;
	case EXECVE_CWD:
		body->run_path_length = length;
		record->header.flags |= cut * HL_EXECVE_RUN_PATH_CUT;
		break;
	case EXECVE_STDIN:
		body->stdin_length = length;
		record->header.flags |= cut * HL_EXECVE_STDIN_CUT;
		break;
	default:
		body->stdout_length = length;
		record->header.flags |= cut * HL_EXECVE_STDOUT_CUT;
	}
	return record->stage >= EXECVE_PATHS;
}

/* Marks the paths that are not in the record when no further call was possible. */
static __always_inline void execve_paths_cut(struct hl_record *record)
{
	switch (record->stage) {
	case EXECVE_EXE:
		record->header.flags |= HL_EXECVE_EXE_PATH_CUT;
		/* fallthrough */
	case EXECVE_CWD:
		record->header.flags |= HL_EXECVE_RUN_PATH_CUT;
		/* fallthrough */
	case EXECVE_STDIN:
		record->header.flags |= HL_EXECVE_STDIN_CUT;
		/* fallthrough */
	default:
		record->header.flags |= HL_EXECVE_STDOUT_CUT;
	}
}

/* Eight characters as they lie in memory. */
#define EXECVE_WORD(a, b, c, d, e, f, g, h)					\
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 |		\
	 (u64)(e) << 32 | (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

#define EXECVE_SSH_CONN	EXECVE_WORD('S', 'S', 'H', '_', 'C', 'O', 'N', 'N')
#define EXECVE_LD_PRELO	EXECVE_WORD('L', 'D', '_', 'P', 'R', 'E', 'L', 'O')

/* Whether `text` begins as one of the names that execve.py declares as Variable. */
static __always_inline bool execve_looks_wanted(const void *text)
{
	u64 first = *(const u64 *)text;

	return first == EXECVE_SSH_CONN || first == EXECVE_LD_PRELO;
}

/* Whether `text` begins with one of them. */
static __always_inline bool execve_is_wanted(const void *text)
{
	u64 first = *(const u64 *)text;
	u64 second = *(const u64 *)(text + 8);

	if (first == EXECVE_SSH_CONN)
		return (second & ~0ULL >> 8) == EXECVE_WORD('E', 'C', 'T', 'I', 'O', 'N', '=', 0);
	return first == EXECVE_LD_PRELO && (second & 0xffffff) == EXECVE_WORD('A', 'D', '=', 0, 0, 0, 0, 0);
}

/* The highest bit of each byte of `word` that is zero. */
static __always_inline u64 execve_zeros(u64 word)
{
	const u64 low = 0x7f7f7f7f7f7f7f7fULL;

	return ~(((word & low) + low) | word | low);
}

/* The number of the lowest byte whose highest bit is set in `bits`. */
static __always_inline u64 execve_first(u64 bits)
{
	return ((bits & -bits) >> 7) * 0x0001020304050607ULL >> 56;
}

/*
 * Goes through record->path up to `limit`, or for as many steps as one program may
 * take, and stops where a string looks wanted: if it is, `found` is set. Gives the
 * place; the string that is there, if any, was looked at.
 */
static __always_inline u64 execve_find(struct hl_record *record, u64 limit, bool *found)
{
	u64 zero = *(volatile u64 *)&record->passed[EXECVE_ZERO];
	u64 at = 0;

	if (record->passed[EXECVE_IS_START] && execve_is_wanted(record->path)) {
		*found = true;
		return 0;
	}
#pragma clang loop unroll(disable)
	for (int step = 0; step < EXECVE_STEPS; step++) {
		u64 zeros;

		at += zero; /* from here on the verifier knows nothing of it, and all its ways meet */
		if (at >= limit || at > EXECVE_BLOCK)
			break;
		zeros = execve_zeros(*(const u64 *)(record->path + at));
		if (!zeros) {
			at += sizeof(u64);
			continue;
		}
		at += execve_first(zeros) + 1;
		if (execve_looks_wanted(record->path + at)) {
			*found = execve_is_wanted(record->path + at);
			break;
		}
	}
	return at;
}

/* Appends the string at `from`; gives its length with the NUL, or 0 where the search cannot go on. */
static __always_inline u32 execve_append_variable(struct hl_record *record, u64 from)
{
	u32 length = hl_append_string(record, (void *)from, EXECVE_PIECE, hl_read_user_str);
	u8 next = 0;

	/* A full piece ends its string only if a NUL follows. */
	if (length == EXECVE_PIECE)
		bpf_probe_read_user(&next, sizeof(next), (void *)(from + EXECVE_PIECE - 1));
	if (!length || next)
		record->header.flags |= HL_EXECVE_ENVIRONMENT_CUT;
	if (record->header.length - record->passed[EXECVE_TAIL] > HL_EXECVE_ENVIRONMENT_MAX) {
		record->header.flags |= HL_EXECVE_ENVIRONMENT_CUT;
		record->header.length -= length;
	}
	return length;
}

/*
 * Appends one of the wanted strings of an environment, or searches one block for
 * them, a call; the rest, secrets among it, does not leave the kernel. True when
 * all was searched. Words are compared rather than strings read one by one:
 * that takes a tenth of the time.
 */
static __always_inline bool execve_environment(struct hl_record *record, u64 end)
{
	u64 at = record->passed[EXECVE_AT];
	u64 size = end - at;
	bool found = false;

	if (at >= end)
		return true;
	if (size > EXECVE_BLOCK)
		size = EXECVE_BLOCK;
	HIDE(size);
	if (size > EXECVE_BLOCK || bpf_probe_read_user(record->path, size, (void *)at)) {
		record->header.flags |= HL_EXECVE_ENVIRONMENT_CUT;
		return true;
	}
	if (at + size == end)
		__builtin_memset(record->path + size, 0, EXECVE_LONGEST);
	else
		size -= EXECVE_LONGEST; /* what is not whole here is whole in the next block */
	at += execve_find(record, size, &found);
	record->passed[EXECVE_IS_START] = false;
	if (found) {
		u32 length = execve_append_variable(record, at);

		at = length ? at + length - 1 : end;
	}
	record->passed[EXECVE_AT] = at;
	return at >= end;
}

static __always_inline void execve_call(void *ctx, u32 program)
{
#ifdef HL_FORM_EXECVE_TRACEPOINT
	hl_raw_tails.call(ctx, program);
#else
	hl_call(ctx, HL_FORM_EXECVE, program);
#endif
}

static __always_inline void execve_go_on(void *ctx)
{
	execve_call(ctx, HL_TAIL_EXECVE_SUCCEEDED_PATHS);
}

/* At sched_process_exec, or in finalize_exec(), with which every loader of an image ends. */
int execve_succeeded(void *ctx)
{
#ifdef HL_FORM_EXECVE_TRACEPOINT
	struct linux_binprm *binprm = (struct linux_binprm *)((struct bpf_raw_tracepoint_args *)ctx)->args[2];
#else
	struct linux_binprm *binprm = (struct linux_binprm *)hl_argument(ctx, HL_FORM_EXECVE, 0);
#endif
	struct hl_record *record;
	u32 length;

	record = hl_begin_in(HL_LANE_OF(HL_FORM_EXECVE), HL_KIND_EXECVE, HL_SLOT_EXECVE, HL_SIZE_EXECVE);
	if (!record)
		return 0;
	length = hl_append_string(record, READ(binprm->filename), HL_EXECVE_FILENAME_MAX,
				  bpf_probe_read_kernel_str);
	hl_body(record, execve)->filename_length = hl_chop(record, length);
	execve_go_on(ctx);
	hl_discard(record);
	return 0;
}

int execve_succeeded_paths(void *ctx)
{
	struct task_struct *task = hl_task();
	struct mm_struct *mm = READ(task->mm);
	struct hl_record *record = hl_this_record_in(HL_LANE_OF(HL_FORM_EXECVE));
	struct hl_execve *body;

	if (!record)
		return 0;
	body = hl_body(record, execve);
	if (record->stage < EXECVE_PATHS) {
		if (!execve_paths(record)) {
			execve_go_on(ctx);
			execve_paths_cut(record);
		}
		record->stage = EXECVE_PATHS;
		execve_call(ctx, HL_TAIL_EXECVE_SUCCEEDED_SOCKET);
		record->header.flags |= HL_EXECVE_SOCKET_CUT;
	}
	if (record->stage == EXECVE_PATHS) {
		body->argv_length = hl_append_block(record, READ(mm->arg_start), READ(mm->arg_end),
						    HL_EXECVE_ARGV_MAX, HL_EXECVE_ARGV_CUT);
		record->stage = EXECVE_PATHS + 1;
		record->passed[EXECVE_TAIL] = record->header.length;
		record->passed[EXECVE_AT] = READ(mm->env_start);
		record->passed[EXECVE_IS_START] = true;
		record->passed[EXECVE_ZERO] = 0;
	}
	if (!execve_environment(record, READ(mm->env_end))) {
		execve_go_on(ctx);
		record->header.flags |= HL_EXECVE_ENVIRONMENT_CUT;
	}
	body->environment_length = record->header.length - record->passed[EXECVE_TAIL];
	hl_submit(record);
	return 0;
}

/* Finds the socket, between the paths and the arguments. */
int execve_succeeded_socket(void *ctx)
{
	struct task_struct *task = hl_task();
	struct mm_struct *mm = READ(task->mm);
	struct hl_record *record = hl_this_record_in(HL_LANE_OF(HL_FORM_EXECVE));
	struct hl_execve *body;

	if (!record)
		return 0;
	body = hl_body(record, execve);
	body->socket_length = socket_owner_append(record, socket_owner_is_pipe(body->stdin_mode) ||
							  socket_owner_is_pipe(body->stdout_mode),
						  HL_EXECVE_SOCKET_CUT);
	execve_go_on(ctx);
	/* That was the last call that the kernel allows. */
	body->argv_length = hl_append_block(record, READ(mm->arg_start), READ(mm->arg_end),
					    HL_EXECVE_ARGV_MAX, HL_EXECVE_ARGV_CUT);
	record->header.flags |= HL_EXECVE_ENVIRONMENT_CUT;
	hl_submit(record);
	return 0;
}

/* Attached to the returns of execve and of execveat. */
int execve_failed(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	struct hl_record *record;
	u64 filename, argv;
	u32 length;

	if (ctx->result >= 0)
		return 0;
	record = hl_begin(HL_KIND_EXECVE, HL_SLOT_EXECVE, HL_SIZE_EXECVE);
	if (!record)
		return 0;
	filename = READ(registers->di);
	argv = READ(registers->si);
	if (ctx->number == EXECVE_NR_EXECVEAT) {
		filename = argv;
		argv = READ(registers->dx);
	}
	record->passed[0] = argv;
	hl_body(record, execve)->result = ctx->result;
	length = hl_append_string(record, (char *)filename, HL_EXECVE_FILENAME_MAX, hl_read_user_str);
	hl_body(record, execve)->filename_length = hl_chop(record, length);
	if (!length || length == HL_EXECVE_FILENAME_MAX)
		record->header.flags |= HL_EXECVE_FILENAME_CUT;
	hl_tails.call(ctx, HL_TAIL_EXECVE_FAILED_PATHS);
	hl_discard(record);
	return 0;
}

/* Appends the argument strings of a failed call; gives the flags to set. */
static __always_inline u32 execve_failed_argv(struct hl_record *record, const char **argv)
{
	u32 start = record->header.length;

#pragma clang loop unroll(disable)
	for (int i = 0; i <= EXECVE_FAILED_ARGS; i++) {
		const char *argument = NULL;
		u32 length;

		if (bpf_probe_read_user(&argument, sizeof(argument), argv + i))
			return HL_EXECVE_ARGV_CUT;
		if (!argument)
			return 0;
		if (i == EXECVE_FAILED_ARGS || record->header.length - start > HL_EXECVE_ARGV_MAX - HL_PATH_SIZE)
			return HL_EXECVE_ARGV_CUT;
		length = hl_append_string(record, argument, HL_PATH_SIZE, hl_read_user_str);
		if (!length || length == HL_PATH_SIZE)
			return HL_EXECVE_ARGV_CUT;
	}
	return HL_EXECVE_ARGV_CUT;
}

int execve_failed_paths(struct hl_sys_exit *ctx)
{
	struct hl_record *record = hl_this_record();
	u32 start;

	if (!record)
		return 0;
	if (!execve_paths(record)) {
		hl_tails.call(ctx, HL_TAIL_EXECVE_FAILED_PATHS);
		execve_paths_cut(record);
	}
	start = record->header.length;
	record->header.flags |= execve_failed_argv(record, (const char **)record->passed[0]);
	hl_body(record, execve)->argv_length = record->header.length - start;
	hl_submit(record);
	return 0;
}
