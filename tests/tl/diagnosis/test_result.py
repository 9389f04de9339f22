"""A diagnosis as HTML."""

from __future__ import annotations

import dataclasses

from scbatchnorm import tl
from tests.helpers import diagnosed
from tests.helpers.markup import NASTY, Page


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
