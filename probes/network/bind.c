/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at return: the socket then holds the address and the port that it got,
 * also where the caller asked for any (port 0). After a failure it holds
 * nothing, and the caller's sockaddr is told, marked as such.
 */

#include "network/sockets.h"

int bind_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	u32 descriptor = READ(registers->di);
	struct sock *sock = socket_of(hl_descriptor(descriptor));
	struct socket_ends ends = {};
	struct hl_record *record;
	bool from_caller = false;
	struct hl_bind *body;

	if (!sock)
		return 0;
	socket_read_ends(&ends, sock);
	if (!socket_is_inet(ends.family))
		return 0;
	if (ctx->result)
		from_caller = socket_read_caller(&ends.local, ends.family, (void *)READ(registers->si));
	record = hl_begin(HL_KIND_BIND, HL_SLOT_BIND, HL_SIZE_BIND);
	if (!record)
		return 0;
	body = hl_body(record, bind);
	body->result = ctx->result;
	body->fd = descriptor;
	body->family = ends.family;
	body->type = READ(sock->sk_type);
	body->protocol = READ(sock->sk_protocol);
	body->port = ends.local.port;
	body->from_caller = from_caller;
	__builtin_memcpy(body->address, ends.local.address, 16);
	hl_submit(record);
	return 0;
}
