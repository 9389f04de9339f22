"""`scbatchnorm map`: tl.map_query on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm.cli import _files, _options

if TYPE_CHECKING:
    import argparse

    from anndata import AnnData

HELP = "place new cells in the space of an integrated file, and label them"
DESCRIPTION = (
    "Place new cells in the space of a file that 'scbatchnorm integrate' or pp.integrate wrote, without training, and write "
    "them with the embedding, obsm['X_scbatchnorm'], with how novel each cell is, and with labels of the reference."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is mapped onto what, how, and where it is written."""
    parser.add_argument("input", type=Path, help="file with new cells, log-normalised, .h5ad or .zarr")
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="integrated file, .h5ad or .zarr, or a saved model; it is not changed",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .h5ad or .zarr")
    parser.add_argument(
        "--batch-key", action="append", metavar="COLUMN",
        help="column of obs with the batch of the new cells; give it again to combine columns (default: they are one batch)",
    )  # fmt: skip
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
    parser.add_argument("--layer", help="layer to use instead of X")
    parser.add_argument("--use-rep", metavar="KEY", help="representation in obsm, for a reference integrated from one")
    parser.add_argument("--key", metavar="KEY", help="which integration of the reference: its --key-added")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--key-added", metavar="KEY", help="write to obsm[KEY], uns[KEY] and columns of obs that begin with it"
    )
    _options.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Map what is in the file, and write it with the embedding."""
    _files.check_source(args.input)
    _files.check_target("-o/--output", args.output, _files.ANNDATA, overwrite=args.overwrite)
    start = time.perf_counter()
    from scbatchnorm import tl
    from scbatchnorm._data.adata import Keys

    query = _files.read(args.input)
    tl.map_query(
        query,
        args.reference,
        batch_key=None if args.batch_key is None else _options.one_or_all(args.batch_key),
        label_keys=args.label_key,
        known_batches=args.known_batch,
        mode=args.mode,
        layer=args.layer,
        use_rep=args.use_rep,
        key=args.key,
        rng=args.seed,
        key_added=args.key_added,
    )
    _files.write(query, args.output)
    keys = Keys.of(args.key_added)
    _tell(query, keys.uns, args)
    n_cells, n_components = query.obsm[keys.obsm].shape
    print(
        f"wrote {args.output}: obsm[{keys.obsm!r}], {n_cells} cells x {n_components} components, {time.perf_counter() - start:.0f} s"
    )
    return 0


def _tell(query: AnnData, key: str, args: argparse.Namespace) -> None:
    """What was found, in a few lines."""
    record = query.uns[key]
    genes = record["genes"]
    print(f"{genes['n_found']} of the reference's {genes['n_wanted']} features found")
    for name, row in record["batches"].iterrows():
        how = "a batch of the reference" if row["known"] else f"{row['n_anchors']} anchors"
        print(f"batch {name}: {row['n_cells']} cells, {how}, {row['n_novel']} cells novel")
    for label_key in args.label_key:
        column = f"{label_key}_mapped" if args.key_added is None else f"{args.key_added}_{label_key}_mapped"
        print(f"obs[{column!r}]: {int((query.obs[column] == 'unknown').sum())} of {query.n_obs} cells unknown")
