"""Every public function that takes an AnnData, with the same values in every container: same result, input unchanged."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import sparse

from tests.helpers import containers, results, verbs
from tests.test_conventions import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.verbs import Use

USES = verbs.uses(ad.AnnData())
# Variants of a function, which reads another place in the same way, and pictures of what is no matrix: fewer containers.
FEW = ("F", "float64", "read-only", "CSR array unsorted zeros duplicates", "CSC zeros duplicates", "int64", "bool")
pytestmark = [
    pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.* should not be a np.matrix"),  # so says anndata, and takes it
    pytest.mark.filterwarnings("ignore:Layer 'log' must be 2-dimensional"),  # and so anndata 0.13
]


class World:
    """What the functions are called with, made once, and what they are to give."""

    def __init__(self, folder: Path) -> None:
        reference = verbs.integrated()
        self.states = {"bare": verbs.bare(), "integrated": reference, "judged": verbs.judged(reference)}
        self.uses = verbs.uses(reference)
        self._folder = folder
        self._expected: dict[tuple[str, str], dict[str, Any]] = {}

    def with_matrix(self, use: Use, matrix: Any) -> ad.AnnData:
        """The data that `use` is called with, its matrix being `matrix`: not a copy of it."""
        base = self.states[use.state]
        X = matrix if use.place == "X" else -np.ones(base.shape, np.float32) if use.place == "layer" else base.X.copy()
        adata = ad.AnnData(X, obs=base.obs.copy(), var=base.var.copy(), uns=_copied(base.uns))
        for slot in ("obsm", "varm", "layers"):
            for key, value in getattr(base, slot).items():
                if key is not None:  # X, in anndata 0.13
                    getattr(adata, slot)[key] = value.copy()
        if use.place == "layer":
            adata.layers["log"] = matrix
        elif use.place in adata.obsm:
            adata.obsm[use.place] = matrix
        return adata

    def values(self, use: Use, kind: str) -> np.ndarray:
        """Values of one `kind` for the matrix that `use` reads."""
        of_obsm = use.place in self.states["bare"].obsm
        if kind == "numbers":
            kind = "apart" if of_obsm else use.values
        elif kind == "whole":
            kind = "whole" if of_obsm else "0 and 1"
        return verbs.values(kind, self.states["bare"].obsm[use.place].shape[1] if of_obsm else verbs.N_GENES)

    def plain(self, use: Use) -> ad.AnnData:
        """Its matrix is a dense one of float32."""
        return self.with_matrix(use, self.values(use, "numbers"))

    def file(self, use: Use, container: str) -> Path:
        """A file in which X is in another container; uses of the same data share it."""
        path = self._folder / f"{use.state}, {use.place == 'layer'}, {use.values}, {container}.h5ad"
        if not path.exists():
            adata = self.plain(use)
            adata.X = containers.BACKED[container](adata.X)
            for key in ("of_layer", "of_rep"):  # what no use of a file reads takes long to be read from it
                adata.uns.pop(key, None)
            adata.write_h5ad(path)
        return path

    def expected(self, name: str, kind: str) -> dict[str, Any]:
        """Of a dense float32 matrix."""
        if (name, kind) not in self._expected:
            use = self.uses[name]
            self._expected[name, kind] = called(use, self.with_matrix(use, self.values(use, kind)))
        return self._expected[name, kind]


def _copied(uns: Any) -> Any:
    """With the arrays themselves: `world` asserts in the end that none was changed."""
    return {key: _copied(value) for key, value in uns.items()} if isinstance(uns, Mapping) else uns


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("files"))
    before = {name: results.stored(state) for name, state in made.states.items()}
    yield made
    assert {name: results.stored(state) for name, state in made.states.items()} == before
    plt.close("all")


def called(use: Use, adata: ad.AnnData) -> dict[str, Any]:
    """What a call gives; asserts that it writes what is in the table, and nothing else."""
    before, writes = results.stored(adata), set(use.writes) if use.on_views or not adata.is_view else set()
    returned = use.call(adata)
    after = results.stored(adata)
    assert {name for name in before | after if before.get(name) != after.get(name)} == writes
    return results.of(returned, adata, writes)


def pairs() -> list[Any]:
    kinds = {"numbers": containers.NUMBERS, "whole": containers.WHOLE, "0 and 1": containers.BOOLEAN}
    return [
        pytest.param(name, kind, make, id=f"{name}: {container}")
        for name, use in USES.items()
        for kind, makers in kinds.items()
        for container, make in makers.items()
        if use.place and (not use.brief or container in FEW)
    ]


@pytest.mark.parametrize(("name", "kind", "make"), pairs())
def test_containers_make_no_difference(name, kind, make, world):
    use = world.uses[name]
    adata = world.with_matrix(use, make(world.values(use, kind)))
    if use.dense_only and sparse.issparse(adata.obsm[use.place]):
        before = results.stored(adata)
        with pytest.raises(ValueError, match=rf"adata.obsm\['{use.place}'\] must be a dense array"):
            use.call(adata)
        assert results.stored(adata) == before
        return
    results.same(called(use, adata), world.expected(name, kind))


@pytest.mark.parametrize(
    ("name", "view"),
    [(name, view) for name in USES for view in containers.VIEWS if not USES[name].brief or view == "view of a view"],
)
def test_views_make_no_difference(name, view, world):
    use = world.uses[name]
    plain = world.plain(use)
    parent = containers.larger(plain)
    before = results.stored(parent)
    found = called(use, containers.VIEWS[view](parent, plain.obs_names, plain.var_names))
    expected = world.expected(name, "numbers")
    unwritten = () if use.on_views else tuple(use.writes)  # no str begins with one of no words
    results.same(found, {key: value for key, value in expected.items() if not key.startswith(unwritten)})
    assert results.stored(parent) == before


@pytest.mark.parametrize(
    ("name", "container"),
    [
        (name, container)
        for name, use in USES.items()
        for container in containers.BACKED
        if not use.brief
        or (container == "backed CSR" and ("," not in name or (use.place, use.state) == ("layer", "bare")))
    ],
)
def test_files_make_no_difference(name, container, world):
    use = world.uses[name]
    path = world.file(use, container)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    adata = ad.read_h5ad(path, backed="r")
    results.same(called(use, adata), world.expected(name, "numbers"))
    adata.file.close()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("name", [name for name in USES if "," not in name])
def test_raw_is_not_looked_at(name, world):
    use = world.uses[name]
    adata = world.plain(use)
    adata.raw = ad.AnnData(-np.ones((verbs.N_CELLS, 2), np.float32), obs=adata.obs[[]])
    results.same(called(use, adata), world.expected(name, "numbers"))


# ---- what is refused: alike whatever it is in, and nothing is changed


def refused(use: Use, adata: ad.AnnData, message: str) -> None:
    before = results.stored(adata)
    with pytest.raises(ValueError, match=message):
        use.call(adata)
    assert results.stored(adata) == before


@pytest.mark.parametrize("container", containers.REFUSED)
@pytest.mark.parametrize("name", [name for name, use in USES.items() if use.place and use.refuses])
def test_what_is_no_matrix_of_numbers_is_refused(name, container, world):
    use = world.uses[name]
    make, message = containers.REFUSED[container]
    matrix = make(world.values(use, "numbers"))
    if use.place == "X" and matrix.ndim == 3:
        pytest.skip("AnnData does not hold it")
    where = {"X": "adata.X", "layer": "adata.layers['log']"}.get(use.place, f"adata.obsm[{use.place!r}]")
    refused(use, world.with_matrix(use, matrix), f"{re.escape(where)} {message}")


READS_EXPRESSION = [
    name
    for name, use in USES.items()
    if use.place in {"X", "layer"} and use.refuses and not name.startswith("tl.concordance")
]


@pytest.mark.parametrize("container", containers.WHOLE)
@pytest.mark.parametrize("name", READS_EXPRESSION)
def test_counts_are_refused_in_every_container(name, container, world):
    use = world.uses[name]
    counts = verbs.values("whole", verbs.N_GENES)
    where = "adata.X" if use.place == "X" else r"adata.layers\['log'\]"
    message = rf"{where} must be log-normalised .*like raw counts \(whole numbers up to {counts.max():g}\)\. Run first"
    refused(use, world.with_matrix(use, containers.WHOLE[container](counts)), message)


@pytest.mark.parametrize(
    "kind", [sparse.coo_matrix, sparse.coo_array, sparse.lil_matrix, sparse.dok_matrix, sparse.bsr_matrix]
)
def test_anndata_holds_no_other_sparse_formats(kind):
    with pytest.raises(ValueError, match="Only CSR and CSC (matrices|arrays) are supported"):
        ad.AnnData(kind(np.eye(3)))


# ---- copies


@pytest.mark.parametrize("form", ["F", "CSR array unsorted zeros duplicates", "view of a view", "backed CSR"])
@pytest.mark.parametrize("name", [name for name, use in USES.items() if use.copies and "," not in name])
def test_copies_leave_the_data_alone(name, form, world):
    use = world.uses[name]
    plain = world.plain(use)
    adata, parent = plain, None
    if form in containers.NUMBERS:
        adata = world.with_matrix(use, containers.NUMBERS[form](world.values(use, "numbers")))
    elif form in containers.VIEWS:
        parent = containers.larger(plain)
        adata = containers.VIEWS[form](parent, plain.obs_names, plain.var_names)
    else:
        adata = ad.read_h5ad(world.file(use, form), backed="r")
    kept = [results.stored(one) for one in (adata, parent) if one is not None]
    if use.dense_only and form == "CSR array unsorted zeros duplicates":
        refused(use, adata, "must be a dense array")
        return
    returned = use.call(adata, copy=True)
    assert [results.stored(one) for one in (adata, parent) if one is not None] == kept
    assert not returned.is_view
    assert not returned.isbacked
    results.same(results.of(returned, returned, set(use.writes)), world.expected(name, "numbers"))
    if adata.isbacked:
        adata.file.close()


# ---- the table of functions


def takes_anndata(function: Any) -> bool:
    """By its annotations, or its words where the first argument may be anything."""
    parameters = inspect.signature(function).parameters.values()
    said = (inspect.getdoc(function) or "").partition("Parameters\n")[2].partition("Returns\n")[0]
    return any("AnnData" in str(parameter.annotation) for parameter in parameters) or "AnnData" in said


def test_every_function_that_takes_an_anndata_is_in_the_table():
    # A report reads matrices with the functions of the table only.
    functions = {param.id for param in PUBLIC if takes_anndata(param.values[0])} - {"pl.report"}
    assert {name.split(",")[0] for name in USES} == functions


@pytest.mark.parametrize("name", USES)
def test_docstrings_name_what_is_written(name):
    (function,) = [param.values[0] for param in PUBLIC if param.id == name.split(",")[0]]
    text = inspect.getdoc(function) or ""
    assert [slot for slot, named in USES[name].writes.items() if named not in text] == []
    assert USES[name].copies == ("copy" in inspect.signature(function).parameters and USES[name].writes != {})
