# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of bpf(2): programs and maps that others make and use."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Chars, Names, Tail, s32, u32
from probes.probe import Form, Hook, Probe
from probes.text import cstring_text, error_text, printable


def _numbered(names: str) -> dict[int, str]:
    """The names of an enumeration from 0; a kernel keeps what it once had."""
    return dict(enumerate(names.split()))


_COMMANDS = _numbered(
    "BPF_MAP_CREATE BPF_MAP_LOOKUP_ELEM BPF_MAP_UPDATE_ELEM BPF_MAP_DELETE_ELEM BPF_MAP_GET_NEXT_KEY BPF_PROG_LOAD "
    "BPF_OBJ_PIN BPF_OBJ_GET BPF_PROG_ATTACH BPF_PROG_DETACH BPF_PROG_TEST_RUN BPF_PROG_GET_NEXT_ID "
    "BPF_MAP_GET_NEXT_ID BPF_PROG_GET_FD_BY_ID BPF_MAP_GET_FD_BY_ID BPF_OBJ_GET_INFO_BY_FD BPF_PROG_QUERY "
    "BPF_RAW_TRACEPOINT_OPEN BPF_BTF_LOAD BPF_BTF_GET_FD_BY_ID BPF_TASK_FD_QUERY BPF_MAP_LOOKUP_AND_DELETE_ELEM "
    "BPF_MAP_FREEZE BPF_BTF_GET_NEXT_ID BPF_MAP_LOOKUP_BATCH BPF_MAP_LOOKUP_AND_DELETE_BATCH BPF_MAP_UPDATE_BATCH "
    "BPF_MAP_DELETE_BATCH BPF_LINK_CREATE BPF_LINK_UPDATE BPF_LINK_GET_FD_BY_ID BPF_LINK_GET_NEXT_ID "
    "BPF_ENABLE_STATS BPF_ITER_CREATE BPF_LINK_DETACH BPF_PROG_BIND_MAP BPF_TOKEN_CREATE BPF_PROG_STREAM_READ_BY_FD"
)
"""enum bpf_cmd of linux/bpf.h."""

_MAPS = {-1: ""} | _numbered(
    "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace cgroup_array lru_hash "
    "lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap cpumap xskmap sockhash cgroup_storage "
    "reuseport_sockarray percpu_cgroup_storage queue stack sk_storage devmap_hash struct_ops ringbuf inode_storage "
    "task_storage bloom_filter user_ringbuf cgrp_storage arena"
)
"""enum bpf_map_type."""

_PROGRAMS = {-1: ""} | _numbered(
    "unspec socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in "
    "lwt_out lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local "
    "lirc_mode2 sk_reuseport flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing "
    "struct_ops ext lsm sk_lookup syscall netfilter"
)
"""enum bpf_prog_type."""


def _ancestor(whose: str, what: str) -> Names:
    field = what.replace(" ", "_")
    meaning = {
        "thread id": "Thread id of {}.",
        "pid": "Process id of {}.",
        "ns thread id": "Thread id of {} in its pid namespace.",
        "ns pid": "Process id of {} in its pid namespace.",
    }[what]
    of = {"parent": "the thread that made the process", "grandparent": "the parent's own"}[whose]
    return Names(meaning.format(of), f"{whose}_{field}", f"hookline.{whose}.{field}", "long")


class Bpf(ProcessEvent, gc=False):
    """A process called bpf(2); the collector's own calls are not told."""

    data_type = 806
    event_name = "bpf"
    dataset = "process"
    category = "driver"
    action_type = "info"

    result: Annotated[
        s32,
        Names("A descriptor or 0; the negative errno of a failure.", "res", "hookline.result", "long"),
    ]
    cmd: Annotated[
        u32,
        Names("Command.", "cmd", "hookline.bpf.command", "keyword", _COMMANDS, "cmd_name"),
    ]
    map_type: Annotated[
        s32,
        Names("Type of the map; -1: none.", "map_type", "hookline.bpf.map_type", "keyword", _MAPS, "map_type_name"),
    ]
    prog_type: Annotated[
        s32,
        Names(
            "Type of the program; -1: none.",
            "prog_type",
            "hookline.bpf.program_type",
            "keyword",
            _PROGRAMS,
            "prog_type_name",
        ),
    ]
    object_id: Annotated[u32, Names("The kernel's id of it; 0: none.", "object_id", "hookline.bpf.id", "long")]
    from_caller: Annotated[
        u32,
        Names(
            "1: type and name are as the caller asked for them, for the call failed.",
            "from_caller",
            "hookline.bpf.from_caller",
            "long",
        ),
    ]
    egid: Annotated[u32, Names("Effective group id.", "egid", "hookline.process.egid")]
    uts_inum: Annotated[u32, Names("Inode of the UTS namespace.", "uts_inum", "hookline.namespace.uts", "long")]
    ns_thread_id: Annotated[
        u32, Names("Thread id in its pid namespace.", "ns_thread_id", "hookline.process.ns_thread_id", "long")
    ]
    parent_thread_id: Annotated[u32, _ancestor("parent", "thread id")]
    parent_ns_thread_id: Annotated[u32, _ancestor("parent", "ns thread id")]
    parent_ns_pid: Annotated[u32, _ancestor("parent", "ns pid")]
    grandparent_thread_id: Annotated[u32, _ancestor("grandparent", "thread id")]
    grandparent_pid: Annotated[u32, _ancestor("grandparent", "pid")]
    grandparent_ns_thread_id: Annotated[u32, _ancestor("grandparent", "ns thread id")]
    grandparent_ns_pid: Annotated[u32, _ancestor("grandparent", "ns pid")]
    object_name: Annotated[
        bytes, Chars(16), Names("Name of the map or program, as the kernel has it.", "object_name", "hookline.bpf.name")
    ]
    parent_comm: Annotated[bytes, Chars(16), Names("Name of the parent.", "parent_comm", "hookline.parent.name")]
    grandparent_comm: Annotated[
        bytes, Chars(16), Names("Name of the parent's parent.", "grandparent_comm", "hookline.grandparent.name")
    ]
    cmdline: Annotated[bytes, Tail(256, "argv"), Names("First arguments of the process.", "cmdline", "process.args")]

    def summary(self) -> str:
        what = _MAPS.get(self.map_type, "map") or _PROGRAMS.get(self.prog_type, "program")
        command = _COMMANDS.get(self.cmd, str(self.cmd))
        name = cstring_text(self.object_name)
        return printable(
            f"{self.user} {self.pid} {self.program()} {command} {what} {name} "
            f"result {error_text(self.result)} {self.pid_tree}"
        )


PROBE = Probe(
    event=Bpf,
    forms=(
        Form(
            "tracepoint",
            hooks=(
                Hook(
                    "bpf_call_returned",
                    "tracepoint",
                    "syscalls:sys_exit_bpf",
                    sees="bpf(2)",
                ),
            ),
            misses=(
                "32-bit system calls; where a command names its map or program by a descriptor, that is looked up as "
                "it returns, and a caller who exchanges it meanwhile is told with the other"
            ),
        ),
    ),
    structs={
        "file": ("private_data",),
        "mm_struct": ("arg_start", "arg_end"),
        "super_block": ("s_magic",),
        "task_struct": ("comm",),
        "cred": ("egid",),
        "uts_namespace": ("ns.inum",),
        "bpf_map": ("map_type", "id", "name"),
        "bpf_prog": ("type", "aux"),
        "bpf_prog_aux": ("id", "name"),
    },
    enumerators=(
        "BPF_MAP_CREATE",
        "BPF_MAP_LOOKUP_ELEM",
        "BPF_MAP_UPDATE_ELEM",
        "BPF_MAP_DELETE_ELEM",
        "BPF_MAP_GET_NEXT_KEY",
        "BPF_PROG_LOAD",
        "BPF_OBJ_PIN",
        "BPF_OBJ_GET",
        "BPF_PROG_ATTACH",
        "BPF_PROG_DETACH",
        "BPF_PROG_TEST_RUN",
        "BPF_PROG_GET_FD_BY_ID",
        "BPF_MAP_GET_FD_BY_ID",
        "BPF_OBJ_GET_INFO_BY_FD",
        "BPF_RAW_TRACEPOINT_OPEN",
        "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
        "BPF_MAP_FREEZE",
        "BPF_MAP_LOOKUP_BATCH",
        "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
        "BPF_MAP_UPDATE_BATCH",
        "BPF_MAP_DELETE_BATCH",
        "BPF_LINK_CREATE",
        "BPF_LINK_UPDATE",
        "BPF_PROG_BIND_MAP",
    ),
)
