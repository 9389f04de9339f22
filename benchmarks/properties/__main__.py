"""Try many random inputs, and count what they end in.

python -m benchmarks.properties --examples 2000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from benchmarks.properties.claims import CLAIMS
from benchmarks.properties.outcomes import Refused


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.properties", description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2000, help="inputs in all, for all claims (default: 2000)")
    parser.add_argument(
        "--claims", nargs="+", choices=CLAIMS, default=list(CLAIMS), metavar="CLAIM", help="some of them"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs (default: 0)")
    return parser.parse_args(arguments)


def count(claim: str, n_examples: int, seed: int) -> Counter[str]:
    """What inputs end in: `"held"`, or the name of a refusal; raises for the smallest input for which the claim does not hold."""
    check, inputs = CLAIMS[claim]
    ends: Counter[str] = Counter()

    @seeded(seed)
    @settings(max_examples=n_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries(inputs))
    def try_one(given_inputs: dict) -> None:
        try:
            check(**given_inputs)
            ends["held"] += 1
        except Refused as refused:
            ends[str(refused)] += 1

    try_one()
    return ends


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the number of claims that do not hold."""
    options = parse(arguments)
    total, failed = Counter[str](), 0
    for claim in options.claims:
        start = time.perf_counter()
        try:
            ends = count(claim, -(-options.examples // len(options.claims)), options.seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            failed += 1
            notes = "\n".join(getattr(error, "__notes__", []))
            print(f"{claim}: FAILED, {type(error).__name__}: {error}\n{notes}", flush=True)
            continue
        total += ends
        print(f"{claim}: {_line(ends)} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"in all: {_line(total)}; {failed} of {len(options.claims)} claims failed")
    return failed


def _line(ends: Counter[str]) -> str:
    return f"{ends.total()} inputs, " + ", ".join(f"{n} {name}" for name, n in ends.most_common())


if __name__ == "__main__":
    sys.exit(main())
