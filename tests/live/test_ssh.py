# SPDX-License-Identifier: GPL-2.0-or-later
"""A login by ssh: a real sshd on loopback, with keys and a configuration of its own."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S, run, until
from tests.ports import free_port


def answers(port: int) -> bool:
    with socket.socket() as asker:
        return asker.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def sshd(folder: Path) -> Iterator[list[str]]:
    """The beginning of an ssh command that logs this user in."""
    for key in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
    port = free_port()
    config = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "PermitRootLogin": "yes",
        "UsePAM": "no",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    Path("/run/sshd").mkdir(exist_ok=True)  # where it confines what has not logged in yet
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: answers(port), "sshd")
            options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "IdentitiesOnly": "yes"}
            yield [
                *("ssh", "-q", "-F", "none", "-i", str(folder / "user"), "-p", str(port)),
                *(part for key, value in options.items() for part in ("-o", f"{key}={value}")),
                f"{os.environ.get('USER', 'root')}@127.0.0.1",
            ]
        finally:
            server.terminate()
            server.wait(LIMIT_S)


def test_a_login(programs: Programs, tmp_path: Path) -> None:
    """What a login by ssh executes tells SSH_CONNECTION, its terminal, and sshd with the connection."""
    mark = secrets.token_hex(8)
    probes = ["execve", "fork", "exit", "connect"]
    with Collector(tmp_path, {"collector": {"probes": probes}}) as running, sshd(tmp_path) as ssh:
        master, terminal = os.openpty()
        try:
            command = [*ssh[:-1], "-tt", ssh[-1], f"tty; {programs('nop')} {mark}"]
            said = subprocess.run(command, stdin=terminal, capture_output=True, check=True, timeout=LIMIT_S).stdout
        finally:
            os.close(master)
            os.close(terminal)
        events = [each for each in running.sync() if each["data_type"] == "59"]
        running.stop().check()
    [event] = [each for each in events if each["argv"] == f"{programs('nop')} {mark} "]
    peer, port, here, own = event["SSH_CONNECTION"].split(" ")
    assert (peer, here, own) == ("127.0.0.1", "127.0.0.1", ssh[ssh.index("-p") + 1])
    assert event["tty_name"] == said.decode().split()[0].removeprefix("/dev/").replace("/", "")
    assert event["stdin"] == event["stdout"] == said.decode().split()[0]
    assert (event["dip"], event["dport"], event["sip"], event["sport"]) == (peer, port, here, own)
    assert event["socket_process_exe"] == "/usr/sbin/sshd"
