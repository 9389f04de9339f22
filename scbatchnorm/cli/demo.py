"""`scbatchnorm demo`: see it work, without data of one's own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "real cells with planted batch effects: scores and pictures, in under a minute"
DESCRIPTION = "Integrate real cells with planted batch effects, and write scores and pictures, in under a minute."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where to write."""
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output"), help="folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Integrate the cells of the demonstration, print scores and write pictures."""
    if args.output.exists() and not args.output.is_dir():
        msg = f"-o/--output must be a folder; {args.output} is a file."
        raise ValueError(msg)
    start = time.perf_counter()
    print("700 blood cells dealt out to three protocols with planted batch effects ...", flush=True)
    from scbatchnorm.cli import _demo as demo  # seconds: scanpy and torch
    from scbatchnorm.cli import _scores

    adata, seconds = demo.integrate()
    scores = demo.evaluate(adata)
    files = demo.write(adata, scores, args.output)
    strength = adata.uns["scbatchnorm"]["strength"]
    print(f"\n{_scores.as_text(scores)}\n")
    print(f"seconds to compute: {', '.join(f'{key} {took:.1f}' for key, took in seconds.items())}")
    print(f"strength {strength['value']:.2f}: {strength['reason']}\n")
    for path, what in files.items():
        print(f"wrote {path}: {what}")
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    return 0
