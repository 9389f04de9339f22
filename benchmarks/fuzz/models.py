"""Model files, checkpoints and records in AnnData that were changed: our error, or the same model.

python -m benchmarks.fuzz.models --files 10000 --checkpoints 1000 --records 2000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.fuzz import counts, isolated
from benchmarks.fuzz.judges import GOOD, Checkpoints, Files, Records


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz.models", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000, help="changed model files (default: 10000)")
    parser.add_argument("--checkpoints", type=int, default=1000, help="changed checkpoints (default: 1000)")
    parser.add_argument("--records", type=int, default=2000, help="changed records in uns (default: 2000)")
    counts.add_seed(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Try all; exit status 1 if anything came of it that is not promised."""
    options = parse(arguments)
    failed = 0
    for title, judge, n in (
        ("Model files", Files, options.files),
        ("Checkpoints", Checkpoints, options.checkpoints),
        ("Records in AnnData", Records, options.records),
    ):
        if n:
            with tempfile.TemporaryDirectory() as folder:
                cases = isolated.judged(judge, (options.seed, Path(folder)), range(n))
                text, wrong, _ = counts.told(title, cases, GOOD)
            failed += wrong
            print(text, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
