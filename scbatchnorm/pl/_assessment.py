"""What `pp.assess` has found, beside the names of batches and types and above them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.pp._assessment.result import KEY, from_uns
from scbatchnorm.pp._assessment.verdict import format_percent, is_affected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

# Points above the axes: with a legend there, above it.
_PAD, _ABOVE_LEGEND = 6.0, 26.0


@dataclass(frozen=True)
class AssessmentText:
    """What stands behind the names of batches, with a place for their cells, and of types; and the lines of the title.

    Empty where nothing is known.
    """

    batches: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    title: str = ""


NO_ASSESSMENT = AssessmentText()


def read_assessment(adata: AnnData, batch_key: str | Sequence[str], label_key: str) -> AssessmentText:
    """What `adata.uns` has of these batches."""
    if KEY not in adata.uns:
        return NO_ASSESSMENT
    found = from_uns(adata.uns[KEY])
    if found.batch_key != (batch_key if isinstance(batch_key, str) else " | ".join(batch_key)):
        return NO_ASSESSMENT
    title = f"Verdict: {found.verdict}"
    if len(found.effects):
        word = "type" if found.label_key else "cluster"
        typical = float(np.average(found.effects["effect"], weights=found.effects["cells"]))
        title += f"\nthe batch explains {format_percent(typical)} of the variance in a {word}"
    return AssessmentText(
        batches=_effects(found.batches, "({{:,}}; {})") if len(found.batches) > 2 else {},
        types=_effects(found.effects, "({})") if found.label_key == label_key else {},
        title=title,
    )


def _effects(table: pd.DataFrame, form: str) -> dict[str, str]:
    """Effects in the `form` of words, by name; a star is one beyond chance that is large enough."""
    table = table[table["effect"].notna()]
    words = [format_percent(effect) for effect in table["effect"]]
    stars = np.where(is_affected(table), "*", "")
    return {str(name): form.format(word + star) for name, word, star in zip(table.index, words, stars, strict=True)}


def label_effects(ax: Axes, shown: AssessmentText) -> None:
    """Say beside the names of the axes what the percentages are."""
    if shown.batches:
        ax.set_xlabel(f"{ax.get_xlabel()} (cells; effect against the others)")
    if shown.types:
        ax.set_ylabel(f"{ax.get_ylabel()} (effect of the batch)")


def add_title(ax: Axes, shown: AssessmentText) -> None:
    """Put the verdict above the picture, and above its legend."""
    if shown.title:
        pad = _PAD if ax.get_legend() is None else _ABOVE_LEGEND
        ax.set_title(shown.title, loc="left", fontsize="medium", pad=pad)
