/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet that opens nothing and belongs to nothing: it came to a TCP port
 * where nobody listens, without ACK (late packets of a connection have it) and
 * without RST. So SYN, FIN, NULL and Xmas scans alike.
 *
 * Whoever scans decides how many there are. Therefore a port is told once a
 * window for each source, so many ports for each source, and so many events for
 * each CPU; the rest is counted as filtered, and the source's next event says
 * how many there were. It runs in softirqs, where no process is the cause.
 */

#include "network/sockets.h"

#define PORT_SCAN_WINDOW	60000000000ULL	/* ns */
#define PORT_SCAN_PORTS		256	/* told of each source in a window */
#define PORT_SCAN_SECOND	1000000000ULL
#define PORT_SCAN_EVENTS	500	/* told on each CPU in a second */
#define PORT_SCAN_TCP		6
#define PORT_SCAN_RST		0x04
#define PORT_SCAN_ACK		0x10

struct port_scan_key {
	u8 source[16];
	u16 family;
	u16 port;	/* 0: the source as a whole */
	u32 pad;
};

struct port_scan_count {
	u64 since;
	u32 told;
	u32 left_out;	/* since the last event of this source */
};

BPF_TABLE("lru_hash", struct port_scan_key, struct port_scan_count, port_scan_seen, 16384);
BPF_PERCPU_ARRAY(port_scan_cpu, struct port_scan_count, 1);
BPF_ARRAY(port_scan_nobody, struct hl_header, 1);

struct port_scan_packet {
	struct socket_ends ends;	/* local: where it came to */
	u8 flags;
};

/* Reads the packet's headers; false of another protocol. */
static __always_inline bool port_scan_read(struct port_scan_packet *packet, struct sk_buff *skb)
{
	struct socket_ends *ends = &packet->ends;
	u8 *head = READ(skb->head);
	u8 *ip = head + READ(skb->network_header);
	u8 *tcp = head + READ(skb->transport_header);
	u16 ports[2] = {};
	u8 version = 0, protocol = 0;

	bpf_probe_read_kernel(&version, 1, ip);
	if (version >> 4 == 4) {
		ends->family = AF_INET;
		bpf_probe_read_kernel(&protocol, 1, ip + 9);
		bpf_probe_read_kernel(&ends->remote.v4, 4, ip + 12);
		bpf_probe_read_kernel(&ends->local.v4, 4, ip + 16);
	} else if (version >> 4 == 6) {
		ends->family = AF_INET6;
		bpf_probe_read_kernel(&protocol, 1, ip + 6);
		bpf_probe_read_kernel(ends->remote.address, 16, ip + 8);
		bpf_probe_read_kernel(ends->local.address, 16, ip + 24);
	}
	if (protocol != PORT_SCAN_TCP)
		return false;
	bpf_probe_read_kernel(ports, sizeof(ports), tcp);
	ends->remote.port = bpf_ntohs(ports[0]);
	ends->local.port = bpf_ntohs(ports[1]);
	bpf_probe_read_kernel(&packet->flags, 1, tcp + 13);
	return !(packet->flags & (PORT_SCAN_ACK | PORT_SCAN_RST));
}

/* Whether one more may be told of what `count` counts. */
static __always_inline bool port_scan_allows(struct port_scan_count *count, u64 window, u32 most)
{
	u64 now = bpf_ktime_get_boot_ns();

	if (now - count->since >= window) {
		count->since = now;
		count->told = 0;
	}
	__sync_fetch_and_add(&count->told, 1);
	return count->told <= most;
}

/* The count of `key`, made where there is none; NULL where that fails. */
static __always_inline struct port_scan_count *port_scan_counted(struct port_scan_key *key)
{
	struct port_scan_count *count = port_scan_seen.lookup(key);
	struct port_scan_count fresh = {};

	if (count)
		return count;
	port_scan_seen.update(key, &fresh);
	return port_scan_seen.lookup(key);
}

static __always_inline int port_scan_tell(struct sk_buff *skb)
{
	struct port_scan_packet packet = {};
	struct port_scan_count *source, *port, *cpu;
	struct port_scan_key key = {};
	struct hl_header *nobody;
	struct hl_port_scan *body;
	struct hl_record *record;
	u32 zero = 0;

	if (!port_scan_read(&packet, skb) ||
	    !socket_peer_wanted(&packet.ends.remote, packet.ends.family, HL_SLOT_PORT_SCAN))
		return 0;
	nobody = port_scan_nobody.lookup(&zero);
	cpu = port_scan_cpu.lookup(&zero);
	__builtin_memcpy(key.source, packet.ends.remote.address, 16);
	key.family = packet.ends.family;
	source = port_scan_counted(&key);
	key.port = packet.ends.local.port;
	port = port_scan_counted(&key);
	if (!nobody || !cpu || !source || !port)
		return 0;
	if (!port_scan_allows(port, PORT_SCAN_WINDOW, 1) ||
	    !port_scan_allows(source, PORT_SCAN_WINDOW, PORT_SCAN_PORTS) ||
	    !port_scan_allows(cpu, PORT_SCAN_SECOND, PORT_SCAN_EVENTS)) {
		__sync_fetch_and_add(&source->left_out, 1);
		hl_count_filtered(HL_SLOT_PORT_SCAN);
		return 0;
	}
	nobody->uid = nobody->gid = nobody->euid = -1;
	/* Not the softirq lane: this can interrupt a program that uses it. */
	record = hl_take_in(HL_LANE_PREEMPTIBLE, HL_SLOT_PORT_SCAN);
	if (!record)
		return 0;
	if (!hl_fill_for(record, nobody, HL_KIND_PORT_SCAN, HL_SLOT_PORT_SCAN, HL_SIZE_PORT_SCAN))
		return 0;
	body = hl_body(record, port_scan);
	body->left_out = source->left_out;
	source->left_out = 0;
	body->family = packet.ends.family;
	body->tcp_flags = packet.flags;
	body->source_port = packet.ends.remote.port;
	body->port = packet.ends.local.port;
	__builtin_memcpy(body->source, packet.ends.remote.address, 16);
	__builtin_memcpy(body->address, packet.ends.local.address, 16);
	hl_submit(record);
	return 0;
}

/* Since Linux 6.10 this tells of packets without a socket. */
int port_scan_reset(struct bpf_raw_tracepoint_args *ctx)
{
	if (ctx->args[0] || !ctx->args[1])
		return 0;
	return port_scan_tell((struct sk_buff *)ctx->args[1]);
}

/* Linux 5.17 to 6.9. */
int port_scan_dropped(struct bpf_raw_tracepoint_args *ctx)
{
	if ((u32)ctx->args[2] != HL_SKB_DROP_REASON_NO_SOCKET)
		return 0;
	return port_scan_tell((struct sk_buff *)ctx->args[0]);
}
