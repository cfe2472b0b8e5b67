"""Checks while data goes into Postgres. One that fails raises inside the transaction it guards: nothing is kept."""

from __future__ import annotations

from etl.utils.errors import CheckFailedError
from etl.utils.state import TableLoad


def check_reconciled(bronze: TableLoad, *, loaded: int, rejected: int, separators: int) -> None:
    """Hold a day to SPEC §7: bronze = silver + rejected + separators.

    Raises:
        CheckFailedError: with all four counts.
    """
    if bronze.row_count != loaded + rejected + separators:
        raise CheckFailedError(
            f"{bronze.day}: {bronze.table} was loaded with {bronze.row_count} rows, but {loaded} are clean, {rejected} "
            f"rejected and {separators} separators",
            hint="rows were changed by other hands: load the day again with --full-refresh",
        )
