"""Write results into a document, between two markers."""

from __future__ import annotations

from pathlib import Path


def write_between(document: Path, begin: str, end: str, text: str) -> None:
    """Replace what is between the markers `begin` and `end`.

    Raises:
        ValueError: the document does not have both markers, in order.
    """
    before, is_begun, rest = document.read_text(encoding="utf-8").partition(begin)
    _, is_ended, after = rest.partition(end)
    if not is_begun or not is_ended:
        raise ValueError(f"{document} must have the markers {begin} and {end}, in this order")
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
