/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The line editors give back what was typed: readline() of bash as it is,
 * zleread() of zsh with its end, and with some bytes as two, which
 * probes.text.typed_text() undoes. A shell that runs a script calls neither.
 */

/* Eight characters as they lie in memory. */
#define SHELL_LINE_WORD(a, b, c, d, e, f, g, h)					\
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 |		\
	 (u64)(e) << 32 | (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

#define SHELL_LINE_BASH	SHELL_LINE_WORD('b', 'a', 's', 'h', 0, 0, 0, 0)
#define SHELL_LINE_ZSH	SHELL_LINE_WORD('z', 's', 'h', 0, 0, 0, 0, 0)

/* A record with the line at `line`; NULL where there is none, at the end of the input. */
static __always_inline struct hl_record *shell_line_begin(const void *line, u64 shell)
{
	struct hl_record *record;
	u32 length;

	if (!line)
		return NULL;
	record = hl_begin_in(HL_LANE_PREEMPTIBLE, HL_KIND_SHELL_LINE, HL_SLOT_SHELL_LINE, HL_SIZE_SHELL_LINE);
	if (!record)
		return NULL;
	__builtin_memcpy(hl_body(record, shell_line)->shell, &shell, sizeof(shell));
	length = hl_append_string(record, line, HL_SHELL_LINE_LINE_MAX, hl_read_user_str);
	if (!length || length == HL_SHELL_LINE_LINE_MAX)
		record->header.flags |= HL_SHELL_LINE_LINE_CUT;
	hl_body(record, shell_line)->line_length = hl_chop(record, length);
	return record;
}

/* Sends what has more than `empty` bytes. */
static __always_inline void shell_line_end(struct hl_record *record, u32 empty)
{
	if (hl_body(record, shell_line)->line_length > empty || record->header.flags)
		hl_submit(record);
	else
		hl_discard(record);
}

static __always_inline int shell_line_readline_returned(struct pt_regs *ctx)
{
	struct hl_record *record = shell_line_begin((void *)PT_REGS_RC(ctx), SHELL_LINE_BASH);

	if (record)
		shell_line_end(record, 0);
	return 0;
}

int shell_line_bash(struct pt_regs *ctx)
{
	hl_use_stack_of_task(ctx);
	return shell_line_readline_returned(ctx);
}

/* Others use the library too: debuggers, interpreters, clients of databases. */
static __always_inline bool shell_line_is_bash(void)
{
	struct task_struct *task = hl_task();
	struct mm_struct *mm = READ(task->mm);
	struct file *file = READ(mm->exe_file);
	struct dentry *dentry = READ(file->f_path.dentry);
	u64 name = 0;

	bpf_probe_read_kernel_str(&name, sizeof(name), READ(dentry->d_name.name));
	return name == SHELL_LINE_BASH || name == SHELL_LINE_WORD('r', 'b', 'a', 's', 'h', 0, 0, 0) ||
	       name == SHELL_LINE_WORD('s', 'h', 0, 0, 0, 0, 0, 0);
}

int shell_line_readline(struct pt_regs *ctx)
{
	hl_use_stack_of_task(ctx);
	return shell_line_is_bash() ? shell_line_readline_returned(ctx) : 0;
}

int shell_line_zsh(struct pt_regs *ctx)
{
	struct hl_record *record;

	hl_use_stack_of_task(ctx);
	record = shell_line_begin((void *)PT_REGS_RC(ctx), SHELL_LINE_ZSH);
	if (!record)
		return 0;
	hl_body(record, shell_line)->line_metafied = 1;
	shell_line_end(record, 1);	/* its end is a byte of the line */
	return 0;
}
