# SPDX-License-Identifier: GPL-2.0-or-later
"""What benchmarks are fed with: records of real executions, taken from the running kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.recording import Recording, open_recording

EXECUTIONS = 40_000

_SPAWNER = r"""
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
extern char **environ;
int main(int argc, char **argv)
{
	int count = atoi(argv[1]);
	for (int i = 0; i < count; i++) {
		char number[32];
		char *arguments[] = { argv[2 + i % (argc - 2)], "--job", number, "--verbose", NULL };
		pid_t pid;
		snprintf(number, sizeof number, "%d", i);
		if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ))
			return 1;
		waitpid(pid, NULL, 0);
	}
	return 0;
}
"""

_PROGRAMS = ("/usr/bin/true", "/usr/bin/echo", "/usr/bin/id", "/usr/bin/uname", "/usr/bin/basename")


@pytest.fixture(scope="session")
def execve_recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """40,000 executions of five programs, each with arguments of its own, as the ring held them."""
    if os.geteuid() != 0:
        pytest.skip("recording executions loads programs into the kernel, which needs root")
    folder: Path = tmp_path_factory.mktemp("recording")
    source = folder / "spawner.c"
    source.write_text(_SPAWNER, encoding="ascii")
    spawner = folder / "spawner"
    subprocess.run(["/usr/bin/gcc", "-O2", "-o", spawner, source], check=True)
    path = folder / "execve.rec"
    command = [sys.executable, "-m", "pipeline.cli", "record", str(path), "--probe", "execve"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as recorder:
        assert recorder.stderr is not None
        for line in recorder.stderr:
            if "collecting" in line:
                break
        subprocess.run([spawner, str(EXECUTIONS), *_PROGRAMS], check=True, stdout=subprocess.DEVNULL)
        recorder.terminate()
        recorder.stderr.read()
    assert recorder.returncode == 0
    with closing(open_recording(path)) as recording:
        yield recording
