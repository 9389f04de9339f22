"""`scbatchnorm diagnose`: tl.diagnose on files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm._runtime.atomic_files import replace_atomically
from scbatchnorm.cli._files import (
    ANNDATA_SUFFIXES,
    FIGURE_SUFFIXES,
    SEPARATORS,
    check_source,
    check_targets,
    read_anndata,
    write_anndata,
)
from scbatchnorm.cli._options import (
    add_batch_key,
    add_control_gene,
    add_figure,
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

    from anndata import AnnData

    from scbatchnorm.tl._diagnosis.result import Diagnosis

HELP = "say whether an integration went too far"
DESCRIPTION = (
    "Say, without cell types, what an integration merged, split and changed: inside each batch, where there is no batch "
    "effect to remove. The yardstick is what a second measurement of the same cells would do."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Integration, parameters of the diagnosis, and outputs."""
    add_input(parser, "integrated file")
    add_batch_key(parser)
    add_key(parser, where=" of scbatchnorm")
    parser.add_argument("--rep", metavar="KEY", help="embedding of another tool in obsm, to judge instead")
    add_label_key(parser, use=", only to name clusters")
    add_unintegrated(parser)
    parser.add_argument("--layer", metavar="KEY", help="with --rep: layer with log-normalised expression")
    add_control_gene(parser)
    parser.add_argument(
        "--calibrate", action="store_true",
        help="also integrate the largest batches, split at random in two, and say what is found there",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the data with the findings, .h5ad or .zarr"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the clusters, .csv or .tsv")
    add_figure(parser, "the findings")
    add_seed(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Diagnose, print the result, and write it."""
    _check_files(args)
    start = time.perf_counter()
    from scbatchnorm import tl

    adata = read_anndata(args.input)
    diagnosis = tl.diagnose(
        adata,
        one_or_all(args.batch_key),
        label_key=args.label_key,
        key=args.key,
        use_rep=args.rep,
        unintegrated=args.unintegrated,
        layer=args.layer,
        control_genes=args.control_gene,
        calibrate=args.calibrate,
        rng=args.seed,
    )
    print(diagnosis)
    print()
    _write(adata, diagnosis, args)
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0


def _check_files(args: argparse.Namespace) -> None:
    """Raise before anything is computed if reading or writing is bound to fail."""
    check_source(args.input)
    targets = [
        ("-o/--output", args.output, ANNDATA_SUFFIXES),
        ("--table", args.table, tuple(SEPARATORS)),
        ("--figure", args.figure, FIGURE_SUFFIXES),
    ]
    check_targets(targets, overwrite=args.overwrite)


def _write(adata: AnnData, diagnosis: Diagnosis, args: argparse.Namespace) -> None:
    """Write both small files or none, and the data."""
    outputs = {
        path: what for path, what in ((args.table, "the clusters"), (args.figure, "their picture")) if path is not None
    }
    with replace_atomically(*outputs) as beside:
        for new in beside:
            if new.suffix in SEPARATORS:
                diagnosis.states.to_csv(new, sep=SEPARATORS[new.suffix])
            else:
                from scbatchnorm import pl

                pl.change(adata).savefig(new, dpi=200)
    if args.output is not None:
        write_anndata(adata, args.output)
        outputs[args.output] = "the data with the findings"
    for path, what in outputs.items():
        print(f"wrote {path}: {what}")
