"""`serve` over a real ledger: what is counted, what is shown, and what it says when Redis is away."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import TypeAdapter
from structlog.testing import capture_logs

from tests.support.daemons import OURS, wait_until
from tests.support.examples import execution
from tests.support.proxy import tcp_proxy
from tests.support.redis_server import free_port, redis_server
from tests.support.scripted_api import ScriptedApi
from tests.unit.serve.snapshots import values
from worker import engine
from worker.domain.alerts import Memory, Severity
from worker.domain.executions import Status
from worker.domain.lineage import State
from worker.engine.context import Context
from worker.kinetic import KineticError, Unreachable
from worker.ledger import Connection, Ledger, LedgerUnavailable, records
from worker.ledger.calls import Counts, read_calls
from worker.ledger.groups import Group, Verdict
from worker.ledger.metrics import Alerting, Metrics
from worker.serve import app
from worker.serve.app import Background, Options, Service
from worker.serve.collector import Collector

Ask = Callable[[str], Awaitable[tuple[int, str]]]


def ask_at(port: int, path: str) -> tuple[int, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@asynccontextmanager
async def serving(ledger: Ledger, *background: Background) -> AsyncIterator[Ask]:
    service = Service(ledger, Options("127.0.0.1", 0, 50, "1.0"), structlog.get_logger("serve"), background)
    until = asyncio.Event()
    running = asyncio.create_task(service.run(until))
    try:
        yield lambda path: asyncio.to_thread(ask_at, service.port, path)
    finally:
        until.set()
        await asyncio.wait_for(running, 5)


async def counted(ledger: Ledger) -> dict[tuple[str, str], int]:
    return dict(read_calls(await ledger.connection.command("HGETALL", ledger.keys.calls)).ended)


async def test_a_run_of_the_engine_is_seen_in_the_metrics(
    ctx: Context, api: ScriptedApi, now: datetime
) -> None:
    """Failed, cloned, recovered, given up: by state, by reason, by call."""
    api.add(execution("good", updated_at=now), execution("bad", updated_at=now))
    await engine.discover(ctx)
    await engine.submit(ctx, lambda _: None)
    for uuid, status in (("good", Status.COMPLETED), ("bad", Status.FAILED)):
        clone = next(each for each in api.executions if each.endswith(f"-of-{uuid}"))
        api.end(clone, status)
    await engine.watch(ctx)
    await ctx.calls.flush()
    await ctx.ledger.jobs.tick("watch", timedelta(seconds=1), {})
    async with serving(ctx.ledger) as ask:
        answered, text = await ask("/metrics")
    assert answered == 200
    states = values(text, "kinetic_retry_lineages")
    assert (states["recovered",], states["scheduled",]) == (1, 1)
    assert values(text, "kinetic_retry_attempts_total") == {(): 2}
    assert values(text, "kinetic_retry_due_lineages")["scheduled",] == 1
    calls = values(text, "kinetic_retry_api_calls_total")
    assert calls["retry", "ok"] == 2
    assert calls["list", "ok"] >= 1
    assert calls["get", "ok"] == 2
    assert values(text, "kinetic_retry_api_call_duration_seconds_count")["retry",] == 2
    assert values(text, "kinetic_retry_tick_age_seconds")["watch",] < 60
    of_workflows = values(text, "kinetic_retry_workflow_lineages")
    assert {labels[-1] for labels in of_workflows} == {"Prior authorisation"}
    verdicts = values(text, "kinetic_retry_workflow_verdicts_total")
    assert sum(count for labels, count in verdicts.items() if "recovered" in labels) == 1


async def test_failing_calls_are_counted_by_their_end(ctx: Context, api: ScriptedApi) -> None:
    """Also while the gate is closed, when nothing is reported for its sake."""
    api.trouble = Unreachable("http_502", "bad gateway", 502)
    for _ in range(2):
        with pytest.raises(KineticError):
            await ctx.calls.get("root")
    await ctx.calls.flush()
    assert await counted(ctx.ledger) == {("get", "http_502"): 2}


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_report_that_is_sent_twice_counts_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *, arrives: bool
) -> None:
    """The answer was lost, or the report itself: in the end each call is counted, and only once."""
    counts = Counts()
    counts.note("get", "ok", 0.1)
    pipelined = ledger.connection.pipelined

    async def loses_the_answer(commands: Any) -> list[Any]:
        if arrives:
            await pipelined(commands)
        raise LedgerUnavailable("the answer was lost")

    await counts.add_to(ledger)  # the server knows the script from now on
    counts.note("get", "ok", 0.1)
    monkeypatch.setattr(ledger.connection, "pipelined", loses_the_answer)
    with pytest.raises(LedgerUnavailable):
        await counts.add_to(ledger)
    counts.note("get", "ok", 0.1)
    monkeypatch.undo()
    await counts.add_to(ledger)
    assert await counted(ledger) == {("get", "ok"): 3}
    assert not counts


async def test_a_snapshot_is_one_round_trip_whatever_the_ledger_holds(ledger: Ledger) -> None:
    """100,000 lineages: counted by the server, in a few milliseconds; at most one more to learn the time."""
    keys, command = ledger.keys, ledger.connection.command
    now_ms = int((await command("TIME"))[0]) * 1000
    fill = "for i = 1, 100000 do redis.call('ZADD', KEYS[1], ARGV[1] + i * 10 - 50000, 'r' .. i) end"
    await command("EVAL", fill, 1, keys.state(State.SCHEDULED), now_ms)
    for n in range(0, 1000, 100):
        group, verdict = Group(State.SCHEDULED, f"w{n}", "", 0), Verdict(State.EXHAUSTED, f"w{n}", "useless")
        await command("HSET", keys.groups, group.field, 100)
        field = "\n".join((verdict.state, verdict.workflow, verdict.reason))
        await command("HSET", keys.verdicts, field, 7)
    sent: list[int] = []
    pipelined = ledger.connection.pipelined

    async def noted(commands: Any) -> list[Any]:
        sent.append(len(commands))
        return await pipelined(commands)

    ledger.connection.pipelined = noted  # type: ignore[method-assign]  # to count round trips
    metrics = Metrics(ledger)
    await metrics.read()
    begun_s = time.monotonic()
    snapshot = await metrics.read()
    assert time.monotonic() - begun_s < 0.5
    assert len(sent) == 2
    assert sent[0] < 50
    assert snapshot.states[State.SCHEDULED] == 100_000
    assert 4_900 <= snapshot.due[State.SCHEDULED].count <= 100_000
    assert snapshot.due[State.SCHEDULED].oldest > timedelta(seconds=40)
    assert snapshot.groups[Group(State.SCHEDULED, "w900", "", 0)] == 100
    assert snapshot.verdicts[Verdict(State.EXHAUSTED, "w100", "useless")] == 7


async def test_what_alerts_remember_is_in_the_same_snapshot(ledger: Ledger, now: datetime) -> None:
    """When somebody looked, and what waits; a memory that cannot be read costs no other figure."""
    metrics, command = Metrics(ledger), ledger.connection.command
    assert (await metrics.read()).alerting is None
    memory = Memory("0-0", now, now)
    memory.put(now, "down", Severity.FAILURE, "The API is down", "It does not answer.")
    stored = TypeAdapter(Memory).dump_json(memory).decode()
    await command("HSET", ledger.keys.alerts, "memory", stored)
    assert (await metrics.read()).alerting == Alerting(now, 1)
    await command("HSET", ledger.keys.alerts, "memory", "{nonsense")
    assert (await metrics.read()).alerting is None


async def test_scrapes_do_not_pile_up_before_a_redis_that_is_silent(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are answered in time by one question; it is said once; when Redis is back, so is everything."""
    monkeypatch.setattr("worker.episodes.SETTLED_AFTER_S", 0)
    with redis_server() as server, tcp_proxy(server.port) as proxy, capture_logs() as logs:
        ledger = Ledger(Connection(f"redis://127.0.0.1:{proxy.port}/0"), namespace, events_maxlen=10)
        collector = Collector(ledger, structlog.get_logger("serve"), answer_within_s=0.5)
        assert (await collector.look(0)).is_readable
        asked = 0
        read = collector._metrics.read

        async def counting() -> Any:
            nonlocal asked
            asked += 1
            return await read()

        monkeypatch.setattr(collector._metrics, "read", counting)
        proxy.freeze()
        collector._last = None  # it is a while ago
        begun_s = time.monotonic()
        taken = await asyncio.gather(*(collector.look(0.4) for _ in range(20)))
        assert time.monotonic() - begun_s < 2
        assert asked == 1
        assert {(each.answered, each.is_readable) for each in taken} == {(False, False)}
        assert {each.trouble for each in taken} == {"Redis did not answer in time"}
        assert not (await collector.look(0)).answered
        proxy.thaw()
        assert (await collector.look(0)).is_readable
        assert (await collector.look(0)).is_readable
        await ledger.aclose()
    assert [line["event"] for line in logs] == ["ledger_unavailable", "ledger_back"]


async def test_without_redis_it_still_answers_and_says_so(namespace: str) -> None:
    """Not ready, alive, and a scrape like any other: with what is known, and nothing made up."""
    ledger = Ledger(Connection(f"redis://127.0.0.1:{free_port()}/0"), namespace, events_maxlen=10)
    with capture_logs() as logs:
        async with serving(ledger) as ask:
            begun_s = time.monotonic()
            ready, metrics, health = await ask("/readyz"), await ask("/metrics"), await ask("/healthz")
    assert time.monotonic() - begun_s < 5
    assert (ready[0], health) == (503, (200, "alive\n"))
    assert "Redis is not available" in ready[1]
    assert metrics[0] == 200
    assert values(metrics[1], "kinetic_retry_ledger_up") == {(): 0}
    assert [line["event"] for line in logs].count("ledger_unavailable") == 1


async def test_a_ledger_that_cannot_be_read_is_not_ready(ledger: Ledger) -> None:
    """Written by a newer version, or damaged: in words, without a traceback."""
    keys, command = ledger.keys, ledger.connection.command
    async with serving(ledger) as ask:
        assert await ask("/readyz") == (200, "ready\n")
    await command("HSET", keys.facts, "format", records.FORMAT + 1)
    async with serving(ledger) as ask:
        status, said = await ask("/readyz")
        assert (status, "start the newer version" in said) == (503, True)
    await command("HSET", keys.facts, "format", records.FORMAT)
    await command("HSET", keys.ticks, "submit", "{nonsense")
    async with serving(ledger) as ask:
        status, text = await ask("/metrics")
    assert status == 200
    assert values(text, "kinetic_retry_ledger_up") == {(): 1}
    assert values(text, "kinetic_retry_ledger_readable") == {(): 0}


async def test_a_loop_that_stands_still_is_not_healthy(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that answers HTTP and does nothing else must be started anew."""
    monkeypatch.setattr(app, "STUCK_AFTER_S", 0.3)
    monkeypatch.setattr(app, "BEAT_EVERY_S", 0.05)
    monkeypatch.setattr(app, "_WAIT_S", 0.1)
    async with serving(ledger) as ask:
        assert await ask("/healthz") == (200, "alive\n")

        def late() -> list[int]:
            time.sleep(0.4)
            return [asyncio.run(_status(ask, path)) for path in ("/healthz", "/readyz", "/metrics")]

        thread = ThreadPoolExecutor(1)
        standing = thread.submit(late)
        while not standing.done():
            time.sleep(0.05)  # noqa: ASYNC251  # this is the standstill
        assert standing.result() == [503, 503, 503]
        thread.shutdown()


async def _status(ask: Ask, path: str) -> int:
    return (await ask(path))[0]


async def test_what_runs_beside_it_may_fail(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once in an episode, and the next turn comes all the same."""
    monkeypatch.setattr("worker.episodes.SETTLED_AFTER_S", 0)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns <= 3:
            raise ValueError("canary-0123456789")

    with capture_logs() as logs:
        async with serving(ledger, Background("alerts", timedelta(milliseconds=1), turn)) as ask:
            async with asyncio.timeout(10):
                while turns < 6:
                    await asyncio.sleep(0.005)
            assert (await ask("/healthz"))[0] == 200
    told = [(line["event"], line.get("detail")) for line in logs if line.get("job") == "alerts"]
    assert told == [("background_failed", "ValueError"), ("background_back", None)]


def test_the_process_serves_and_ends_at_once(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """As it is started in a container: no API key, JSON lines, and SIGTERM ends it within a second."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("kinetic-retry")), "serve"]
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((*OURS, "SERVE_", "METRICS_"))
    }
    env |= {"REDIS_URL": redis_url, "LEDGER_NAMESPACE": namespace, "SERVE_PORT": str(port)}
    log = tmp_path / "serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=stream, stderr=stream)
    try:
        wait_until(lambda: b"serve_started" in log.read_bytes(), "serve")
        status, text = ask_at(port, "/metrics")
        second = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=30, check=False)
        begun_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        took_s = time.monotonic() - begun_s
    finally:
        process.kill()
        process.wait()
    assert status == 200
    assert re.search(r'kinetic_retry_build_info{version="[\d.]+', text)
    assert second.returncode == 3
    assert f"cannot listen at 127.0.0.1 port {port}: Address already in use" in second.stderr.decode()
    assert took_s < 2, "a second, and another one for a busy machine"
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert [(line["event"], line.get("port")) for line in lines] == [
        ("serve_started", port),
        ("serve_stopped", None),
    ]
