# SPDX-License-Identifier: GPL-2.0-or-later
"""How long programs take, counted in the kernel itself. For benchmarks: built in only where it is asked for.

Each program that a hook calls is wrapped: its function becomes an inlined body, and a function of its name takes the
time before and after it. Where the body calls another program by a tail call it does not come back; then that
program's own wrapper takes the time, from a place per CPU where the first has left its start. Two durations are not
told apart only where a program that can be preempted (fentry, fexit, uprobe) calls others and another task's runs
meanwhile: such programs are few, and the shares of their counts that this can spoil are those of a preemption.

The buckets are log-linear, as an HDR histogram's: durations below 16 ns have one each, and every power of two above
is divided into 16, so that a bucket is at most 1/16 (6.25 %) wide. Index i is the bucket of lower(i) ns up to, but
without, lower(i + 1). The last takes in what is longer than 17 s.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from probes.kernel import bpf
from probes.kernel.fit import Fitted

_SUB_BITS = 4
"""Each power of two has 2**4 buckets."""

BUCKETS = 512
"""A program's buckets."""

CLOCK = "clock"
"""Counted as a program of each probe, which does nothing: how long a reading of the clock takes, that is in every
duration."""

_TOTALS = struct.Struct("<3Q")
"""struct hl_duration."""

_HEAD = """
struct hl_duration {{ u64 count; u64 sum; u64 max; }};
struct hl_started {{ u64 at; u64 program; }};
struct hl_buckets {{ u64 runs[{buckets}]; }};
BPF_PERCPU_ARRAY(hl_histogram, struct hl_buckets, {programs});
BPF_PERCPU_ARRAY(hl_durations, struct hl_duration, {programs});
BPF_PERCPU_ARRAY(hl_started, struct hl_started, 1);

static __always_inline u32 hl_bucket(u64 duration)
{{
	u64 rest = duration;
	u32 exponent = 0;

	if (duration < {sub})
		return duration;
	if (rest >> 32) {{ rest >>= 32; exponent += 32; }}
	if (rest >> 16) {{ rest >>= 16; exponent += 16; }}
	if (rest >> 8) {{ rest >>= 8; exponent += 8; }}
	if (rest >> 4) {{ rest >>= 4; exponent += 4; }}
	if (rest >> 2) {{ rest >>= 2; exponent += 2; }}
	exponent += rest >> 1;
	exponent = ((exponent - {bits} + 1) << {bits}) + ((duration >> (exponent - {bits})) & ({sub} - 1));
	return exponent < {buckets} ? exponent : {buckets} - 1;
}}

static __always_inline void hl_count_duration(u64 duration, u32 program)
{{
	struct hl_duration *total = hl_durations.lookup(&program);
	struct hl_buckets *buckets = hl_histogram.lookup(&program);
	u64 bucket = hl_bucket(duration);

	if (!buckets || !total)
		return;
	HIDE(bucket); /* the compiler knows that it is in bounds, the verifier only sees the mask */
	__sync_fetch_and_add(&buckets->runs[bucket & ({buckets} - 1)], 1);
	__sync_fetch_and_add(&total->count, 1);
	__sync_fetch_and_add(&total->sum, duration);
	if (duration > total->max)
		total->max = duration;
}}
"""

_ENTRY = """
int {name}(void *ctx)
{{
	{find}
	u64 before = bpf_ktime_get_ns();
	u64 started = bpf_ktime_get_ns();

	{leave}
	{name}__body(ctx);
	hl_count_duration(bpf_ktime_get_ns() - started, {number});
	hl_count_duration(started - before, {clock});
	return 0;
}}
"""

_FIND = "u32 zero = 0; struct hl_started *place = hl_started.lookup(&zero);"
_LEAVE = "if (place) {{ place->at = started; place->program = {number}; }}"

_CALLED = """
int {name}(void *ctx)
{{
	u32 zero = 0;
	struct hl_started *place;

	{name}__body(ctx);
	place = hl_started.lookup(&zero);
	if (place)
		hl_count_duration(bpf_ktime_get_ns() - place->at, place->program);
	return 0;
}}
"""


def timed(text: str, fitted: Fitted) -> str:
    """A probe's C, with the durations of the programs that its hooks call counted; see `programs`."""
    numbers = {name: number for number, name in enumerate(programs(fitted))}
    names = [name for name in (*numbers, *dict.fromkeys(tail.program for tail in fitted.tails)) if name != CLOCK]
    # Programs without tail programs leave the place alone: they can interrupt one that has them.
    find, leave = (_FIND, _LEAVE) if fitted.tails else ("", "")
    return "\n".join(
        [
            head(len(numbers)),
            *(f"#define {name} static __always_inline {name}__body" for name in names),
            text,
            *(f"#undef {name}" for name in names),
            *(
                _ENTRY.format(name=name, find=find, leave=leave.format(number=at), number=at, clock=numbers[CLOCK])
                for name, at in numbers.items()
                if name != CLOCK
            ),
            *(_CALLED.format(name=name) for name in names if name not in numbers),
        ]
    )


def head(number: int) -> str:
    """The C of the maps and the counting for so many programs."""
    return _HEAD.format(programs=number, buckets=BUCKETS, bits=_SUB_BITS, sub=1 << _SUB_BITS)


def programs(fitted: Fitted) -> tuple[str, ...]:
    """The programs that are counted, by their numbers in the maps; the last is `CLOCK`."""
    return (*dict.fromkeys(hook.program for hook in fitted.hooks), CLOCK)


def lower(index: int) -> int:
    """The shortest duration of a bucket, ns."""
    sub = 1 << _SUB_BITS
    if index < sub:
        return index
    power, rest = divmod(index, sub)
    return (sub + rest) << (power - 1)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations of one program, all CPUs together."""

    counts: tuple[int, ...]
    """Runs by bucket; see `lower`."""

    count: int
    total_ns: int
    max_ns: int

    def quantile(self, share: float) -> int:
        """A duration, ns, that this share of the runs did not exceed, at most one bucket (6.25 %) too long."""
        wanted = share * sum(self.counts)  # `count` is of a moment before: programs go on while they are read
        seen = 0
        for index, number in enumerate(self.counts):
            seen += number
            if number and seen >= wanted:
                return min(lower(index + 1) - 1, self.max_ns)
        return 0

    def since(self, before: Histogram) -> Histogram:
        """What was counted after `before`; the longest of it is exact where it is the longest of all."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        last = max((index for index, number in enumerate(counts) if number), default=-1)
        longest = min(lower(last + 1) - 1, self.max_ns) if last >= 0 else 0
        return Histogram(counts, self.count - before.count, self.total_ns - before.total_ns, longest)


EMPTY = Histogram((0,) * BUCKETS, count=0, total_ns=0, max_ns=0)


def read(maps: Mapping[str, int], probe: str, number: int, cpus: int, before: Histogram = EMPTY) -> Histogram:
    """The histogram of a probe's program by its number; `maps` are `Loaded.maps`.

    Gives `before` itself where the program has not run since.
    """
    raw = bpf.lookup(maps[f"{probe}/hl_durations"], struct.pack("<I", number), _TOTALS.size * cpus)
    totals = list(_TOTALS.iter_unpack(raw))
    if sum(count for count, _sum, _max in totals) == before.count:
        return before
    raw = bpf.lookup(maps[f"{probe}/hl_histogram"], struct.pack("<I", number), 8 * BUCKETS * cpus)
    runs = struct.unpack(f"<{BUCKETS * cpus}Q", raw)
    return Histogram(
        tuple(sum(runs[index::BUCKETS]) for index in range(BUCKETS)),
        count=sum(count for count, _sum, _max in totals),
        total_ns=sum(total for _count, total, _max in totals),
        max_ns=max(longest for _count, _sum, longest in totals),
    )
