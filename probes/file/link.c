/* SPDX-License-Identifier: GPL-2.0-only */

#include "file/names.h"

#define LINK_NR_LINKAT	265	/* x86-64 */
#define LINK_CUT	(HL_LINK_OLD_NAME_CUT | HL_LINK_NEW_NAME_CUT)

static __always_inline struct hl_record *link_begin(void)
{
	return hl_begin_in(HL_LANE_OF(HL_FORM_LINK), HL_KIND_LINK, HL_SLOT_LINK, HL_SIZE_LINK);
}

#ifdef HL_FORM_LINK_TRACEPOINT
/* Attached to the returns of link and linkat. */
int link_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	struct hl_record *record;

	if (ctx->result)
		return 0;
	record = link_begin();
	if (!record)
		return 0;
	if (ctx->number == LINK_NR_LINKAT) {
		names_pass(record, 0, READ(registers->di), READ(registers->si));
		names_pass(record, 1, READ(registers->dx), READ(registers->r10));
	} else {
		names_pass(record, 0, NAMES_AT_FDCWD, READ(registers->di));
		names_pass(record, 1, NAMES_AT_FDCWD, READ(registers->si));
	}
	NAMES_REPORT(ctx, record, LINK, LINK_CUT);
	return 0;
}
#else
/* security_path_link(old_dentry, new_dir, new_dentry): by then both are known to be on one mount. */
int link_asked(void *ctx)
{
	u64 folder = hl_argument(ctx, HL_FORM_LINK, 1);
	struct hl_record *record = link_begin();

	if (!record)
		return 0;
	names_pass(record, 0, folder, hl_argument(ctx, HL_FORM_LINK, 0));
	names_pass(record, 1, folder, hl_argument(ctx, HL_FORM_LINK, 2));
	NAMES_REPORT(ctx, record, LINK, LINK_CUT);
	return 0;
}
#endif

NAMES_TWO(link, LINK)
