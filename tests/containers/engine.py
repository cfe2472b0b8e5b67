"""A Docker engine of the tests' own: unpacked tools, one folder, and namespaces that contain every process and mount.

Nothing is installed, and no other engine, firewall rule or network of the machine is touched: the engine has its own
network, mount and process namespaces, and slirp4netns connects it to the outside. When the first process of the
namespaces ends, the kernel ends everything in them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("dockerd", "docker", "containerd", "runc", "iptables", "slirp4netns", "docker-init")
PACKAGES = {
    "trixie": ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "containerd"),
    # Programs of trixie that are linked to its C library would not start on bookworm.
    "bookworm": (
        *("runc", "tini", "iptables", "slirp4netns", "mmdebstrap"),
        *("libslirp0", "libxtables12", "libip4tc2", "libip6tc2", "libnftnl11", "libmnl0", "libnfnetlink0"),
        "libnetfilter-conntrack3",
    ),
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"


class CannotRunError(Exception):
    """This machine cannot run the tests of containers; the message is the reason."""


@dataclass
class Engine:
    """A running engine. `docker` uses it; `on_host` runs a command where its published ports are."""

    folder: Path
    environment: Mapping[str, str]
    namespaces: subprocess.Popen[bytes]
    network: subprocess.Popen[bytes]

    def docker(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run(["docker", *arguments], self.environment, cwd=cwd)

    def on_host(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return run([*self.enter("--net"), *command], {**os.environ, **environment})

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        command = [
            *(*self.enter("--net", "--mount", "--pid"), "dockerd", "--host", self.environment["DOCKER_HOST"]),
            *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
            *("--pidfile", self.folder / "dockerd.pid", "--cgroup-parent", f"/{self.folder.name}"),
            # systemd, outside of the namespaces, knows the processes by other ids.
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
        ]
        with (self.folder / "dockerd.log").open("ab") as log:
            daemon = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(lambda: daemon.poll() is not None or self.docker("version").returncode == 0, "the engine", 60)
        if daemon.poll() is not None:
            raise CannotRunError(f"dockerd does not start: {last_line((self.folder / 'dockerd.log').read_text())}")

    def stop(self) -> None:
        """Stop the daemon with its containers; `start` brings those back that have a restart policy."""
        pidfile = self.folder / "dockerd.pid"
        run([*self.enter("--pid", "--mount"), "kill", pidfile.read_text().strip()], self.environment, check=True)
        wait_for(lambda: not pidfile.exists(), "the end of the engine", 60)

    def close(self) -> None:
        """End all processes of the engine and its containers."""
        if (self.folder / "dockerd.pid").exists():
            self.stop()
        self.network.kill()
        os.kill(first_process(self.namespaces), signal.SIGKILL)
        for process in (self.network, self.namespaces):
            process.wait(30)
        for pattern in (self.folder.name, f"*/{self.folder.name}"):  # version 2 of control groups, and version 1
            for root in Path("/sys/fs/cgroup").glob(pattern):
                for group, _, _ in os.walk(root, topdown=False):
                    Path(group).rmdir()

    def enter(self, *namespaces: str) -> list[str]:
        """Return the beginning of a command that runs in these namespaces, such as `--net`."""
        return ["nsenter", "--target", str(first_process(self.namespaces)), *namespaces, "--"]


def start_engine(folder: Path, *, in_memory: bool) -> Engine:
    """Start an engine with its data in `folder`.

    Args:
        in_memory: mount a tmpfs for the data. It ends with the engine: nothing has to be deleted file by file.

    Raises:
        CannotRunError: not root, or a tool is missing and cannot be downloaded.
    """
    if os.geteuid() != 0:
        raise CannotRunError("a Docker engine needs root: sudo make containers")
    environment = tools_environment(folder)
    unshare = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    namespaces = subprocess.Popen([*unshare, "docker-init", "--", "sleep", "infinity"], env=environment)
    wait_for(lambda: first_process(namespaces), "the namespaces", 10)
    pid = str(first_process(namespaces))
    with (folder / "slirp4netns.log").open("wb") as log:
        slirp = ("slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", pid, "tap0")
        network = subprocess.Popen(slirp, env=environment, stdout=log, stderr=log)
    engine = Engine(folder, environment, namespaces, network)
    try:
        wait_for(lambda: "tap0" in Path(f"/proc/{pid}/net/dev").read_text(), "the network of the engine", 10)
        (folder / "resolv.conf").write_text("nameserver 10.0.2.3\n")  # slirp4netns asks the machine's own servers
        enter = ("nsenter", "--target", pid, "--mount", "--")
        run([*enter, "mount", "--bind", folder / "resolv.conf", "/etc/resolv.conf"], environment, check=True)
        if in_memory:
            (folder / "data").mkdir()
            run([*enter, "mount", "-t", "tmpfs", "data", folder / "data"], environment, check=True)
        engine.start()
    except BaseException:
        engine.close()
        raise
    return engine


def first_process(namespaces: subprocess.Popen[bytes]) -> int:
    """Return the id of the first process in the namespaces, as seen from outside; 0 if there is none yet."""
    children = Path(f"/proc/{namespaces.pid}/task/{namespaces.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def tools_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which the tools are found: those of the machine, or of Debian's packages."""
    environment = {
        **os.environ,
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "COMPOSE_PROGRESS": "quiet",
        "BUILDKIT_PROGRESS": "plain",
    }
    if all(map(shutil.which, PROGRAMS)) and run(["docker", "compose", "version"], environment).returncode == 0:
        return environment
    tools = folder / "tools"
    if not tools.exists():
        unpack_packages(folder, tools)
    (libraries,) = (tools / "usr" / "lib").glob("*-linux-gnu")
    return environment | {
        "PATH": f"{tools}/usr/bin:{tools}/usr/sbin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": str(libraries / "xtables"),
        "DOCKER_CONFIG": str(folder / "config"),
    }


def unpack_packages(folder: Path, tools: Path) -> None:
    """Download Debian's packages of the tools, and unpack them into a folder.

    Raises:
        CannotRunError: this is no Debian, or its packages cannot be downloaded.
    """
    if shutil.which("apt-get") is None or not KEYRING.exists():
        missing = [program for program in PROGRAMS if shutil.which(program) is None] or ["docker compose"]
        raise CannotRunError(f"not installed, and not on a Debian whose packages could be used: {', '.join(missing)}")
    apt, packages = folder / "apt", folder / "packages"
    for needed in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", packages):
        needed.mkdir(parents=True, exist_ok=True)
    sources = [f"deb [signed-by={KEYRING}] {MIRROR} {release} main\n" for release in PACKAGES]
    (apt / "sources.list").write_text("".join(sources))
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
    }
    apt_get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    names = [f"{package}/{release}" for release, of_release in PACKAGES.items() for package in of_release]
    for command in ([*apt_get, "update"], [*apt_get, "download", *names]):
        done = run(command, os.environ, cwd=packages)
        if done.returncode:
            raise CannotRunError(f"Debian's packages of the engine cannot be downloaded: {last_line(done.stderr)}")
    for package in packages.glob("*.deb"):
        run(["dpkg", "-x", package, tools], os.environ, check=True)
    for name in ("iptables", "ip6tables"):
        (tools / "usr" / "sbin" / name).symlink_to("xtables-nft-multi")
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "cli-plugins").symlink_to(tools / "usr" / "libexec" / "docker" / "cli-plugins")


def run(
    command: list[str | Path], environment: Mapping[str, str], *, cwd: Path | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command without input. With `check`, raise if it fails."""
    done = subprocess.run(command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def wait_for(condition: Callable[[], object], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} is not there after {seconds:.0f} s"
        time.sleep(0.1)


def last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no output"])[-1]
