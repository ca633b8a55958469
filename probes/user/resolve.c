/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The arguments are kept at the entry, and read at the return: by then their
 * pages are there, which a probe cannot wait for. What is kept is a thread's,
 * so that two calls at the same time are two; a call that never returns is
 * overwritten by the thread's next one, or by others' once the map is full.
 */

#define RESOLVE_CALLS	(4096 + 256 * HL_CPUS)	/* a CPU may keep 128 free places for itself */
#define RESOLVE_NODES	128	/* of the list of results that are looked at */

struct resolve_call {
	u64 host;
	u64 service;
	u64 hints;
	u64 results;	/* struct addrinfo ** */
};

BPF_TABLE("lru_hash", u64, struct resolve_call, resolve_calls, RESOLVE_CALLS);

/* As glibc and musl have it on x86-64. */
struct resolve_addrinfo {
	s32 flags;
	s32 family;
	s32 type;
	s32 protocol;
	u32 length;
	u32 pad;
	u64 address;
	u64 name;
	u64 next;
};

/* An address as events carry it, see probes.text.addresses_text(). */
struct resolve_address {
	u32 family;
	u32 words[4];
};

/* The part of a sockaddr_in or sockaddr_in6 up to the address's end. */
struct resolve_sockaddr {
	u16 family;
	u16 port;
	union {
		u32 v4;
		struct {
			u32 flow;
			u32 v6[4];
		};
	};
};

int resolve_entered(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct resolve_call call = {
		.host = PT_REGS_PARM1(ctx),
		.service = PT_REGS_PARM2(ctx),
		.hints = PT_REGS_PARM3(ctx),
		.results = PT_REGS_PARM4(ctx),
	};

	hl_use_stack_of_task(ctx);
	resolve_calls.update(&thread, &call);
	return 0;
}

/* Appends an address of the list, unless it is the one before: each comes once a socket type. */
static __always_inline bool resolve_append(struct hl_record *record, struct resolve_addrinfo *node,
					   struct resolve_address *last, u32 start)
{
	struct resolve_sockaddr from = {};
	struct resolve_address address = {};

	if (node->family != AF_INET && node->family != AF_INET6)
		return true;
	if (bpf_probe_read_user(&from, sizeof(from), (void *)node->address) &&
	    bpf_probe_read_user(&from, 8, (void *)node->address))
		return false;
	address.family = node->family;
	if (node->family == AF_INET)
		address.words[0] = from.v4;
	else
		__builtin_memcpy(address.words, from.v6, sizeof(from.v6));
	if (address.family == last->family && address.words[0] == last->words[0] &&
	    address.words[1] == last->words[1] && address.words[2] == last->words[2] &&
	    address.words[3] == last->words[3])
		return true;
	*last = address;
	if (record->header.length - start + sizeof(address) > HL_RESOLVE_RESOLVED_IP_MAX)
		return false;
	return hl_append_kernel(record, &address, sizeof(address));
}

/* Appends what `results` leads to; gives the flags to set. */
static __always_inline u32 resolve_results(struct hl_record *record, u64 results)
{
	/* In the record, where the verifier forgets it: on the stack, Linux 6.1 follows each path through each node. */
	struct resolve_address *last = (struct resolve_address *)record->passed;
	struct resolve_addrinfo node;
	u32 start = record->header.length;
	u64 at = 0;

	__builtin_memset(last, 0, sizeof(*last));
	if (bpf_probe_read_user(&at, sizeof(at), (void *)results))
		return HL_RESOLVE_RESOLVED_IP_CUT;
#pragma clang loop unroll(disable)
	for (int i = 0; i < RESOLVE_NODES; i++) {
		if (!at)
			return 0;
		if (bpf_probe_read_user(&node, sizeof(node), (void *)at) ||
		    !resolve_append(record, &node, last, start))
			return HL_RESOLVE_RESOLVED_IP_CUT;
		at = node.next;
	}
	return at ? HL_RESOLVE_RESOLVED_IP_CUT : 0;
}

/* Appends a string, which may be NULL; sets `cut` where it is longer than `limit`, or cannot be read. */
#define resolve_string(record, from, limit, cut) ({				\
	u32 __got = (from) ? hl_append_string(record, (void *)(from), limit,	\
					      hl_read_user_str) : 0;	\
										\
	if ((from) && (!__got || __got == (limit)))				\
		(record)->header.flags |= (cut);				\
	hl_chop(record, __got);							\
})

int resolve_returned(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct resolve_call *kept = resolve_calls.lookup(&thread);
	struct resolve_call call;
	struct hl_record *record;
	struct hl_resolve *body;
	s32 result = PT_REGS_RC(ctx);
	u32 start;

	hl_use_stack_of_task(ctx);
	if (!kept)
		return 0;
	call = *kept;
	resolve_calls.delete(&thread);
	record = hl_begin_in(HL_LANE_PREEMPTIBLE, HL_KIND_RESOLVE, HL_SLOT_RESOLVE, HL_SIZE_RESOLVE);
	if (!record)
		return 0;
	body = hl_body(record, resolve);
	body->result = result;
	if (call.hints)
		bpf_probe_read_user(&body->asked_family, sizeof(body->asked_family), (void *)call.hints + 4);
	body->host_length = resolve_string(record, call.host, HL_RESOLVE_HOST_MAX, HL_RESOLVE_HOST_CUT);
	body->service_length = resolve_string(record, call.service, HL_RESOLVE_SERVICE_MAX, HL_RESOLVE_SERVICE_CUT);
	if (!result) {
		start = record->header.length;
		record->header.flags |= resolve_results(record, call.results);
		body->resolved_ip_length = record->header.length - start;
	}
	hl_submit(record);
	return 0;
}
