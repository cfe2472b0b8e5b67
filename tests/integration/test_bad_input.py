"""Invalid settings, servers and files give one clear error (what, where, what to do), and unchanged tables."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tenacity
from pydantic import SecretStr
from servers import free_port
from support import HEADER, Bucket, Warehouse, drop_schemas, empty_warehouse, environment_of

from etl.console.command import run_and_report
from etl.engine.run_report import RunReport, Step
from etl.pipeline import STEPS, choose_steps
from etl.utils.errors import SettingsError
from etl.utils.utils_connection import Settings, load_settings
from etl.warehouse.transactions import close_connections

Run = Callable[..., "RunResult"]
Python = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class RunResult:
    """Exit code and output of a run."""

    exit_code: int
    output: str

    @classmethod
    def of(cls, process: subprocess.CompletedProcess[str]) -> RunResult:
        return cls(process.returncode, process.stdout + process.stderr)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], settings: Settings) -> Run:
    """Run the pipeline in this process, with some settings replaced."""

    def run(steps: Sequence[Step] = STEPS, **overrides: object) -> RunResult:
        capsys.readouterr()
        bad_settings = settings.model_copy(update=overrides)
        exit_code = run_and_report(bad_settings, steps)
        if overrides:
            close_connections()
        output = capsys.readouterr()
        return RunResult(exit_code, output.out + output.err)

    return run


@pytest.fixture(scope="module")
def settings(postgres_server: Settings, s3_endpoint: str) -> Iterator[Settings]:
    """One warehouse and one bucket for all tests: a failed run changes nothing."""
    with empty_warehouse(postgres_server, s3_endpoint, __name__) as settings:
        yield settings


@pytest.fixture
def before(bucket: Bucket, run: Run, warehouse: Warehouse) -> dict[str, str]:
    """Load two days and their leads; return the contents of all tables."""
    bucket.clear()
    bucket.put_snapshot(1, [{"LEADNUMBER": str(number), "email_hash": f"e{number}"} for number in range(1, 6)])
    bucket.put_snapshot(2, [{"LEADNUMBER": str(number), "email_hash": f"e{number}"} for number in range(1, 7)])
    bucket.put_leads([(f"lead {number}", f"p{number}", f"e{number}") for number in range(1, 5)])
    assert run().exit_code == 0
    contents = warehouse.contents()
    assert not any(content.startswith("0:") for table, content in contents.items() if table != "silver.rejected_rows")
    return contents


@pytest.fixture
def empty_database(settings: Settings) -> None:
    drop_schemas(settings)


def assert_one_clear_error(result: RunResult, *named: str, exit_code: int = 1) -> None:
    """Assert that there is one error, which names the cause and the next action."""
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output
    assert result.output.count("error: ") == 1, result.output
    error = result.output[result.output.index("error: ") :]
    assert "\n  → " in error, "no next action"
    for name in named:
        assert name in error


# --- Settings ---------------------------------------------------------------------------------------------------------

REQUIRED = ("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "POSTGRES_HOST", "S3_BUCKET_NAME")


def test_missing_settings_are_named_by_main(python: Python) -> None:
    result = RunResult.of(python("main.py", environment={}))
    assert_one_clear_error(result, *REQUIRED, ".env")


def test_only_missing_or_invalid_settings_are_named_without_values(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder without .env
    for name, value in (environment_of(settings) | {"POSTGRES_PORT": "five", "POSTGRES_HOST": ""}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("S3_BUCKET_NAME")
    with pytest.raises(SettingsError) as error:
        load_settings()
    output = str(error.value)
    assert all(name in output for name in ("S3_BUCKET_NAME", "POSTGRES_HOST", "POSTGRES_PORT"))
    assert "POSTGRES_USER" not in output
    assert "five" not in output
    assert settings.postgres_password.get_secret_value() not in output


def test_invalid_option_is_explained_without_a_traceback(python: Python) -> None:
    result = RunResult.of(python("main.py", "--from-step", "9", environment={}))
    assert result.exit_code not in (0, 3)
    assert "Traceback" not in result.output
    assert "--from-step" in result.output
    assert "1<=x<=6" in result.output


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def test_unreachable_postgres_is_named_with_host_and_port(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def retrying(original: type[tenacity.Retrying], **options: Any) -> tenacity.Retrying:
        return original(**options | {"stop": tenacity.stop_after_attempt(2)})  # instead of ten seconds

    monkeypatch.setattr("tenacity.Retrying", partial(retrying, tenacity.Retrying))
    port = free_port()
    assert_one_clear_error(run(postgres_port=port), f"127.0.0.1:{port}", "POSTGRES_HOST", "POSTGRES_PORT")


def test_server_without_tls_is_refused_if_tls_is_required(run: Run) -> None:
    assert_one_clear_error(run(postgres_sslmode="require"), "does not support SSL", "POSTGRES_SSLMODE")


def test_unknown_host_is_named(run: Run) -> None:
    assert_one_clear_error(run(postgres_host="no-such-host.invalid"), "no-such-host.invalid", "POSTGRES_HOST")


def test_wrong_password_is_refused_at_once_and_not_shown(
    python: Python, settings: Settings, warehouse: Warehouse, before: dict[str, str]
) -> None:
    wrong = settings.model_copy(update={"postgres_password": SecretStr("wrong-and-secret")})
    result = RunResult.of(python("main.py", environment=environment_of(wrong)))
    assert_one_clear_error(result, f"{settings.postgres_user}@127.0.0.1", "POSTGRES_PASSWORD")
    assert "wrong-and-secret" not in result.output
    assert warehouse.contents() == before


def test_debug_traceback_does_not_show_the_password(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        result = run(postgres_password=SecretStr("wrong-and-secret"))
    assert result.exit_code == 1
    assert "Traceback" in caplog.text
    assert "password authentication failed" in caplog.text
    assert "wrong-and-secret" not in caplog.text + result.output


def test_missing_database_is_named(run: Run) -> None:
    assert_one_clear_error(run(postgres_db="no_such_database"), "no_such_database", "POSTGRES_DB")


# --- S3 ---------------------------------------------------------------------------------------------------------------


def test_unreachable_s3_is_named_and_changes_nothing(run: Run, warehouse: Warehouse, before: dict[str, str]) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    assert_one_clear_error(run(aws_endpoint_url_s3=endpoint), "step 2", endpoint, "AWS_ENDPOINT_URL_S3")
    assert warehouse.contents() == before


def test_missing_bucket_is_named_and_changes_nothing(run: Run, warehouse: Warehouse, before: dict[str, str]) -> None:
    assert_one_clear_error(run(s3_bucket_name="no-such-bucket"), "no-such-bucket", "NoSuchBucket", "S3_BUCKET_NAME")
    assert warehouse.contents() == before


def test_missing_parquet_bucket_is_named_and_changes_nothing(
    run: Run, warehouse: Warehouse, before: dict[str, str]
) -> None:
    result = run(s3_parquet_bucket="no-such-bucket/parquet")
    assert_one_clear_error(result, "s3://no-such-bucket/parquet/leads.parquet", "S3_PARQUET_BUCKET")
    assert warehouse.contents() == before


@pytest.mark.parametrize(
    ("setting", "value"),
    [("s3_parquet_file", "parquet/nothing.parquet"), ("s3_sftp_files_prefix", "SFTP/nothing_")],
    ids=["parquet", "snapshots"],
)
def test_missing_files_are_named_and_change_nothing(
    run: Run, warehouse: Warehouse, before: dict[str, str], settings: Settings, setting: str, value: str
) -> None:
    result = run(**{setting: value})
    assert_one_clear_error(result, f"s3://{settings.s3_bucket_name}/{value}", setting.upper())
    assert warehouse.contents() == before


# --- Files ------------------------------------------------------------------------------------------------------------


def test_two_keys_with_one_number_are_refused_and_change_nothing(
    run: Run, warehouse: Warehouse, before: dict[str, str], bucket: Bucket
) -> None:
    bucket.put("SFTP/data_02.csv", b"whatever\n")
    assert_one_clear_error(run(), "SFTP/data_02.csv", "SFTP/data_2.csv", bucket.name, exit_code=2)
    assert warehouse.contents() == before


def test_file_with_missing_columns_is_refused_and_changes_nothing(
    run: Run, warehouse: Warehouse, before: dict[str, str], bucket: Bucket
) -> None:
    bucket.put_snapshot(2, [{}], header=[name for name in HEADER if name not in ("LEADNUMBER", "Appt Date")])
    result = run()
    assert_one_clear_error(
        result, f"s3://{bucket.name}/SFTP/data_2.csv", "missing required columns: LEADNUMBER, APPT_DATE", exit_code=2
    )
    assert warehouse.contents() == before


def test_process_with_refused_data_exits_with_2(
    python: Python, settings: Settings, warehouse: Warehouse, before: dict[str, str], bucket: Bucket
) -> None:
    bucket.put_snapshot(2, [{}], header=[name for name in HEADER if name != "STATE"])
    result = RunResult.of(python("main.py", environment=environment_of(settings)))
    assert_one_clear_error(result, "SFTP/data_2.csv", "missing required columns: STATE", exit_code=2)
    assert warehouse.contents() == before


def test_refused_file_is_loaded_after_correction(
    run: Run, warehouse: Warehouse, before: dict[str, str], bucket: Bucket
) -> None:
    bucket.put_snapshot(3, [{}], header=[name for name in HEADER if name != "Demo"])
    assert_one_clear_error(run(), "SFTP/data_3.csv", "missing required columns: Demo", exit_code=2)
    assert warehouse.contents() == before
    bucket.put_snapshot(3, [{}])
    assert run().exit_code == 0
    assert warehouse.value("select count(*) from gold.lead_quality_matching where _partition_date = '2024-10-03'") == 1


def test_all_refused_files_are_named_in_one_error(
    run: Run, warehouse: Warehouse, before: dict[str, str], bucket: Bucket
) -> None:
    bucket.put_snapshot(1, [{}], header=[name for name in HEADER if name != "ZIP"])
    bucket.put_snapshot(2, [{}], header=[name for name in HEADER if name != "Dispo"])
    bucket.put("parquet/leads.parquet", b"no parquet")
    result = run()
    assert_one_clear_error(
        result,
        "SFTP/data_1.csv",
        "missing required columns: ZIP",
        "SFTP/data_2.csv",
        "missing required columns: Dispo",
        "leads.parquet",
        "add its new name to CRM_COLUMNS",
        "with text columns lead_UUID, phone_hash, email_hash",
        exit_code=2,
    )
    assert result.output.count("CRM_COLUMNS") == 1, "equal hints are shown once"
    assert warehouse.contents() == before


def test_refusals_of_two_steps_name_both_steps(run_pipeline: Callable[..., RunReport], bucket: Bucket) -> None:
    bucket.put_snapshot(1, [{}])
    bucket.put_snapshot(2, [{}], header=[name for name in HEADER if name != "ZIP"])
    bucket.put_leads([("u" * 256, "p1", "e1")])
    report = run_pipeline(allow_partial=True)
    lines = str(report.error).splitlines()
    assert lines[0] == "step 2, S3 → bronze; step 3, bronze → cleaned rows: 2 refusals:"
    assert "SFTP/data_2.csv has missing required columns: ZIP" in lines[1]
    assert "leads.parquet: none of its 1 rows has lead_UUID, phone_hash and email_hash" in lines[2]
    assert lines[3].startswith("  → ")
    assert len(lines) == 4


@pytest.mark.parametrize("second_city", ["CITY", "CityName"])
def test_duplicate_column_is_refused_under_either_name_and_changes_nothing(
    run: Run, warehouse: Warehouse, before: dict[str, str], bucket: Bucket, second_city: str
) -> None:
    bucket.put_snapshot(1, [{}], header=[*HEADER, second_city])
    assert_one_clear_error(run(), "SFTP/data_1.csv", "duplicate columns: CITY", exit_code=2)
    assert warehouse.contents() == before


def test_file_without_header_is_refused_and_changes_nothing(
    run: Run, warehouse: Warehouse, before: dict[str, str], bucket: Bucket
) -> None:
    bucket.put("SFTP/data_1.csv", b"02/05/2023,1,e1,p1,Boise,ID,83701,,1,0,Data,\n")
    assert_one_clear_error(run(), "SFTP/data_1.csv", "is not a header, because it names none of ENTRYDATE", exit_code=2)
    assert warehouse.contents() == before


def parquet_of(**columns: list[object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


WHOLE_PARQUET = parquet_of(lead_UUID=["u"], phone_hash=["p"], email_hash=["e"])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "cannot be read as parquet"),
        (b"lead_UUID,phone_hash,email_hash\nu,p,e\n", "cannot be read as parquet"),
        (WHOLE_PARQUET[: len(WHOLE_PARQUET) // 2], "cannot be read as parquet"),
        (b"PAR1" + b"\xff" * 200 + WHOLE_PARQUET[-4:], "cannot be read as parquet"),
        (parquet_of(lead_UUID=["u"], phone_hash=["p"]), "missing columns: email_hash"),
        (parquet_of(lead_UUID=[1], phone_hash=["p"], email_hash=["e"]), "lead_UUID is int64"),
    ],
    ids=["empty", "csv", "cut short", "garbage", "column missing", "numbers"],
)
def test_unreadable_parquet_is_refused_and_changes_nothing(
    run: Run,
    warehouse: Warehouse,
    before: dict[str, str],
    bucket: Bucket,
    content: bytes,
    fault: str,
) -> None:
    bucket.put("parquet/leads.parquet", content)
    assert_one_clear_error(run(), f"s3://{bucket.name}/parquet/leads.parquet", fault, exit_code=2)
    assert warehouse.contents() == before


# --- Single steps on an empty database --------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_database")
@pytest.mark.parametrize("number", [2, 4, 6])  # steps 1 and 5 create what they need; step 3: see below
def test_single_step_on_an_empty_database_names_the_step_to_run_first(run: Run, bucket: Bucket, number: int) -> None:
    bucket.put_snapshot(1, [{}])
    bucket.put_leads([("lead", "p1", "e1")])
    assert_one_clear_error(run(choose_steps(only_step=number)), f"step {number}", "--from-step")


@pytest.mark.usefixtures("empty_database")
def test_module_of_a_step_on_an_empty_database_names_the_step_to_run_first(python: Python, settings: Settings) -> None:
    module = "etl.step3_partition_and_load_all_csv"
    result = RunResult.of(python("-m", module, environment=environment_of(settings)))
    assert_one_clear_error(result, "step 3", "--from-step")
