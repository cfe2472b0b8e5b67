"""Execute docs/operations.md on a machine without an installation, with the PostgreSQL of the distribution.

One shell executes the code blocks of the page in order; S3 is another process. Stand-ins replace some programs: `sudo`
runs as the account of the server, `apt-get` installs nothing, `aws s3 cp` is boto3, the editor fills in what the page
says, and the virtual environment is that of the tests.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from servers import Server, distribution_server, s3_in_another_process
from support import PROJECT, Warehouse

from etl.utils.s3_source import discover_snapshots, download, find_leads
from etl.utils.utils_connection import Settings

PAGE = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
ENV = {
    "POSTGRES_USER": "leads_etl",
    "POSTGRES_PASSWORD": "5b1f-of-the-pipeline",
    "POSTGRES_DB": "warehouse",
    "BI_READER_PASSWORD": "77aa-of-readers",
    "S3_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "S3_SECRET_ACCESS_KEY": "e0c4-of-s3",
    "S3_BUCKET_NAME": "leads-of-a-fresh-machine",
}
SECRETS = [ENV[name] for name in ("POSTGRES_PASSWORD", "BI_READER_PASSWORD", "S3_SECRET_ACCESS_KEY")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def block_after(comment: str, language: str) -> str:
    found = re.search(rf"<!-- {comment} -->\n```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


# --- The transcript ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transcript:
    """The output of each code block of the page, in order, and the folder."""

    folder: Path
    printed: list[str]

    @property
    def checkout(self) -> Path:
        return self.folder / "homebuddy-leads-etl"

    def of(self, command: str) -> str:
        """Return the output of the block with this command."""
        (number,) = [n for n, block in enumerate(blocks("bash")) if command in block]
        return self.printed[number]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with distribution_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_in_another_process(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def environment(server: Server, s3_process: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of the machine, with the stand-ins first in its PATH."""
    folder = tmp_path_factory.mktemp("machine")
    programs = folder / "bin"
    programs.mkdir()
    filled_in = ENV | {
        "POSTGRES_HOST": "localhost",
        "POSTGRES_PORT": str(server.port),
        "POSTGRES_SSLMODE": "verify-full",
        "POSTGRES_SSLROOTCERT": str(server.certificate),
        "AWS_ENDPOINT_URL_S3": s3_process,
    }
    as_server = f"runuser -u {server.account} --" if server.account else ""
    stand_ins = {
        # --preserve-env=… -u postgres COMMAND…: over the socket of the server, as its account
        "sudo": f'#!/bin/sh\ncase "$1" in apt-get) exit 0;; esac\nshift 3\n'
        f"cd / && export PGHOST={server.folder} PGPORT={server.port} PGUSER= PGPASSWORD= PGDATABASE=postgres\n"
        f'exec {as_server} "$@"\n',
        "aws": f"#!{sys.executable}\n{AWS}",
        "editor": f"#!{sys.executable}\n{EDITOR.format(filled_in)}",
        # -m venv .venv
        "python3": f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"\n'
        f'mkdir "$3" && cp {sys.prefix}/pyvenv.cfg "$3" && ln -s {sys.prefix}/bin {sys.prefix}/lib "$3"\n',
    }
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{server.programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "EDITOR": "editor",
        "REPOSITORY": str(new_repository(folder / "repository")),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PIP_NO_INDEX": "1",  # everything is installed: nothing is downloaded
    }


AWS = """
import os, sys
import boto3

source, target = sys.argv[3:]
assert sys.argv[1:3] == ["s3", "cp"]
client = boto3.client(
    "s3",
    region_name=os.environ["S3_REGION"],
    aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
)
if source.startswith("s3://"):
    client.download_file(*source.removeprefix("s3://").split("/", 1), target)
else:
    client.upload_file(source, *target.removeprefix("s3://").split("/", 1))
"""
EDITOR = """
import re, sys
from pathlib import Path

file, values = Path(sys.argv[1]), {!r}
text = file.read_text()
if file.name == ".env":
    for name, value in values.items():
        text, found = re.subn(rf"^{{name}}=.*$", f"{{name}}={{value}}", text, flags=re.MULTILINE)
        assert found == 1, name
else:
    # the last row is gone, and the file has a column more
    header, *rows = text.splitlines()
    text = "\\n".join([header + ",Agent", *(row + ",Smith" for row in rows[:-1])]) + "\\n"
file.write_text(text)
"""


def new_repository(folder: Path) -> Path:
    """Copy this checkout into a repository to clone."""
    ignored = shutil.ignore_patterns(".git", ".venv*", ".local", ".env", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(PROJECT, folder, ignore=ignored)
    for command in ("init --quiet", "add .", "-c user.name=test -c user.email=test@localhost commit --quiet -m now"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def transcript(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Transcript:
    folder = tmp_path_factory.mktemp("home")
    script = "set -eu\n" + "\n".join(f"echo '=== block {n}'\n{block}" for n, block in enumerate(blocks("bash")))
    done = subprocess.run(
        ["bash"], input=script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    printed = re.split(r"^=== block \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert done.returncode == 0, f"{printed[-1]}\n{done.stderr[-3000:]}"
    return Transcript(folder, [*printed, done.stderr])


def test_setup_fills_gold(transcript: Transcript) -> None:
    printed = transcript.of("select * from gold.match_scenarios")
    assert "23 new · 0 changed · 0 skipped · 0 refused" in printed
    assert "0 new · 0 changed · 23 skipped · 0 refused" in printed, "the second run"
    scenarios = dict(re.findall(r"^ (\w+) +\| +(\d+) \|", printed, flags=re.MULTILINE))
    assert {name: int(scenarios[name]) for name in ("both", "email_only", "phone_only", "none")} == {
        "both": 81_324,
        "email_only": 733,
        "phone_only": 193,
        "none": 115,
    }


def test_no_secret_is_printed_and_env_file_is_private(transcript: Transcript) -> None:
    for printed in transcript.printed:
        for secret in SECRETS:
            assert secret not in printed
    assert (transcript.checkout / ".env").stat().st_mode & 0o777 == 0o600


def test_corrected_day_replaces_only_itself(transcript: Transcript) -> None:
    printed = transcript.of("data_7.csv")
    assert "0 new · 1 changed · 22 skipped · 0 refused" in printed
    assert "1 cleaned · 1 typed" in printed


def test_layers_are_rebuilt_without_s3_and_the_warehouse_from_s3(transcript: Transcript) -> None:
    printed = transcript.of("--only-step 3 --full-refresh")
    assert re.search(r"^days +22 cleaned$", printed, flags=re.MULTILINE)
    assert re.search(r"^days +22 typed$", printed, flags=re.MULTILINE)
    assert re.search(r"^days +22 published$", printed, flags=re.MULTILINE)
    assert re.search(r"^days +22 cleaned · 22 typed · 22 published$", printed, flags=re.MULTILINE)
    assert "23 new · 0 changed" in transcript.of("drop_schemas.sql"), "loaded into an empty warehouse"


def test_dump_restores_gold_and_the_next_run_keeps_bronze_and_silver(transcript: Transcript) -> None:
    rows = re.search(r"^gold\.lead_quality_matching +([\d,]+)$", transcript.of("drop_schemas.sql"), flags=re.MULTILINE)
    restored = transcript.of("pg_restore")
    counted = re.search(r"count\s*\n-+\n +(\d+)", restored)
    assert "0 new · 0 changed · 23 skipped · 0 refused" in restored
    assert re.search(r"^days +0 cleaned · 0 typed · 22 published$", restored, flags=re.MULTILINE)
    assert rows is not None
    assert counted is not None
    assert int(counted[1]) == int(rows[1].replace(",", "")) > 82_000


def test_run_history_shows_completed_runs(transcript: Transcript) -> None:
    assert re.search(r"\| complete \| +0 \|", transcript.of("from meta.pipeline_runs"))


def test_unknown_column_can_be_queried_in_bronze(transcript: Transcript) -> None:
    with_agent = transcript.of("_extra ->> 'Agent'")
    assert re.search(r"^ 2024-10-01 +\| +\| +\d+$", with_agent, flags=re.MULTILINE)


def test_documented_change_adds_and_fills_a_column(
    transcript: Transcript, environment: dict[str, str], server: Server
) -> None:
    """In the checkout of the transcript, whose warehouse is filled: the column is added to existing tables."""

    def run(*command: str, stdin: str = "") -> None:
        done = subprocess.run(
            command, input=stdin, cwd=transcript.checkout, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("git", "apply", "-", stdin=block_after("the change for a new column", "diff"))
    run(".venv/bin/python", "main.py")
    query = "select agent, count(*) from silver.stg_csv_snapshots where _partition_date = '2024-10-07' group by 1"
    warehouse = Warehouse(server.settings(ENV["POSTGRES_USER"], ENV["POSTGRES_PASSWORD"], ENV["POSTGRES_DB"], ""))
    ((agent, rows),) = warehouse.rows(query)
    assert (agent, rows > 3_000) == ("Smith", True)
    assert warehouse.value("select count(*) > 3000 from gold.lead_quality_matching where agent = 'Smith'")
    run(".venv/bin/python", "-m", "pytest", "-q", "tests/unit/utils/test_transform.py", "tests/sql")


# --- AWS and schedulers -----------------------------------------------------------------------------------------------


def test_iam_policy_permits_reading_only(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = block_after("the least policy", "json")
    bucket = "homebuddy-leads"
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        owner = {"region_name": "us-east-1", "aws_access_key_id": "owner", "aws_secret_access_key": "owner"}
        s3, iam = boto3.client("s3", **owner), boto3.client("iam", **owner)
        s3.create_bucket(Bucket=bucket)
        for key in ("SFTP/data_1.csv", "parquet/leads.parquet", "others/secret.csv"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        iam.create_user(UserName="etl")
        iam.put_user_policy(UserName="etl", PolicyName="read-leads", PolicyDocument=policy)
        key = iam.create_access_key(UserName="etl")["AccessKey"]
        reader = boto3.client(
            "s3",
            region_name="us-east-1",
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
        )

        @set_initial_no_auth_action_count(0)
        def as_the_pipeline() -> None:
            settings = Settings(
                postgres_user="u", postgres_password="p", postgres_db="d", postgres_host="h", s3_bucket_name=bucket
            )
            (snapshot,) = discover_snapshots(reader, settings).files
            assert download(reader, snapshot) == b"x"
            assert download(reader, find_leads(reader, settings)) == b"x"
            for forbidden in (
                lambda: reader.put_object(Bucket=bucket, Key="SFTP/data_2.csv", Body=b"x"),
                lambda: reader.delete_object(Bucket=bucket, Key="SFTP/data_1.csv"),
                lambda: reader.get_object(Bucket=bucket, Key="others/secret.csv"),
                lambda: reader.list_buckets(),
            ):
                with pytest.raises(ClientError, match=r"AccessDenied|Forbidden"):
                    forbidden()

        as_the_pipeline()


def test_aws_commands_use_existing_operations_and_parameters() -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) >= 8
    session = botocore.session.get_session()
    for line in commands:
        program, service, operation, *rest = line.split()
        assert program == "aws"
        client = session.create_client({"s3api": "s3"}.get(service, service), region_name="eu-north-1")
        if operation == "wait":
            waiter, *rest = rest
            assert waiter.replace("-", "_") in client.waiter_names
            model = client.meta.service_model.operation_model("DescribeDBInstances")
        else:
            name = client.meta.method_to_api_mapping[operation.replace("-", "_")]
            model = client.meta.service_model.operation_model(name)
        known = {botocore.xform_name(member, "-") for member in model.input_shape.members}
        named = {word.removeprefix("--").removeprefix("no-") for word in rest if word.startswith("--")}
        assert named <= known, line
        assert {botocore.xform_name(member, "-") for member in model.input_shape.required_members} <= named


def test_cron_runs_the_pipeline_every_morning() -> None:
    (text,) = blocks("cron")
    mail, job = text.splitlines()
    assert mail.startswith("MAILTO=")
    assert re.match(r"15 6 \* \* \* cd \S+ && \.venv/bin/python main\.py ", job)


def test_systemd_units_are_valid(tmp_path: Path) -> None:
    service, timer = blocks("ini")
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read_string(service)
    assert parsed["Service"]["SuccessExitStatus"] == "3"
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("systemd-analyze is not installed")
    program = f"{sys.executable} {PROJECT}/main.py"
    service = service.replace("/opt/homebuddy-leads-etl/.venv/bin/python main.py", program).replace("User=etl\n", "")
    (tmp_path / "homebuddy-leads-etl.service").write_text(service.replace("/opt/homebuddy-leads-etl", str(PROJECT)))
    (tmp_path / "homebuddy-leads-etl.timer").write_text(timer)
    done = subprocess.run(
        [analyse, "verify", "--man=no", *tmp_path.iterdir()], capture_output=True, text=True, timeout=60
    )
    read_end = [line for line in done.stderr.splitlines() if "homebuddy" in line]
    assert (done.returncode, read_end) == (0, []), done.stderr


def test_airflow_dag_runs_the_pipeline_once_a_day() -> None:
    (text,) = blocks("python")
    calls = {
        call.func.id: {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    assert calls["DAG"]["catchup"] == "False"
    assert calls["BashOperator"]["skip_on_exit_code"] == "3"
    assert calls["BashOperator"]["bash_command"].endswith(".venv/bin/python main.py'")


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d) \| ([\w ]+)", PAGE.split("## Exit codes")[1], flags=re.MULTILINE)
    shown = (
        (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8").split("  Exit codes:\n")[1]
    )  # as printed by --help
    codes = re.findall(r"^    (\d)  (\w+)", shown, flags=re.MULTILINE)
    assert [(code, meaning.split()[0]) for code, meaning in rows] == codes
