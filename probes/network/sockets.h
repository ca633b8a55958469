/* SPDX-License-Identifier: GPL-2.0-only */
/* What the network probes share: the ends of a connection as the kernel's own socket holds them. */

#ifndef HOOKLINE_SOCKETS_H
#define HOOKLINE_SOCKETS_H

#define SOCKET_RESTART_FIRST	512	/* ERESTARTSYS; the kernel's own, its caller sees EINTR or nothing */
#define SOCKET_RESTART_LAST	516	/* ERESTART_RESTARTBLOCK */
#define SOCKET_EINTR		4

struct socket_end {
	union {
		u8 address[16];
		u32 words[4];
		u32 v4;
	};
	u16 port;	/* host order */
};

struct socket_ends {
	struct socket_end local;
	struct socket_end remote;
	u16 family;
};

static __always_inline bool socket_is_inet(u16 family)
{
	return family == AF_INET || family == AF_INET6;
}

/* The kernel's socket behind an open file; NULL of any other file. */
static __always_inline struct sock *socket_of(struct file *file)
{
	struct inode *inode = READ(file->f_inode);
	struct socket *socket;

	if ((READ(inode->i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = (struct socket *)READ(file->private_data);
	return READ(socket->sk);
}

/* Reads both ends; of another family than v4 and v6, the family alone. */
static __always_inline void socket_read_ends(struct socket_ends *ends, struct sock *sock)
{
	struct sock_common *common = (struct sock_common *)sock;

	ends->family = READ(common->skc_family);
	if (!socket_is_inet(ends->family))
		return;
	ends->local.port = READ(common->skc_num);
	ends->remote.port = bpf_ntohs(READ(common->skc_dport));
	if (ends->family == AF_INET) {
		ends->local.v4 = READ(common->skc_rcv_saddr);
		ends->remote.v4 = READ(common->skc_daddr);
	} else {
		bpf_probe_read_kernel(ends->local.address, 16, &common->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(ends->remote.address, 16, &common->skc_v6_daddr);
	}
}

/* Takes an end from a sockaddr as long as sockaddr_in6; a v4 address that a v6 socket was given is told as mapped. */
static __always_inline void socket_take_asked(struct socket_end *end, u16 family, const struct sockaddr_in6 *asked)
{
	end->port = bpf_ntohs(asked->sin6_port);
	__builtin_memset(end->address, 0, sizeof(end->address));
	if (asked->sin6_family == AF_INET && family == AF_INET) {
		end->v4 = ((struct sockaddr_in *)asked)->sin_addr;
	} else if (asked->sin6_family == AF_INET) {
		end->words[2] = bpf_htonl(0xffff);
		end->words[3] = ((struct sockaddr_in *)asked)->sin_addr;
	} else if (asked->sin6_family == AF_INET6 && family == AF_INET6) {
		__builtin_memcpy(end->address, &asked->sin6_addr, 16);
	}
}

/* Takes an end from the caller's sockaddr. False where there is nothing to read. */
static __always_inline bool socket_read_caller(struct socket_end *end, u16 family, const void *address)
{
	struct sockaddr_in6 asked = {};

	if (!address || bpf_probe_read_user(&asked, sizeof(struct sockaddr_in), address))
		return false;
	if (asked.sin6_family == AF_INET6 && bpf_probe_read_user(&asked, sizeof(asked), address))
		__builtin_memset(&asked.sin6_addr, 0, sizeof(asked.sin6_addr));
	socket_take_asked(end, family, &asked);
	return true;
}

static __always_inline bool socket_is_loopback(const struct socket_end *end, u16 family)
{
	const u32 *words = end->words;

	if (family == AF_INET)
		return end->address[0] == 127;
	if (words[0] || words[1])
		return false;
	if (words[2] == bpf_htonl(0xffff))
		return end->address[12] == 127;
	return !words[2] && words[3] == bpf_htonl(1);
}

/* Whether a connection with that peer is told at all; one that the configuration leaves out is counted. */
static __always_inline bool socket_peer_wanted(const struct socket_end *peer, u16 family, u32 slot)
{
	struct hl_settings *settings = hl_get_settings();

	if (!settings)
		return false;
	if (!settings->exclude_loopback || !socket_is_loopback(peer, family))
		return true;
	hl_count_filtered(slot);
	return false;
}

/* A call's result as its caller sees it. */
static __always_inline s64 socket_result(s64 result)
{
	if (result <= -SOCKET_RESTART_FIRST && result >= -SOCKET_RESTART_LAST)
		return -SOCKET_EINTR;
	return result;
}

#endif
