"""The tests that docs/pains.md names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    line
    for line in (ROOT / "docs" / "pains.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d+ \|", line)
]


def test_there_are_31_rows_of_four_columns():
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 32))
    assert {len(re.split(r"(?<!\\)\|", row)) for row in ROWS} == {6}


@pytest.mark.parametrize("row", ROWS, ids=[str(number) for number in range(1, len(ROWS) + 1)])
def test_named_tests_are_there(row):
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
    assert named
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), (path, name)


@pytest.mark.parametrize("row", ROWS, ids=[str(number) for number in range(1, len(ROWS) + 1)])
def test_pages_that_are_linked_are_there(row):
    pages = re.findall(r"\]\(((?!https://)[^)#]+)", row)
    assert all((ROOT / "docs" / page).is_file() for page in pages)
