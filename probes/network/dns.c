/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Answers are taken where they have arrived: in the receiver's buffer, when its
 * call returns. There the pid is the receiver's, a packet is whole however the
 * driver had laid it out, and TCP's stream is in order. Whose answer it is says
 * the kernel's socket; for a socket that is not connected, the address that the
 * call gave the caller. What the caller writes into its own buffer meanwhile is
 * its own affair.
 *
 * Most calls are about something else: the cheapest question comes first.
 */

#include "network/sockets.h"

#define DNS_PORT	53
#define DNS_MULTICAST	5353
#define DNS_HEADER	12
#define DNS_LEAST	3	/* up to the byte that tells a response from a question */
#define DNS_PREFIX	2	/* the length before each message on a stream */
#define DNS_IOVECS	16	/* pieces of a buffer that are put together */
#define DNS_MOST	(HL_DNS_PACKET_MAX + DNS_PREFIX)
#define DNS_SCRATCH	HL_TAIL_SIZE	/* where in the record the message is put together */

#define DNS_STREAM	1	/* SOCK_STREAM */
#define DNS_DATAGRAM	2	/* SOCK_DGRAM */
#define DNS_PEEK	0x2002	/* MSG_PEEK | MSG_ERRQUEUE: not taken, or not from the peer */

enum { DNS_READ = 0, DNS_READV = 19, DNS_RECVFROM = 45, DNS_RECVMSG = 47 };	/* system calls */

/* Since Linux 6.3 dns_received() sees what sockets receive, and the ends of calls matter for senders' names alone. */
#ifdef HL_TRACEPOINT_sock_recv_length_3
#define DNS_ENDS_TELL_NAMES	true
#else
#define DNS_ENDS_TELL_NAMES	false
#endif

enum dns_peer_from { DNS_PEER_SOCKET, DNS_PEER_MESSAGE, DNS_PEER_UNKNOWN };

/* struct user_msghdr and what recvmmsg(2) has of them. */
struct dns_msghdr {
	u64 name;
	s32 name_length;
	u32 pad;
	u64 iov;
	u64 iovs;
	u64 control;
	u64 control_length;
	u64 flags;
};

struct dns_mmsghdr {
	struct dns_msghdr header;
	u32 length;
	u32 pad;
};

struct dns_iovec {
	u64 base;
	u64 length;
};

/* One call that may have brought answers: from its hook to dns_report. */
struct dns_call {
	struct sock *sock;
	u64 name;	/* the caller's sockaddr of the sender; 0: it has none */
	u64 iov;	/* the caller's array of `iovs`, or */
	u64 iovs;
	struct dns_iovec only;	/* the only one */
	u64 many;	/* recvmmsg's array of `count`, of which `next` is to come */
	u32 count;
	u32 next;
	u32 size;	/* bytes that were received */
	u32 done;	/* of them, put together */
	s32 fd;
};

static __always_inline struct dns_call *dns_call_in(struct hl_record *record)
{
	return (struct dns_call *)record->path;
}

static __always_inline bool dns_is_port(u16 port)
{
	return port == DNS_PORT || port == DNS_MULTICAST;
}

/* Whether the socket is connected to a name server. */
static __always_inline bool dns_is_connected(struct sock *sock)
{
	struct sock_common *common = (struct sock_common *)sock;
	u16 port = READ(common->skc_dport);

	return dns_is_port(bpf_ntohs(port)) && socket_is_inet(READ(common->skc_family));
}

/* Whether a name server may have sent it: the socket is connected to none. */
static __always_inline bool dns_is_open(struct sock *sock)
{
	struct sock_common *common = (struct sock_common *)sock;

	return !READ(common->skc_dport) && READ(sock->sk_type) == DNS_DATAGRAM &&
	       socket_is_inet(READ(common->skc_family));
}

/* Whether the end of a call is the place to tell: what comes with a name, and where nothing else sees it. */
static __always_inline bool dns_is_asked(struct sock *sock)
{
	return dns_is_open(sock) || (!DNS_ENDS_TELL_NAMES && dns_is_connected(sock));
}

static __always_inline struct hl_record *dns_take(struct sock *sock, s32 fd, s64 size)
{
	struct hl_record *record = hl_take(HL_SLOT_DNS);
	struct dns_call *call;

	if (!record)
		return NULL;
	call = dns_call_in(record);
	__builtin_memset(call, 0, sizeof(*call));
	call->sock = sock;
	call->size = size;
	call->fd = fd;
	return record;
}

/* Puts one caller's message header into the call; false where it cannot be read. */
static __always_inline bool dns_read_header(struct dns_call *call, const void *from)
{
	struct dns_msghdr header;

	if (bpf_probe_read_user(&header, sizeof(header), from))
		return false;
	call->name = header.name;
	call->iov = header.iov;
	call->iovs = header.iovs;
	return true;
}

int dns_received_from(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers;
	struct hl_record *record;
	struct dns_call *call;
	struct sock *sock;
	u64 name;
	s32 fd;

	if (ctx->result < DNS_LEAST)
		return 0;
	registers = hl_user_registers();
	name = READ(registers->r8);
	if (DNS_ENDS_TELL_NAMES && !name)
		return 0;
	fd = READ(registers->di);
	sock = socket_of(hl_descriptor(fd));
	if (!sock || !dns_is_asked(sock) || READ(registers->r10) & DNS_PEEK)
		return 0;
	record = dns_take(sock, fd, ctx->result);
	if (!record)
		return 0;
	call = dns_call_in(record);
	call->only.base = READ(registers->si);
	call->only.length = READ(registers->dx);
	call->name = name;
	hl_tails.call(ctx, HL_TAIL_DNS_REPORT);
	hl_discard(record);
	return 0;
}

int dns_received_message(struct hl_sys_exit *ctx)
{
	struct dns_msghdr *header;
	struct pt_regs *registers;
	struct hl_record *record;
	struct sock *sock;
	u64 name = 0;
	s32 fd;

	if (ctx->result < DNS_LEAST)
		return 0;
	registers = hl_user_registers();
	header = (struct dns_msghdr *)READ(registers->si);
	bpf_probe_read_user(&name, sizeof(name), &header->name);
	if (DNS_ENDS_TELL_NAMES && !name)
		return 0;
	fd = READ(registers->di);
	sock = socket_of(hl_descriptor(fd));
	if (!sock || !dns_is_asked(sock) || READ(registers->dx) & DNS_PEEK)
		return 0;
	record = dns_take(sock, fd, ctx->result);
	if (!record)
		return 0;
	if (dns_read_header(dns_call_in(record), header))
		hl_tails.call(ctx, HL_TAIL_DNS_REPORT);
	hl_discard(record);
	return 0;
}

int dns_received_many(struct hl_sys_exit *ctx)
{
	struct pt_regs *registers;
	struct hl_record *record;
	struct dns_call *call;
	struct sock *sock;
	s32 fd;

	if (ctx->result <= 0)
		return 0;
	registers = hl_user_registers();
	fd = READ(registers->di);
	sock = socket_of(hl_descriptor(fd));
	if (!sock || (!dns_is_open(sock) && !dns_is_connected(sock)) || READ(registers->r10) & DNS_PEEK)
		return 0;
	record = dns_take(sock, fd, 0);
	if (!record)
		return 0;
	call = dns_call_in(record);
	call->many = READ(registers->si);
	call->count = ctx->result;
	hl_tails.call(ctx, HL_TAIL_DNS_REPORT);
	hl_discard(record);
	return 0;
}

/* The caller's buffer of a read(2), readv(2), recvfrom(2) or recvmsg(2); false of another call. */
static __always_inline bool dns_read_arguments(struct dns_call *call, struct pt_regs *registers, u64 number)
{
	u64 buffer = READ(registers->si);

	if (number == DNS_RECVMSG)
		return dns_read_header(call, (void *)buffer);
	if (number == DNS_READV) {
		call->iov = buffer;
		call->iovs = READ(registers->dx);
		return true;
	}
	if (number == DNS_RECVFROM)
		call->name = READ(registers->r8);
	call->only.base = buffer;
	call->only.length = READ(registers->dx);
	return number == DNS_READ || number == DNS_RECVFROM;
}

#ifdef HL_TAIL_DNS_REPORT_RECEIVED
/* Since Linux 6.3. Whatever a socket received, before its call returns: the data is in the caller's buffer, the name is not yet. */
int dns_received(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = hl_task();
	struct sock *sock = (struct sock *)ctx->args[0];
	s32 result = ctx->args[1];
	struct pt_regs *registers;
	struct hl_record *record;
	struct dns_call *call;
	bool connected;

	if (result < DNS_LEAST)
		return 0;
	connected = dns_is_connected(sock);
	if (!connected && READ(((struct sock_common *)sock)->skc_num) != DNS_MULTICAST)
		return 0;
	if ((!connected && !dns_is_open(sock)) || ctx->args[2] & DNS_PEEK || !READ(task->mm))
		return 0;
	registers = hl_user_registers();
	record = dns_take(sock, READ(registers->di), result);
	if (!record)
		return 0;
	call = dns_call_in(record);
	/* With a name to come, the end of the call tells. */
	if (dns_read_arguments(call, registers, READ(registers->orig_ax)) && (connected || !call->name)) {
		call->name = 0;
		hl_raw_tails.call(ctx, HL_TAIL_DNS_REPORT_RECEIVED);
	}
	hl_discard(record);
	return 0;
}
#endif

static __always_inline int dns_read_file(struct hl_sys_exit *ctx, u64 number)
{
	struct pt_regs *registers;
	struct hl_record *record;
	struct sock *sock;
	s32 fd;

	if (ctx->result < DNS_LEAST)
		return 0;
	registers = hl_user_registers();
	fd = READ(registers->di);
	sock = socket_of(hl_descriptor(fd));
	if (!sock || !dns_is_connected(sock))
		return 0;
	record = dns_take(sock, fd, ctx->result);
	if (!record)
		return 0;
	if (dns_read_arguments(dns_call_in(record), registers, number))
		hl_tails.call(ctx, HL_TAIL_DNS_REPORT);
	hl_discard(record);
	return 0;
}

int dns_read_returned(struct hl_sys_exit *ctx)
{
	return dns_read_file(ctx, DNS_READ);
}

int dns_readv_returned(struct hl_sys_exit *ctx)
{
	return dns_read_file(ctx, DNS_READV);
}

#if defined(HAVE_io_sr_msg_buf) && defined(HAVE_io_rw_addr)
int dns_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;
	u8 opcode = READ(request->opcode);
	bool has_header = opcode == HL_IORING_OP_RECVMSG;
	struct hl_record *record;
	struct dns_call *call;
	struct sock *sock;

	if ((!has_header && opcode != HL_IORING_OP_RECV && opcode != HL_IORING_OP_READ) ||
	    ctx->result < DNS_LEAST)
		return 0;
	sock = socket_of(READ(request->file));
	if (!sock || (!dns_is_connected(sock) && !(has_header && dns_is_open(sock))))
		return 0;
	record = dns_take(sock, -1, ctx->result);
	if (!record)
		return 0;
	call = dns_call_in(record);
	call->only.length = ctx->result;
	if (opcode == HL_IORING_OP_READ)
		call->only.base = READ(((struct io_rw *)request)->addr);
	else
		call->only.base = (u64)READ(((struct io_sr_msg *)request)->buf);
	if (!has_header || dns_read_header(call, (void *)call->only.base))
		hl_tails.call(ctx, HL_TAIL_DNS_REPORT);
	hl_discard(record);
	return 0;
}
#endif

/* Appends what lies in one piece of the caller's buffer to what is put together. */
static __always_inline void dns_gather_one(struct hl_record *record, struct dns_call *call, u64 base, u64 length)
{
	u64 done = call->done;
	u64 left = call->size - done;

	if (length > left)
		length = left;
	HIDE(done);
	if (done > DNS_MOST)
		return;
	if (length > DNS_MOST - done)
		length = DNS_MOST - done;
	HIDE(length);
	if (length > DNS_MOST)
		return;
	if (!bpf_probe_read_user(record->bytes + DNS_SCRATCH + done, length, (void *)base))
		call->done = done + length;
}

static __always_inline void dns_gather(struct hl_record *record, struct dns_call *call)
{
	call->done = 0;
	if (!call->iovs) {
		dns_gather_one(record, call, call->only.base, call->only.length);
		return;
	}
#pragma clang loop unroll(disable)
	for (u32 at = 0; at < DNS_IOVECS; at++) {
		struct dns_iovec piece;

		if (at >= call->iovs || call->done >= call->size || call->done >= DNS_MOST)
			break;
		if (bpf_probe_read_user(&piece, sizeof(piece), (void *)(call->iov + at * sizeof(piece))))
			break;
		dns_gather_one(record, call, piece.base, piece.length);
	}
}

static __always_inline u16 dns_u16(const u8 *at)
{
	return at[0] << 8 | at[1];
}

/* Whether this is the header of a response as servers send them: for a stream, which has no borders. */
static __always_inline bool dns_is_plausible(const u8 *header)
{
	return header[2] & 0x80 && !(header[3] & 0x40) && dns_u16(header + 4) <= 1;
}

/*
 * Whether the message is a response. `skip` is what stands before it, and
 * call->size becomes its whole length, as far as that is known.
 */
static __always_inline bool dns_is_response(struct hl_record *record, struct dns_call *call, bool stream,
					    u32 *skip)
{
	const u8 *bytes = record->bytes + DNS_SCRATCH;
	u32 length = dns_u16(bytes);

	*skip = 0;
	if (call->done < DNS_LEAST)
		return false;
	if (!stream)
		return bytes[2] & 0x80;
	/* With the length before it, or read(2) of the length alone came first. */
	if (call->done >= DNS_PREFIX + DNS_LEAST && bytes[DNS_PREFIX + 2] & 0x80 &&
	    (length + DNS_PREFIX == call->size ||
	     (call->done >= DNS_PREFIX + DNS_HEADER && length >= DNS_HEADER &&
	      dns_is_plausible(bytes + DNS_PREFIX)))) {
		*skip = DNS_PREFIX;
		call->size = length;
		return true;
	}
	return call->done >= DNS_HEADER && dns_is_plausible(bytes);
}

/* Reads the peer: of the socket, or as the kernel told the caller. False where it is no name server. */
static __always_inline bool dns_read_peer(struct dns_call *call, struct socket_ends *ends, u32 *from)
{
	u16 family = 0;

	*from = DNS_PEER_SOCKET;
	if (ends->remote.port)
		return true;
	if (call->name && !bpf_probe_read_user(&family, sizeof(family), (void *)call->name) &&
	    socket_is_inet(family) && socket_read_caller(&ends->remote, ends->family, (void *)call->name)) {
		*from = DNS_PEER_MESSAGE;
		return dns_is_port(ends->remote.port);
	}
	*from = DNS_PEER_UNKNOWN;
	return ends->local.port == DNS_MULTICAST;
}

static __always_inline void dns_tell(struct hl_record *record, struct dns_call *call)
{
	struct socket_ends ends = {};
	struct sock *sock = call->sock;
	struct hl_dns *body;
	u32 from, skip, length;

	socket_read_ends(&ends, sock);
	if (!dns_read_peer(call, &ends, &from)) {
		hl_discard(record);
		return;
	}
	dns_gather(record, call);
	if (!dns_is_response(record, call, READ(sock->sk_type) == DNS_STREAM, &skip)) {
		hl_discard(record);
		return;
	}
	if (!hl_fill(record, HL_KIND_DNS, HL_SLOT_DNS, HL_SIZE_DNS))
		return;
	length = call->done - skip;
	if (length > call->size)
		length = call->size;
	if (length > HL_DNS_PACKET_MAX)
		length = HL_DNS_PACKET_MAX;
	body = hl_body(record, dns);
	body->fd = call->fd;
	body->size = call->size;
	body->family = ends.family;
	body->peer_family = from == DNS_PEER_UNKNOWN ? 0 : ends.family;
	body->peer_from = from;
	body->protocol = READ(sock->sk_protocol);
	body->source_port = ends.local.port;
	body->port = from == DNS_PEER_UNKNOWN ? 0 : ends.remote.port;
	__builtin_memcpy(body->source, ends.local.address, 16);
	__builtin_memcpy(body->address, ends.remote.address, 16);
	if (length < call->size)
		record->header.flags |= HL_DNS_PACKET_CUT;
	body->packet_length = hl_append_kernel(record, record->bytes + DNS_SCRATCH + skip, length);
	hl_submit(record);
}

int dns_report_received(void *ctx)
{
	struct hl_record *record = hl_this_record();

	if (record)
		dns_tell(record, dns_call_in(record));
	return 0;
}

/* One message; of recvmmsg's, the next: it calls itself, as often as the kernel lets it. */
int dns_report(void *ctx)
{
	struct hl_record *record = hl_this_record();
	struct dns_call *call, rest;
	struct dns_mmsghdr *message;

	if (!record)
		return 0;
	call = dns_call_in(record);
	rest = *call;
	if (!rest.many) {
		dns_tell(record, call);
		return 0;
	}
	message = (struct dns_mmsghdr *)rest.many + rest.next;
	rest.next++;
	call->size = 0;
	bpf_probe_read_user(&call->size, sizeof(call->size), &message->length);
	if (call->size >= DNS_LEAST && dns_read_header(call, &message->header))
		dns_tell(record, call);
	else
		hl_discard(record);
	if (rest.next >= rest.count)
		return 0;
	/* What was sent was given back. */
	record = hl_take(HL_SLOT_DNS);
	if (!record)
		return 0;
	*dns_call_in(record) = rest;
	hl_tails.call(ctx, HL_TAIL_DNS_REPORT);
	hl_discard(record);
	return 0;
}
