/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at the return of an open, of the system call or of the function that
 * opens for all of them: the kernel marks the file that this very call created
 * with FMODE_CREATED. An open that created nothing leaves at once, or after a few
 * reads; for one that did, all open calls share the program that tells.
 */

#include "process/socket_owner.h"

#define CREATE_FILE_FMODE_CREATED 0x100000	/* FMODE_CREATED, Linux 4.19 */
#define CREATE_FILE_O_CREAT	0100
#define CREATE_FILE_O_TMPFILE	020000000	/* __O_TMPFILE */
#define CREATE_FILE_NR_OPEN	2	/* x86-64 */
#define CREATE_FILE_NR_OPENAT	257
#define CREATE_FILE_LANE	HL_LANE_OF(HL_FORM_CREATE_FILE)

static __always_inline void create_file_go_on(void *ctx, u32 program)
{
#if defined(HL_FORM_CREATE_FILE_FENTRY)
	hl_fexit_tails.call(ctx, program);
#elif defined(HL_FORM_CREATE_FILE_KPROBE)
	hl_kprobe_tails.call(ctx, program);
#else
	hl_tails.call(ctx, program);
#endif
}

/* Has a file told that was opened, if it is new. */
static __always_inline int create_file_call(void *ctx, struct file *file, s32 descriptor)
{
	struct hl_record *record;

	if (!(READ(file->f_mode) & CREATE_FILE_FMODE_CREATED))
		return 0;
	record = hl_take_in(CREATE_FILE_LANE, HL_SLOT_CREATE_FILE);
	if (!record)
		return 0;
	record->passed[0] = (u64)file;
	record->passed[1] = descriptor;
	record->walking = false;
	create_file_go_on(ctx, HL_TAIL_CREATE_FILE_REPORT);
	hl_discard(record);
	return 0;
}

#if defined(HL_FORM_CREATE_FILE_FENTRY)

/* struct file *do_filp_open(int, struct filename *, const struct open_flags *); an error is no readable file. */
int create_file_open_returned(u64 *ctx)
{
	return create_file_call(ctx, (struct file *)ctx[3], -1);
}

#elif defined(HL_FORM_CREATE_FILE_KPROBE)

int create_file_open_returned(struct pt_regs *ctx)
{
	return create_file_call(ctx, (struct file *)PT_REGS_RC(ctx), -1);
}

#else

/*
 * Whether the call asked for a file that is there already, as nearly all do. Its
 * caller's registers are as the kernel took them: nobody changes them meanwhile.
 */
static __always_inline bool create_file_is_plain(struct hl_sys_exit *ctx)
{
#if defined(HL_BPF_FUNC_task_pt_regs) && !defined(HL_KFUNC_RDONLY_CAST)
	u64 flags = CREATE_FILE_O_CREAT;

	if (ctx->number == CREATE_FILE_NR_OPENAT)
		flags = FOLLOW(hl_user_registers(), dx);
	else if (ctx->number == CREATE_FILE_NR_OPEN)
		flags = FOLLOW(hl_user_registers(), si);
	return !(flags & (CREATE_FILE_O_CREAT | CREATE_FILE_O_TMPFILE));
#else
	return false;	/* to look at the file takes no longer than to find the registers */
#endif
}

int create_file_opened(struct hl_sys_exit *ctx)
{
	return ctx->result < 0 || create_file_is_plain(ctx) ? 0 : create_file_call(ctx, hl_descriptor(ctx->result), ctx->result);
}

int create_file_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;
	u8 opcode = READ(request->opcode);

	if (opcode != HL_IORING_OP_OPENAT && opcode != HL_IORING_OP_OPENAT2)
		return 0;
	return ctx->result < 0 ? 0 : create_file_call(ctx, hl_descriptor(ctx->result), ctx->result);
}

#endif

static __always_inline bool create_file_begin(struct hl_record *record)
{
	struct file *file = (struct file *)record->passed[0];
	struct inode *inode = READ(file->f_inode);
	struct hl_create_file *body;

	if (!hl_fill(record, HL_KIND_CREATE_FILE, HL_SLOT_CREATE_FILE, HL_SIZE_CREATE_FILE))
		return false;
	body = hl_body(record, create_file);
	body->fd = record->passed[1];
	body->device = hl_device(inode);
	body->inode = READ(inode->i_ino);
	body->mode = READ(inode->i_mode);
	body->open_flags = READ(file->f_flags);
	body->created.inode = body->inode;
	body->created.ctime = hl_nanoseconds(READ(inode->i_ctime_sec),
					     READ(inode->i_ctime_nsec) & ~HL_CTIME_QUERIED);
	body->created.device = body->device;
	body->created.generation = READ(inode->i_generation);
	hl_walk_from(record, &file->f_path);
	return true;
}

/* Calls itself until the whole path is walked. */
int create_file_report(void *ctx)
{
	struct hl_record *record = hl_this_record_in(CREATE_FILE_LANE);
	enum hl_walk how;

	if (!record)
		return 0;
	if (!record->walking && !create_file_begin(record))
		return 0;
	how = hl_walk(record);
	if (how == HL_WALK_MORE)
		create_file_go_on(ctx, HL_TAIL_CREATE_FILE_REPORT);
	if (how != HL_WALK_DONE)
		record->header.flags |= HL_CREATE_FILE_PATH_CUT;
	hl_body(record, create_file)->path_length = hl_append_path(record, how);
	create_file_go_on(ctx, HL_TAIL_CREATE_FILE_SOCKET);
	record->header.flags |= HL_CREATE_FILE_SOCKET_CUT;
	hl_submit(record);
	return 0;
}

static __always_inline bool create_file_is_pipe(u32 number)
{
	struct file *file = hl_descriptor(number);
	struct inode *inode = READ(file->f_inode);

	return socket_owner_is_pipe(READ(inode->i_mode));
}

int create_file_socket(void *ctx)
{
	struct hl_record *record = hl_this_record_in(CREATE_FILE_LANE);

	if (!record)
		return 0;
	hl_body(record, create_file)->socket_length = socket_owner_append(
		record, create_file_is_pipe(0) || create_file_is_pipe(1), HL_CREATE_FILE_SOCKET_CUT);
	hl_submit(record);
	return 0;
}
