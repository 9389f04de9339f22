"""`scbatchnorm correct`: tl.correct on files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scbatchnorm.cli._files import ANNDATA_SUFFIXES, check_source, check_target, read_anndata, write_anndata
from scbatchnorm.cli._options import add_input, add_key, add_output, add_overwrite

if TYPE_CHECKING:
    import argparse

HELP = "write corrected expression of an integrated file"
DESCRIPTION = (
    "Write corrected log-normalised expression, layers['scbatchnorm'], into a copy of a file that 'scbatchnorm integrate' or "
    "pp.integrate wrote. Not for differential expression: test raw counts, with the batch as a covariate."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Integrated file, parameters of the correction, and output."""
    add_input(parser, "integrated file")
    add_output(parser)
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
    add_key(parser)
    parser.add_argument("--key-added", metavar="KEY", help="write to layers[KEY] and uns[KEY_correct]")
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Correct the expression of the file, and write the file with the layer."""
    check_source(args.input)
    check_target("-o/--output", args.output, ANNDATA_SUFFIXES, overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import tl
    from scbatchnorm._data.adata import Keys

    adata = read_anndata(args.input)
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
    write_anndata(adata, args.output)
    print(f"strength {record['strength']['value']:.2f}: {record['strength']['reason']}")
    what = f"{record['n_genes']} of {adata.n_vars} genes corrected"
    if not record["n_genes"]:
        what = "expression copied unchanged, for the strength is 0"
    print(f"wrote {args.output}: layers[{layer!r}], {what}, {time.perf_counter() - start:.0f} s")
    return 0
