# SPDX-License-Identifier: GPL-2.0-or-later
"""Preflight checks and the feature probe, on hosts that the tests build in a folder."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from probes.errors import LoadError, PreflightError
from probes.kernel import features as features_module
from probes.kernel.btf import Btf
from probes.kernel.features import Features, Host, kernel_version, preflight
from tests.unit.kernel.btf_writer import BtfWriter

CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 1 << 2, 1 << 21, 1 << 38, 1 << 39
ENOUGH_FOR_ROOT = CAP_PERFMON | CAP_BPF


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host on which everything works."""
    for folder in ("bcc", "tracing/events/syscalls/sys_exit_connect", "tracing/events/sched/sched_switch"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("vmlinux", "bcc/libbcc.py", "tracing/events/enable", "tracing/events/syscalls/enable"):
        (tmp_path / file).touch()
    (tmp_path / "sources/uprobe").mkdir(parents=True)
    return Host(
        system="Linux",
        machine="x86_64",
        release="6.1.0-13-amd64",
        uid=0,
        capabilities=ENOUGH_FOR_ROOT,
        user_namespace=False,
        bcc=(tmp_path / "bcc",),
        btf=tmp_path / "vmlinux",
        tracefs=(tmp_path / "absent", tmp_path / "tracing"),
        event_sources=tmp_path / "sources",
    )


@pytest.fixture
def btf() -> Btf:
    writer = BtfWriter()
    void_pointer = writer.raw(2, "", 0)
    writer.raw(8, "btf_trace_sched_process_exec", writer.raw(2, "", writer.function([void_pointer])))
    writer.enum("bpf_func_id", {"BPF_FUNC_unspec": 0, "BPF_FUNC_ktime_get_boot_ns": 125})
    return Btf(writer.bytes())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"capabilities": CAP_SYS_ADMIN},
        {"uid": 1000, "capabilities": ENOUGH_FOR_ROOT | CAP_DAC_READ_SEARCH},
        {"release": "5.8.0"},
    ],
)
def test_good_host_passes(host: Host, change: dict[str, Any]) -> None:
    """Root, the older CAP_SYS_ADMIN alone, a user with three capabilities, and the oldest kernel all pass."""
    preflight(replace(host, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"uid": 1000, "capabilities": 0},
            "user 1000 lacks CAP_BPF and CAP_PERFMON and CAP_DAC_READ_SEARCH.*sudo",
        ),
        ({"uid": 1000, "capabilities": CAP_SYS_ADMIN}, "user 1000 lacks CAP_DAC_READ_SEARCH:"),
        ({"capabilities": CAP_BPF}, "root lacks CAP_PERFMON here.*--privileged"),
        ({"user_namespace": True}, "user namespace.*root of the host"),
        ({"pid_namespace": 1}, "pid namespace of its own.*--pid=host"),
        ({"machine": "aarch64"}, "only x86-64 Linux .* Linux on aarch64"),
        ({"system": "Darwin"}, "only x86-64 Linux .* Darwin on x86_64"),
        ({"bcc": None}, "bcc is not there: apt-get install python3-bpfcc"),
        ({"bcc": ()}, "a single file.*is not the BPF one.*apt-get install python3-bpfcc"),
        ({"release": "5.7.19"}, r"Linux 5\.7\.19 has no BPF ring buffer: boot Linux 5\.8 or later"),
    ],
)
def test_each_failure_is_one_sentence_with_its_remedy(host: Host, change: dict[str, Any], message: str) -> None:
    """Each thing that a host can lack is told in one line that ends with what to do."""
    with pytest.raises(PreflightError, match=message) as caught:
        preflight(replace(host, **change))
    assert "\n" not in str(caught.value)


def test_missing_btf(host: Host) -> None:
    """A kernel without BTF is told by the file that is missing and the option that makes it."""
    host.btf.unlink()
    with pytest.raises(PreflightError, match=r"vmlinux is missing: .*CONFIG_DEBUG_INFO_BTF"):
        preflight(host)


def test_unrelated_bcc(host: Host, tmp_path: Path) -> None:
    """A package called bcc without iovisor's libbcc.py is recognised, without importing it."""
    (tmp_path / "bcc/libbcc.py").unlink()
    with pytest.raises(PreflightError, match=r"is not the BPF one: pip uninstall bcc"):
        preflight(host)


def test_no_tracefs_mounted(host: Host) -> None:
    """Where tracefs is mounted nowhere, the remedy is the command that mounts it in the first place."""
    mount_point = host.tracefs[0]
    with pytest.raises(PreflightError, match=f"mount -t tracefs tracefs {mount_point}"):
        preflight(replace(host, tracefs=(mount_point,)))


def test_a_tracefs_that_this_user_may_not_read(host: Host) -> None:
    """For a user other than root, tracefs is no file error but a condition that fails, with its remedy."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder, "tracing")
        (place / "events").mkdir(parents=True)
        place.chmod(0o700 if os.geteuid() == 0 else 0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            asked = replace(host, tracefs=(place,))
            assert asked.events() is None
            with pytest.raises(PreflightError, match=f"{place} may not be read by this user: run Hookline as root"):
                features_module._check_tracefs(asked)
        finally:
            os.seteuid(user)
            place.chmod(0o700)


def test_checks_are_in_order(host: Host) -> None:
    """Of several failures the first is told, in the order in which a user must mend them."""
    broken: dict[str, Any] = {
        "release": "4.19.0",
        "tracefs": host.tracefs[:1],
        "bcc": None,
        "btf": host.btf / "absent",
        "machine": "riscv64",
        "capabilities": 0,
    }
    told = []
    while broken:
        with pytest.raises(PreflightError) as caught:
            preflight(replace(host, **broken))
        told.append(str(caught.value))
        broken.popitem()
    words = ["root lacks", "x86-64", "CONFIG_DEBUG_INFO_BTF", "bcc", "tracefs", "ring buffer"]
    assert [word for word, sentence in zip(words, told, strict=True) if word in sentence] == words


def test_current_host_does_not_import_bcc() -> None:
    """Looking for bcc does not load it, which would cost the collector 50 MB."""
    before = "bcc" in sys.modules
    assert Host.current().machine
    assert ("bcc" in sys.modules) is before


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc-v669", (6, 18, 44)),
        ("6.1.0-13-amd64", (6, 1, 0)),
        ("7.2-rc1", (7, 2, 0)),
        ("odd", (0, 0, 0)),
    ],
)
def test_kernel_version(release: str, version: tuple[int, int, int]) -> None:
    """The version is read from releases with and without a sublevel; from anything else it is zero."""
    assert kernel_version(release) == version


@pytest.mark.parametrize(
    ("mechanism", "target"),
    [
        ("raw_tracepoint", "sched_process_exec"),
        ("tracepoint", "syscalls:sys_exit_connect"),
        ("tracepoint", "sched:sched_switch"),
        ("uprobe", "/bin/bash:readline"),
        ("helper", "ktime_get_boot_ns"),
    ],
)
def test_what_the_kernel_has(host: Host, btf: Btf, mechanism: str, target: str) -> None:
    """Nothing is missing of what tracefs, BTF and the event sources list."""
    assert Features.probe(host, btf).missing(mechanism, target) is None


@pytest.mark.parametrize(
    ("mechanism", "target", "reason"),
    [
        ("raw_tracepoint", "module_load", "no raw tracepoint module_load"),
        ("tracepoint", "syscalls:enable", "no tracepoint syscalls:enable"),
        ("fentry", "do_absent", "no function do_absent that BTF knows"),
        ("kprobe", "do_exit", "no kprobes (CONFIG_KPROBE_EVENTS is off)"),
        ("kretprobe", "do_exit", "no kprobes (CONFIG_KPROBE_EVENTS is off)"),
        ("helper", "task_pt_regs", "this kernel (6.1.0-13-amd64) has no bpf_task_pt_regs()"),
    ],
)
def test_what_the_kernel_lacks(host: Host, btf: Btf, mechanism: str, target: str, reason: str) -> None:
    """What is not listed is missing, for a reason that names it or the option that is off."""
    assert reason in str(Features.probe(host, btf).missing(mechanism, target))


def test_functions(host: Host, tmp_path: Path) -> None:
    """Where there are kprobes, a function must be in BTF or among the kernel's symbols, which data are not."""
    writer = BtfWriter()
    writer.raw(12, "do_exit", writer.raw(13, "", 0))
    (tmp_path / "sources/kprobe").mkdir()
    (tmp_path / "symbols").write_text("0 t in_symbols\n0 D data\n0 T in_module\t[module]\n")
    features = Features.probe(replace(host, symbols=tmp_path / "symbols"), Btf(writer.bytes()))
    for function in ("do_exit", "in_symbols", "in_module"):
        assert features.missing("kprobe", function) is None
        assert features.missing("kretprobe", function) is None
    for function in ("data", "do_exi", ""):
        assert features.missing("kprobe", function) == f"this kernel has no function {function}"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EPERM, "this kernel refuses fentry programs"), (errno.EINVAL, "do_exit cannot be traced (refused)")],
)
def test_fentry_is_tried(host: Host, monkeypatch: pytest.MonkeyPatch, code: int, reason: str) -> None:
    """Whether the kernel takes fentry programs is found out by loading one; a general refusal is told as such."""
    tried: list[tuple[str, int]] = []

    def load(mechanism: str, _name: str, _code: bytes, btf_id: int) -> int:
        tried.append((mechanism, btf_id))
        raise LoadError("refused") from OSError(code, "")

    monkeypatch.setattr(features_module, "load", load)
    writer = BtfWriter()
    number = writer.raw(12, "do_exit", writer.raw(13, "", 0))
    features = Features.probe(host, Btf(writer.bytes()))
    assert features.missing("fexit", "do_exit") == reason
    assert tried == [("fentry", number)]


def test_no_uprobes(host: Host, btf: Btf, tmp_path: Path) -> None:
    """A kernel without the uprobe event source has none."""
    (tmp_path / "sources/uprobe").rmdir()
    assert "no uprobes" in str(Features.probe(host, btf).missing("uretprobe", "/bin/bash:readline"))


def test_no_system_call_tracepoints(host: Host, btf: Btf, tmp_path: Path) -> None:
    """A kernel with tracepoints but none of system calls says so, and which option is off."""
    (tmp_path / "tracing/events/syscalls/sys_exit_connect").rmdir()
    features = Features.probe(host, btf)
    assert "CONFIG_FTRACE_SYSCALLS" in str(features.missing("tracepoint", "syscalls:sys_exit_connect"))


def test_no_tracefs(host: Host, btf: Btf) -> None:
    """Without tracefs no tracepoint is there, and the reason is not sought in the kernel."""
    features = Features.probe(replace(host, tracefs=()), btf)
    assert "tracefs is not mounted" in str(features.missing("tracepoint", "sched:sched_switch"))


def test_unknown_mechanism_is_a_mistake_of_the_caller(host: Host, btf: Btf) -> None:
    """A misspelled mechanism is not taken for one that the kernel lacks."""
    with pytest.raises(ValueError, match="raw_tracepiont"):
        Features.probe(host, btf).missing("raw_tracepiont", "sched_switch")


def test_fields_of_a_record(host: Host, btf: Btf) -> None:
    """A field is found by its whole name in the tracepoint's format, an array's too; a part of a name is none."""
    folder = host.tracefs[1] / "events/syscalls/sys_exit_connect"
    (folder / "format").write_text("format:\n\tfield:void * req;\toffset:8;\n\tfield:char comm[16];\toffset:16;\n")
    features = Features.probe(host, btf)
    for name in ("req", "comm"):
        assert features.missing("field", f"syscalls:sys_exit_connect:{name}") is None
    for name in ("re", "eq", "void", "offset"):
        assert features.missing("field", f"syscalls:sys_exit_connect:{name}") is not None
