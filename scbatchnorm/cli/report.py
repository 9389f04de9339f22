"""`scbatchnorm report`: pl.report on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm.cli._files import check_source, check_target, read_anndata
from scbatchnorm.cli._options import (
    add_batch_key,
    add_control_gene,
    add_covariate_key,
    add_input,
    add_key,
    add_label_key,
    add_overwrite,
    add_seed,
    add_unintegrated,
    one_or_all,
)

if TYPE_CHECKING:
    import argparse

HELP = "write all that can be said about an integration on one HTML page"
DESCRIPTION = (
    "Write a report on an integration: one HTML file that opens without network. Warnings first; was a correction needed, "
    "what was done, the cells before and after, scores with controls, what changed, a paragraph for the methods of a paper."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Integrated file, parameters of the report, and output."""
    add_input(parser, "integrated file")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True, help="the report, .html")
    add_batch_key(parser, default="that of the integration")
    add_label_key(parser)
    add_key(parser, where=" of scbatchnorm")
    parser.add_argument("--rep", metavar="KEY", help="embedding of another tool in obsm; needs --batch-key")
    parser.add_argument(
        "--compare", action="append", default=[], metavar="KEY",
        help="another embedding in obsm, to be scored beside it; give it again for more",
    )  # fmt: skip
    add_unintegrated(parser)
    add_covariate_key(parser)
    add_control_gene(parser)
    parser.add_argument("--title", metavar="TEXT", help="heading of the page")
    parser.add_argument(
        "--max-cells-drawn", type=int, default=50_000, metavar="N",
        help="of more cells a random sample of so many is drawn (default: %(default)s)",
    )  # fmt: skip
    add_seed(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report."""
    check_source(args.input)
    check_target("-o/--output", args.output, (".html",), overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import pl

    pl.report(
        read_anndata(args.input),
        args.output,
        key=args.key,
        use_rep=args.rep,
        batch_key=None if args.batch_key is None else one_or_all(args.batch_key),
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
