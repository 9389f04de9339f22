"""What cannot be corrected is refused in words, and leaves the AnnData as it was."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scbatchnorm import pp, tl
from tests.helpers.compare import digest


@pytest.fixture(scope="module")
def integrated(annotated, brief):
    adata = annotated()
    adata.layers["counts"] = adata.X.copy()
    adata.var["highly_variable"] = np.arange(40) % 4 > 0
    pp.integrate(adata, "batch", model=brief())
    return adata


def no_record(adata):
    del adata.uns["scbatchnorm"]


def no_weights(adata):
    del adata.uns["scbatchnorm"]["weights"]


def other_weights(adata):
    adata.uns["scbatchnorm"]["weights"]["offsets"] += 1


def no_batches(adata):
    del adata.obs["batch"]


def other_batches(adata):
    adata.obs["batch"] = adata.obs["batch"].cat.rename_categories({"a": "z"})


def set_value(adata, value):
    values = adata.X.toarray()
    values[3, 0] = value
    adata.X = sparse.csr_matrix(values)


def negative(adata):
    set_value(adata, -1.0)


def not_finite(adata):
    set_value(adata, np.nan)


def twice_the_name(adata):
    adata.var_names = ["gene0", "gene0", *adata.var_names[2:]]


def counts(adata):
    adata.X = np.round(adata.X * 3)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (no_record, {}, KeyError, r"key='scbatchnorm' is not a key of adata.uns; keys: none\. Run pp.integrate first"),
        (None, {"key": "mine"}, KeyError, r"key='mine' is not a key of adata.uns; keys: scbatchnorm\."),
        (no_weights, {}, ValueError, r"or not all of it \('weights'\)\. Run pp.integrate again"),
        (other_weights, {}, ValueError, "its weights do not have the fingerprint .* Run pp.integrate again"),
        (no_batches, {}, KeyError, "batch_key='batch' is not a column of adata.obs"),
        (other_batches, {}, ValueError, "z"),
        (negative, {}, ValueError, r"adata.X must be log-normalised .* gene 'gene0' has negative values.*genes='hvg'"),
        (not_finite, {}, ValueError, r"adata.X must be finite; .*cell 'cell3', feature 'gene0'"),
        (twice_the_name, {}, ValueError, "adata.var_names must be unique; 1 are repeated: gene0"),
        (counts, {}, ValueError, "looks like raw counts"),
        (None, {"target": "z"}, ValueError, "target='z' must be 'average' or a batch .*; batches: a, b, c"),
        (None, {"genes": "some"}, ValueError, "genes must be 'all' or 'hvg'; got 'some'"),
        (None, {"genes": ["gene1"]}, ValueError, "genes must be 'all' or 'hvg'; got"),
        (None, {"threshold": -0.1}, ValueError, "threshold must be None or a number of at least 0; got -0.1"),
        (None, {"threshold": True}, ValueError, "threshold must be .* got True"),
        (None, {"threshold": np.nan}, ValueError, "threshold must be .* got nan"),
        (None, {"key_added": "counts"}, ValueError, "key_added='counts' is a layer that tl.correct did not write"),
        (None, {"key_added": "a/b"}, ValueError, "key_added must be a non-empty str without '/'"),
    ],
)
def test_refused(integrated, change, options, error, message):
    adata = integrated.copy()
    if change is not None:
        change(adata)
    before = digest(adata)
    with pytest.raises(error, match=message):
        tl.correct(adata, **options)
    assert digest(adata) == before


def test_target_without_cells(integrated):
    part = integrated[integrated.obs["batch"] != "a"].copy()
    with pytest.raises(ValueError, match="target='a' must be 'average' or a batch with cells in adata; batches: b, c"):
        tl.correct(part, target="a")


def test_genes_of_the_model_are_needed(integrated):
    with pytest.raises(KeyError, match="adata must have the 30 genes of the model; 2 are missing: gene1, gene2"):
        tl.correct(integrated[:, 3:].copy())
    part = integrated[:, integrated.var["highly_variable"]].copy()
    tl.correct(part)
    assert part.layers["scbatchnorm"].shape == (90, 30)


def test_values_of_other_genes_do_not_matter_with_hvg(integrated):
    adata = integrated.copy()
    negative(adata)
    tl.correct(adata, genes="hvg")
    assert adata.layers["scbatchnorm"][3, 0] == -1


def test_representation_has_no_genes(integrated, brief):
    adata = integrated.copy()
    adata.obsm["X_pca"] = np.asarray(adata.obsm["X_scbatchnorm"])
    pp.integrate(adata, "batch", model=brief(), use_rep="X_pca", key_added="of_pca")
    with pytest.raises(ValueError, match="of the representation 'X_pca', which has no genes to correct"):
        tl.correct(adata, key="of_pca")
