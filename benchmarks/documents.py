"""Replacement of generated text between two markers of a document."""

from __future__ import annotations

from pathlib import Path


def write_between(document: Path, begin: str, end: str, text: str) -> None:
    """Replace the text between the markers `begin` and `end` in a document.

    Raises:
        ValueError: the document does not contain both markers, in order.
    """
    before, is_begun, rest = document.read_text(encoding="utf-8").partition(begin)
    _, is_ended, after = rest.partition(end)
    if not is_begun or not is_ended:
        raise ValueError(f"{document} must have the markers {begin} and {end}, in this order")
    document.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
