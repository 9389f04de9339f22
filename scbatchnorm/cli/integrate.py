"""`scbatchnorm integrate`: pp.integrate on files."""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scbatchnorm import _atomic
from scbatchnorm.cli import _files, _options

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

HELP = "write a harmonised embedding into an .h5ad or .zarr file"
DESCRIPTION = "Write a harmonised embedding, obsm['X_scbatchnorm'], into a copy of an AnnData file."
_N_TOP_GENES = 2000


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is integrated, how, and where it is written."""
    parser.add_argument("input", type=Path, help="file with log-normalised expression, .h5ad or .zarr")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .h5ad or .zarr")
    _options.add_batch_key(parser)
    parser.add_argument("--layer", help="layer to use instead of X")
    parser.add_argument("--use-rep", metavar="KEY", help="representation in obsm to use instead of expression")
    parser.add_argument(
        "--normalize", action="store_true",
        help=f"the input is counts: log-normalise it (counts are kept as a layer) and choose {_N_TOP_GENES} variable genes",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=_strength, default="auto", metavar="S",
        help="how much is corrected, 0 to 1 (default: auto, by the data), or several with commas: see pp.integrate",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="torch device, such as cpu or cuda (default: %(default)s)")
    parser.add_argument("--key-added", metavar="KEY", help="write to obsm[KEY], varm[KEY] and uns[KEY]")
    parser.add_argument(
        "--save-model", type=Path, metavar="FILE", help="write the fitted model as well, such as model.safetensors"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE",
        help="file to note progress in: the same command goes on from there if it was killed; needs a single --strength",
    )  # fmt: skip
    _options.add_overwrite(parser)


def run(args: argparse.Namespace) -> int:
    """Integrate what is in the file, and write it with the embedding."""
    _files.check_source(args.input)
    _files.check_target("-o/--output", args.output, _files.ANNDATA, overwrite=args.overwrite)
    if args.normalize and args.use_rep is not None:
        msg = "--normalize and --use-rep exclude each other: a representation is not normalised."
        raise ValueError(msg)
    if args.save_model is not None:
        _atomic.check_target("--save-model", args.save_model, overwrite=args.overwrite, hint="--overwrite")
    start = time.perf_counter()
    from scbatchnorm import BatchNormAutoencoder, _anndata, pp

    how = _how(args)
    adata = _files.read(args.input)
    if args.normalize:
        _normalize(adata, args.batch_key, layer=args.layer)
    pp.integrate(
        adata,
        _options.one_or_all(args.batch_key),
        layer=None if args.normalize else args.layer,
        use_rep=args.use_rep,
        **how,
        key_added=args.key_added,
    )
    keys = _anndata.Keys.of(args.key_added)
    record = adata.uns[keys.uns]
    if record["stopped"] == "interrupted":
        # Training keeps what it has so far when interrupted; from here nobody can judge whether that is enough.
        raise KeyboardInterrupt(*[f"the same command goes on from {file}" for file in [args.checkpoint] if file])
    if args.save_model is not None:
        BatchNormAutoencoder.from_anndata(adata, key=keys.uns).save(args.save_model, overwrite=args.overwrite)
    _files.write(adata, args.output)
    n_cells, n_components = adata.obsm[keys.obsm].shape
    if args.save_model is not None:
        print(f"wrote {args.save_model}: the model")
    print(f"strength {record['strength']['value']:.2f}: {record['strength']['reason']}")
    print(
        f"wrote {args.output}: obsm[{keys.obsm!r}], {n_cells} cells x {n_components} components, "
        f"{len(record['batch_levels'])} batches, {time.perf_counter() - start:.0f} s"
    )
    return 0


def _how(args: argparse.Namespace) -> dict[str, Any]:
    """Parameters of the fit: on a model where there is a checkpoint, which is one of its parameters."""
    options = {"strength": args.strength, "rng": args.seed, "device": args.device}
    if args.checkpoint is None:
        return options
    if isinstance(args.strength, list):
        msg = "--checkpoint needs a single --strength; the path of several is not kept."
        raise ValueError(msg)
    from scbatchnorm import BatchNormAutoencoder

    return {"model": BatchNormAutoencoder(**options, checkpoint=args.checkpoint)}


def _normalize(adata: AnnData, batch_keys: list[str], *, layer: str | None) -> None:
    """Log-normalise counts into `X`, and choose variable genes batch by batch."""
    import numpy as np
    import pandas as pd
    import scanpy as sc

    from scbatchnorm import _anndata

    batch = _anndata.batches(adata, batch_keys)
    if layer is not None and layer not in adata.layers:
        msg = f"layer={layer!r} is not a key of adata.layers; keys: {', '.join(filter(None, adata.layers)) or 'none'}."
        raise KeyError(msg)
    counts = adata.X if layer is None else adata.layers[layer]
    values = counts.data if hasattr(counts, "tocsr") else np.asarray(counts)
    if not np.array_equal(values, np.rint(values)) or (values < 0).any():
        where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
        msg = f"--normalize needs counts, whole numbers that are not negative; {where} holds others. Leave it out if they are log-normalised."
        raise ValueError(msg)
    adata.layers.setdefault("counts", counts.copy())
    adata.X = counts.astype(np.float32)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    n_top_genes = min(_N_TOP_GENES, adata.n_vars)
    # Chosen on a bare copy: several columns make one batch here, which is no column of the user's.
    bare = sc.AnnData(
        adata.X, obs=pd.DataFrame({"batch": pd.Categorical(batch)}, index=adata.obs_names), var=adata.var[[]]
    )
    with warnings.catch_warnings():
        # Where a batch has fewer expressed genes than asked for, all of them are taken.
        warnings.filterwarnings("ignore", message="`n_top_genes`")
        chosen = sc.pp.highly_variable_genes(bare, n_top_genes=n_top_genes, batch_key="batch", inplace=False)
    adata.var["highly_variable"] = chosen["highly_variable"].to_numpy()
    logger.info("log-normalised, %d variable genes chosen", int(adata.var["highly_variable"].sum()))


def _strength(text: str) -> float | list[float] | str:
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
