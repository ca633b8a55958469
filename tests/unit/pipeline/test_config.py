# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: defaults, errors, overrides, and the shipped file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from pipeline.config import Config, ConfigError, load, map_settings, with_overrides
from pipeline.settings import Collector, Metrics
from pipeline.tables import fill
from probes.registry import all_probes
from sinks.console import ConsoleConfig
from sinks.elasticsearch import ElasticsearchConfig
from sinks.file import FileConfig
from sinks.kafka import KafkaConfig
from sinks.protocol import SinkConfig

SHIPPED = Path(__file__).parents[3] / "config.toml"
EVERY_SINK = SHIPPED.read_text(encoding="utf-8").replace("#:", "")
"""The shipped file with all its sinks in use."""

SINKS: dict[str, type[SinkConfig]] = {
    "console": ConsoleConfig,
    "file": FileConfig,
    "kafka": KafkaConfig,
    "elasticsearch": ElasticsearchConfig,
}

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "": 1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hookline.toml"


def refusal(file: Path, text: str | bytes) -> str:
    """What `load` says of this content, less the file's name, which it must begin with."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(file)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"{file}: ")
    return sentence.removeprefix(f"{file}: ")


def test_an_empty_file_means_the_defaults(file: Path) -> None:
    """An empty file, and one with an empty table, give what no file gives: the default probes and a console sink."""
    for text in ("", "[collector]\n[sinks]\n"):
        file.write_text(text)
        assert load(file) == Config()
    assert Config().collector.probes == tuple(name for name, probe in all_probes().items() if probe.default)
    assert dict(Config().sinks) == {"console": ConsoleConfig()}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[collector]\nring_byte = 1",
            "collector.ring_byte is not a key (did you mean ring_bytes?); [collector] takes probes, "
            "attach, cache, ring_bytes, wakeup_bytes, poll_interval_ms, span_bytes, unix_sockets, uprobe_files, "
            "uprobe_search_s",
        ),
        (
            "[colector]",
            "colector is not a key (did you mean collector?); the file takes collector, filters, pipeline, "
            "enrich, metrics, log, spool, sinks",
        ),
        ("collector = 3", "collector must be a table, not 3"),
        ("sinks = []", "sinks must be a table, not []"),
        (
            "[collector]\nring_bytes = 1000",
            "collector.ring_bytes must be an integer from 65_536 to 1_073_741_824, not 1000",
        ),
        ("[collector]\nring_bytes = 100000", "collector.ring_bytes must be a power of two, not 100000"),
        (
            "[collector]\nring_bytes = '8 MiB'",
            'collector.ring_bytes must be an integer from 65_536 to 1_073_741_824, not "8 MiB"',
        ),
        ("[collector]\nunix_sockets = 1", "collector.unix_sockets must be true or false, not 1"),
        (
            "[filters]\nexe = '/bin/sh'",
            'filters.exe must be a list of paths, at most 1024 of them, not "/bin/sh"',
        ),
        ("[filters]\nexe = ['sh']", 'filters.exe must be a list of absolute paths, not with "sh"'),
        (
            "[filters]\nbecome_root = ['sudo']",
            'filters.become_root must be a list of absolute paths, not with "sudo"',
        ),
        (
            f"[filters]\nexe = {['/a'] * 1000}\nbecome_root = {['/b'] * 25}",
            "filters.exe and become_root must have at most 1024 paths together",
        ),
        (
            "[filters]\nuid = [-1]",
            "filters.uid must be a list of user ids from 0 to 4_294_967_295, at most 1024 of them, not [-1]",
        ),
        ("[pipeline]\nshutdown_s = nan", "pipeline.shutdown_s must be a number from 0.1 to 600.0, not nan"),
        (
            "[enrich.hashes]\nwait = 1",
            "enrich.hashes.wait is not a key (did you mean wait_s?); [enrich.hashes] takes enabled, "
            "sha256, created_files, max_bytes, bytes_per_s, cache_entries, order_ms, wait_s, close_wait_s, "
            "waiting_files, waiting_events, open_files, workers, hung_workers",
        ),
        (
            "[log]\nlevel = 'loud'",
            'log.level must be "debug", "error", "info" or "warning", not "loud"',
        ),
        (
            "[sinks.events]\ntype = 'file'\npath = 'x'\nrotate_bytes = '1G'",
            'sinks.events.rotate_bytes must be an integer of at least 0, not "1G"',
        ),
        (
            "[sinks.events]\ntype = 'file'\npath = 'x'\nqueue_batches = 0",
            "sinks.events.queue_batches must be an integer of at least 1, not 0",
        ),
        (
            "[sinks.events]\ntype = 'file'\npath = 'x'\nfsync_interval_s = inf",
            "sinks.events.fsync_interval_s must be a number of at least 0.01, not inf",
        ),
        (
            "[sinks.events]\ntype = 'file'",
            "sinks.events.path is missing; it must be text that is not empty",
        ),
        (
            "[sinks.events]\npath = 'x'",
            'sinks.events.type is missing; it must be "file", "console", "kafka" or "elasticsearch"',
        ),
        (
            "[sinks.events]\ntype = 'syslog'",
            'sinks.events.type must be "file", "console", "kafka" or "elasticsearch", not "syslog"',
        ),
        ("[sinks]\nevents = 3", "sinks.events must be a table, not 3"),
        ("[sinks.'a b']", 'sinks."a b" is not a name; use letters, digits, _ and -'),
        (
            "[metrics]\nlisten = '0.0.0.0:9464'",
            "metrics.listen must be a loopback address such as 127.0.0.1:9464 unless metrics.allow_remote is "
            'true, not "0.0.0.0:9464"',
        ),
        (
            "[log]\nlevel = 'info'\nlevel = 'debug'\n",
            "line 3 is not valid TOML: the key stands twice (column 16)",
        ),
        ("[log]\n[log]\n", "line 2 is not valid TOML: the table [log] stands twice (column 5)"),
        ("[log", "not valid TOML: Expected ']' at the end of a table declaration (at end of document)"),
        (b"[log]\nlevel = '\xff'", "line 2 is not UTF-8, which TOML must be"),
        ("x = " + "[" * 5000, "nested too deeply"),
    ],
)
def test_a_mistake_is_one_sentence(file: Path, text: str | bytes, sentence: str) -> None:
    """A wrong key, type, value or syntax is told with file, key, what was given and what is accepted."""
    assert refusal(file, text) == sentence


def test_a_wrong_probe_is_told_with_the_known_ones(file: Path) -> None:
    """A misspelled probe is told with the closest name and all others; an empty list is refused."""
    known = ", ".join(all_probes())
    sentence = refusal(file, '[collector]\nprobes = ["execv"]')
    assert sentence == (
        f'collector.probes must name any of {known}, default or all, not "execv" (did you mean execve?)'
    )
    assert "at least one" in refusal(file, "[collector]\nprobes = []")


def test_groups_of_probes(file: Path) -> None:
    """ "default" stands for the probes that say so, which is what an empty file gives, and "all" for every one."""
    default = tuple(name for name, probe in all_probes().items() if probe.default)
    for text, names in (
        ("", default),
        ('[collector]\nprobes = ["default"]', default),
        ('[collector]\nprobes = ["execve", "all"]', tuple(all_probes())),
    ):
        file.write_text(text)
        assert load(file).collector.probes == names


def test_which_form_is_attached(file: Path) -> None:
    """collector.attach is "best" or a form's name; --attach goes over it; anything else is refused."""
    file.write_text('[collector]\nattach = "kprobe"')
    config = load(file)
    assert config.collector.attach == "kprobe"
    assert with_overrides(config, attach="fentry").collector.attach == "fentry"
    assert with_overrides(config).collector.attach == "kprobe"
    sentence = refusal(file, '[collector]\nattach = "ftrace"')
    assert sentence.startswith("collector.attach must be ")
    assert '"tracepoint"' in sentence


def test_probes_are_kept_once_and_in_order() -> None:
    """However the probes are named, each is loaded once, in the order of their kinds."""
    known = tuple(all_probes())
    assert Collector(probes=(known[2], known[0], known[2])).probes == (known[0], known[2])
    assert Collector(probes=(known[2], "all")).probes == known


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that is absent, a folder, too large or impossible is told by its name and the reason."""
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r": Is a directory$"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="NUL"):
        load(tmp_path / "a\0b")
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than"):
        load(large)


def test_a_pipe_is_a_file() -> None:
    """A configuration may come from a pipe, as a shell's <(...) makes one."""
    reader, writer = os.pipe()
    os.write(writer, b"[log]\nlevel = 'error'\n")
    os.close(writer)
    try:
        assert load(Path(f"/dev/fd/{reader}")).log.level == "error"
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
        ("", None),
    ],
)
def test_loopback_addresses_are_taken(listen: str, address: tuple[str, int] | None) -> None:
    """The endpoint listens on loopback addresses of both families, or not at all."""
    assert Metrics(listen=listen).address() == address


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "[2001:db8::1]:1", "192.0.2.1:1"])
def test_other_addresses_need_permission(listen: str) -> None:
    """An address that others can reach is refused unless allow_remote says that it is meant."""
    with pytest.raises(ValueError, match="allow_remote"):
        Metrics(listen=listen)
    assert Metrics(listen=listen, allow_remote=True).listen == listen


@pytest.mark.parametrize(
    "listen",
    ["9464", "localhost:1", "::1:1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:\u0661", "[127.0.0.1]:1"],
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    """Names, bare ports, ports out of range and IPv6 without brackets are refused, remote or not."""
    with pytest.raises(ValueError, match="listen must be ADDRESS:PORT"):
        Metrics(listen=listen, allow_remote=True)


def test_overrides() -> None:
    """--probe, --output, --schema and --verbose replace what the file says, and nothing else."""
    config = Config(sinks={"a": FileConfig(path="a", keep=3), "b": ConsoleConfig()})
    assert with_overrides(config) == config
    assert with_overrides(config, probes=["exit"]).collector.probes == ("exit",)
    assert dict(with_overrides(config, output="x").sinks) == {"output": FileConfig(path="x")}
    assert dict(with_overrides(config, output="-", schema="ecs").sinks) == {"output": ConsoleConfig(schema="ecs")}
    both = with_overrides(config, schema="ecs", lossless=True).sinks
    assert both["a"] == FileConfig(path="a", keep=3, schema="ecs", when_full="block")
    assert both["b"] == ConsoleConfig(schema="ecs", when_full="block")
    assert with_overrides(config, debug=True).log.level == "debug"


def test_wrong_overrides_name_the_option() -> None:
    """A wrong --probe and an empty --output are told by the option's name."""
    with pytest.raises(ConfigError, match=r"--probe must name any of .*did you mean fork"):
        with_overrides(Config(), probes=["forks"])
    with pytest.raises(ConfigError, match="--output must name a file"):
        with_overrides(Config(), output="")


def test_map_settings() -> None:
    """The kernel's maps get the filters as probes know them, which a loader child takes."""
    config = fill(Config, {"filters": {"exe": ["/bin/true"], "uid": [7]}, "collector": {"unix_sockets": True}})
    settings = map_settings(config, 42)
    assert (settings.own_tgid, settings.unix_sockets) == (42, True)
    assert settings.wakeup_bytes == config.collector.wakeup_bytes
    assert (settings.filters.exe, settings.filters.uid) == (("/bin/true",), (7,))
    assert msgspec.json.decode(msgspec.json.encode(settings), type=type(settings)) == settings


def test_a_small_ring_is_woken_before_it_is_full() -> None:
    """The wakeup never waits for more than a quarter of the ring."""
    config = Config(collector=Collector(ring_bytes=65_536))
    assert map_settings(config, 1).wakeup_bytes == 16_384


def leaves(kind: type[msgspec.Struct], at: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its field's type and default."""
    for field in msgspec.structs.fields(kind):
        name = f"{at}{field.encode_name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from leaves(field.type, f"{name}.")
        elif name != "sinks":
            yield name, field


def value_at(table: Any, key: str) -> Any:
    for part in key.split("."):
        table = table[part]
    return table


def keys_of(table: dict[str, Any], at: str = "") -> set[str]:
    return {
        key
        for name, value in table.items()
        for key in (keys_of(value, f"{at}{name}.") if isinstance(value, dict) else [f"{at}{name}"])
    }


def test_shipped_file_holds_every_key_with_its_default(file: Path) -> None:
    """config.toml, with all its sinks in use, sets every key there is, and each to its default."""
    shipped = tomllib.loads(EVERY_SINK)
    file.write_text(EVERY_SINK)
    assert load(SHIPPED) == Config()
    assert dict(load(file).sinks) == {
        "console": ConsoleConfig(),
        "file": FileConfig(path="/var/log/hookline/events.ndjson"),
        "kafka": KafkaConfig(),
        "elasticsearch": ElasticsearchConfig(),
    }
    expected = {key for key, _ in leaves(Config)}
    for name, kind in SINKS.items():
        expected |= {f"sinks.{name}.type", *(f"sinks.{name}.{key}" for key, _ in leaves(kind))}
    assert keys_of(shipped) == expected


def test_shipped_file_explains_every_key() -> None:
    """In config.toml a comment stands above every key, and it gives the accepted range as it is checked."""
    comments = dict(comments_of(EVERY_SINK))
    assert set(comments) == keys_of(tomllib.loads(EVERY_SINK)) - {f"sinks.{name}.type" for name in SINKS}
    sinks = (leaves(kind, f"sinks.{name}.") for name, kind in SINKS.items())
    for key, field in chain(leaves(Config), *sinks):
        kind = inspect.type_info(field.type)
        if isinstance(kind, inspect.IntType | inspect.FloatType):
            assert {kind.ge, kind.le} - {None} <= numbers(comments[key]), key
        if isinstance(kind, inspect.LiteralType):
            assert all(f'"{value}"' in comments[key] for value in kind.values), key


def comments_of(text: str) -> Iterator[tuple[str, str]]:
    """Each key and the comment above it; keys that follow each other share one."""
    table = comment = ""
    for line in text.splitlines():
        if line.startswith("#"):
            comment += line.removeprefix("#")
        elif header := re.fullmatch(r"\[(.+)\]", line):
            table, comment = header[1], ""
        elif key := re.match(r"(\w+) = ", line):
            if key[1] != "type":
                assert comment, line
                yield f"{table}.{key[1]}", comment
        else:
            comment = ""


def numbers(text: str) -> set[float]:
    found = re.findall(r"(\d+(?:\.\d+)?)(?: ([KMGT]iB))?", text)
    return {float(number) * UNITS[unit] for number, unit in found}


def test_ranges_are_found_in_comments() -> None:
    """The test above reads plain numbers and those with a unit."""
    assert numbers("from 65536 (64 KiB) to 1 GiB, or 0.1") == {65_536, 1 << 30, 0.1}


def refused(call: Callable[[], object]) -> str | None:
    """What `call` was refused with; None where it was not."""
    try:
        call()
    except ConfigError as error:
        return str(error)
    return None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([key for key, _ in leaves(Config)]), anything)
def test_any_value_is_taken_or_refused(key: str, value: object) -> None:
    """Whatever stands at a key, it is taken or refused by the key's name; nothing else happens."""
    given: object = value
    for part in reversed(key.split(".")):
        given = {part: given}
    sentence = refused(lambda: fill(Config, given))
    assert sentence is None or sentence.startswith(key)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    """Whatever bytes a file holds, loading it gives a configuration or one sentence."""
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(raw)
    sentence = refused(lambda: load(file))
    assert sentence is None or sentence.startswith(f"{file}: ")
