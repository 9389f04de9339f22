"""What a reader is warned of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from scbatchnorm.pl._report.compute import Findings
from scbatchnorm.pl._report.inputs import read_integration
from scbatchnorm.pl._report.notices import collect_notices
from scbatchnorm.pp._assessment.result import Assessment
from scbatchnorm.tl._diagnosis.result import Diagnosis
from tests.pl.report.made import integrated

EMPTY = pd.DataFrame()
NOTHING = Diagnosis("nothing found", ("Nothing.",), EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)


def assessment(verdict):
    return Assessment(verdict, (f"Because {verdict}.",), EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, "cell_type", "batch")


def scores(**changed):
    """Scores with intervals of .02: before, after, and with shuffled batches; `changed` are those after."""
    values = {"Total": (0.5, 0.7, 0.7), "Bio conservation": (0.6, 0.62, 0.62), "iLISI": (0.1, 0.8, 0.85)}
    table = pd.DataFrame(index=["X_scbatchnorm", "X_pca", "X_scbatchnorm, shuffled"])
    table["kind"] = ["representation", "unintegrated", "shuffled"]
    for name, (before, after, shuffled) in values.items():
        table[name] = [changed.get(name.split()[0], after), before, shuffled]
        table[f"{name} low"], table[f"{name} high"] = table[name] - 0.01, table[name] + 0.01
    table["notes"] = [changed.get("notes", ""), "", ""]
    return table


@pytest.fixture(scope="module")
def integration(brief):
    adata = integrated(brief())
    return read_integration(
        adata, key=None, use_rep=None, batch_key=None, label_key="cell_type", unintegrated="X_pca", compare=()
    )


def found(integration, *, verdict="correct", diagnosis=NOTHING, undiagnosed="", table=None):
    findings = Findings(assessment(verdict), diagnosis, undiagnosed, scores() if table is None else table, None)
    return [(notice.level, notice.text) for notice in collect_notices(integration, findings)]


def changed(integration, **record):
    return dataclasses.replace(integration, record={**integration.record, **record})


def test_nothing_to_warn_of(integration):
    assert found(integration) == []


def test_confounded(integration):
    assert found(integration, verdict="confounded")[0] == (
        "warning", "The batch cannot be told from something else: Because confounded.",
    )  # fmt: skip


def test_corrected_without_need(integration):
    (notice,) = found(integration, verdict="none")
    assert notice == (
        "warning", "Batches were corrected with strength 1.00, although the uncorrected data show no need: Because none.",
    )  # fmt: skip
    nothing_done = changed(integration, strength={"value": 0.0, "reason": "no effect beyond chance"})
    assert found(nothing_done, verdict="none") == []


def test_needed_and_not_corrected(integration):
    nothing_done = changed(integration, strength={"value": 0.0, "reason": "set by the caller"})
    (notice,) = found(nothing_done)
    assert notice == ("warning", "Nothing was corrected, although batches differ: set by the caller.")


def test_too_far(integration):
    merged = dataclasses.replace(
        NOTHING, verdict="1 pair of states merged", reasons=("In x, A and B were put together.",)
    )
    (notice,) = found(integration, diagnosis=merged)
    assert notice[0] == "warning"
    assert "1 pair of states merged. In x, A and B were put together." in notice[1]


@pytest.mark.parametrize(("stopped", "word"), [("interrupted", "interrupted before its end"), ("diverged", "diverged")])
def test_training_that_did_not_end_well(integration, stopped, word):
    (notice,) = found(changed(integration, stopped=stopped))
    assert notice[0] == "warning"
    assert word in notice[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Bio": 0.5}, "Bio conservation fell from 0.60 before the integration to 0.50 after it."),
        ({"Total": 0.4}, "Total fell from 0.50 before"),
        ({"iLISI": 0.95}, "mixed more than the same cells with batches dealt out at random would be (iLISI 0.95 against 0.85)"),
    ],
    ids=["conservation", "total", "mixing"],
)  # fmt: skip
def test_scores_beyond_the_controls(integration, change, message):
    (notice,) = found(integration, table=scores(**change))
    assert notice[0] == "warning"
    assert message in notice[1]


def test_differences_within_intervals_are_no_warning(integration):
    assert found(integration, table=scores(Bio=0.585, iLISI=0.865)) == []


def test_small_batches(integration):
    adata = integration.adata.copy()
    few = np.array(["x"] * 100 + ["y"] * 28)
    adata.obs["batch"] = pd.Categorical(few)
    (notice,) = found(dataclasses.replace(integration, adata=adata))
    assert notice == ("warning", "Batches of fewer than 50 cells are aligned by few anchors: y (28).")


def test_what_was_not_looked_at_is_noted_after_warnings(integration):
    lacking = dataclasses.replace(integration, label_key=None)
    notices = found(
        lacking,
        verdict="confounded",
        diagnosis=None,
        undiagnosed="Expression is a Dask array.",
        table=scores(notes="kBET: a sample"),
    )
    assert [level for level, _ in notices] == ["warning", "note", "note", "note"]
    text = " ".join(words for _, words in notices[1:])
    for words in ("Expression is a Dask array.", "No cell types were given", "Scores: kBET: a sample."):
        assert words in text


def test_other_versions_and_no_seed(integration):
    versions = {**integration.record["versions"], "scbatchnorm": "0.0.9"}
    params = {**integration.record["params"], "rng": None}
    notices = found(changed(integration, versions=versions, params=params))
    assert [level for level, _ in notices] == ["note", "note"]
    assert "scbatchnorm 0.0.9" in notices[0][1]
    assert "cannot be made again" in notices[1][1]
