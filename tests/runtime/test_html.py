"""Assessments and diagnoses in notebooks: what the tables hold, whole, escaped and well-formed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scbatchnorm import pp, tl
from scbatchnorm._runtime import html_repr as _html
from tests.helpers import diagnosed
from tests.helpers.assessment import annotated
from tests.helpers.markup import Page

NASTY = "<script>alert('x')</script> & \"co\""


def test_tables_unfold_beyond_ten_rows():
    rows = [[f"row {i}", str(i)] for i in range(13)]
    page = Page(_html.block(_html.table(["name", "number"], rows, caption="Thirteen", bold={1}, italic={12})))
    assert page.summaries == ["3 more"]
    first, rest = page.tables
    assert (first.caption, first.headings) == ("Thirteen", ["name", "number"])
    assert (first.rows, first.folded) == (rows[:10], False)
    assert (rest.headings, rest.rows, rest.folded) == (["name", "number"], rows[10:], True)
    assert page.rows(0) == rows
    assert rest.italic == [False, False, True]
    assert first.bold | rest.bold == {str(i) for i in range(13)}
    assert len(Page(_html.table(["name", "number"], rows[:10], caption="Ten")).tables) == 1


def test_text_is_escaped_and_nothing_runs():
    drawn = _html.table([NASTY], [[NASTY]], caption=NASTY)
    page = Page(
        _html.block(_html.heading(NASTY), _html.note(NASTY), _html.bullets([NASTY]), drawn)
    )  # raises at a tag that is not ours
    assert page.notes == [NASTY, NASTY] and page.items == [NASTY]
    assert (page.tables[0].caption, page.tables[0].headings, page.tables[0].rows) == (NASTY, [NASTY], [[NASTY]])


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


def test_diagnosis_shows_findings_first():
    adata = diagnosed.cells()
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"NK cell": NASTY})
    adata.obsm["X_bad"] = diagnosed.onto(adata, NASTY, "T cell")
    genes = ["gene3", "gene0"]
    found = tl.diagnose(adata, "batch", label_key="cell_type", use_rep="X_bad", control_genes=genes)
    page = Page(found._repr_html_())
    assert page.notes[0] == f"Verdict: {found.verdict}" and found.flagged
    assert page.items == list(found.reasons)
    rows, merged = page.rows(0), found.states["merged_with"] != ""
    assert page.tables[0].caption == f"States: {merged.sum()} of {len(found.states)} with a finding"
    told = [row[2] != "none" for row in rows]
    assert sum(told) == merged.sum() and told == sorted(told, reverse=True)
    for batch, state, finding, cells, kept, _ in rows:
        row = found.states.loc[f"{batch}: {state}"]
        assert finding == (f"merged with {row['merged_with']}" if row["merged_with"] else "none")
        assert (cells, kept) == (f"{row['n_cells']:,}", f"{100 * row['kept']:.0f} %")
    controls = page.tables[-1]
    assert controls.caption == "Control genes" and {row[0] for row in controls.rows} == set(genes)
    assert [row[1] != "none" for row in controls.rows] == sorted(found.control_genes["flagged"], reverse=True)


def test_every_finding_has_its_words():
    found = tl.diagnose(diagnosed.cells(), "batch", label_key="cell_type", use_rep="X_good")
    states = found.states.copy()
    name = states.index[-1]
    states.loc[name, "pulled_onto"] = "x: T cell"
    states.loc[name, ["split", "lost"]] = True
    page = Page(dataclasses.replace(found, states=states)._repr_html_())
    assert page.rows(0)[0][2] == "pulled onto x: T cell, split, lost its neighbourhoods"
