"""Model files, checkpoints and records that were damaged, edited or forged: refused, or a model; never a crash, a hang or much memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.stress import damage, hostile, readers
from tests.stress.effort import tries
from tests.stress.examples import MODELS
from tests.stress.values import TREE_CHANGES, one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from tests.stress.values import Draw

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def files(isolated) -> dict[str, bytes]:
    return isolated(readers.model_files)


@pytest.fixture(scope="module")
def checkpoints(isolated) -> list[list[bytes]]:
    return isolated(readers.checkpoint_files)


@pytest.fixture(scope="module")
def records(isolated) -> list[dict[str, Any]]:
    return isolated(readers.records)


def test_what_nobody_has_changed_is_read(isolated, files, checkpoints, records):
    assert files.keys() == set(MODELS)
    for name, data in files.items():
        kind, content, arrays = hostile.unpack(data)
        hostile.renew_fingerprints(content, arrays)
        assert hostile.pack(kind, content, arrays) == data
        assert isolated(readers.load_changed, data, name, False) == readers.IDENTICAL
    assert [isolated(readers.restore_changed, record, i) for i, record in enumerate(records)] == [readers.IDENTICAL] * 3
    assert all(len(stages) > 2 for stages in checkpoints)


@pytest.mark.parametrize("kind", damage.DAMAGES)
@tries(3)
@given(data=st.data())
def test_damaged_model(kind, isolated, files, data):
    name = data.draw(st.sampled_from(MODELS))
    event(isolated(readers.load_changed, damage.damage(data.draw, files[name], kind), name, False))


@pytest.mark.parametrize("kind", hostile.OF_MODELS)
@tries(4)
@given(data=st.data())
def test_hostile_model(kind, isolated, files, data):
    name = data.draw(st.sampled_from(MODELS))
    event(isolated(readers.load_changed, hostile.attack(data.draw, files[name], kind), name, True))


@pytest.mark.parametrize("kind", [*damage.DAMAGES, *hostile.OF_FILES])
@tries(2)
@given(data=st.data())
def test_changed_checkpoint(kind, isolated, checkpoints, data):
    number = data.draw(st.integers(0, len(checkpoints) - 1))
    whole = data.draw(st.sampled_from(checkpoints[number]))
    change: Callable[[Draw, bytes, str], bytes] = hostile.attack if kind in hostile.OF_FILES else damage.damage
    changed = change(data.draw, whole, kind)
    event(isolated(readers.resume_changed, changed, number, kind in hostile.OF_FILES))


def _column(draw: Draw, record: dict[str, Any]) -> dict[str, Any]:
    """A history with another column, or that is no table."""
    name = one_of(draw, ["history", "shift_history"])
    frame: pd.DataFrame = record[name]
    column = one_of(draw, frame.columns)
    forms = [
        frame.drop(columns=column), frame.rename(columns={column: "other"}), frame[frame.columns[::-1]],
        frame.assign(**{column: "x"}), frame.assign(**{column: np.nan}), frame.assign(more=1), frame.iloc[:0],
        frame.to_dict("list"), frame.to_numpy(), None, frame.T,
    ]  # fmt: skip
    return record | {name: one_of(draw, forms)}


def _array(draw: Draw, record: dict[str, Any]) -> dict[str, Any]:
    """Another array among the weights or the cells of the sketch."""
    name = one_of(draw, ["weights", "reference"])
    arrays = {key: value for key, value in record[name].items() if isinstance(value, np.ndarray)}
    hostile.OF_ARRAYS[one_of(draw, hostile.OF_ARRAYS)](draw, {}, arrays)
    others = {key: value for key, value in record[name].items() if not isinstance(value, np.ndarray)}
    return record | {name: others | arrays}


RECORD_CHANGES = TREE_CHANGES | {"array": _array, "column of a table": _column}


@pytest.mark.parametrize("kind", RECORD_CHANGES)
@tries(8)
@given(data=st.data())
def test_changed_record(kind, isolated, records, data):
    number = data.draw(st.integers(0, len(records) - 1))
    event(isolated(readers.restore_changed, RECORD_CHANGES[kind](data.draw, records[number]), number))
