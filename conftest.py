"""Examples train for a moment, and what is compiled for long comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# What has numba compile UMAP and pynndescent, for seconds to most of a minute in each process that runs one of them; notebooks.
COMPILED = (
    "tests/metrics/test_neighbors.py::test_approximate",
    "tests/metrics/test_neighbors.py::test_threads_are_left",
    "tests/metrics/test_neighbors.py::test_large_data",
    "tests/metrics/test_sample.py::test_many_cells_are_searched_approximately",
    "tests/pl/test_coordinates.py::test_umap_itself",
    "tests/metrics/test_neighbors.py::test_from_the_graph_of_scanpy",
    "tests/metrics/test_neighbors.py::test_graph_of_removed_cells",
    "tests/metrics/test_neighbors.py::test_equal_to_umap",
    "tests/test_interoperability.py::test_scanpy",
    "scbatchnorm/metrics/_neighbors.py::",
    "tests/cli/test_demo.py",
    "tests/test_tutorials.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist worksteal` the first tests are all of the first worker, and the last to be taken by another one."""
    place = {prefix: i for i, prefix in enumerate(COMPILED)}
    items.sort(key=lambda item: next((i for prefix, i in place.items() if item.nodeid.startswith(prefix)), len(place)))


@pytest.fixture(autouse=True)
def brief_examples(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fits of doctests end after a few steps: what is shown of them does not need more."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    from scbatchnorm._method.parameters import FitParameters

    n_steps = FitParameters.n_steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FitParameters, "n_steps", lambda *of: min(60, n_steps(*of)))
        yield
