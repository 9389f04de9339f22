"""An assessment as text, as HTML and in files."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scbatchnorm import pp
from scbatchnorm.pp._assessment.result import from_uns
from tests.helpers.assessment import annotated, assert_same
from tests.helpers.markup import NASTY, Page


def test_text():
    adata = annotated([150, 150], shift=2)
    adata.obs["a name that is longer than a column should be, by far"] = np.tile(["u", "v"], 150)
    name = adata.obs.columns[-1]
    found = pp.assess(adata, "batch", label_key="type", covariate_keys=[name])
    lines = repr(found).splitlines()
    assert lines[0] == "Verdict: correct - batches differ, and can be corrected."
    assert max(map(len, lines)) <= 88
    row = next(line for line in lines if line.startswith("A "))
    assert row.split()[1:3] == [str((adata.obs["type"] == "A").sum()), "2"]
    assert row.split()[-2:] == ["*", "0.001"]
    assert any(line.startswith("a name that is longer than a co...") for line in lines)
    assert "+00" not in repr(found)
    assert all(not line.startswith("%") for line in lines)


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_stored_whole(tmp_path, suffix):
    adata = annotated([60, 60, 60], shift=1)
    adata.obs["con/dition"] = np.where(adata.obs["batch"] == 0, "x/y", "z")
    adata.obs["batch"] = adata.obs["batch"].map("b/{}".format)
    found = pp.assess(adata, ["batch", "type"], covariate_keys=["con/dition"])
    del adata.obs["con/dition"]
    path = tmp_path / f"a.{suffix}"
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    again = ad.read_h5ad(path) if suffix == "h5ad" else ad.read_zarr(path)
    assert_same(from_uns(again.uns["scbatchnorm_assess"]), found)
    assert found.batch_key == "batch | type"
    assert repr(from_uns(again.uns["scbatchnorm_assess"])) == repr(found)


@pytest.mark.parametrize("label_key", [None, "type"])
def test_assessment_shows_what_it_found(label_key):
    adata = annotated([150, 150, 80], shift=2)
    adata.obs["type"] = adata.obs["type"].astype(str).replace("A", NASTY)
    adata.obs["half"] = np.arange(adata.n_obs) % 2
    found = pp.assess(adata, "batch", label_key=label_key, covariate_keys=["half"], n_permutations=199)
    page = Page(found._repr_html_())
    assert page.notes[0] == "Verdict: correct - batches differ, and can be corrected."
    assert page.items == list(found.reasons)
    effects, batches, covariates = (table for table in page.tables if not table.folded)
    assert effects.headings == [label_key or "cluster", "cells", "batches", "effect", "p"]
    rows = page.rows(0)
    expected = found.effects.sort_values("effect", ascending=False, kind="stable")
    assert [row[0] for row in rows] == list(expected.index)
    assert [int(row[1]) for row in rows] == expected["cells"].tolist()
    assert [float(row[3].split(" %")[0]) for row in rows] == pytest.approx(100 * expected["effect"], abs=0.6)
    assert [float(row[4]) for row in rows] == pytest.approx(expected["p_adjusted"], rel=0.06)
    assert {row[0] for row in batches.rows} == set(found.batches.index)
    assert [row[0] for row in covariates.rows] == list(found.association.index)
    # The text has the same rows.
    assert all(" ".join(row[1:3]) in " ".join(repr(found).split()) for row in batches.rows)


def test_assessment_of_one_batch_has_no_effects():
    found = pp.assess(annotated([60]), "batch", n_permutations=199)
    page = Page(found._repr_html_())
    assert page.notes[0] == "Verdict: none - no correction is needed."
    assert [table.caption for table in page.tables] == ["Batches"]
