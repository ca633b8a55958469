/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A connection is told when it ends, by whom it belonged to: mostly in a
 * softirq, where the current process is anybody. So its process is stored when
 * it can be known: of an outgoing one where it is opened, of an incoming one,
 * which comes into being in a softirq too, where it is accepted.
 *
 * This is the only user of the softirq lane: a program that interrupts itself
 * is not run by the kernel, and another one of that lane could not interrupt it.
 */

#include "network/sockets.h"

#define TCP_SESSION_PROTOCOL	6	/* IPPROTO_TCP */
#define TCP_SESSION_MOST	16384

enum {	/* include/net/tcp_states.h */
	TCP_SESSION_ESTABLISHED = 1,
	TCP_SESSION_SYN_SENT,
	TCP_SESSION_SYN_RECV,
	TCP_SESSION_FIN_WAIT1,
	TCP_SESSION_FIN_WAIT2,
	TCP_SESSION_TIME_WAIT,
	TCP_SESSION_CLOSE,
	TCP_SESSION_CLOSE_WAIT,
	TCP_SESSION_LAST_ACK,
	TCP_SESSION_LISTEN,
	TCP_SESSION_CLOSING,
};

enum tcp_session_outcome {
	TCP_SESSION_CLOSED,
	TCP_SESSION_REFUSED,
	TCP_SESSION_RESET,
	TCP_SESSION_TIMED_OUT,
	TCP_SESSION_FAILED,
};

enum tcp_session_direction { TCP_SESSION_UNKNOWN, TCP_SESSION_IN, TCP_SESSION_OUT };

#define TCP_SESSION_EPIPE		32
#define TCP_SESSION_ECONNRESET		104
#define TCP_SESSION_ETIMEDOUT		110
#define TCP_SESSION_ECONNREFUSED	111

struct tcp_session {
	struct hl_header owner;
	u64 start;
	u16 direction;
	u16 established;
	u32 owned;	/* the header is whole */
};

BPF_TABLE("lru_hash", u64, struct tcp_session, tcp_sessions, TCP_SESSION_MOST);
BPF_ARRAY(tcp_session_blank, struct tcp_session, 1);

/* A session of which nothing is known, and of no process. */
static __always_inline struct tcp_session *tcp_session_nobody(void)
{
	u32 zero = 0;
	struct tcp_session *blank = tcp_session_blank.lookup(&zero);

	if (blank)
		blank->owner.uid = blank->owner.gid = blank->owner.euid = -1;
	return blank;
}

static __always_inline void tcp_session_own(struct tcp_session *session)
{
	struct task_struct *task = hl_task();

	hl_fill_identity(&session->owner, task);
	hl_fill_process(&session->owner, task);
	/* Another CPU may close the connection meanwhile. */
	asm volatile("" ::: "memory");
	session->owned = 1;
}

static __always_inline struct tcp_session *tcp_session_open(u64 key, u16 direction)
{
	struct tcp_session *session = tcp_session_nobody();

	if (!session)
		return NULL;
	tcp_sessions.update(&key, session);
	session = tcp_sessions.lookup(&key);
	if (!session)
		return NULL;
	session->direction = direction;
	session->start = bpf_ktime_get_boot_ns();
	return session;
}

static __always_inline u16 tcp_session_outcome(bool established, u32 error)
{
	switch (error) {
	case 0:
		return established ? TCP_SESSION_CLOSED : TCP_SESSION_FAILED;
	case TCP_SESSION_ECONNREFUSED:
		return TCP_SESSION_REFUSED;
	case TCP_SESSION_ECONNRESET:
	case TCP_SESSION_EPIPE:
		return TCP_SESSION_RESET;
	case TCP_SESSION_ETIMEDOUT:
		return TCP_SESSION_TIMED_OUT;
	}
	return TCP_SESSION_FAILED;
}

/* Of what the peer has acknowledged, less SYN and FIN, which count as a byte each. */
static __always_inline u64 tcp_session_sent(struct tcp_sock *tcp, struct tcp_session *session, u32 state)
{
	u64 acknowledged = READ(tcp->bytes_acked);
	bool fin = state == TCP_SESSION_FIN_WAIT1 || state == TCP_SESSION_FIN_WAIT2 ||
		   state == TCP_SESSION_LAST_ACK || state == TCP_SESSION_CLOSING;
	u32 extra = 0;

	if (session->direction == TCP_SESSION_OUT && session->established)
		extra++;
	if (fin && READ(tcp->snd_una) == READ(tcp->write_seq))
		extra++;
	return acknowledged > extra ? acknowledged - extra : 0;
}

static __always_inline u64 tcp_session_received(struct tcp_sock *tcp)
{
	u64 received = READ(tcp->bytes_received);
	u64 flags = READ(((struct sock_common *)tcp)->skc_flags);

	return received && (flags & (1ULL << HL_SOCK_DONE)) ? received - 1 : received;
}

static __always_inline void tcp_session_tell(struct sock *sock, struct tcp_session *session, u32 state)
{
	struct socket_ends ends = {};
	struct hl_tcp_session *body;
	struct hl_record *record;
	struct tcp_session *nobody;
	u32 error = READ(sock->sk_err);
	u16 port;

	socket_read_ends(&ends, sock);
	if (!socket_is_inet(ends.family) ||
	    !socket_peer_wanted(&ends.remote, ends.family, HL_SLOT_TCP_SESSION))
		return;
	nobody = tcp_session_nobody();
	record = hl_take_in(HL_LANE_SOFTIRQ, HL_SLOT_TCP_SESSION);
	if (!record || !nobody)
		return;
	if (!hl_fill_for(record, session->owned ? &session->owner : &nobody->owner, HL_KIND_TCP_SESSION,
			 HL_SLOT_TCP_SESSION, HL_SIZE_TCP_SESSION))
		return;
	body = hl_body(record, tcp_session);
	body->end = record->header.time_ns;
	body->start = session->start;
	body->duration = session->start ? body->end - session->start : 0;
	body->received = tcp_session_received((struct tcp_sock *)sock);
	body->sent = tcp_session_sent((struct tcp_sock *)sock, session, state);
	body->result = -error;
	body->outcome = tcp_session_outcome(session->established, error);
	body->direction = session->direction;
	body->family = ends.family;
	/* The port that is bound was given back already; this one stays. */
	port = READ(((struct inet_sock *)sock)->inet_sport);
	body->source_port = bpf_ntohs(port);
	body->port = ends.remote.port;
	__builtin_memcpy(body->source, ends.local.address, 16);
	__builtin_memcpy(body->address, ends.remote.address, 16);
	hl_submit(record);
}

int tcp_session_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sock = (struct sock *)ctx->args[0];
	u32 old = ctx->args[1];
	u32 new = ctx->args[2];
	u64 key = (u64)sock;
	struct tcp_session *session;

	if (READ(sock->sk_protocol) != TCP_SESSION_PROTOCOL)
		return 0;
	switch (new) {
	case TCP_SESSION_SYN_SENT:
		session = tcp_session_open(key, TCP_SESSION_OUT);
		if (session)
			tcp_session_own(session);
		return 0;
	case TCP_SESSION_SYN_RECV:
		/* Not where both ends open it at once: that is the one that was opened here. */
		if (old != TCP_SESSION_SYN_SENT)
			tcp_session_open(key, TCP_SESSION_IN);
		return 0;
	case TCP_SESSION_ESTABLISHED:
		session = tcp_sessions.lookup(&key);
		if (session)
			session->established = 1;
		return 0;
	case TCP_SESSION_CLOSE:
		break;
	default:
		return 0;
	}
	session = tcp_sessions.lookup(&key);
	if (!session) {
		/* It began before us, or among too many; a listener is no connection. */
		if (old == TCP_SESSION_LISTEN || old == TCP_SESSION_CLOSE)
			return 0;
		session = tcp_session_nobody();
		if (!session)
			return 0;
	}
	tcp_session_tell(sock, session, old);
	tcp_sessions.delete(&key);
	return 0;
}

static __always_inline int tcp_session_accept(struct file *file)
{
	u64 key = (u64)socket_of(file);
	struct tcp_session *session = tcp_sessions.lookup(&key);

	if (session && !session->owned)
		tcp_session_own(session);
	return 0;
}

int tcp_session_accepted(struct hl_sys_exit *ctx)
{
	return ctx->result < 0 ? 0 : tcp_session_accept(hl_descriptor(ctx->result));
}

int tcp_session_accepted_by_io_uring(struct hl_io_uring_complete *ctx)
{
	struct io_kiocb *request = ctx->request;

	if (ctx->result < 0 || READ(request->opcode) != HL_IORING_OP_ACCEPT)
		return 0;
#ifdef HAVE_io_accept_file_slot
	if (READ(((struct io_accept *)request)->file_slot))
		return 0;
#endif
	return tcp_session_accept(hl_descriptor(ctx->result));
}
