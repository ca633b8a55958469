/* SPDX-License-Identifier: GPL-2.0-only */

#include "process/pids.h"

#define TKILL_NR_TKILL	200	/* x86-64 */

/* Attached to the returns of tkill, tgkill and rt_tgsigqueueinfo. */
int tkill_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	bool alone = ctx->number == TKILL_NR_TKILL;
	u32 signal = alone ? READ(registers->si) : READ(registers->dx);
	struct hl_record *record;
	struct hl_tkill *body;

	if (!signal)
		return 0;
	record = hl_begin(HL_KIND_TKILL, HL_SLOT_TKILL, HL_SIZE_TKILL);
	if (!record)
		return 0;
	body = hl_body(record, tkill);
	body->result = ctx->result;
	body->call = ctx->number;
	body->signal = signal;
	body->asked_pid = alone ? READ(registers->di) : READ(registers->si);
	body->target_pid = pids_from_caller(body->asked_pid);
	hl_submit(record);
	return 0;
}
