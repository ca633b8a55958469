/* SPDX-License-Identifier: GPL-2.0-only */

#include "process/pids.h"

#define PTRACE_POKETEXT		4
#define PTRACE_POKEDATA		5
#define PTRACE_POKEUSR		6
#define PTRACE_SETREGS		13
#define PTRACE_SETFPREGS	15
#define PTRACE_ATTACH		16
#define PTRACE_SETREGSET	0x4205
#define PTRACE_SEIZE		0x4206

static __always_inline bool ptrace_is_poke(u64 request)
{
	return request == PTRACE_POKETEXT || request == PTRACE_POKEDATA || request == PTRACE_POKEUSR;
}

/* What takes hold of a process, or changes its memory or its registers. */
static __always_inline bool ptrace_is_told(u64 request)
{
	return ptrace_is_poke(request) || request == PTRACE_ATTACH || request == PTRACE_SEIZE ||
	       request == PTRACE_SETREGS || request == PTRACE_SETFPREGS || request == PTRACE_SETREGSET;
}

int ptrace_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	u64 request = READ(registers->di);
	struct hl_record *record;
	struct hl_ptrace *body;

	if (!ptrace_is_told(request))
		return 0;
	record = hl_begin(HL_KIND_PTRACE, HL_SLOT_PTRACE, HL_SIZE_PTRACE);
	if (!record)
		return 0;
	body = hl_body(record, ptrace);
	body->result = ctx->result;
	body->request = request;
	body->asked_pid = READ(registers->si);
	body->target_pid = pids_from_caller(body->asked_pid);
	body->addr = READ(registers->dx);
	body->word = READ(registers->r10);
	if (ptrace_is_poke(request))
		__builtin_memcpy(body->data, &body->word, sizeof(body->data));
	hl_submit(record);
	return 0;
}
