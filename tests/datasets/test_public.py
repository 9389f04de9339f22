"""Public data by name: one file each, and the same columns in all."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest

from scbatchnorm import datasets, pp
from scbatchnorm.datasets._public import _cache_folder
from scbatchnorm.datasets._registry import DATASETS


@pytest.fixture
def cache(tmp_path: Path, adata: ad.AnnData, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds a set named `tiny`."""
    adata.obs["tech"] = [f"tech {batch}" for batch in adata.obs["batch"]]
    adata.obs["cell_type"] = "unsure"
    adata.obs["types"] = "T cell"
    adata.var_names = ["gene"] * adata.n_vars  # as in the wild
    adata.write_h5ad(tmp_path / "tiny.h5ad")
    content = (tmp_path / "tiny.h5ad").read_bytes()
    entry = dataclasses.replace(
        DATASETS["scib_lung"],
        urls=("http://127.0.0.1:9/never-asked",),
        checksum="sha256:" + hashlib.sha256(content).hexdigest(),
        size=len(content),
        batch="tech",
        cell_type="types",
    )
    monkeypatch.setitem(DATASETS, "tiny", entry)
    return tmp_path


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_columns_have_our_names(cache, brief):
    loaded = datasets.load("tiny", cache_dir=cache)
    assert loaded.shape == (90, 40)
    assert loaded.obs["batch"].cat.categories.to_list() == ["tech a", "tech b", "tech c"]
    assert loaded.obs["batch_in_file"].cat.categories.to_list() == ["a", "b", "c"]
    assert set(loaded.obs["cell_type"]) == {"T cell"}
    assert set(loaded.obs["cell_type_in_file"]) == {"unsure"}
    assert {"tech", "types"} <= set(loaded.obs)
    assert loaded.var_names.is_unique
    described = loaded.uns["dataset"]
    assert described["name"] == "tiny"
    assert described["batch"] == "tech"
    assert described["licence"] == "CC BY 4.0"
    pp.integrate(loaded, "batch", model=brief())
    loaded.write_h5ad(cache / "again.h5ad")
    assert ad.read_h5ad(cache / "again.h5ad").uns["dataset"] == described


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_a_column_that_has_our_name_is_left_alone(cache, monkeypatch):
    monkeypatch.setitem(DATASETS, "tiny", dataclasses.replace(DATASETS["tiny"], batch="batch"))
    loaded = datasets.load("tiny", cache_dir=str(cache))
    assert loaded.obs["batch"].cat.categories.to_list() == ["a", "b", "c"]
    assert "batch_in_file" not in loaded.obs


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(ValueError, match="name='pancreas' is not a public data set; there are: kang_2018, scib_immune"):
        datasets.load("pancreas")


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_the_cache_is_where_it_is_said_to_be(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("SCBATCHNORM_CACHE", str(cache))
    assert datasets.load("tiny").n_obs == 90
    assert _cache_folder(tmp_path / "given") == tmp_path / "given"
    monkeypatch.setenv("SCBATCHNORM_CACHE", "~/there")
    assert _cache_folder(None) == Path.home() / "there"
    monkeypatch.delenv("SCBATCHNORM_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    expected = {"linux": ".cache", "darwin": "Library/Caches", "win32": "AppData/Local"}
    for platform, folder in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert _cache_folder(None) == tmp_path / folder / "scbatchnorm"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert _cache_folder(None) == tmp_path / "xdg" / "scbatchnorm"


def test_the_table_has_a_row_per_set():
    table = datasets.available()
    assert table.index.to_list() == sorted(DATASETS)
    assert not table.isna().any(axis=None)
    assert table["megabytes"].between(1, 10_000).all()
    pd.testing.assert_frame_equal(table, datasets.available())


@pytest.mark.parametrize("name", DATASETS)
def test_entries_are_complete(name):
    entry = DATASETS[name]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", entry.checksum)
    assert entry.urls
    for url in entry.urls:
        assert url.startswith("https://")
        assert "//figshare.com/ndownloader" not in url, "it asks for a browser"
    assert all(getattr(entry, field.name) for field in dataclasses.fields(entry))
