# SPDX-License-Identifier: GPL-2.0-or-later
"""The BTF reader, on a small kernel written by the tests and on the one that runs them."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probes.errors import BtfError, FeatureMissing
from probes.kernel.btf import VMLINUX, Btf
from probes.kernel.btf_index import Kind
from probes.kernel.headers import declare_structs
from tests.unit.kernel.btf_writer import HEADER_SIZE, BtfWriter, small_kernel

KERNEL = small_kernel().bytes()
needs_btf = pytest.mark.skipif(not VMLINUX.is_file(), reason=f"this kernel has no {VMLINUX}")


@pytest.fixture
def btf() -> Btf:
    return Btf(KERNEL)


def test_struct_has_size_and_byte_offsets(btf: Btf) -> None:
    """A structure is found by its tag, with its size and its members' offsets in bytes."""
    found = btf.struct("task_struct")
    assert found is not None
    assert found.size == 80
    offsets = {name: member.offset for name, member in found.members.items()}
    assert offsets.pop("in_execve") == 40
    assert offsets == {
        "pid": 0, "state": 4, "parent": 8, "comm": 16, "uid": 32, "usage": 36, "files": 48, "table": 56,
    }  # fmt: skip


def test_anonymous_members_are_lifted(btf: Btf) -> None:
    """Members of an anonymous union, and of an anonymous structure in it, count as the outer structure's."""
    found = btf.struct("file")
    assert found is not None
    assert [found.members[name].offset for name in ("pair", "low", "high")] == [24, 24, 28]


def test_struct_behind_typedef(btf: Btf) -> None:
    """A typedef of an anonymous structure is found by the typedef's name."""
    found = btf.struct("kuid_t")
    assert found is not None
    assert list(found.members) == ["val"]


@pytest.mark.parametrize("name", ["absent", "", "uid_t", "level", "pid", "btf_trace_exit"])
def test_what_is_no_struct_is_none(btf: Btf, name: str) -> None:
    """An unknown name, an enum, a member's name or a typedef of something else is not a structure."""
    assert btf.struct(name) is None


def test_member_path_adds_offsets_up(btf: Btf) -> None:
    """A dotted path descends into embedded structures and gives the offset from the outermost one."""
    member = btf.member("file.f_path.dentry")
    assert member is not None
    assert member.offset == 16


@pytest.mark.parametrize("path", ["file.absent", "absent.f_path", "file.f_path.absent", "file.f_mode.x", "file"])
def test_absent_member(btf: Btf, path: str) -> None:
    """A path that breaks off anywhere, or names no member, is not a member."""
    assert not btf.has_member(path)


def test_bitfield_is_reported(btf: Btf) -> None:
    """A bit-field tells its offset and size in bits, and only bit-fields call themselves so."""
    members = btf.struct("task_struct").members  # type: ignore[union-attr]
    assert [name for name, member in members.items() if member.is_bitfield] == ["in_execve"]
    assert members["in_execve"][2:] == (320, 1)


def test_tracepoint_arguments(btf: Btf) -> None:
    """A raw tracepoint's arguments are spelled as in C, typedefs and qualifiers kept, the first left out."""
    assert btf.tracepoint("exit") == ("struct task_struct *", "bool")
    assert btf.tracepoint("paths") == ("struct dentry **", "const char *")
    assert btf.tracepoint("absent") is None
    assert btf.tracepoints() == {"exit", "paths"}


def test_tracepoint_that_is_no_function() -> None:
    """A ``btf_trace_`` typedef of anything but a function pointer is a damaged file, not a tracepoint."""
    writer = BtfWriter()
    writer.to(Kind.TYPEDEF, writer.integer("int", 4), "btf_trace_odd")
    with pytest.raises(BtfError, match="btf_trace_odd"):
        Btf(writer.bytes()).tracepoint("odd")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IORING_OP_NOP", 0),
        ("IORING_OP_OPENAT", 18),
        ("LEVEL_NONE", -1),
        ("MASK_HIGH", 1 << 40),
        ("MASK_ALL", -1),
    ],
)
def test_enumerator(btf: Btf, name: str, value: int) -> None:
    """Enumerators of anonymous, signed and 64-bit enums are found by name alone."""
    assert btf.enumerator(name) == value


@pytest.mark.parametrize("name", ["absent", "", "task_struct", "pid"])
def test_what_is_no_enumerator_is_none(btf: Btf, name: str) -> None:
    """A name that is unknown, empty or of something else has no value."""
    assert btf.enumerator(name) is None


def test_enum(btf: Btf) -> None:
    """An enum is found by its tag with all values; other tags and unknown names are no enums."""
    assert btf.enum("level") == {"LEVEL_NONE": -1, "LEVEL_SOME": 5}
    assert btf.enum("task_struct") is None
    assert btf.enum("absent") is None


def test_first_definition_of_a_name_wins() -> None:
    """Of two structures with one name, which real kernels have, the first is used, as libbpf does."""
    writer = BtfWriter()
    for size in (4, 8):
        writer.struct("twice", size, [])
    found = Btf(writer.bytes()).struct("twice")
    assert found is not None
    assert found.size == 4


def test_unknown_kind_is_skipped_where_its_length_is_told() -> None:
    """A kind from a later kernel does not hide the types after it if the layout section has its length."""
    writer = BtfWriter()
    writer.raw(len(Kind), "new", 0, rest=[1, 2, 3, 4, 5], entries=2)
    writer.struct("after", 4, [])
    layout = bytes(4 * len(Kind)) + struct.pack("<BBH", 4, 8, 0)
    found = Btf(writer.bytes(layout)).struct("after")
    assert found is not None
    assert found.size == 4
    with pytest.raises(BtfError, match="newer Hookline"):
        Btf(writer.bytes())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "shorter than its header"),
        (b"\x7fELF" + KERNEL[4:], "not a little-endian BTF"),
        (KERNEL[:2] + b"\x02" + KERNEL[3:], "version 2"),
        (KERNEL[:-1], "truncated"),
        (KERNEL[: HEADER_SIZE + 8], "truncated"),
        (KERNEL[:-1] + b"x", "zero byte"),
        (KERNEL[:12] + struct.pack("<I", 6) + KERNEL[16:], "odd size"),
        (KERNEL[:12] + struct.pack("<I", 12) + KERNEL[16:], "does not end"),
    ],
)
def test_damaged_file_is_one_clear_error(data: bytes, message: str) -> None:
    """Each way to damage the outer form of the file ends in a ``BtfError`` that names it."""
    with pytest.raises(BtfError, match=message):
        Btf(data)


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that is not there is a ``BtfError`` with its path and the kernel option that provides it."""
    with pytest.raises(BtfError, match=r"absent.*CONFIG_DEBUG_INFO_BTF"):
        Btf.read(tmp_path / "absent")


def test_endless_chains_end() -> None:
    """Types that lead back to themselves raise ``BtfError`` in every question that follows them."""
    writer = BtfWriter()
    loop = writer.to(Kind.TYPEDEF, writer.next_id, "loop")
    array = writer.array(writer.next_id, 2, loop)
    pointer = writer.to(Kind.PTR, writer.next_id)
    nest = writer.next_id
    writer.struct("nest", 8, [("", nest, 0), ("", nest, 0)])
    btf = Btf(writer.bytes())
    for question in (
        lambda: btf.struct("loop"),
        lambda: btf.resolve(array),
        lambda: btf.spell(pointer),
        lambda: btf.struct("nest"),
    ):
        with pytest.raises(BtfError, match="damaged"):
            question()


def _ask_everything(data: bytes) -> None:
    btf = Btf(data)
    for name in ("task_struct", "file", "path", "kuid_t", "raw_lock", "blob"):
        btf.struct(name)
    btf.has_member("file.f_path.dentry")
    for name in sorted({"exit", "paths", *btf.tracepoints()}):
        btf.tracepoint(name)
    for name in ("IORING_OP_OPENAT", "LEVEL_NONE", "MASK_ALL"):
        btf.enumerator(name)
    btf.enum("mask")
    wanted = {
        "task_struct": ["pid", "parent", "comm?", "uid", "files", "table"],
        "file": ["f_path", "f_paths", "pair"],
    }
    declare_structs(btf, {**wanted, "path": ["mnt", "dentry?"]})


def test_undamaged_file_answers_everything() -> None:
    """The questions of the mutation test succeed on the file before it is mutated."""
    _ask_everything(KERNEL)


@given(
    words=st.lists(
        st.tuples(
            st.integers(0, len(KERNEL) // 4 - 1),
            st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 80), st.integers(0, 31).map(lambda bit: 1 << bit)),
        ),
        max_size=4,
    ),
    cut=st.one_of(st.just(len(KERNEL)), st.integers(0, len(KERNEL))),
)
@example(words=[(0, 0)], cut=0)
@settings(deadline=None, max_examples=400)
def test_mutated_file_is_an_answer_or_a_btf_error(words: list[tuple[int, int]], cut: int) -> None:
    """Whatever is overwritten and wherever the file is cut, questions end: in an answer or our own error."""
    data = bytearray(KERNEL)
    for at, word in words:
        struct.pack_into("<I", data, at * 4, word)
    with suppress(BtfError, FeatureMissing):
        _ask_everything(bytes(data[:cut]))


@needs_btf
def test_running_kernel() -> None:
    """The running kernel's own BTF gives what its sources say of an old tracepoint and an old structure."""
    btf = Btf.read()
    arguments = btf.tracepoint("sched_process_exec")
    assert arguments == ("struct task_struct *", "pid_t", "struct linux_binprm *")
    assert btf.has_member("task_struct.real_parent")
    assert btf.enumerator("BPF_MAP_TYPE_RINGBUF") == 27
