"""Run the queries of the analysis, all on the same snapshot of the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd

from etl.utils.columns import BRONZE_COLUMNS, SILVER_COLUMNS
from etl.utils.error_hints import translate_postgres_errors
from etl.utils.utils_connection import Settings, postgres_engine
from etl.warehouse.sql_scripts import read_script

DAYS = ("_partition_date", "first_day", "last_day", "latest_snapshot", "first_week")
"""Columns to parse as dates."""
_CLEANED = [name for name in SILVER_COLUMNS if not name.startswith("_")]
PLACEHOLDERS = {
    "filled_cells": ", ".join(f'count("{name}") as "{name}"' for name in _CLEANED),
    "distinct_values": ", ".join(f'count(distinct "{name}") as "{name}"' for name in _CLEANED),
    "source_cells": ", ".join(
        f"count(*) filter (where btrim(\"{name}\") not in ('', '-----')) as \"{name}\"" for name in BRONZE_COLUMNS
    ),
}
"""Placeholder in a query → columns of its result, one per CRM column."""
Read = Callable[[str], pd.DataFrame]
"""A function that returns the rows of a query. Its argument is a file name in sql_scripts/analysis/, without `.sql`."""


@contextmanager
def reading(settings: Settings) -> Iterator[Read]:
    """Yield a function that reads query results, all from the same snapshot of the database.

    Raises:
        PostgresError: the server or the connection reports an error.
    """
    from sqlalchemy import text

    isolation = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with (
        translate_postgres_errors(settings),
        _driver_errors(),
        postgres_engine(settings).connect().execution_options(**isolation) as connection,
    ):
        yield lambda question: pd.read_sql(
            text(read_script(f"analysis/{question}.sql").format(**PLACEHOLDERS)), connection, parse_dates=list(DAYS)
        )


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raise the psycopg2 error that an error of SQLAlchemy or pandas wraps: wrappers contain the whole statement."""
    import psycopg2
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (DBAPIError, pd.errors.DatabaseError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, psycopg2.Error):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            raise
        raise cause from None
