"""The paragraph and the call: what they say is what was done."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import scbatchnorm as sbn
from scbatchnorm import pp
from scbatchnorm.pl._report.inputs import read_integration
from scbatchnorm.pl._report.methods_text import write_call
from tests.helpers import diagnosed


def integration(adata, *, key=None, label_key=None):
    return read_integration(
        adata, key=key, use_rep=None, batch_key=None, label_key=label_key, unintegrated="X_pca", compare=()
    )


def some(adata):
    return np.arange(adata.n_vars) % 2 == 0


CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "defaults": ({}, None),
    "genes of a column": ({"mask_var": "chosen"}, None),
    "highly variable genes": ({}, "highly_variable"),
    "all genes": ({"mask_var": None}, "highly_variable"),
    "genes without a column": ({"mask_var": "drawn"}, "forgotten"),
    "a layer": ({"layer": "log"}, None),
    "a representation": ({"use_rep": "X_pca"}, None),
    "a name": ({"key_added": "mine"}, None),
    "several columns": ({"batch_key": ["batch", "lane"]}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_call_makes_the_same_model(brief, case):
    options, flag = dict(CASES[case][0]), CASES[case][1]
    adata = diagnosed.cells(n=12)
    adata.layers["log"] = adata.X * 0.5
    adata.obs["lane"] = np.tile(["1", "2"], adata.n_obs // 2)
    adata.var["chosen"] = some(adata)
    if flag == "highly_variable":
        adata.var[flag] = ~some(adata)
    if flag == "forgotten":
        options["mask_var"] = np.arange(adata.n_vars) < 23
    pp.integrate(adata, options.pop("batch_key", "batch"), model=brief(n_hidden=12, rng=3), **options)
    key = options.get("key_added")
    record = adata.uns[key or "scbatchnorm"]
    calls = write_call(integration(adata, key=key), "r.html", {}).splitlines()
    assert calls[-1].startswith("sbn.pl.report(adata, 'r.html'")
    again = adata.copy()
    check = next(line for line in calls if "fingerprint" in line)
    run(calls[: calls.index(check)], again, keep={} if case != "genes without a column" else {"scbatchnorm"})
    made = again.uns[key or "scbatchnorm"]
    assert made["fingerprint"] == record["fingerprint"]
    assert record["fingerprint"] in check


def run(lines, adata, *, keep):
    """Execute the call on an AnnData that has forgotten the integration."""
    for name in [name for name in adata.uns if name not in keep]:
        del adata.uns[name]
    with contextlib.suppress(KeyError):
        del adata.obsm["X_scbatchnorm"]
    code = compile("\n".join(lines), "call", "exec")
    exec(code, {"adata": adata, "sbn": sbn})


def test_several_strengths(brief, monkeypatch):
    adata = diagnosed.cells(n=12)
    monkeypatch.setitem(sbn.BatchNormAutoencoder.__init__.__kwdefaults__, "min_steps", 6)
    monkeypatch.setitem(sbn.BatchNormAutoencoder.__init__.__kwdefaults__, "n_epochs", 1)
    pp.integrate(adata, "batch", strength=[0, 0.5, 1], progress=False)
    assert "strength=[0.0, 0.5, 1.0])" in write_call(integration(adata), "r.html", {})


def test_without_a_seed_nothing_is_promised(brief):
    adata = diagnosed.cells(n=12)
    pp.integrate(adata, "batch", model=brief(rng=np.random.default_rng(0)))
    call = write_call(integration(adata), "r.html", {})
    assert "rng=None" in call
    assert "without a seed" in call
    assert "fingerprint" not in call


def test_options_of_the_report_are_in_its_call(brief):
    adata = diagnosed.cells(n=12)
    pp.integrate(adata, "batch", model=brief())
    call = write_call(integration(adata, label_key="cell_type"), "r.html", {"covariate_keys": ["sex"], "title": None})
    assert call.endswith("sbn.pl.report(adata, 'r.html', label_key='cell_type', covariate_keys=['sex'])")


def test_the_paragraph_says_what_was_done(reported):
    adata, _, page = reported
    text = page.text("paragraph")
    assert "The 128 cells of 2 batches (batch) were integrated with scbatchnorm 0.1.0 (" in text
    assert "n_components = 8" in text
    assert "seed 0), from the log-normalised expression of 40 genes" in text
    assert "strength of the correction was 1.00 of 1 (set by the caller)" in text
    assert "with cell types cell_type: total score" in text
    assert "Luecken et al. 2022" in text
    assert "n_neighbors" not in text, "what is the default is not said"
    assert adata.uns["scbatchnorm"]["fingerprint"] in page.text("call")
