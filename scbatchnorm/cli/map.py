"""`scbatchnorm map`: tl.map_query on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm.cli._files import ANNDATA_SUFFIXES, check_source, check_target, read_anndata, write_anndata
from scbatchnorm.cli._options import (
    add_batch_key,
    add_input,
    add_key,
    add_layer,
    add_output,
    add_overwrite,
    add_seed,
    one_or_all,
)

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData

HELP = "place new cells in the space of an integrated file, and label them"
DESCRIPTION = (
    "Place new cells in the space of a file that 'scbatchnorm integrate' or pp.integrate wrote, without training, and write "
    "them with the embedding, obsm['X_scbatchnorm'], with how novel each cell is, and with labels of the reference."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """New cells, reference, parameters of the mapping, and output."""
    add_input(parser, "file with new cells, log-normalised")
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="integrated file, .h5ad or .zarr, or a saved model; it is not changed",
    )
    add_output(parser)
    add_batch_key(parser, default="all new cells are one batch")
    parser.add_argument(
        "--label-key", action="append", default=[], metavar="COLUMN",
        help="column of the reference's obs to transfer; give it again for several",
    )  # fmt: skip
    parser.add_argument(
        "--known-batch", action="append", default=[], metavar="BATCH",
        help="batch that is one of the reference, not a new one of the same name; give it again for several",
    )  # fmt: skip
    parser.add_argument(
        "--mode", choices=("frozen", "recalibrate"), default="frozen",
        help="statistics of the normalisation: of the reference, or of it and the new cells (default: %(default)s)",
    )  # fmt: skip
    add_layer(parser)
    parser.add_argument("--use-rep", metavar="KEY", help="representation in obsm, for a reference integrated from one")
    add_key(parser, where=" of the reference")
    add_seed(parser)
    parser.add_argument(
        "--key-added", metavar="KEY", help="write to obsm[KEY], uns[KEY] and columns of obs that begin with it"
    )
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Map the cells of the file, and write the file with the embedding."""
    check_source(args.input)
    check_target("-o/--output", args.output, ANNDATA_SUFFIXES, overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import tl
    from scbatchnorm._data.adata import Keys

    query = read_anndata(args.input)
    tl.map_query(
        query,
        args.reference,
        batch_key=None if args.batch_key is None else one_or_all(args.batch_key),
        label_keys=args.label_key,
        known_batches=args.known_batch,
        mode=args.mode,
        layer=args.layer,
        use_rep=args.use_rep,
        key=args.key,
        rng=args.seed,
        key_added=args.key_added,
    )
    write_anndata(query, args.output)
    keys = Keys.of(args.key_added)
    _print_summary(query, keys.uns, args)
    n_cells, n_components = query.obsm[keys.obsm].shape
    print(
        f"wrote {args.output}: obsm[{keys.obsm!r}], {n_cells} cells x {n_components} components, {time.perf_counter() - start:.0f} s"
    )
    return 0


def _print_summary(query: AnnData, key: str, args: argparse.Namespace) -> None:
    """Print a summary of the mapping."""
    record = query.uns[key]
    genes = record["genes"]
    print(f"{genes['n_found']} of the reference's {genes['n_wanted']} features found")
    for name, row in record["batches"].iterrows():
        how = "a batch of the reference" if row["known"] else f"{row['n_anchors']} anchors"
        print(f"batch {name}: {row['n_cells']} cells, {how}, {row['n_novel']} cells novel")
    for label_key in args.label_key:
        column = f"{label_key}_mapped" if args.key_added is None else f"{args.key_added}_{label_key}_mapped"
        print(f"obs[{column!r}]: {int((query.obs[column] == 'unknown').sum())} of {query.n_obs} cells unknown")
