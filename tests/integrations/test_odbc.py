"""psqlODBC, with which Power BI, Excel and others read gold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from clients import COMMENTS, FIGURES, INSUFFICIENT_PRIVILEGE, PASSWORD, REFUSED, RELATIONS, debian_file
from support import Warehouse

from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    import pyodbc

pytestmark = pytest.mark.integrations


@pytest.fixture(scope="module")
def connection(settings: Settings) -> Iterator[pyodbc.Connection]:
    debian_file("usr/lib/*/libodbc.so.2", "unixodbc")
    pyodbc = pytest.importorskip("pyodbc")  # loads the driver manager
    connection = pyodbc.connect(
        driver=str(debian_file("usr/lib/*/odbc/psqlodbcw.so", "odbc-postgresql")),
        server=settings.postgres_host,
        port=settings.postgres_port,
        database=settings.postgres_db,
        uid="bi_reader",
        pwd=PASSWORD,
        BoolsAsChar="0",
        autocommit=True,
    )
    yield connection
    connection.close()


def test_tables_and_columns_are_listed(connection: pyodbc.Connection, warehouse: Warehouse) -> None:
    cursor = connection.cursor()
    tables = [row.table_name for row in cursor.tables(schema="gold")]
    found = {
        table: {row.column_name for row in cursor.columns(schema="gold", table=table.replace("_", "\\_"))}
        for table in tables
    }
    assert found == {table: set(columns) for table, _, columns in warehouse.rows(COMMENTS)}


def test_types_are_those_of_the_columns(connection: pyodbc.Connection) -> None:
    columns = connection.cursor().columns(schema="gold", table="lead_quality_matching")
    types = {row.column_name: row.type_name for row in columns}
    names = ("lead_uuid", "lead_number", "state", "appt_date", "email_match", "_partition_date", "conversion_rate")
    assert [types[name] for name in names] == ["varchar", "int4", "bpchar", "timestamp", "bool", "date", "float8"]


def test_foreign_keys_relate_the_tables(connection: pyodbc.Connection) -> None:
    cursor = connection.cursor()
    found = {
        (row.fktable_name, row.fkcolumn_name, row.pktable_name, row.pkcolumn_name)
        for table in {table for table, *_ in RELATIONS}
        for row in cursor.foreignKeys(foreignSchema="gold", foreignTable=table)
    }
    assert found == RELATIONS


def test_figures_and_booleans_are_those_of_the_database(connection: pyodbc.Connection, warehouse: Warehouse) -> None:
    cursor = connection.cursor()
    (found,) = cursor.execute(FIGURES).fetchall()
    assert [tuple(found)] == warehouse.rows(FIGURES)
    flags = "select bool_or(email_match), bool_and(email_match) from gold.lead_quality_matching"
    assert tuple(cursor.execute(flags).fetchone()) == (True, False)


@pytest.mark.parametrize("statement", sorted(REFUSED))
def test_reader_is_refused(connection: pyodbc.Connection, statement: str) -> None:
    from pyodbc import Error

    with pytest.raises(Error) as refusal:
        connection.cursor().execute(statement)
    assert refusal.value.args[0] == INSUFFICIENT_PRIVILEGE
