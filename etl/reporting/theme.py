"""Colours and styles of the charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Theme:
    """The colours of a theme. Contrast with the background meets WCAG 2.2 AA: at least 4.5 for text, and 3 for bars."""

    background: str
    text: str
    dim: str
    grid: str
    good: str
    fair: str
    poor: str
    accent: str


LIGHT = Theme("#ffffff", "#1b2733", "#55626f", "#dfe5ec", "#0b6e75", "#c77700", "#8090a0", "#1f5fa8")
DARK = Theme("#161b22", "#e6edf3", "#a3afbb", "#30363d", "#35b5bd", "#e3a13a", "#75828f", "#79b8ff")


def style(narrow: bool) -> dict[Any, Any]:
    """Return the matplotlib settings (rcParams) for the light theme; a narrow chart has a smaller font."""
    return {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same chart everywhere
        "font.size": 9 if narrow else 11,
        "text.parse_math": False,  # labels contain values of the CRM, such as `Budget $5k-$10k`
        "text.color": LIGHT.text,
        "xtick.color": LIGHT.dim,
        "ytick.color": LIGHT.dim,
        "axes.titlelocation": "left",
        "axes.titlesize": "medium",
        "axes.titleweight": "bold",
        "figure.titlesize": "medium",
        "figure.titleweight": "bold",
        "axes.facecolor": LIGHT.background,
        "figure.facecolor": LIGHT.background,
        "axes.edgecolor": LIGHT.grid,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": LIGHT.grid,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
    }
