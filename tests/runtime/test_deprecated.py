"""What goes is announced at the user's line, and works meanwhile."""

from __future__ import annotations

import ast
import inspect
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

import scbatchnorm
from scbatchnorm._runtime.deprecated import deprecated, renamed


@deprecated(removed_in="9.0", instead="Use other().")
def goes(a: int, *, b: int = 2) -> tuple[int, int]:
    """What it does."""
    return a, b


@renamed(removed_in="9.0", colour="color", obj="a")
def keeps(a: int, *, color: str = "red") -> tuple[int, str]:
    """What it does."""
    return a, color


def test_a_function_that_goes_works_and_says_so():
    with pytest.warns(FutureWarning, match=r"^goes will be removed in scbatchnorm 9\.0\. Use other\(\)\.$") as said:
        assert goes(1, b=3) == (1, 3)
    assert said[0].filename == __file__
    assert list(inspect.signature(goes).parameters) == ["a", "b"]
    assert goes.__doc__ == "What it does."


def test_an_old_name_works_and_says_so():
    with pytest.warns(
        FutureWarning, match=r"'colour' of keeps\(\) is called 'color' now; .* removed in scbatchnorm 9\.0\."
    ) as said:
        assert keeps(1, colour="blue") == (1, "blue")  # type: ignore[call-arg]
    assert said[0].filename == __file__
    with pytest.warns(FutureWarning, match="'obj' of keeps"):
        assert keeps(obj=1) == (1, "red")  # type: ignore[call-arg]


def test_the_new_name_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keeps(1, color="blue") == (1, "blue")
    assert list(inspect.signature(keeps).parameters) == ["a", "color"]


def test_both_names_are_refused():
    with pytest.raises(TypeError, match=r"keeps\(\) got 'color' and its old name 'colour'; give 'color' only\."):
        keeps(1, color="red", colour="blue")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="size"):
        keeps(1, size=2)  # type: ignore[call-arg]


def test_nothing_outlives_its_announcement():
    """A name that was to be removed in this version, or before, is still there."""
    now = [int(part) for part in version("scbatchnorm").split(".")[:2]]
    for path in Path(scbatchnorm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"deprecated", "renamed"}:
                (until,) = [word.value for word in node.keywords if word.arg == "removed_in"]
                assert isinstance(until, ast.Constant)
                assert [int(part) for part in str(until.value).split(".")[:2]] > now, f"{path}:{node.lineno}"
