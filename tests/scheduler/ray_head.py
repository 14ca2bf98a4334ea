"""A Ray head of a test's own, as `ray start --head` starts one: a real process on free ports, with a home of its own.

The home holds the token, so authentication is on as it comes. Everything the head starts is in its session, by which it
is ended and by which it is seen that nothing is left.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

TOKEN = "a-token-of-the-test-0123456789abcdef"
START_SECONDS = 120.0
END_SECONDS = 60.0
CPUS = 4
_PORTS = (
    "port",
    "dashboard-port",
    "ray-client-server-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)


@dataclass(frozen=True)
class Head:
    """A running head. `environment` is what a user's shell with its token would have."""

    url: str
    pid: int
    folder: Path
    environment: dict[str, str]

    def command(self, *arguments: str, address: str | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start `apportion` for this cluster, from an empty current directory."""
        cwd = self.folder / "client"
        cwd.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "apportion", *arguments, "--address", address or self.url]
        return subprocess.Popen(
            command,
            cwd=cwd,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, address: str | None = None, seconds: float = 120.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `apportion` for this cluster to its end."""
        started = self.command(*arguments, address=address, **environment)
        try:
            out, err = started.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            started.kill()
            out, err = started.communicate()
            raise AssertionError(f"{arguments} took more than {seconds:g} s; it said {out!r} {err!r}") from None
        return subprocess.CompletedProcess(arguments, started.returncode, out, err)

    def processes(self) -> dict[int, str]:
        """What runs in the head's session, with its command lines."""
        return session(self.pid)


@contextmanager
def ray_head(folder: Path) -> Iterator[Head]:
    """Start a head in `folder`, whose path must be short: Ray's sockets lie in it. Asserts that it leaves nothing."""
    (folder / "home" / ".ray").mkdir(parents=True)
    (folder / "home" / ".ray" / "auth_token").write_text(TOKEN)
    # What the head must not take for ours, though it is started beside it.
    (folder / "head" / "apportion").mkdir(parents=True)
    (folder / "head" / "apportion" / "__init__.py").write_text("raise SystemExit('another apportion was imported')\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["HOME"] = str(folder / "home")
    # Ray's `pip` and `python` on the cluster are those on its path.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    options = [f"--{name}={port}" for name, port in ports.items()]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    # Workers on any free port: the ports they would take may be among those found above.
    sizes = [
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--num-cpus={CPUS}",
        "--object-store-memory=100000000",
        f"--temp-dir={folder / 'ray'}",
    ]
    with open(folder / "head.log", "w") as log:
        process = subprocess.Popen(
            [*start, *sizes, *options],
            cwd=folder / "head",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    head = Head(f"http://127.0.0.1:{ports['dashboard-port']}", process.pid, folder, environment)
    try:
        _wait(head, process)
        yield head
    finally:
        process.send_signal(signal.SIGTERM)
        left = _ended(head, process)
    assert not left, f"the head left processes behind: {left}"


def session(number: int) -> dict[int, str]:
    """The processes of a session, defunct ones left out."""
    listing = subprocess.run(["ps", "-eo", "pid=,sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    return {int(row[0]): row[3] for row in rows if int(row[1]) == number and not row[2].startswith("Z")}


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(head: Head, process: subprocess.Popen[bytes]) -> None:
    """Until the dashboard answers. (That it takes jobs is the client's to wait for.)"""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, (head.folder / "head.log").read_text()
        try:
            answer = requests.get(f"{head.url}/api/version", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
            if answer.ok:
                return
        except requests.exceptions.RequestException:
            pass
        time.sleep(0.5)
    raise AssertionError(f"no dashboard within {START_SECONDS:g} s: {(head.folder / 'head.log').read_text()}")


def _ended(head: Head, process: subprocess.Popen[bytes]) -> dict[int, str]:
    """What is left of the head when it has had its time; it is killed then."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and (process.poll() is None or head.processes()):
        time.sleep(0.2)
    left = head.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return left
