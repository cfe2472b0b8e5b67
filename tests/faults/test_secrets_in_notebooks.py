"""Outputs of notebooks contain neither the password nor the secret key."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from urllib.parse import unquote, unquote_plus

import nbformat
import pytest
from nbclient import NotebookClient
from pydantic import SecretStr
from support import LONG, PROJECT, environment_of

from etl.engine.runner import run_steps
from etl.pipeline import choose_steps
from etl.utils.utils_connection import Settings

PASSWORD, KEY_ID, KEY = "planted-pass/wörd & +1", "PLANTEDKEYID", "planted+secret/key"
NOTEBOOKS = sorted((PROJECT / "your_jup_notebooks").glob("*.ipynb"))
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def planted(settings: Settings) -> Settings:
    """Return settings of the role `analyst`, with a planted password and key."""
    with_password = settings.model_copy(update={"analyst_password": SecretStr(PASSWORD)})
    assert run_steps(with_password, choose_steps(1, 1)).error is None
    return settings.model_copy(
        update={
            "postgres_user": "analyst",
            "postgres_password": SecretStr(PASSWORD),
            "s3_access_key_id": SecretStr(KEY_ID),
            "s3_secret_access_key": SecretStr(KEY),
        }
    )


def executed(notebook: Path, settings: Settings, home: Path, *, fails: bool = False) -> str:
    """Execute a notebook in a kernel whose environment contains only these settings; return all text in it."""
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content, allow_errors=fails, timeout=60, resources={"metadata": {"path": str(notebook.parent)}}
    )
    base_environment = {"PATH": os.environ["PATH"], "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"}
    client.execute(env={**base_environment, **environment_of(settings)})
    cells = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells), "every cell was executed"
    return shown(content)


def shown(content: Mapping[str, object]) -> str:
    return COLOURS.sub("", "\n".join(texts(content["cells"])))


def texts(part: object) -> Iterator[str]:
    """Yield every text in the cells of a notebook, sources and outputs, without JSON escapes."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, Sequence) and not isinstance(part, str):
        for inner in part:
            yield from texts(inner)
    else:
        yield str(part)


def assert_no_secret(output: str) -> None:
    """Assert that the text contains no secret, neither literally nor quoted for a URL or HTML."""
    for text in (output, unquote(output), unquote_plus(output), unescape(output)):
        assert PASSWORD not in text
        assert KEY not in text


def test_notebooks_show_no_secret(planted: Settings, tmp_path: Path) -> None:
    assert NOTEBOOKS
    with ThreadPoolExecutor() as executor:
        results = executor.map(lambda notebook: executed(notebook, planted, tmp_path), NOTEBOOKS)
        output = dict(zip((notebook.name for notebook in NOTEBOOKS), results, strict=True))
    for text in output.values():
        assert_no_secret(text)
    assert "SecretStr('**********')" in output["test_s3_access.ipynb"], "the settings are shown"
    assert planted.postgres_user in output["test_s3_access.ipynb"]
    assert "SFTP/data_5.csv" in output["test_s3_access.ipynb"]
    assert "2024-10-04" in output["silver_EDA.ipynb"]
    assert "email_only" in output["gold_EDA.ipynb"]


FAILURES = [
    *((name, {"postgres_password": SecretStr(f"not {PASSWORD}")}, "password authentication failed")
      for name in ("gold_EDA.ipynb", "silver_EDA.ipynb")),
    ("test_s3_access.ipynb", {"s3_bucket_name": "no-such-bucket"}, "NoSuchBucket"),
    ("test_s3_access.ipynb", {"aws_endpoint_url_s3": "http://127.0.0.1:9"}, "S3 cannot be reached"),
    ("test_s3_access.ipynb", {"partition_start_date": f"{KEY} in the wrong place"}, "invalid settings"),
]  # fmt: skip


@pytest.mark.skipif(not LONG, reason="a kernel for each: FAULTS=long")
@pytest.mark.parametrize(("name", "different", "fault"), FAILURES)
def test_failing_notebooks_show_no_secret(
    planted: Settings, tmp_path: Path, name: str, different: dict[str, object], fault: str
) -> None:
    notebook = PROJECT / "your_jup_notebooks" / name
    output = executed(notebook, planted.model_copy(update=different), tmp_path, fails=True)
    assert fault in output
    # the S3 notebook reports errors and continues
    assert ("Traceback" in output) is ("s3" not in name or "settings" in fault)
    assert_no_secret(output)


def test_notebooks_are_committed_without_outputs() -> None:
    if not (PROJECT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout")
    names = git("ls-files", "-z", "*.ipynb").rstrip("\0").split("\0")
    assert {Path(name).name for name in names} >= {notebook.name for notebook in NOTEBOOKS}
    for name in names:
        cells = [cell for cell in json.loads(git("show", f":{name}"))["cells"] if cell["cell_type"] == "code"]
        assert cells
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), name


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, encoding="utf-8", check=True).stdout
