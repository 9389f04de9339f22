"""The page as a file: whole, by itself, and with what was found."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from scbatchnorm import metrics, pl, pp
from tests.pl.report.made import Page, integrated


def test_nothing_is_fetched(reported):
    _, path, page = reported
    assert path.stat().st_size < 10_000_000
    addresses = [each[name] for each in page.elements for name in ("src", "href", "srcset", "action") if name in each]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in page.all("style")[0]["text"]
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")


def test_links_lead_to_sections(reported):
    _, _, page = reported
    known = {each["id"] for each in page.elements if "id" in each}
    assert {each["href"][1:] for each in page.all("a")} <= known
    assert len(known) == len([each for each in page.elements if "id" in each])


def test_pictures_are_pictures_with_words(reported):
    _, _, page = reported
    pictures = page.all("img")
    # By batch and by type, before and after; two batches by themselves; training, composition, changes by state and by cell.
    assert len(pictures) == 10
    for picture in pictures:
        pixels = imread(io.BytesIO(base64.b64decode(picture["src"].split(",")[1])))
        assert len(np.unique(pixels[..., 0])) > 2, "more than paper and ink"
        assert len(picture["alt"]) > 20
        assert pixels.shape[1] / pixels.shape[0] == pytest.approx(
            int(picture["width"]) / int(picture["height"]), rel=0.02
        )


def test_scores_are_those_of_evaluate(reported):
    adata, _, page = reported
    seed = int(np.random.default_rng(0).integers(2**31))
    table = metrics.evaluate(
        adata, "X_scbatchnorm", batch_key="batch", label_key="cell_type", n_bootstrap=2, rng=seed, progress=False
    )
    (shown,) = (each for each in page.all("table") if "Scores: 0 is worst" in each["text"])
    row = table.loc["X_scbatchnorm"].to_dict()
    for title in ("Total", "iLISI", "cLISI", "kNN preservation"):
        value = float(row[title])
        spread = max(value - float(row[f"{title} low"]), float(row[f"{title} high"]) - value)
        assert f"{value:.3f} ± {spread:.3f}" in shown["text"]


def test_answers_are_those_of_assess_and_diagnose(reported):
    adata, _, page = reported
    text = page.text("short")
    found = pp.assess(adata.copy(), "batch", label_key="cell_type", rng=0)
    assert found.verdict == "correct"
    assert "Was a correction needed? yes" in text.replace("?yes", "? yes")
    assert "100 %" in text
    assert "Set by the caller." in text


def test_types_are_told_apart_by_numbers(reported):
    _, _, page = reported
    legends = [each for each in page.all("ul") if each.get("class") == "legend"]
    of_types = [each["text"].split() for each in legends if "monocyte" in each["text"]]
    assert len(of_types) == 2
    assert of_types[0][:4] == ["1", "B", "cell", "(32)"]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '{{ 7 * 7 }} & "b"'], ids=["markup", "signs"])
def test_names_are_text(brief, quick, tmp_path, name):
    """Whatever a cell type or batch is called."""
    adata = integrated(brief())
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"T cell": name})
    adata.obs["batch"] = adata.obs["batch"].cat.rename_categories({"x": f"{name}2"})
    html = pl.report(
        adata,
        tmp_path / "r.html",
        use_rep="X_good",
        batch_key="batch",
        label_key="cell_type",
        title=name,
        progress=False,
    ).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.all("script")) == 1
    assert "alert" not in page.all("script")[0]["text"]
    assert page.all("h1")[0]["text"] == name
    assert any(name in each["text"] for each in page.all("th"))
    assert any(f"{name}2" in each["text"] for each in page.all("figcaption"))
