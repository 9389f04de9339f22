"""Colours of categories, stored as scanpy stores them: `uns[f"{key}_colors"]`, in the order of the categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.colors import is_color_like, to_hex

from scbatchnorm._runtime.messages import warn

if TYPE_CHECKING:
    from anndata import AnnData

# Distinguishable with any colour vision: Petroff's sequence (arXiv 2107.02270) without its greys, and CARTO's "Safe".
_UP_TO_7 = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#92dadd", "#a96b59", "#e76300")
_UP_TO_12 = (
    "#88ccee", "#cc6677", "#ddcc77", "#117733", "#332288", "#aa4499",
    "#44aa99", "#999933", "#882255", "#661100", "#6699cc", "#888888",
)  # fmt: skip
MISSING_COLOR = "#d3d3d3"


def category_colors(adata: AnnData, key: str, n_categories: int) -> list[str]:
    """Return the hex colour of each category: stored ones, or default ones, which are then stored.

    Stored colours that do not fit are kept, with a warning. Nothing is written to a view.
    """
    slot = f"{key}_colors"
    if slot not in adata.uns:
        defaults = default_colors(n_categories)
        if not adata.is_view:
            adata.uns[slot] = defaults
        return defaults
    stored = [str(color) for color in adata.uns[slot]]
    if len(stored) < n_categories or not all(map(is_color_like, stored)):
        msg = (
            f"adata.uns[{slot!r}] must hold a colour for each of the {n_categories} categories; got {len(stored)}: "
            f"{', '.join(stored[:5])}. Default colours are drawn; delete it to have them stored."
        )
        warn(msg)
        return default_colors(n_categories)
    return [to_hex(color, keep_alpha=True) for color in stored[:n_categories]]


def default_colors(n_categories: int) -> list[str]:
    """Return a colour-blind safe palette for up to 12 categories, else one of scanpy's large palettes."""
    for safe in (_UP_TO_7, _UP_TO_12):
        if n_categories <= len(safe):
            return list(safe[:n_categories])
    from scanpy.plotting import palettes  # takes seconds to import

    for palette in (palettes.default_20, palettes.default_28, palettes.default_102):
        if n_categories <= len(palette):
            return [to_hex(color) for color in palette[:n_categories]]
    return [to_hex(palettes.default_102[i % 102]) for i in range(n_categories)]
