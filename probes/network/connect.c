/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at return alone: the descriptor comes from the caller's saved registers
 * and the addresses from the kernel's own socket, so that a caller who rewrites
 * its sockaddr meanwhile changes nothing. After a failure the socket holds
 * nothing or an older peer. Then the address is told that the kernel was asked
 * for: as it has it, where the function that judges it can be watched; else as
 * it lies in the caller's memory, which is said.
 */

#include "network/sockets.h"

#define CONNECT_EINPROGRESS	115
#define CONNECT_EALREADY	114
#define CONNECT_UNIX_NAME_AT	2	/* of sun_path in sockaddr_un */

#ifndef HL_FORM_CONNECT_TRACEPOINT

/* What the kernel was asked for, in its own copy. */
struct connect_asked {
	u32 size;	/* of the address */
	u32 pad;
	union {
		struct sockaddr_in6 inet;
		u8 bytes[CONNECT_UNIX_NAME_AT + HL_CONNECT_PATH_MAX];
	};
};

/* By thread, for as long as one call. */
BPF_TABLE("lru_hash", u32, struct connect_asked, connect_asked_for, 4096);

/* security_socket_connect(struct socket *, struct sockaddr *, int) */
int connect_judged(void *ctx)
{
	const void *address = (const void *)hl_argument(ctx, HL_FORM_CONNECT, 1);
	u64 size = (u32)hl_argument(ctx, HL_FORM_CONNECT, 2);
	u32 thread = bpf_get_current_pid_tgid();
	struct connect_asked asked = {};

	asked.size = size;
	if (size > sizeof(asked.bytes))
		size = sizeof(asked.bytes);
	HIDE(size);
	if (size <= sizeof(asked.bytes))
		bpf_probe_read_kernel(asked.bytes, size, address);
	connect_asked_for.update(&thread, &asked);
	return 0;
}

static __always_inline void connect_forget(void)
{
	u32 thread = bpf_get_current_pid_tgid();

	connect_asked_for.delete(&thread);
}

#else

static __always_inline void connect_forget(void)
{
}

#endif

/* Whether the socket holds the peer that this call asked for: it succeeded, or goes on. */
static __always_inline bool connect_holds_peer(s64 result)
{
	return result >= 0 || result == -CONNECT_EINPROGRESS || result == -CONNECT_EALREADY ||
	       result == -SOCKET_EINTR;
}

static __always_inline u32 connect_append_name(struct hl_record *record, const void *name, u32 size,
					       bool user)
{
	if (size > HL_CONNECT_PATH_MAX)
		size = HL_CONNECT_PATH_MAX;
	return user ? hl_append_user(record, name, size) : hl_append_kernel(record, name, size);
}

static __always_inline u32 connect_append_asked(struct hl_record *record, const void *asked)
{
	u32 size;

#ifndef HL_FORM_CONNECT_TRACEPOINT
	u32 thread = bpf_get_current_pid_tgid();
	struct connect_asked *kept = asked ? connect_asked_for.lookup(&thread) : NULL;

	if (kept)
		return kept->size <= CONNECT_UNIX_NAME_AT ?
			       0 :
			       connect_append_name(record, kept->bytes + CONNECT_UNIX_NAME_AT,
						   kept->size - CONNECT_UNIX_NAME_AT, false);
#endif
	hl_body(record, connect)->from_caller = 1;
	size = READ(hl_user_registers()->dx);
	if (!asked || size <= CONNECT_UNIX_NAME_AT)
		return 0;
	return connect_append_name(record, asked + CONNECT_UNIX_NAME_AT, size - CONNECT_UNIX_NAME_AT, true);
}

/* Takes the remote end from what was asked for; true where only the caller's memory tells. */
static __always_inline bool connect_take_asked(struct socket_ends *ends, const void *asked)
{
#ifndef HL_FORM_CONNECT_TRACEPOINT
	u32 thread = bpf_get_current_pid_tgid();
	struct connect_asked *kept = asked ? connect_asked_for.lookup(&thread) : NULL;

	if (kept) {
		socket_take_asked(&ends->remote, ends->family, &kept->inet);
		return false;
	}
#endif
	return socket_read_caller(&ends->remote, ends->family, asked);
}

static __always_inline u32 connect_append_path(struct hl_record *record, struct sock *sock,
					       const void *asked)
{
	struct unix_sock *peer = (struct unix_sock *)READ(((struct unix_sock *)sock)->peer);
	struct unix_address *address = READ(peer->addr);
	u32 size = READ(address->len);

	if (address && size > CONNECT_UNIX_NAME_AT)
		return connect_append_name(record, (void *)&address->name + CONNECT_UNIX_NAME_AT,
					   size - CONNECT_UNIX_NAME_AT, false);
	return connect_append_asked(record, asked);
}

enum { CONNECT_FD, CONNECT_FILE, CONNECT_RESULT, CONNECT_ASKED };

static __always_inline struct hl_record *connect_pass(u32 descriptor, struct file *file, s64 result, u64 asked)
{
	struct hl_record *record = hl_take(HL_SLOT_CONNECT);

	if (!record)
		return NULL;
	record->passed[CONNECT_FD] = descriptor;
	record->passed[CONNECT_FILE] = (u64)file;
	record->passed[CONNECT_RESULT] = result;
	record->passed[CONNECT_ASKED] = asked;
	return record;
}

int connect_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	u32 descriptor = READ(registers->di);
	struct hl_record *record;

	record = connect_pass(descriptor, hl_descriptor(descriptor), ctx->result, READ(registers->si));
	if (!record)
		return 0;
	hl_tails.call(ctx, HL_TAIL_CONNECT_REPORT);
	hl_discard(record);
	return 0;
}

int connect_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;
	struct hl_record *record;

	if (READ(request->opcode) != HL_IORING_OP_CONNECT)
		return 0;
	record = connect_pass(-1, READ(request->file), ctx->result, 0);
	if (!record)
		return 0;
	hl_tails.call(ctx, HL_TAIL_CONNECT_REPORT);
	hl_discard(record);
	return 0;
}

static __always_inline bool connect_wanted(const struct socket_ends *ends)
{
	struct hl_settings *settings = hl_get_settings();

	if (ends->family == AF_UNIX)
		return settings && settings->unix_sockets;
	return socket_is_inet(ends->family) &&
	       socket_peer_wanted(&ends->remote, ends->family, HL_SLOT_CONNECT);
}

static __always_inline bool connect_tell(struct hl_record *record)
{
	struct socket_ends ends = {};
	struct hl_connect *body;
	struct sock *sock;
	bool from_caller = false;
	const void *asked;
	s64 result;

	result = socket_result(record->passed[CONNECT_RESULT]);
	asked = (const void *)record->passed[CONNECT_ASKED];
	sock = socket_of((struct file *)record->passed[CONNECT_FILE]);
	if (!sock)
		return false;
	socket_read_ends(&ends, sock);
	if (ends.family != AF_UNIX && !connect_holds_peer(result))
		from_caller = connect_take_asked(&ends, asked);
	if (!connect_wanted(&ends))
		return false;
	if (!hl_fill(record, HL_KIND_CONNECT, HL_SLOT_CONNECT, HL_SIZE_CONNECT))
		return true;
	body = hl_body(record, connect);
	body->result = result;
	body->fd = record->passed[CONNECT_FD];
	body->family = ends.family;
	body->type = READ(sock->sk_type);
	body->protocol = READ(sock->sk_protocol);
	body->source_port = ends.local.port;
	body->port = ends.remote.port;
	body->from_caller = from_caller;
	__builtin_memcpy(body->source, ends.local.address, 16);
	__builtin_memcpy(body->address, ends.remote.address, 16);
	if (ends.family == AF_UNIX)
		body->path_length = connect_append_path(record, sock, asked);
	hl_submit(record);
	return true;
}

int connect_report(void *ctx)
{
	struct hl_record *record = hl_this_record();

	if (record && !connect_tell(record))
		hl_discard(record);
	connect_forget();
	return 0;
}
