"""The verdict of the health check: a pure function of what a process wrote about itself, and the clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker import signs
from worker.health import ANOTHER, ENDED, LONGEST_STOP_S, PATIENCE_S, RUNS, answer, birth_of, judge, state_of

NOW_S = 10_000.0
LONG_S = PATIENCE_S + 1
WORKER = {
    "state": "consuming",
    "since": 5000.0,
    "tick_at": NOW_S - 1,
    "running": [],
    "pid": 7,
    "at": NOW_S - 2,
}
BEAT = {"state": "well", "since": 5000.0, "sent_at": NOW_S - 1, "every": 1.0, "pid": 7, "at": NOW_S - 1}


def task(since_s: float, sign_s: float, job: str = "submit") -> dict[str, Any]:
    return {"job": job, "pid": 8, "since": NOW_S - since_s, "sign": NOW_S - sign_s}


def verdict(role: str = "worker", process: str = RUNS, **facts: Any) -> tuple[bool, str]:
    whole = {**(WORKER if role == "worker" else BEAT), **facts}
    return judge(role, whole, 1.0, process, now_s=NOW_S)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "well"),
        ({"running": [task(3600, 1, "discover")]}, "up to 3600 s"),
        ({"running": [task(1, 5000)]}, "1 under way"),
        ({"state": "no_broker", "since": NOW_S - 5000}, "would not help"),
        ({"tick_at": NOW_S - 5000}, "beat is away"),
        ({"tick_at": None, "since": NOW_S - 1}, "well"),
        ({"state": "stopping", "since": NOW_S - 150, "at": NOW_S - 149}, "stopping"),
        ({"deaf_since": NOW_S - 20, "short_since": NOW_S - 5, "stuck_since": NOW_S - 9}, "well"),
    ],
    ids=[
        "idle",
        "long list",
        "just begun",
        "no broker",
        "no beat",
        "just started",
        "warm stop",
        "for a moment",
    ],
)
def test_a_worker_that_a_restart_would_not_help_is_green(facts: dict[str, Any], says: str) -> None:
    """Busy, waiting for what is not its own, or ending: each is said in words."""
    alive, said = verdict(**facts)
    assert (alive, says in said) == (True, True), said


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"at": NOW_S - LONG_S}, "main loop"),
        ({"at": NOW_S + 500}, "has ended"),
        ({"running": [task(500, 2, "discover"), task(LONG_S, LONG_S)]}, "hung in `submit`"),
        ({"running": [task(LONG_S, NOW_S)]}, "hung"),
        ({"short_since": NOW_S - LONG_S}, "missing"),
        ({"stuck_since": NOW_S - LONG_S}, "although one is free"),
        ({"deaf_since": NOW_S - LONG_S}, "takes no ticks"),
        ({"state": "no_broker", "running": [task(LONG_S, LONG_S)]}, "hung"),
        ({"state": "stopping", "since": NOW_S - LONGEST_STOP_S}, "stopping"),
    ],
    ids=[
        *("loop stands still", "before a reboot", "one of two hangs", "never a pulse", "no children"),
        *("not handed over", "deaf", "hangs without broker", "never ends"),
    ],
)
def test_a_worker_that_a_restart_helps_is_red(facts: dict[str, Any], says: str) -> None:
    """Stale work, not only a dead process; the sentence names what is stale."""
    alive, said = verdict(**facts)
    assert (alive, says in said) == (False, True), said


@pytest.mark.parametrize("role", ["worker", "beat"])
@pytest.mark.parametrize("process", [ENDED, ANOTHER])
def test_a_process_that_ended_is_red_at_once(role: str, process: str) -> None:
    """However fresh its file is, and whoever has its number now."""
    alive, said = verdict(role, process)
    assert (alive, "process 7 has ended" in said) == (False, True)


@pytest.mark.parametrize(
    ("facts", "alive"),
    [
        ({}, True),
        ({"sent_at": NOW_S - LONG_S}, False),
        ({"sent_at": 0.0, "since": NOW_S - 5}, True),
        ({"sent_at": NOW_S - 5000, "state": "no_broker"}, True),
        ({"sent_at": NOW_S - 5000, "since": NOW_S - 5}, True),
        ({"sent_at": NOW_S - 150, "every": 60.0}, True),
        ({"at": NOW_S - LONG_S}, False),
    ],
    ids=["sends", "sends nothing", "just started", "no broker", "broker is back", "seldom", "stands still"],
)
def test_a_beat_is_red_when_it_sends_nothing_though_it_could(facts: dict[str, Any], alive: bool) -> None:
    """Its loop may turn and its clock be an hour back: then no tick is due."""
    assert verdict("beat", **facts)[0] is alive


def test_without_facts_the_age_of_the_file_decides() -> None:
    """A full disk must not restart a worker; no file at all is red."""
    assert judge("worker", None, None, RUNS, now_s=NOW_S)[0] is False
    assert judge("worker", None, 1.0, RUNS, now_s=NOW_S)[0] is True
    assert judge("worker", None, LONG_S, RUNS, now_s=NOW_S)[0] is False


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_what_is_written_is_read(directory: Path) -> None:
    """Of this very process, and nothing is left beside the file."""
    signs.write("worker", {**WORKER, "since": 0.0})
    assert answer("worker")[0] is True
    assert [each.name for each in directory.iterdir()] == ["kinetic-retry-worker.alive"]
    assert answer("beat")[0] is False


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "x", "at": 1}', '{"pid": 1}', "\xff"])
def test_a_file_that_nobody_can_read_is_no_crash(directory: Path, text: str) -> None:
    """Whatever stands in it."""
    (directory / "kinetic-retry-worker.alive").write_text(text, encoding="latin-1")
    assert answer("worker")[0] is True


def test_facts_of_another_version_are_red(directory: Path) -> None:
    """It names the process, and lacks what this version asks for."""
    signs.write("worker", {})
    assert answer("worker")[:2] == (False, "its signs of life cannot be read: another version wrote them")


def test_a_full_disk_leaves_an_empty_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts of before go: they would look stale, or be another process's."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    signs.write("worker", WORKER)
    monkeypatch.setattr(Path, "write_text", full)
    signs.write("worker", WORKER)
    assert (directory / "kinetic-retry-worker.alive").read_bytes() == b""
    assert answer("worker")[0] is True


def test_a_directory_that_is_gone_stops_nothing(directory: Path) -> None:
    """Writing signs of life never raises."""
    directory.rmdir()
    signs.write("worker", WORKER)
    assert answer("worker")[0] is False


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    """By when it began; one that has ended and was not waited for has ended."""
    assert state_of(os.getpid(), birth_of(os.getpid())) == RUNS
    assert state_of(os.getpid(), None) == RUNS
    assert state_of(os.getpid(), "1") == ANOTHER
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        birth = birth_of(child.pid)
        assert state_of(child.pid, birth) == RUNS
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert state_of(child.pid, birth) == ENDED
    assert state_of(child.pid, birth) == ENDED


async def test_a_pulse_shows_that_the_event_loop_turns() -> None:
    """It is noted under this process's number."""
    async with signs.pulsing():
        before = signs.pulse_of(os.getpid())
        signs.pulse()
        assert signs.pulse_of(os.getpid()) > before
    assert signs.pulse_of(2**40) == 0.0
