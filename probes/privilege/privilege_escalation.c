/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The probe remembers of each thread who it was, and whether it then had the
 * right to become root. Where a thread is root at its next fork, execution or
 * change of ids, and had not, nothing that the kernel allows has made it so.
 * A thread that is not known, because it was there before the probe or was
 * forgotten, is believed once.
 */

#define PRIVILEGE_ESCALATION_CAP_SETGID	6
#define PRIVILEGE_ESCALATION_CAP_SETUID	7
#define PRIVILEGE_ESCALATION_EXTENTS	5	/* of a user namespace's map */

enum { PRIVILEGE_ESCALATION_FORK = 1, PRIVILEGE_ESCALATION_EXECVE, PRIVILEGE_ESCALATION_IDS };

struct privilege_escalation_known {
	struct hl_ids ids;
	u32 may_uid;	/* had a user id 0 or the right to take it */
	u32 may_gid;
};

/* struct uid_gid_extent */
struct privilege_escalation_extent {
	u32 first;
	u32 lower_first;	/* as the initial user namespace counts */
	u32 count;
};

BPF_TABLE("lru_hash", u32, struct privilege_escalation_known, privilege_escalation_threads, 32768);

static __always_inline bool privilege_escalation_is_root(const struct hl_ids *ids)
{
	return !ids->uid || !ids->euid || !ids->suid || !ids->fsuid;
}

static __always_inline bool privilege_escalation_is_root_group(const struct hl_ids *ids)
{
	return !ids->gid || !ids->egid || !ids->sgid || !ids->fsgid;
}

static __always_inline void privilege_escalation_read(struct hl_ids *ids, const struct cred *cred)
{
	ids->uid = READ(cred->uid);
	ids->euid = READ(cred->euid);
	ids->suid = READ(cred->suid);
	ids->fsuid = READ(cred->fsuid);
	ids->gid = READ(cred->gid);
	ids->egid = READ(cred->egid);
	ids->sgid = READ(cred->sgid);
	ids->fsgid = READ(cred->fsgid);
}

/* Whether somebody in a user namespace with this map can be the host's own root. */
static __always_inline bool privilege_escalation_maps_root(const void *map)
{
	struct privilege_escalation_extent extents[PRIVILEGE_ESCALATION_EXTENTS] = {};

	bpf_probe_read_kernel(extents, sizeof(extents), map);
#pragma unroll
	for (int i = 0; i < PRIVILEGE_ESCALATION_EXTENTS; i++)
		if (extents[i].count && !extents[i].lower_first)
			return true;
	return false;
}

static __always_inline void privilege_escalation_remember(u32 thread, const struct cred *cred,
							  const struct hl_ids *ids)
{
	struct user_namespace *user_ns = READ(cred->user_ns);
	struct privilege_escalation_known known = {};
	u64 capabilities = 0;

	bpf_probe_read_kernel(&capabilities, sizeof(capabilities), &cred->cap_permitted);
	known.ids = *ids;
	known.may_uid = privilege_escalation_is_root(ids) ||
			((capabilities & 1ULL << PRIVILEGE_ESCALATION_CAP_SETUID) &&
			 privilege_escalation_maps_root(&user_ns->uid_map_extent));
	known.may_gid = privilege_escalation_is_root_group(ids) ||
			((capabilities & 1ULL << PRIVILEGE_ESCALATION_CAP_SETGID) &&
			 privilege_escalation_maps_root(&user_ns->gid_map_extent));
	/* Better unknown than as the thread that had this number before. */
	if (privilege_escalation_threads.update(&thread, &known))
		privilege_escalation_threads.delete(&thread);
}

static __always_inline void privilege_escalation_tell(u32 seen_at, const struct hl_ids *ids,
						      const struct hl_ids *before)
{
	struct task_struct *task = hl_task();
	struct task_struct *leader = READ(task->group_leader);
	struct task_struct *ancestor = READ(leader->real_parent);
	struct hl_privilege_escalation *body;
	struct hl_record *record;

	record = hl_begin(HL_KIND_PRIVILEGE_ESCALATION, HL_SLOT_PRIVILEGE_ESCALATION,
			  HL_SIZE_PRIVILEGE_ESCALATION);
	if (!record)
		return;
	body = hl_body(record, privilege_escalation);
	body->seen_at = seen_at;
	body->c_cred = *ids;
	body->old_cred = *before;
	privilege_escalation_read(&body->p_cred, READ(ancestor->real_cred));
	/* Of the two that made it, the one that is not root tells more. */
	if (privilege_escalation_is_root(&body->p_cred)) {
		leader = READ(ancestor->group_leader);
		ancestor = READ(leader->real_parent);
		privilege_escalation_read(&body->p_cred, READ(ancestor->real_cred));
	}
	body->p_pid = READ(ancestor->tgid);
	hl_submit(record);
}

/*
 * Compares the current task with what is known of `thread`, which it is or was.
 * An executable can be set-user-ID, which leaves the real ids as they were.
 */
static __always_inline void privilege_escalation_check(u32 seen_at, u32 thread, const struct hl_ids *ids,
						       bool real_ids_alone)
{
	struct privilege_escalation_known *known = privilege_escalation_threads.lookup(&thread);
	bool user, group;

	if (!known)
		return;
	user = real_ids_alone ? !ids->uid : privilege_escalation_is_root(ids);
	group = real_ids_alone ? !ids->gid : privilege_escalation_is_root_group(ids);
	if ((user && !known->may_uid) || (group && !known->may_gid))
		privilege_escalation_tell(seen_at, ids, &known->ids);
}

int privilege_escalation_forked(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx->args[0];
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	const struct cred *cred = READ(parent->real_cred);
	const struct cred *childs = READ(child->real_cred);
	u32 thread = READ(parent->pid);
	struct hl_ids ids = {};

	privilege_escalation_read(&ids, cred);
	privilege_escalation_check(PRIVILEGE_ESCALATION_FORK, thread, &ids, false);
	privilege_escalation_remember(thread, cred, &ids);
	privilege_escalation_remember(READ(child->pid), childs, &ids);
	return 0;
}

int privilege_escalation_executed(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	u32 thread = ctx->args[1];	/* another thread than the first takes the first one's number */
	struct linux_binprm *binprm = (struct linux_binprm *)ctx->args[2];
	const struct cred *cred = READ(task->real_cred);
	struct hl_ids ids = {};

	privilege_escalation_read(&ids, cred);
	privilege_escalation_check(PRIVILEGE_ESCALATION_EXECVE, thread, &ids, READ(binprm->per_clear) != 0);
	privilege_escalation_remember(READ(task->pid), cred, &ids);
	return 0;
}

int privilege_escalation_ids_set(void *ctx)
{
	struct task_struct *task = hl_task();
	const struct cred *cred = READ(task->real_cred);
	u32 thread = bpf_get_current_pid_tgid();
	struct hl_ids ids = {};

	privilege_escalation_read(&ids, cred);
	privilege_escalation_check(PRIVILEGE_ESCALATION_IDS, thread, &ids, false);
	privilege_escalation_remember(thread, cred, &ids);
	return 0;
}
