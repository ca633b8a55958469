/* SPDX-License-Identifier: GPL-2.0-only */
/* Removed files and directories: what unlink and rmdir share, down to unlinkat(2). */

#ifndef HOOKLINE_REMOVED_H
#define HOOKLINE_REMOVED_H

#include "file/names.h"

#define REMOVED_NR_UNLINKAT	263	/* x86-64 */
#define REMOVED_AT_REMOVEDIR	0x200

#define REMOVED_BEGIN(EVENT)									\
	hl_begin_in(HL_LANE_OF(HL_FORM_##EVENT), HL_KIND_##EVENT, HL_SLOT_##EVENT, HL_SIZE_##EVENT)

/*
 * EVENT_returned: at the returns of EVENT and of unlinkat, of which the calls
 * with `flag` are its own. EVENT_asked: at security_path_EVENT(dir, dentry).
 */
#define REMOVED(event, EVENT, flag)								\
int event##_returned(struct hl_sys_exit *ctx)							\
{												\
	struct pt_regs *registers = hl_user_registers();					\
	bool at = ctx->number == REMOVED_NR_UNLINKAT;						\
	struct hl_record *record;								\
												\
	if (ctx->result || (at && (READ(registers->dx) & REMOVED_AT_REMOVEDIR) != (flag)))	\
		return 0;									\
	record = REMOVED_BEGIN(EVENT);								\
	if (!record)										\
		return 0;									\
	if (at)											\
		names_pass(record, 0, READ(registers->di), READ(registers->si));		\
	else											\
		names_pass(record, 0, NAMES_AT_FDCWD, READ(registers->di));			\
	NAMES_REPORT(ctx, record, EVENT, HL_##EVENT##_FILE_CUT);				\
	return 0;										\
}												\
												\
int event##_asked(void *ctx)									\
{												\
	struct hl_record *record = REMOVED_BEGIN(EVENT);					\
												\
	if (!record)										\
		return 0;									\
	names_pass(record, 0, hl_argument(ctx, HL_FORM_##EVENT, 0),				\
		   hl_argument(ctx, HL_FORM_##EVENT, 1));					\
	NAMES_REPORT(ctx, record, EVENT, HL_##EVENT##_FILE_CUT);				\
	return 0;										\
}												\
												\
NAMES_ONE(event, EVENT, file, FILE)

#endif
