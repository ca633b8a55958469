# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: what it accepts, how it fails, what it does before the collector runs."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import msgspec
import pytest
import structlog
import trio

from pipeline import cli, start
from pipeline.cli import invoke
from pipeline.config import Config, ConfigError
from pipeline.ledger import Ledger
from probes.errors import LoadError, PreflightError, RecordingError
from probes.kernel.messages import Request
from probes.registry import all_probes
from sinks.deadletters import DeadLetter, DeadLetters
from sinks.file import FileConfig
from sinks.protocol import SinkClosed, SinkError

ROOT = Path(__file__).parents[3]

Captured = pytest.CaptureFixture[str]


class Loading:
    """In the place of the loader child."""

    made: ClassVar[list[Loading]]

    def __init__(self, request: Request) -> None:
        self.request = request
        self.closed = False
        self.made.append(self)

    def close(self) -> None:
        self.closed = True


class Collector(ModuleType):
    """In the place of `pipeline.run`."""

    def __init__(self) -> None:
        super().__init__("pipeline.run")
        self.calls: list[tuple[Any, ...]] = []
        self.raises: Exception | None = None
        self.ledger = Ledger([(59, "execve")])
        self.ledger.source(59, emitted=3, dropped=0, filtered=0)
        self.ledger.decoded({59: 3})

    async def _end(self, *call: object) -> Ledger:
        self.calls.append(call)
        await trio.lowlevel.checkpoint()
        if self.raises:
            raise ExceptionGroup("a nursery", [ExceptionGroup("another", [self.raises])])
        return self.ledger

    async def collect(self, config: Config, loading: Loading, *, reload: Any, duration_s: float | None) -> Ledger:
        return await self._end(config, loading, reload, duration_s)

    async def record(self, config: Config, loading: Loading, path: Path, *, duration_s: float | None) -> Ledger:
        return await self._end(config, loading, path, duration_s)

    async def replay(self, config: Config, path: Path) -> Ledger:
        return await self._end(config, path)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> type[Loading]:
    class Fresh(Loading):
        made: ClassVar = []

    monkeypatch.setattr(start, "Loading", Fresh)
    monkeypatch.setattr(start, "preflight", lambda: None)
    return Fresh


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch, loading: type[Loading]) -> Iterator[Collector]:
    fake = Collector()
    monkeypatch.setitem(sys.modules, "pipeline.run", fake)
    yield fake
    structlog.reset_defaults()
    assert all(each.closed for each in loading.made)


def complaint(captured: Captured, arguments: list[str], code: int) -> str:
    """What this command line is refused with: one line."""
    assert invoke(arguments) == code
    out, err = captured.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("hookline: ")
    return err.removeprefix("hookline: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "Missing command; hookline --help tells more"),
        ("fly", "No such command 'fly'; hookline --help tells more"),
        ("run --fast", "No such option: --fast; hookline run --help tells more"),
        (
            "run --duration -1",
            "Invalid value for '--duration': must be a positive number of seconds; hookline run --help tells more",
        ),
        (
            "record x --duration nan",
            "Invalid value for '--duration': must be a positive number of seconds; hookline record --help tells more",
        ),
        (
            "run --schema xml",
            "Invalid value for '--schema': 'xml' is not one of 'smith', 'ecs'; hookline run --help tells more",
        ),
        ("record", "Missing argument 'FILE'; hookline record --help tells more"),
        ("run --config /nonexistent.toml", "/nonexistent.toml: No such file or directory"),
        ("check-config /nonexistent.toml", "/nonexistent.toml: No such file or directory"),
        ("replay /nonexistent", "/nonexistent: No such file or directory"),
        (
            "run --ledger /nonexistent/l",
            "/nonexistent/l cannot be written: /nonexistent is not a folder that this user may write to",
        ),
        ("run --ledger /", "/ is a directory: name a file"),
    ],
)
def test_wrong_usage_is_one_line(captured: Captured, arguments: str, sentence: str) -> None:
    """Wrong usage and wrong configuration are one line on standard error and exit code 2."""
    assert complaint(captured, arguments.split(), 2) == sentence


def test_a_wrong_probe_is_one_line(captured: Captured) -> None:
    """A probe that does not exist is told with those that do, before anything is loaded."""
    sentence = complaint(captured, ["run", "--probe", "execv"], 2)
    assert sentence.endswith(', not "execv" (did you mean execve?)')


def test_names_cannot_forge_lines(captured: Captured) -> None:
    """A file name with a line end or an escape sequence stays on its line, and is shown escaped."""
    sentence = complaint(captured, ["check-config", "a\nb\x1b[2J"], 2)
    assert sentence == r"a\nb\x1b[2J: No such file or directory"


def test_help_and_version(captured: Captured) -> None:
    """--help names the commands and the exit codes; --version is one line; both are no error."""
    assert invoke(["--help"]) == 0
    text = captured.readouterr().out
    commands = ("run", "doctor", "probes", "check-config", "record", "replay")
    assert all(f"\n  {command} " in text for command in commands)
    assert "Exit codes: 0 all went well; 1 the ledger did not close" in text
    assert invoke(["--version"]) == 0
    assert captured.readouterr().out.startswith("hookline")


def test_run_gives_the_collector_what_was_asked(collector: Collector, loading: type[Loading], tmp_path: Path) -> None:
    """The options of run reach the loader child and the collector; a reload applies them again."""
    file = tmp_path / "c.toml"
    file.write_text("[collector]\nring_bytes = 65536\n")
    options = ["--duration", "2.5", "--probe", "exit", "--probe", "fork", "--schema", "ecs"]
    assert invoke(["run", "--config", str(file), "--output", "x.ndjson", *options]) == 0
    [(config, child, reload, duration_s)] = collector.calls
    assert [child] == loading.made
    assert set(child.request.probes) == {"exit", "fork"}
    assert child.request.ring_bytes == 65_536
    assert child.request.settings.own_tgid == os.getpid()
    assert dict(config.sinks) == {"output": FileConfig(path="x.ndjson", schema="ecs")}
    assert duration_s == 2.5
    assert reload() == config
    file.write_text("[collector]\nring_bytes = 131072\n")
    assert reload().collector.ring_bytes == 131_072
    assert reload().sinks == config.sinks
    file.write_text("[collector")
    with pytest.raises(ConfigError, match="not valid TOML"):
        reload()


def test_run_needs_no_option(collector: Collector) -> None:
    """Without options everything has its default, and SIGHUP still reopens files."""
    assert invoke(["run"]) == 0
    [(config, _child, reload, duration_s)] = collector.calls
    assert (config, duration_s) == (Config(), None)
    assert reload() == config


def test_ledger_file(collector: Collector, tmp_path: Path, captured: Captured) -> None:
    """The ledger goes to standard error for people, and as JSON of mode 0600 into a file in one move."""
    path = tmp_path / "ledger.json"
    path.write_text("an old one, which others may read")
    assert invoke(["run", "--ledger", str(path)]) == 0
    assert json.loads(path.read_text()) == collector.ledger.report()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    out, err = captured.readouterr()
    assert out == ""
    assert err.splitlines() == list(collector.ledger.lines())


def test_an_open_ledger_is_a_failure(collector: Collector, captured: Captured) -> None:
    """A ledger that does not close is exit code 1, in one sentence after the figures."""
    collector.ledger.source(59, emitted=4, dropped=0, filtered=0)
    assert invoke(["run"]) == 1
    assert captured.readouterr().err.splitlines()[-1].startswith("hookline: the ledger does not close")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (SinkError("/x is a directory; choose a file"), 2, "/x is a directory; choose a file"),
        (ConfigError("c.toml: no"), 2, "c.toml: no"),
        (RecordingError("x is damaged"), 2, "x is damaged"),
        (LoadError("no probe can be attached", "the log"), 2, "no probe can be attached"),
        (OSError(28, "No space left on device", "/x"), 1, "/x: No space left on device"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_failures_inside_nurseries(
    collector: Collector, captured: Captured, error: Exception, code: int, sentence: str
) -> None:
    """What fails while the collector runs is told in one line, however many nurseries wrapped it."""
    collector.raises = error
    assert complaint(captured, ["run"], code) == sentence


def test_the_log_of_a_refusal_is_for_who_asks(collector: Collector, captured: Captured) -> None:
    """With --verbose the end of the verifier's log follows the sentence."""
    collector.raises = LoadError("the kernel refused execve", "R0 !read_ok\nprocessed 3 insns")
    assert invoke(["run", "--verbose"]) == 2
    assert captured.readouterr().err.splitlines() == [
        "hookline: the kernel refused execve",
        "R0 !read_ok",
        "processed 3 insns",
    ]


def test_a_reader_that_went_away_is_no_error(collector: Collector, captured: Captured) -> None:
    """A closed pipe on standard output ends the command quietly."""
    collector.raises = SinkClosed("the reader went away")
    assert invoke(["run"]) == 0
    assert captured.readouterr().err == ""


def test_ctrl_c_before_the_start_is_quiet(
    collector: Collector, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the collector listens for it is exit code 130 without a traceback."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "preflight", interrupt)
    assert invoke(["run"]) == 130
    assert captured.readouterr().err == ""


def test_a_bug_is_not_hidden(collector: Collector) -> None:
    """An error that nobody foresaw keeps its traceback, beside others too."""
    collector.raises = ZeroDivisionError("a bug")
    with pytest.raises(ExceptionGroup, match="a nursery"):
        invoke(["run"])


def test_a_host_that_cannot_run_it(loading: type[Loading], captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where preflight fails, nothing is started."""

    def preflight() -> None:
        raise PreflightError("tracefs is not mounted: mount it")

    monkeypatch.setattr(start, "preflight", preflight)
    for command in (["run"], ["record", "x"]):
        assert complaint(captured, command, 2) == "tracefs is not mounted: mount it"
    assert loading.made == []


def test_record(collector: Collector, captured: Captured) -> None:
    """record passes on its file and duration, and tells what was recorded and what the ring dropped."""
    collector.ledger.source(59, emitted=1500, dropped=100, filtered=7)
    assert invoke(["record", "x.rec", "--duration", "1", "--probe", "execve"]) == 0
    [(config, child, path, duration_s)] = collector.calls
    assert (config.collector.probes, path, duration_s) == (("execve",), Path("x.rec"), 1)
    assert child.request.probes == ("execve",)
    assert captured.readouterr().err == "execve: recorded 1,400, dropped by the ring 100, filtered 7\n"


def test_replay_drops_nothing(collector: Collector, loading: type[Loading], tmp_path: Path) -> None:
    """replay starts no loader child, and its sinks hold it up instead of dropping."""
    ledger = tmp_path / "l.json"
    assert invoke(["replay", "x.rec", "--output", "y", "--ledger", str(ledger)]) == 0
    [(config, path)] = collector.calls
    assert (dict(config.sinks), path) == ({"output": FileConfig(path="y", when_full="block")}, Path("x.rec"))
    assert loading.made == []
    assert ledger.exists()


def test_check_config(captured: Captured) -> None:
    """check-config says of the shipped file that it is valid, and what it amounts to."""
    file = ROOT / "config.toml"
    assert invoke(["check-config", str(file)]) == 0
    text = captured.readouterr().out
    default = ", ".join(name for name, probe in all_probes().items() if probe.default)
    assert text == f"{file} is valid: probes {default}; sinks console\n"


def test_probes_table(captured: Captured) -> None:
    """probes has a line for each, with number and forms; --verbose has each hook, and a sentence for each field."""
    assert invoke(["probes"]) == 0
    lines = captured.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["probe", "data_type", "forms", "default"]
    assert [line.split()[0] for line in lines[1:6]] == list(all_probes())[:5]
    assert invoke(["probes", "--verbose"]) == 0
    text = captured.readouterr().out
    assert "hook: raw_tracepoint:sched_process_exec: every successful execution" in text
    assert "Path as the caller named it; of a script, the script." in text


def test_probes_json(captured: Captured) -> None:
    """probes --json has every probe with hooks and fields under both schemas' names."""
    assert invoke(["probes", "--json"]) == 0
    told = {probe["name"]: probe for probe in json.loads(captured.readouterr().out)["probes"]}
    assert list(told) == list(all_probes())
    fields: Mapping[str, Mapping[str, str]] = {field["name"]: field for field in told["execve"]["fields"]}
    assert fields["pid"]["smith"] == "pid"
    assert fields["pid"]["ecs"] == "process.thread.id"
    assert fields["pid"]["meaning"] == "Thread id."


@pytest.fixture
def captured(capsys: Captured) -> Captured:
    return capsys


def test_tables_are_drawn_on_a_terminal() -> None:
    """On a terminal the table fits its width; in a pipe a row is a line."""
    reader, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm"}
    command = [sys.executable, "-m", "pipeline.cli", "probes"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal) as process:
        os.close(terminal)
        text = b""
        try:
            while chunk := os.read(reader, 65_536):
                text += chunk
        except OSError:  # EIO: the other end is closed
            pass
        os.close(reader)
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()
    assert any(set(line.strip()) == {"─"} for line in lines)
    assert max(map(len, lines)) <= 60


def test_a_pipe_without_reader_is_no_error() -> None:
    """`hookline probes | true` is no error: nothing on standard error, exit code 0."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pipeline.cli", "probes"]
    with open(writer, "wb") as pipe:
        done = subprocess.run(command, cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


LATE = ("bcc", "pipeline.run", "prometheus_client", "rich", "structlog")
"""What is imported while the loader child works."""


def test_the_child_is_started_before_anything_slow_is_imported() -> None:
    """When the loader child starts, neither the stages nor their libraries are imported."""
    program = f"""
import sys
from pipeline import cli, start
class Loading:
    def __init__(self, request):
        print([name for name in {LATE} if name in sys.modules])
        sys.exit(0)
start.Loading = Loading
start.preflight = lambda: None
cli.invoke(["run"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_main_is_the_console_script(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """main takes the process's arguments and exits with the code."""
    monkeypatch.setattr(sys, "argv", ["hookline", "fly"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "No such command" in captured.readouterr().err


@pytest.mark.parametrize(
    ("sinks", "sentence"),
    [
        ({"a": "x", "b": "./x"}, "sinks.b.path is that of sinks.a too: choose another path"),
        ({"a": "absent/x"}, "absent does not exist; create it (mkdir -p -m 0700 absent) or choose another path"),
    ],
)
def test_check_config_looks_for_the_places_of_files(
    captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinks: dict[str, str], sentence: str
) -> None:
    """What a run would refuse and any user can see is refused by check-config too."""
    monkeypatch.chdir(tmp_path)
    tables = (f'[sinks.{name}]\ntype = "file"\npath = "{path}"\n' for name, path in sinks.items())
    Path("c.toml").write_text("".join(tables))
    assert complaint(captured, ["check-config", "c.toml"], 2) == sentence


@pytest.mark.parametrize("kind", ["kafka", "elasticsearch"])
def test_dead_letters_of_either_kind(captured: Captured, tmp_path: Path, kind: str) -> None:
    """Dead letters are listed of each sink that keeps them, and where there are none that is said."""
    file, config = tmp_path / "dead", tmp_path / "c.toml"
    schema = 'schema = "ecs"\n' * (kind == "elasticsearch")
    config.write_text(f'[sinks.x]\ntype = "{kind}"\n{schema}dead_letter_file = "{file}"\n')
    assert invoke(["deadletter", "list", "--config", str(config)]) == 0
    assert captured.readouterr().out == "no dead letters\n"
    DeadLetters(file, 1 << 20).append([DeadLetter("x", "too large", msgspec.Raw(b"{}"))])
    assert invoke(["deadletter", "list", "--config", str(config)]) == 0
    assert captured.readouterr().out.endswith("  x  too large\n")
    file.write_bytes(b"{half a li\n" + file.read_bytes())
    assert invoke(["deadletter", "list", "--config", str(config)]) == 1
    told = captured.readouterr()
    assert told.out.endswith("  x  too large\n")
    assert "line 1 is no dead letter" in told.err


def test_a_ledger_that_cannot_be_written(
    collector: Collector, captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full at the end is told with the ledger's name."""
    temporary = tmp_path / "t"
    temporary.touch()
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: (os.open("/dev/full", os.O_WRONLY), str(temporary)))
    assert invoke(["run", "--ledger", str(tmp_path / "l")]) == 1
    assert captured.readouterr().err.endswith(f"hookline: {tmp_path / 'l'}: No space left on device\n")
    assert not temporary.exists()


@pytest.mark.parametrize("closed", [True, False])
def test_a_closed_standard_output(closed: bool, tmp_path: Path) -> None:
    """Events cannot be written to a standard output that is closed: that is said, and nothing else lands there."""
    program = (
        "import trio, sys\nfrom pipeline.cli import _open_standard_descriptors\n_open_standard_descriptors()\n"
        "from sinks.console import ConsoleConfig, open_sink\n"
        "async def main():\n    async with open_sink(ConsoleConfig()): pass\ntrio.run(main)"
    )
    command = f'exec "{sys.executable}" -c "$0"' + " >&-" * closed
    done = subprocess.run(["/bin/sh", "-c", command, program], cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert (done.returncode != 0) == closed
    assert (b"standard output is closed" in done.stderr) == closed
