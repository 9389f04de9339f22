"""Whether tl.diagnose sees what went too far, and nothing where nothing did.

Of each data set, with each seed: integrations as they are, which should not be flagged; and the same with a planted
fault, which should. Cell types are known here, and only used to plant and to judge.

python -m benchmarks.diagnose FILE.h5ad ... --seeds 3
"""

from __future__ import annotations

import itertools
import sys
import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.null import HALF, add_keep, one_experiment, two_halves
from benchmarks.options import Parser, write
from benchmarks.scoring import prepare
from scbatchnorm import tl

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

    from scbatchnorm.tl._diagnosis.result import Diagnosis

_REP = "X_judged"
_FORCED = {True: "far too strong, types mixed", False: "far too strong, types apart"}
# Twice the cells that a state has to have: those of a planted type where it is planted.
_LEAST = 30
# Share of a type that has to be in states of its own name, and mixing from which types count as mixed.
_MOST = 0.5
_NEIGHBORS = 15


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = Parser("diagnose", __doc__)
    parser.add_files()
    parser.add_number("--seeds", 3, "seeds of everything random")
    parser.add_number("--force", 1, "seeds of integrations made too strong")
    add_keep(parser)
    parser.add_output("diagnose")
    return parser.parse(arguments)


class Cells:
    """A prepared data set with the names of its batches and types as arrays."""

    def __init__(self, adata: AnnData, batch_key: str, label_key: str) -> None:
        self.adata, self.batch_key = adata, batch_key
        self.batch, self.label = (adata.obs[key].astype(str).to_numpy() for key in (batch_key, label_key))
        self.pca = np.asarray(adata.obsm["X_pca"])

    def count(self, label: str, batch: str) -> int:
        """Cells of a type in a batch."""
        return int(((self.label == label) & (self.batch == batch)).sum())

    def centre(self, points: np.ndarray, label: str, batch: str | None = None) -> np.ndarray:
        """Mean of a type, in a batch or in all."""
        inside = self.label == label
        return points[inside & (self.batch == batch) if batch else inside].mean(axis=0)

    def judge(self, points: np.ndarray, keep: np.ndarray, seed: int) -> tuple[Diagnosis, pd.DataFrame]:
        """What diagnose says of an embedding of some of the cells, and the table of these."""
        part = ad.AnnData(obs=self.adata.obs[keep].copy(), obsm={"X_pca": self.pca[keep], _REP: points[keep]})
        part.obs["type"] = self.label[keep]
        return tl.diagnose(part, self.batch_key, label_key="type", use_rep=_REP, rng=seed), part.obs

    def related(self, label: str, batch: str, among: list[str]) -> str:
        """The type whose centre in a batch is nearest."""
        own = self.centre(self.pca, label, batch)
        return min(among, key=lambda other: float(np.linalg.norm(self.centre(self.pca, other, batch) - own)))

    def planted(self) -> Iterator[tuple[str, str, str]]:
        """Each type, the batch in which it has most cells, and the type there that is nearest to it."""
        for label in sorted(set(self.label)):
            batch = max(sorted(set(self.batch)), key=lambda level: self.count(label, level))
            others = [t for t in sorted(set(self.label)) if t != label and self.count(t, batch) >= _LEAST]
            if self.count(label, batch) >= _LEAST and others:
                yield label, batch, self.related(label, batch, others)


def row(case: str, what: str, judged: tuple[Diagnosis, pd.DataFrame], *, types: tuple[str, ...] = ()) -> dict[str, Any]:
    """One judgement, whether it names a state of each of the `types`, and whether these have states of their own."""
    found, cells = judged
    pairs = pd.concat([found.merged[found.merged["merged"]], found.private[found.private["pulled"]]])
    label = found.states["label"]
    named = {
        frozenset((label[first], label[second])) for first, second in zip(pairs["first"], pairs["second"], strict=True)
    }
    right = cells["type"].to_numpy() == label.loc[cells["diagnose_state"]].to_numpy()
    own = all(right[(cells["type"] == each).to_numpy()].mean() >= _MOST for each in types)
    return {
        "case": case,
        "what": what,
        "visible": own,
        "flagged": found.flagged,
        "named": frozenset(types) in named if types else False,
        "verdict": found.verdict,
    }


def shifted(cells: Cells, points: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """A type private to one batch, moved onto the centre of another type there, or of one that only others have."""
    for label, batch, target in cells.planted():
        private = (cells.label != label) | (cells.batch == batch)
        moved = points.copy()
        moved[cells.label == label] += cells.centre(points, target, batch) - cells.centre(points, label, batch)
        what, types = f"{label} onto {target}", (label, target)
        yield row("private type onto another", what, cells.judge(moved, private, seed), types=types)
        apart = private & ((cells.label != target) | (cells.batch != batch))
        yield row("private type onto a private type", what, cells.judge(moved, apart, seed), types=types)
        yield row("private types on both sides, left alone", what, cells.judge(points, apart, seed))


def merged(cells: Cells, points: np.ndarray, seed: int) -> Iterator[dict[str, Any]]:
    """Two related types brought together in every batch."""
    done = set()
    for label, _, target in cells.planted():
        if (pair := frozenset((label, target))) in done:
            continue
        done.add(pair)
        moved = points.copy()
        for level in set(cells.batch):
            if cells.count(label, level) and cells.count(target, level):
                way = cells.centre(points, target, level) - cells.centre(points, label, level)
                moved[(cells.label == label) & (cells.batch == level)] += way
        judged = cells.judge(moved, np.ones(len(points), dtype=bool), seed)
        yield row("two types merged everywhere", f"{label} and {target}", judged, types=(label, target))


def forced(cells: Cells, seed: int) -> Iterator[dict[str, Any]]:
    """A type private to one batch, in an integration that is far too strong; not all put it onto another type."""
    import scbatchnorm as sbn

    for label, batch, target in cells.planted():
        keep = (cells.label != label) | (cells.batch == batch)
        part = cells.adata[keep].copy()
        model = sbn.BatchNormAutoencoder(
            strength=1.0, adversary_weight=30.0, anchor_weight=10.0, rng=seed, progress=False
        )
        sbn.pp.integrate(part, cells.batch_key, model=model)
        points = np.zeros((len(keep), part.obsm["X_scbatchnorm"].shape[1]), dtype=np.float32)
        points[keep] = part.obsm["X_scbatchnorm"]
        inside = keep & (cells.batch == batch) & np.isin(cells.label, [label, target])
        happened = mixed(points[inside], cells.label[inside] == target) > _MOST
        judged = cells.judge(points, keep, seed)
        yield row(_FORCED[happened], f"{label}, {target}", judged, types=(label, target))


def mixed(points: np.ndarray, second: np.ndarray) -> float:
    """How far two groups of cells lie within each other, by their true types: 0 apart, 1 as if they had been shuffled."""
    n_neighbors = min(_NEIGHBORS, (len(points) - 1) // 2)
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(return_distance=False)
    other = (second[near] != second[:, None]).mean(axis=1)
    share = [other[second == group].mean() / (second != group).mean() for group in (False, True)]
    return float(np.mean(share))


def null(path: Path, options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """One batch split at random, with a type private to each half: nothing done, and our default."""
    adata = two_halves(one_experiment(path, options), "a type removed from each", seed, options.label_key)
    cells = Cells(adata, HALF, options.label_key)
    everything = np.ones(adata.n_obs, dtype=bool)
    yield row("null split, nothing done", "", cells.judge(cells.pca, everything, seed))
    yield row("null split, default", "", cells.judge(METHODS["scbatchnorm"].embed(adata, HALF, seed), everything, seed))


def run(path: Path, options: argparse.Namespace, seed: int, *, force: bool) -> Iterator[dict[str, Any]]:
    """All cases of a data set, or those of integrations that are too strong."""
    cells = Cells(prepare(path, batch_key=options.batch_key), options.batch_key, options.label_key)
    if force:
        yield from forced(cells, seed)
        return
    everything = np.ones(cells.adata.n_obs, dtype=bool)
    points = METHODS["scbatchnorm"].embed(cells.adata, options.batch_key, seed)
    yield row("default", "", cells.judge(points, everything, seed))
    harmony = METHODS["harmony"].embed(cells.adata, options.batch_key, seed)
    yield row("Harmony", "", cells.judge(np.asarray(harmony, dtype=np.float32), everything, seed))
    yield from null(path, options, seed)
    yield from shifted(cells, points, seed)
    yield from merged(cells, points, seed)


def summary(table: pd.DataFrame) -> str:
    """Markdown: share flagged of each case, by data set and in all."""
    lines = {}
    for case, group in table.groupby("case", sort=False):
        seen = group[group["visible"]]
        lines[case] = {
            "flagged": _share(group["flagged"]),
            "of the visible": _share(seen["flagged"]),
            "named": _share(seen["named"]),
        }
        lines[case] |= {str(name): _share(part["flagged"]) for name, part in seen.groupby("dataset", sort=False)}
    shown = report.markdown(pd.DataFrame.from_dict(lines, orient="index").fillna("-"), index_name="case")
    return f"# Diagnosis\n\n{report.environment(['scbatchnorm'])}.\n\n{shown}\n"


def _share(values: pd.Series) -> str:
    return f"{int(values.sum())}/{len(values)}" if len(values) else "-"


def main(arguments: list[str] | None = None) -> int:
    """Run all cases, write the tables."""
    options = parse(arguments)
    rows = []
    turns = [(False, seed) for seed in range(options.seeds)] + [(True, seed) for seed in range(options.force)]
    for (force, seed), path in itertools.product(turns, options.files):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows += [{"dataset": path.stem, "seed": seed} | found for found in run(path, options, seed, force=force)]
        table = pd.DataFrame(rows)
        text = summary(table)
        write(options, "diagnose", table, text)
        print(f"{'too strong, ' if force else ''}seed {seed}, {path.stem} done", file=sys.stderr, flush=True)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
