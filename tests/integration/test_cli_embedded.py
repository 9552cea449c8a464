"""The embedded server of `up`: however its end is asked for, no server stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import OURS, wait_until
from tests.support.redis_server import free_port

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told on Linux only"),
]

PROGRAM = str(Path(sys.executable).with_name("kinetic-retry"))


def listens(port: int) -> bool:
    """Whether somebody does; the server itself hides its environment behind its title."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def descendants(pid: int) -> list[int]:
    """Return everything that a process started and that was started by it in turn."""
    children = [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return children + [each for child in children for each in descendants(child)]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def embedded(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the program that `up` runs, with its server up; both are gone after the block."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.cli.embedded", str(port), str(directory / "redis")],
        start_new_session=True,
    )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "the server", within_s=20)
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_server(tmp_path: Path, number: signal.Signals) -> None:
    """At once, with exit code 0."""
    with embedded(tmp_path) as (process, port):
        process.send_signal(number)
        assert process.wait(10) == 0
        assert not listens(port)


def test_a_server_that_dies_is_noticed(tmp_path: Path) -> None:
    """Its guardian ends, too, and says so by its exit code: `up` ends the rest."""
    with embedded(tmp_path) as (process, port):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert process.wait(10) == 1
        assert not listens(port)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """In a line, with exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "worker.cli.embedded", str(taken.getsockname()[1]), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_killing_up_in_full_swing_leaves_no_server(tmp_path: Path) -> None:
    """SIGKILL while clones are made: embedded server, simulator and daemons end without being asked."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    out = tmp_path / "out"
    with out.open("wb") as stream:
        process = subprocess.Popen(
            [PROGRAM, "up"], cwd=tmp_path, env=clean, stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: "→ clone" in out.read_text(), "the first clone")
        started = descendants(process.pid)
    finally:
        process.kill()
        process.wait()
    ports = [int(port) for port in re.findall(r"//127\.0\.0\.1:(\d+)", out.read_text())[:2]]
    assert len(ports) == 2
    assert len(started) >= 7  # guardian and server, simulator, beat, the worker and its pool of two
    wait_until(lambda: not any(map(listens, ports)), "the end of both servers", within_s=30)
    wait_until(lambda: not any(map(is_alive, started)), "the end of all processes", within_s=30)
