"""Names, types, lengths and order of columns (specification §4 to §6), and NULL for missing values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import ORDINARY_ROW, Bucket, Warehouse, empty_warehouse

from etl.engine.runner import run_steps
from etl.pipeline import STEPS
from etl.utils.columns import MAX_LENGTH
from etl.utils.utils_connection import Settings

BRONZE_SNAPSHOTS = """
    ENTRYDATE           text
    LEADNUMBER          text
    email_hash          text
    phone_hash          text
    CITY                text
    STATE               text
    ZIP                 text
    APPT_DATE           text
    Set                 text
    Demo                text
    Dispo               text
    JOB_STATUS          text
    location            text
    _extraction_date    text
    _partition_date     text
    _source_file        text
    _source_row         bigint
    _extra              jsonb
"""

BRONZE_LEADS = """
    lead_UUID           text
    phone_hash          text
    email_hash          text
    _extraction_date    text
"""

HASHES_AND_ADDRESS = """
    email_hash          character varying(255)
    phone_hash          character varying(255)
    city                character varying(100)
    state               character(2)
    zip                 character varying(10)
    appt_date           timestamp without time zone
""".strip()

SILVER_SNAPSHOTS = f"""
    entry_date          date
    lead_number         integer
    {HASHES_AND_ADDRESS}
    appt_time           time without time zone
    set                 integer
    demo                integer
    dispo               character varying(50)
    job_status          character varying(100)
    location            character varying(255)
    _extraction_date    date
    _partition_date     date
    _row_hash           bigint
    _source_row         bigint
"""

SILVER_LEADS = """
    lead_uuid           character varying(255)
    phone_hash          character varying(255)
    email_hash          character varying(255)
    _extraction_date    date
"""

GOLD_MATCHING = f"""
    lead_uuid               character varying(255)
    lead_number             integer
    {HASHES_AND_ADDRESS}
    set                     integer
    demo                    integer
    dispo                   character varying(50)
    job_status              character varying(100)
    location                character varying(255)
    appointment_scheduled   boolean
    demo_scheduled          boolean
    email_match             boolean
    phone_match             boolean
    _extraction_date        date
    _partition_date         date
    conversion_rate         double precision
    lead_quality_flag       character varying(50)
    lead_match_id           integer
"""

GOLD_FRESHNESS = """
    last_complete_run   timestamp with time zone
    latest_snapshot     date
    days_late           integer
    missing_days        integer
    open_anomalies      integer
"""

NO_VALUES = ("nan", "None", "<NA>", "NaT", "", " ", "   ", "\t", " nan ", "None\t", "\u00a0", "\u3000")
"""NA values in files. Each of them occurs in each column."""

FILES = (1, 2, 23, 400)
COLUMNS = tuple(name for name in ORDINARY_ROW if name != "CityName")
WHOLE_LEAD = ("u", "p1", "e1")


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """One warehouse for all tests, which only read: four days, with every NA value in every column."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        bucket = Bucket(settings)
        rows = [{column: word} for column in COLUMNS for word in NO_VALUES]
        rows += [dict.fromkeys(COLUMNS, word) for word in NO_VALUES]
        for number in FILES:
            bucket.put_snapshot(number, rows, header=COLUMNS)
        words = (*NO_VALUES, None)
        broken = [(*WHOLE_LEAD[:place], word, *WHOLE_LEAD[place + 1 :]) for place in range(3) for word in words]
        bucket.put_leads([WHOLE_LEAD, *broken])
        assert run_steps(settings, STEPS).error is None
        yield settings


# --- Columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("bronze.csv_snapshots", BRONZE_SNAPSHOTS),
        ("bronze.leads_parquet", BRONZE_LEADS),
        ("silver.stg_csv_snapshots", SILVER_SNAPSHOTS),
        ("silver.stg_csv_data_01", SILVER_SNAPSHOTS),
        ("silver.stg_csv_data_400", SILVER_SNAPSHOTS),
        ("silver.stg_leads_parquet", SILVER_LEADS),
        ("gold.lead_quality_matching", GOLD_MATCHING),
        ("gold.data_freshness", GOLD_FRESHNESS),
    ],
)
def test_columns_have_names_types_lengths_and_order_of_the_specification(
    warehouse: Warehouse, table: str, expected: str
) -> None:
    assert columns_of(warehouse, table) == [tuple(line.split(maxsplit=1)) for line in expected.strip().splitlines()]


def test_keys_relate_all_tables_of_gold(warehouse: Warehouse) -> None:
    """Those of the partitioned table are its own: its partitions are in another schema."""
    keys = warehouse.rows(
        "select conrelid::regclass::text, pg_get_constraintdef(pg_constraint.oid) from pg_constraint "
        "inner join pg_class on pg_class.oid = conrelid "
        "where relnamespace = 'gold'::regnamespace and contype in ('p', 'f') and (convalidated or not conenforced)"
    )
    of_leads = "FOREIGN KEY (lead_uuid) REFERENCES gold.leads(lead_uuid)"
    assert set(keys) == {
        ("gold.leads", "PRIMARY KEY (lead_uuid)"),
        ("gold.lead_quality_matching", "PRIMARY KEY (_partition_date, lead_match_id)"),
        ("gold.lead_quality_current", "PRIMARY KEY (lead_uuid)"),
        ("gold.appointments", "PRIMARY KEY (appointment_id)"),
        ("gold.appointments", "FOREIGN KEY (user_id) REFERENCES gold.users(user_id)"),
        ("gold.users", "PRIMARY KEY (user_id)"),
        ("gold.data_anomalies", "PRIMARY KEY (_partition_date, metric)"),
        ("gold.lead_quality_matching", f"{of_leads} NOT ENFORCED"),
        *((f"gold.{table}", of_leads) for table in ("lead_quality_current", "appointments", "lead_status_history")),
    }


def columns_of(warehouse: Warehouse, table: str) -> list[tuple[str, str]]:
    """Return names and types in order, from information_schema."""
    schema, name = table.split(".")
    return [
        (column, f"{kind}({length})" if length else kind)
        for column, kind, length in warehouse.rows(
            """
            select column_name, data_type, character_maximum_length
            from information_schema.columns
            where table_schema = %s and table_name = %s
            order by ordinal_position
            """,
            schema,
            name,
        )
    ]


def test_maximum_lengths_equal_those_in_postgres(warehouse: Warehouse) -> None:
    lengths = dict(
        warehouse.rows(
            """
            select column_name, character_maximum_length
            from information_schema.columns
            where
                table_schema = 'silver' and table_name = 'stg_csv_snapshots'
                and character_maximum_length is not null
                and column_name not in ('state', 'zip') -- their rules let two letters and five digits pass
            """
        )
    )
    assert lengths == MAX_LENGTH


# --- Days -------------------------------------------------------------------------------------------------------------


def test_daily_tables_are_the_partitions_of_all_snapshots(warehouse: Warehouse) -> None:
    days = {"01": "2024-10-01", "02": "2024-10-02", "23": "2024-10-23", "400": "2025-11-04"}
    partitions = warehouse.rows(
        """
        select inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid)
        from pg_inherits
        inner join pg_class on pg_class.oid = inhrelid
        where inhparent = 'silver.stg_csv_snapshots'::regclass
        """
    )
    assert dict(partitions) == {
        f"silver.stg_csv_data_{suffix}": f"FOR VALUES IN ('{day}')" for suffix, day in days.items()
    }
    tables = warehouse.rows("select tablename from pg_tables where schemaname = 'silver' and tablename like '%data%'")
    assert {name for (name,) in tables} == {f"stg_csv_data_{suffix}" for suffix in days}, "there are no other days"


# --- Cells ------------------------------------------------------------------------------------------------------------


def test_silver_and_gold_contain_no_na_values_as_text(warehouse: Warehouse) -> None:
    text_columns = warehouse.rows(
        """
        select table_schema, table_name, column_name
        from information_schema.columns
        where
            table_schema in ('silver', 'gold') and data_type in ('character varying', 'character', 'text')
            and table_name <> 'rejected_rows' -- keeps what was in the file
        """
    )
    assert len({(schema, table) for schema, table, _ in text_columns}) >= 3 + len(FILES)
    for schema, table, column in text_columns:
        cells = warehouse.rows(f'select "{column}"::text from {schema}."{table}"')
        telling = {cell for (cell,) in cells if cell is not None and cell.strip() in ("", "nan", "None", "<NA>", "NaT")}
        assert not telling, f"{schema}.{table}.{column}"


def test_input_contains_every_na_value_and_no_row_is_lost(warehouse: Warehouse) -> None:
    """Verify the input of the test above."""
    with_one_na_value = len(FILES) * len(NO_VALUES) * len(COLUMNS)
    without_any_value = len(FILES) * len(NO_VALUES)
    assert warehouse.value("select count(*) from bronze.csv_snapshots") == with_one_na_value + without_any_value
    assert warehouse.value("select count(*) from silver.rejected_rows where step = 3") == without_any_value
    for table in ("silver.stg_csv_snapshots", "gold.lead_quality_matching"):
        assert warehouse.value(f"select count(*) from {table}") == with_one_na_value
    for column, _ in columns_of(warehouse, "bronze.csv_snapshots"):
        if not column.startswith("_"):
            cells = {cell for (cell,) in warehouse.rows(f'select distinct "{column}" from bronze.csv_snapshots')}
            assert cells >= {word or None for word in NO_VALUES}, "bronze keeps NA values"
    leads = warehouse.rows("select lead_uuid, phone_hash, email_hash from silver.stg_leads_parquet")
    assert leads == [WHOLE_LEAD]


@pytest.mark.parametrize("column", [line.split()[0] for line in SILVER_SNAPSHOTS.strip().splitlines()])
def test_na_values_are_null_and_other_values_are_kept(warehouse: Warehouse, column: str) -> None:
    nulls, values = warehouse.rows(
        f"select count(*) filter (where {column} is null), count({column}) from silver.stg_csv_snapshots"
    )[0]
    assert values > 0 or column == "job_status", "the ordinary row has no job status"
    if column.startswith("_"):
        assert nulls == 0
    elif column not in ("state", "job_status"):
        assert nulls == len(FILES) * len(NO_VALUES), "rows in which only this cell has an NA value"
