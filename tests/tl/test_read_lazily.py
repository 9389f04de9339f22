"""What needs no expression works on AnnData read lazily; what does, streams it or says what to do."""

from __future__ import annotations

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from scbatchnorm import pp, tl
from scbatchnorm._data.dask_blocks import DaskBlocks
from tests.helpers.lazy import EMPTY_TABLES, reopened, small_blocks

pytestmark = EMPTY_TABLES


@pytest.fixture(scope="module")
def adata(annotated, brief):
    adata = annotated()
    adata.obs["cell_type"] = pd.Categorical(np.array(["z", "a"])[np.arange(90) % 2], categories=["z", "a"])
    adata.obs.loc["cell3", "cell_type"] = None
    adata.obs["depth"] = np.arange(90.0)
    adata.layers["corrected"] = adata.X.copy()
    adata.layers["corrected"].data[::7] *= 0.5
    sc.pp.pca(adata, n_comps=10)
    pp.integrate(adata, "batch", model=brief())
    return adata


@pytest.fixture(scope="module")
def store(adata, tmp_path_factory):
    path = tmp_path_factory.mktemp("lazy") / "a.h5ad"
    reopened(adata, path)
    return path


@pytest.fixture
def opened(store):
    return ad.experimental.read_lazy(store)


@pytest.mark.filterwarnings("ignore:label_key='cell_type' has no value for 1")
def test_mixing(adata, opened, monkeypatch):
    monkeypatch.setattr(DaskBlocks, "map", lambda *_, **__: pytest.fail("reads expression"))
    expected = adata.copy()
    for some in (expected, opened):
        tl.mixing(some, "batch", use_rep="X_scbatchnorm", label_key="cell_type", unintegrated="X_pca")
    columns = [column for column in expected.obs if column.startswith("mixing")]
    assert len(columns) == 4
    pd.testing.assert_frame_equal(opened.obs[columns], expected.obs[columns])


def test_assess(adata, opened, monkeypatch):
    monkeypatch.setattr(DaskBlocks, "map", lambda *_, **__: pytest.fail("reads expression"))
    expected = adata.copy()
    first, second = (
        pp.assess(some, "batch", label_key="cell_type", covariate_keys=["depth"], n_permutations=99)
        for some in (expected, opened)
    )
    assert str(first) == str(second)
    pd.testing.assert_frame_equal(first.effects, second.effects)


def test_concordance(adata, opened, monkeypatch):
    small_blocks(monkeypatch, 32)
    tables = [tl.concordance(some, "batch", "cell_type", corrected="corrected") for some in (adata, opened)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert tables[0]["spearman"].between(0, 0.999).all()
    assert set(tables[0]["group_1"]) == {"z"}


def test_concordance_with_a_lazy_layer_only(adata):
    expected, streamed = adata.copy(), adata.copy()
    streamed.layers["corrected"] = da.from_array(streamed.layers["corrected"].toarray(), chunks=(40, 13))
    tables = [tl.concordance(some, "batch", "cell_type", corrected="corrected") for some in (expected, streamed)]
    pd.testing.assert_frame_equal(tables[0], tables[1])


def test_diagnose_needs_a_part_in_memory(adata, opened):
    with pytest.raises(ValueError, match=r"adata\.X is a Dask array.*part = adata\[rows\]\.to_memory\(\)"):
        tl.diagnose(opened, "batch")
    assert "scbatchnorm_diagnose" not in opened.uns
    part, expected = opened[10:].to_memory(), adata[10:].copy()
    found = [str(tl.diagnose(some, "batch", label_key="cell_type")) for some in (part, expected)]
    assert found[0] == found[1]


def test_diagnose_of_another_tool_leaves_genes_out(opened):
    found = tl.diagnose(opened, "batch", use_rep="X_scbatchnorm")
    assert any("Genes were not looked at: " in reason and "Dask array" in reason for reason in found.reasons)
    assert opened.obs["diagnose_kept"].between(0, 1).all()
    with pytest.raises(ValueError, match="is a Dask array"):
        tl.diagnose(opened, "batch", use_rep="X_scbatchnorm", control_genes=["gene1"])
