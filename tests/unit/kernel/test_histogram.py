# SPDX-License-Identifier: GPL-2.0-or-later
"""The buckets of durations: Python and the kernel side mean the same."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from probes.kernel import histogram
from probes.kernel.histogram import BUCKETS, Histogram, lower

GCC = shutil.which("gcc")
PROGRAM = """
#include <stdio.h>
typedef unsigned long long u64;
typedef unsigned int u32;
#define __always_inline inline
%s
int main(void)
{
	u64 value;
	while (scanf("%%llu", &value) == 1)
		printf("%%u\\n", hl_bucket(value));
	return 0;
}
"""


def test_the_kernel_side_has_the_same_buckets(tmp_path: Path) -> None:
    """A C compiler puts the first and the last duration of every bucket into that very bucket."""
    if GCC is None:
        pytest.skip("needs gcc")
    head = histogram.head(1)
    start = head.index("static __always_inline u32 hl_bucket")
    source = PROGRAM % head[start : head.index("\n}\n", start) + 3]
    (tmp_path / "bucket.c").write_text(source)
    subprocess.run([GCC, "-o", tmp_path / "bucket", tmp_path / "bucket.c"], check=True, timeout=60)
    values = [value for index in range(BUCKETS - 1) for value in (lower(index), lower(index + 1) - 1)]
    values += [lower(BUCKETS - 1), 1 << 40, (1 << 64) - 1]
    done = subprocess.run(
        [tmp_path / "bucket"], input="\n".join(map(str, values)), capture_output=True, text=True, check=True, timeout=60
    )
    expected = [index for index in range(BUCKETS - 1) for _ in range(2)] + [BUCKETS - 1] * 3
    assert [int(line) for line in done.stdout.split()] == expected


def test_buckets_are_narrow() -> None:
    """No bucket is wider than 1/16 of its shortest duration, or than 1 ns; they leave no hole and reach 17 s."""
    bounds = [lower(index) for index in range(BUCKETS)]
    assert all(next_one - one <= max(one / 16, 1) for one, next_one in itertools.pairwise(bounds))
    assert bounds == sorted(set(bounds))
    assert bounds[-1] > 16e9


def test_quantiles() -> None:
    """A quantile is the longest duration of the bucket where that share of the runs is reached; at most the maximum."""
    counts = [0] * BUCKETS
    counts[5], counts[100], counts[200] = 50, 49, 1
    found = Histogram(tuple(counts), count=100, total_ns=1, max_ns=lower(200) + 3)
    assert found.quantile(0.5) == 5
    assert found.quantile(0.51) == found.quantile(0.99) == lower(101) - 1
    assert found.quantile(1.0) == lower(200) + 3
    assert Histogram((0,) * BUCKETS, 0, 0, 0).quantile(0.5) == 0


def test_a_histogram_that_was_read_while_it_grew() -> None:
    """Where the buckets hold fewer runs than were counted, or more, a quantile is a duration and never 0."""
    for count in (500, 534, 546):
        counts = [0] * BUCKETS
        counts[100] = 534
        assert Histogram(tuple(counts), count, 1, lower(101)).quantile(0.999) > 0
