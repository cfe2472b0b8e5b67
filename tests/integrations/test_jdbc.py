"""pgjdbc, with which Metabase, DBeaver, Tableau and others read gold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import jpype
import pytest
from clients import COMMENTS, FIGURES, INSUFFICIENT_PRIVILEGE, PASSWORD, REFUSED, RELATIONS, debian_file
from support import Warehouse

from etl.utils.utils_connection import Settings

pytestmark = pytest.mark.integrations

TABLE_TYPES = ("TABLE", "PARTITIONED TABLE", "VIEW")


@pytest.fixture(scope="module")
def connection(settings: Settings) -> Iterator[Any]:
    driver = debian_file("usr/share/java/postgresql.jar", "libpostgresql-jdbc-java")
    if "JAVA_HOME" not in os.environ:
        debian_file("usr/lib/jvm/*/lib/server/libjvm.so", "default-jre-headless")
    jpype.startJVM(classpath=[str(driver)])
    url = f"jdbc:postgresql://{settings.postgres_host}:{settings.postgres_port}/{settings.postgres_db}"
    connection = jpype.java.sql.DriverManager.getConnection(url, "bi_reader", PASSWORD)
    yield connection
    connection.close()


def rows(result: Any, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of a result set."""
    found = []
    while result.next():
        found.append(tuple(None if (value := result.getObject(name)) is None else str(value) for name in columns))
    return found


def test_tables_and_columns_have_their_comments(connection: Any, warehouse: Warehouse) -> None:
    expected = warehouse.rows(COMMENTS)
    data = connection.getMetaData()
    tables = rows(data.getTables(None, "gold", "%", list(TABLE_TYPES)), "TABLE_NAME", "REMARKS")
    columns = rows(data.getColumns(None, "gold", "%", "%"), "TABLE_NAME", "COLUMN_NAME", "REMARKS")
    assert dict(tables) == {table: comment for table, comment, _ in expected}
    assert sorted(columns) == sorted(
        (table, *column) for table, _, of_columns in expected for column in of_columns.items()
    )


def test_types_are_those_of_the_columns(connection: Any) -> None:
    columns = connection.getMetaData().getColumns(None, "gold", "lead_quality_matching", "%")
    types = dict(rows(columns, "COLUMN_NAME", "TYPE_NAME"))
    names = ("lead_uuid", "lead_number", "state", "appt_date", "email_match", "_partition_date", "conversion_rate")
    assert [types[name] for name in names] == ["varchar", "int4", "bpchar", "timestamp", "bool", "date", "float8"]


def test_foreign_keys_relate_the_tables(connection: Any) -> None:
    names = ("FKTABLE_NAME", "FKCOLUMN_NAME", "PKTABLE_NAME", "PKCOLUMN_NAME")
    data = connection.getMetaData()
    tables = {table for table, *_ in RELATIONS}
    found = {row for table in tables for row in rows(data.getImportedKeys(None, "gold", table), *names)}
    assert found == RELATIONS


def test_every_related_table_has_a_primary_key(connection: Any) -> None:
    data = connection.getMetaData()
    tables = {"leads", "users", "lead_quality_current", "appointments", "lead_quality_matching"}
    assert {table for table in tables if not rows(data.getPrimaryKeys(None, "gold", table), "COLUMN_NAME")} == set()


def test_figures_and_booleans_are_those_of_the_database(connection: Any, warehouse: Warehouse) -> None:
    result = connection.createStatement().executeQuery(FIGURES)
    assert result.next()
    found = [result.getObject(number) for number in range(1, 8)]
    (expected,) = warehouse.rows(FIGURES)
    assert [str(value).removesuffix(".0") for value in found] == list(map(str, expected))

    result = connection.createStatement().executeQuery("select email_match from gold.lead_quality_matching limit 1")
    assert result.next()
    assert isinstance(result.getObject(1), jpype.java.lang.Boolean)


@pytest.mark.parametrize("statement", sorted(REFUSED))
def test_reader_is_refused(connection: Any, statement: str) -> None:
    with pytest.raises(jpype.java.sql.SQLException) as refusal:
        connection.createStatement().execute(statement)
    assert str(refusal.value.getSQLState()) == INSUFFICIENT_PRIVILEGE
