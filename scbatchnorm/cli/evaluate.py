"""`scbatchnorm evaluate`: metrics.evaluate on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm._runtime.atomic_files import replace_atomically
from scbatchnorm.cli._files import FIGURE_SUFFIXES, SEPARATORS, check_source, check_targets, read_cells
from scbatchnorm.cli._options import (
    add_batch_key,
    add_figure,
    add_input,
    add_label_key,
    add_overwrite,
    add_seed,
    one_or_all,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import pandas as pd

HELP = "score one or more embeddings: batches mixed, cell types kept"
DESCRIPTION = (
    "Score representations of the same cells: how well batches are mixed and how well cell types are kept, each from "
    "0 to 1, 1 is best, with 95 % intervals. Only the annotation of cells and the representations are read."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Representations, parameters of the scores, and outputs."""
    add_input(parser, "file with the representations in obsm")
    parser.add_argument(
        "--rep", action="append", required=True, metavar="KEY",
        help="representation in obsm to score; give it again to compare",
    )  # fmt: skip
    add_batch_key(parser)
    add_label_key(parser, use="; without it only scores that need none")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the scores, .csv or .tsv")
    add_figure(parser, "the scores")
    parser.add_argument(
        "--unintegrated", default="X_pca", metavar="KEY",
        help="representation before integration, to compare with, or none to do without (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--metrics", type=_parse_metrics, default="default", metavar="NAMES",
        help="default, all, or names such as ilisi,clisi,kbet; an unknown name lists all (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--no-controls",
        dest="controls",
        action="store_false",
        help="leave out the controls: the unintegrated data, and what shuffled batches would score",
    )
    parser.add_argument("--per-label", action="store_true", help="score each cell type instead, without intervals")
    parser.add_argument(
        "--n-bootstrap", type=int, default=20, metavar="N",
        help="samples of the cells for the intervals, 0 for none (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--max-cells", type=_parse_max_cells, default=100_000, metavar="N",
        help="cells above which some metrics are computed on a sample of so many, or none for all cells "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--flavor", choices=("default", "scib"), default="default",
        help="scib: as scib-metrics computes them, to compare with published scores (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: usually all cores)")
    add_seed(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Score the representations, print the table, and write it and its picture."""
    _check_files(args)
    start = time.perf_counter()
    from scbatchnorm import metrics
    from scbatchnorm.cli._scores import format_scores

    unintegrated = None if args.unintegrated == "none" else args.unintegrated
    keys = {key: f"--rep {key}" for key in args.rep}
    if unintegrated is not None:
        keys.setdefault(unintegrated, f"--unintegrated {unintegrated} (give 'none' to do without)")
    table = metrics.evaluate(
        read_cells(args.input, keys),
        args.rep,
        batch_key=one_or_all(args.batch_key),
        label_key=args.label_key,
        unintegrated=unintegrated,
        metrics=args.metrics,
        controls=args.controls,
        per_label=args.per_label,
        n_bootstrap=args.n_bootstrap,
        max_cells=args.max_cells,
        flavor=args.flavor,
        n_jobs=args.jobs,
        rng=args.seed,
    )
    print(format_scores(table))
    print()
    _write(table, args.output, args.figure)
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


def _check_files(args: argparse.Namespace) -> None:
    """Raise before anything is computed if reading or writing is bound to fail."""
    check_source(args.input)
    targets = [("-o/--output", args.output, tuple(SEPARATORS)), ("--figure", args.figure, FIGURE_SUFFIXES)]
    check_targets(targets, overwrite=args.overwrite)


def _write(table: pd.DataFrame, output: Path | None, figure: Path | None) -> None:
    """Write both files or none."""
    from scbatchnorm import pl

    outputs = {path: what for path, what in ((output, "the scores"), (figure, "their picture")) if path is not None}
    with replace_atomically(*outputs) as beside:
        for new in beside:
            if new.suffix in SEPARATORS:
                table.to_csv(new, sep=SEPARATORS[new.suffix])
            else:
                pl.scores(table).figure.savefig(new, dpi=200)  # type: ignore[union-attr]
    for path, what in outputs.items():
        print(f"wrote {path}: {what}")


def _parse_max_cells(text: str) -> int | None:
    return None if text == "none" else int(text)


def _parse_metrics(text: str) -> str | Sequence[str]:
    return text if text in {"default", "all"} else [name.strip() for name in text.split(",")]
