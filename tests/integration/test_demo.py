"""`make demo`: sample data, an embedded PostgreSQL and S3, the six steps."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest
from servers import running_postgres

if TYPE_CHECKING:
    from conftest import Demo

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def without_run_specifics(output: str) -> str:
    """Remove what differs from run to run: seconds, run id, port, and the blanks that align them."""
    output = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "RUN", output)
    output = re.sub(r"\d+\.\d\d\b", "SECONDS", output)
    output = re.sub(r"127\.0\.0\.1:\d+|-p \d+", "PORT", output)
    return "\n".join(" ".join(line.split()) for line in output.strip().splitlines())


@pytest.fixture(scope="module")
def first_output(demo: Demo) -> str:
    done = demo.run()
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_shows_the_output_of_the_demo(first_output: str) -> None:
    shown = re.search(r"<!-- output of `make demo` -->\n```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown is not None
    in_project, stop_elsewhere = re.subn(
        r"stop it: PYTHONPATH=\S+ \S+ -m etl\.local\.embedded \.local$",
        "stop it: make demo-stop",
        first_output,
        flags=re.MULTILINE,
    )
    assert stop_elsewhere == 1, "there is no Makefile in the folder of this demo"
    assert without_run_specifics(shown[1]) == without_run_specifics(in_project)


def test_sample_fills_every_layer_and_every_scenario(first_output: str, demo: Demo) -> None:
    del first_output
    assert demo.query("select count(*), count(distinct _partition_date) from silver.stg_csv_snapshots")[0][1] == 22
    assert dict(demo.query("select scenario, row_count > 0 from gold.match_scenarios")) == dict.fromkeys(
        ("both", "email_only", "phone_only", "none"), True
    )


def test_only_the_breaks_of_the_sample_are_anomalies(first_output: str, demo: Demo) -> None:
    del first_output
    days = "array_agg(extract(day from _partition_date)::int order by _partition_date)"
    found = demo.query(f"select metric, {days} from gold.data_anomalies group by 1")
    broken = list(range(16, 23))
    assert dict(found) == {
        "location_null_share": list(range(13, 23)),
        "set_share": broken,
        "appt_date_without_set_share": broken,
    }


def test_files_saved_by_hand_change_no_row_version(first_output: str, demo: Demo) -> None:
    """On days 4 and 14 as on other days, few contents begin: floats and spreadsheet dates are the same values."""
    del first_output
    first_days = "select extract(day from lower(unnest(valid_during)))::int as day from silver.row_contents"
    begun = dict(demo.query(f"select day, count(*) from ({first_days}) as versions group by 1"))
    assert begun[4] < 100
    assert begun[14] < 100
    assert demo.query("select count(*) from silver.rejected_rows") == [(0,)]


def test_second_demo_run_loads_and_changes_nothing(first_output: str, demo: Demo) -> None:
    del first_output
    ledger = "select table_name, load_id, row_count from meta.table_loads order by 1"
    before = demo.query(ledger)
    done = demo.run()
    assert done.returncode == 0, done.stderr
    assert "0 new · 0 changed · 23 skipped · 0 refused" in done.stdout
    assert demo.query(ledger) == before


def test_lead_of_the_demo_is_explained_and_a_dry_run_finds_nothing_to_do(first_output: str, demo: Demo) -> None:
    del first_output
    ((lead,),) = demo.query("select min(lead_uuid) from gold.appointments")
    done = demo.run("--explain", lead)
    assert done.returncode == 0, done.stderr
    assert f"lead {lead}\n" in done.stdout
    assert "set_share is 0.0 %, expected 21." in done.stdout
    done = demo.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "23 unchanged · 0 refused" in done.stdout
    assert "days to process: none" in done.stdout
    assert demo.run("--dry-run", "--data", str(demo.folder)).returncode == 1


def test_data_option_replaces_the_sample_and_names_views_that_are_dropped(
    first_output: str, demo: Demo, tmp_path: Path
) -> None:
    del first_output
    sample = demo.folder / ".local" / "sample"
    for part, name in (("SFTP", "data_7.csv"), ("parquet", "leads.parquet")):
        (tmp_path / part).mkdir()
        (tmp_path / part / name).write_bytes((sample / part / name).read_bytes())
    demo.query(
        "create schema mine; create view mine.sold as select * from gold.leads where dispo = 'Sale'; "
        "create view gold.my_states as select distinct state from gold.leads; create table mine.kept (a int); select 1"
    )
    done = demo.run("--data", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "your own views and tables in it, or based on it, were dropped: gold.my_states, mine.sold\n" in done.stderr
    assert demo.query("select to_regclass('mine.sold') is null, to_regclass('mine.kept') is null") == [(True, False)]
    assert demo.query("select distinct _partition_date::text from gold.lead_quality_matching") == [("2024-10-07",)]


def test_demo_output_contains_no_password(first_output: str, demo: Demo) -> None:
    lines = (demo.folder / ".local" / "pgpass").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    done = demo.run("--log-level", "debug")
    for line in lines:
        assert line.rsplit(":", 1)[1] not in first_output + done.stdout + done.stderr


def test_printed_line_connects_as_bi_reader(first_output: str, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^ +(PGPASSFILE=.* -U bi_reader homebuddy)$", first_output, flags=re.MULTILINE)
    assert "user bi_reader, password in .local/pgpass" in first_output

    def query(statement: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            f'{line} -Atc "{statement}"', shell=True, cwd=demo.folder, capture_output=True, text=True, check=False
        )

    assert query("select current_user, count(*) > 0 from gold.leads").stdout == "bi_reader|t\n"
    assert "permission denied" in query("select count(*) from silver.stg_csv_snapshots").stderr
    assert query("delete from gold.leads").returncode == 1

    chosen = r"chosen:by the\reader"
    monkeypatch.setenv("BI_READER_PASSWORD", f"{chosen}\r\n")  # as from a file
    assert demo.run("--only-step", "1").returncode == 0
    server = running_postgres(demo.folder / ".local")
    assert server is not None
    assert server.reader_password == chosen
    assert query("select current_user").stdout == "bi_reader\n"


def test_analyst_logs_in_with_the_password_of_the_environment(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = "chosen-by-the-analyst"
    monkeypatch.setenv("ANALYST_PASSWORD", chosen)
    assert demo.run("--only-step", "1").returncode == 0
    server = running_postgres(demo.folder / ".local")
    assert server is not None
    psycopg2.connect(
        host=server.host, port=server.port, user="analyst", password=chosen, dbname=server.database
    ).close()
