/* SPDX-License-Identifier: GPL-2.0-only */

#include "file/names.h"

#define MOUNT_NR_MOUNT		165	/* x86-64 */
#define MOUNT_NR_UMOUNT2	166
#define MOUNT_NR_MOVE_MOUNT	429

static __always_inline struct hl_record *mount_begin(u32 call)
{
	struct hl_record *record = hl_begin_in(HL_LANE_OF(HL_FORM_MOUNT), HL_KIND_MOUNT, HL_SLOT_MOUNT, HL_SIZE_MOUNT);

	if (record)
		hl_body(record, mount)->call = call;
	return record;
}

/* Appends a string of the caller or of the kernel; gives its length, 0 where there is none. */
static __always_inline u32 mount_text(struct hl_record *record, const char *from, const u32 limit,
				      const bool user, u32 cut)
{
	u32 length;

	if (!from)
		return 0;
	if (user)
		length = hl_append_string(record, from, limit, hl_read_user_str);
	else
		length = hl_append_string(record, from, limit, bpf_probe_read_kernel_str);
	if (!length || length == limit)
		record->header.flags |= cut;
	return hl_chop(record, length);
}

static __always_inline void mount_texts(struct hl_record *record, const char *device, const char *type,
					const bool user)
{
	struct hl_mount *body = hl_body(record, mount);

	body->dev_length = mount_text(record, device, HL_MOUNT_DEV_MAX, user, HL_MOUNT_DEV_CUT);
	body->fstype_length = mount_text(record, type, HL_MOUNT_FSTYPE_MAX, user, HL_MOUNT_FSTYPE_CUT);
}

/* Device and type of what stands mounted already. */
static __always_inline void mount_texts_of(struct hl_record *record, struct vfsmount *mnt)
{
	struct mount *mount = (struct mount *)((void *)mnt - offsetof(struct mount, mnt));
	struct super_block *super = READ(mnt->mnt_sb);
	struct file_system_type *type = READ(super->s_type);

	mount_texts(record, READ(mount->mnt_devname), READ(type->name), false);
}

#ifdef HL_FORM_MOUNT_TRACEPOINT
int mount_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	struct hl_record *record = mount_begin(MOUNT_NR_MOUNT);

	if (!record)
		return 0;
	hl_body(record, mount)->result = ctx->result;
	hl_body(record, mount)->mount_flags = READ(registers->r10);
	mount_texts(record, (const char *)READ(registers->di), (const char *)READ(registers->dx), true);
	names_pass(record, 0, NAMES_AT_FDCWD, READ(registers->si));
	NAMES_REPORT(ctx, record, MOUNT, HL_MOUNT_FILE_PATH_CUT);
	return 0;
}

int mount_umounted(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	struct hl_record *record = mount_begin(MOUNT_NR_UMOUNT2);

	if (!record)
		return 0;
	hl_body(record, mount)->result = ctx->result;
	hl_body(record, mount)->mount_flags = READ(registers->si);
	names_pass(record, 0, NAMES_AT_FDCWD, READ(registers->di));
	NAMES_REPORT(ctx, record, MOUNT, HL_MOUNT_FILE_PATH_CUT);
	return 0;
}

int mount_moved(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	struct hl_record *record = mount_begin(MOUNT_NR_MOVE_MOUNT);
	const char *from = (const char *)READ(registers->si);
	struct file *file;
	char first = 0;

	if (!record)
		return 0;
	hl_body(record, mount)->result = ctx->result;
	hl_body(record, mount)->mount_flags = READ(registers->r8);
	bpf_probe_read_user(&first, sizeof(first), from);
	if (first) {
		mount_texts(record, from, NULL, true);
	} else {
		/* A mount that hangs nowhere yet, behind a descriptor: of fsmount(2) or open_tree(2). */
		file = hl_descriptor(READ(registers->di));
		mount_texts_of(record, READ(file->f_path.mnt));
	}
	names_pass(record, 0, READ(registers->dx), READ(registers->r10));
	NAMES_REPORT(ctx, record, MOUNT, HL_MOUNT_FILE_PATH_CUT);
	return 0;
}
#else
/* security_sb_mount(dev_name, path, type, flags, data) */
int mount_asked(void *ctx)
{
	struct hl_record *record = mount_begin(MOUNT_NR_MOUNT);
	struct path *path;

	if (!record)
		return 0;
	path = (struct path *)hl_argument(ctx, HL_FORM_MOUNT, 1);
	hl_body(record, mount)->mount_flags = hl_argument(ctx, HL_FORM_MOUNT, 3);
	mount_texts(record, (const char *)hl_argument(ctx, HL_FORM_MOUNT, 0),
		    (const char *)hl_argument(ctx, HL_FORM_MOUNT, 2), false);
	names_pass(record, 0, (u64)path, (u64)READ(path->dentry));
	NAMES_REPORT(ctx, record, MOUNT, HL_MOUNT_FILE_PATH_CUT);
	return 0;
}

/* security_sb_umount(mnt, flags) */
int mount_umount_asked(void *ctx)
{
	struct hl_record *record = mount_begin(MOUNT_NR_UMOUNT2);
	struct vfsmount *mnt;

	if (!record)
		return 0;
	mnt = (struct vfsmount *)hl_argument(ctx, HL_FORM_MOUNT, 0);
	hl_body(record, mount)->mount_flags = hl_argument(ctx, HL_FORM_MOUNT, 1);
	/* The walk begins here: there is no struct path to pass. */
	record->dentry = READ(mnt->mnt_root);
	hl_walk_mount(record, (struct mount *)((void *)mnt - offsetof(struct mount, mnt)));
	record->position = HL_PATH_SIZE;
	record->walking = true;
	NAMES_REPORT(ctx, record, MOUNT, HL_MOUNT_FILE_PATH_CUT);
	return 0;
}

/* security_move_mount(from, to) */
int mount_move_asked(void *ctx)
{
	struct hl_record *record = mount_begin(MOUNT_NR_MOVE_MOUNT);
	struct path *from, *to;

	if (!record)
		return 0;
	from = (struct path *)hl_argument(ctx, HL_FORM_MOUNT, 0);
	to = (struct path *)hl_argument(ctx, HL_FORM_MOUNT, 1);
	mount_texts_of(record, READ(from->mnt));
	names_pass(record, 0, (u64)to, (u64)READ(to->dentry));
	NAMES_REPORT(ctx, record, MOUNT, HL_MOUNT_FILE_PATH_CUT);
	return 0;
}
#endif

NAMES_ONE(mount, MOUNT, file_path, FILE_PATH)
