"""The real files, loaded by the demo and on a Dask cluster, against figures that were counted independently."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dask_cluster import dask_cluster
from support import Bucket, Warehouse, empty_warehouse, environment_of, run_python

from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from conftest import Demo

Query = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def filled_by_demo(demo: Demo, real_data: Path) -> Query:
    """Run `python main.py --demo --data ../shared/real`; return a function that queries the warehouse."""
    done = demo.run("--data", str(real_data))
    assert done.returncode == 0, done.stderr
    return demo.query


@pytest.fixture(scope="module")
def filled_by_cluster(
    postgres_server: Settings, s3_endpoint: str, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Query]:
    """Run `python main.py --scheduler …` with two workers; yield a function that queries the warehouse."""
    folder = tmp_path_factory.mktemp("cluster")
    with empty_warehouse(postgres_server, s3_endpoint, str(folder)) as settings:
        Bucket(settings).put_folder(real_data)
        with dask_cluster(folder, settings) as cluster:
            done = run_python(folder, "main.py", "--scheduler", cluster.address, environment=environment_of(settings))
        assert done.returncode == 0, done.stderr
        yield Warehouse(settings).rows


@pytest.fixture(scope="module", params=["filled_by_demo", "filled_by_cluster"])
def query(request: pytest.FixtureRequest) -> Query:
    """Return a function that queries the warehouse."""
    ask: Query = request.getfixturevalue(request.param)
    return ask


@pytest.fixture(scope="module")
def expected(real_data: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((real_data / "expected.json").read_text(encoding="utf-8"))
    return figures


def test_every_expected_figure_is_tested(expected: dict[str, Any]) -> None:
    tested = {
        "partitions",
        "bronze_rows",
        "silver_rows",
        "gold_rows",
        "leads",
        "match",
        "quality_rows",
        "quality_leads",
    }
    tested |= {"new_high_quality_leads_daily", "new_leads_daily", "total_leads_daily", "silver_columns"}
    assert expected.keys() - {"note"} == tested


def test_each_day_has_the_expected_rows_in_every_layer(query: Query, expected: dict[str, Any]) -> None:
    days = query(
        """
        select b._partition_date, b.rows, s.rows, g.rows
        from (select _partition_date, count(*) as rows from bronze.csv_snapshots group by 1) as b
        full join (select _partition_date::text, count(*) as rows from silver.stg_csv_snapshots group by 1) as s
            using (_partition_date)
        full join (select _partition_date::text, count(*) as rows from gold.lead_quality_matching group by 1) as g
            using (_partition_date)
        """
    )
    assert {day: {"bronze": b, "silver": s, "gold": g} for day, b, s, g in days} == expected["partitions"]


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        ("bronze_rows", "bronze.csv_snapshots"),
        ("silver_rows", "silver.stg_csv_snapshots"),
        ("gold_rows", "gold.lead_quality_matching"),
        ("leads", "silver.stg_leads_parquet"),
        ("leads", "gold.leads"),
        ("leads", "gold.lead_quality_current"),
    ],
)
def test_each_table_has_the_expected_rows(query: Query, expected: dict[str, Any], figure: str, table: str) -> None:
    assert query(f"select count(*) from {table}") == [(expected[figure],)]


def test_match_scenarios_have_the_expected_rows(query: Query, expected: dict[str, Any]) -> None:
    counted = query(
        """
        select
            count(*) filter (where email_match and phone_match),
            count(*) filter (where email_match and not phone_match),
            count(*) filter (where not email_match and phone_match),
            count(*) filter (where lead_uuid is null)
        from gold.lead_quality_matching
        """
    )
    assert dict(zip(("both", "email_only", "phone_only", "none"), counted[0], strict=True)) == expected["match"]


def test_view_of_match_scenarios_has_the_expected_rows(query: Query, expected: dict[str, Any]) -> None:
    scenarios = dict(query("select scenario, row_count from gold.match_scenarios"))
    assert scenarios == expected["match"]
    assert sum(scenarios.values()) == expected["gold_rows"]


def test_grades_have_the_expected_rows_and_leads(query: Query, expected: dict[str, Any]) -> None:
    graded = query("select lead_quality_flag, row_count, lead_count from gold.lead_quality_distribution")
    assert {flag: rows for flag, rows, _ in graded} == expected["quality_rows"]
    assert {flag: leads for flag, _, leads in graded} == expected["quality_leads"]


def test_daily_grades_add_up_to_the_expected_rows(query: Query, expected: dict[str, Any]) -> None:
    by_flag = query("select lead_quality_flag, sum(row_count)::int from gold.lead_quality_per_day group by 1")
    assert dict(by_flag) == expected["quality_rows"]


def test_new_high_quality_leads_per_day_are_as_expected(query: Query, expected: dict[str, Any]) -> None:
    series = query("select _partition_date::text, new_high_quality_leads from gold.new_high_quality_leads_per_day")
    assert dict(series) == {day: count for day, count in expected["new_high_quality_leads_daily"].items() if count}


def test_each_day_has_the_expected_total_and_new_leads(query: Query, expected: dict[str, Any]) -> None:
    days = query("select _partition_date::text, total_leads, new_leads from gold.leads_per_day")
    assert {day: total for day, total, _ in days} == expected["total_leads_daily"]
    assert {day: new for day, _, new in days} == expected["new_leads_daily"]
    (last,) = query("select cumulative_leads from gold.leads_per_day order by _partition_date desc limit 1")
    assert last == (sum(expected["new_leads_daily"].values()),)


def test_unmatched_rows_are_as_expected(query: Query, expected: dict[str, Any]) -> None:
    assert query("select count(*) from gold.unmatched_snapshot_rows") == [(expected["match"]["none"],)]


def test_daily_funnel_decreases_from_stage_to_stage(query: Query, expected: dict[str, Any]) -> None:
    days = query(
        "select _partition_date::text, lead_count, appointment_count, demo_count, sale_count, "
        "appointment_rate, demo_rate, conversion_rate from gold.conversion_funnel_per_day"
    )
    assert {day: leads for day, leads, *_ in days} == expected["total_leads_daily"]
    for _, leads, appointments, demos, sales, *rates in days:
        assert leads >= appointments >= demos >= sales > 0
        assert rates == [appointments / leads, demos / leads, sales / leads]


@pytest.mark.parametrize("key", ["state", "disposition"])
def test_funnels_by_state_and_disposition_decrease_and_count_each_lead_once(
    query: Query, expected: dict[str, Any], key: str
) -> None:
    rows = query(
        "select lead_count, appointment_count, demo_count, sale_count, appointment_rate, demo_rate, conversion_rate "
        f"from gold.conversion_funnel_per_{key}"
    )
    for leads, appointments, demos, sales, *rates in rows:
        assert leads >= appointments >= demos >= sales
        assert rates == [appointments / leads, demos / leads, sales / leads]
    assert sum(leads for leads, *_ in rows) == expected["leads"]
    sold = query("select count(*) from gold.lead_quality_current where dispo = 'Sale'")
    assert [(sum(sales for _, _, _, sales, *_ in rows),)] == sold > [(0,)]


def test_first_seen_and_last_seen_are_the_first_and_last_day_of_each_lead(
    query: Query, expected: dict[str, Any]
) -> None:
    first = query("select first_seen::text, count(*) from gold.leads group by 1")
    assert dict(first) == expected["new_leads_daily"]
    wrong = query(
        """
        select lead_uuid from gold.leads
        inner join (
            select lead_uuid, min(_partition_date) as first_day, max(_partition_date) as last_day
            from gold.lead_quality_matching group by lead_uuid
        ) as days using (lead_uuid)
        where (first_seen, last_seen) is distinct from (first_day, last_day)
        """
    )
    assert wrong == []


def test_lead_match_id_numbers_the_rows_of_each_day(query: Query) -> None:
    days = query(
        "select count(*), count(distinct lead_match_id), min(lead_match_id), max(lead_match_id) "
        "from gold.lead_quality_matching group by _partition_date"
    )
    assert [(rows, rows, 1, rows) for rows, *_ in days] == days != []


def test_current_row_is_the_row_of_the_last_day_of_its_lead(query: Query) -> None:
    assert query(
        "select count(*) from (select to_jsonb(c) from gold.lead_quality_current as c "
        "except select to_jsonb(m) - 'lead_match_id' from gold.lead_quality_matching as m) as differing"
    ) == [(0,)]
    assert query(
        "select count(*) from gold.leads inner join gold.lead_quality_current as c using (lead_uuid) "
        "where last_seen <> _partition_date or leads.lead_number is distinct from c.lead_number"
    ) == [(0,)]


@pytest.mark.parametrize("child", ["lead_quality_current", "appointments", "lead_status_history"])
def test_references_to_leads_are_valid(query: Query, child: str) -> None:
    assert query(f"select count(*) > 0 from gold.{child}") == [(True,)]
    assert query(
        f"select count(*) from gold.{child} left join gold.leads using (lead_uuid) where leads.lead_uuid is null"
    ) == [(0,)]


def test_status_periods_have_no_gap_and_no_overlap(query: Query) -> None:
    periods = """
        select
            *,
            lead(valid_from) over numbered as next_from,
            lag(valid_from) over numbered is not null as has_one_before,
            row(dispo, job_status, set, demo, appt_date)
                is not distinct from lag(row(dispo, job_status, set, demo, appt_date)) over numbered as says_nothing_new
        from gold.lead_status_history
        window numbered as (partition by lead_uuid, lead_number order by valid_from)
    """
    assert query(f"select count(*) from ({periods}) as p where valid_to is distinct from next_from") == [(0,)]
    assert query(f"select count(*) from ({periods}) as p where is_current <> (next_from is null)") == [(0,)]
    assert query(f"select count(*) from ({periods}) as p where has_one_before and says_nothing_new") == [(0,)]
    seen = "select distinct lead_uuid, lead_number from gold.lead_quality_matching where lead_uuid is not null"
    assert query(f"select count(*) from ({periods}) as p where is_current") == query(
        f"select count(*) from ({seen}) as s"
    )


def test_hash_of_the_empty_value_is_found_as_suspect(query: Query) -> None:
    no_value = "in the e-mail and in the phone column: hash of a missing value"
    found = query(f"select kind, left(hash, 8) from gold.suspect_hashes where reason like '{no_value}%' order by 1")
    assert found == [("email", "a4e3b6a6"), ("phone", "a4e3b6a6")]
    on_it_alone = """
        select count(*) from {}
        where lead_uuid is not null
            and (not email_match or email_hash like 'a4e3b6a6%') and (not phone_match or phone_hash like 'a4e3b6a6%')
    """
    falsely = query(on_it_alone.format("gold.lead_quality_matching"))
    assert query(on_it_alone.format("gold.suspect_matches")) == falsely
    assert falsely > [(0,)]


def test_each_silver_column_has_the_expected_values(query: Query, expected: dict[str, Any]) -> None:
    def metrics(column: str, wanted: dict[str, Any]) -> dict[str, Any]:
        # expected.json compares cities without trailing blanks
        value = "rtrim(city)" if column == "city" else column
        (not_null, distinct), *_ = query(
            f"select count({column}), count(distinct {value}) from silver.stg_csv_snapshots"
        )
        found: dict[str, Any] = {"not_null": not_null, "distinct": distinct}
        if "sum" in wanted:
            found["sum"] = query(f"select sum({column}) from silver.stg_csv_snapshots")[0][0]
        if "values" in wanted:
            found["values"] = dict(
                query(f"select coalesce({column}::text, 'None'), count(*) from silver.stg_csv_snapshots group by 1")
            )
        return found

    found = {column: metrics(column, wanted) for column, wanted in expected["silver_columns"].items()}
    assert found == expected["silver_columns"]


def test_second_demo_run_on_the_real_files_loads_nothing(filled_by_demo: Query, demo: Demo, real_data: Path) -> None:
    before = filled_by_demo("select table_name, load_id from meta.table_loads order by 1")
    done = demo.run("--data", str(real_data))
    assert done.returncode == 0
    assert "0 new · 0 changed · 9 skipped · 0 refused" in done.stdout
    assert filled_by_demo("select table_name, load_id from meta.table_loads order by 1") == before


def test_printed_psql_command_works(filled_by_demo: Query, demo: Demo, real_data: Path) -> None:
    del filled_by_demo  # runs the demo
    done = demo.run("--data", str(real_data))
    line = next(line.strip() for line in done.stdout.splitlines() if "psql -h" in line)
    answer = subprocess.run(
        ["bash", "-c", f"{line} -Atc 'select count(*) from gold.lead_quality_matching'"],
        cwd=demo.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout.strip().isdigit(), answer.stderr
