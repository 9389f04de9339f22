"""Whether the confidence intervals of metrics.evaluate are as wide as scores vary when other cells are sampled.

Of a large data set samples are drawn, and each is judged: how much the scores differ is what intervals should say. The
integration is done once, on all cells.

python -m benchmarks.intervals FILE.h5ad --cells 1500
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks import report
from benchmarks.methods import METHODS
from benchmarks.options import add_columns, add_output
from benchmarks.scoring import prepare
from scbatchnorm import metrics

if TYPE_CHECKING:
    from anndata import AnnData

_QUANTILE = 1.96


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE.h5ad", help="counts in X")
    parser.add_argument("--cells", type=int, default=1500, help="cells of each sample (default: 1500)")
    parser.add_argument("--samples", type=int, default=24, help="samples (default: 24)")
    add_columns(parser)
    add_output(parser, "intervals.csv and intervals.md")
    options = parser.parse_args(arguments)
    if not options.file.is_file():
        parser.error(f"no such file: {options.file}")
    return options


def sample(strata: pd.Series, n_cells: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of about `n_cells` cells, the same share of every stratum, at least one of each."""
    share = n_cells / len(strata)
    chosen = []
    for rows in strata.reset_index(drop=True).groupby(strata.to_numpy()).groups.values():
        size = max(1, int(len(rows) * share + rng.random()))
        chosen.append(rng.choice(np.asarray(rows), min(size, len(rows)), replace=False))
    return np.sort(np.concatenate(chosen))


def scores(adata: AnnData, options: argparse.Namespace) -> pd.DataFrame:
    """What evaluate says of each sample, a row each."""
    rng = np.random.default_rng(0)
    strata = adata.obs[options.batch_key].astype(str) + " | " + adata.obs[options.label_key].astype(str)
    rows = []
    for number in range(options.samples):
        part = adata[sample(strata, options.cells, rng)].copy()
        table = metrics.evaluate(
            part, "X_scbatchnorm", batch_key=options.batch_key, label_key=options.label_key, controls=False,
            rng=number, progress=False,
        )  # fmt: skip
        rows.append(table.drop(columns=["kind", "notes"]).iloc[0])
        print(f"sample {number + 1} of {options.samples}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows).reset_index(drop=True)


def compare(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Standard deviation over samples, as of an endless population, against that of the intervals."""
    titles = [title for title in rows if f"{title} low" in rows]
    # Samples of a share of all cells overlap, and so differ less.
    differ = rows[titles].std() / np.sqrt(1 - share)
    # One end may be cut off at 0 or 1, the other one is not.
    ends = [np.maximum(rows[f"{t} high"] - rows[t], rows[t] - rows[f"{t} low"]) for t in titles]
    said = pd.Series([np.sqrt(np.mean(np.square(end))) / _QUANTILE for end in ends], index=titles)
    return pd.DataFrame(
        {"mean": rows[titles].mean(), "sd of samples": differ, "sd by intervals": said, "ratio": said / differ}
    )


def main(arguments: list[str] | None = None) -> int:
    """Compare, and write the tables."""
    options = parse(arguments)
    adata = prepare(options.file, batch_key=options.batch_key)
    adata.obsm["X_scbatchnorm"] = METHODS["scbatchnorm"].embed(adata, options.batch_key, 0)
    rows = scores(adata, options)
    options.output.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.output / "intervals.csv", index=False, float_format="%.5f")
    table = compare(rows, options.cells / adata.n_obs)
    text = "\n\n".join([
        f"{options.file.stem}, {options.samples} samples of {options.cells} cells. {report.environment(['scbatchnorm'])}.",
        report.markdown(table.map("{:.4f}".format), index_name="metric"),
    ])  # fmt: skip
    (options.output / "intervals.md").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
