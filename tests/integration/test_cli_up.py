"""What `up` hands to the processes it starts, and what becomes of them when one ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemons import OURS, wait_until
from worker.cli.children import Children, given_environment

PROGRAM = str(Path(sys.executable).with_name("kinetic-retry"))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@contextmanager
def up(directory: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with (directory / "out").open("wb") as out:
        process = subprocess.Popen(
            [PROGRAM, "up", *words],
            cwd=directory,
            env=clean | {"UP_TEST_MARKER": str(directory)} | env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def started_by(directory: Path) -> dict[int, str]:
    """Return the command lines of the processes that carry this test's mark."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"UP_TEST_MARKER={directory}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


@pytest.mark.processes
@LINUX
def test_a_demo_keeps_out_of_what_is_real(tmp_path: Path) -> None:
    """Neither a broker nor a key of `.env` or the environment reaches the demo; a policy does."""
    (tmp_path / ".env").write_text(
        "KINETIC_API_KEY=canary-key-0123456789\nKINETIC_LIST_PATH=/elsewhere\nRETRY_MAX_ATTEMPTS=2\n"
    )
    with up(tmp_path, "--json", CELERY_BROKER_URL="redis://:canary-password@127.0.0.1:1/0") as process:
        out = tmp_path / "out"
        wait_until(lambda: b"execution_recovered" in out.read_bytes(), "a recovery")
        worker = next(pid for pid, line in started_by(tmp_path).items() if " worker --no-env-file" in line)
        environment = environment_of(worker)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "CELERY_BROKER_URL" not in environment
    assert "KINETIC_LIST_PATH" not in environment
    assert environment["KINETIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert (environment["RETRY_MAX_ATTEMPTS"], environment["RETRY_BASE_DELAY"]) == ("2", "2s")
    assert "canary" not in json.dumps(environment)
    assert "canary" not in out.read_text()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(lines[-1]["states"].values()) > 0
    assert started_by(tmp_path) == {}


@pytest.mark.processes
@LINUX
def test_one_that_dies_ends_the_rest(tmp_path: Path) -> None:
    """It is named, the exit code is 3, and nothing goes on without it."""
    with up(tmp_path) as process:
        wait_until(
            lambda: any(" beat --no-env-file" in line for line in started_by(tmp_path).values()), "beat"
        )
        beat = next(pid for pid, line in started_by(tmp_path).items() if " beat --no-env-file" in line)
        os.kill(beat, signal.SIGKILL)
        assert process.wait(60) == 3
    assert "the beat ended by itself" in (tmp_path / "out").read_text()
    assert started_by(tmp_path) == {}


def test_a_redis_that_is_away_is_said_before_anything_starts(tmp_path: Path) -> None:
    """Exit code 3 and words; no password."""
    env = {"REDIS_URL": "redis://:canary-password@127.0.0.1:1/0", "KINETIC_BASE_URL": "http://127.0.0.1:1"}
    with up(tmp_path, KINETIC_API_KEY="canary-key-0123456789", **env) as process:
        assert process.wait(30) == 3
    said = (tmp_path / "out").read_text()
    assert said.startswith("Redis is not available")
    assert "canary" not in said


def test_wrong_settings_are_code_2(tmp_path: Path) -> None:
    """Also an address without a key."""
    with up(tmp_path, KINETIC_BASE_URL="http://127.0.0.1:1", WATCH_INTERVAL="often") as process:
        assert process.wait(30) == 2
    assert 'WATCH_INTERVAL: got "often"' in (tmp_path / "out").read_text()
    with up(tmp_path, KINETIC_BASE_URL="http://127.0.0.1:1") as process:
        assert process.wait(30) == 2
    assert "KINETIC_API_KEY: is not set" in (tmp_path / "out").read_text()


def test_the_given_environment_has_secrets_of_files_and_no_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One place for each variable, whatever the case it was written in."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("from-a-file\n")
    (tmp_path / ".env").write_text("KINETIC_API_KEY_FILE=key\nWATCH_INTERVAL=3s\n")
    monkeypatch.setenv("watch_interval", "4s")
    monkeypatch.setenv("SOMETHING_ELSE", "stays")
    given = given_environment()
    assert (given["KINETIC_API_KEY"], given["WATCH_INTERVAL"]) == ("from-a-file", "4s")
    assert given["SOMETHING_ELSE"] == "stays"
    assert "KINETIC_API_KEY_FILE" not in given
    assert "watch_interval" not in given


def is_running(pid: int) -> bool:
    """Whether a process that is not our child lives; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


@LINUX
async def test_one_that_does_not_listen_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded wait, then the whole process group."""
    monkeypatch.setattr("worker.cli.children.END_WITHIN_S", 0.2)
    deaf = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "pid = os.fork(); pid and print(pid, flush=True); time.sleep(60)"
    )
    heard: list[str] = []
    children = Children()
    child = await children.start("deaf", ["-c", deaf], os.environ, heard.append)
    async with asyncio.timeout(20):
        while not heard:
            await asyncio.sleep(0.01)
        await children.end()
    assert child.process.returncode == -signal.SIGKILL
    async with asyncio.timeout(20):
        while is_running(int(heard[0])):
            await asyncio.sleep(0.01)


async def test_a_line_beyond_all_bounds_does_not_stop_the_listening() -> None:
    """The rest is heard; a reader that gave up would block the process on a full pipe."""
    heard: list[str] = []
    children = Children()
    code = "import sys; sys.stdout.write('x' * (3 << 20) + '\\nafter\\n')"
    child = await children.start("loud", ["-c", code], os.environ, heard.append)
    async with asyncio.timeout(20):
        await child.process.wait()
        await children.end()
    assert heard[-1] == "after"
