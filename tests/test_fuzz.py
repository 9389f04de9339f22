"""Short runs of `benchmarks.fuzz`; the counts of the long ones are in `docs/`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("benchmarks", reason="benchmarks/ is in the repository, not in the package")

from benchmarks.fuzz import counts, inputs, isolated, judges, killed, killing, troubles

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")


def tried(judge: isolated.Judge, numbers: range) -> list[isolated.Case]:
    return [isolated.Case(number, judge.kind(number), *judge(number)) for number in numbers]


def assert_only(outcomes: frozenset[str], cases: list[isolated.Case]) -> None:
    assert cases
    assert counts.bad(cases, outcomes) == []


@pytest.mark.slow
def test_changed_model_files(tmp_path: Path) -> None:
    """Two of every kind: our error or the same model."""
    judge = judges.Files(1, tmp_path)
    cases = tried(judge, range(2 * len(judges.FILES)))
    assert_only(judges.GOOD, cases)
    assert {case.kind for case in cases} == set(judges.FILES)
    refused = sum(case.outcome == judges.REFUSED for case in cases)
    assert len(cases) / 2 < refused < len(cases)


def test_changed_checkpoints(tmp_path: Path) -> None:
    assert_only(judges.GOOD, tried(judges.Checkpoints(1, tmp_path), range(0, 40, 3)))


def test_changed_records(tmp_path: Path) -> None:
    assert_only(judges.GOOD, tried(judges.Records(1, tmp_path), range(42)))


def test_changed_inputs() -> None:
    cases = tried(inputs.Inputs(seed=1), range(2 * len(inputs.Inputs.kinds)))
    assert_only(inputs.GOOD, cases)
    assert {case.outcome for case in cases} == inputs.GOOD


@pytest.mark.slow
def test_killed_training() -> None:
    seen = killed.training(3, seed=1, n_cells=150, steps=60, per_fit=3)
    assert not killed.wrong(seen)
    assert seen["bitwise as uninterrupted"] == seen["nothing left but the checkpoint"] == seen["fits"] > 0


def test_killed_saving() -> None:
    seen = killed.saving(5, seed=1)
    assert not killed.wrong(seen)
    assert seen["a whole version in place"] == seen["nothing left after the next save"] == 5


def test_saving_at_once() -> None:
    seen = killed.racing(20)
    assert not killed.wrong(seen)
    assert seen["saves"] == 40


def test_troubles_are_seen() -> None:
    """What ends a process, or would never end, is an outcome, and the cases behind it are tried all the same."""
    found = list(isolated.judged(troubles.Troubles, (), [0, 1, 2, 3, 4, 0], seconds=1.0))
    assert [case.outcome for case in found] == [
        "fine", isolated.CRASH, isolated.HANG, isolated.MEMORY, isolated.ERROR, "fine",
    ]  # fmt: skip
    assert found[1].detail == "SIGABRT"
    assert found[4].detail.startswith("OSError: error (fuzz/troubles.py:")
    assert [case.kind for case in found] == ["fine", "crash", "hang", "memory", "error", "fine"]
    text, wrong, cases = counts.told("Troubles", found, {"fine"})
    assert wrong == 4
    assert "| fine | 0 | 0 | 0 | 0 | 2 |" in text
    assert cases == found


def test_half_a_file_is_seen(tmp_path: Path) -> None:
    """What a writer without care leaves behind counts as broken, and as another version what nobody wrote."""
    (version, *_), fingerprints = killed._versions(tmp_path, 1)
    assert killed._read(version, fingerprints) == "a whole version in place"
    assert killed.wrong(Counter([killed._read(version, ["another"])]))
    child, place = killing.started(troubles.careless, version)
    assert killing.killed(child, place, "writing", 1, 0.0) == "writing"
    assert killed._read(version, fingerprints).startswith("BROKEN: ")
    assert killed.wrong(Counter([killed._read(version, fingerprints)]))
    version.unlink()
    assert killed.wrong(Counter([killed._read(version, fingerprints)]))
