/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The connected socket behind a process, from the descriptor tables as they are
 * now: of the process itself; where its standard input or output is a pipe, of
 * its process group, for a pipeline has its socket in a neighbour; of its
 * ancestors. The first stream counts, or, of the first process that has none but
 * datagrams, such a one. As socket_owner.py.
 *
 * The search lies in record->path, which must be free.
 */

#ifndef HOOKLINE_SOCKET_OWNER_H
#define HOOKLINE_SOCKET_OWNER_H

#include "network/sockets.h"

#define SOCKET_OWNER_STEPS	96	/* descriptors, words of 64 of them, and processes */
#define SOCKET_OWNER_OF_ONE	64	/* descriptors of one process, but for the first */
#define SOCKET_OWNER_SIFTED	16	/* descriptors that are looked at by loads */
#define SOCKET_OWNER_WORDS	16	/* of 64 descriptors each */
#define SOCKET_OWNER_LINE	5	/* the process and its ancestors */
#define SOCKET_OWNER_MEMBERS	8	/* of the process group */
#define SOCKET_OWNER_REST_NS	100000000ULL	/* for which ancestors without a connection are not looked at again */

#define SOCKET_OWNER_STREAM	1	/* SOCK_STREAM */
#define SOCKET_OWNER_FIFO	0010000	/* S_IFIFO */

/* ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING of net/tcp_states.h; a datagram socket's is the first. */
#define SOCKET_OWNER_STATES	(1U << 1 | 1U << 4 | 1U << 5 | 1U << 8 | 1U << 9 | 1U << 11)

/* What is told; as socket_owner.py. */
struct socket_owner {
	u16 family;
	u16 type;
	u16 local_port;
	u16 remote_port;
	u32 pid;
	u8 local[16];
	u8 remote[16];
} __attribute__((packed));

/* A process and its descriptors. */
struct socket_owner_process {
	struct file **files;
	u64 *bits;	/* which are open */
	u64 words;	/* of 64 bits */
	u64 sockets;	/* of the first word, those that are sockets */
	u32 pid;
	u32 is_sifted;	/* whether all are in `sockets` */
};

/*
 * Ancestors, by the nearest one's descriptors and id, of which none was found to
 * have a connection: when, in ns since boot; odd where not all was looked at.
 */
struct socket_owner_nearest {
	u64 files;
	u64 pid;
};

BPF_TABLE("lru_hash", struct socket_owner_nearest, u64, socket_owner_without, 1024);

struct socket_owner_search {
	struct socket_owner_process at;	/* what is looked at */
	struct socket_owner_process line[8];
	void *member;	/* the next one's link into the process group */
	struct sock *datagram;
	struct sock *found;
	u64 open;	/* of the word's bits, those that are still to be looked at */
	u32 steps;	/* left for the process */
	u32 word;
	u32 members;
	u32 level;	/* of the line */
	u32 levels;	/* that were noted */
	u32 no_loopback;
	u32 cut;
	struct socket_owner told;
	struct file *these[64];	/* of one word */
};

static __always_inline struct socket_owner_search *socket_owner_search(struct hl_record *record)
{
	return (struct socket_owner_search *)record->path;
}

static __always_inline bool socket_owner_is_pipe(u32 mode)
{
	return (mode & S_IFMT) == SOCKET_OWNER_FIFO;
}

#ifdef HL_BPF_FUNC_get_current_task_btf
/* As FOLLOW() without its branch: a load through NULL gives 0. */
#define SOCKET_OWNER_LOAD(pointer, member) ((pointer)->member)
#else
#define SOCKET_OWNER_LOAD(pointer, member) READ((pointer)->member)
#endif

/*
 * Notes a process of the line. The first descriptors lie in the table itself,
 * where the verifier knows their type, so that loads find the sockets among them,
 * in a tenth of the time; without a branch, of which the verifier would follow
 * every combination.
 */
static __always_inline void socket_owner_note(struct task_struct *task, struct socket_owner_process *process)
{
	struct files_struct *files = SOCKET_OWNER_LOAD(task, files);
	struct fdtable *table = SOCKET_OWNER_LOAD(files, fdt);
	u64 sockets = 0;

	process->pid = SOCKET_OWNER_LOAD(task, tgid);
	process->files = SOCKET_OWNER_LOAD(table, fd);
	process->bits = SOCKET_OWNER_LOAD(table, open_fds);
	process->words = SOCKET_OWNER_LOAD(table, max_fds) / 64;
	process->is_sifted = false;
#ifdef HL_BPF_FUNC_get_current_task_btf
	process->is_sifted = process->words == 1 && !(files->open_fds_init[0] >> SOCKET_OWNER_SIFTED);
#pragma clang loop unroll(full)
	for (int number = 0; number < SOCKET_OWNER_SIFTED; number++) {
		u64 differs = (files->fd_array[number]->f_inode->i_mode & S_IFMT) ^ S_IFSOCK;

		differs = -differs; /* its highest bit is set unless it is 0 */
		HIDE(differs);
		sockets |= (differs >> 63 ^ 1) << number;
	}
	process->sockets = sockets;
#endif
}

/* Makes one the process to look at. */
static __always_inline void socket_owner_look_at(struct socket_owner_search *search, struct socket_owner_process *process)
{
	search->at = *process;
	search->datagram = NULL;
	search->open = 0;
	search->word = 0;
	search->steps = SOCKET_OWNER_OF_ONE;
	if (!process->is_sifted)
		return;
	search->word = 1;
	search->open = process->sockets;
	if (search->open)
		bpf_probe_read_kernel(search->these, sizeof(search->these), process->files);
}

static __always_inline void socket_owner_begin(struct socket_owner_search *search, bool is_piped)
{
	struct hl_settings *settings = hl_get_settings();
	struct task_struct *task = hl_task();
	struct signal_struct *signal = FOLLOW(task, signal);
	struct pid *group = NULL;

	search->found = NULL;
	search->member = NULL;
	search->members = 0;
	search->level = 0;
	search->levels = 0;
	search->cut = false;
	search->no_loopback = settings && settings->exclude_loopback;
	if (is_piped) {
		READ_INTO(group, (struct pid **)((void *)&signal->pids + HL_PIDTYPE_PGID * sizeof(group)));
		READ_INTO(search->member, (void **)((void *)&group->tasks + HL_PIDTYPE_PGID * sizeof(void *)));
	}
	socket_owner_note(task, &search->line[0]);
	socket_owner_look_at(search, &search->line[0]);
	search->steps = SOCKET_OWNER_STEPS;
}

/* Goes on to the next process of the process group, or of the line; false where there is none. */
static __always_inline bool socket_owner_next(struct socket_owner_search *search)
{
	struct socket_owner_process *process = &search->line[7];
	void *member = search->member;

	if (member && search->members < SOCKET_OWNER_MEMBERS) {
		struct task_struct *task = member - offsetof(struct task_struct, pid_links) - HL_PIDTYPE_PGID * 2 * sizeof(void *);
		struct files_struct *files = READ(task->files);
		struct fdtable *table = READ(files->fdt);

		search->members++;
		READ_INTO(search->member, (void **)member);
		process->pid = READ(task->tgid);
		process->files = READ(table->fd);
		process->bits = READ(table->open_fds);
		process->words = READ(table->max_fds) / 64;
		process->is_sifted = false;
#ifdef HL_BPF_FUNC_get_current_task_btf /* before Linux 5.11 the verifier has no patience for this branch */
		if (process->files == search->line[0].files)
			process->words = 0; /* the process itself, or one that shares its descriptors */
#endif
	} else {
		search->cut |= member != NULL;
		search->member = NULL;
		search->level++;
		process = &search->line[search->level & 7];
		if (!search->level || search->level >= search->levels || process->pid <= 1)
			return false;
	}
	socket_owner_look_at(search, process);
	return true;
}

/* Notes the ancestors; false where they are known to have no connection. */
static __always_inline bool socket_owner_begin_line(struct socket_owner_search *search, struct socket_owner_nearest *nearest)
{
	struct task_struct *task = hl_task();
	struct task_struct *leader = SOCKET_OWNER_LOAD(task, group_leader);
	u64 now = bpf_ktime_get_boot_ns();
	u64 *without;

	task = SOCKET_OWNER_LOAD(leader, real_parent);
	nearest->files = (u64)SOCKET_OWNER_LOAD(task, files);
	nearest->pid = SOCKET_OWNER_LOAD(task, tgid);
	without = socket_owner_without.lookup(nearest);
	if (nearest->pid <= 1)
		return false;
	if (without && now - *without < SOCKET_OWNER_REST_NS) {
		search->cut |= *without & 1;
		return false;
	}
#pragma clang loop unroll(full)
	for (int level = 1; level < SOCKET_OWNER_LINE; level++) {
		leader = SOCKET_OWNER_LOAD(task, group_leader);
		socket_owner_note(task, &search->line[level]);
		task = SOCKET_OWNER_LOAD(leader, real_parent);
	}
	search->levels = SOCKET_OWNER_LINE;
	search->member = NULL; /* where the steps ended within the process group */
	search->level = 1;
	socket_owner_look_at(search, &search->line[1]);
	return true;
}

static __always_inline bool socket_owner_is_connected(struct sock *sock, bool no_loopback)
{
	struct sock_common *common = (struct sock_common *)sock;
	struct socket_ends ends = {};

	if (!socket_is_inet(READ(common->skc_family)) || !READ(common->skc_dport))
		return false;
	if (!(1U << (READ(common->skc_state) & 31) & SOCKET_OWNER_STATES))
		return false;
	if (!no_loopback)
		return true;
	socket_read_ends(&ends, sock);
	return !socket_is_loopback(&ends.remote, ends.family);
}

/* The number of the one bit that is set. */
static __always_inline u32 socket_owner_bit(u64 one)
{
	u64 below = one - 1;

	below -= below >> 1 & 0x5555555555555555ULL;
	below = (below & 0x3333333333333333ULL) + (below >> 2 & 0x3333333333333333ULL);
	below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return below * 0x0101010101010101ULL >> 56;
}

/* Looks at one descriptor; true where that is what is sought. */
static __always_inline bool socket_owner_descriptor(struct socket_owner_search *search)
{
	u64 one = search->open & -search->open;
	u32 number = socket_owner_bit(one) & 63;
	struct file *file = search->these[number];
	struct sock *sock;

	search->open ^= one;
	if (!file)
		return false;
	sock = socket_of(file);
	if (!sock || !socket_owner_is_connected(sock, search->no_loopback))
		return false;
	if (READ(sock->sk_type) == SOCKET_OWNER_STREAM) {
		search->found = sock;
		return true;
	}
	if (!search->datagram)
		search->datagram = sock;
	return false;
}

/* Whether the process is done with. */
static __always_inline bool socket_owner_is_done(struct socket_owner_search *search)
{
	if (!search->open && search->word >= search->at.words)
		return true;
	if (search->steps && (search->open || search->word < SOCKET_OWNER_WORDS)) {
		search->steps--;
		return false;
	}
	search->cut = true;
	return true;
}

/* Looks at one descriptor, or begins with the next word of 64; true where what is sought is found. */
static __always_inline bool socket_owner_look_on(struct socket_owner_search *search)
{
	u64 *bits = search->at.bits + search->word;
	struct file **files = search->at.files + (u64)search->word * 64;

	if (search->open)
		return socket_owner_descriptor(search);
	search->word++;
	READ_INTO(search->open, bits);
	if (search->open)
		bpf_probe_read_kernel(search->these, sizeof(search->these), files);
	return false;
}

/* Looks at one process after the other; false where that took too many steps. */
static __always_inline bool socket_owner_go(struct socket_owner_search *search)
{
#pragma clang loop unroll(disable)
	for (int step = 0; step < SOCKET_OWNER_STEPS; step++) {
		if (!socket_owner_is_done(search)) {
			if (socket_owner_look_on(search))
				return true;
			continue;
		}
		search->found = search->datagram;
		if (search->found || !socket_owner_next(search))
			return true;
	}
	search->found = search->datagram;
	return false;
}

/*
 * Appends the tail `socket`; gives its length. `is_piped`: whether standard
 * input or output is a pipe. Sets `cut` in the record's flags where not all was
 * looked at.
 */
static __always_inline u32 socket_owner_append(struct hl_record *record, bool is_piped, u32 cut)
{
	struct socket_owner_search *search = socket_owner_search(record);
	struct socket_owner_nearest nearest = {};
	struct socket_ends ends = {};

	socket_owner_begin(search, is_piped);
	search->cut |= !socket_owner_go(search);
	if (!search->found && socket_owner_begin_line(search, &nearest)) {
		u32 before = search->cut;
		u64 when;

		search->cut = false;
		search->cut |= !socket_owner_go(search);
		when = (bpf_ktime_get_boot_ns() & ~1ULL) | search->cut;
		if (!search->found)
			socket_owner_without.update(&nearest, &when);
		search->cut |= before;
	}
	if (!search->found) {
		if (search->cut)
			record->header.flags |= cut;
		return 0;
	}
	socket_read_ends(&ends, search->found);
	search->told.family = ends.family;
	search->told.type = READ(search->found->sk_type);
	search->told.local_port = ends.local.port;
	search->told.remote_port = ends.remote.port;
	search->told.pid = search->at.pid;
	__builtin_memcpy(search->told.local, ends.local.address, 16);
	__builtin_memcpy(search->told.remote, ends.remote.address, 16);
	return hl_append_kernel(record, &search->told, sizeof(search->told));
}

#endif
