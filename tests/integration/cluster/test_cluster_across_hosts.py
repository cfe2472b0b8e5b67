"""Separate hosts: driver, scheduler, workers, PostgreSQL and S3 in network namespaces of their own.

Each host has an address and reaches the other hosts over a bridge. Needs Linux, root and `ip`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dask_cluster import SCHEDULER, dask_cluster
from servers import OWNER, OWNER_PASSWORD, free_port, running_server, wait_until
from support import PROJECT, Warehouse, environment_of

from etl.local import postgres_cluster
from etl.utils.utils_connection import Settings

pytestmark = pytest.mark.cluster

NETWORK = "10.213.71"
AS_ACCOUNT = (
    "import os, sys; os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1])); os.execv(sys.argv[3], sys.argv[3:])"
)
UPLOAD = """
import sys; from pathlib import Path; from support import Bucket; from etl.utils.utils_connection import load_settings
bucket = Bucket(load_settings())
bucket.client.create_bucket(Bucket=bucket.name)
bucket.put_folder(Path(sys.argv[1]))
"""
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Host:
    """A network namespace with one address besides loopback."""

    name: str
    address: str

    @property
    def inside(self) -> tuple[str, ...]:
        """Return a command that executes another command on this host."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        base_environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"}
        paths = f"{PROJECT}:{PROJECT / 'tests'}"
        return subprocess.run(
            [*self.inside, *command],
            cwd="/",
            env={**base_environment, "PYTHONPATH": paths, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def traffic(self) -> int:
        """Return the bytes sent and received, without loopback."""
        folder = "/sys/class/net/eth0/statistics"
        return sum(int(self.run("cat", f"{folder}/{way}_bytes").stdout) for way in ("rx", "tx"))


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and `ip`")
    switch = f"hb{os.getpid()}-switch"
    if (made := ip("netns", "add", switch)).returncode:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    with ExitStack() as stack:
        stack.callback(ip, "netns", "delete", switch)
        for command in (("link", "add", "bridge0", "type", "bridge"), ("link", "set", "bridge0", "up")):
            if (made := ip("-n", switch, *command)).returncode:
                pytest.skip(f"no bridge can be made here: {made.stderr.strip()}")
        found = {}
        for number, name in enumerate(("driver", "scheduler", "worker1", "worker2", "postgres", "s3"), start=1):
            host = Host(f"hb{os.getpid()}-{name}", f"{NETWORK}.{number}")
            stack.callback(ip, "netns", "delete", host.name)
            for command in (
                ("netns", "add", host.name),
                ("link", "add", "eth0", "netns", host.name, "type", "veth", "peer", f"port{number}", "netns", switch),
                ("-n", switch, "link", "set", f"port{number}", "master", "bridge0", "up"),
                ("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0"),
                ("-n", host.name, "link", "set", "eth0", "up"),
                ("-n", host.name, "link", "set", "lo", "up"),
            ):
                made = ip(*command)
                assert made.returncode == 0, (command, made.stderr)
            found[name] = host
        yield found


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@contextmanager
def postgres_on(host: Host) -> Iterator[tuple[Settings, Warehouse]]:
    """Start a warehouse on this host. Yield its settings for other hosts, and access over its socket."""
    account = postgres_cluster.server_account()
    assert account is not None, "PostgreSQL does not run as root"
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        shutil.chown(folder, account.pw_name)
        folder.chmod(0o711)
        hba = folder / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all all scram-sha-256\n")
        hba.chmod(0o644)
        as_account = (sys.executable, "-c", AS_ACCOUNT, str(account.pw_uid), str(account.pw_gid))
        with running_server(
            postgres_cluster.server_programs(account),
            folder,
            account.pw_name,
            "postgres",
            ["--auth-local=trust"],
            {"hba_file": hba},
            address=host.address,
            inside=(*host.inside, *as_account),
        ) as server:
            settings = server.settings(OWNER, OWNER_PASSWORD, "postgres", "")
            by_socket = settings.model_copy(update={"postgres_host": str(folder)})
            yield settings.model_copy(update={"postgres_host": host.address}), Warehouse(by_socket)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3_on(host: Host, folder: Path) -> Iterator[str]:
    """Yield the endpoint of an S3 server on this host."""
    port, log = free_port(), folder / "s3.log"
    command = [*host.inside, sys.executable, "-m", "moto.server", "-H", host.address, "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        wait_until(lambda: b"Running on" in log.read_bytes(), process, log)
        yield f"http://{host.address}:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_cluster_on_separate_hosts_gives_the_same_tables(
    hosts: dict[str, Host], real_data: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scheduler = (*hosts["scheduler"].inside, *SCHEDULER)
    driver = hosts["driver"]
    with (
        postgres_on(hosts["postgres"]) as (settings, warehouse),
        s3_on(hosts["s3"], tmp_path) as endpoint,
    ):
        settings = settings.model_copy(
            update={"aws_endpoint_url_s3": endpoint, "s3_bucket_name": "real", "s3_region": "us-east-1"}
        )
        environment = environment_of(settings)
        uploaded = driver.run(sys.executable, "-c", UPLOAD, str(real_data), **environment)
        assert uploaded.returncode == 0, uploaded.stderr
        main = (sys.executable, str(PROJECT / "main.py"))
        with dask_cluster(
            tmp_path, settings, workers=0, host=hosts["scheduler"].address, scheduler=scheduler
        ) as cluster:
            for name in ("worker1", "worker2"):
                cluster.start_worker(inside=hosts[name].inside)
            cluster.wait_for_workers()
            before = {name: host.traffic() for name, host in hosts.items()}
            done = driver.run(*main, "--scheduler", cluster.address, **environment)
            assert done.returncode == 0, done.stderr + cluster.logs()
            carried = {name: host.traffic() - before[name] for name, host in hosts.items()}
        on_cluster = warehouse.contents()
        alone = driver.run(*main, "--full-refresh", **environment)
        assert alone.returncode == 0, alone.stderr
        assert warehouse.contents() == on_cluster
        assert warehouse.value("select count(*) from gold.leads") == 4364
    record_property("bytes", carried)
    assert carried["driver"] < MEGABYTE, carried
    assert min(carried["worker1"], carried["worker2"]) > 4 * MEGABYTE, carried
    assert carried["scheduler"] < 2 * MEGABYTE, carried
