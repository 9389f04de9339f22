"""`scbatchnorm report`: pl.report on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm.cli import _files, _options

if TYPE_CHECKING:
    import argparse

HELP = "write all that can be said about an integration on one HTML page"
DESCRIPTION = (
    "Write a report on an integration: one HTML file that opens without network. Warnings first; was a correction needed, "
    "what was done, the cells before and after, scores with controls, what changed, a paragraph for the methods of a paper."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is reported on, and where it is written."""
    parser.add_argument("input", type=Path, help="integrated file, .h5ad or .zarr")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="the report, .html")
    parser.add_argument(
        "--batch-key", action="append", metavar="COLUMN",
        help="column of obs with the batch; give it again to combine several (default: that of the integration)",
    )  # fmt: skip
    parser.add_argument("--label-key", metavar="COLUMN", help="column of obs with the cell type")
    parser.add_argument("--key", metavar="KEY", help="which integration of scbatchnorm: its key_added")
    parser.add_argument("--rep", metavar="KEY", help="embedding of another tool in obsm; needs --batch-key")
    parser.add_argument(
        "--compare", action="append", default=[], metavar="KEY",
        help="another embedding in obsm, to be scored beside it; give it again for more",
    )  # fmt: skip
    parser.add_argument(
        "--unintegrated", default="X_pca", metavar="KEY",
        help="principal components before integration, in obsm (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--covariate-key", action="append", default=[], metavar="COLUMN",
        help="column of obs that a correction must not remove, such as condition; give it again for more",
    )  # fmt: skip
    parser.add_argument(
        "--control-gene", action="append", default=[], metavar="GENE",
        help="gene whose differences between cells of a batch should stay; give it again for more",
    )  # fmt: skip
    parser.add_argument("--title", metavar="TEXT", help="heading of the page")
    parser.add_argument(
        "--max-cells-drawn", type=int, default=50_000, metavar="N",
        help="of more cells a random sample of so many is drawn (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    _options.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report."""
    _files.check_source(args.input)
    _files.check_target("-o/--output", args.output, (".html",), overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import pl

    pl.report(
        _files.read(args.input),
        args.output,
        key=args.key,
        use_rep=args.rep,
        batch_key=None if args.batch_key is None else _options.one_or_all(args.batch_key),
        label_key=args.label_key,
        covariate_keys=args.covariate_key,
        control_genes=args.control_gene,
        compare=args.compare,
        unintegrated=args.unintegrated,
        title=args.title,
        max_cells_drawn=args.max_cells_drawn,
        overwrite=args.overwrite,
        rng=args.seed,
    )
    print(f"wrote {args.output}: the report, to be opened in a browser")
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0
