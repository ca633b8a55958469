# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `bench`: what it needs, and what it refuses before anything is measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bench import cli, kept, stages, storm
from bench.progress import progress
from bench.report import check_places, save
from pipeline.cli import invoke
from pipeline.config import ConfigError
from tests.unit.bench.reports import FAST, report, samples

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("command", [["-m", "bench"], ["-m", "pipeline.cli", "bench"]])
def test_commands(command: list[str], tmp_path: Path) -> None:
    """`bench show` and `hookline bench show` are the same, and their exit code is that of the check."""
    save(report(samples(**FAST)), tmp_path / "a.json")
    shown = [sys.executable, *command, "show", str(tmp_path / "a.json"), "--check"]
    done = subprocess.run(shown, cwd=ROOT, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True)
    assert (done.returncode, "no documented mean is exceeded" in done.stdout) == (0, True), done.stderr


def pinned(requirements: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+)==", (ROOT / requirements).read_text(encoding="ascii"), re.MULTILINE))


def for_developers() -> list[str]:
    """Modules that only requirements-dev.txt brings."""
    packages = pinned("requirements-dev.txt") - pinned("requirements.txt")
    of_packages = packages_distributions().items()
    return [module for module, of in of_packages if {name.lower().replace("_", "-") for name in of} <= packages]


def for_users(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with what requirements.txt brings."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({for_developers()})); {code}"
    return subprocess.run(
        [sys.executable, "-c", hidden, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_what_users_install_is_enough(tmp_path: Path) -> None:
    """`bench show` writes its page, and what `run`, `e2e` and `overhead` import is there, without pytest."""
    assert {"pytest", "pytest_benchmark", "hypothesis"} <= set(for_developers())
    save(report(samples(**FAST)), tmp_path / "a.json")
    page = tmp_path / "page.html"
    done = for_users("from bench.cli import main; main()", "show", str(tmp_path / "a.json"), "--html", str(page))
    assert (done.returncode, done.stderr) == (0, "")
    assert page.exists()
    done = for_users("import bench.rounds, bench.e2e, bench.overhead, bench.document")
    assert (done.returncode, done.stderr) == (0, "")


def test_stages_say_what_they_need(tmp_path: Path) -> None:
    """`bench stages` without pytest is one sentence with its remedy and exit code 2."""
    done = for_users("from bench.cli import main; main()", "stages", "--recording", str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr == (
        "hookline: bench stages takes pytest and pytest-benchmark, which are not installed: "
        "make check installs them, as make test and make bench do\n"
    )


MEASURES = {
    "stages": lambda shown: stages.measure(None, shown, command=""),
    "storm": lambda shown: storm.measure(shown, command=""),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_nothing_runs_without_pytest(measure: Callable[[object], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest would measure is refused before the machine is looked at."""
    monkeypatch.setitem(sys.modules, "pytest_benchmark", None)
    for module in (stages, storm):
        monkeypatch.setattr(module, "machine", lambda: pytest.fail("it began"))
    with progress() as shown, pytest.raises(ConfigError, match="which are not installed"):
        measure(shown)


STEPS = "def pytest_addoption(parser): parser.addoption('--steps', type=int)\n"

FAILURES = {
    "sentence": (STEPS, f"raise OSError('{'very ' * 40}long')", f"OSError: {'very ' * 40}long"),
    "assertion": (STEPS, "assert [1] == [2], 'lost'", "AssertionError: lost"),
    "conftest": ("import nowhere\n", "pass", "ModuleNotFoundError: No module named 'nowhere'"),
    "option": ("", "pass", "unrecognized arguments: --steps="),
    "crash": (STEPS, "import faulthandler; faulthandler._sigsegv()", "Segmentation fault"),
}
"""A conftest.py, a test's body, and what is told."""


@pytest.mark.parametrize("how", FAILURES)
def test_why_benchmarks_failed(how: str, tmp_path: Path) -> None:
    """Of a failure of pytest the line that says why is told, whole, and nothing around it."""
    conftest, body, told = FAILURES[how]
    folder = tmp_path / "bench"
    folder.mkdir()
    (folder / "conftest.py").write_text(conftest, encoding="ascii")
    (folder / "test_it.py").write_text(f"def test_it(benchmark):\n    {body}\n", encoding="ascii")
    with pytest.raises(ConfigError) as caught:
        kept.run(folder / "test_it.py", step=lambda: None)
    sentence = str(caught.value)
    assert sentence.startswith("the benchmarks failed: ")
    assert told in sentence
    assert "\n" not in sentence
    assert len(sentence) < len(told) + 100


WRITING = [["run", "--json"], ["run", "--html"], ["e2e", "--json"], ["overhead", "--json"], ["stages", "--json"],
           ["storm", "--json"]]  # fmt: skip


@pytest.mark.parametrize("command", WRITING, ids=" ".join)
def test_places_are_looked_at_first(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that could not be written at the end is refused at the start, in a sentence and with exit code 2."""
    monkeypatch.setattr(cli, "_is_root", lambda what: pytest.fail("it went on"))
    assert invoke([*command, "/no/folder/x"], cli.app, "bench") == 2
    said = capsys.readouterr().err
    assert said == "hookline: /no/folder/x cannot be written: /no/folder is not a folder that this user may write to\n"


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bench show` prints nothing where its page could not be written."""
    save(report(samples(**FAST)), tmp_path / "a.json")
    assert invoke(["show", str(tmp_path / "a.json"), "--html", str(tmp_path)], cli.app, "bench") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"hookline: {tmp_path} is a directory: name a file\n"


def test_places_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or device that this user may write to is enough, whosever the folder; another's file is refused."""
    monkeypatch.setattr(os, "access", lambda path, mode: path == Path("/dev/null"))
    check_places(Path("/dev/null"), None)
    (tmp_path / "theirs").touch()
    with pytest.raises(ConfigError, match="theirs cannot be written by this user: name another file"):
        check_places(tmp_path / "theirs")


def test_places_stay_as_they_are(tmp_path: Path) -> None:
    """A new file in a folder is all right, and is not made yet."""
    check_places(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_no_such_report(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is told in a sentence that says which one to name."""
    assert invoke(["show", "/nope"], cli.app, "bench") == 2
    said = capsys.readouterr().err
    assert said == "hookline: /nope cannot be read: No such file or directory; name a file that --json wrote\n"
