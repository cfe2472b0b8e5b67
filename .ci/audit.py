"""Two questions about what the project hands on: known vulnerabilities in dependencies, and secrets in files.

`make audit` asks both. What looks like a secret and is none, such as the made-up passwords of tests, is known by its
hash in .secrets.baseline, which `detect-secrets scan --slim --baseline .secrets.baseline` writes anew: look at its diff
before it is committed.

Exit codes: 0 both answers are no; 1 something was found; 3 the advisories could not be asked: nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import click

PROJECT = Path(__file__).parents[1]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "benchmarks/peers/requirements.txt")
BASELINE = ".secrets.baseline"
CLEAN, FOUND, UNKNOWN = 0, 1, 3
OSV = "https://api.osv.dev/v1/query"


@click.command()
@click.option("--only", type=click.Choice(["dependencies", "secrets"]), help="Ask one of the two questions.")
@click.option("--osv-url", default=OSV, show_default=True, help="Another server with the advisories of OSV.")
@click.option(
    "--project",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=PROJECT,
    help="Another checkout.  [default: this one]",
)
def main(only: str | None, osv_url: str, project: Path) -> None:
    """Look for known vulnerabilities in the pinned dependencies, and for secrets in files."""
    endings = []
    if only != "secrets":
        endings.append(audit_dependencies(project, osv_url))
    if only != "dependencies":
        endings.append(scan_for_secrets(project))
    raise SystemExit(FOUND if FOUND in endings else max(endings))


def audit_dependencies(project: Path, osv_url: str) -> int:
    """Hold every pinned library against the advisories of OSV, those of PyPI among them."""
    done = subprocess.run(  # noqa: S603 - no shell, and the arguments are our own
        [
            *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--osv-url", osv_url),
            *(argument for name in REQUIREMENTS for argument in ("--requirement", name)),
            # All is pinned already: nothing has to be resolved, nor asked of a registry.
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
        reason = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        click.echo(f"dependencies: NOT AUDITED, because the advisories could not be asked: {reason}")
        return UNKNOWN
    faulty = [(package, fault) for package in packages for fault in package.get("vulns", [])]
    for package, fault in faulty:
        mended = ", ".join(fault["fix_versions"]) or "no version yet"
        click.echo(f"dependencies: {package['name']} {package['version']} has {fault['id']}, mended in {mended}")
    if not faulty:
        click.echo(f"dependencies: {len(packages)} libraries, no known vulnerability")
    return FOUND if faulty else CLEAN


def scan_for_secrets(project: Path) -> int:
    """Look through all files under version control for what looks like a secret and is not known to be none."""
    from detect_secrets.core import baseline

    known = baseline.load(baseline.load_from_file(str(project / BASELINE)), BASELINE)
    with chdir(project):  # files are compared by their names as they stand in the baseline
        new = baseline.create(".") - known
    for file, secret in new:
        click.echo(f"secrets: {file}:{secret.line_number} looks like one ({secret.type})")
    if not new:
        click.echo(f"secrets: none; {len(list(known))} values that look like one are known to be none")
    return FOUND if new else CLEAN


if __name__ == "__main__":
    main()
