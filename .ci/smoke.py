"""What is installed does what it is for: simulated batches, integrated."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import scanpy as sc

import scbatchnorm as sbn

package = Path(sbn.__file__).parent
installed = package.parent.name in {"site-packages", "dist-packages"}
adata = sbn.datasets.simulate_batches(300, n_genes=200, n_types=4, density=0.2)
sc.pp.normalize_total(adata)
sc.pp.log1p(adata)
sbn.pp.integrate(adata, "batch", progress=False)
finite = np.isfinite(adata.obsm["X_scbatchnorm"]).all()
files = all(
    (package / name).is_file()
    for name in ("py.typed", "pl/_report/template.html", "pl/_report/style.css", "pl/_report/script.js")
)
if not (installed and finite and files):
    msg = f"scbatchnorm {version('scbatchnorm')} in {package} is not as it should be."
    raise SystemExit(msg)
