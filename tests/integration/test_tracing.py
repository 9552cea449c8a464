"""Spans of real engine runs, as an OTLP endpoint receives them over HTTP."""

from __future__ import annotations

import gzip
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.daemons import daemons, wait_until
from tests.support.examples import discovered, execution, submitting
from tests.support.redis_server import free_port, redis_server
from tests.support.scripted_api import ScriptedApi, answering, clone_then_lose_the_answer
from tests.support.simulation import start_simulator
from worker.domain.delivery import Delivery, NotDelivered, Refused
from worker.domain.executions import Status
from worker.domain.lineage import Lineage, State
from worker.domain.transitions import Change
from worker.engine import discover, resolve, submit, watch
from worker.engine.context import Context
from worker.tracing.exporting import Tracing, open_tracing
from worker.tracing.ids import trace_of
from worker.tracing.waterfall import attempt_span

PATH = "/v1/traces"
SECRET = "canary-key-0123456789"
SLACK_NS = 50_000_000
ROUTE = "POST /api/executions/{execution_uuid}/retry"


class Receiver:
    """What an OTLP endpoint got; it answers with `status`, after `delay_s`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.raw = b""
        self.requests = 0
        self.status = 200
        self.delay_s = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.requests += 1
                time.sleep(receiver.delay_s)
                if receiver.status == 200:
                    receiver.take(body)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        self.raw += body
        for resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(attributes["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def of(self, root: str) -> list[Span]:
        """Return the spans of a lineage's trace, by when they begin, the outer ones first."""
        trace_id = trace_of(root).to_bytes(16)
        spans = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(spans, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def facts_of(span: Span) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture
def traced(
    ctx: Context, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Tracing]]:
    """Return what switches tracing on, with standard variables; the library's logger is put back."""
    library = logging.getLogger("opentelemetry")
    was = library.handlers, library.propagate, library.level
    opened: list[Tracing] = []

    def switch_on(**variables: str) -> Tracing:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            monkeypatch.delenv(name)
        for name, value in ({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url} | variables).items():
            monkeypatch.setenv(name, value)
        opened.append(open_tracing("http://kinetic.test:8080/prefix", ctx.now))
        ctx.tracer = opened[-1]
        return opened[-1]

    yield switch_on
    for each in opened:
        each.provider.shutdown()
    library.handlers, library.propagate, library.level = was


def fail(api: ScriptedApi, *uuids: str) -> None:
    at = datetime.now(UTC) - timedelta(seconds=2)
    api.add(*(execution(uuid, Status.FAILED, created_at=at, updated_at=at) for uuid in uuids))


async def run(ctx: Context, job: str, use_case: Callable[[Context], Any]) -> None:
    """Run a job as the runtime does."""
    with ctx.tracer.job(job) as noted:
        noted.did(await use_case(ctx))


async def look(ctx: Context) -> None:
    """Look at every running clone, whether or not its next look is due."""
    roots = await ctx.ledger.connection.command("ZRANGE", ctx.ledger.keys.state(State.RUNNING), 0, -1)
    await ctx.ledger.reschedule(State.RUNNING, dict.fromkeys(roots, datetime.fromtimestamp(0, UTC)))
    await run(ctx, "watch", watch)


async def attempt(ctx: Context, api: ScriptedApi, ends: Status) -> None:
    """Make one attempt of everything that is due and let its clones end."""
    await run(ctx, "submit", submit)
    for clone in [uuid for uuid, each in api.executions.items() if each.status is Status.QUEUED]:
        api.end(clone, ends)
    await look(ctx)


def holds_together(spans: list[Span]) -> None:
    """Every span's parent is there and encloses it; there is one root; no span ends before it begins."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert [span.name for span in spans if not span.parent_span_id] == ["lineage"]
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano, span.name
        if span.parent_span_id:
            parent = by_id[span.parent_span_id]
            # The record has whole milliseconds, and an answer is taken in a moment after it came.
            assert parent.start_time_unix_nano <= span.start_time_unix_nano + SLACK_NS, (
                parent.name,
                span.name,
            )
            assert span.end_time_unix_nano <= parent.end_time_unix_nano + SLACK_NS, (parent.name, span.name)


def drawn(spans: list[Span]) -> dict[str, list[str]]:
    """Return the names of what is right below each span, the attempts by their numbers."""
    below: dict[str, list[str]] = {}
    for span in spans:
        parent = next((each for each in spans if each.span_id == span.parent_span_id), None)
        if parent:
            number = facts_of(parent).get("kinetic.attempt")
            below.setdefault(f"{parent.name} {number}" if number else parent.name, []).append(span.name)
    return {name: sorted(names) for name, names in below.items()}


async def test_a_lineage_is_one_trace_from_the_failure_to_the_verdict(
    ctx: Context, api: ScriptedApi, receiver: Receiver, traced: Callable[..., Tracing]
) -> None:
    """All attempts are one waterfall that holds together; calls link to their batch and the last attempt."""
    tracing = traced()
    fail(api, "a")
    await run(ctx, "discover", discover)
    await attempt(ctx, api, Status.FAILED)
    await attempt(ctx, api, Status.COMPLETED)
    tracing.close()
    spans = receiver.of("a")
    holds_together(spans)
    assert drawn(spans) == {
        "lineage": ["attempt", "attempt", "notice"],
        "attempt 1": [ROUTE, "clone", "wait"],
        "attempt 2": [ROUTE, "clone", "wait"],
    }
    assert receiver.services == {"kinetic-retry-worker"}
    whole, (first, second) = spans[0], [span for span in spans if span.name == ROUTE]
    assert facts_of(whole)["kinetic.state"] == "recovered"
    assert facts_of(whole)["kinetic.workflow.name"] == "Prior authorisation"
    assert first.kind == second.kind == Span.SPAN_KIND_CLIENT
    batches = [span.span_id for span in receiver.named("submit")]
    assert len(batches) == 2
    assert [link.span_id for link in first.links] == batches[:1]
    assert [link.span_id for link in second.links] == [batches[1], attempt_span("a", 1).to_bytes(8)]
    assert [facts_of(span)["kinetic.outcome"] for span in spans if span.name == "clone"] == [
        "failed",
        "completed",
    ]


async def test_a_retry_call_says_what_was_asked_and_what_became_of_it(
    ctx: Context, api: ScriptedApi, receiver: Receiver, traced: Callable[..., Tracing]
) -> None:
    """HTTP's semantic conventions; a call that was refused is an error, and its attempt ends with it."""
    tracing = traced()
    api.answers.append(answering(Refused("validation_error", "words of the API", 422)))
    fail(api, "a")
    await run(ctx, "discover", discover)
    await run(ctx, "submit", submit)
    tracing.close()
    holds_together(receiver.of("a"))
    (call,) = receiver.named(ROUTE)
    facts = facts_of(call)
    assert facts["http.request.method"] == "POST"
    assert facts["url.full"] == "http://kinetic.test:8080/prefix/api/executions/a/retry"
    assert (facts["server.address"], facts["server.port"]) == ("kinetic.test", 8080)
    assert (facts["http.response.status_code"], facts["error.type"]) == (422, "validation_error")
    assert (facts["kinetic.outcome"], facts["kinetic.attempt"]) == ("refused", 1)
    assert call.status.code == 2  # error
    assert facts_of(receiver.named("lineage")[0])["kinetic.reason"] == "validation_error"
    assert b"words of the API" not in receiver.raw


async def test_an_attempt_sent_twice_and_one_in_doubt_are_seen_as_such(
    ctx: Context, api: ScriptedApi, receiver: Receiver, traced: Callable[..., Tracing]
) -> None:
    """A call that was not delivered, one whose answer was lost, the doubt and the clone: one attempt."""
    tracing = traced()
    api.answers += [answering(NotDelivered("connect_error")), clone_then_lose_the_answer]
    fail(api, "a")
    await run(ctx, "discover", discover)
    for _ in range(2):
        due = await ctx.ledger.connection.command("ZRANGE", ctx.ledger.keys.state(State.SCHEDULED), 0, -1)
        await make_due(ctx, due)
        await run(ctx, "submit", submit)
    await run(ctx, "resolve", resolve)
    for clone in [uuid for uuid, each in api.executions.items() if each.status is Status.QUEUED]:
        api.end(clone, Status.COMPLETED)
    await look(ctx)
    tracing.close()
    spans = receiver.of("a")
    holds_together(spans)
    calls = [span for span in spans if span.name == ROUTE]
    assert [facts_of(span)["kinetic.outcome"] for span in calls] == ["notdelivered", "unclear"]
    assert drawn(spans) == {
        "lineage": ["attempt", "notice"],
        "attempt 1": [ROUTE, ROUTE, "clone", "in doubt", "wait", "wait"],
    }


async def make_due(ctx: Context, roots: list[str]) -> None:
    """Let what waits for its next call be due now: in the record as well as in the index."""
    for lineage in (await ctx.ledger.read(roots)).values():
        assert isinstance(lineage, Lineage)
        moved = replace(lineage, due_at=ctx.now(), version=lineage.version + 1)
        await ctx.ledger.commit(Change(lineage, moved, ()))


async def test_a_run_of_a_job_says_what_it_did_and_idle_ones_say_nothing(
    ctx: Context, api: ScriptedApi, receiver: Receiver, traced: Callable[..., Tracing]
) -> None:
    """Figures are attributes; a tick that found nothing leaves no span; one that failed leaves an error."""
    tracing = traced()
    fail(api, "a", "b")
    await run(ctx, "discover", discover)
    await run(ctx, "resolve", resolve)
    await run(ctx, "submit", submit)
    await run(ctx, "submit", submit)

    async def break_down(_: Context) -> None:
        raise ConnectionError(SECRET)

    with pytest.raises(ConnectionError):
        await run(ctx, "watch", break_down)
    tracing.close()
    (poll,) = receiver.named("discover")
    assert facts_of(poll)["kinetic.did.discovered"] == 2
    assert [facts_of(span)["kinetic.did.accepted"] for span in receiver.named("submit")] == [2]
    assert receiver.named("resolve") == []
    (broken,) = receiver.named("watch")
    assert (broken.status.code, broken.status.message) == (2, "ConnectionError")
    assert SECRET.encode() not in receiver.raw


async def test_a_trace_is_sampled_as_a_whole_by_every_process(
    ctx: Context, api: ScriptedApi, receiver: Receiver, traced: Callable[..., Tracing]
) -> None:
    """With a ratio, some lineages are there with all their spans and the others with none, wherever drawn."""
    ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    roots = [f"e{n}" for n in range(40)]
    fail(api, *roots)
    first = traced(**ratio)
    await run(ctx, "discover", discover)
    await run(ctx, "submit", submit)
    first.close()
    second = traced(**ratio | {"OTEL_TRACES_SAMPLER": "traceidratio"})
    for clone in [uuid for uuid, each in api.executions.items() if each.status is Status.QUEUED]:
        api.end(clone, Status.COMPLETED)
    await look(ctx)
    second.close()
    seen = [root for root in roots if receiver.of(root)]
    assert 5 < len(seen) < 35
    for root in seen:
        holds_together(receiver.of(root))
        assert len(receiver.of(root)) == 6


async def test_an_endpoint_that_is_away_costs_no_retry_and_one_line(
    ctx: Context, api: ScriptedApi, traced: Callable[..., Tracing], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens: everything goes on, the log says so once, and the end of the process is not held up."""
    with structlog.testing.capture_logs() as lines:
        tracing = traced(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://user:{SECRET}@127.0.0.1:{free_port()}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        fail(api, *(f"e{n}" for n in range(30)))
        await run(ctx, "discover", discover)
        await attempt(ctx, api, Status.COMPLETED)
        assert len(api.clones) == 30
        begun_s = time.monotonic()
        tracing.close()
        assert time.monotonic() - begun_s < 5
        wait_until(lambda: any(line["event"] == "tracing_unavailable" for line in lines), "the line", 10)
    assert [line["event"] for line in lines].count("tracing_unavailable") == 1
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []
    assert SECRET not in str(lines)


async def test_an_endpoint_that_hangs_holds_up_nobody(
    ctx: Context,
    api: ScriptedApi,
    receiver: Receiver,
    traced: Callable[..., Tracing],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes requests and does not answer: no call waits for it, and the end waits for a bounded time."""
    monkeypatch.setattr("worker.tracing.exporting.LONGEST_FLUSH_S", 0.3)
    receiver.delay_s = 6
    tracing = traced(OTEL_BSP_SCHEDULE_DELAY="20")
    fail(api, "a")
    await run(ctx, "discover", discover)
    wait_until(lambda: receiver.requests > 0, "a request that hangs", 10)
    begun_s = time.monotonic()
    await attempt(ctx, api, Status.COMPLETED)
    tracing.close()
    assert time.monotonic() - begun_s < 4


async def test_what_breaks_in_drawing_does_not_reach_the_retry(
    ctx: Context, api: ScriptedApi, traced: Callable[..., Tracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a step nor a call fails because its span cannot be made; that is said once."""
    tracing = traced()

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    with structlog.testing.capture_logs() as lines:
        monkeypatch.setattr(tracing.provider.sampler, "should_sample", refuse, raising=False)
        fail(api, "a")
        await run(ctx, "discover", discover)
        await run(ctx, "submit", submit)
        assert tracing.headers() == {}
    assert api.clones == {"a": 1}
    assert [line["event"] for line in lines].count("tracing_failed") == 1
    assert SECRET not in str(lines)


async def test_the_headers_name_the_call_under_way_and_nothing_else_has_any(
    ctx: Context, api: ScriptedApi, receiver: Receiver, traced: Callable[..., Tracing]
) -> None:
    """`traceparent` is the call's own span; outside a call there is none."""
    tracing = traced()
    sent: list[dict[str, str]] = []

    async def note(api: ScriptedApi, of: str) -> Delivery:
        sent.append(tracing.headers())
        tracing.answered(202)
        return Refused("refused", "", 400)

    api.answers.append(note)
    fail(api, "a")
    await run(ctx, "discover", discover)
    await run(ctx, "submit", submit)
    tracing.close()
    (call,) = receiver.named(ROUTE)
    assert sent == [{"traceparent": f"00-{call.trace_id.hex()}-{call.span_id.hex()}-01"}]
    assert facts_of(call)["http.response.status_code"] == 202
    with tracing.sending(submitting(discovered().after).after):
        assert "traceparent" in tracing.headers()
    assert tracing.headers() == {}


@contextmanager
def _world(tmp_path: Path, receiver: Receiver) -> Iterator[tuple[Any, Any]]:
    with (
        start_simulator(api_key=SECRET) as simulator,
        redis_server() as server,
        daemons(
            tmp_path,
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY=SECRET,
            REDIS_URL=f"redis://127.0.0.1:{server.port}/0",
            TRACING_ENABLED="true",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_BSP_SCHEDULE_DELAY="60000",  # what comes before the end is what the end sends
            WORKER_CONCURRENCY="1",
            DISCOVERY_INTERVAL="300ms",
            RETRY_BASE_DELAY="50ms",
            WATCH_INTERVAL="200ms",
        ) as held,
    ):
        yield simulator, held


@pytest.mark.processes
def test_a_real_worker_sends_its_spans_from_its_pool_process_and_the_last_at_its_end(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Made after the fork, flushed by a warm stop: whole lineages arrive, no key and no payload with them."""
    with _world(tmp_path, receiver) as (simulator, held):
        worker, _ = held.start("worker"), held.start("beat")
        wait_until(lambda: bool(held.events("list_read")), "the first reading of the list")
        roots = simulator.fail(simulator.add_workflow("Claims", "recovers_after", retries=1), 3)
        wait_until(lambda: len(held.events("execution_recovered")) == 3, "three verdicts")
        assert receiver.spans == []
        assert worker.stop() == 0
    for root in roots:
        holds_together(receiver.of(root))
        assert "clone" in [span.name for span in receiver.of(root)]
    assert receiver.named("discover")
    assert SECRET.encode() not in receiver.raw
    assert b"member_id" not in receiver.raw
