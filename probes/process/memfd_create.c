/* SPDX-License-Identifier: GPL-2.0-only */
/* The name is the one that the kernel gave the file: the caller's memory is not asked. */

#define MEMFD_CREATE_PREFIX	6	/* bytes of "memfd:", which the kernel puts before it */

int memfd_create_returned(struct hl_sys_exit *ctx)
{
	struct hl_memfd_create *body;
	struct hl_record *record;
	struct dentry *dentry;
	struct file *file;
	u32 length;

	if (ctx->result < 0)
		return 0;
	record = hl_begin(HL_KIND_MEMFD_CREATE, HL_SLOT_MEMFD_CREATE, HL_SIZE_MEMFD_CREATE);
	if (!record)
		return 0;
	file = hl_descriptor(ctx->result);
	dentry = READ(file->f_path.dentry);
	body = hl_body(record, memfd_create);
	body->fd = ctx->result;
	body->memfd_flags = READ(hl_user_registers()->si);
	length = hl_append_string(record, READ(dentry->d_name.name) + MEMFD_CREATE_PREFIX,
				  HL_MEMFD_CREATE_FDNAME_MAX, bpf_probe_read_kernel_str);
	if (!length)
		record->header.flags |= HL_MEMFD_CREATE_FDNAME_CUT;
	body->fdname_length = hl_chop(record, length);
	hl_submit(record);
	return 0;
}
