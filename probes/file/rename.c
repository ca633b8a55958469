/* SPDX-License-Identifier: GPL-2.0-only */

#include "file/names.h"

#define RENAME_NR_RENAME	82	/* x86-64 */
#define RENAME_NR_RENAMEAT2	316
#define RENAME_CUT		(HL_RENAME_OLD_NAME_CUT | HL_RENAME_NEW_NAME_CUT)

static __always_inline struct hl_record *rename_begin(void)
{
	return hl_begin_in(HL_LANE_OF(HL_FORM_RENAME), HL_KIND_RENAME, HL_SLOT_RENAME, HL_SIZE_RENAME);
}

#ifdef HL_FORM_RENAME_TRACEPOINT
/* Attached to the returns of rename, renameat and renameat2. */
int rename_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	struct hl_record *record;

	if (ctx->result)
		return 0;
	record = rename_begin();
	if (!record)
		return 0;
	if (ctx->number == RENAME_NR_RENAME) {
		names_pass(record, 0, NAMES_AT_FDCWD, READ(registers->di));
		names_pass(record, 1, NAMES_AT_FDCWD, READ(registers->si));
	} else {
		names_pass(record, 0, READ(registers->di), READ(registers->si));
		names_pass(record, 1, READ(registers->dx), READ(registers->r10));
	}
	if (ctx->number == RENAME_NR_RENAMEAT2)
		hl_body(record, rename)->rename_flags = READ(registers->r8);
	NAMES_REPORT(ctx, record, RENAME, RENAME_CUT);
	return 0;
}
#else
/* security_path_rename(old_dir, old_dentry, new_dir, new_dentry, flags) */
int rename_asked(void *ctx)
{
	struct hl_record *record = rename_begin();

	if (!record)
		return 0;
	names_pass(record, 0, hl_argument(ctx, HL_FORM_RENAME, 0), hl_argument(ctx, HL_FORM_RENAME, 1));
	names_pass(record, 1, hl_argument(ctx, HL_FORM_RENAME, 2), hl_argument(ctx, HL_FORM_RENAME, 3));
	hl_body(record, rename)->rename_flags = hl_argument(ctx, HL_FORM_RENAME, 4);
	NAMES_REPORT(ctx, record, RENAME, RENAME_CUT);
	return 0;
}
#endif

NAMES_TWO(rename, RENAME)
