/* SPDX-License-Identifier: GPL-2.0-only */

#define MPROTECT_PROT_EXEC	4
#define MPROTECT_LEVELS		8	/* of a maple tree, of at least 9 children each */
#define MPROTECT_RB_LEVELS	40	/* of a balanced tree of more areas than a process can have */
#define MPROTECT_PIVOTS		15	/* of its largest node */
#define MPROTECT_ARANGE		3	/* maple_arange_64 of enum maple_type */
#define MPROTECT_ARANGE_PIVOTS	9
#define MPROTECT_MNT_INTERNAL	0x4000
#define MPROTECT_MNT_NS_INTERNAL	(-22L)

static __always_inline struct hl_record *mprotect_begin(void)
{
	return hl_begin_in(HL_LANE_OF(HL_FORM_MPROTECT), HL_KIND_MPROTECT, HL_SLOT_MPROTECT, HL_SIZE_MPROTECT);
}

/*
 * The path by which the process opened what it has mapped. From Linux 6.8 on
 * overlayfs maps a file of a layer, by a mount that nobody but the kernel has and
 * that kern_mount() did not make: it keeps the process's path beside that one.
 * FMODE_BACKING says so too, by a bit that differs between versions.
 */
static __always_inline struct path *mprotect_path(struct file *file)
{
#ifdef HAVE_backing_file_user_path
	struct vfsmount *mnt = READ(file->f_path.mnt);
	struct mount *mount = (struct mount *)((void *)mnt - offsetof(struct mount, mnt));

	if ((long)READ(mount->mnt_ns) == MPROTECT_MNT_NS_INTERNAL && !(READ(mnt->mnt_flags) & MPROTECT_MNT_INTERNAL))
		return &((struct backing_file *)file)->user_path;
#endif
	return &file->f_path;
}

static __always_inline void mprotect_fill(struct hl_record *record, struct vm_area_struct *area, u64 start,
					  u64 length, u64 protection)
{
	struct hl_mprotect *body = hl_body(record, mprotect);
	struct file *file = READ(area->vm_file);

	body->start = start;
	body->length = length;
	body->prot = protection;
	body->owner_pid = record->header.tgid;
#ifdef HAVE_mm_struct_owner
	{
		struct mm_struct *mm = READ(area->vm_mm);
		struct task_struct *owner = READ(mm->owner);

		if (owner)
			body->owner_pid = READ(owner->pid);
	}
#endif
	if (file)
		hl_walk_from(record, mprotect_path(file));
}

#ifdef HL_FORM_MPROTECT_TRACEPOINT
#ifdef HAVE_mm_struct_mm_mt_ma_root
/* Where `address` belongs among the pivots of a node of the tree. */
static __always_inline u32 mprotect_slot(const void *pivots, u32 count, u64 address)
{
	u32 slot = 0;

#pragma clang loop unroll(disable)
	for (u32 i = 0; i < MPROTECT_PIVOTS; i++) {
		u64 pivot = 0;

		if (i >= count)
			break;
		bpf_probe_read_kernel(&pivot, sizeof(pivot), pivots + 8 * i);
		if (pivot >= address || (i && !pivot))
			break;
		slot = i + 1;
	}
	return slot;
}

/* The area at `address`, as the kernel's mas_walk() finds it; NULL where there is none. */
static __always_inline struct vm_area_struct *mprotect_find(struct mm_struct *mm, u64 address)
{
	u64 entry = (u64)READ(mm->mm_mt_ma_root);
	struct vm_area_struct *area;

	/* A node is its address with its type and more in the lower 8 bits; those of the root differ. */
#pragma clang loop unroll(disable)
	for (int level = 0; level < MPROTECT_LEVELS; level++) {
		/* Read anew each time: kept in a register at first, it makes a loop that Linux 6.1 refuses as one. */
		u64 here = *(volatile u64 *)&entry;
		u64 node = here & ~0xffULL;
		u32 type = here >> 3 & 15;
		bool arange = type == MPROTECT_ARANGE;
		const void *pivots = &((struct maple_range_64 *)node)->pivot;
		const void *slots = &((struct maple_range_64 *)node)->slot;
		u32 slot;

		if (arange) {
			pivots = &((struct maple_arange_64 *)node)->pivot;
			slots = &((struct maple_arange_64 *)node)->slot;
		}
		slot = mprotect_slot(pivots, arange ? MPROTECT_ARANGE_PIVOTS : MPROTECT_PIVOTS, address);
		if (bpf_probe_read_kernel(&entry, sizeof(entry), slots + 8 * slot))
			return NULL;
		if (type < 2)
			break;
	}
	area = (struct vm_area_struct *)entry;
	return address >= READ(area->vm_start) && address < READ(area->vm_end) ? area : NULL;
}
#else
/* The same before Linux 6.1, where the areas stand in a red-black tree. */
static __always_inline struct vm_area_struct *mprotect_find(struct mm_struct *mm, u64 address)
{
	struct rb_node *node = (struct rb_node *)READ(mm->mm_rb_rb_node);

#pragma clang loop unroll(disable)
	for (int level = 0; level < MPROTECT_RB_LEVELS; level++) {
		struct vm_area_struct *area = (void *)node - offsetof(struct vm_area_struct, vm_rb);

		if (!node)
			break;
		if (address < READ(area->vm_start))
			node = READ(node->rb_left);
		else if (address >= READ(area->vm_end))
			node = READ(node->rb_right);
		else
			return area;
	}
	return NULL;
}
#endif

/* Attached to the returns of mprotect and pkey_mprotect. */
int mprotect_returned(struct hl_sys_exit *ctx)
{
	struct task_struct *task = hl_task();
	struct pt_regs *registers = hl_user_registers();
	u64 protection = READ(registers->dx);
	struct hl_record *record;
	u64 start;

	if (ctx->result || !(protection & MPROTECT_PROT_EXEC))
		return 0;
	record = mprotect_begin();
	if (!record)
		return 0;
	start = READ(registers->di);
	mprotect_fill(record, mprotect_find(READ(task->mm), start), start, READ(registers->si), protection);
	hl_call(ctx, HL_FORM_MPROTECT, HL_TAIL_MPROTECT_REPORT);
	hl_discard(record);
	return 0;
}
#else
/* security_file_mprotect(vma, reqprot, prot) */
int mprotect_asked(void *ctx)
{
	struct vm_area_struct *area = (struct vm_area_struct *)hl_argument(ctx, HL_FORM_MPROTECT, 0);
	u64 protection = hl_argument(ctx, HL_FORM_MPROTECT, 2);
	struct pt_regs *registers = hl_user_registers();
	u64 start = READ(area->vm_start), end = READ(area->vm_end);
	u64 from = READ(registers->di), to = from + READ(registers->si);
	struct hl_record *record;

	if (!(protection & MPROTECT_PROT_EXEC))
		return 0;
	/* What was asked for of this area; of a 32-bit call, whose registers are others, all of it. */
	if (from < end && to > start) {
		start = from > start ? from : start;
		end = to < end ? to : end;
	}
	record = mprotect_begin();
	if (!record)
		return 0;
	mprotect_fill(record, area, start, end - start, protection);
	hl_call(ctx, HL_FORM_MPROTECT, HL_TAIL_MPROTECT_REPORT);
	hl_discard(record);
	return 0;
}
#endif

/* Calls itself until the whole path is walked. */
int mprotect_report(void *ctx)
{
	struct hl_record *record = hl_this_record_in(HL_LANE_OF(HL_FORM_MPROTECT));
	enum hl_walk how;

	if (!record)
		return 0;
	if (record->walking) {
		how = hl_walk(record);
		if (how == HL_WALK_MORE)
			hl_call(ctx, HL_FORM_MPROTECT, HL_TAIL_MPROTECT_REPORT);
		if (how != HL_WALK_DONE)
			record->header.flags |= HL_MPROTECT_VM_FILE_CUT;
		hl_body(record, mprotect)->vm_file_length = hl_append_path(record, how);
	}
	hl_submit(record);
	return 0;
}
