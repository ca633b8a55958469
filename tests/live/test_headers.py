# SPDX-License-Identifier: GPL-2.0-or-later
"""bcc compiles against the header tree of the running kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
#include "hookline/records.h"
#ifndef HAVE_inode_i_ino
#error a member that every kernel has was not announced
#endif
#ifdef HAVE_inode_i_none
#error a member that no kernel has was announced
#endif
BPF_HASH(seen, u32, struct record);
RAW_TRACEPOINT_PROBE(sched_process_exec) {
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct record record = { .parent = task->real_parent->tgid };
    u32 pid = task->tgid;
    record.uid = task->cred->uid;
    record.inode = task->mm->exe_file->f_inode->i_ino;
    record.length = task->mm->exe_file->f_path.dentry->d_name.len;
    seen.update(&pid, &record);
    return 0;
}
"""

CHILD = """
import json, os, subprocess, sys
from pathlib import Path
from probes.kernel.btf import Btf
from probes.kernel.headers import write_tree

tree, program = Path(sys.argv[1]), sys.argv[2]
structs = {
    "task_struct": ["tgid", "real_parent", "cred", "mm"],
    "cred": ["uid"],
    "mm_struct": ["exe_file"],
    "file": ["f_inode", "f_path", "f_path.dentry"],
    "path": ["dentry"],
    "dentry": ["d_name"],
    "qstr": ["len", "hash_len"],
    "inode": ["i_ino", "i_ctime_sec|i_ctime.tv_sec|__i_ctime.tv_sec", "i_none?"],
    "sock_common": ["skc_daddr", "skc_rcv_saddr", "skc_addrpair", "skc_v6_daddr", "skc_net"],
    "sock": ["__sk_common"],
}
record = "struct record { u32 parent, uid, length, pad; u64 inode; };"
write_tree(tree, Btf.read(), structs, {"hookline/records.h": record})
os.environ["BCC_KERNEL_SOURCE"] = str(tree)
from bcc import BPF

bpf = BPF(text=program)
child = subprocess.Popen(["/bin/true"])
child.wait()
found = bpf["seen"][bpf["seen"].Key(child.pid)]
is_parent = found.parent == os.getpid()
print(json.dumps({"parent": is_parent, "uid": found.uid, "inode": found.inode, "length": found.length}))
"""


def test_bcc_compiles_and_loads_through_the_tree(tmp_path: Path) -> None:
    """Without kernel headers, a program reads a new process's values through the tree's structures."""
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), PROGRAM],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    executable = Path("/bin/true").resolve()
    assert json.loads(run.stdout) == {
        "parent": True,
        "uid": 0,
        "inode": executable.stat().st_ino,
        "length": len(executable.name),
    }
