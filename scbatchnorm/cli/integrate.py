"""`scbatchnorm integrate`: pp.integrate on files."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from scbatchnorm._runtime.atomic_files import check_output_path
from scbatchnorm.cli._files import ANNDATA_SUFFIXES, check_apart, check_source, check_target, report_damage
from scbatchnorm.cli._normalize import N_TOP_GENES, log_normalise
from scbatchnorm.cli._options import (
    add_batch_key,
    add_input,
    add_layer,
    add_lazy,
    add_output,
    add_overwrite,
    add_seed,
    one_or_all,
)
from scbatchnorm.cli._source import Source, connect_cluster, read_source

HELP = "write a harmonised embedding into an .h5ad or .zarr file"
DESCRIPTION = "Write a harmonised embedding, obsm['X_scbatchnorm'], into a copy of an AnnData file."
# Options that exclude each other, and why.
_EXCLUSIVE = (
    ("--normalize", "--use-rep", "a representation is not normalised"),
    ("--scheduler", "--no-lazy", "what is in memory is not read by model_parameters"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Input, parameters of the integration, and output."""
    add_input(parser, "file with log-normalised expression")
    add_output(parser)
    add_batch_key(parser)
    add_layer(parser)
    parser.add_argument("--use-rep", metavar="KEY", help="representation in obsm to use instead of expression")
    parser.add_argument(
        "--normalize", action="store_true",
        help=f"the input is counts: log-normalise it (counts are kept as a layer) and choose {N_TOP_GENES} variable genes",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=_parse_strength, default="auto", metavar="S",
        help="how much is corrected, 0 to 1 (default: auto, by the data), or several with commas: see pp.integrate",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument("--device", default="auto", help="torch device, such as cpu or cuda (default: %(default)s)")
    parser.add_argument("--key-added", metavar="KEY", help="write to obsm[KEY], varm[KEY] and uns[KEY]")
    parser.add_argument(
        "--save-model", type=Path, metavar="FILE", help="write the fitted model as well, such as model.safetensors"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="file to note progress in: the same command goes on from there if it was killed; needs a single --strength",
    )  # fmt: skip
    parser.add_argument(
        "--max-cells-fit", type=int, metavar="N",
        help="cells that the network learns from, of more a sketch (default: see BatchNormAutoencoder)",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers read the blocks, such as tcp://host:8786"
    )
    add_lazy(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Integrate the cells of the file, and write the file with the embedding."""
    check_source(args.input)
    check_target("-o/--output", args.output, ANNDATA_SUFFIXES, overwrite=args.overwrite)
    check_apart(args.input, args.output)
    _check_options(args)
    if args.save_model is not None:
        check_output_path("--save-model", args.save_model, overwrite=args.overwrite, hint="--overwrite")
    start = time.perf_counter()
    from scbatchnorm import BatchNormAutoencoder, pp
    from scbatchnorm._data.adata import Keys

    fit_parameters = _fit_parameters(args)
    with connect_cluster(args.scheduler):
        source = _read_input(args)
        adata = source.adata
        with report_damage(args.input):
            pp.integrate(
                adata,
                one_or_all(args.batch_key),
                layer=None if args.normalize else args.layer,
                use_rep=args.use_rep,
                **fit_parameters,
                key_added=args.key_added,
            )
    keys = Keys.of(args.key_added)
    record = adata.uns[keys.uns]
    if record["stopped"] == "interrupted":
        # An interrupted training keeps its weights, but here nobody can judge whether they are good enough.
        raise KeyboardInterrupt(*[f"the same command goes on from {file}" for file in [args.checkpoint] if file])
    if args.save_model is not None:
        BatchNormAutoencoder.from_anndata(adata, key=keys.uns).save(args.save_model, overwrite=args.overwrite)
    loadings = {} if args.use_rep is not None else {"varm": [keys.varm]}
    source.write(args.output, {"obsm": [keys.obsm], **loadings, "uns": [keys.uns]})
    n_cells, n_components = adata.obsm[keys.obsm].shape
    if args.save_model is not None:
        print(f"wrote {args.save_model}: the model")
    print(f"strength {record['strength']['value']:.2f}: {record['strength']['reason']}")
    print(
        f"wrote {args.output}: obsm[{keys.obsm!r}], {n_cells} cells x {n_components} components, "
        f"{len(record['batch_levels'])} batches, {time.perf_counter() - start:.0f} s"
    )
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Raise if options exclude each other."""
    given = {"--use-rep": args.use_rep is not None, "--lazy": args.lazy, "--no-lazy": args.lazy is False}
    given |= {"--normalize": args.normalize, "--scheduler": args.scheduler is not None}
    for one, other, reason in _EXCLUSIVE:
        if given[one] and given[other]:
            msg = f"{one} and {other} exclude each other: {reason}."
            raise ValueError(msg)
    several = isinstance(args.strength, list)
    if several and args.checkpoint is not None:
        msg = "--checkpoint needs a single --strength; the path of several is not kept."
        raise ValueError(msg)
    if several and args.max_cells_fit is not None:
        msg = "--max-cells-fit needs a single --strength."
        raise ValueError(msg)


def _fit_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Parameters of the fit for pp.integrate; as a model if some are parameters of the model only."""
    options = {"strength": args.strength, "rng": args.seed, "device": args.device}
    model_parameters = {"checkpoint": args.checkpoint, "max_cells_fit": args.max_cells_fit}
    given = {name: value for name, value in model_parameters.items() if value is not None}
    if not given:
        return options
    from scbatchnorm import BatchNormAutoencoder

    return {"model": BatchNormAutoencoder(**options, **given)}


def _read_input(args: argparse.Namespace) -> Source:
    """Read the input, in blocks if a cluster reads them, and log-normalise it if asked to."""
    source = read_source(
        args.input,
        args.output,
        lazy=True if args.scheduler is not None else args.lazy,
        batch_keys=args.batch_key,
        layer=args.layer,
        use_rep=args.use_rep,
        whole=args.normalize,
    )
    if args.normalize:
        log_normalise(source, args.batch_key, layer=args.layer)
    return source


def _parse_strength(text: str) -> float | list[float] | str:
    if text == "auto":
        return text
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 <= value <= 1 for value in values):
        msg = f"must be auto, a number from 0 to 1, or several of them with commas; got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return values[0] if len(values) == 1 else values
