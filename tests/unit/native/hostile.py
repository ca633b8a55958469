# SPDX-License-Identifier: GPL-2.0-or-later
"""Run by test_sanitized.py: feeds hostile records to the modules in C that the arguments name, and compares."""

from __future__ import annotations

import importlib.util
import random
import struct
import sys
from pathlib import Path

import trio

ROUNDS = 60
OFFSETS = (0, 1_700_000_000_000_000_000, -(1 << 62))
"""Of the wall clock; few, for each makes all encoders anew."""


def load(name: str, path: Path) -> None:
    """Import the module `name` from `path`, in place of what was built beside the sources."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    modules = ("probes.native", "pipeline.enrich.native", "pipeline.encode.native")
    for name, path in zip(modules, sys.argv[1:], strict=True):
        load(name, Path(path))

    from pipeline.decode import Sequences, decode_span
    from pipeline.encode import Encoder
    from pipeline.enrich.host import Host
    from pipeline.enrich.process_tree import ProcessTree
    from pipeline.stages import new_ledger
    from probes.decoder import Decoder
    from probes.event import ProcessEvent
    from probes.kernel.ring import Span
    from probes.layout import layout
    from probes.registry import all_events

    assert [sys.modules[name].__file__ for name in modules] == sys.argv[1:]
    draw = random.Random(59)

    def record() -> bytes:
        """Random bytes in the shape of some event, most of them with lengths that add up; some then spoiled."""
        shape = layout(draw.choice(all_events()))
        tails = [draw.randbytes(draw.choice((0, 0, 1, 7, 40, 600, 5000))) for _ in shape.tails]
        text = draw.choice((b"/bin/true\0", b'-c\0"\\\n\x7f\0', b"", b"\xc3\xa4\xff", b"-1"))
        raw = bytearray(draw.randbytes(shape.size) + b"".join(tail or text for tail in tails))
        for member in (*shape.header, *shape.body):
            for tail, made in zip(shape.tails, tails, strict=True):
                if member.name == f"{tail.name}_length":
                    struct.pack_into("<I", raw, member.offset, len(made or text))
            if member.name in {"cpu", "sequence", "flags"} and draw.random() < 0.8:
                struct.pack_into("<I", raw, member.offset, draw.randrange(3))
            if member.name in {"tgid", "ppid", "child_tgid"} and draw.random() < 0.9:
                struct.pack_into("<I", raw, member.offset, draw.randrange(6))
            if member.name.endswith("start_time") and draw.random() < 0.9:
                struct.pack_into("<Q", raw, member.offset, draw.choice((7, 10_000_000, 10_000_001)))
        struct.pack_into("<II", raw, 0, len(raw), shape.event.data_type)
        match draw.randrange(8):
            case 0:
                del raw[draw.randrange(len(raw)) :]
            case 1:
                at = draw.randrange(len(raw) - 3)
                struct.pack_into("<I", raw, at, draw.choice((0, 1, 0xFFFF_FFFF, draw.getrandbits(32))))
            case 2:
                del raw[draw.randrange(len(raw)) :]
                raw[:4] = struct.pack("<I", len(raw))[: len(raw[:4])]
        return bytes(raw)

    decoders = [Decoder(all_events(), in_c=in_c) for in_c in (False, True)]
    encoders = [Encoder(run_id="run", in_c=in_c) for in_c in (False, True)]
    trees = [ProcessTree(depth=3, max_processes=5, ask_proc=False, in_c=in_c) for in_c in (False, True)]
    for encoder in encoders:
        encoder.set_host(Host(hostname="h", local_ip="i", boot_id="b", machine_id="m"))
    made = 0
    for at in range(ROUNDS):
        offset = OFFSETS[at * len(OFFSETS) // ROUNDS]
        records, places = [record() for _ in range(20)], []
        data = b""
        for each in records:
            places.append((len(data), len(each) + draw.choice((0, 0, 0, 0, 0, 1, 1 << 20))))
            data += each
        told = []
        for decoder, tree, encoder in zip(decoders, trees, encoders, strict=True):
            ledger = new_ledger()
            events = decode_span(Span(data, places), decoder, Sequences(ledger), ledger)
            trio.run(tree.enrich, [event for event in events if isinstance(event, ProcessEvent)])
            made += len(events)
            told.append((events, ledger.report(), encoder(events, "smith", offset), encoder(events, "ecs", offset)))
        assert told[0] == told[1]
    print(made, "events")


if __name__ == "__main__":
    main()
