"""`scbatchnorm diagnose`: tl.diagnose on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm._runtime.atomic_files import replace_atomically
from scbatchnorm.cli import _files, _options

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData

    from scbatchnorm.tl._diagnosis.result import Diagnosis

HELP = "say whether an integration went too far"
DESCRIPTION = (
    "Say, without cell types, what an integration merged, split and changed: inside each batch, where there is no batch "
    "effect to remove. The yardstick is what a second measurement of the same cells would do."
)
_TABLES = (".csv", ".tsv")
_FIGURES = (".png", ".pdf", ".svg")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is judged, by what, and where it is written."""
    parser.add_argument("input", type=Path, help="integrated file, .h5ad or .zarr")
    _options.add_batch_key(parser)
    parser.add_argument("--key", metavar="KEY", help="which integration of scbatchnorm: its key_added")
    parser.add_argument("--rep", metavar="KEY", help="embedding of another tool in obsm, to judge instead")
    parser.add_argument("--label-key", metavar="COLUMN", help="column of obs with the cell type, only to name clusters")
    parser.add_argument(
        "--unintegrated", default="X_pca", metavar="KEY",
        help="principal components before integration, in obsm (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--layer", metavar="KEY", help="with --rep: layer with log-normalised expression")
    parser.add_argument(
        "--control-gene", action="append", default=[], metavar="GENE",
        help="gene whose differences between cells of a batch should stay; give it again for more",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", action="store_true",
        help="also integrate the largest batches, split at random in two, and say what is found there",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the data with the findings, .h5ad or .zarr"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the clusters, .csv or .tsv")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the findings, .png, .pdf or .svg")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    _options.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Diagnose, print what was found, and write it."""
    _check(args)
    start = time.perf_counter()
    from scbatchnorm import tl

    adata = _files.read(args.input)
    found = tl.diagnose(
        adata,
        _options.one_or_all(args.batch_key),
        label_key=args.label_key,
        key=args.key,
        use_rep=args.rep,
        unintegrated=args.unintegrated,
        layer=args.layer,
        control_genes=args.control_gene,
        calibrate=args.calibrate,
        rng=args.seed,
    )
    print(found)
    print()
    _write(adata, found, args)
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise before anything is computed if reading or writing is bound to fail."""
    _files.check_source(args.input)
    targets = (
        ("-o/--output", args.output, _files.ANNDATA),
        ("--table", args.table, _TABLES),
        ("--figure", args.figure, _FIGURES),
    )
    for name, path, suffixes in targets:
        if path is not None:
            _files.check_target(name, path, suffixes, overwrite=args.overwrite)


def _write(adata: AnnData, found: Diagnosis, args: argparse.Namespace) -> None:
    """Both small files or none, and the data."""
    wanted = {
        path: what for path, what in ((args.table, "the clusters"), (args.figure, "their picture")) if path is not None
    }
    with replace_atomically(*wanted) as beside:
        for new in beside:
            if new.suffix in _TABLES:
                found.states.to_csv(new, sep="," if new.suffix == ".csv" else "\t")
            else:
                from scbatchnorm import pl

                pl.change(adata).savefig(new, dpi=200)
    if args.output is not None:
        _files.write(adata, args.output)
        wanted[args.output] = "the data with the findings"
    for path, what in wanted.items():
        print(f"wrote {path}: {what}")
