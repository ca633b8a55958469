/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Names that a system call was given, as "path" tails. At its return each is
 * the directory that it starts from, as the kernel walks it, then the rest as
 * the caller's memory holds it. Where a kernel function with the dentries is
 * seen, all of it is walked.
 */

#ifndef HOOKLINE_NAMES_H
#define HOOKLINE_NAMES_H

#define NAMES_AT_FDCWD	-100
#define NAMES_DOTS	64	/* "./", "../" and "/" that are followed at the beginning of a name */
#define NAMES_STACKED	8	/* mounts on one place */

/* Goes to the parent directory as the kernel's own look-up of ".." does, in the caller's root at most. */
static __always_inline void names_walk_up(struct hl_record *record, struct path *top)
{
	struct vfsmount *top_mount = READ(top->mnt);

#pragma clang loop unroll(disable)
	for (int i = 0; i < NAMES_STACKED; i++) {
		struct mount *mount = record->mount;
		struct mount *up;

		if (record->dentry == READ(top->dentry) && &mount->mnt == top_mount)
			return;
		if (record->dentry != record->root)
			break;
		up = READ(mount->mnt_parent);
		if (up == mount || !up)
			return;
		record->dentry = READ(mount->mnt_mountpoint);
		hl_walk_mount(record, up);
	}
	record->dentry = READ(record->dentry->d_parent);
}

/*
 * Points the walk at the directory that `name` starts from: the caller's root,
 * its working directory or an open one, and from there where the dots at its
 * beginning lead. Gives what is left of the name.
 */
static __always_inline const char *names_walk_to_start(struct hl_record *record, s32 directory,
						       const char *name)
{
	struct task_struct *task = hl_task();
	struct fs_struct *fs = READ(task->fs);
	struct path *start = &fs->pwd;
	char next[4] = {};

	bpf_probe_read_user(next, 1, name);
	if (next[0] == '/') {
		start = &fs->root;
	} else if (directory != NAMES_AT_FDCWD) {
		struct file *file = hl_descriptor(directory);

		if (!file)
			return name;
		start = &file->f_path;
	}
	hl_walk_from(record, start);
#pragma clang loop unroll(disable)
	for (int i = 0; i < NAMES_DOTS; i++) {
		if (hl_read_user_str(next, sizeof(next), name) < 0)
			break;
		if (next[0] == '/') {
			name++;
		} else if (next[0] == '.' && next[1] == '/') {
			name += 2;
		} else if (next[0] == '.' && next[1] == '.' && next[2] == '/') {
			names_walk_up(record, &fs->root);
			name += 3;
		} else {
			break;
		}
	}
	return name;
}

/*
 * Notes a name of the record, number 0 or 1: a directory's descriptor and the
 * caller's string, or a struct path and a dentry below its mount.
 */
static __always_inline void names_pass(struct hl_record *record, u32 number, u64 start, u64 name)
{
	record->passed[2 * number] = start;
	record->passed[2 * number + 1] = name;
}

static __always_inline void names_start(struct hl_record *record, const u32 form, u32 at)
{
	u64 start = record->passed[at];
	u64 name = record->passed[at + 1];

	if (form == HL_BY_TRACEPOINT) {
		name = (u64)names_walk_to_start(record, start, (const char *)name);
	} else {
		hl_walk_from(record, (struct path *)start);
		record->dentry = (struct dentry *)name;
		name = 0;
	}
	record->passed[at + 1] = name;
}

/* Appends the next name of the record. False: the walk is not at its end, and the program must call itself. */
static __always_inline bool names_tell(struct hl_record *record, const u32 form, u32 *walked, u32 *length,
				       u32 cut)
{
	u32 at = 2 * (record->stage & 1);
	enum hl_walk how = HL_WALK_CUT;
	u32 rest = 0;

	if (!record->walking)
		names_start(record, form, at);
	if (record->walking) {
		how = hl_walk(record);
		if (how == HL_WALK_MORE)
			return false;
		*walked = hl_append_path(record, how);
		/* The mount hangs nowhere any more: this is no more than the path in it. */
		if (!READ(record->mount->mnt_ns))
			how = HL_WALK_CUT;
	}
	if (form == HL_BY_TRACEPOINT) {
		rest = hl_append_string(record, (const char *)record->passed[at + 1], HL_PATH_SIZE,
					hl_read_user_str);
		if (!rest)
			how = HL_WALK_CUT;
	}
	if (how != HL_WALK_DONE)
		record->header.flags |= cut;
	*length = *walked + hl_chop(record, rest);
	record->walking = false;
	record->stage++;
	return true;
}

/* Goes on in EVENT_report; where no further call is possible, the record goes out as it is. */
#define NAMES_REPORT(ctx, record, EVENT, cut)							\
do {												\
	hl_call(ctx, HL_FORM_##EVENT, HL_TAIL_##EVENT##_REPORT);				\
	(record)->header.flags |= (cut);							\
	hl_submit(record);									\
} while (0)

/* The program that tells an event with one name. */
#define NAMES_ONE(event, EVENT, field, FIELD)							\
int event##_report(void *ctx)									\
{												\
	struct hl_record *record = hl_this_record_in(HL_LANE_OF(HL_FORM_##EVENT));		\
	struct hl_##event *body;								\
												\
	if (!record)										\
		return 0;									\
	body = hl_body(record, event);								\
	if (names_tell(record, HL_FORM_##EVENT, &body->field##_walked, &body->field##_length,	\
		       HL_##EVENT##_##FIELD##_CUT))						\
		hl_submit(record);								\
	else											\
		NAMES_REPORT(ctx, record, EVENT, HL_##EVENT##_##FIELD##_CUT);			\
	return 0;										\
}

/* The program that tells an event with an old name and a new one, one after the other. */
#define NAMES_TWO(event, EVENT)									\
int event##_report(void *ctx)									\
{												\
	struct hl_record *record = hl_this_record_in(HL_LANE_OF(HL_FORM_##EVENT));		\
	struct hl_##event *body;								\
	bool second;										\
												\
	if (!record)										\
		return 0;									\
	body = hl_body(record, event);								\
	second = record->stage;									\
	if (names_tell(record, HL_FORM_##EVENT,							\
		       second ? &body->new_name_walked : &body->old_name_walked,		\
		       second ? &body->new_name_length : &body->old_name_length,		\
		       second ? HL_##EVENT##_NEW_NAME_CUT : HL_##EVENT##_OLD_NAME_CUT) &&	\
	    second)										\
		hl_submit(record);								\
	else											\
		NAMES_REPORT(ctx, record, EVENT,						\
			     HL_##EVENT##_OLD_NAME_CUT | HL_##EVENT##_NEW_NAME_CUT);		\
	return 0;										\
}

#endif
