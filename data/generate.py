"""Write the files of this folder anew: `python data/generate.py [folder]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scbatchnorm.datasets import simulate_batches

if TYPE_CHECKING:
    from anndata import AnnData


def simulated_3batches() -> AnnData:
    """Return 600 cells of three batches and five types, the last of them in the last batch only."""
    return simulate_batches(600, n_genes=400, n_types=5, density=0.15, rng=0)


def main(folder: Path) -> None:
    """Write every file of the collection into an existing folder."""
    path = folder / "simulated_3batches.h5ad"
    simulated_3batches().write_h5ad(path, compression="gzip")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
