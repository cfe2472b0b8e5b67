"""Output that cannot be encoded or that nobody reads does not end a run (case 13)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import PROJECT, Bucket, Warehouse, environment_of

from etl.utils.utils_connection import Settings

if TYPE_CHECKING:
    from conftest import Demo

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def good(settings: Settings, bucket: Bucket) -> dict[str, str]:
    """An environment whose run goes well."""
    bucket.put_snapshot(1, [{"LEADNUMBER": "1"}])
    bucket.put_leads([("u1", "p1", "e1")])
    return environment_of(settings)


# --- Encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--log-format", "json")], ids=["text", "json"])
def test_demo_completes_on_a_latin_1_terminal(demo: Demo, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "main.py", "--demo", *arguments],
        cwd=demo.folder,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if arguments:
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert [event["event"] for event in events].count("step_ended") == 6
        assert [(event["event"], event["step"]) for event in events[-2:]] == [
            ("run_ended", None),
            ("how_to_connect", None),
        ]
    else:
        assert "S3 \\u2192 bronze" in done.stdout
    assert demo.query("select status from meta.pipeline_runs order by started_at desc limit 1") == [("complete",)]


@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "latin-1:strict"])
@pytest.mark.parametrize("arguments", [(), ("--log-format", "json")], ids=["text", "json"])
def test_run_completes_in_other_encodings(good: dict[str, str], encoding: str, arguments: tuple[str, ...]) -> None:
    program = [sys.executable, str(PROJECT / "main.py"), *arguments]
    done = subprocess.run(
        program, env=os.environ | good | {"PYTHONIOENCODING": encoding}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bronze" in done.stdout.decode(encoding.partition(":")[0])


def test_refused_file_with_a_name_that_cannot_be_encoded_is_reported(
    python: Python, good: dict[str, str], bucket: Bucket
) -> None:
    bucket.put("SFTP/data_2.csv", "Stadt,Größe 名前\n1,2\n".encode())
    done = python("main.py", environment=good | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "data_2.csv" in done.stderr


def test_json_lines_are_ascii(python: Python, good: dict[str, str]) -> None:
    done = python("main.py", "--log-format", "json", environment=good)
    assert done.stdout.isascii()
    messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert "step 2, S3 → bronze" in messages


def test_help_is_printed_in_every_encoding(python: Python) -> None:
    done = python("main.py", "--help", environment={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0, done.stderr
    assert "bronze" in done.stdout


# --- Streams that are closed ------------------------------------------------------------------------------------------


def shell(command: str, environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which `main` is the pipeline; its exit code is the pipeline's."""
    script = f'main() {{ "{sys.executable}" "{PROJECT}/main.py" "$@"; }}\nset -o pipefail\n{command}'
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=surroundings | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


CLOSED = {
    "reader is gone": "main | head -0",
    "reader is gone, json": "main --log-format json | head -0",
    "reader leaves early": "main --log-format json | head -1",
    "readers of both are gone": "main 2>&1 | true",
    "stdout is closed": "main >&-",
    "stdout is closed, json": "main --log-format json >&-",
    "stderr is closed": "main 2>&-",
    "all are closed": "main <&- >&- 2>&-",
    "disk is full": "main > /dev/full",
    "disk is full for both": "main --log-level debug > /dev/full 2>&1",
}


@pytest.mark.parametrize("command", CLOSED.values(), ids=CLOSED)
def test_run_completes_if_its_output_is_not_read(
    good: dict[str, str], warehouse: Warehouse, tmp_path: Path, command: str
) -> None:
    done = shell(command, good, tmp_path)
    assert done.returncode == 0, done.stderr
    for sign in ("Traceback", "BrokenPipe", "Exception ignored", "unexpected"):
        assert sign not in done.stderr
    assert warehouse.rows("select status, exit_code from meta.pipeline_runs") == [("complete", 0)]


def test_output_to_a_full_pipe_that_does_not_block_is_complete(good: dict[str, str], tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    filled = os.write(write_end, bytes(1 << 20))
    with subprocess.Popen(
        [sys.executable, PROJECT / "main.py", "--log-format", "json"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]} | good,
        stdout=write_end,
        stderr=subprocess.PIPE,
    ) as run:
        os.close(write_end)
        time.sleep(1.5)  # it waits for a reader
        with os.fdopen(read_end, "rb") as output:
            lines = output.read()[filled:].splitlines()
    assert run.returncode == 0
    assert [json.loads(line)["event"] for line in (lines[0], lines[-1])] == ["run_started", "run_ended"]


def test_error_keeps_its_exit_code_if_its_output_is_not_read(
    good: dict[str, str], bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("SFTP/data_2.csv", b"a,b\n1,2\n")
    assert shell("main 2>&1 | head -0", good, tmp_path).returncode == 2
    assert shell("main --from-step 9 2>&1 >&- | head -0", good, tmp_path).returncode == 1


def test_single_step_completes_if_its_output_is_not_read(good: dict[str, str], tmp_path: Path) -> None:
    module = f'PYTHONPATH="{PROJECT}" "{sys.executable}" -m etl.step1_postgres_data_definition'
    assert shell(f"{module} 2>&1 | head -0", good, tmp_path).returncode == 0


def test_output_of_a_run_without_faults_is_complete_in_a_slow_pipe(good: dict[str, str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with closing(open(reading)) as pipe:  # noqa: PTH123 - a descriptor
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "main.py")], cwd=tmp_path, env=os.environ | good, stdout=writing
        )
        os.close(writing)
        assert "run " in pipe.read()
    assert process.wait(60) == 0
