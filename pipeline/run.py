# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command line runs: collect, record, replay."""

from __future__ import annotations

import ctypes
import gc
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from pipeline.config import Config, ConfigError
from pipeline.decode import boot_offset_ns
from pipeline.enrich.addresses import keep_host
from pipeline.enrich.host import Host, run_id
from pipeline.ledger import Ledger
from pipeline.live import Live, all_counters, update_ledger
from pipeline.recording import Recorder, open_recording
from pipeline.stages import Pipeline, new_ledger
from pipeline.watch import Watch
from probes.kernel.loader import Loaded, Loading
from probes.kernel.ring import Span
from probes.registry import all_probes
from sinks.protocol import SinkError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Of glibc's malloc.h."""

_SWITCH_S = 0.0005
"""How long a thread waits for the interpreter before it asks for it; a tenth of Python's own."""

log = structlog.get_logger()


async def collect(
    config: Config, loading: Loading, *, reload: Callable[[], Config] | None, duration_s: float | None
) -> Ledger:
    """Collect until SIGTERM, SIGINT or `duration_s`; gives the closed ledger.

    Raises:
        LoadError: no probe can be loaded.
        SinkError: a sink cannot be opened.
        ConfigError: the metrics address cannot be used.
    """
    ledger = new_ledger()
    host = Host.current()
    watch = Watch()
    pipeline = Pipeline(
        config,
        ledger,
        identity=run_id(host.boot_id, time.clock_gettime_ns(time.CLOCK_BOOTTIME)),
        host=host,
        boot_offset=boot_offset_ns,
        live=True,
        watch=watch,
    )
    settle_interpreter()
    _outlive_signals()
    stop = trio.Event()
    hangups, reloads = trio.open_memory_channel[None](1)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as around:
            around.start_soon(_obey, signals, stop, hangups)
            with (
                _metrics(config.metrics.listen, pipeline),
                await trio.to_thread.run_sync(loading.first) as loaded,
            ):
                live = Live(config, loaded, ledger, stop)
                await trio.to_thread.run_sync(pipeline.tree.seed)
                async with trio.open_nursery() as nursery:
                    beside = nursery.start_soon
                    beside(live.keep_counters)
                    beside(live.keep_filters)
                    beside(keep_host, pipeline.encoder.set_host, host, config.enrich.host.refresh_s)
                    beside(_every, config.enrich.users.refresh_s, pipeline.users.refresh)
                    beside(_stop_when_unread, pipeline, stop)
                    beside(_end_sinks, pipeline, stop, config.pipeline.shutdown_s)
                    if reload is not None:
                        beside(_reload_on, reloads, live, pipeline, reload)
                    beside(_load_rest, loading, loaded, live, watch, stop, duration_s)
                    await pipeline.run(live.read, live.final_counters)
                    nursery.cancel_scope.cancel()
            around.cancel_scope.cancel()
    return ledger


def _metrics(listen: str, pipeline: Pipeline) -> AbstractContextManager[None]:
    if not listen:
        return nullcontext()
    from pipeline.metrics import serve  # 3 MB, for who asks for them

    return serve(listen, pipeline.ledger, pipeline.statistics, pipeline.delivery.latencies, pipeline.stages)


async def record(config: Config, loading: Loading, path: Path, *, duration_s: float | None) -> Ledger:
    """Write what the ring holds to `path` until a signal or `duration_s`; gives the source's ledger."""
    ledger = new_ledger()
    host = Host.current()
    _outlive_signals()
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as around:
            around.start_soon(_obey, signals, stop, None)
            with await trio.to_thread.run_sync(loading.first) as loaded:
                live = Live(config, loaded, ledger, stop)
                identity = run_id(host.boot_id, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
                with Recorder(path, run_id=identity, boot_offset_ns=boot_offset_ns(), host=host) as recorder:
                    spans_in, spans_out = trio.open_memory_channel[Span](config.pipeline.queue_batches)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(live.read, spans_in)
                        nursery.start_soon(_load_rest, loading, loaded, live, Watch(), stop, duration_s)
                        async for span in spans_out:
                            recorder.write(span)
                        nursery.cancel_scope.cancel()
                    recorder.finish(all_counters(loaded))
                live.final_counters()
            around.cancel_scope.cancel()
    return ledger


async def replay(config: Config, path: Path) -> Ledger:
    """Run a recording through the same stages; needs no privilege.

    Raises:
        RecordingError: the file is of another schema, or damaged.
    """
    ledger = new_ledger()
    with closing(await trio.to_thread.run_sync(open_recording, path)) as recording:
        header = recording.header
        pipeline = Pipeline(
            config,
            ledger,
            identity=header.run_id,
            host=header.host,
            boot_offset=lambda: header.boot_offset_ns,
            live=False,
        )
        settle_interpreter()

        async def source(send: trio.MemorySendChannel[Span]) -> None:
            async with send:
                for span in recording.spans():
                    await send.send(span)

        def final_counters() -> list[tuple[int, int, int]]:
            update_ledger(ledger, recording.counters)
            return [(kind, cpu, each.emitted) for kind, cpu, each in recording.counters]

        await pipeline.run(source, final_counters)
    return ledger


def _outlive_signals() -> None:
    """What the receivers below give back at their end: a second SIGTERM must not take the ledger away."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def settle_interpreter() -> None:
    """Set Python and its C library for a process that runs long, with many events and few threads."""
    # After each write(2) the file sink's thread must have the interpreter back, which the stages keep busy.
    sys.setswitchinterval(_SWITCH_S)
    # Events are freed by reference count; the cycle collector need not look at what lives for ever.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    mallopt = ctypes.CDLL(None).mallopt
    # Threads that hash, write and scrape would each grow a heap of their own, and keep it.
    mallopt(_M_ARENA_MAX, 1)
    # Left to itself, glibc keeps twice the largest buffer that a flood ever needed.
    mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    mallopt(_M_TRIM_THRESHOLD, 1 << 19)


async def _load_rest(
    loading: Loading, loaded: Loaded, live: Live, watch: Watch, stop: trio.Event, duration_s: float | None
) -> None:
    """Collecting has begun with the first probes; the duration counts from the last."""
    if not loading.is_done:
        log.info("the first probes are attached", probes=_running(loaded))
    # An abandoned thread ends with the child, which closing `loaded` ends.
    await trio.to_thread.run_sync(loading.rest, loaded, abandon_on_cancel=True)
    if stop.is_set():
        return
    await live.set_filters(live.config)  # the loader, which they leave out, is gone
    _report(loaded)
    settings = live.config.collector
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(watch.run, loaded.uprobes, most=settings.uprobe_files, every_s=settings.uprobe_search_s)
        )
        if duration_s is not None:
            nursery.start_soon(_stop_after, stop, duration_s)


def _running(loaded: Loaded) -> list[str]:
    return [report.name for report in loaded.reports.values() if not report.error]


def _forms(loaded: Loaded) -> dict[str, str]:
    """What each probe is attached to, of those that have a choice."""
    several = {name for name, probe in all_probes().items() if len(probe.forms) > 1}
    return {name: loaded.reports[name].form for name in _running(loaded) if name in several}


def _report(loaded: Loaded) -> None:
    for report in loaded.reports.values():
        if report.error:
            log.warning("a probe does not run", probe=report.name, reason=report.error)
        for hook in report.hooks:
            if hook.missing:
                log.warning("a hook is missing", probe=report.name, misses=hook.sees, reason=hook.missing)
    log.info("collecting", probes=_running(loaded), forms=_forms(loaded))


async def _obey(signals: AsyncIterator[int], stop: trio.Event, hangups: trio.MemorySendChannel[None] | None) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            log.info("stopping", signal=signal.Signals(number).name)
            stop.set()
        elif hangups is not None:
            # One that waits stands for all that came since.
            with suppress(trio.WouldBlock):
                hangups.send_nowait(None)


async def _reload_on(
    reloads: trio.MemoryReceiveChannel[None], live: Live, pipeline: Pipeline, reload: Callable[[], Config]
) -> None:
    first = live.config
    async for _ in reloads:
        try:
            read = await trio.to_thread.run_sync(reload)
            config = msgspec.structs.replace(first, filters=read.filters, sinks=read.sinks)
            await pipeline.delivery.reload(config.sinks, patience_s=config.pipeline.shutdown_s)
            await live.set_filters(config)
        except (ConfigError, SinkError, OSError) as error:
            log.error("the new configuration is refused, the old one stays", reason=str(error))
        else:
            later = [table for table in read.__struct_fields__ if getattr(read, table) != getattr(config, table)]
            told = {"for_the_next_start": later} if later else {}
            log.info("the configuration was read again; filters and sinks are as it says", **told)


async def _stop_after(stop: trio.Event, seconds: float) -> None:
    await trio.sleep(seconds)
    stop.set()


async def _stop_when_unread(pipeline: Pipeline, stop: trio.Event) -> None:
    await pipeline.delivery.readers_gone.wait()
    stop.set()


async def _end_sinks(pipeline: Pipeline, stop: trio.Event, seconds: float) -> None:
    await stop.wait()
    pipeline.delivery.end_by(trio.current_time() + seconds)


async def _every(seconds: float, work: Callable[[], object]) -> None:
    while True:
        await trio.sleep(seconds)
        await trio.to_thread.run_sync(work)
