/* SPDX-License-Identifier: GPL-2.0-only */

int setsid_returned(struct hl_sys_exit *ctx)
{
	struct hl_record *record = hl_begin(HL_KIND_SETSID, HL_SLOT_SETSID, HL_SIZE_SETSID);

	if (!record)
		return 0;
	if (ctx->result < 0)
		hl_body(record, setsid)->result = ctx->result;
	hl_submit(record);
	return 0;
}
