"""Format numbers, shares and days as text for readers."""

from __future__ import annotations

from datetime import date


def counted(count: float, thing: str, things: str | None = None) -> str:
    """Return a count with its noun, as in `1 lead` or `4,364 leads`."""
    number = f"{count:,.0f}" if float(count).is_integer() else f"{count:,.1f}"
    return f"{number} {thing if count == 1 else things or thing + 's'}"


def share(part: float, whole: float) -> str:
    """Format a share in percent. Only exactly 0 and 1 become 0.0 % and 100.0 %. Return `none` if `whole` is 0."""
    if not whole:
        return "none"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    if -0.05 < percent < 0:
        return "> -0.1 %"
    return f"{percent:.1f} %"


def day(moment: date) -> str:
    """Format a day, as in `9 October 2024`."""
    return f"{moment.day} {moment:%B %Y}"
