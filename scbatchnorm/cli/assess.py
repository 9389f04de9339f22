"""`scbatchnorm assess`: pp.assess on files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scbatchnorm._runtime.atomic_files import replace_atomically
from scbatchnorm.cli._files import check_source, check_target, read_cells
from scbatchnorm.cli._options import (
    add_batch_key,
    add_covariate_key,
    add_input,
    add_label_key,
    add_overwrite,
    add_seed,
    one_or_all,
)

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from scbatchnorm.pp._assessment.result import Assessment

HELP = "see whether batches need a correction, and whether it is safe"
DESCRIPTION = (
    "Say whether there is a batch effect, by clusters or by cell types, and whether it can be told from what covariates do. "
    "Only the annotation of cells and a representation before integration are read."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Cells, parameters of the assessment, and output."""
    add_input(parser, "file with the representation in obsm")
    add_batch_key(parser)
    add_label_key(parser, use=", to compare batches within types instead of clusters")
    add_covariate_key(parser)
    parser.add_argument(
        "--rep", default="X_pca", metavar="KEY", help="uncorrected representation in obsm (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write verdict, reasons and tables, .json")
    parser.add_argument(
        "--n-permutations", type=int, default=999, metavar="N",
        help="permutations of the batches within each group (default: %(default)s)",
    )  # fmt: skip
    add_seed(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Assess, print the result, and write it."""
    check_source(args.input)
    if args.output is not None:
        check_target("-o/--output", args.output, (".json",), overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import pp

    made_by = " (sc.pp.pca makes it)" if args.rep == "X_pca" else ""
    assessment = pp.assess(
        read_cells(args.input, {args.rep: f"--rep {args.rep}{made_by}"}),
        one_or_all(args.batch_key),
        label_key=args.label_key,
        covariate_keys=args.covariate_key,
        use_rep=args.rep,
        n_permutations=args.n_permutations,
        rng=args.seed,
    )
    print(assessment)
    print()
    if args.output is not None:
        with replace_atomically(args.output) as (new,):
            new.write_text(json.dumps(as_json(assessment), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        print(f"wrote {args.output}: the assessment")
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


def as_json(assessment: Assessment) -> dict[str, Any]:
    """Convert all results to JSON: rows of tables by name, null for undefined values."""
    design: dict[str, Any] = {}
    for (covariate, level), counts in zip(assessment.design.index, assessment.design.to_numpy().tolist(), strict=True):
        design.setdefault(covariate, {})[level] = dict(zip(assessment.design.columns, counts, strict=True))
    return {
        "verdict": assessment.verdict,
        "reasons": list(assessment.reasons),
        "batch_key": assessment.batch_key,
        "label_key": assessment.label_key,
        "effects": _rows(assessment.effects),
        "batches": _rows(assessment.batches),
        "shared": _rows(assessment.shared),
        "association": _rows(assessment.association),
        "design": design,
    }


def _rows(table: pd.DataFrame) -> dict[str, Any]:
    return json.loads(table.to_json(orient="index", double_precision=10))
