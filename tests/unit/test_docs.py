"""Documents agree with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from etl.utils.utils_connection import Settings

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
CONFIGURATION = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
ENV_EXAMPLE = (PROJECT / ".env.example").read_text(encoding="utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md"))]

# read by docker-compose.yml, not by the pipeline
NOT_OF_THE_PIPELINE = {"JUPYTER_TOKEN", "HOST_UID"}
NOT_OF_THE_PIPELINE |= {f"{service}_PUBLISHED_PORT" for service in ("POSTGRES", "JUPYTER", "METABASE")}


def settings_variables() -> set[str]:
    return {name.upper() for name in Settings.model_fields}


def test_env_example_has_every_setting_and_no_other() -> None:
    named = set(re.findall(r"^([A-Z][A-Z0-9_]*)=", ENV_EXAMPLE, flags=re.MULTILINE))
    assert named == settings_variables() | NOT_OF_THE_PIPELINE


def test_configuration_lists_every_setting_and_no_other() -> None:
    table = CONFIGURATION.split("## Settings")[1].split("## Options")[0]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == settings_variables() | NOT_OF_THE_PIPELINE


def test_configuration_shows_the_help_of_the_command_line() -> None:
    printed = subprocess.run(
        [sys.executable, "main.py", "--help"],
        cwd=PROJECT,
        env={"COLUMNS": "100", "PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip() in CONFIGURATION


def test_readme_names_existing_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    named = set(
        re.findall(r"\bmake ([a-z][a-z-]+)", "\n".join(re.findall(r"`[^`]+`|```bash.*?```", README, flags=re.DOTALL)))
    )
    assert named
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_link_to_existing_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_existing_modules_and_scripts(document: Path) -> None:
    named = re.findall(r"`((?:etl|sql_scripts|tests|docs)/[\w/.-]+)`", document.read_text(encoding="utf-8"))
    missing = [path for path in named if not (PROJECT / path).exists()]
    assert missing == []


def test_requirements_are_pinned_to_one_version_and_name_no_registry() -> None:
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        *map(str, PROJECT.glob("integrations/requirements-*.txt")),
    ):
        lines = [line for line in (PROJECT / name).read_text(encoding="utf-8").splitlines() if line.strip()]
        packages = [line for line in lines if not line.lstrip().startswith("#")]
        assert [
            line for line in packages if not re.match(r"^[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[^ ]+( ;.*)?$", line)
        ] == []
        assert [line for line in lines if "://" in line or "index-url" in line] == []


ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_architecture_names_existing_functions_and_scripts() -> None:
    functions = re.findall(r"`(\w+)` in `(etl/[\w/]+\.py)`", ARCHITECTURE)
    assert len(functions) >= 8
    missing = [name for name, module in functions if f"\ndef {name}(" not in (PROJECT / module).read_text("utf-8")]
    scripts = re.findall(r"`((?:silver|gold)/[\w/]+\.sql)`", ARCHITECTURE)
    assert scripts
    missing += [script for script in scripts if not (PROJECT / "sql_scripts" / script).exists()]
    assert missing == []


def test_contributing_names_existing_functions() -> None:
    contributing = (PROJECT / "docs" / "contributing.md").read_text(encoding="utf-8")
    functions = re.findall(r"`(\w+)` in `(etl/[\w/]+\.py)`", contributing)
    assert functions
    assert [name for name, module in functions if f"def {name}(" not in (PROJECT / module).read_text("utf-8")] == []
