"""pl.report: what it takes, refuses and leaves alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scbatchnorm import pl
from tests.helpers.compare import digest
from tests.pl.report.made import Page, integrated

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def adata(brief):
    return integrated(brief())


def test_adata_stays_as_it_is(adata, tmp_path):
    before = digest(adata)
    path = pl.report(adata, tmp_path / "r.html", label_key="cell_type", compare="X_good", progress=False)
    assert path == tmp_path / "r.html"
    assert digest(adata) == before
    assert [each.name for each in tmp_path.iterdir()] == ["r.html"]
    assert "X_good" in path.read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_page(adata, tmp_path):
    one, other = (
        pl.report(adata, tmp_path / name / "r.html", progress=False).read_bytes()
        for name in ("a", "b")
        if (tmp_path / name).mkdir() is None
    )
    assert one == other


def test_an_embedding_of_another_tool(adata, tmp_path):
    page = Page(
        pl.report(
            adata, tmp_path / "r.html", use_rep="X_good", batch_key="batch", label_key="cell_type", progress=False
        ).read_text(encoding="utf-8")
    )
    assert "another tool" in page.text("notices")
    assert "[tool, version and parameters of X_good]" in page.text("paragraph")
    assert "use_rep='X_good', batch_key='batch', label_key='cell_type'" in page.text("call")
    assert "integrate" not in page.text("call")


def test_components_of_the_model_where_there_are_none_before(adata, tmp_path):
    lacking = adata.copy()
    del lacking.obsm["X_pca"]
    page = Page(pl.report(lacking, tmp_path / "r.html", progress=False).read_text(encoding="utf-8"))
    assert {each["href"][1:] for each in page.all("a")} <= {each["id"] for each in page.elements if "id" in each}
    assert "X_pca (not integrated)" in page.text("scores")
    lacking.obsm["X_good"] = adata.obsm["X_good"]
    with pytest.raises(KeyError, match=r"unintegrated='X_pca' is not a key of adata.obsm.*Run sc.pp.pca"):
        pl.report(lacking, tmp_path / "s.html", use_rep="X_good", batch_key="batch")


def test_batches_of_several_columns_and_numbers(brief, tmp_path):
    adata = integrated(brief())
    adata.obs["lane"] = np.arange(adata.n_obs) % 2
    adata.obs["kind"] = adata.obs["cell_type"].cat.codes.to_numpy()
    adata.obs["kind"] = adata.obs["kind"].astype("category")
    page = Page(
        pl.report(adata, tmp_path / "r.html", batch_key=["batch", "lane"], label_key="kind", progress=False).read_text(
            encoding="utf-8"
        )
    )
    assert "4 batches (batch | lane)" in page.all("p", **{"class": "facts"})[0]["text"]
    assert "x | 0 (32 cells)" in page.text("apart")
    assert page.text("call").endswith("sbn.pl.report(adata, 'r.html', batch_key=['batch', 'lane'], label_key='kind')")


def test_many_cells_are_sampled(adata, tmp_path):
    page = Page(pl.report(adata, tmp_path / "r.html", max_cells_drawn=100, progress=False).read_text(encoding="utf-8"))
    assert "A random sample of 100 of 128 cells is drawn." in page.text("cells")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": "r.txt"}, ValueError, r"path must end in .html; got"),
        ({"path": "no/r.html"}, FileNotFoundError, "the folder of path does not exist"),
        ({"key": "other"}, KeyError, r"key='other': adata.uns\['other'\] is missing.*keys of adata.obsm: X_pca"),
        ({"key": "scbatchnorm", "use_rep": "X_good"}, ValueError, "exclude each other"),
        ({"use_rep": "X_good"}, ValueError, r"batch_key must name the batches .* columns of adata.obs: batch, cell_type"),
        ({"use_rep": "X_no", "batch_key": "batch"}, KeyError, "use_rep='X_no' is not a key of adata.obsm"),
        ({"compare": ["X_no"]}, KeyError, "compare='X_no' is not a key of adata.obsm"),
        ({"label_key": "typ"}, KeyError, "label_key='typ' is not a column of adata.obs; columns: batch, cell_type"),
        ({"covariate_keys": "sex"}, KeyError, "covariate_keys='sex' is not a column of adata.obs"),
        ({"control_genes": ["XIST"]}, KeyError, "control_genes must be names in adata.var_names"),
        ({"max_cells_drawn": 10}, ValueError, "max_cells_drawn must be"),
    ],
    ids=lambda value: "-".join(map(str, value.items())) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_wrong_is_named(adata, tmp_path, options, error, message):
    before = digest(adata)
    options = {"path": "r.html", "progress": False, **options}
    with pytest.raises(error, match=message):
        pl.report(adata, tmp_path / options.pop("path"), **options)
    assert not list(tmp_path.iterdir())
    assert digest(adata) == before


def test_an_existing_file_stays(adata, tmp_path):
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        pl.report(adata, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "mine"
    pl.report(adata, tmp_path / "r.html", overwrite=True, progress=False)
    assert "<!DOCTYPE html>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_cells_without_a_type(brief, tmp_path):
    adata = integrated(brief())
    adata.obs.loc[adata.obs_names[:3], "cell_type"] = pd.NA
    with pytest.warns(UserWarning, match="3 of 128 cells"):
        path = pl.report(adata, tmp_path / "r.html", label_key="cell_type", progress=False)
    page = Page(path.read_text(encoding="utf-8"))
    assert "3 of 128 cells have no value in 'cell_type'" in page.text("notices")
    assert "no value" in page.text("cells")
