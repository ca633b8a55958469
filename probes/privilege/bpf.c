/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at return. The name and type are those of the kernel's own object
 * behind a descriptor: the one that the call gave, or one that its attributes
 * name. A map or program that was refused is no object; of that the attributes
 * alone tell, and `from_caller` says so.
 */

#define BPF_CALL_ANON_INODES	0x09041934	/* ANON_INODE_FS_MAGIC */
#define BPF_CALL_MAP_NAME_AT	28		/* map_name in union bpf_attr */
#define BPF_CALL_PROG_NAME_AT	48		/* prog_name */

/* How an open file is called in the kernel's own file system of these: 8 bytes as they lie in memory. */
#define BPF_CALL_IS_MAP		0x0070616d2d667062ULL	/* "bpf-map" and its NUL */
#define BPF_CALL_IS_PROG	0x676f72702d667062ULL	/* "bpf-prog" */

static __always_inline u32 bpf_call_ns_id(struct task_struct *task)
{
	struct pid *pid = READ(task->thread_pid);
	u32 level = READ(pid->level);
	struct upid *upid = (struct upid *)&pid->numbers + (level & 31);

	return READ(upid->nr);
}

/* Where in the attributes a command names the descriptor of what it works on; -1: it names none. */
static __always_inline int bpf_call_descriptor_at(u32 command)
{
	switch (command) {
	case HL_BPF_MAP_LOOKUP_ELEM:
	case HL_BPF_MAP_UPDATE_ELEM:
	case HL_BPF_MAP_DELETE_ELEM:
	case HL_BPF_MAP_GET_NEXT_KEY:
	case HL_BPF_MAP_LOOKUP_AND_DELETE_ELEM:
	case HL_BPF_MAP_FREEZE:
	case HL_BPF_PROG_TEST_RUN:
	case HL_BPF_OBJ_GET_INFO_BY_FD:
	case HL_BPF_LINK_CREATE:
	case HL_BPF_PROG_BIND_MAP:
		return 0;
	case HL_BPF_PROG_ATTACH:
	case HL_BPF_PROG_DETACH:
	case HL_BPF_LINK_UPDATE:
		return 4;
	case HL_BPF_OBJ_PIN:
	case HL_BPF_RAW_TRACEPOINT_OPEN:
		return 8;
	case HL_BPF_MAP_LOOKUP_BATCH:
	case HL_BPF_MAP_LOOKUP_AND_DELETE_BATCH:
	case HL_BPF_MAP_UPDATE_BATCH:
	case HL_BPF_MAP_DELETE_BATCH:
		return 36;
	}
	return -1;
}

static __always_inline bool bpf_call_gives_object(u32 command)
{
	return command == HL_BPF_MAP_CREATE || command == HL_BPF_PROG_LOAD || command == HL_BPF_OBJ_GET ||
	       command == HL_BPF_PROG_GET_FD_BY_ID || command == HL_BPF_MAP_GET_FD_BY_ID;
}

static __always_inline void bpf_call_read_file(struct hl_bpf *body, struct file *file)
{
	struct inode *inode = READ(file->f_inode);
	struct super_block *super = READ(inode->i_sb);
	struct dentry *dentry = READ(file->f_path.dentry);
	const u8 *label = READ(dentry->d_name.name);
	u64 word = 0;

	/* Nobody can put a file of another kind, or of that name, into this file system. */
	if (READ(super->s_magic) != BPF_CALL_ANON_INODES)
		return;
	bpf_probe_read_kernel(&word, sizeof(word), label);
	if (word == BPF_CALL_IS_MAP) {
		struct bpf_map *map = (struct bpf_map *)READ(file->private_data);

		body->map_type = READ(map->map_type);
		body->object_id = READ(map->id);
		bpf_probe_read_kernel(body->object_name, sizeof(body->object_name), &map->name);
	} else if (word == BPF_CALL_IS_PROG) {
		struct bpf_prog *prog = (struct bpf_prog *)READ(file->private_data);
		struct bpf_prog_aux *aux = READ(prog->aux);

		body->prog_type = READ(prog->type);
		body->object_id = READ(aux->id);
		bpf_probe_read_kernel(body->object_name, sizeof(body->object_name), &aux->name);
	}
}

/* What was asked for and refused. */
static __always_inline void bpf_call_read_caller(struct hl_bpf *body, const void *attributes, u32 size)
{
	s32 *type = body->cmd == HL_BPF_MAP_CREATE ? &body->map_type : &body->prog_type;
	u32 name_at = body->cmd == HL_BPF_MAP_CREATE ? BPF_CALL_MAP_NAME_AT : BPF_CALL_PROG_NAME_AT;
	s32 asked = 0;

	body->from_caller = 1;
	if (size < sizeof(asked) || bpf_probe_read_user(&asked, sizeof(asked), attributes))
		return;
	*type = asked;
	if (size >= name_at + sizeof(body->object_name))
		bpf_probe_read_user(body->object_name, sizeof(body->object_name), attributes + name_at);
}

static __always_inline void bpf_call_read_object(struct hl_bpf *body, const void *attributes, u32 size)
{
	int at = bpf_call_descriptor_at(body->cmd);
	u32 descriptor = 0;

	if (bpf_call_gives_object(body->cmd)) {
		if (body->result >= 0)
			bpf_call_read_file(body, hl_descriptor(body->result));
		else if (body->cmd == HL_BPF_MAP_CREATE || body->cmd == HL_BPF_PROG_LOAD)
			bpf_call_read_caller(body, attributes, size);
	} else if (at >= 0 && size >= at + sizeof(descriptor) &&
		   !bpf_probe_read_user(&descriptor, sizeof(descriptor), attributes + at)) {
		bpf_call_read_file(body, hl_descriptor(descriptor));
	}
}

static __always_inline void bpf_call_ancestors(struct hl_bpf *body, struct task_struct *task)
{
	struct task_struct *leader = READ(task->group_leader);
	struct task_struct *parent = READ(leader->real_parent);
	struct task_struct *parent_leader = READ(parent->group_leader);
	struct task_struct *grandparent = READ(parent_leader->real_parent);
	struct task_struct *grandparent_leader = READ(grandparent->group_leader);

	body->ns_thread_id = bpf_call_ns_id(task);
	body->parent_thread_id = READ(parent->pid);
	body->parent_ns_thread_id = bpf_call_ns_id(parent);
	body->parent_ns_pid = bpf_call_ns_id(parent_leader);
	body->grandparent_pid = READ(grandparent->tgid);
	body->grandparent_thread_id = READ(grandparent->pid);
	body->grandparent_ns_thread_id = bpf_call_ns_id(grandparent);
	body->grandparent_ns_pid = bpf_call_ns_id(grandparent_leader);
	bpf_probe_read_kernel_str(body->parent_comm, sizeof(body->parent_comm), &parent_leader->comm);
	bpf_probe_read_kernel_str(body->grandparent_comm, sizeof(body->grandparent_comm),
				  &grandparent_leader->comm);
}

int bpf_call_returned(struct hl_sys_exit *ctx)
{
	struct task_struct *task = hl_task();
	struct hl_record *record = hl_begin(HL_KIND_BPF, HL_SLOT_BPF, HL_SIZE_BPF);
	struct pt_regs *registers = hl_user_registers();
	struct mm_struct *mm = READ(task->mm);
	struct nsproxy *nsproxy = READ(task->nsproxy);
	struct uts_namespace *uts_ns = READ(nsproxy->uts_ns);
	const struct cred *cred = READ(task->cred);
	struct hl_bpf *body;

	if (!record)
		return 0;
	body = hl_body(record, bpf);
	body->result = ctx->result;
	body->cmd = READ(registers->di);
	body->map_type = -1;
	body->prog_type = -1;
	body->egid = READ(cred->egid);
	body->uts_inum = READ(uts_ns->ns_inum);
	bpf_call_read_object(body, (const void *)READ(registers->si), READ(registers->dx));
	bpf_call_ancestors(body, task);
	body->cmdline_length = hl_append_block(record, READ(mm->arg_start), READ(mm->arg_end),
					       HL_BPF_CMDLINE_MAX, HL_BPF_CMDLINE_CUT);
	hl_submit(record);
	return 0;
}
