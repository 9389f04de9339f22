"""AnnData and arguments that nobody expects, through `pp.integrate`: a clear error and unchanged data, or a finite result.

python -m benchmarks.fuzz.inputs --inputs 2000
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.fuzz import annotated, counts, examples, isolated, values
from scbatchnorm import TrainingDivergedError, pp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.fuzz.isolated import Case

RESULT, REFUSED = "finite result", "refused"
NOT_FINITE, CHANGED, UNCLEAR = "NOT FINITE", "CHANGED", "UNCLEAR ERROR"
GOOD = frozenset({RESULT, REFUSED})
# What a message has to name: a parameter of the function or of the estimator, or a slot.
_NAMED = re.compile(
    r"adata|batch_key|layer|use_rep|mask_var|\bmodel\b|strength|\brng\b|device|key_added|progress|\bcopy\b|learning_rate|BatchNormAutoencoder"
)
_PARAMETERS = "arguments: estimator"
_OF_ESTIMATOR = sorted(set(examples.brief().get_params()) - {"checkpoint"})
_WORDS = [
    "batch",
    "donor",
    "log",
    "X_pca",
    "highly_variable",
    "X_scbatchnorm",
    "pca",
    "",
    ".",
    "a/b",
    "x",
    "auto",
    "cpu",
]
_ODD = [
    *_WORDS, None, True, False, 0, 1, -1, 3, 2**70, 0.5, 2.0, float("nan"), float("inf"), b"batch", [], (), {}, ["batch", "donor"], ["batch", 3],
    ("batch",), {"batch"}, [["batch"]], np.str_("batch"), np.array(["batch"]), np.array("batch"), np.float32(0.5), np.int64(3), np.bool_(1),
    np.zeros((2, 2)), pd.Index(["batch"]), pd.Series([True] * 30), [True] * 30, [True] * 29, [0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0, 2],
    np.arange(30) % 2 == 0, object(), object, print, pathlib.Path("x"), "cuda:99", "meta", "gpu", ["a"] * 30, "x" * 10_000, 1j, "\ud800",
    np.random.default_rng(0), np.datetime64("2020"), pd.NA, range(2), "batch\x00", slice(None), ..., np.array([True, "x"] * 15, dtype=object),
]  # fmt: skip
_ARGUMENTS = [
    "batch_key",
    "layer",
    "use_rep",
    "mask_var",
    "strength",
    "rng",
    "device",
    "key_added",
    "progress",
    "copy",
    "model",
]


class Inputs:
    """Integrates changed data."""

    kinds = [*annotated.CHANGES, "two changes", "arguments", _PARAMETERS, "no AnnData"]

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def kind(self, number: int) -> str:
        """What is done in this case."""
        return self.kinds[number % len(self.kinds)]

    def made(self, number: int) -> tuple[Any, dict[str, Any]]:
        """Data and arguments of a case."""
        rng, kind = np.random.default_rng([self.seed, number]), self.kind(number)
        adata: Any = annotated.base()
        names = [kind] if kind in annotated.CHANGES else []
        if kind == "two changes":
            names = rng.choice(list(annotated.CHANGES), 2, replace=False).tolist()
        for name in sorted(names, key=list(annotated.CHANGES).index):
            adata = annotated.CHANGES[name](adata, rng) or adata
        strength = "auto" if rng.random() < 0.3 else 1.0
        arguments: dict[str, Any] = {"batch_key": "batch", "model": examples.brief(strength=strength)}
        if rng.random() < 0.3:
            arguments |= {"copy": True}
        if kind == "obsm" or rng.random() < 0.1:
            arguments |= {"use_rep": "X_pca"}
        elif rng.random() < 0.2:
            arguments |= {"layer": "log"}
        if rng.random() < 0.2:
            arguments |= {"batch_key": ["batch", "donor"]}
        if kind == "arguments":
            for name in rng.choice(_ARGUMENTS, int(rng.integers(1, 3)), replace=False):
                arguments[name] = _ODD[int(rng.integers(len(_ODD)))]
            if {"strength", "rng", "device", "progress"} & arguments.keys():
                del arguments["model"]
        if kind == _PARAMETERS:
            name = str(rng.choice(_OF_ESTIMATOR))
            value = _ODD[int(rng.integers(len(_ODD)))] if rng.random() < 0.5 else values.any_value(rng)
            arguments["model"] = examples.brief(**{name: value})
        if kind == "no AnnData":
            others = [
                None,
                adata.X,
                adata.to_df(),
                {},
                "data.h5ad",
                adata.obs,
                [adata],
                ad.AnnData,
                object(),
                3,
                adata.raw,
                ad.AnnData(),
            ]
            adata = others[int(rng.integers(len(others)))]
        return adata, arguments

    def __call__(self, number: int) -> tuple[str, str]:
        """Outcome and detail."""
        adata, arguments = self.made(number)
        before = contents(adata)
        try:
            result = pp.integrate(adata, **arguments)
        except (ValueError, KeyError, TypeError, TrainingDivergedError) as error:
            changed = [name for name, value in contents(adata).items() if before.get(name) != value]
            if changed:
                return CHANGED, f"{', '.join(changed)} after {isolated.described(error)}"
            named = _NAMED.search(str(error)) or (arguments.get("copy") is True and _cannot_be_copied(adata))
            return (REFUSED if named else UNCLEAR), isolated.described(error)
        key = arguments.get("key_added")
        slots = {f"obsm {key or 'X_scbatchnorm'}", f"varm {key or 'scbatchnorm'}", f"uns {key or 'scbatchnorm'}"}
        if result is not None:
            slots = set()
        after = contents(adata)
        if changed := [name for name in before if name not in slots and before[name] != after.get(name)]:
            return CHANGED, ", ".join(changed)
        if more := after.keys() - before.keys() - slots:
            return CHANGED, f"new: {', '.join(more)}"
        embedding = (adata if result is None else result).obsm[key or "X_scbatchnorm"]
        if embedding.dtype != np.float32 or len(embedding) != adata.n_obs or not np.isfinite(embedding).all():
            return NOT_FINITE, f"{embedding.dtype} of shape {embedding.shape}"
        return RESULT, ""


def _cannot_be_copied(adata: Any) -> bool:
    """Whether a slot that nothing is computed with is so broken that AnnData itself fails."""
    try:
        adata.copy()
    except (ValueError, AttributeError):
        return isinstance(adata, ad.AnnData)
    return False


def contents(adata: Any) -> dict[str, str]:
    """Hashes of everything in `adata`, by name."""
    if not isinstance(adata, ad.AnnData):
        return {}
    found = {"X": _hash(adata.X), "obs": _hash(adata.obs), "var": _hash(adata.var)}
    for slot in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
        found |= {f"{slot} {key}": _hash(value) for key, value in getattr(adata, slot).items() if key is not None}
    return found


def _hash(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part if isinstance(part, bytes) else repr(part).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def _parts(value: Any) -> Iterable[Any]:
    """Bytes and words that make a value what it is."""
    if sparse.issparse(value):
        yield from (value.format, value.shape, value.dtype.str)
        arrays = [vars(value).get(name) for name in ("data", "indices", "indptr")]
        for array in arrays if value.format in {"csr", "csc"} else [value.toarray()]:
            yield from _parts(array)
    elif isinstance(value, np.ndarray) and value.dtype != object:  # or a view of one, which may become an array
        yield from (value.dtype.str, value.shape, value.tobytes())
    elif isinstance(value, np.ndarray):
        for entry in value.ravel():
            yield from _parts(entry)
    elif isinstance(value, pd.DataFrame):
        yield from (value.index.tolist(), str(value.index.name), [str(dtype) for dtype in value.dtypes])
        for i, name in enumerate(value.columns):
            yield name
            yield from _parts(value.iloc[:, i].to_numpy())
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from _parts(entry)
    else:
        yield from (type(value).__name__, value)


def messages(cases: list[Case]) -> str:
    """All messages of refusals by what was done, those that differ in numbers only as one."""
    found: Counter[tuple[str, str]] = Counter()
    for case in cases:
        if case.outcome != RESULT:
            found[case.kind, re.sub(r"0x[0-9a-f]+|\d+", "#", case.detail)] += 1
    return "\n".join(f"* {kind} ({n}): {text}" for (kind, text), n in sorted(found.items()))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz.inputs", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000, help="changed inputs (default: 2000)")
    parser.add_argument("--messages", action="store_true", help="list all messages")
    counts.add_seed(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Try all; exit status 1 if anything came of it that is not promised."""
    options = parse(arguments)
    cases = isolated.judged(Inputs, (options.seed,), range(options.inputs))
    text, wrong, collected = counts.told("Inputs", cases, GOOD)
    print(text)
    if options.messages:
        print(messages(collected))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
