"""What `pp.assess` has found, beside the names of batches and types and above them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scbatchnorm.pp._assessment import result as _result
from scbatchnorm.pp._assessment import verdict as _verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

# Points above the axes: with a legend there, above it.
_PAD, _ABOVE_LEGEND = 6.0, 26.0


@dataclass(frozen=True)
class Shown:
    """What stands behind the names of batches, with a place for their cells, and of types; and the lines of the title.

    Empty where nothing is known.
    """

    batches: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    title: str = ""


NOTHING = Shown()


def of(adata: AnnData, batch_key: str | Sequence[str], label_key: str) -> Shown:
    """What `adata.uns` has of these batches."""
    if _result.KEY not in adata.uns:
        return NOTHING
    found = _result.from_uns(adata.uns[_result.KEY])
    if found.batch_key != (batch_key if isinstance(batch_key, str) else " | ".join(batch_key)):
        return NOTHING
    title = f"Verdict: {found.verdict}"
    if len(found.effects):
        word = "type" if found.label_key else "cluster"
        typical = float(np.average(found.effects["effect"], weights=found.effects["cells"]))
        title += f"\nthe batch explains {_verdict.percent(typical)} of the variance in a {word}"
    return Shown(
        batches=_effects(found.batches, "({{:,}}; {})") if len(found.batches) > 2 else {},
        types=_effects(found.effects, "({})") if found.label_key == label_key else {},
        title=title,
    )


def _effects(table: pd.DataFrame, form: str) -> dict[str, str]:
    """Effects in the `form` of words, by name; a star is one beyond chance that is large enough."""
    table = table[table["effect"].notna()]
    words = [_verdict.percent(effect) for effect in table["effect"]]
    stars = np.where(_verdict.affected(table), "*", "")
    return {str(name): form.format(word + star) for name, word, star in zip(table.index, words, stars, strict=True)}


def explain(ax: Axes, shown: Shown) -> None:
    """Say beside the names of the axes what the percentages are."""
    if shown.batches:
        ax.set_xlabel(f"{ax.get_xlabel()} (cells; effect against the others)")
    if shown.types:
        ax.set_ylabel(f"{ax.get_ylabel()} (effect of the batch)")


def entitle(ax: Axes, shown: Shown) -> None:
    """Put the verdict above the picture, and above its legend."""
    if shown.title:
        pad = _PAD if ax.get_legend() is None else _ABOVE_LEGEND
        ax.set_title(shown.title, loc="left", fontsize="medium", pad=pad)
