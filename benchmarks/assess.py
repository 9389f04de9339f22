"""Verdicts of pp.assess: none on one experiment split at random, correct on real batches, confounded where it is so.

python -m benchmarks.assess FILE.h5ad ...
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks import null, report
from benchmarks.options import Parser, write
from benchmarks.scoring import prepare_counts

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from anndata import AnnData

_COPY = "copy_of_the_batch"
_KINDS = ("whole", *null.SPLITS)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("assess", __doc__)
    parser.add_files()
    null.add_keep(parser)
    parser.add_choice("--kinds", _KINDS, "whole: all batches; else splits of one")
    parser.add_number("--runs", 100, "random splits of each kind")
    parser.add_number("--seeds", 5, "seeds on the whole data")
    parser.add_argument("--no-strength", dest="strength", action="store_false", help="without pp.integrate's strength")
    parser.add_output("assess")
    return parser.parse(arguments)


def assessed(adata: AnnData, batch_key: str, seed: int, **options: Any) -> dict[str, Any]:
    """One row: the verdict and the numbers behind it."""
    import scbatchnorm as sbn

    start = time.process_time()
    found = sbn.pp.assess(adata, batch_key, rng=seed, **options)
    seconds = time.process_time() - start
    effects = found.effects
    judged = len(effects) > 0
    return {
        "seed": seed,
        "verdict": found.verdict,
        "effect": np.average(effects["effect"], weights=effects["cells"]) if judged else np.nan,
        "largest": effects["effect"].max() if judged else np.nan,
        "groups": len(effects),
        "significant": int((effects["p_adjusted"] < 0.01).sum()),
        "seconds": seconds,
    }


def strength(adata: AnnData, batch_key: str, seed: int) -> float:
    """What strength="auto" chooses; the network is not trained."""
    import scbatchnorm as sbn

    work = adata.copy()
    sbn.pp.integrate(work, batch_key, model=sbn.BatchNormAutoencoder(max_steps=1, rng=seed, progress=False))
    return float(work.uns["scbatchnorm"]["strength"]["value"])


def of_whole(path: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All batches: with clusters, with labels, and with a covariate that is a copy of the batch."""
    adata = prepare_counts(ad.read_h5ad(path), batch_key=options.batch_key)
    adata.obs[_COPY] = adata.obs[options.batch_key].to_numpy()
    ways = {
        "clusters": {},
        "labels": {"label_key": options.label_key},
        "batch as covariate": {"covariate_keys": [_COPY]},
    }
    rows = []
    for seed in range(options.seeds):
        chosen = strength(adata, options.batch_key, seed) if options.strength else np.nan
        for way, more in ways.items():
            row = assessed(adata, options.batch_key, seed, **more)
            rows.append({"data": path.stem, "kind": "whole", "groups by": way, "strength": chosen, **row})
    return rows


def of_split(counts: AnnData, kind: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One experiment in two made-up batches: with clusters and with labels."""
    adata = null.two_halves(counts, kind, seed, options.label_key)
    chosen = strength(adata, null.HALF, seed) if options.strength else np.nan
    ways = {"clusters": {}, "labels": {"label_key": options.label_key}}
    return [
        {"kind": kind, "groups by": way, "strength": chosen, **assessed(adata, null.HALF, seed, **more)}
        for way, more in ways.items()
    ]


def summary(table: pd.DataFrame) -> str:
    """Markdown: one row for each data set, kind and way."""
    rows = {}
    for (data, kind, way), group in table.groupby(["data", "kind", "groups by"], sort=False):
        counts = group["verdict"].value_counts()
        corrected = (group["strength"] > 0).where(group["strength"].notna())
        agree = ((group["verdict"] != "none") == (corrected == True)).where(corrected.notna())  # noqa: E712
        rows[f"{data}, {kind}, {way}"] = {
            "runs": str(len(group)),
            **{verdict: str(counts.get(verdict, 0)) for verdict in ("none", "correct", "confounded")},
            "mean effect": report.mean_sd(group["effect"]),
            "largest effect": f"{group['largest'].max():.3f}",
            "strength > 0": "-" if corrected.isna().all() else f"{int(corrected.sum())}",
            "agrees": "-" if agree.isna().all() else f"{int(agree.sum())}",
            "CPU s": report.mean_sd(group["seconds"], digits=1),
        }
    shown = report.markdown(pd.DataFrame.from_dict(rows, orient="index"), index_name="data, kind, groups")
    return f"# Verdicts of pp.assess\n\n{report.environment(['scbatchnorm'])}.\n\n{shown}\n"


def main(arguments: list[str] | None = None) -> int:
    """Assess the data sets as they are, and one batch of each, split."""
    options = parse(arguments)
    rows: list[dict[str, Any]] = []
    for path in options.files:
        if "whole" in options.kinds:
            rows += of_whole(path, options)
            print(f"{path.stem}, whole, done", file=sys.stderr, flush=True)
        counts = null.one_experiment(path, options)
        for kind in [kind for kind in options.kinds if kind != "whole"]:
            for seed in range(options.runs):
                rows += [{"data": path.stem, **row} for row in of_split(counts, kind, seed, options)]
            print(f"{path.stem}, {kind}, done", file=sys.stderr, flush=True)
        table = pd.DataFrame(rows)
        text = summary(table)
        write(options, "assess", table, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
