"""Training, saving and the command line, killed at any moment: nothing is lost, and nothing is half written.

python -m benchmarks.fuzz.kills --kills 60
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.fuzz import counts, killed


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60, help="kills of training, and of saving (default: 60)")
    parser.add_argument("--saves", type=int, default=200, help="saves of each of two processes at once (default: 200)")
    parser.add_argument("--commands", type=int, default=12, help="kills of the command line (default: 12)")
    counts.add_seed(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Kill; exit status 1 if anything was lost. What must not be seen is in capitals."""
    options, failed = parse(arguments), False
    for title, kill in (
        ("Training with a checkpoint", lambda: killed.training(options.kills, options.seed)),
        ("Saving", lambda: killed.saving(options.kills, options.seed)),
        ("Two processes that save to one path", lambda: killed.racing(options.saves)),
        ("Command line", lambda: killed.commands(options.commands, options.seed)),
    ):
        start = time.perf_counter()
        seen = kill()
        failed |= killed.wrong(seen)
        lines = [f"* {name}: {n}" for name, n in sorted(seen.items())]
        print("\n".join([f"## {title}\n", *lines, f"\n{time.perf_counter() - start:.0f} s\n"]), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
