"""From tables to a verdict, and the reasons for it in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from scbatchnorm._data.checks import join_names
from scbatchnorm.pp._assessment import effect as _effect

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["none", "correct", "confounded"]
# What counts: beyond chance, large enough to matter, and not in a corner of the data only.
LEVEL = 0.01
SMALLEST = 0.02
_AFFECTED = 0.1
# Shares of cells with counterparts below which batches have nothing, or little, in common.
_NOTHING = 0.05
_LITTLE = 0.5
# Share of the cells that are judged below which it is said.
_MOST_CELLS = 0.9


class Tables(NamedTuple):
    """What a verdict is derived from; the columns are those of `Assessment`."""

    effects: pd.DataFrame
    batches: pd.DataFrame
    shared: pd.DataFrame
    association: pd.DataFrame
    design: pd.DataFrame
    word: str  # what a group of cells is called
    private: list[str]  # groups in one batch only
    judged: float  # share of the cells in groups that could be judged


def decide(tables: Tables) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, the deciding one first."""
    batches = tables.batches
    if len(batches) == 1:
        return "none", [f"There is one batch only, {batches.index[0]}: nothing to correct.", *_of_covariates(tables)]
    notes = [*_of_unjudged(tables), *_of_shared(tables), *_of_private(tables)]
    covariates = _of_covariates(tables)
    if tables.effects.empty:
        if (batches["cells"] >= _effect.AT_LEAST).sum() < 2:
            few = f"Fewer than two batches have {_effect.AT_LEAST} cells or more: too few to see an effect."
            return "none", [few, *covariates]
        nothing = (
            f"No {tables.word} has {_effect.AT_LEAST} cells or more of two batches: differences between batches cannot be "
            "told from differences between the cells that they hold, and there is nothing to align."
        )
        return "confounded", [nothing, *covariates]
    found, reasons = _of_effect(tables)
    if not found:
        return "none", [*reasons, *notes, *covariates]
    confounded = tables.association["confounded"].to_numpy(dtype=bool)
    if confounded.any():
        # What makes the verdict comes first.
        first = [text for text, is_so in zip(covariates, confounded, strict=True) if is_so]
        rest = [text for text, is_so in zip(covariates, confounded, strict=True) if not is_so]
        return "confounded", [*first, *reasons, *notes, *rest]
    return "correct", [*reasons, *notes, *covariates]


def affected(table: pd.DataFrame) -> np.ndarray:
    """Which rows have an effect beyond chance that is large enough to matter, shape (rows,)."""
    return ((table["p_adjusted"] <= LEVEL) & (table["effect"] >= SMALLEST)).to_numpy()


def _of_effect(tables: Tables) -> tuple[bool, list[str]]:
    """Whether there is something to correct, and the numbers."""
    effects, word = tables.effects, tables.word
    all_of = f"the {len(effects)} {word}s" if len(effects) > 1 else f"the one {word}"
    hit, weight = affected(effects), effects["cells"].to_numpy(dtype=float)
    share = float(weight[hit].sum() / weight.sum())
    beyond = int((effects["p_adjusted"] <= LEVEL).sum())
    typical = float(np.average(effects["effect"], weights=weight))
    largest = int(effects["effect"].argmax())
    numbers = (
        f"the batch explains {percent(typical)} of the variance within a {word} on average, at most "
        f"{percent(effects['effect'].iloc[largest])} ({effects.index[largest]})"
    )
    odd = _deviating(tables.batches)
    if share >= _AFFECTED:
        text = (
            f"Batches differ beyond chance in {hit.sum()} of {all_of} that could be judged, with "
            f"{percent(share)} of their cells: {numbers}."
        )
        return True, [text, *odd]
    if odd:
        return True, [*odd, f"On the whole {numbers}."]
    if hit.any():
        text = (
            f"Batches differ beyond chance in {hit.sum()} of {all_of} that could be judged, but these "
            f"hold {percent(share)} of their cells ({join_names(effects.index[hit])}): {numbers}. A difference in a corner of "
            "the data is rather one of composition."
        )
        return False, [text]
    if beyond:
        text = (
            f"Batches differ by more than chance in {beyond} of {all_of} that could be judged, "
            f"but by too little to matter: {numbers}; below {percent(SMALLEST)} neighbourhoods of cells hardly change."
        )
        return False, [text]
    text = (
        f"Batches differ by no more than chance in {'any of ' if len(effects) > 1 else ''}{all_of} that could be judged: "
        f"{numbers} (smallest p {effects['p_adjusted'].min():.2g}, corrected for their number)."
    )
    return False, [text]


def _deviating(batches: pd.DataFrame) -> list[str]:
    """Batches that differ from the others, if there are more than two."""
    judged = batches[batches["effect"].notna()]
    if len(judged) < 3:
        return []
    odd = judged[affected(judged)].sort_values("effect", ascending=False)
    if odd.empty:
        return []
    first = [f"{name} ({percent(value)})" for name, value in odd["effect"].head(3).items()]
    if len(odd) == len(judged):
        return [f"All {len(odd)} batches differ from the others, most: {', '.join(first)}."]
    verb = "differs" if len(odd) == 1 else "differ"
    most = "" if len(odd) == 1 else ", most"
    return [f"{len(odd)} of {len(judged)} batches {verb} from the others{most}: {', '.join(first)}."]


def _of_shared(tables: Tables) -> list[str]:
    """How much batches have in common, and which have nothing or little."""
    shared, batches = tables.shared, tables.batches
    values, names = shared.to_numpy(), list(shared.index)
    reasons = []
    alone = [name for name, value in batches["shared"].items() if value < _NOTHING]
    little = [f"{name} ({percent(value)})" for name, value in batches["shared"].items() if _NOTHING <= value < _LITTLE]
    overall = float(np.average(batches["shared"], weights=batches["cells"]))
    reasons.append(f"{percent(overall)} of the cells have counterparts in at least one other batch.")
    if alone:
        reasons.append(f"Batches with hardly any cell that has a counterpart elsewhere: {join_names(alone)}.")
    if little:
        reasons.append(f"Batches with counterparts for a part of their cells only: {join_names(little)}.")
    upper, lower = np.triu_indices(len(names), 1)
    none = [
        f"{names[u]} and {names[v]}"
        for u, v in zip(upper, lower, strict=True)
        if values[u, v] < _NOTHING and values[v, u] < _NOTHING and names[u] not in alone and names[v] not in alone
    ]
    if none:
        reasons.append(f"Pairs of batches with nothing in common: {join_names(none, 4)}.")
    return reasons


def _of_private(tables: Tables) -> list[str]:
    """Groups that cannot be aligned with anything."""
    if not tables.private:
        return []
    plural = len(tables.private) > 1
    verb = "are" if plural else "is"
    return [
        f"{join_names(tables.private)} {verb} in one batch only: a correction has nothing to align "
        f"{'them' if plural else 'it'} with and should leave {'them' if plural else 'it'} in place."
    ]


def _of_unjudged(tables: Tables) -> list[str]:
    """How much, and which batches, could not be judged."""
    names = list(tables.batches.index[tables.batches["effect"].isna()])
    reasons = []
    if tables.judged < _MOST_CELLS and not tables.effects.empty:
        reasons.append(
            f"{percent(1 - tables.judged)} of the cells could not be judged: their {tables.word} has fewer than "
            f"{_effect.AT_LEAST} cells of any second batch."
        )
    if names and not tables.effects.empty:
        reasons.append(
            f"Nothing can be said about {join_names(names)}: fewer than {_effect.AT_LEAST} cells in every {tables.word} "
            "that other batches have, too."
        )
    return reasons


_STATUS = {
    "separable": "its levels occur together in batches, so their differences can be told from those between batches.",
    "partly separable": "some levels are in batches of their own; their differences from the others cannot be told from "
    "those between batches, differences among levels of the same batches can.",
    "nested in batches": "every level is in one batch only. Levels of one batch can be compared, those of different "
    "batches cannot.",
    "one level": "it has one level only, which says nothing.",
    "one batch": "there is one batch to compare within.",
    "no values": "it has no values.",
}


def _of_covariates(tables: Tables) -> list[str]:
    """What is said about each covariate, in their order."""
    reasons = []
    for name, row in tables.association.iterrows():
        measured = f"{row['measure']} {row['value']:.2f}" if np.isfinite(row["value"]) else ""
        text = _confounded(row, tables.design.loc[[name]]) if row["confounded"] else _STATUS[row["status"]]
        missing = f" {_cells(row['missing'])} without value." if row["missing"] and row["levels"] else ""
        reasons.append(f"{name}{f' ({measured} with the batch)' if measured else ''}: {text}{missing}")
    return reasons


def _confounded(row: pd.Series, counts: pd.DataFrame) -> str:
    """Why, and what to do instead."""
    if row["measure"] != "Cramer's V":
        return (
            f"it {'hardly varies' if row['status'] == 'nearly confounded' else 'does not vary'} within batches, and a correction "
            "would remove what depends on it along with the differences between batches."
        )
    strays = f" apart from {_cells(row['strays'])}," if row["strays"] else ""
    text = (
        f"every batch holds one level only,{strays} and a correction would remove the differences between levels along "
        "with those between batches."
    )
    batches = (counts.to_numpy() > 0).sum(axis=1)
    several = [f"{level} in {n}" for (_, level), n in zip(counts.index, batches, strict=True) if n > 1]
    if several and not strays:
        text += (
            f" Levels have several batches ({join_names(several, 4)}): compare levels on uncorrected counts, with "
            "batches as replicates."
        )
    return text


def percent(share: float) -> str:
    """A share in words: whole percents, one digit below 10, and nothing below 0."""
    value = max(100 * share, 0.0)
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def _cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"
