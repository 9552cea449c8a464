"""Starts the simulator as a real process and holds its strings: for tests that need a live API.

with start_simulator() as simulator:
workflow = simulator.add_workflow("Claims", behaviour="recovers_after", retries=2)
simulator.fail(workflow, 10)
...  # let the worker loose on simulator.url with simulator.api_key
assert simulator.record()["duplicates"] == []
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 30.0
END_WITHIN_S = 5.0
READY = "simulator listening on "


class SimulatorHandle:
    """A running simulator.

    Attributes:
        url: where its API is, without a trailing slash.
        api_key: what its API takes.
        pid: of its process.
    """

    def __init__(self, url: str, api_key: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.api_key = api_key
        self.pid = process.pid
        self._process = process
        # Plain HTTP on the loopback: loading certificates would only cost time.
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False, verify=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that the API wants."""
        return {"X-Kinetic-Key": self.api_key}

    def control(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """Call one of the control routes (`path` without `/_control`) and return its answer.

        Raises:
            AssertionError: the simulator turned the call away; the message says why.
        """
        answer = self._client.request(method, f"/_control{path}", json=body, params=params)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def api(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Call the API itself (`path` without `/api`), with the key."""
        return self._client.request(method, f"/api{path}", headers=self.headers, **kwargs)

    def add_workflow(self, name: str, behaviour: str = "healthy", **rules: Any) -> str:
        """Define a workflow and return its uuid; for the rules see `simulator.control.WorkflowRequest`."""
        body = {"name": name, "behaviour": behaviour, **rules}
        answer: dict[str, str] = self.control("POST", "/workflows", body)
        return answer["uuid"]

    def create(self, workflow: str, n: int = 1, outcome: str | None = None, **ages: float) -> list[str]:
        """Create executions, ended ones with an outcome, and return their uuids.

        `created_age_s` and `updated_age_s` say how long ago they were created and ended.
        """
        body = {"workflow": workflow, "count": n, "outcome": outcome, **ages}
        answer: dict[str, list[str]] = self.control("POST", "/executions", body)
        return answer["execution_uuids"]

    def fail(self, workflow: str, n: int = 1, **ages: float) -> list[str]:
        """Create failed executions and return their uuids."""
        return self.create(workflow, n, "failed", **ages)

    def faults(self, *rules: dict[str, Any]) -> None:
        """Add fault rules; each is a `simulator.faults.Rule` as a dict."""
        self.control("POST", "/faults", list(rules))

    def clear_faults(self) -> None:
        """Drop every fault rule."""
        self.control("DELETE", "/faults")

    def options(self, **changes: Any) -> None:
        """Change the deployment's habits; see `simulator.options.Options`."""
        self.control("POST", "/options", changes)

    def record(self, *, full: bool = False) -> dict[str, Any]:
        """Return the record; with `full` also `all` executions and the newest `calls`."""
        record: dict[str, Any] = self.control("GET", "/record", full=full)
        return record

    def wait_until(
        self, holds: Callable[[dict[str, Any]], bool], *, within_s: float = 20, full: bool = False
    ) -> dict[str, Any]:
        """Return the first record for which a condition holds; fail with the last one when time is up."""
        deadline = time.monotonic() + within_s
        while not holds(record := self.record(full=full)):
            assert time.monotonic() < deadline, f"not within {within_s} s; the record says {record}"
            time.sleep(0.02)
        return record

    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    def wait(self, within_s: float = END_WITHIN_S) -> int:
        """Wait for its end without asking for it; return the exit code (negative: the signal's number)."""
        return self._process.wait(within_s)

    def stop(self, *, within_s: float = END_WITHIN_S) -> int:
        """End it with SIGTERM (SIGKILL if it does not listen) and return its exit code."""
        self._client.close()
        self._process.terminate()
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextlib.contextmanager
def start_simulator(
    *, scenario: str = "empty", api_key: str = "test-key", seed: int = 1, speed: float = 1.0, port: int = 0
) -> Iterator[SimulatorHandle]:
    """Run a simulator on a free port of 127.0.0.1; it ends with the block, and with the test process."""
    command = [sys.executable, "-m", "simulator", "--exit-with-parent", "--api-key", api_key]
    command += ["--scenario", scenario, "--seed", str(seed), "--speed", str(speed), "--port", str(port)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            handle = SimulatorHandle(_ready_url(process, errors), api_key, process)
            try:
                yield handle
            finally:
                handle.stop()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def _ready_url(process: subprocess.Popen[str], errors: IO[str]) -> str:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: lines.put(process.stdout.readline() if process.stdout else ""))
    reader.daemon = True
    reader.start()
    try:
        line = lines.get(timeout=READY_WITHIN_S)
    except queue.Empty:
        line = ""
    if not line.startswith(READY):
        process.kill()
        process.wait()
        errors.seek(0)
        raise RuntimeError(f"the simulator did not start: {line!r} {errors.read()[-2000:]}")
    return line.removeprefix(READY).strip()
