"""Results of `pp.assess` as text in the labels and the title of a picture."""

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

# Points between axes and title, without and with a legend between them.
_PAD, _PAD_ABOVE_LEGEND = 6.0, 26.0


@dataclass(frozen=True)
class AssessmentText:
    """Text after the name of each batch, with a field for its number of cells, and of each type; and the title.

    Empty if there is no assessment.
    """

    batches: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    title: str = ""


NO_ASSESSMENT = AssessmentText()


def read_assessment(adata: AnnData, batch_key: str | Sequence[str], label_key: str) -> AssessmentText:
    """Read the assessment of these batches from `adata.uns`."""
    if KEY not in adata.uns:
        return NO_ASSESSMENT
    assessment = from_uns(adata.uns[KEY])
    if assessment.batch_key != (batch_key if isinstance(batch_key, str) else " | ".join(batch_key)):
        return NO_ASSESSMENT
    title = f"Verdict: {assessment.verdict}"
    if len(assessment.effects):
        word = "type" if assessment.label_key else "cluster"
        typical = float(np.average(assessment.effects["effect"], weights=assessment.effects["cells"]))
        title += f"\nthe batch explains {format_percent(typical)} of the variance in a {word}"
    return AssessmentText(
        batches=_effects(assessment.batches, "({{:,}}; {})") if len(assessment.batches) > 2 else {},
        types=_effects(assessment.effects, "({})") if assessment.label_key == label_key else {},
        title=title,
    )


def _effects(table: pd.DataFrame, template: str) -> dict[str, str]:
    """Format effects, name -> text; a star marks an effect beyond chance that is large enough to matter."""
    table = table[table["effect"].notna()]
    percentages = [format_percent(effect) for effect in table["effect"]]
    stars = np.where(is_affected(table), "*", "")
    return {
        str(name): template.format(text + star)
        for name, text, star in zip(table.index, percentages, stars, strict=True)
    }


def label_effects(ax: Axes, text: AssessmentText) -> None:
    """Explain the percentages in the labels of the axes."""
    if text.batches:
        ax.set_xlabel(f"{ax.get_xlabel()} (cells; effect against the others)")
    if text.types:
        ax.set_ylabel(f"{ax.get_ylabel()} (effect of the batch)")


def add_title(ax: Axes, text: AssessmentText) -> None:
    """Put the title above the picture and its legend."""
    if text.title:
        pad = _PAD if ax.get_legend() is None else _PAD_ABOVE_LEGEND
        ax.set_title(text.title, loc="left", fontsize="medium", pad=pad)
