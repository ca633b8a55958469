# SPDX-License-Identifier: GPL-2.0-or-later
"""How an event is declared: once, as a class.

A subclass of `ProcessEvent` names its fields with their kernel types, a
sentence, and their names in both output schemas. From that one class come the
C struct that the probe fills (`probes.layout`, `probes.c_header`), the decoder
(`probes.decoder`), the encoders (`pipeline.encode`), and the reference table in
the documentation.

A field whose annotation holds a wire type (`u32`, `Chars`, `Ip`, `Tail`, ...)
comes from the kernel, as the kernel sent it: names of the host are bytes and
become text only where they leave (`probes.text`). Any other field is filled
later, by an enrichment, and has a default. Scalars stand before tails, tails
before variables.

An event keeps its record in few pieces, and a field is read from its piece
when somebody asks. Most of a record comes again and again with the same bytes
(the session, the namespaces, the paths of a program that runs often), so that
whatever was made of a piece can be remembered. Fields that are marked `Own`,
because they differ from event to event, are kept apart from those pieces.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

from probes.fields import (
    Block,
    BootTime,
    Chars,
    Derived,
    HashedFile,
    Names,
    Opaque,
    Own,
    Part,
    Scalar,
    Tail,
    Unique,
    Variable,
    Wire,
    s32,
    u32,
    u64,
)
from probes.slots import plain_assignment
from probes.text import cstring_text, to_text

CGROUP_V1 = 1 << 62
"""In the id of a cgroup: it is not of cgroup v2, but of the pids controller's hierarchy of version 1."""

UNKNOWN = "-1"
"""What an enrichment's text is until it is known, and what the smith schema says of it."""


class HostEvent(msgspec.Struct, gc=False):
    """What every event carries, whoever made it."""

    data_type: ClassVar[int]
    """Number of the kind, as in AgentSmith-HIDS; Hookline's own are in the 800s and 900s."""

    event_name: ClassVar[str]
    dataset: ClassVar[str]
    """ECS ``event.dataset`` without the product: process, network, file, agent."""

    category: ClassVar[str]
    """ECS ``event.category``."""

    action_type: ClassVar[str]
    """ECS ``event.type``."""

    derived: ClassVar[tuple[Derived, ...]] = ()

    renamed: ClassVar[Mapping[str, str]] = {}
    """Other smith names of fields that all events have, where the usual one means something else in this kind."""

    flags: Annotated[int, Scalar("u32", "I"), Names("Bits behind the event's flag fields.")]
    cpu: Annotated[
        int,
        Scalar("u32", "I"),
        Names(
            "CPU of the event, or the stream in which it was numbered: programs that the kernel may preempt have "
            "streams of their own, numbered from the count of possible CPUs on.",
            None,
            "hookline.cpu",
            "long",
        ),
    ]
    sequence: Annotated[
        int,
        Scalar("u64", "Q"),
        Names("Number among this kind's events on this CPU, from 1.", None, "event.sequence", "long"),
    ]
    time_ns: Annotated[
        int,
        Scalar("u64", "Q"),
        BootTime(),
        Names("Time of the event, ns since boot (CLOCK_BOOTTIME)."),
    ]

    @property
    def kind(self) -> int:
        return self.data_type

    def name(self) -> str:
        return self.event_name

    def summary(self) -> str:
        """One line for people, free of control characters."""
        raise NotImplementedError


def _is_held(hint: object) -> bool:
    """Whether instances have this field by themselves, rather than in a piece of the record."""
    marks = getattr(hint, "__metadata__", ())
    of_record = any(isinstance(mark, Wire | Tail | Variable | Part) for mark in marks)
    return any(isinstance(mark, Own | Block) for mark in marks) or (bool(marks) and not of_record)


class _Pieces(msgspec.StructMeta):
    """Makes instances hold their own fields and the pieces; `probes.decoder` makes the other fields readable."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> _Pieces:
        declared = namespace.get("__annotations__", {})
        scope = {"__annotations__": declared, "__module__": namespace["__module__"]}
        hints = typing.get_type_hints(type(name, (), scope), include_extras=True)
        held = {key: hint for key, hint in hints.items() if _is_held(hint)}
        if namespace.get("environment_limit"):
            held = {"environment": bytes, **held}
        cls = super().__new__(mcls, name, bases, {**namespace, "__annotations__": held}, **options)
        cls.__annotations__ = declared
        return plain_assignment(cls)


class Enriched(HostEvent, metaclass=_Pieces, gc=False, kw_only=True):
    """What enrichments add to a process event; everything has a default."""

    exe: Annotated[bytes, Names("Path of the executable in its mount namespace.", "exe", "process.executable")] = b""
    exe_md5: Annotated[str, Names("MD5 of the executable.", "exe_md5", "process.hash.md5")] = UNKNOWN
    exe_sha256: Annotated[
        str, Names("SHA-256 of the executable, with `enrich.hashes.sha256`.", "exe_sha256", "process.hash.sha256")
    ] = UNKNOWN
    exe_hash_status: Annotated[
        str,
        Names(
            "Why `exe_md5` can be trusted or is missing: verified, changed, too_big, rate_limited, gone, denied, "
            "not_regular, timeout.",
            "exe_hash_status",
            "hookline.process.hash_status",
        ),
    ] = UNKNOWN
    user: Annotated[str, Names("Name of the real user id on this host; none in a container.", "user", "user.name")] = (
        UNKNOWN
    )
    pid_tree: Annotated[
        str,
        Unique(),
        Names("The process and its ancestors: 1(systemd)->...->pid(comm).", "pid_tree", "hookline.process.tree"),
    ] = UNKNOWN

    parent: Annotated[str, Block()] = ""
    """The parts `parent_name` and `parent_exe`."""

    parent_name: Annotated[
        str, Part("parent"), Names("Name of the parent, as `pid_tree` has it.", None, "process.parent.name")
    ]
    parent_exe: Annotated[
        str,
        Part("parent"),
        Names("Path of the parent's executable in its mount namespace.", None, "process.parent.executable"),
    ]

    container: Annotated[str, Block()] = ""
    """The parts from `container_id` on; empty: in no container."""

    container_id: Annotated[
        str, Part("container"), Names("Id of the container: 64 hexadecimal digits.", "container_id", "container.id")
    ]
    container_name: Annotated[
        str, Part("container"), Names("Name of the container.", "container_name", "container.name")
    ]
    container_image: Annotated[
        str,
        Part("container"),
        Names("Image of the container, as it was asked for.", "container_image", "container.image.name"),
    ]
    container_runtime: Annotated[
        str,
        Part("container"),
        Names("Whose files tell it: docker, containerd, podman, cri-o.", "container_runtime", "container.runtime"),
    ]
    pod_name: Annotated[
        str, Part("container"), Names("Name of the Kubernetes pod.", "pod_name", "orchestrator.resource.name")
    ]
    pod_namespace: Annotated[
        str, Part("container"), Names("Namespace of the pod.", "pod_namespace", "orchestrator.namespace")
    ]
    pod_type: Annotated[str, Part("container"), Names("`pod`, of a pod.", None, "orchestrator.resource.type")]
    orchestrator: Annotated[str, Part("container"), Names("`kubernetes`, of a pod.", None, "orchestrator.type")]
    container_status: Annotated[
        str,
        Part("container"),
        Names(
            "verified: root made the cgroup, and the runtime's file is root's; user: both are one other user's, who "
            "can claim anything; unverified: the cgroup is root's, but no runtime's file was found.",
            "container_status",
            "hookline.container.status",
        ),
    ]


class ProcessEvent(Enriched, gc=False):
    """An event with the process that caused it, as the kernel saw it at that moment.

    The wire fields up to here are ``struct hl_header``; those of a subclass
    are its body.
    """

    hashed_file: ClassVar[HashedFile | None] = None
    """A file beside the executable."""

    environment_limit: ClassVar[int] = 0
    """Bytes at the end of the record for the environment strings of the `Variable` fields."""

    subject: ClassVar[str] = "process"
    """Under which ECS prefix the causing process stands."""

    pid: Annotated[u32, Own(), Names("Thread id.", "pid", "process.thread.id", "long")]
    tgid: Annotated[u32, Own(), Names("Process id (thread group).", "tgid", "process.pid", "long")]
    start_time: Annotated[u64, Own(), BootTime(), Names("Start, ns since boot.", None, "process.start", "date")]
    ns_pid: Annotated[u32, Own(), Names("Process id in its own pid namespace.", None, "process.vpid", "long")]

    origin: Annotated[bytes, Block()]
    """The fields from `ppid` to `nodename`."""

    ppid: Annotated[u32, Names("Process id of the parent.", "ppid", "process.parent.pid", "long")]
    pgid: Annotated[u32, Names("Process group id.", "pgid", "process.group_leader.pid", "long")]
    sid: Annotated[u32, Names("Session id, of setsid(2).", "sid", "process.session_leader.pid", "long")]
    uid: Annotated[u32, Names("Real user id.", "uid", "user.id")]
    gid: Annotated[u32, Names("Real group id.", None, "group.id")]
    euid: Annotated[u32, Names("Effective user id.", None, "user.effective.id")]
    sessionid: Annotated[s32, Names("Audit session, -1: none.", "sessionid", "hookline.audit.session", "long")]
    login_uid: Annotated[s32, Names("Audit login uid, -1: none.", None, "hookline.audit.login_uid", "long")]
    pid_ns: Annotated[u32, Names("Inode of the pid namespace.", None, "hookline.namespace.pid", "long")]
    mnt_ns: Annotated[u32, Names("Inode of the mount namespace.", None, "hookline.namespace.mnt", "long")]
    parent_start_time: Annotated[
        u64, BootTime(), Names("Start of the parent, ns since boot.", None, "process.parent.start", "date")
    ]
    cgroup: Annotated[
        u64,
        Names("Id of the v2 cgroup; of one of version 1 (pids), with 2^62 added.", None, "hookline.cgroup.id", "long"),
    ]
    tty: Annotated[bytes, Chars(16), Names("Controlling terminal.", "tty_name", "hookline.tty.name")]
    nodename: Annotated[
        bytes,
        Chars(64),
        Names("UTS node name: of the host, container or pod.", "nodename", "hookline.nodename"),
    ]

    exe_file: Annotated[
        bytes, Opaque("hl_file_id", 40), Own(), Names("Identity of the executable: see `FileId`; zeros: none.")
    ]
    comm: Annotated[bytes, Chars(16), Own(), Names("Name of the thread.", "comm", "process.name")]

    body: Annotated[bytes, Block()]
    """The fields of the subclass that are not its `Own`."""

    def program(self) -> str:
        """What runs, for people: the path of the executable, or where that is unknown ``[comm]``."""
        return to_text(self.exe) or f"[{cstring_text(self.comm)}]"
