"""How the notebooks show an answer of `analysis`: the sentence, the chart, the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.reporting.answers import Answer
from etl.reporting.charts import Chart, as_svg
from etl.reporting.words import formatted

if TYPE_CHECKING:
    import pandas as pd

FEW_ROWS, MOST_ROWS = 6, 60
"""So many rows of an answer are shown at once; so many when they are unfolded."""


def show(answer: Answer, chart: Chart | None = None, *, with_rows: bool = True) -> None:
    """Display an answer as the output of a notebook's cell."""
    from IPython.display import HTML, SVG, Markdown, display

    display(Markdown(f"**{answer.sentence}**"))
    if answer.note:
        display(Markdown(f"> **Note:** {answer.note}. Do not trust figures that rest on these days."))
    if chart and len(answer.rows):
        display(SVG(as_svg(chart(answer.rows, affected_days=answer.affected_days))))
    if with_rows and len(answer.rows):
        display(HTML(_table(answer.rows)))


def _table(rows: pd.DataFrame) -> str:
    """Rows without their index; many are folded away."""
    html = formatted(rows.head(MOST_ROWS)).to_html(index=False, border=0)
    if len(rows) <= FEW_ROWS:
        return html
    shown = f"{len(rows):,} rows" if len(rows) <= MOST_ROWS else f"The first {MOST_ROWS} of {len(rows):,} rows"
    return f"<details><summary>{shown}</summary>{html}</details>"
