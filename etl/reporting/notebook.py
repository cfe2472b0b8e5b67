"""Display answers of the analysis in notebooks: sentence, note, chart and rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.reporting.answers import Answer
from etl.reporting.drawing import Chart, as_svg
from etl.reporting.html_tables import Table, render_template, table_of

if TYPE_CHECKING:
    import pandas as pd

FEW_ROWS, MOST_ROWS = 6, 60
"""Maximum number of rows in a table that is not folded, and in any table."""


def show(answer: Answer, chart: Chart | None = None, *, with_rows: bool = True) -> None:
    """Display an answer as the output of a notebook cell. Chart and rows are left out if the answer has no rows."""
    from IPython.display import HTML, SVG, Markdown, display

    display(Markdown(f"**{answer.sentence}**"))
    if answer.notice:
        display(Markdown(f"> **Note:** {answer.notice}"))
    if chart and len(answer.rows):
        display(SVG(as_svg(chart(answer.rows, affected_days=answer.affected_days))))
    if with_rows and len(answer.rows):
        display(HTML(_html(table_of("", answer.rows, MOST_ROWS))))


def show_rows(rows: pd.DataFrame) -> None:
    """Display the first FEW_ROWS rows, with column names and values unchanged."""
    from IPython.display import HTML, display

    display(HTML(_html(table_of("", rows, FEW_ROWS, unchanged=True))))


def _html(table: Table) -> str:
    """Render a table as HTML. A table with more than FEW_ROWS rows is folded."""
    html = render_template("table.html.jinja", table=table)
    if len(table.rows) <= FEW_ROWS:
        return html
    return f"<details><summary>{table.caption or f'{len(table.rows):,} rows'}</summary>{html}</details>"
