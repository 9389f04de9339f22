"""The command line: each command is a thin layer over a function of the package.

Heavy imports are inside the commands, so that help and wrong options answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import shutil
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)

_USER_ERROR, _INTERRUPTED = 2, 130
_FORMATS = (".h5ad", ".zarr")
_N_TOP_GENES = 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        with _logging_to_stderr(verbose=args.verbose):
            return args.run(args)
    except KeyboardInterrupt:
        print("scbatchnorm: interrupted, nothing was written", file=sys.stderr)
        return _INTERRUPTED
    except (KeyError, ValueError, OSError, ImportError) as error:
        # str() of a KeyError is the repr of its message.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"scbatchnorm: error: {text}", file=sys.stderr)
        return _USER_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scbatchnorm",
        description="Correct batch effects in single-cell data.",
        epilog="'scbatchnorm COMMAND --help' explains a command. To see it work: scbatchnorm demo",
    )
    parser.add_argument("--version", action="version", version=f"scbatchnorm {version('scbatchnorm')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo", help="real cells with planted batch effects: scores and pictures, in under a minute"
    )
    demo.add_argument("-o", "--output", type=Path, default=Path("demo-output"), help="folder (default: %(default)s)")
    demo.set_defaults(run=_demo)

    integrate = commands.add_parser(
        "integrate",
        help="write a harmonised embedding into an .h5ad or .zarr file",
        description="Write a harmonised embedding, obsm['X_scbatchnorm'], into a copy of an AnnData file.",
    )
    _add_integrate_options(integrate)
    integrate.set_defaults(run=_integrate)
    for command in (demo, integrate):
        command.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    return parser


def _add_integrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="file with log-normalised expression, .h5ad or .zarr")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .h5ad or .zarr")
    parser.add_argument(
        "--batch-key", action="append", required=True, metavar="COLUMN",
        help="column of obs with the batch; give it again to combine columns",
    )  # fmt: skip
    parser.add_argument("--layer", help="layer to use instead of X")
    parser.add_argument("--use-rep", metavar="KEY", help="representation in obsm to use instead of expression")
    parser.add_argument(
        "--normalize", action="store_true",
        help=f"the input is counts: log-normalise it (counts are kept as a layer) and choose {_N_TOP_GENES} variable genes",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=_strength, default="auto", metavar="S",
        help="how much is corrected, 0 to 1 (default: auto, by the data)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="torch device, such as cpu or cuda (default: %(default)s)")
    parser.add_argument("--key-added", metavar="KEY", help="write to obsm[KEY], varm[KEY] and uns[KEY]")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def _strength(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        msg = f"must be auto or a number from 0 to 1; got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _demo(args: argparse.Namespace) -> int:
    if args.output.exists() and not args.output.is_dir():
        msg = f"-o/--output must be a folder; {args.output} is a file."
        raise ValueError(msg)
    start = time.perf_counter()
    print("700 blood cells dealt out to three protocols with planted batch effects ...", flush=True)
    from scbatchnorm import _demo as demo  # seconds: scanpy and torch

    adata, scores = demo.integrate()
    files = demo.write(adata, args.output)
    strength = adata.uns["scbatchnorm"]["strength"]
    print(
        f"\nScores from 0 to 1, 1 is best (the first two: batches mixed; the next two: cell types kept):\n\n{_table(scores)}"
    )
    print(f"\nstrength {strength['value']:.2f}: {strength['reason']}\n")
    for path, what in files.items():
        print(f"wrote {path}: {what}")
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    return 0


def _table(scores: pd.DataFrame) -> str:
    formats = {name: "{:.1f}".format if name == "seconds" else "{:.3f}".format for name in scores.columns}
    return scores.to_string(formatters=formats)


def _integrate(args: argparse.Namespace) -> int:
    _check_paths(args.input, args.output, overwrite=args.overwrite)
    if args.normalize and args.use_rep is not None:
        msg = "--normalize and --use-rep exclude each other: a representation is not normalised."
        raise ValueError(msg)
    start = time.perf_counter()
    from scbatchnorm import _anndata, pp

    adata = _read(args.input)
    if args.normalize:
        _normalize(adata, args.batch_key, layer=args.layer)
    pp.integrate(
        adata,
        args.batch_key[0] if len(args.batch_key) == 1 else args.batch_key,
        layer=None if args.normalize else args.layer,
        use_rep=args.use_rep,
        strength=args.strength,
        rng=args.seed,
        device=args.device,
        key_added=args.key_added,
    )
    keys = _anndata.Keys.of(args.key_added)
    record = adata.uns[keys.uns]
    if record["stopped"] == "interrupted":
        # Training keeps what it has so far when interrupted; from here nobody can judge whether that is enough.
        raise KeyboardInterrupt
    _write(adata, args.output)
    n_cells, n_components = adata.obsm[keys.obsm].shape
    print(f"strength {record['strength']['value']:.2f}: {record['strength']['reason']}")
    print(
        f"wrote {args.output}: obsm[{keys.obsm!r}], {n_cells} cells x {n_components} components, "
        f"{len(record['batch_levels'])} batches, {time.perf_counter() - start:.0f} s"
    )
    return 0


def _check_paths(source: Path, target: Path, *, overwrite: bool) -> None:
    """Raise before anything is computed if reading or writing is bound to fail."""
    for name, path in {"input": source, "-o/--output": target}.items():
        if path.suffix not in _FORMATS:
            msg = f"{name} must end in {' or '.join(_FORMATS)}; got {path}."
            raise ValueError(msg)
    if not source.exists():
        msg = f"input does not exist: {source}."
        raise FileNotFoundError(msg)
    if not target.parent.is_dir():
        msg = f"the folder of -o/--output does not exist: {target.parent}."
        raise FileNotFoundError(msg)
    if target.exists() and not overwrite:
        msg = f"-o/--output exists already: {target}. Give --overwrite to replace it."
        raise FileExistsError(msg)


def _read(source: Path) -> AnnData:
    import anndata as ad

    try:
        return ad.read_zarr(source) if source.suffix == ".zarr" else ad.read_h5ad(source)
    except OSError as error:
        msg = f"input cannot be read: {source} ({error})."
        raise OSError(msg) from error


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


def _write(adata: AnnData, target: Path) -> None:
    """Write beside `target` first: whatever happens, an existing file is whole, the old or the new one."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        new = folder / target.name
        if target.suffix == ".zarr":
            adata.write_zarr(new)
            if target.exists():
                target.rename(folder / "old")
            new.rename(target)
        else:
            adata.write_h5ad(new)
            new.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _logging_to_stderr(*, verbose: bool) -> Iterator[None]:
    """The package's own messages, for the time of a command."""
    package = logging.getLogger("scbatchnorm")
    if not verbose:
        yield
        return
    handler, level = logging.StreamHandler(), package.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
