/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program remembers who a task is before its credentials can change, another
 * compares afterwards: around commit_creds(), or around the system calls that
 * change the real user id. Root has nothing to gain and is not remembered.
 */

#ifdef HL_FORM_UPDATE_CRED_FENTRY
#define UPDATE_CRED_LANE HL_LANE_PREEMPTIBLE
#else
#define UPDATE_CRED_LANE HL_LANE_TASK
#endif

struct update_cred_ids {
	u32 uid;
	u32 euid;
};

/* By thread, which holds an entry for as long as one call. */
BPF_TABLE("lru_hash", u32, struct update_cred_ids, update_cred_before, 4096);

static __always_inline struct update_cred_ids update_cred_current(void)
{
	struct task_struct *task = hl_task();
	/* The task's own: what it acts with (cred) may be lent to it. */
	const struct cred *cred = READ(task->real_cred);
	struct update_cred_ids ids = {};

	ids.uid = READ(cred->uid);
	ids.euid = READ(cred->euid);
	return ids;
}

int update_cred_changes(void *ctx)
{
	struct update_cred_ids ids = update_cred_current();
	u32 thread = bpf_get_current_pid_tgid();

	if (ids.uid)
		update_cred_before.update(&thread, &ids);
	return 0;
}

int update_cred_changed(void *ctx)
{
	struct hl_settings *settings = hl_get_settings();
	u32 thread = bpf_get_current_pid_tgid();
	struct update_cred_ids *found = update_cred_before.lookup(&thread);
	struct update_cred_ids before;
	struct hl_record *record;

	if (!found || !settings)
		return 0;
	before = *found;
	update_cred_before.delete(&thread);
	if (update_cred_current().uid)
		return 0;
	record = hl_begin_in(UPDATE_CRED_LANE, HL_KIND_UPDATE_CRED, HL_SLOT_UPDATE_CRED,
			     HL_SIZE_UPDATE_CRED);
	if (!record)
		return 0;
	if (hl_excludes(settings, &record->header.exe_file, HL_EXCLUDE_BECOME_ROOT)) {
		hl_count_filtered(HL_SLOT_UPDATE_CRED);
		hl_discard(record);
		return 0;
	}
	hl_body(record, update_cred)->old_uid = before.uid;
	hl_body(record, update_cred)->old_euid = before.euid;
	hl_submit(record);
	return 0;
}
