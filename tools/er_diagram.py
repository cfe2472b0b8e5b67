"""Generator of img/gold-model.svg, the entity-relationship diagram of gold, from the system catalog: `make dictionary`.

A line leads from a foreign key to the primary key that it references. It starts with a crow's foot, or with a bar if
the foreign key is also the primary key of its table, and ends with a bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tools import catalog

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

PICTURE = Path(__file__).parents[1] / "img" / "gold-model.svg"

PLACES = (
    ("lead_quality_current", "lead_status_history"),
    ("leads", "users"),
    ("appointments", "lead_quality_matching"),
)
"""Tables in each column of the diagram, from left to right. Tables linked by a foreign key are in adjacent columns."""

BOX_WIDTH, GUTTER, MARGIN = 306, 104, 28
ROW, HEAD, GAP = 21, 38, 34

STYLE = """
    svg {
      --page: #ffffff; --box: #ffffff; --head: #1f4e79; --line: #c8d1dc;
      --text: #1b2733; --dim: #5b6875; --link: #1f4e79;
    }
    @media (prefers-color-scheme: dark) {
      svg {
        --page: #0d1117; --box: #161b22; --head: #1f4e79; --line: #30363d;
        --text: #e6edf3; --dim: #9aa6b2; --link: #79b8ff;
      }
    }
    text { font: 12.5px ui-monospace, 'SF Mono', Menlo, 'DejaVu Sans Mono', monospace; fill: var(--text) }
    .page { fill: var(--page) }
    .box { fill: var(--box); stroke: var(--line) }
    .head { fill: var(--head) }
    .title { font-weight: 700; font-size: 14px; fill: #ffffff }
    .kind, .key { fill: var(--dim) }
    .kind { text-anchor: end }
    .rule { stroke: var(--line) }
    .link { fill: none; stroke: var(--link); stroke-width: 1.6 }
"""


@dataclass(frozen=True)
class Table:
    """Table and its position in the diagram."""

    name: str
    columns: list[tuple[str, str]]
    """Name and type of each column."""
    primary_key: tuple[str, ...]
    foreign_keys: dict[str, str]
    """Column → referenced table."""
    x: int
    y: int

    @property
    def height(self) -> int:
        return HEAD + ROW * len(self.columns) + 8

    def row_y(self, column: str) -> int:
        """Return the vertical centre of a column's row."""
        names = [name for name, _ in self.columns]
        return self.y + HEAD + ROW * names.index(column) + ROW // 2 + 3


def render(db: Cursor) -> str:
    """Return the SVG of gold's tables, except data_anomalies, in the database of the cursor.

    Raises:
        ValueError: these tables are not those of PLACES.
    """
    tables = _placed_tables(db)
    width = MARGIN * 2 + BOX_WIDTH * len(PLACES) + GUTTER * (len(PLACES) - 1)
    height = MARGIN + max(table.y + table.height for table in tables.values())
    links = [line for table in tables.values() for line in _links(table, tables)]
    boxes = [line for table in tables.values() for line in _box(table)]
    named = 'xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title desc"'
    return "\n".join(
        [
            f'<svg {named} viewBox="0 0 {width} {height}">',
            '  <title id="title">The tables of gold and their foreign keys</title>',
            f'  <desc id="desc">{escape(_described(tables))}</desc>',
            f"  <style>{STYLE}  </style>",
            f'  <rect class="page" width="{width}" height="{height}" rx="14"/>',
            *links,
            *boxes,
            "</svg>\n",
        ]
    )


def _placed_tables(db: Cursor) -> dict[str, Table]:
    relations = catalog.relations(db, "gold")
    found = {each.name: each.oid for each in relations if not each.is_view and each.name != "data_anomalies"}
    placed = {name for names in PLACES for name in names}
    if found.keys() != placed:
        raise ValueError(f"gold has {sorted(found)}, but PLACES in tools/er_diagram.py has {sorted(placed)}")
    tables = {}
    for column, names in enumerate(PLACES):
        y = MARGIN
        for name in names:
            keys = catalog.keys(db, found[name])
            tables[name] = Table(
                name,
                [(column.name, column.kind) for column in catalog.columns(db, found[name])],
                tuple(column for key in keys if key.kind == "p" for column in key.columns),
                {key.columns[0]: key.parent for key in keys if key.parent},
                x=MARGIN + column * (BOX_WIDTH + GUTTER),
                y=y,
            )
            y += tables[name].height + GAP
    return tables


def _described(tables: dict[str, Table]) -> str:
    refers = [
        f"{table.name}.{column} references {target}"
        for table in tables.values()
        for column, target in table.foreign_keys.items()
    ]
    return f"{', '.join(tables)}. {'; '.join(refers)}."


def _box(table: Table) -> list[str]:
    x, y, right = table.x, table.y, table.x + BOX_WIDTH
    head = f"M{x} {y + HEAD - 6}v-{HEAD - 14}a8 8 0 0 1 8-8h{BOX_WIDTH - 16}a8 8 0 0 1 8 8v{HEAD - 14}z"
    lines = [
        f'  <rect class="box" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{table.height}" rx="8"/>',
        f'  <path class="head" d="{head}"/>',
        f'  <text class="title" x="{x + 12}" y="{y + 21}">{escape(table.name)}</text>',
    ]
    for column, kind in table.columns:
        middle = table.row_y(column)
        is_key = {"PK": column in table.primary_key, "FK": column in table.foreign_keys}
        key = " ".join(name for name, is_so in is_key.items() if is_so)
        lines += [
            f'  <text class="key" x="{x + 12}" y="{middle + 4}">{key}</text>' if key else "",
            f'  <text x="{x + 58}" y="{middle + 4}">{escape(column)}</text>',
            f'  <text class="kind" x="{right - 12}" y="{middle + 4}">{escape(kind)}</text>',
        ]
    return [line for line in lines if line]


def _links(table: Table, tables: dict[str, Table]) -> list[str]:
    return [
        _link(table, column, tables[target], many=(column,) != table.primary_key)
        for column, target in table.foreign_keys.items()
    ]


def _link(table: Table, column: str, target: Table, *, many: bool) -> str:
    is_left = table.x < target.x
    start, end = (table.x + BOX_WIDTH, target.x) if is_left else (table.x, target.x + BOX_WIDTH)
    step = 1 if is_left else -1
    y, target_y = table.row_y(column), target.row_y(target.primary_key[0])
    bend = (GUTTER // 2) * step
    curve = f"M{start} {y}h{12 * step}C{start + bend} {y} {end - bend} {target_y} {end - 12 * step} {target_y}H{end}"
    foot = f"M{start} {y - 6}l{12 * step} 6l{-12 * step} 6" if many else f"M{start + 8 * step} {y - 6}v12"
    bar = f"M{end - 8 * step} {target_y - 6}v12"
    return f'  <path class="link" d="{curve}"/><path class="link" d="{foot}{bar}"/>'
