# SPDX-License-Identifier: GPL-2.0-or-later
"""How many requests are under way at a time."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock

from sinks.elasticsearch.window import Window


async def answer(window: Window, took: float, *, overloaded: bool = False) -> None:
    started = trio.current_time()
    await trio.sleep(took)
    window.answered(started, overloaded=overloaded)


async def test_it_widens_to_its_bound(autojump_clock: MockClock) -> None:
    """From one request at a time, good answers widen it by one a round, up to the bound."""
    window = Window(4)
    assert window.width == 1
    widths = []
    for _ in range(12):
        await answer(window, 0.1)
        widths.append(window.width)
    assert widths == sorted(widths)
    assert widths[0] == 2
    assert widths[-1] == 4


async def test_an_overload_halves_it_once_a_round(autojump_clock: MockClock) -> None:
    """Several refusals of requests that were under way together count as one."""
    window = Window(8)
    for _ in range(40):
        await answer(window, 0.1)
    assert window.width == 8
    async with trio.open_nursery() as nursery:
        for took in (0.1, 0.12, 0.14):
            nursery.start_soon(partial(answer, window, took, overloaded=True))
    assert (window.width, window.narrowed) == (4, 1)
    await answer(window, 0.1, overloaded=True)
    assert (window.width, window.narrowed) == (2, 2)
    for _ in range(3):
        await answer(window, 0.1, overloaded=True)
    assert window.width == 1


async def test_answers_that_become_slow_narrow_it(autojump_clock: MockClock) -> None:
    """An answer that takes far longer than those before narrows it as a refusal does."""
    window = Window(8)
    for _ in range(40):
        await answer(window, 0.1)
    await answer(window, 3.0)
    assert window.width == 4


async def test_no_more_than_it_says(autojump_clock: MockClock) -> None:
    """Requests beyond the width wait for a place."""
    window = Window(4)
    under_way = most = 0

    async def request() -> None:
        nonlocal under_way, most
        async with window.place():
            under_way += 1
            most = max(most, under_way)
            await trio.sleep(1)
            under_way -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(request)
    assert most == 1
