"""Cells of two types whose batches differ as asked, and the comparison of assessments."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd


def annotated(sizes, *, shift=0.0, types="AB", n_components=8, seed=0) -> ad.AnnData:
    """Batches of the given sizes, each moved by `shift` times its number; types are far apart."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(len(sizes)), sizes)
    kind = rng.integers(len(types), size=len(batch))
    points = rng.normal(size=(len(batch), n_components))
    points[np.arange(len(batch)), kind] += 9
    points[:, -1] += shift * batch
    obs = pd.DataFrame({"batch": batch, "type": np.array(list(types))[kind]})
    obs.index = obs.index.map("cell{}".format)
    return ad.AnnData(obs=obs, obsm={"X_pca": points.astype(np.float32)})


TABLES = ("effects", "batches", "shared", "association", "design")


def assert_same(assessment, other) -> None:
    """Verdict, reasons, keys and tables are equal."""
    for name in ("verdict", "reasons", "batch_key", "label_key"):
        assert getattr(assessment, name) == getattr(other, name)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(assessment, name), getattr(other, name))
