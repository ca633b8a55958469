/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every probe shares: the maps, the record under construction, the
 * header, the path walk and the way out.
 *
 * A record is too large for a BPF stack and lies in one of three lanes:
 *
 * - HL_LANE_TASK: one a CPU, for programs that neither sleep nor are preempted
 *   (tracepoints and kprobes; raw tracepoints before Linux 6.19).
 * - HL_LANE_SOFTIRQ: another one a CPU, for raw tracepoints that softirqs can
 *   reach: they interrupt a program of the first lane. No tail calls there.
 * - HL_LANE_PREEMPTIBLE: a pool, for fentry, fexit and uprobes: they stay on
 *   their CPU, but another task's program can come in between. Where
 *   HL_PREEMPTIBLE is defined, the other lanes are this one as well.
 *
 * A kernel numbers and counts what finds no free record in the pool as dropped.
 * Numbers run in streams: of a CPU, or, from HL_CPUS on, of a record of the
 * pool, which its owner alone advances (LLVM 14's generic target has no atomic
 * instruction that gives the old value back, nor has Linux 5.10).
 *
 * State lives in the record rather than in registers: the verifier forgets what
 * it knew of memory, so that its states meet again and loops load.
 */

/*
 * One member of a kernel struct; 0 where the pointer leads nowhere. From Linux 6.2
 * on it is a load, which the kernel lets fail: a call of a helper takes ten times
 * as long. The call in it is none: the verifier takes it out.
 */
#ifdef HL_KFUNC_RDONLY_CAST
static const void *(*hl_readable)(const void *address, u32 type) = (void *)HL_KFUNC_RDONLY_CAST;

static __always_inline void hl_load(void *to, const u32 size, const void *from)
{
	const void *at = hl_readable(from, HL_TYPE_OF_WORD);

	if (size == 8)
		*(u64 *)to = *(const u64 *)at;
	else if (size == 4)
		*(u32 *)to = *(const u32 *)at;
	else if (size == 2)
		*(u16 *)to = *(const u16 *)at;
	else
		*(u8 *)to = *(const u8 *)at;
}

/* By this name bcc leaves its last argument alone. */
#define READ(member) ({							\
	void (*const bpf_probe_read_kernel)(void *, u32, const void *) = hl_load; \
	typeof(member) __value;						\
									\
	_Static_assert(sizeof(member) <= 8 && !(sizeof(member) & (sizeof(member) - 1)), "a load is of 1, 2, 4 or 8 bytes"); \
	bpf_probe_read_kernel(&__value, sizeof(__value), &(member));	\
	__value;							\
})

/* The same of an address. */
#define READ_INTO(value, address) ((value) = READ(*(address)))
#else
#define READ(member) ({							\
	typeof(member) __value;						\
	bpf_probe_read_kernel(&__value, sizeof(__value), &(member));	\
	__value;							\
})

#define READ_INTO(value, address) bpf_probe_read_kernel(&(value), sizeof(value), address)
#endif

#define READ_OF(pointer, member) READ((pointer)->member)

/*
 * One member of a struct that hl_task() leads to; 0 where the pointer leads
 * nowhere. From Linux 5.11 on the verifier knows the types along the way, so that
 * this is a load, which cannot fault; a pointer that was kept in a map, or taken
 * from an array, is for READ(). What the kernel declares as __rcu must be compared
 * with NULL first; elsewhere that only doubles what the verifier has to look at.
 */
#ifdef HL_BPF_FUNC_get_current_task_btf
#define FOLLOW(pointer, member) ((pointer)->member)
#else
#define FOLLOW(pointer, member) READ((pointer)->member)
#endif

/* Keeps clang from proving a bound away that the verifier must see. */
#define HIDE(value) asm volatile("" : "+r"(value))

#define HL_STACK_SIZE	16384	/* THREAD_SIZE of x86-64 */
#define HL_PATH_SIZE	4096
#define HL_PATH_STEPS	256	/* components walked before a program calls itself again */
#define HL_TAIL_SIZE	32768
#define HL_RECORD_SIZE	65536
#define HL_POOL		16	/* records for programs that can be preempted; a power of two */
#define HL_STREAMS	(HL_POOL + 1)	/* and one for what found none free */

#define HL_LANE_TASK		0
#define HL_LANE_SOFTIRQ		1
#define HL_LANE_PREEMPTIBLE	2

/* What HL_FORM_ and an event's name, in capitals, stand for. */
enum { HL_BY_TRACEPOINT, HL_BY_KPROBE, HL_BY_FENTRY, HL_BY_UPROBE };

#define HL_LANE_OF(form) ((form) == HL_BY_FENTRY || (form) == HL_BY_UPROBE ? HL_LANE_PREEMPTIBLE : HL_LANE_TASK)

#define HL_PIDTYPE_PGID	2
#define HL_PIDTYPE_SID	3
#define HL_CTIME_QUERIED (1U << 31)	/* I_CTIME_QUERIED, Linux 6.13 */
#define HL_CGROUP_ROOT	1
#define HL_CGROUP_V1	(1ULL << 62)	/* as probes.event.CGROUP_V1 */

#define AF_UNIX		1
#define AF_INET		2
#define AF_INET6	10

#define S_IFMT		0170000
#define S_IFSOCK	0140000

/* What hl_excluded_exe says of an executable; as probes/kernel/filters.py. */
#define HL_EXCLUDE_EVERYTHING	1
#define HL_EXCLUDE_BECOME_ROOT	2

struct hl_settings {
	u32 own_tgid;
	u32 wakeup_bytes;
	u32 exclude_exe;	/* entries in hl_excluded_exe: 0 spares the look-up */
	u32 exclude_uid;
	u32 exclude_loopback;
	u32 unix_sockets;
	u32 loader_tgid;	/* while probes are loaded; else 0 */
	u32 stopped;	/* the end has come: nothing is told or counted any more */
};

struct hl_counters {
	u64 emitted;
	u64 dropped;
	u64 filtered;
};

struct hl_record {
	union {
		struct hl_header header;
		u8 bytes[HL_RECORD_SIZE + HL_TAIL_SIZE];
	};

	/* From here on nothing is sent. */
	struct dentry *dentry;
	struct dentry *root;	/* of the mount */
	struct mount *mount;
	u64 passed[4];	/* from a hook to the program that it calls */
	u32 silent;	/* bytes sent since this CPU last woke the reader */
	u32 slot;
	u32 lane;	/* in the pool: its index and 1; else 0 */
	u32 stage;
	u32 walking;	/* a path is under way, at dentry and mount */
	u32 position;
	u8 path[2 * HL_PATH_SIZE];
};

BPF_RINGBUF_OUTPUT(hl_events, HL_RING_PAGES);
BPF_PERCPU_ARRAY(hl_counters, struct hl_counters, HL_SLOTS);
BPF_ARRAY(hl_settings, struct hl_settings, 1);
BPF_ARRAY(hl_lane_counters, struct hl_counters, HL_SLOTS * HL_STREAMS);
BPF_ARRAY(hl_records, struct hl_record, HL_CPUS);
BPF_ARRAY(hl_softirq_records, struct hl_record, HL_CPUS);
BPF_ARRAY(hl_pool, struct hl_record, HL_POOL);
BPF_HASH(hl_pool_owners, u32, u64, HL_POOL);
BPF_HASH(hl_excluded_exe, struct hl_file_id, u32, 1024);
BPF_HASH(hl_excluded_uid, u32, u32, 1024);
BPF_PROG_ARRAY(hl_raw_tails, HL_TAILS);
BPF_PROG_ARRAY(hl_tails, HL_TAILS);
BPF_PROG_ARRAY(hl_kprobe_tails, HL_TAILS);	/* uprobes too */
BPF_PROG_ARRAY(hl_fentry_tails, HL_TAILS);
BPF_PROG_ARRAY(hl_fexit_tails, HL_TAILS);

/* The context of a syscalls:sys_exit_* tracepoint. */
struct hl_sys_exit {
	u64 common;
	s32 number;
	u32 pad;
	s64 result;
};

/* The context of io_uring:io_uring_complete. */
struct hl_io_uring_complete {
	u64 common;
	void *context;
	struct io_kiocb *request;
	u64 user_data;
	s32 result;
};

/* The current task, for FOLLOW(). */
static __always_inline struct task_struct *hl_task(void)
{
#ifdef HL_BPF_FUNC_get_current_task_btf
	return (struct task_struct *)bpf_get_current_task_btf();
#else
	return (struct task_struct *)bpf_get_current_task();
#endif
}

static __always_inline struct pt_regs *hl_user_registers(void)
{
#ifdef HL_BPF_FUNC_task_pt_regs
	return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
#else
	/* Before Linux 5.15: as task_pt_regs() finds them on x86-64. */
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return (struct pt_regs *)(READ(task->stack) + HL_STACK_SIZE) - 1;
#endif
}

/* Calls another program of the same form; returns only where no further call is possible. */
static __always_inline void hl_call(void *ctx, const u32 form, u32 program)
{
	if (form == HL_BY_TRACEPOINT)
		hl_tails.call(ctx, program);
	else if (form == HL_BY_FENTRY)
		hl_fentry_tails.call(ctx, program);
	else
		hl_kprobe_tails.call(ctx, program);
}

/*
 * What the program of a uprobe does first. From Linux 6.13 on a program can get a
 * stack of each CPU's, because it does not run twice there at once. A uprobe's
 * does, when it is preempted. What calls another program has the task's stack.
 */
static __always_inline void hl_use_stack_of_task(void *ctx)
{
	const void *given = ctx;

	HIDE(given);
	if (!given)	/* never */
		hl_kprobe_tails.call(ctx, 0);
}

/* An argument, from 0 to 4, of the kernel function that a kprobe or fentry program is at. */
static __always_inline u64 hl_argument(void *ctx, const u32 form, const u32 number)
{
	struct pt_regs *registers = ctx;

	if (form == HL_BY_FENTRY)
		return ((u64 *)ctx)[number];
	switch (number) {
	case 0:
		return registers->di;
	case 1:
		return registers->si;
	case 2:
		return registers->dx;
	case 3:
		return registers->cx;
	default:
		return registers->r8;
	}
}

/* The current process's open file of that number; NULL where there is none. */
static __always_inline struct file *hl_descriptor(u32 number)
{
	struct files_struct *files = FOLLOW(hl_task(), files);
	struct fdtable *table = FOLLOW(files, fdt);
	struct file *file = NULL;

	if (table && number < FOLLOW(table, max_fds))
		READ_INTO(file, FOLLOW(table, fd) + number);
	return file;
}

static __always_inline u64 hl_nanoseconds(u64 seconds, u32 nanoseconds)
{
	return seconds * 1000000000ULL + nanoseconds;
}

static __always_inline u32 hl_device(struct inode *inode)
{
	struct super_block *super = READ(inode->i_sb);

	return READ(super->s_dev);
}

/* The number that the caller of getpgid() or getsid() in the initial namespace sees. */
static __always_inline u32 hl_pid_of_type(struct signal_struct *signal, int type)
{
	struct pid *pid = NULL;

	READ_INTO(pid, (struct pid **)((void *)&signal->pids + type * sizeof(pid)));
	return READ(((struct upid *)&pid->numbers)->nr);
}

static __always_inline void hl_fill_namespaces(struct hl_header *header, struct task_struct *leader)
{
	struct nsproxy *nsproxy = FOLLOW(hl_task(), nsproxy);
	struct pid *pid = FOLLOW(leader, thread_pid);
	u32 level = FOLLOW(pid, level);
	struct upid *upid = (struct upid *)&pid->numbers + (level & 31);
	struct pid_namespace *pid_ns = READ(upid->ns);
	struct mnt_namespace *mnt_ns = FOLLOW(nsproxy, mnt_ns);
	struct uts_namespace *uts_ns = FOLLOW(nsproxy, uts_ns);

	header->ns_pid = READ(upid->nr);
	header->pid_ns = READ(pid_ns->ns_inum);
	header->mnt_ns = FOLLOW(mnt_ns, ns_inum);
	bpf_probe_read_kernel(header->nodename, sizeof(header->nodename), &uts_ns->name_nodename);
}

/* `get` is FOLLOW or READ_OF, as the inode was come by. */
#define hl_fill_file(id, inode, get) ({								\
	struct super_block *__super = get(inode, i_sb);						\
												\
	(id)->inode = get(inode, i_ino);							\
	(id)->ctime = hl_nanoseconds(get(inode, i_ctime_sec),					\
				     get(inode, i_ctime_nsec) & ~HL_CTIME_QUERIED);		\
	(id)->mtime = hl_nanoseconds(get(inode, i_mtime_sec), get(inode, i_mtime_nsec));	\
	(id)->size = get(inode, i_size);							\
	(id)->device = get(__super, s_dev);							\
})

static __always_inline void hl_fill_executable(struct hl_file_id *id, struct task_struct *task)
{
	struct mm_struct *mm = FOLLOW(task, mm);
	struct file *file = FOLLOW(mm, exe_file);
	struct inode *inode;

	if (!file) {
		__builtin_memset(id, 0, sizeof(*id));
		return;
	}
	inode = FOLLOW(file, f_inode);
	hl_fill_file(id, inode, FOLLOW);
}

/* The v2 cgroup; where that is the root, as with cgroups of version 1, the one of the pids controller, marked. */
static __always_inline u64 hl_cgroup(struct task_struct *task)
{
	u64 id = bpf_get_current_cgroup_id();

#if defined(HL_pids_cgrp_id) && defined(HAVE_task_struct_cgroups)
	if (id == HL_CGROUP_ROOT) {
		struct css_set *set = FOLLOW(task, cgroups);

		if (set) {
			struct cgroup_subsys_state *state = FOLLOW(set, subsys[HL_pids_cgrp_id]);
			struct cgroup *cgroup = FOLLOW(state, cgroup);
			struct kernfs_node *node = FOLLOW(cgroup, kn);
			u64 of_pids = FOLLOW(node, id);

			if (of_pids > HL_CGROUP_ROOT)
				id = of_pids | HL_CGROUP_V1;
		}
	}
#endif
	return id;
}

static __always_inline void hl_fill_process(struct hl_header *header, struct task_struct *task)
{
	struct task_struct *leader = FOLLOW(task, group_leader);
	struct task_struct *parent = FOLLOW(leader, real_parent);
	struct signal_struct *signal = FOLLOW(task, signal);
	struct tty_struct *tty = FOLLOW(signal, tty);
	u64 pid_tgid = bpf_get_current_pid_tgid();

	header->pid = pid_tgid;
	header->tgid = pid_tgid >> 32;
	header->pgid = hl_pid_of_type(signal, HL_PIDTYPE_PGID);
	header->sid = hl_pid_of_type(signal, HL_PIDTYPE_SID);
	header->start_time = FOLLOW(leader, start_boottime);
	header->parent_start_time = 0;
	if (parent) {
		struct task_struct *parent_leader = FOLLOW(parent, group_leader);

		header->parent_start_time = FOLLOW(parent_leader, start_boottime);
	}
	header->cgroup = hl_cgroup(task);
	header->sessionid = -1;
	header->login_uid = -1;
#ifdef HAVE_task_struct_sessionid
	header->sessionid = FOLLOW(task, sessionid);
	header->login_uid = FOLLOW(task, loginuid);
#endif
	bpf_get_current_comm(header->comm, sizeof(header->comm));
	__builtin_memset(header->tty, 0, sizeof(header->tty));
	if (tty)
		bpf_probe_read_kernel_str(header->tty, sizeof(header->tty), &tty->name);
	hl_fill_namespaces(header, leader);
}

static __always_inline bool hl_excludes(struct hl_settings *settings, struct hl_file_id *exe, u32 what)
{
	u32 *excluded;

	if (!settings->exclude_exe)
		return false;
	excluded = hl_excluded_exe.lookup(exe);
	return excluded && (*excluded & what);
}

static __always_inline bool hl_excluded(struct hl_settings *settings, struct hl_header *header)
{
	/* The collector, its child that loads this, and the compilers of that. */
	if (settings->own_tgid && (header->tgid == settings->own_tgid || header->ppid == settings->own_tgid ||
				   (settings->loader_tgid && header->ppid == settings->loader_tgid)))
		return true;
	if (settings->exclude_uid && hl_excluded_uid.lookup(&header->uid))
		return true;
	return hl_excludes(settings, &header->exe_file, HL_EXCLUDE_EVERYTHING);
}

static __always_inline void hl_count_filtered(u32 slot)
{
	struct hl_counters *counters = hl_counters.lookup(&slot);

	if (counters)
		__sync_fetch_and_add(&counters->filtered, 1);
}

static __always_inline struct hl_settings *hl_get_settings(void)
{
	u32 zero = 0;

	return hl_settings.lookup(&zero);
}

/* Whether programs of this lane are never preempted by others of it. */
static __always_inline bool hl_lane_is_of_cpu(const u32 lane)
{
#ifdef HL_PREEMPTIBLE
	return false;
#else
	return lane != HL_LANE_PREEMPTIBLE;
#endif
}

static __always_inline struct hl_record *hl_cpu_record(const u32 lane)
{
	u32 cpu = bpf_get_smp_processor_id();

	return lane == HL_LANE_SOFTIRQ ? hl_softirq_records.lookup(&cpu) : hl_records.lookup(&cpu);
}

/* The place of the pool to look at; tasks that start on different CPUs rarely meet. */
static __always_inline u32 hl_pool_index(u32 step)
{
	return (bpf_get_smp_processor_id() + step) % HL_POOL;
}

/* Counts an event of `slot` that found no free record: numbered, and dropped. */
static __always_inline void hl_count_unplaced(u32 slot)
{
	u32 index = slot * HL_STREAMS + HL_POOL;
	struct hl_counters *counters = hl_lane_counters.lookup(&index);

	if (!counters)
		return;
	__sync_fetch_and_add(&counters->emitted, 1);
	__sync_fetch_and_add(&counters->dropped, 1);
}

/* Gives the record back. Every way after hl_take_in() or hl_begin_in() ends here or in hl_submit(). */
static __always_inline void hl_discard(struct hl_record *record)
{
	u32 index = record->lane - 1;

	if (record->lane)
		hl_pool_owners.delete(&index);
}

/*
 * A free record, for an event of `slot`: for what an entry program passes to
 * its tail program, or for hl_fill(). NULL where none is free.
 */
static __always_inline struct hl_record *hl_take_in(const u32 lane, u32 slot)
{
	u64 owner = bpf_get_current_pid_tgid();
	struct hl_record *record;

	if (hl_lane_is_of_cpu(lane))
		return hl_cpu_record(lane);
#pragma clang loop unroll(disable)
	for (u32 step = 0; step < HL_POOL; step++) {
		u32 index = hl_pool_index(step);

		if (hl_pool_owners.insert(&index, &owner))
			continue;
		record = hl_pool.lookup(&index);
		if (record)
			record->lane = index + 1;
		return record;
	}
	hl_count_unplaced(slot);
	return NULL;
}

static __always_inline struct hl_record *hl_take(u32 slot)
{
	return hl_take_in(HL_LANE_TASK, slot);
}

/* In a tail program: the record that its caller took in this lane. */
static __always_inline struct hl_record *hl_this_record_in(const u32 lane)
{
	u64 self = bpf_get_current_pid_tgid();

	if (hl_lane_is_of_cpu(lane))
		return hl_cpu_record(lane);
#pragma clang loop unroll(disable)
	for (u32 step = 0; step < HL_POOL; step++) {
		u32 index = hl_pool_index(step);
		u64 *owner = hl_pool_owners.lookup(&index);

		if (owner && *owner == self)
			return hl_pool.lookup(&index);
	}
	return NULL;
}

static __always_inline struct hl_record *hl_this_record(void)
{
	return hl_this_record_in(HL_LANE_TASK);
}

/* What filters look at, of the current process. */
static __always_inline void hl_fill_identity(struct hl_header *header, struct task_struct *task)
{
	struct cred *cred = (struct cred *)FOLLOW(task, cred);
	struct task_struct *parent = FOLLOW(task, real_parent);

	if (cred) {
		header->uid = FOLLOW(cred, uid);
		header->gid = FOLLOW(cred, gid);
		header->euid = FOLLOW(cred, euid);
	}
	header->tgid = bpf_get_current_pid_tgid() >> 32;
	header->ppid = parent ? FOLLOW(parent, tgid) : 0;
	hl_fill_executable(&header->exe_file, task);
}

/* Gives back a record that the configuration excludes, and says so. */
static __always_inline bool hl_leave_out(struct hl_record *record, u32 slot)
{
	struct hl_settings *settings = hl_get_settings();

	if (settings && !settings->stopped && !hl_excluded(settings, &record->header))
		return false;
	if (settings && !settings->stopped)
		hl_count_filtered(slot);
	hl_discard(record);
	return true;
}

/* The rest of the header, and a body of zeros. */
static __always_inline void hl_start(struct hl_record *record, u32 kind, u32 slot, const u32 size)
{
	__builtin_memset(record->bytes + sizeof(struct hl_header), 0, size - sizeof(struct hl_header));
	record->header.length = size;
	record->header.kind = kind;
	record->header.flags = 0;
	record->header.cpu = record->lane ? HL_CPUS + record->lane - 1 : bpf_get_smp_processor_id();
	record->header.time_ns = bpf_ktime_get_boot_ns();
	record->slot = slot;
	record->stage = 0;
	record->walking = false;
}

/*
 * Begins an event of `size` fixed bytes for the current process in a record
 * that was taken: its header filled, its body zeroed. False where the
 * configuration excludes it: then the record is given back.
 */
static __always_inline bool hl_fill(struct hl_record *record, u32 kind, u32 slot, const u32 size)
{
	struct task_struct *task = hl_task();

	hl_fill_identity(&record->header, task);
	if (hl_leave_out(record, slot))
		return false;
	hl_fill_process(&record->header, task);
	hl_start(record, kind, slot, size);
	return true;
}

/* As hl_fill() for a process whose header was filled before, where the current one is not the cause. */
static __always_inline bool hl_fill_for(struct hl_record *record, const struct hl_header *owner, u32 kind,
					u32 slot, const u32 size)
{
	bpf_probe_read_kernel(&record->header, sizeof(record->header), owner);
	if (hl_leave_out(record, slot))
		return false;
	hl_start(record, kind, slot, size);
	return true;
}

/* hl_take_in() and hl_fill(); NULL where the configuration excludes the event, or no record is free. */
static __always_inline struct hl_record *hl_begin_in(const u32 lane, u32 kind, u32 slot, const u32 size)
{
	struct hl_record *record = hl_take_in(lane, slot);

	return record && hl_fill(record, kind, slot, size) ? record : NULL;
}

static __always_inline struct hl_record *hl_begin(u32 kind, u32 slot, const u32 size)
{
	return hl_begin_in(HL_LANE_TASK, kind, slot, size);
}

#define hl_body(record, name) ((struct hl_##name *)((record)->bytes + sizeof(struct hl_header)))

/* Numbers the record, before the ring can refuse it, and sends it. */
static __always_inline void hl_number_and_send(struct hl_record *record, struct hl_counters *counters)
{
	struct hl_settings *settings = hl_get_settings();
	u64 length = record->header.length;
	u64 flags = BPF_RB_NO_WAKEUP;

	record->header.sequence = ++counters->emitted;
	HIDE(length);
	if (!settings || length > HL_RECORD_SIZE) {
		counters->dropped++;
		return;
	}
	/* One wakeup for so many bytes; the reader's own timer does the rest. */
	record->silent += length;
	if (record->silent >= settings->wakeup_bytes) {
		record->silent = 0;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	if (hl_events.ringbuf_output(record, length, flags))
		counters->dropped++;
}

static __always_inline void hl_submit(struct hl_record *record)
{
	u32 index = record->slot;
	struct hl_counters *counters;

	if (record->lane) {
		index = index * HL_STREAMS + record->lane - 1;
		counters = hl_lane_counters.lookup(&index);
	} else {
		counters = hl_counters.lookup(&index);
	}
	if (counters)
		hl_number_and_send(record, counters);
	hl_discard(record);
}

/* Appends `length` bytes of the current process's memory; 0 where they cannot be read. */
static __always_inline u32 hl_append_user(struct hl_record *record, const void *from, u64 length)
{
	u64 at = record->header.length;

	HIDE(length);
	HIDE(at);
	if (length > HL_TAIL_SIZE || at > HL_RECORD_SIZE)
		return 0;
	if (bpf_probe_read_user(record->bytes + at, length, from))
		return 0;
	record->header.length = at + length;
	return length;
}

/*
 * As hl_append_user() for the block from `start` to `end`, of which `limit`
 * bytes are kept; sets `cut` in the record's flags where that is not all.
 */
static __always_inline u32 hl_append_block(struct hl_record *record, u64 start, u64 end, u32 limit,
					   u32 cut)
{
	u64 size = end - start;
	u32 length;

	if (size > limit) {
		size = limit;
		record->header.flags |= cut;
	}
	length = hl_append_user(record, (void *)start, size);
	if (size && !length)
		record->header.flags |= cut;
	return length;
}

static __always_inline u32 hl_append_kernel(struct hl_record *record, const void *from, u64 length)
{
	u64 at = record->header.length;

	HIDE(length);
	HIDE(at);
	if (length > HL_TAIL_SIZE || at > HL_RECORD_SIZE)
		return 0;
	if (bpf_probe_read_kernel(record->bytes + at, length, from))
		return 0;
	record->header.length = at + length;
	return length;
}

/*
 * As bpf_probe_read_user_str(): the length with the NUL, negative where nothing can be read. Older kernels, 5.10 and 6.1
 * among them, give 0 for an empty string, though they write its NUL.
 */
static __always_inline s64 hl_read_user_str(void *to, const u32 size, const void *from)
{
	s64 length = bpf_probe_read_user_str(to, size, from);

	return length ? length : 1;
}

/*
 * Appends a string of at most `limit` bytes with its NUL; `read` is
 * hl_read_user_str() or bpf_probe_read_kernel_str(). Gives the length with the
 * NUL, or 0.
 */
#define hl_append_string(record, from, limit, read) ({			\
	u64 __at = (record)->header.length;				\
	s64 __length = 0;						\
									\
	HIDE(__at);							\
	if (__at <= HL_RECORD_SIZE)					\
		__length = read((record)->bytes + __at, (limit), (from)); \
	if (__length < 0 || __length > (limit))				\
		__length = 0;						\
	(record)->header.length = __at + (u32)__length;			\
	(u32)__length;							\
})

/* Takes back the last byte: the NUL of a string that ends its tail. */
static __always_inline u32 hl_chop(struct hl_record *record, u32 length)
{
	if (!length)
		return 0;
	record->header.length--;
	return length - 1;
}

static __always_inline void hl_walk_mount(struct hl_record *record, struct mount *mount)
{
	record->mount = mount;
	record->root = READ(mount->mnt.mnt_root);
}

static __always_inline void hl_walk_from(struct hl_record *record, struct path *path)
{
	struct vfsmount *mnt = READ(path->mnt);

	record->dentry = READ(path->dentry);
	hl_walk_mount(record, (struct mount *)((void *)mnt - offsetof(struct mount, mnt)));
	record->position = HL_PATH_SIZE;
	record->walking = true;
}

/* Puts one name before what stands in record->path; false where it does not fit. */
static __always_inline bool hl_prepend(struct hl_record *record, const u8 *name, u32 length, bool slash)
{
	u32 position = record->position;

	length &= 0xff;
	if (position <= length)
		return false;
	position -= length;
	HIDE(position);
	position &= 2 * HL_PATH_SIZE - 1;
	if (position > HL_PATH_SIZE)
		return false;
	bpf_probe_read_kernel(record->path + position, length, name);
	if (slash) {
		position--;
		HIDE(position);
		position &= HL_PATH_SIZE - 1;
		record->path[position] = '/';
	}
	record->position = position;
	return true;
}

/* What a walk needs of a dentry: its parent, and its name with the hash before the length (struct qstr). */
struct hl_step {
	struct dentry *parent;
	u32 hash;
	u32 length;
	const u8 *name;
};

static __always_inline void hl_read_step(struct hl_step *step, struct dentry *dentry)
{
#ifndef HL_KFUNC_RDONLY_CAST
	if (offsetof(struct dentry, d_name.name) - offsetof(struct dentry, d_parent) == offsetof(struct hl_step, name) &&
	    offsetof(struct dentry, d_name.len) - offsetof(struct dentry, d_parent) == offsetof(struct hl_step, length)) {
		bpf_probe_read_kernel(step, sizeof(*step), &dentry->d_parent);
		return;
	}
#endif
	step->parent = READ(dentry->d_parent);
	step->length = READ(dentry->d_name.len);
	step->name = READ(dentry->d_name.name);
}

enum hl_walk { HL_WALK_MORE, HL_WALK_DONE, HL_WALK_CUT };

/*
 * Goes up to HL_PATH_STEPS components towards the root, crossing mounts as
 * d_path() does, and beyond a chroot to the root of the mount namespace.
 */
static __always_inline enum hl_walk hl_walk(struct hl_record *record)
{
#pragma clang loop unroll(disable)
	for (int step = 0; step < HL_PATH_STEPS; step++) {
		struct dentry *dentry = record->dentry;
		struct hl_step up;

		if (!dentry)
			return HL_WALK_CUT;
		/* A bind mount's root lies deep in its file system: the mount tells, not the dentry. */
		if (dentry == record->root) {
			struct mount *mount = record->mount;
			struct mount *parent = READ(mount->mnt_parent);

			if (parent == mount || !parent)
				return HL_WALK_DONE;
			record->dentry = READ(mount->mnt_mountpoint);
			hl_walk_mount(record, parent);
			continue;
		}
		hl_read_step(&up, dentry);
		/* Moved out of the mount, or of no mount at all. */
		if (up.parent == dentry)
			return HL_WALK_DONE;
		if (!hl_prepend(record, up.name, up.length, true))
			return HL_WALK_CUT;
		record->dentry = up.parent;
	}
	return HL_WALK_MORE;
}

/* Appends the walked path; gives its length. */
static __always_inline u32 hl_append_path(struct hl_record *record, enum hl_walk how)
{
	struct hl_step last;
	u64 position;

	/* A root is "/"; a file of no mounted tree (memfd, pipe) has a name but no path. */
	if (how == HL_WALK_DONE && record->position == HL_PATH_SIZE) {
		hl_read_step(&last, record->dentry);
		hl_prepend(record, last.name, last.length, false);
	}
	position = record->position;
	HIDE(position);
	if (position > HL_PATH_SIZE)
		return 0;
	return hl_append_kernel(record, record->path + position, HL_PATH_SIZE - position);
}
