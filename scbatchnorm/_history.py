"""What is remembered of a training: the losses of every epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

# Training has converged when reconstruction + displacement of this many refreshes are within this share of each other.
_FLAT_REFRESHES = 3
_FLAT_SHARE = 0.01


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

    def frame(self) -> pd.DataFrame:
        """One row per epoch."""
        return empty_history() if not self.rows else pd.DataFrame(self.rows).astype(empty_history().dtypes)

    def flat(self) -> bool:
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
