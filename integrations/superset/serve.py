"""Superset server with the dashboard, on the demo's warehouse or the one that PGHOST names: `make superset`.

Its files are in SUPERSET_HOME, by default .local/superset: secret_key, admin_password (both mode 0600), superset.db.
Each start imports assets/ again. The port is SUPERSET_PORT, by default 8088.
"""

import os
import secrets
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    home = Path(os.environ.setdefault("SUPERSET_HOME", str(Path(".local/superset").absolute())))
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret(home / "secret_key")
    os.environ["SUPERSET_CONFIG_PATH"] = str(HERE / "superset_config.py")
    if "PGHOST" not in os.environ:
        connect_to_demo(Path(".local/pgpass"))

    from superset.app import create_app
    from werkzeug.serving import run_simple

    app = create_app()
    with app.app_context():
        set_up(secret(home / "admin_password"))
    port = int(os.environ.get("SUPERSET_PORT", "8088"))
    address = f"http://127.0.0.1:{port}/superset/dashboard/lead_quality/"
    print(f"Superset: {address}, user admin, password in {home / 'admin_password'}", flush=True)  # noqa: T201
    run_simple("127.0.0.1", port, app, threaded=True)


def secret(file: Path) -> str:
    """Return the content of a file. If it does not exist, create it with a random secret."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return file.read_text(encoding="utf-8")


def connect_to_demo(pgpass: Path) -> None:
    """Set libpq's environment variables to the demo's warehouse; exit if no demo has run."""
    if not pgpass.exists():
        raise SystemExit(
            "No demo has run here. Run `make demo`, or set PGHOST, PGPORT, PGDATABASE and PGPASSWORD (of bi_reader)"
        )
    host, port, database, _ = pgpass.read_text(encoding="utf-8").split(":", 3)
    os.environ |= {"PGHOST": host, "PGPORT": port, "PGDATABASE": database, "PGPASSFILE": str(pgpass.absolute())}


def set_up(admin_password: str) -> None:
    """Run the equivalent of `superset db upgrade`, `fab create-admin`, `init` and `import-directory` in one process."""
    import superset
    from flask_migrate import upgrade
    from superset import appbuilder, security_manager
    from superset.examples.utils import load_configs_from_directory

    upgrade(str(Path(superset.__file__).parent / "migrations"))
    appbuilder.add_permissions(update_perms=True)
    security_manager.sync_role_definitions()
    if security_manager.find_user("admin") is None:
        admin = security_manager.find_role("Admin")
        security_manager.add_user("admin", "Admin", "of Superset", "admin@localhost", admin, admin_password)
    load_configs_from_directory(HERE / "assets", overwrite=True)


if __name__ == "__main__":
    main()
