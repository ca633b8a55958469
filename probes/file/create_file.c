/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at the return of an open: the kernel marks the file that this very call
 * created with FMODE_CREATED. An open that created nothing leaves after a few
 * reads; for one that did, all open calls share the program that tells.
 */

#define CREATE_FILE_FMODE_CREATED 0x100000	/* FMODE_CREATED, Linux 4.19 */

/* The record for a file that this open created; NULL if it created none. */
static __always_inline struct hl_record *create_file_created(s64 descriptor)
{
	struct hl_record *record;
	struct file *file;

	if (descriptor < 0)
		return NULL;
	file = hl_descriptor(descriptor);
	if (!(READ(file->f_mode) & CREATE_FILE_FMODE_CREATED))
		return NULL;
	record = hl_take(HL_SLOT_CREATE_FILE);
	if (!record)
		return NULL;
	record->passed[0] = (u64)file;
	record->passed[1] = descriptor;
	record->walking = false;
	return record;
}

static __always_inline int create_file_call(void *ctx, s64 descriptor)
{
	struct hl_record *record = create_file_created(descriptor);

	if (!record)
		return 0;
	hl_tails.call(ctx, HL_TAIL_CREATE_FILE_REPORT);
	hl_discard(record);
	return 0;
}

int create_file_opened(struct hl_sys_exit *ctx)
{
	return create_file_call(ctx, ctx->result);
}

int create_file_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;
	u8 opcode = READ(request->opcode);

	if (opcode != HL_IORING_OP_OPENAT && opcode != HL_IORING_OP_OPENAT2)
		return 0;
	return create_file_call(ctx, ctx->result);
}

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
	hl_walk_from(record, &file->f_path);
	return true;
}

/* Calls itself until the whole path is walked. */
int create_file_report(void *ctx)
{
	struct hl_record *record = hl_this_record();
	enum hl_walk how;

	if (!record)
		return 0;
	if (!record->walking && !create_file_begin(record))
		return 0;
	how = hl_walk(record);
	if (how == HL_WALK_MORE)
		hl_tails.call(ctx, HL_TAIL_CREATE_FILE_REPORT);
	if (how != HL_WALK_DONE)
		record->header.flags |= HL_CREATE_FILE_PATH_CUT;
	hl_body(record, create_file)->path_length = hl_append_path(record, how);
	hl_submit(record);
	return 0;
}
