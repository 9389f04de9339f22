"""The verdict derived from the measured tables, and the reasons for it as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from scbatchnorm._data.checks import join_names
from scbatchnorm.pp._assessment.effect import MIN_CELLS

if TYPE_CHECKING:
    import pandas as pd

    from scbatchnorm._data.types import Bools

Verdict = Literal["none", "correct", "confounded"]
# An effect matters if it is significant at this level after correction, and at least this large;
ALPHA = 0.01
MIN_EFFECT = 0.02
# a correction is needed if groups with such effects hold at least this share of the cells.
_MIN_AFFECTED_SHARE = 0.1
# Shares of cells with counterparts below which batches have nothing, or little, in common.
_NOTHING_SHARED = 0.05
_LITTLE_SHARED = 0.5
# A smaller share of cells in groups that could be compared is reported.
_MIN_COMPARED_SHARE = 0.9


class Measurements(NamedTuple):
    """What a verdict is derived from; the tables are those of `Assessment`."""

    effects: pd.DataFrame
    batches: pd.DataFrame
    shared: pd.DataFrame
    association: pd.DataFrame
    design: pd.DataFrame
    group_word: str  # "cluster" or "label"
    private_labels: list[str]  # labels in one batch only
    compared_share: float  # share of the cells in groups in which batches could be compared


def decide_verdict(measurements: Measurements) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, the deciding one first."""
    batches, word = measurements.batches, measurements.group_word
    covariates = _explain_covariates(measurements)
    if len(batches) == 1:
        return "none", [f"There is one batch only, {batches.index[0]}: nothing to correct.", *covariates]
    if measurements.effects.empty:
        if (batches["cells"] >= MIN_CELLS).sum() < 2:
            few = f"Fewer than two batches have {MIN_CELLS} cells or more: too few to see an effect."
            return "none", [few, *covariates]
        nothing = (
            f"No {word} has {MIN_CELLS} cells or more of two batches: differences between batches cannot be "
            "told from differences between the cells that they hold, and there is nothing to align."
        )
        return "confounded", [nothing, *covariates]
    notes = [*_explain_missing(measurements), *_explain_shared(measurements), *_explain_private(measurements)]
    needed, reasons = _explain_effects(measurements)
    if not needed:
        return "none", [*reasons, *notes, *covariates]
    confounded = measurements.association["confounded"].to_numpy(dtype=bool)
    if confounded.any():
        deciding = [text for text, is_confounded in zip(covariates, confounded, strict=True) if is_confounded]
        others = [text for text, is_confounded in zip(covariates, confounded, strict=True) if not is_confounded]
        return "confounded", [*deciding, *reasons, *notes, *others]
    return "correct", [*reasons, *notes, *covariates]


def is_affected(table: pd.DataFrame) -> Bools:
    """Which rows have a significant effect that is large enough to matter, shape (rows,)."""
    return ((table["p_adjusted"] <= ALPHA) & (table["effect"] >= MIN_EFFECT)).to_numpy()


def _explain_effects(measurements: Measurements) -> tuple[bool, list[str]]:
    """Whether a correction is needed, and the sizes of the effects."""
    effects, word = measurements.effects, measurements.group_word
    all_of = f"the {len(effects)} {word}s" if len(effects) > 1 else f"the one {word}"
    hit, weight = is_affected(effects), effects["cells"].to_numpy(dtype=float)
    share = float(weight[hit].sum() / weight.sum())
    beyond = int((effects["p_adjusted"] <= ALPHA).sum())
    typical = float(np.average(effects["effect"], weights=weight))
    largest = int(effects["effect"].argmax())
    numbers = (
        f"the batch explains {format_percent(typical)} of the variance within a {word} on average, at most "
        f"{format_percent(effects['effect'].iloc[largest])} ({effects.index[largest]})"
    )
    odd = _explain_deviations(measurements.batches)
    if share >= _MIN_AFFECTED_SHARE:
        text = (
            f"Batches differ beyond chance in {hit.sum()} of {all_of} that could be judged, with "
            f"{format_percent(share)} of their cells: {numbers}."
        )
        return True, [text, *odd]
    if odd:
        return True, [*odd, f"On the whole {numbers}."]
    if hit.any():
        text = (
            f"Batches differ beyond chance in {hit.sum()} of {all_of} that could be judged, but these "
            f"hold {format_percent(share)} of their cells ({join_names(effects.index[hit])}): {numbers}. A difference in a corner of "
            "the data is rather one of composition."
        )
        return False, [text]
    if beyond:
        text = (
            f"Batches differ by more than chance in {beyond} of {all_of} that could be judged, "
            f"but by too little to matter: {numbers}; below {format_percent(MIN_EFFECT)} neighbourhoods of cells hardly change."
        )
        return False, [text]
    text = (
        f"Batches differ by no more than chance in {'any of ' if len(effects) > 1 else ''}{all_of} that could be judged: "
        f"{numbers} (smallest p {effects['p_adjusted'].min():.2g}, corrected for their number)."
    )
    return False, [text]


def _explain_deviations(batches: pd.DataFrame) -> list[str]:
    """Sentence about batches that differ from the others, if there are more than two."""
    compared = batches[batches["effect"].notna()]
    if len(compared) < 3:
        return []
    odd = compared[is_affected(compared)].sort_values("effect", ascending=False)
    if odd.empty:
        return []
    first = [f"{name} ({format_percent(value)})" for name, value in odd["effect"].head(3).items()]
    if len(odd) == len(compared):
        return [f"All {len(odd)} batches differ from the others, most: {', '.join(first)}."]
    verb = "differs" if len(odd) == 1 else "differ"
    most = "" if len(odd) == 1 else ", most"
    return [f"{len(odd)} of {len(compared)} batches {verb} from the others{most}: {', '.join(first)}."]


def _explain_shared(measurements: Measurements) -> list[str]:
    """Sentences about how much batches have in common, and which have nothing or little."""
    shared, batches = measurements.shared, measurements.batches
    values, names = shared.to_numpy(), list(shared.index)
    reasons = []
    alone = [name for name, value in batches["shared"].items() if value < _NOTHING_SHARED]
    little = [
        f"{name} ({format_percent(value)})"
        for name, value in batches["shared"].items()
        if _NOTHING_SHARED <= value < _LITTLE_SHARED
    ]
    overall = float(np.average(batches["shared"], weights=batches["cells"]))
    reasons.append(f"{format_percent(overall)} of the cells have counterparts in at least one other batch.")
    if alone:
        reasons.append(f"Batches with hardly any cell that has a counterpart elsewhere: {join_names(alone)}.")
    if little:
        reasons.append(f"Batches with counterparts for a part of their cells only: {join_names(little)}.")
    upper, lower = np.triu_indices(len(names), 1)
    none = [
        f"{names[u]} and {names[v]}"
        for u, v in zip(upper, lower, strict=True)
        if values[u, v] < _NOTHING_SHARED
        and values[v, u] < _NOTHING_SHARED
        and names[u] not in alone
        and names[v] not in alone
    ]
    if none:
        reasons.append(f"Pairs of batches with nothing in common: {join_names(none, 4)}.")
    return reasons


def _explain_private(measurements: Measurements) -> list[str]:
    """Sentence about labels that cannot be aligned with anything."""
    if not measurements.private_labels:
        return []
    plural = len(measurements.private_labels) > 1
    verb = "are" if plural else "is"
    return [
        f"{join_names(measurements.private_labels)} {verb} in one batch only: a correction has nothing to align "
        f"{'them' if plural else 'it'} with and should leave {'them' if plural else 'it'} in place."
    ]


def _explain_missing(measurements: Measurements) -> list[str]:
    """Sentences about cells and batches that could not be compared."""
    names = list(measurements.batches.index[measurements.batches["effect"].isna()])
    reasons = []
    if measurements.compared_share < _MIN_COMPARED_SHARE:
        reasons.append(
            f"{format_percent(1 - measurements.compared_share)} of the cells could not be judged: their {measurements.group_word} has fewer than "
            f"{MIN_CELLS} cells of any second batch."
        )
    if names:
        reasons.append(
            f"Nothing can be said about {join_names(names)}: fewer than {MIN_CELLS} cells in every {measurements.group_word} "
            "that other batches have, too."
        )
    return reasons


_STATUS_SENTENCES = {
    "separable": "its levels occur together in batches, so their differences can be told from those between batches.",
    "partly separable": "some levels are in batches of their own; their differences from the others cannot be told from "
    "those between batches, differences among levels of the same batches can.",
    "nested in batches": "every level is in one batch only. Levels of one batch can be compared, those of different "
    "batches cannot.",
    "one level": "it has one level only, which says nothing.",
    "one batch": "there is one batch to compare within.",
    "no values": "it has no values.",
}


def _explain_covariates(measurements: Measurements) -> list[str]:
    """A sentence about each covariate, in their order."""
    reasons = []
    for name, row in measurements.association.iterrows():
        measured = f"{row['measure']} {row['value']:.2f}" if np.isfinite(row["value"]) else ""
        text = (
            _explain_confounding(row, measurements.design.loc[[name]])
            if row["confounded"]
            else _STATUS_SENTENCES[row["status"]]
        )
        missing = f" {_format_cells(row['missing'])} without value." if row["missing"] and row["levels"] else ""
        reasons.append(f"{name}{f' ({measured} with the batch)' if measured else ''}: {text}{missing}")
    return reasons


def _explain_confounding(row: pd.Series, counts: pd.DataFrame) -> str:
    """Why a covariate is confounded with the batch, and what to do instead of a correction."""
    if row["measure"] != "Cramer's V":
        return (
            f"it {'hardly varies' if row['status'] == 'nearly confounded' else 'does not vary'} within batches, and a correction "
            "would remove what depends on it along with the differences between batches."
        )
    strays = f" apart from {_format_cells(row['strays'])}," if row["strays"] else ""
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


def format_percent(share: float) -> str:
    """A share as text: whole percents, one digit below 10, at least 0."""
    value = max(100 * share, 0.0)
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def _format_cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"
