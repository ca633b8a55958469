/* SPDX-License-Identifier: GPL-2.0-only */
/* The new name is the thread's own at return, cut as the kernel cuts it: the caller's memory is not asked. */

#define PRCTL_SET_NAME	15	/* PR_SET_NAME */

int prctl_returned(struct hl_sys_exit *ctx)
{
	struct hl_record *record;
	struct hl_prctl *body;

	if (ctx->result || (u32)READ(hl_user_registers()->di) != PRCTL_SET_NAME)
		return 0;
	record = hl_begin(HL_KIND_PRCTL, HL_SLOT_PRCTL, HL_SIZE_PRCTL);
	if (!record)
		return 0;
	body = hl_body(record, prctl);
	body->option = PRCTL_SET_NAME;
	__builtin_memcpy(body->new_name, record->header.comm, sizeof(body->new_name));
	hl_submit(record);
	return 0;
}
