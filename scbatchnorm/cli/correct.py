"""`scbatchnorm correct`: tl.correct on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm.cli import _files, _options

if TYPE_CHECKING:
    import argparse

HELP = "write corrected expression of an integrated file"
DESCRIPTION = (
    "Write corrected log-normalised expression, layers['scbatchnorm'], into a copy of a file that 'scbatchnorm integrate' or "
    "pp.integrate wrote. Not for differential expression: test raw counts, with the batch as a covariate."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is corrected, how, and where it is written."""
    parser.add_argument("input", type=Path, help="integrated file, .h5ad or .zarr")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .h5ad or .zarr")
    parser.add_argument(
        "--target", default="average", metavar="BATCH",
        help="batch in which all cells are to be seen, or average (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--genes", choices=("all", "hvg"), default="all",
        help="correct all genes, or those that were integrated (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, metavar="T",
        help="set corrected values below T to 0 and write the layer sparse (default: dense)",
    )  # fmt: skip
    parser.add_argument("--key", metavar="KEY", help="which integration: its --key-added")
    parser.add_argument("--key-added", metavar="KEY", help="write to layers[KEY] and uns[KEY_correct]")
    _options.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Correct what is in the file, and write it with the layer."""
    _files.check_source(args.input)
    _files.check_target("-o/--output", args.output, _files.ANNDATA, overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import tl
    from scbatchnorm._data.adata import Keys

    adata = _files.read(args.input)
    tl.correct(
        adata,
        target=args.target,
        genes=args.genes,
        threshold=args.threshold,
        key=args.key,
        key_added=args.key_added,
    )
    layer = Keys.of(args.key_added).uns
    record = adata.uns[f"{layer}_correct"]
    _files.write(adata, args.output)
    print(f"strength {record['strength']['value']:.2f}: {record['strength']['reason']}")
    what = f"{record['n_genes']} of {adata.n_vars} genes corrected"
    if not record["n_genes"]:
        what = "expression copied unchanged, for the strength is 0"
    print(f"wrote {args.output}: layers[{layer!r}], {what}, {time.perf_counter() - start:.0f} s")
    return 0
