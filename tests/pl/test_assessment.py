"""The composition shows the assessment of the same batches, and nothing is drawn over anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from scbatchnorm import pl, pp
from tests.helpers.assessment import annotated
from tests.helpers.compare import digest

if TYPE_CHECKING:
    import anndata as ad


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def title(ax) -> str:
    return ax.get_title(loc="left")


@pytest.fixture
def adata() -> ad.AnnData:
    adata = annotated([100, 80, 60], shift=3)
    adata.obs["donor"] = "d" + adata.obs["batch"].astype(str)
    return adata


def test_verdict_and_effects_of_types_and_batches(adata):
    found = pp.assess(adata, "batch", label_key="type")
    before = digest(adata)
    ax = pl.composition(adata, "batch", "type")
    assert digest(adata) == before
    assert title(ax).startswith("Verdict: correct\nthe batch explains ")
    assert title(ax).endswith("in a type")
    effect = found.effects["effect"]["A"]
    assert ticks(ax.yaxis)[0] == f"A ({100 * effect:.0f} %*)"
    assert ticks(ax.xaxis)[2] == f"2 (60; {100 * found.batches['effect']['2']:.0f} %*)"
    assert ax.get_ylabel() == "type (effect of the batch)"
    assert ax.get_xlabel() == "batch (cells; effect against the others)"


def test_effects_that_are_chance_have_no_star():
    adata = annotated([100, 100, 100], seed=1)
    pp.assess(adata, "batch", label_key="type")
    ax = pl.composition(adata, "batch", "type")
    assert title(ax).startswith("Verdict: none")
    assert not [name for name in ticks(ax.xaxis) + ticks(ax.yaxis) if "*" in name]
    assert all("%" in name for name in ticks(ax.yaxis))


def test_clusters_have_no_place_in_the_rows(adata):
    pp.assess(adata, "batch")
    ax = pl.composition(adata, "batch", "type")
    assert ticks(ax.yaxis) == ["A", "B"]
    assert ax.get_ylabel() == "type"
    assert "in a cluster" in title(ax)
    assert all("%" in name for name in ticks(ax.xaxis))


def test_two_batches_have_one_effect():
    adata = annotated([100, 100], shift=3)
    pp.assess(adata, "batch")
    assert ticks(pl.composition(adata, "batch", "type").xaxis) == ["0 (100)", "1 (100)"]


def test_assessments_of_something_else_are_left_out(adata):
    pp.assess(adata, "donor", label_key="type")
    assert title(pl.composition(adata, "batch", "type")) == ""
    assert title(pl.composition(adata, "donor", "type")) != ""
    plain = pl.composition(adata, "donor", "type", show_assessment=False)
    assert title(plain) == ""
    assert ticks(plain.xaxis) == ["d0 (100)", "d1 (80)", "d2 (60)"]
    assert ticks(plain.yaxis) == ["A", "B"]


def test_nothing_to_compare():
    adata = annotated([30])
    pp.assess(adata, "batch", label_key="type")
    assert title(pl.composition(adata, "batch", "type")) == "Verdict: none"


@pytest.mark.parametrize("n_batches", [5, 30])
def test_nothing_overlaps(n_batches):
    adata = annotated([40] * n_batches, types="ABCDE", shift=1)
    adata.obs["type"] = adata.obs["type"].map("{} cell of some tissue".format)
    adata.obs["batch"] = adata.obs["batch"].map("laboratory {}".format)
    # A type in one batch only, and one that a batch lacks: the picture has a legend.
    adata.obs.iloc[0, 1] = "private"
    pp.assess(adata, "batch", label_key="type", n_permutations=99)
    ax = pl.composition(adata, "batch", "type")
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    legend = ax.get_legend()
    assert legend is not None
    (above,) = [text.get_window_extent() for text in ax.findobj(Text) if text.get_text() == title(ax)]
    assert above.y0 > legend.get_window_extent().y1
    for box in (above, *(label.get_window_extent() for label in [*ax.get_xticklabels(), *ax.get_yticklabels()])):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    names = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in zip(names, names[1:], strict=False))
