"""How the notebooks show an answer of the analysis: the sentence, the note, the chart, the rows."""

from __future__ import annotations

from etl.reporting.answers import Answer
from etl.reporting.drawing import Chart, as_svg
from etl.reporting.tables import render_template, table_of

FEW_ROWS, MOST_ROWS = 6, 60
"""So many rows of an answer are shown at once; so many when they are unfolded."""


def show(answer: Answer, chart: Chart | None = None, *, with_rows: bool = True) -> None:
    """Display an answer as the output of a notebook's cell."""
    from IPython.display import HTML, SVG, Markdown, display

    display(Markdown(f"**{answer.sentence}**"))
    if answer.notice:
        display(Markdown(f"> **Note:** {answer.notice}"))
    if chart and len(answer.rows):
        display(SVG(as_svg(chart(answer.rows, affected_days=answer.affected_days))))
    if with_rows and len(answer.rows):
        display(HTML(_table(answer)))


def _table(answer: Answer) -> str:
    """Rows without their index; many are folded away."""
    table = table_of("", answer.rows, MOST_ROWS)
    html = render_template("table.html.jinja", table=table)
    if len(answer.rows) <= FEW_ROWS:
        return html
    shown = table.caption or f"{len(answer.rows):,} rows"
    return f"<details><summary>{shown}</summary>{html}</details>"
