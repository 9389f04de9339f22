"""What folding normalisation into the linear layers saves at inference.

python -m benchmarks.folding
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from benchmarks import report
from scbatchnorm import BatchNormAutoencoder
from scbatchnorm.nn import Autoencoder, fold_batchnorm

if TYPE_CHECKING:
    from collections.abc import Callable

# Those whose frozen layers are linear.
NORMS = ("batch", "whitened")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folding", description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20_000, help="cells that pass the encoder (default: 20000)")
    parser.add_argument("--batches", type=int, default=8, help="batches (default: 8)")
    parser.add_argument("--repeats", type=int, default=20, help="runs of each, in turn (default: 20)")
    return parser.parse_args(arguments)


def seconds(function: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@torch.no_grad()
def compare(norm: str, options: argparse.Namespace) -> dict[str, str]:
    """Times of the encoder with and without its layers, one run after the other, and how far results differ."""
    model = BatchNormAutoencoder()
    torch.manual_seed(0)
    network = Autoencoder(model.n_latent, options.batches, n_hidden=model.n_hidden, n_layers=model.n_layers, norm=norm)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    x, codes = torch.randn(options.cells, model.n_latent), torch.randint(options.batches, (options.cells,))
    network(x, codes)  # statistics to fold
    network.eval()
    folded = fold_batchnorm(network)
    times = {"fold": [], "as trained": [], "folded": []}  # type: dict[str, list[float]]
    for _ in range(options.repeats):
        times["fold"].append(seconds(lambda: fold_batchnorm(network)))
        times["as trained"].append(seconds(lambda: network.encode(x, codes)))
        times["folded"].append(seconds(lambda: folded.encode(x, codes)))
    ratio = np.array(times["as trained"]) / np.array(times["folded"])
    row = {f"{name}, ms": f"{1e3 * np.median(values):.2f}" for name, values in times.items()}
    row["times as fast"] = f"{np.median(ratio):.2f} ({np.quantile(ratio, 0.1):.2f} to {np.quantile(ratio, 0.9):.2f})"
    row["largest difference"] = f"{float((network.encode(x, codes) - folded.encode(x, codes)).abs().max()):.0e}"
    return row


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    options = parse(arguments)
    table = pd.DataFrame.from_dict({norm: compare(norm, options) for norm in NORMS}, orient="index")
    print(f"Encoder, {options.cells} cells. {report.environment(['torch', 'scbatchnorm'])}.\n")
    print(report.markdown(table, index_name="norm"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
