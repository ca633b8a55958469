/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Seen at return alone: the descriptor comes from the caller's saved registers
 * and the addresses from the kernel's own socket, so that a caller who rewrites
 * its sockaddr meanwhile changes nothing. After a failure the socket holds
 * nothing or an older peer; only then is the caller's sockaddr read, and said so.
 */

#define CONNECT_EINPROGRESS	115
#define CONNECT_EINTR		4
#define CONNECT_EALREADY	114
#define CONNECT_RESTART_FIRST	512	/* ERESTARTSYS; the kernel's own, its caller sees EINTR or nothing */
#define CONNECT_RESTART_LAST	516	/* ERESTART_RESTARTBLOCK */
#define CONNECT_UNIX_NAME_AT	2	/* of sun_path in sockaddr_un */

struct connect_peer {
	u16 family;
	u16 source_port;
	u16 port;
	u16 from_caller;
	union {
		u8 source[16];
		u32 source_v4;
	};
	union {
		u8 address[16];
		u32 words[4];
		u32 v4;
	};
};

static __always_inline struct socket *connect_socket(struct file *file)
{
	struct inode *inode = READ(file->f_inode);

	if ((READ(inode->i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	return (struct socket *)READ(file->private_data);
}

static __always_inline void connect_read_socket(struct connect_peer *peer, struct sock *sock)
{
	struct sock_common *common = (struct sock_common *)sock;

	peer->family = READ(common->skc_family);
	if (peer->family == AF_UNIX)
		return;
	peer->source_port = READ(common->skc_num);
	peer->port = bpf_ntohs(READ(common->skc_dport));
	if (peer->family == AF_INET) {
		peer->source_v4 = READ(common->skc_rcv_saddr);
		peer->v4 = READ(common->skc_daddr);
	} else if (peer->family == AF_INET6) {
		bpf_probe_read_kernel(peer->source, 16, &common->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(peer->address, 16, &common->skc_v6_daddr);
	}
}

/* Takes the peer from the caller's sockaddr, which another family's socket may have refused. */
static __always_inline void connect_read_caller(struct connect_peer *peer, const void *address)
{
	struct sockaddr_in6 asked = {};

	if (bpf_probe_read_user(&asked, sizeof(struct sockaddr_in), address))
		return;
	peer->from_caller = 1;
	peer->port = bpf_ntohs(asked.sin6_port);
	__builtin_memset(peer->address, 0, sizeof(peer->address));
	if (asked.sin6_family == AF_INET && peer->family == AF_INET) {
		peer->v4 = ((struct sockaddr_in *)&asked)->sin_addr;
	} else if (asked.sin6_family == AF_INET) {
		peer->words[2] = bpf_htonl(0xffff);
		peer->words[3] = ((struct sockaddr_in *)&asked)->sin_addr;
	} else if (asked.sin6_family == AF_INET6 && peer->family == AF_INET6 &&
		   !bpf_probe_read_user(&asked, sizeof(asked), address)) {
		__builtin_memcpy(peer->address, &asked.sin6_addr, 16);
	}
}

/* Whether the socket holds the peer that this call asked for: it succeeded, or goes on. */
static __always_inline bool connect_holds_peer(s64 result)
{
	return result >= 0 || result == -CONNECT_EINPROGRESS || result == -CONNECT_EALREADY ||
	       result == -CONNECT_EINTR;
}

static __always_inline bool connect_is_loopback(const struct connect_peer *peer)
{
	const u32 *words = peer->words;

	if (peer->family == AF_INET)
		return peer->address[0] == 127;
	if (words[0] || words[1])
		return false;
	if (words[2] == bpf_htonl(0xffff))
		return peer->address[12] == 127;
	return !words[2] && words[3] == bpf_htonl(1);
}

static __always_inline u32 connect_append_name(struct hl_record *record, const void *name, u32 size,
					       bool user)
{
	if (size > HL_CONNECT_PATH_MAX)
		size = HL_CONNECT_PATH_MAX;
	return user ? hl_append_user(record, name, size) : hl_append_kernel(record, name, size);
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
	hl_body(record, connect)->from_caller = 1;
	size = READ(hl_user_registers()->dx);
	if (!asked || size <= CONNECT_UNIX_NAME_AT)
		return 0;
	return connect_append_name(record, asked + CONNECT_UNIX_NAME_AT, size - CONNECT_UNIX_NAME_AT, true);
}

enum { CONNECT_FD, CONNECT_FILE, CONNECT_RESULT, CONNECT_ASKED };

static __always_inline void connect_pass(u32 descriptor, struct file *file, s64 result, u64 asked)
{
	struct hl_record *record = hl_this_record();

	if (!record)
		return;
	record->passed[CONNECT_FD] = descriptor;
	record->passed[CONNECT_FILE] = (u64)file;
	record->passed[CONNECT_RESULT] = result;
	record->passed[CONNECT_ASKED] = asked;
}

int connect_returned(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers = hl_user_registers();
	u32 descriptor = READ(registers->di);

	connect_pass(descriptor, hl_descriptor(descriptor), ctx->result, READ(registers->si));
	hl_tails.call(ctx, HL_TAIL_CONNECT_REPORT);
	return 0;
}

int connect_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;

	if (READ(request->opcode) != HL_IORING_OP_CONNECT)
		return 0;
	connect_pass(-1, READ(request->file), ctx->result, 0);
	hl_tails.call(ctx, HL_TAIL_CONNECT_REPORT);
	return 0;
}

/* Whether the connection is told at all; one that the configuration leaves out is counted. */
static __always_inline bool connect_wanted(const struct connect_peer *peer)
{
	struct hl_settings *settings = hl_get_settings();

	if (!settings)
		return false;
	if (peer->family == AF_UNIX)
		return settings->unix_sockets;
	if (peer->family != AF_INET && peer->family != AF_INET6)
		return false;
	if (!settings->exclude_loopback || !connect_is_loopback(peer))
		return true;
	hl_count_filtered(HL_SLOT_CONNECT);
	return false;
}

int connect_report(void *ctx)
{
	struct hl_record *record = hl_this_record();
	struct connect_peer peer = {};
	struct hl_connect *body;
	struct socket *socket;
	struct sock *sock;
	const void *asked;
	s64 result;

	if (!record)
		return 0;
	result = record->passed[CONNECT_RESULT];
	if (result <= -CONNECT_RESTART_FIRST && result >= -CONNECT_RESTART_LAST)
		result = -CONNECT_EINTR;
	asked = (const void *)record->passed[CONNECT_ASKED];
	socket = connect_socket((struct file *)record->passed[CONNECT_FILE]);
	if (!socket)
		return 0;
	sock = READ(socket->sk);
	connect_read_socket(&peer, sock);
	if (asked && peer.family != AF_UNIX && !connect_holds_peer(result))
		connect_read_caller(&peer, asked);
	if (!connect_wanted(&peer))
		return 0;
	record = hl_begin(HL_KIND_CONNECT, HL_SLOT_CONNECT, HL_SIZE_CONNECT);
	if (!record)
		return 0;
	body = hl_body(record, connect);
	body->result = result;
	body->fd = record->passed[CONNECT_FD];
	body->family = peer.family;
	body->type = READ(sock->sk_type);
	body->protocol = READ(sock->sk_protocol);
	body->source_port = peer.source_port;
	body->port = peer.port;
	body->from_caller = peer.from_caller;
	__builtin_memcpy(body->source, peer.source, 16);
	__builtin_memcpy(body->address, peer.address, 16);
	if (peer.family == AF_UNIX)
		body->path_length = connect_append_path(record, sock, asked);
	hl_submit(record);
	return 0;
}
