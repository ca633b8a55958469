# SPDX-License-Identifier: GPL-2.0-or-later
"""The header tree: what it declares of a small kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.errors import FeatureMissing
from probes.kernel.btf import Btf
from probes.kernel.headers import declare_structs, write_tree
from tests.unit.kernel.btf_writer import BtfWriter, small_kernel


@pytest.fixture
def btf() -> Btf:
    return Btf(small_kernel().bytes())


@pytest.mark.parametrize(
    ("struct", "member", "declaration"),
    [
        ("file", "f_mode", "u32 f_mode;"),
        ("task_struct", "state", "s32 state;"),
        ("task_struct", "parent", "struct task_struct *parent;"),
        ("task_struct", "files", "struct task_struct **files;"),
        ("path", "dentry", "struct dentry *dentry;"),
        ("path", "mnt", "void *mnt;"),
        ("file", "f_name", "char *f_name;"),
        ("task_struct", "comm", "char comm[16];"),
        ("task_struct", "table", "u32 table[2][3];"),
        ("task_struct", "uid", "u32 uid;"),
        ("task_struct", "usage", "s32 usage;"),
        ("file", "f_lock", "u32 f_lock;"),
        ("file", "f_blob", "char f_blob[9];"),
        ("file", "f_path", "char f_path[16];"),
        ("file", "f_paths", "char f_paths[0][16];"),
    ],
)
def test_member_type(btf: Btf, struct: str, member: str, declaration: str) -> None:
    """A member is declared with the width, sign and pointer target that the kernel gives it, or as bytes."""
    lines = declare_structs(btf, {struct: [member]}).splitlines()
    assert f"  {declaration}" in lines


def test_embedded_struct_that_is_wanted_comes_first(btf: Btf) -> None:
    """An embedded structure that is itself wanted keeps its type and is declared before its user."""
    text = declare_structs(btf, {"file": ["f_path", "f_paths"], "path": ["dentry"]})
    assert "struct path f_path;" in text
    assert "struct path f_paths[0];" in text
    assert text.index("struct path {") < text.index("struct file {")


def test_padding_and_asserts(btf: Btf) -> None:
    """Gaps are byte arrays, the structure is packed and as large as the kernel's, and C checks it all."""
    assert declare_structs(btf, {"task_struct": ["uid", "pid"]}) == (
        "#pragma once\n"
        "struct task_struct;\n"
        "struct task_struct {\n"
        "  s32 pid;\n"
        "  char __before_uid[28];\n"
        "  u32 uid;\n"
        "  char __end[44];\n"
        "} __attribute__((packed, aligned(8)));\n"
        '_Static_assert(sizeof(struct task_struct) == 80, "size of task_struct");\n'
        '_Static_assert(offsetof(struct task_struct, pid) == 0, "task_struct.pid");\n'
        '_Static_assert(offsetof(struct task_struct, uid) == 32, "task_struct.uid");\n'
        "#define HAVE_task_struct_pid 1\n"
        "#define HAVE_task_struct_uid 1\n"
    )


def test_first_spelling_that_exists_wins_and_first_spelling_names_it(btf: Btf) -> None:
    """Of a member's spellings the first that exists gives the place, the first of all the name."""
    text = declare_structs(btf, {"file": ["f_time_sec|f_ctime.tv_sec|f_time.tv_sec|f_mode"]})
    assert "  s64 f_time_sec;" in text
    assert "offsetof(struct file, f_time_sec) == 40" in text
    assert "#define HAVE_file_f_time_sec 1" in text


def test_dots_of_the_first_spelling_become_underscores(btf: Btf) -> None:
    """A path as the first spelling is declared under a name that C allows."""
    text = declare_structs(btf, {"file": ["f_path.dentry"]})
    assert "  struct dentry *f_path_dentry;" in text
    assert "#define HAVE_file_f_path_dentry 1" in text


def test_optional_member(btf: Btf) -> None:
    """An optional member that is there is announced, one that is not is left out without an error."""
    text = declare_structs(btf, {"file": ["f_mode?", "f_none|f_gone?"], "gone": ["x?"]})
    assert "#define HAVE_file_f_mode 1" in text
    assert "f_none" not in text
    assert "struct gone;\n" in text
    assert "struct gone {" not in text


@pytest.mark.parametrize(
    ("struct", "member", "message"),
    [
        ("file", "f_none|f_gone", "struct file of this kernel has no whole-byte f_none or f_gone"),
        ("gone", "x", "this kernel has no struct gone"),
        ("task_struct", "in_execve", "no whole-byte in_execve"),
    ],
)
def test_missing_member_names_itself(btf: Btf, struct: str, member: str, message: str) -> None:
    """An absent member, or a bit-field, is an error that says which, so that one probe can be dropped."""
    with pytest.raises(FeatureMissing, match=message) as caught:
        declare_structs(btf, {"path": ["mnt"], struct: [member]})
    assert (caught.value.struct, caught.value.member) == (struct, member)


def test_member_wanted_twice_is_declared_once(btf: Btf) -> None:
    """Two probes that want one member under one name do not declare it twice."""
    text = declare_structs(btf, {"file": ["f_mode", "f_mode?", "f_mode|f_flags"]})
    assert text.count("u32 f_mode;") == 1


def test_overlapping_members_share_a_union(btf: Btf) -> None:
    """Members that share bytes, as those of a union do, are all declared at their own offsets."""
    text = declare_structs(btf, {"file": ["high", "pair"]})
    assert (
        "  union {\n"
        "    struct { u64 pair; } __attribute__((packed));\n"
        "    struct { char __before_high[4]; u32 high; } __attribute__((packed));\n"
        "  };\n"
    ) in text


def test_provided_struct_keeps_its_type() -> None:
    """An embedded structure that the tree's own types.h declares is used as such without being asked for."""
    writer = BtfWriter()
    address = writer.struct("in6_addr", 16, [])
    writer.struct("sock_common", 16, [("skc_v6_daddr", address, 0)])
    text = declare_structs(Btf(writer.bytes()), {"sock_common": ["skc_v6_daddr"]})
    assert "  struct in6_addr skc_v6_daddr;" in text


def test_tree_holds_further_files(btf: Btf, tmp_path: Path) -> None:
    """Files that the caller adds lie beside those that bcc needs."""
    write_tree(tmp_path, btf, {}, {"hookline/records.h": "struct record;\n"})
    assert (tmp_path / "include/hookline/records.h").read_text() == "struct record;\n"
    assert (tmp_path / "include/linux/kconfig.h").is_file()
