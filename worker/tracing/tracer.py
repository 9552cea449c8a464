"""The engine's tracer that draws spans with OpenTelemetry.

Owns what a job, a retry call and a step of a lineage look like as spans, and that nothing which goes wrong
here reaches the engine. Whether a lineage's trace is sampled follows from its id alone, so that all processes
decide alike. Where spans go is `exporting`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import structlog
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from worker.domain.delivery import Accepted, Delivery
from worker.domain.lineage import Lineage
from worker.domain.transitions import Change
from worker.episodes import Episode
from worker.tracing.ids import trace_of
from worker.tracing.waterfall import Bar, Facts, attempt_span, bars_of, call_span

log = structlog.get_logger("worker")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROUTE = "/api/executions/{execution_uuid}/retry"
_batch: ContextVar[SpanContext | None] = ContextVar("batch", default=None)
_call: ContextVar[_Sending | None] = ContextVar("call", default=None)


class LaidIds(IdGenerator):
    """Hands out the ids that were laid ready for the next span."""

    trace_id: int = 1
    span_id: int = 1

    def generate_span_id(self) -> int:
        """Return the id laid ready."""
        return self.span_id

    def generate_trace_id(self) -> int:
        """Return the id laid ready."""
        return self.trace_id


@dataclass(slots=True)
class _Run:
    """A run of a job, and what it did."""

    figures: Mapping[str, int] | None = None

    def did(self, figures: Mapping[str, int] | None) -> None:
        """Take note of what it did."""
        self.figures = figures


@dataclass(slots=True)
class _Sending:
    """A retry call, and what became of it."""

    context: SpanContext
    delivery: Delivery | None = None
    http_status: int | None = None

    def ended(self, delivery: Delivery) -> None:
        """Take note of what became of it."""
        self.delivery = delivery


@dataclass(slots=True)
class OtelTracer:
    """Draws spans. Belongs to one process and one event loop.

    Args:
        provider: made with `ids`.
        ids: of the provider.
        base_url: of the API, which has no credentials in it.
        now: by the Redis server's clock, like every time on record.
    """

    provider: TracerProvider
    ids: LaidIds
    base_url: str
    now: Callable[[], datetime]
    _tracer: Tracer = field(init=False)
    _broken: Episode = field(default_factory=Episode)

    def __post_init__(self) -> None:
        """Ask for the library's tracer once: that is dearer than a span."""
        self._tracer = self.provider.get_tracer("kinetic-retry-worker")

    @contextmanager
    def job(self, name: str) -> Iterator[_Run]:
        """Draw one run of a job, unless it did nothing at all."""
        run, began_at = _Run(), self.now()
        span = self._context(_random_id(128), _random_id(64))
        before = _batch.set(span)
        trouble = ""
        try:
            yield run
        except BaseException as exc:
            trouble = type(exc).__name__
            raise
        finally:
            _batch.reset(before)
            if trouble or any((run.figures or {}).values()):
                with self._harmless():
                    self._draw_job(name, span, began_at, run.figures or {}, trouble)

    @contextmanager
    def sending(self, lineage: Lineage) -> Iterator[_Sending]:
        """Draw a retry call, and let the API go on with its trace."""
        began_at, token = self.now(), lineage.intent.token if lineage.intent else ""
        sending = _Sending(self._context(trace_of(lineage.root), call_span(lineage.root, token)))
        before = _call.set(sending)
        try:
            yield sending
        finally:
            _call.reset(before)
            if sending.context.trace_flags.sampled:
                with self._harmless():
                    self._draw_call(lineage, sending, began_at)

    def told(self, change: Change) -> None:
        """Draw what is over by a step of a lineage."""
        with self._harmless():
            lineage = change.after
            trace_id = trace_of(lineage.root)
            if not self._samples(trace_id):  # the library would find out as well, span by span
                return
            for bar in bars_of(change):
                self._draw(trace_id, replace(bar, facts={**_whose(lineage), **bar.facts}))

    def headers(self) -> dict[str, str]:
        """Return the headers by which the API can go on with the trace of the call that is under way."""
        carrier: dict[str, str] = {}
        sending = _call.get()
        if sending:
            with self._harmless():
                propagate.inject(carrier, set_span_in_context(NonRecordingSpan(sending.context), Context()))
        return carrier

    def answered(self, http_status: int) -> None:
        """Take note of the status that the call under way was answered with."""
        sending = _call.get()
        if sending:
            sending.http_status = http_status

    def _draw_job(
        self, name: str, ids: SpanContext, began_at: datetime, figures: Mapping[str, int], trouble: str
    ) -> None:
        facts: Facts = {"kinetic.job": name, **{f"kinetic.did.{what}": n for what, n in figures.items()}}
        self._draw(ids.trace_id, Bar(name, ids.span_id, None, began_at, self.now(), facts, trouble))

    def _draw_call(self, lineage: Lineage, sending: _Sending, began_at: datetime) -> None:
        number, delivery = lineage.next_attempt, sending.delivery
        of = lineage.intent.of if lineage.intent else lineage.failing
        facts: Facts = {**_whose(lineage), **self._request(of), "kinetic.attempt": number}
        facts["kinetic.outcome"] = type(delivery).__name__.lower() if delivery else "cut_short"
        facts["kinetic.undelivered_before"] = lineage.undelivered
        status = sending.http_status or getattr(delivery, "http_status", None)
        if status:
            facts["http.response.status_code"] = status
        trouble = ""
        if isinstance(delivery, Accepted):
            facts["kinetic.clone"] = delivery.clone.uuid
        else:
            trouble = getattr(delivery, "reason", "") or str(facts["kinetic.outcome"])
        links = [Link(each) for each in (_batch.get(),) if each]
        if number > 1:
            before = self._context(sending.context.trace_id, attempt_span(lineage.root, number - 1))
            links.append(Link(before, {"kinetic.link": "previous attempt"}))
        parent = attempt_span(lineage.root, number)
        bar = Bar(f"POST {_ROUTE}", sending.context.span_id, parent, began_at, self.now(), facts, trouble)
        self._draw(sending.context.trace_id, bar, kind=SpanKind.CLIENT, links=links)

    def _request(self, of: str) -> Facts:
        base = urlsplit(self.base_url)
        path = base.path.rstrip("/") + _ROUTE.replace("{execution_uuid}", quote(of, safe=""))
        port = base.port or (443 if base.scheme == "https" else 80)
        return {
            "http.request.method": "POST",
            "server.address": base.hostname or "",
            "server.port": port,
            "url.full": f"{base.scheme}://{base.netloc}{path}",
            "url.template": _ROUTE,
            "kinetic.execution": of,
        }

    def _context(self, trace_id: int, span_id: int) -> SpanContext:
        flags = TraceFlags.SAMPLED if self._samples(trace_id) else TraceFlags.DEFAULT
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))

    def _samples(self, trace_id: int) -> bool:
        """Whether a trace is sampled; not where its sampler fails, which must not cost the retry."""
        try:
            result = self.provider.sampler.should_sample(Context(), trace_id, "lineage")
        except Exception as exc:  # noqa: BLE001  # see `_harmless`
            self._say_broken(exc)
            return False
        return result.decision is Decision.RECORD_AND_SAMPLE

    def _draw(
        self,
        trace_id: int,
        bar: Bar,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
    ) -> None:
        """Make a span of a bar. Nothing is awaited between laying its ids and taking them up."""
        context = Context()
        if bar.parent is not None:
            above = NonRecordingSpan(self._context(trace_id, bar.parent))
            context = set_span_in_context(above, context)
        facts = {key: _plain(fact) for key, fact in bar.facts.items() if fact != ""}
        if bar.trouble:
            facts["error.type"] = bar.trouble
        self.ids.trace_id, self.ids.span_id = trace_id, bar.span_id
        span = self._tracer.start_span(bar.name, context, kind, facts, links, start_time=_ns(bar.begins))
        if bar.trouble:
            span.set_status(Status(StatusCode.ERROR, bar.trouble))
        span.end(_ns(max(bar.begins, bar.ends)))

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Keep what goes wrong with a span away from what it is about; say it once."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001  # a retry must not fail because nobody can draw it
            self._say_broken(exc)

    def _say_broken(self, exc: Exception) -> None:
        if self._broken.met():
            log.warning("tracing_failed", detail=type(exc).__name__, next="retries go on; spans are missing")


def _whose(lineage: Lineage) -> Facts:
    return {
        "kinetic.root": lineage.root,
        "kinetic.workflow.uuid": lineage.workflow_uuid,
        "kinetic.workflow.name": lineage.workflow_name,
    }


def _plain(fact: str | float | bool) -> str | float | bool:
    """Return a fact that protobuf can encode: one lone surrogate would cost the whole batch."""
    return fact.encode("utf-8", "replace").decode() if isinstance(fact, str) else fact


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _random_id(bits: int) -> int:
    return random.getrandbits(bits) or 1
