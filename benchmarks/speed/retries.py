"""Retries per second: ours in real processes, a bare loop, and a task for each execution, in the same run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.speed.api import Api, api
from benchmarks.speed.bare import best_of_bare
from benchmarks.speed.figures import Figure
from benchmarks.speed.rig import fill_due, rig
from tests.support.daemons import wait_until
from tests.support.redis_server import redis_server

DUE = 10_000
AT_BEST = 32
"""Calls at once with which a worker does most at zero latency; the bare loop is tried at several as well."""
BARE = 4_000
"""Requests of the bare loop at each concurrency: its speed does not depend on it."""
LATENCY_S, CONCURRENCY = 0.1, 50
AT_LATENCY, BASELINE_AT_LATENCY = 8_000, 100
SCALE_LATENCY_S, SCALE_CONCURRENCY, SCALE_EACH = 0.2, 20, 1_200
"""Chosen so that calls are what limits: four workers would send 400 a second, which two cores can do."""
WITHIN_S = 240.0


def measure(runs: int) -> Iterator[Figure]:
    """Yield every figure of this subject."""
    bare, best, ours, baseline = [], [], [], []
    for _ in range(runs):
        with api() as at:
            bare.append(best_of_bare(at.url, BARE))
        best.append(ours_per_second(DUE, at_once=AT_BEST))
        ours.append(ours_per_second(DUE))
        baseline.append(baseline_per_second(DUE // 4))
    bare_made = f"bare {median(bare):,.0f}/s"
    yield Figure(
        f"retries, {AT_BEST} at once, beside a bare httpx loop",
        _over(best, bare),
        at_least=0.7,
        detail=f"ours {median(best):,.0f}/s, {bare_made}",
    )
    yield Figure(
        "the same with 20 at once, the default",
        _over(ours, bare),
        detail=f"ours {median(ours):,.0f}/s, {bare_made}",
    )
    yield Figure(
        "retries, beside a task for each",
        _over(ours, baseline),
        at_least=1.2,
        detail=f"ours {median(ours):,.0f}/s, a task for each {median(baseline):,.0f}/s",
    )
    ours, baseline = [], []
    for _ in range(runs):
        ours.append(ours_per_second(AT_LATENCY, latency_s=LATENCY_S, at_once=CONCURRENCY))
        baseline.append(baseline_per_second(BASELINE_AT_LATENCY, LATENCY_S))
    yield Figure(
        "the same at 100 ms",
        _over(ours, baseline),
        at_least=10,
        detail=f"ours {median(ours):,.0f}/s, a task for each {median(baseline):,.1f}/s",
        digits=1,
    )
    allowed = CONCURRENCY / LATENCY_S
    yield Figure(
        "use of 50 calls at once, 100 ms each",
        tuple(each / allowed for each in ours),
        at_least=0.9,
        detail=f"{median(ours):,.0f}/s of {allowed:,.0f}/s",
    )
    yield from _scale_out(runs)


def _scale_out(runs: int) -> Iterator[Figure]:
    rates: dict[int, list[float]] = {1: [], 2: [], 4: []}
    for _ in range(runs):
        for workers, rate in rates.items():
            count = SCALE_EACH * workers
            rate.append(
                ours_per_second(count, latency_s=SCALE_LATENCY_S, at_once=SCALE_CONCURRENCY, workers=workers)
            )
    for workers, at_least in ((2, 1.9), (4, 3.6)):
        yield Figure(
            f"{workers} workers, beside one",
            _over(rates[workers], rates[1]),
            at_least=at_least,
            detail=f"{median(rates[workers]):,.0f}/s, one {median(rates[1]):,.0f}/s (20 at once, 200 ms)",
        )


def ours_per_second(count: int, *, latency_s: float = 0.0, at_once: int = 20, workers: int = 1) -> float:
    """Return the retries per second of so many workers, one process each, from first to last call."""
    with api(latency_s) as at, rig(at.url, SUBMIT_CONCURRENCY=str(at_once)) as running:
        asyncio.run(fill_due(running.redis_url, count))
        for _ in range(workers):
            running.processes.start("worker")
        wait_until(lambda: running.processes.text().count(" ready.") == workers, "workers", WITHIN_S)
        running.processes.start("beat")
        return _rate(at, count)


def baseline_per_second(count: int, latency_s: float = 0.0) -> float:
    """Return the same of one process with a task for each."""
    with api(latency_s) as at, redis_server() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        executions = [str(uuid.uuid4()) for _ in range(count)]
        words = [sys.executable, "-c", _SEND, *executions]
        subprocess.run(words, env=_environment(at.url, url), check=True)
        with _baseline(at.url, url):
            return _rate(at, count)


_SEND = "import sys; from benchmarks.baseline import retry; [retry.delay(each) for each in sys.argv[1:]]"


@contextmanager
def _baseline(api_url: str, redis_url: str) -> Iterator[None]:
    words = ["-m", "celery", "-A", "benchmarks.baseline", "worker", "--concurrency", "1"]
    words += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *words],
            env=_environment(api_url, redis_url),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(api_url: str, redis_url: str) -> dict[str, str]:
    return {**os.environ, "BASELINE_API": api_url, "BASELINE_REDIS": redis_url}


def _rate(at: Api, count: int) -> float:
    wait_until(lambda: at.tally()["executions"] >= count, f"{count} retry calls", WITHIN_S)
    told = at.tally()
    if told["retries"] != told["executions"]:
        raise AssertionError(f"{told['retries']} calls for {told['executions']} executions")
    return (told["retries"] - 1) / (told["last_s"] - told["first_s"])


def _over(these: list[float], those: list[float]) -> tuple[float, ...]:
    return tuple(this / that for this, that in zip(these, those, strict=True))
