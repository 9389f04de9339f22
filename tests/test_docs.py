"""The code of the documentation runs, and the documentation names everything that is public."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import scbatchnorm as sbn
from scbatchnorm._method import coherence as _coherence
from scbatchnorm._method import reference as _reference
from scbatchnorm._method.parameters import FitParameters
from scbatchnorm.metrics import _evaluate
from scbatchnorm.pl import _coordinates

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FIRST = DOCS / "howto" / "index.md"  # what the code of all how-to pages begins with
PAGES = sorted(path for path in FIRST.parent.glob("*.md") if path != FIRST)
# A few genes are all of them variable, which scanpy warns of.
SMALL = pytest.mark.filterwarnings("ignore:`n_top_genes` > number of normalized dispersions")


def blocks(path: Path) -> list[str]:
    """The Python code of a page."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def run(path: Path, code: str, names: dict[str, object]) -> None:
    exec(compile(code, path.relative_to(ROOT).as_posix(), "exec"), names)


@pytest.fixture(scope="module")
def counts() -> ad.AnnData:
    """What "three_experiments.h5ad" holds here."""
    adata = sbn.datasets.simulate_batches(150, n_genes=60, n_types=3, density=0.3, private_type=False)
    adata.obs["experiment"] = adata.obs.pop("batch")
    adata.obs["donor"] = np.array(["anna", "bela"])[np.arange(150) % 2]
    adata.obs["condition"] = np.array(["control", "drug"])[np.arange(150) // 2 % 2]
    return adata


@pytest.fixture
def brief_folder(tmp_path, monkeypatch):
    """A folder to work in, and computations that take a moment."""
    monkeypatch.chdir(tmp_path)
    from_params, draws = FitParameters.from_params, _evaluate._score_subsamples
    monkeypatch.setattr(
        FitParameters, "from_params", lambda params: replace(from_params(params), max_steps=2, n_refreshes=1)
    )
    monkeypatch.setattr(_coherence, "_SPLITS", 2)
    monkeypatch.setattr(_reference, "_HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(
        _evaluate, "_score_subsamples", lambda task, design, n, *rest: draws(task, design, min(n, 2), *rest)
    )
    # Seconds of compilation, and not ours.
    monkeypatch.setattr(_coordinates, "_compute_umap", lambda points, params: points[:, :2])
    monkeypatch.setattr(sc.pp, "neighbors", lambda adata, *, use_rep: adata.obsm[use_rep])
    monkeypatch.setattr(sc.tl, "umap", lambda adata: None)
    monkeypatch.setattr(sc.tl, "leiden", lambda adata, *, flavor, n_iterations, directed: None)
    return tmp_path


@pytest.fixture(scope="module")
def prepared(counts, tmp_path_factory) -> ad.AnnData:
    """What the how-to pages call `adata`, by the code of their first page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("first"))
        counts.write_h5ad("three_experiments.h5ad")
        names: dict[str, object] = {}
        for code in blocks(FIRST):
            run(FIRST, code, names)
    adata = names["adata"]
    assert isinstance(adata, ad.AnnData)
    return adata


@SMALL
@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem == "large")) for path in PAGES]
)
@pytest.mark.usefixtures("brief_folder")
def test_how_to_runs(path, prepared):
    names: dict[str, object] = {"sc": sc, "sbn": sbn, "adata": prepared.copy()}
    for code in blocks(path):
        run(path, code, names)


def quick_start(path: Path) -> str:
    """The ten lines."""
    (found,) = [code for code in blocks(path) if "three_experiments.h5ad" in code]
    return found


@SMALL
def test_quick_start_runs(counts, brief_folder):
    counts.write_h5ad("three_experiments.h5ad")
    names: dict[str, object] = {}
    run(DOCS / "index.md", quick_start(DOCS / "index.md"), names)
    adata = names["adata"]
    assert isinstance(adata, ad.AnnData)
    assert "X_scbatchnorm" in adata.obsm


def test_quick_start_is_that_of_the_readme():
    assert quick_start(DOCS / "index.md") == quick_start(ROOT / "README.md")


@pytest.mark.parametrize("module", ["pp", "tl", "pl", "metrics", "datasets", "nn", ""])
def test_api_page_lists_everything_public(module):
    listed = set(re.findall(r"^   ([\w.]+)$", (DOCS / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    if module:
        public = {f"{module}.{name}" for name in getattr(sbn, module).__all__}
        assert {name for name in listed if name.startswith(f"{module}.")} == public
    else:
        public = {name for name in sbn.__all__ if not name.islower()}
        assert {name for name in listed if "." not in name} == public


def test_every_how_to_page_is_in_the_index():
    listed = re.findall(r"^([\w-]+)$", FIRST.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == [path.stem for path in PAGES]
