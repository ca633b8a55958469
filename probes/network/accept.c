/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at return: the new descriptor's socket holds both ends. A failure has no
 * new socket and tells the listener's address; that nobody is waiting to be
 * accepted (EAGAIN) is no event.
 */

#include "network/sockets.h"

#define ACCEPT_EAGAIN	11

static __always_inline int accept_report(struct sock *listener, s32 listener_fd, s64 result)
{
	struct sock *sock = listener;
	struct socket_ends ends = {};
	struct hl_record *record;
	struct hl_accept *body;

	if (result == -ACCEPT_EAGAIN)
		return 0;
	result = socket_result(result);
	if (result >= 0)
		sock = socket_of(hl_descriptor(result));
	if (!sock)
		return 0;
	socket_read_ends(&ends, sock);
	if (!socket_is_inet(ends.family))
		return 0;
	if (result >= 0 && !socket_peer_wanted(&ends.remote, ends.family, HL_SLOT_ACCEPT))
		return 0;
	record = hl_begin(HL_KIND_ACCEPT, HL_SLOT_ACCEPT, HL_SIZE_ACCEPT);
	if (!record)
		return 0;
	body = hl_body(record, accept);
	body->result = result < 0 ? result : 0;
	body->fd = result < 0 ? -1 : result;
	body->listener_fd = listener_fd;
	body->family = ends.family;
	body->type = READ(sock->sk_type);
	body->protocol = READ(sock->sk_protocol);
	body->source_port = ends.local.port;
	body->port = ends.remote.port;
	__builtin_memcpy(body->source, ends.local.address, 16);
	__builtin_memcpy(body->address, ends.remote.address, 16);
	hl_submit(record);
	return 0;
}

int accept_returned(struct hl_sys_exit *ctx)
{
	u32 descriptor = READ(hl_user_registers()->di);

	return accept_report(socket_of(hl_descriptor(descriptor)), descriptor, ctx->result);
}

int accept_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;

	if (READ(request->opcode) != HL_IORING_OP_ACCEPT)
		return 0;
#ifdef HAVE_io_accept_file_slot
	/* The new socket went to the ring's own table, where it has no descriptor. */
	if (READ(((struct io_accept *)request)->file_slot))
		return 0;
#endif
	return accept_report(socket_of(READ(request->file)), -1, ctx->result);
}
