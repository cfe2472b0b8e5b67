"""Checks for known vulnerabilities in dependencies and for secrets in files: `make audit`.

False positives, such as passwords in tests, are listed by hash in .secrets.baseline. To update it, run
`detect-secrets scan --slim --baseline .secrets.baseline`, and review the diff before you commit it.

Exit codes: 0 nothing found; 1 a vulnerability or secret was found; 3 the dependencies could not be audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import click

PROJECT = Path(__file__).parents[1]
REQUIREMENTS = (
    "requirements.txt",
    "requirements-dask.txt",
    "requirements-dev.txt",
    "benchmarks/peers/requirements.txt",
)
BASELINE = ".secrets.baseline"
CLEAN, FOUND, UNKNOWN = 0, 1, 3
OSV = "https://api.osv.dev/v1/query"


@click.command()
@click.option("--only", type=click.Choice(["dependencies", "secrets"]), help="Run only this check.")
@click.option("--osv-url", default=OSV, show_default=True, help="URL of the OSV API.")
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=PROJECT,
    help="Checkout to audit.  [default: this one]",
)
def main(only: str | None, osv_url: str, project: Path) -> None:
    """Check pinned dependencies for known vulnerabilities, and files for secrets."""
    endings = []
    if only != "secrets":
        endings.append(audit_dependencies(project, osv_url))
    if only != "dependencies":
        endings.append(scan_for_secrets(project))
    raise SystemExit(FOUND if FOUND in endings else max(endings))


def audit_dependencies(project: Path, osv_url: str) -> int:
    """Query OSV, which includes the advisories of PyPI, for the libraries in REQUIREMENTS. Returns an exit code."""
    done = subprocess.run(  # noqa: S603 - no shell, fixed program
        [
            *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--osv-url", osv_url),
            *(argument for name in REQUIREMENTS for argument in ("--requirement", name)),
            # All versions are pinned, so pip-audit need not resolve dependencies or query a registry.
            *("--no-deps", "--disable-pip", "--strict", "--format", "json", "--progress-spinner", "off"),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["pip-audit printed no error"])[-1]
        click.echo(f"dependencies: NOT AUDITED, because pip-audit failed: {reason}")
        return UNKNOWN
    faulty = [(package, fault) for package in packages for fault in package.get("vulns", [])]
    for package, fault in faulty:
        fixed_in = ", ".join(fault["fix_versions"]) or "no version yet"
        click.echo(f"dependencies: {package['name']} {package['version']} has {fault['id']}, fixed in {fixed_in}")
    if not faulty:
        click.echo(f"dependencies: {len(packages)} libraries, no known vulnerability")
    return FOUND if faulty else CLEAN


def scan_for_secrets(project: Path) -> int:
    """Scan all files under version control for secrets that are not in the baseline. Returns an exit code."""
    from detect_secrets.core import baseline

    known = baseline.load(baseline.load_from_file(str(project / BASELINE)), BASELINE)
    with chdir(project):  # the baseline contains relative paths
        new = baseline.create(".") - known
    for file, secret in new:
        click.echo(f"secrets: {file}:{secret.line_number}: possible secret ({secret.type})")
    if not new:
        click.echo(f"secrets: none found; {len(list(known))} known false positives in {BASELINE}")
    return FOUND if new else CLEAN


if __name__ == "__main__":
    main()
