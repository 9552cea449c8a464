"""Real worker and beat processes, as the Procfile starts them, and what they wrote."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
END_WITHIN_S = 30.0
FINAL = ("recovered", "exhausted", "rejected", "cancelled")
OURS = (
    *("KINETIC_", "REDIS_", "CELERY_", "LEDGER_", "DISCOVERY_", "RETRY_"),
    *("SUBMIT_", "WATCH_", "RESOLVE_", "WORKER_", "LOG_", "BREAKER_", "BUDGET_"),
    *("ALERT_", "SERVE_", "METRICS_", "TRACING_", "HEALTH_", "OTEL_"),
)
"""How the names of our variables begin."""

QUICK = {
    "DISCOVERY_INTERVAL": "1s",
    "RETRY_BASE_DELAY": "500ms",
    "RETRY_MULTIPLIER": "1.5",
    "RETRY_MAX_DELAY": "2s",
    "RETRY_MAX_ATTEMPTS": "4",
    "WATCH_INTERVAL": "500ms",
    "RESOLVE_INTERVAL": "500ms",
}
ALONE = {
    "BREAKER_FAILURES": "0",
    "RETRY_STRIKES": "0",
    "RETRY_PROMPT": "false",
    "BUDGET_SHARE": "0",
    "BUDGET_WORKFLOW_SHARE": "0",
    "BUDGET_PACE": "0",
}
"""For tests in which all executions of a workflow fail, and each is to be retried all the same."""
QUICK |= ALONE


def command(role: str) -> list[str]:
    """Return the Procfile's command for a role, without the shell's `exec`."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    words = shlex.split(dict(line.split(":", 1) for line in lines if line)[role])
    words = words[1:] if words[0] == "exec" else words
    return [str(Path(sys.executable).with_name(words[0])), *words[1:]]


@dataclass
class Daemon:
    """One process of a role."""

    role: str
    process: subprocess.Popen[bytes]
    output: Path

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the whole process group, children included."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self) -> int:
        """End it warmly and return its exit code; fail when it does not end in time."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(END_WITHIN_S)
        finally:
            self.signal_group(signal.SIGKILL)


@dataclass
class Daemons:
    """Processes that share an environment; all of them end with the block."""

    env: dict[str, str]
    directory: Path
    all: list[Daemon] = field(default_factory=list)

    def start(self, role: str, **env: str) -> Daemon:
        """Start a worker or a beat."""
        output = self.directory / f"{role}-{len(self.all)}.log"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                command(role),
                cwd=self.directory,
                env={**_bare_environment(), **self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        daemon = Daemon(role, process, output)
        self.all.append(daemon)
        return daemon

    def lines(self) -> list[dict[str, Any]]:
        """Return every line that any of them wrote; each must be one JSON object."""
        return [json.loads(line) for daemon in self.all for line in daemon.output.read_bytes().splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines() if line.get("event") == name]

    def marks(self) -> list[int]:
        """Return how far each daemon's log goes by now; see `since`."""
        return [daemon.output.stat().st_size for daemon in self.all]

    def since(self, marks: Sequence[int] = ()) -> list[list[dict[str, Any]]]:
        """Return the lines of each daemon after those marks; all of a daemon that came later."""
        starts = [*marks, *[0] * (len(self.all) - len(marks))]
        written = [each.output.read_bytes()[start:] for each, start in zip(self.all, starts, strict=True)]
        return [[json.loads(line) for line in text.splitlines()] for text in written]

    def text(self) -> str:
        """Return everything they wrote."""
        return "".join(daemon.output.read_text(errors="replace") for daemon in self.all)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `kinetic-retry` with the same environment."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("kinetic-retry")), *words],
            cwd=self.directory,
            env={**_bare_environment(), **self.env},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def run_until_read(self, workers: int = 1, beats: int = 1) -> None:
        """Start workers and beats, and wait until the list was read once: from here on failures are new."""
        for _ in range(workers):
            self.start("worker")
        for _ in range(beats):
            self.start("beat")
        wait_until(lambda: any(line["event"] == "list_read" for line in self.lines()), "the first reading")

    def settle(self, total: int, within_s: float = 60.0) -> dict[str, int]:
        """Wait until that many lineages have their verdict, whoever is away meanwhile; return the counts."""
        states: dict[str, int] = {}

        def all_have() -> bool:
            done = self.run("status", "--json")
            if done.returncode:
                return False
            states.update(json.loads(done.stdout)["states"])
            return sum(states[end] for end in FINAL) >= total

        wait_until(all_have, f"{total} verdicts", within_s)
        return states

    def status(self) -> dict[str, Any]:
        """Return `kinetic-retry status --json`."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


@contextlib.contextmanager
def daemons(directory: Path, **env: str) -> Iterator[Daemons]:
    """Hold daemons with that environment; end them with the block, by their own process ids."""
    held = Daemons({**QUICK, **env}, directory)
    try:
        yield held
    finally:
        for daemon in held.all:
            daemon.signal_group(signal.SIGCONT)
            daemon.process.terminate()
        for daemon in held.all:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.process.wait(END_WITHIN_S)
            daemon.signal_group(signal.SIGKILL)
            daemon.process.wait()


def wait_until(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    """Return when a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.2)


def _bare_environment() -> dict[str, str]:
    """Return this process's environment without anything that would configure a worker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
