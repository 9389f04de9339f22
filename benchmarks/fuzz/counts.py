"""From cases to a table of outcomes by kind, and whether all of them were good."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Sequence

    from benchmarks.fuzz.isolated import Case

# Bad cases that are shown of each kind and outcome.
_SHOWN = 3


def table(cases: Sequence[Case]) -> pd.DataFrame:
    """Cases by kind and outcome, with totals."""
    frame = pd.crosstab([case.kind for case in cases], [case.outcome for case in cases])
    frame = frame.loc[list(dict.fromkeys(case.kind for case in cases))]
    frame.loc["all"] = frame.sum()
    return frame.astype(object)


def slowest(cases: Sequence[Case]) -> str:
    """The case that took longest, in words."""
    case = max(cases, key=lambda case: case.seconds)
    return f"The slowest took {case.seconds:.2f} s: number {case.number}, {case.kind}, {case.outcome}."


def bad(cases: Sequence[Case], good: Collection[str]) -> list[str]:
    """A line for the first cases of each kind whose outcome is not among the good ones."""
    wrong = [case for case in cases if case.outcome not in good]
    seen: Counter[tuple[str, str]] = Counter()
    lines = []
    for case in wrong:
        seen[case.kind, case.outcome] += 1
        if seen[case.kind, case.outcome] <= _SHOWN:
            lines.append(f"{case.outcome}: number {case.number}, {case.kind}: {case.detail}")
    return lines


def told(title: str, cases: Iterable[Case], good: Collection[str]) -> tuple[str, int, list[Case]]:
    """A section of Markdown, how many cases were not good, and the cases; progress goes to stderr."""
    from benchmarks import report  # loads scanpy, which processes that are started and killed do without

    start, collected = time.perf_counter(), []
    for case in cases:
        collected.append(case)
        if case.outcome not in good:
            print(f"{case.outcome}: number {case.number}, {case.kind}: {case.detail}", file=sys.stderr, flush=True)
        if len(collected) % 500 == 0:
            print(f"{title}: {len(collected)} tried", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    wrong = bad(collected, good)
    n = sum(case.outcome not in good for case in collected)
    verdict = f"{len(collected)} tried in {seconds:.0f} s, {n} not as promised. {slowest(collected)}"
    parts = [f"## {title}", report.markdown(table(collected), index_name="what was done"), verdict]
    return "\n\n".join([*parts, *wrong]) + "\n", n, collected


def add_seed(parser: argparse.ArgumentParser) -> None:
    """The option that decides which cases are tried."""
    parser.add_argument("--seed", type=int, default=0, help="which cases are tried (default: 0)")
