"""What is recorded of a training: the losses of every epoch and, if asked, the shift at every layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scbatchnorm._data.plain import select_prefix, to_json_table
from scbatchnorm._method.calibration import calibrate_statistics
from scbatchnorm.nn._moments import Moments
from scbatchnorm.nn.inspection import drift, shift_table, snapshot

if TYPE_CHECKING:
    from scbatchnorm._data.plain import Arrays, Content
    from scbatchnorm._data.types import Codes, Floats, Labels
    from scbatchnorm.nn.inspection import Snapshot
    from scbatchnorm.nn.network import Autoencoder

# Training has converged when reconstruction + displacement of so many refreshes, and the one before, are within this share of each other.
_FLAT_REFRESHES = 3
_FLAT_SHARE = 0.01
# Cells whose shift is recorded.
_RECORDED_CELLS = 2000


@dataclass
class History:
    """Losses of the steps of the current epoch, and the rows of those before."""

    rows: list[dict[str, float]] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)

    def close_epoch(self, step: int, refresh: int, learning_rate: float) -> None:
        """End an epoch with its mean losses; nothing happens if it had no steps."""
        if self.steps:
            losses = dict(
                zip(("reconstruction", "anchors", "adversary"), np.mean(self.steps, axis=0).tolist(), strict=True)
            )
            row = {"epoch": len(self.rows), "step": step, "refresh": refresh, **losses, "learning_rate": learning_rate}
            self.rows.append(row)
            self.steps = []

    def load(self, rows: Any) -> None:
        """Go on from `rows` of an earlier run."""
        columns = empty_history().dtypes
        if not np.isfinite([[row[name] for name in columns.index] for row in rows]).all():
            msg = "the history is not finite"
            raise ValueError(msg)
        self.rows = [{str(name): kind.type(row[name]).item() for name, kind in columns.items()} for row in rows]

    def frame(self) -> pd.DataFrame:
        """One row per epoch."""
        return empty_history() if not self.rows else pd.DataFrame(self.rows).astype(empty_history().dtypes)

    def is_flat(self) -> bool:
        """Whether reconstruction + displacement no longer change from refresh to refresh."""
        frame = self.frame()
        level = (
            (frame["reconstruction"] + frame["anchors"])
            .groupby(frame["refresh"])
            .mean()
            .to_numpy()[-_FLAT_REFRESHES - 1 :]
        )
        return len(level) > _FLAT_REFRESHES and np.ptp(level) <= _FLAT_SHARE * abs(level[-1])


def empty_history() -> pd.DataFrame:
    """History of no training: the columns, without rows."""
    whole, real = ("epoch", "step", "refresh"), ("reconstruction", "anchors", "adversary", "learning_rate")
    return pd.DataFrame({**{c: np.empty(0, np.int64) for c in whole}, **{c: np.empty(0, np.float64) for c in real}})


class ShiftHistory:
    """Shift between batches, and drift since the last record, at each normalisation: always of the same cells."""

    def __init__(self, points: Floats, codes: Codes) -> None:
        # Evenly over the cells and not at random: what is recorded must not change what is trained.
        of_batches = [np.flatnonzero(codes == level) for level in range(int(codes.max()) + 1)]
        most = max(_RECORDED_CELLS // len(of_batches), 2)
        rows = np.concatenate([cells[:: -(-len(cells) // most)] for cells in of_batches])
        self.points, self.codes = points[rows], codes[rows]
        self.last: Snapshot | None = None
        self.tables: list[pd.DataFrame] = []

    def record(self, network: Autoencoder, step: int) -> None:
        """Record the shift at this step."""
        now = self._now(network)
        moved = drift(now, self.last)
        table = shift_table(now, [str(level) for level in range(network.n_batches)])
        places = zip(table["layer"], table["position"], strict=True)
        self.tables.append(table.assign(step=step, drift=[moved[place] for place in places]))
        self.last = now

    def state(self) -> tuple[Content, Arrays]:
        """What was recorded so far, as a checkpoint holds it."""
        places = [] if self.last is None else [list(place) for place in self.last]
        moments = [] if self.last is None else list(self.last.values())
        arrays = {f"{i}.{name}": part.numpy() for i, m in enumerate(moments) for name, part in vars(m).items()}
        return {"tables": [to_json_table(frame) for frame in self.tables], "places": places}, arrays

    def load(self, content: Content, arrays: Arrays, network: Autoencoder) -> None:
        """Go on from a `state` of a training of such a `network`."""
        self.tables = [pd.DataFrame(columns).astype(empty_shift_history().dtypes) for columns in content["tables"]]
        parts = [select_prefix(arrays, f"{i}.") for i in range(len(content["places"]))]
        moments = [Moments(**{name: torch.from_numpy(value) for name, value in part.items()}) for part in parts]
        self.last = dict(zip(map(tuple, content["places"]), moments, strict=True)) or None
        levels = {str(level) for level in range(network.n_batches)}
        strangers = any(not levels.issuperset(table["batch"]) for table in self.tables)
        if strangers or (self.last is not None and _shapes(self.last) != _shapes(self._now(network))):
            msg = "the recorded shift is that of another network"
            raise ValueError(msg)

    def _now(self, network: Autoencoder) -> Snapshot:
        """Moments with the statistics that the network would be frozen with now; moving averages would lag, and start at nothing."""
        frozen = copy.deepcopy(network)
        calibrate_statistics(frozen, self.points, self.codes)
        device = next(frozen.parameters()).device
        x, codes = torch.from_numpy(self.points).to(device), torch.from_numpy(self.codes).to(device)
        return snapshot(frozen, x, codes, network.n_batches)

    def frame(self) -> pd.DataFrame:
        """One row per record, layer, position and batch, whose names are its codes."""
        empty = empty_shift_history()  # whose types also files have: pandas 3 infers others for words
        return pd.concat(self.tables, ignore_index=True)[list(empty)].astype(empty.dtypes)


def empty_shift_history() -> pd.DataFrame:
    """History without records: the columns, without rows."""
    words, whole = ("layer", "norm", "position", "batch"), ("step", "n_cells")
    columns = ("step", *words, "n_cells", "mean_shift", "variance_shift", "drift")
    return pd.DataFrame(
        {c: np.empty(0, object if c in words else np.int64 if c in whole else np.float64) for c in columns}
    )


def name_batches(shift: pd.DataFrame, names: Labels) -> pd.DataFrame:
    """A history of shifts with the names of the batches for their codes."""
    named = [str(names[int(code)]) for code in shift["batch"]]
    return shift.assign(batch=pd.Series(named, shift.index, dtype=object))


def _shapes(found: Snapshot) -> dict[tuple[str, str, str], list[torch.Size]]:
    return {place: [moment.weight.shape, moment.mean.shape, moment.square.shape] for place, moment in found.items()}
