"""`scbatchnorm assess`: pp.assess on files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scbatchnorm._runtime.atomic_files import replace_atomically
from scbatchnorm.cli import _files, _options

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
    """What is assessed, how, and where it is written."""
    parser.add_argument("input", type=Path, help="file with the representation in obsm, .h5ad or .zarr")
    _options.add_batch_key(parser)
    parser.add_argument(
        "--label-key", metavar="COLUMN",
        help="column of obs with the cell type, to compare batches within types instead of clusters",
    )  # fmt: skip
    parser.add_argument(
        "--covariate-key", action="append", default=[], metavar="COLUMN",
        help="column of obs that a correction must not remove, such as condition; give it again for more",
    )  # fmt: skip
    parser.add_argument(
        "--rep", default="X_pca", metavar="KEY", help="uncorrected representation in obsm (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write verdict, reasons and tables, .json")
    parser.add_argument(
        "--n-permutations", type=int, default=999, metavar="N",
        help="permutations of the batches within each group (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    _options.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Assess, print the report, and write it."""
    _files.check_source(args.input)
    if args.output is not None:
        _files.check_target("-o/--output", args.output, (".json",), overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import pp

    made_by = " (sc.pp.pca makes it)" if args.rep == "X_pca" else ""
    found = pp.assess(
        _files.read_cells(args.input, {args.rep: f"--rep {args.rep}{made_by}"}),
        _options.one_or_all(args.batch_key),
        label_key=args.label_key,
        covariate_keys=args.covariate_key,
        use_rep=args.rep,
        n_permutations=args.n_permutations,
        rng=args.seed,
    )
    print(found)
    print()
    if args.output is not None:
        with replace_atomically(args.output) as (new,):
            new.write_text(json.dumps(as_json(found), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        print(f"wrote {args.output}: the assessment")
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


def as_json(found: Assessment) -> dict[str, Any]:
    """Everything, with the rows of tables under their names; what is not defined is null."""
    design: dict[str, Any] = {}
    for (covariate, level), counts in zip(found.design.index, found.design.to_numpy().tolist(), strict=True):
        design.setdefault(covariate, {})[level] = dict(zip(found.design.columns, counts, strict=True))
    return {
        "verdict": found.verdict,
        "reasons": list(found.reasons),
        "batch_key": found.batch_key,
        "label_key": found.label_key,
        "effects": _rows(found.effects),
        "batches": _rows(found.batches),
        "shared": _rows(found.shared),
        "association": _rows(found.association),
        "design": design,
    }


def _rows(table: pd.DataFrame) -> dict[str, Any]:
    return json.loads(table.to_json(orient="index", double_precision=10))
