"""What a function writes to an AnnData is named in the log, in one line."""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scbatchnorm import pl
from scbatchnorm.pl import _coordinates
from tests.helpers.calls import CALLS, Given
from tests.helpers.compare import digest


def contents(adata) -> dict[str, str]:
    """Hashes of everything, columns one by one."""
    parts = {name: found for name, found in digest(adata).items() if name not in {"X", "obs", "var"}}
    for attribute in ("obs", "var"):
        frame = getattr(adata, attribute)
        parts |= {f"{attribute}[{name!r}]": str(pd.util.hash_pandas_object(frame[name]).sum()) for name in frame}
    return parts


@pytest.fixture(scope="module")
def given(brief, tmp_path_factory):
    return Given(brief, tmp_path_factory.mktemp("models"))


def messages(caplog) -> list[str]:
    return [message for message in caplog.messages if message.startswith("added ")]


@pytest.mark.parametrize("name", [name for name in CALLS if name.split(".")[0] in {"pp", "tl"}])
def test_what_is_written_is_named(given, caplog, name):
    seen: list[tuple[Any, dict[str, str]]] = []

    class Watched:
        def __getattr__(self, attribute: str) -> Any:
            found = getattr(given, attribute)
            if attribute in {"adata", "query"}:
                seen.append((found, contents(found)))
            return found

    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        CALLS[name][0](Watched())  # type: ignore[arg-type]
    written = {
        place for adata, before in seen for place, found in contents(adata).items() if before.get(place) != found
    }
    lines = messages(caplog)
    assert len(lines) == bool(written)
    if name == "tl.concordance":
        assert not written
        return
    assert re.search(r" in \d+\.\d s(: |$)", lines[0])
    named = set(re.findall(r"\w+\['[^']+'\]", lines[0]))
    # The same once more is written as well, and named.
    assert written and written <= named
    assert named <= set(contents(seen[0][0]))


def test_computed_umaps_are_named(adata, caplog, monkeypatch):
    adata.obsm["X_new"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    monkeypatch.setattr(_coordinates, "_compute_umap", lambda points, _: points[:, :2])
    with caplog.at_level(logging.INFO, logger="scbatchnorm"):
        pl.embedding(adata, "X_new", color="batch")
        pl.embedding(adata, "X_new", color="batch")  # there now
    assert [re.sub(r"\d+\.\d s", "0.0 s", line) for line in messages(caplog)] == [
        "added obsm['X_new_umap'], uns['X_new_umap'] in 0.0 s"
    ]
