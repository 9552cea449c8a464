"""Where spans go: OTLP over HTTP, in batches, from a thread of its own.

Owns the export and its silence: an endpoint that is away costs spans and one log line, never a retry, nor a
second of a worker's end. To be made in the process that traces: threads do not survive a fork. Everything
about the endpoint is set by the standard `OTEL_*` variables, which the library reads by itself.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from worker.episodes import Episode
from worker.tracing.tracer import LaidIds, OtelTracer

log = structlog.get_logger("worker")

LONGEST_FLUSH_S = 3.0
"""How long the end of a process may wait for the last spans: a container is given ten seconds in all."""
_SERVICE = "kinetic-retry-worker"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OURS = "http/protobuf"


class Tracing(OtelTracer):
    """A tracer with its export."""

    def close(self) -> None:
        """Send what is left, for a bounded time. What cannot be sent by then is lost."""
        # The library has no bound of its own for this: the thread is left behind, and ends with the process.
        flusher = threading.Thread(target=self.provider.shutdown, name="last-spans", daemon=True)
        flusher.start()
        flusher.join(LONGEST_FLUSH_S)


def open_tracing(base_url: str, now: Callable[[], datetime], exporter: SpanExporter | None = None) -> Tracing:
    """Return a tracer that exports.

    Args:
        base_url: of the API.
        now: by the Redis server's clock.
        exporter: where spans go; None = where the `OTEL_EXPORTER_OTLP_*` variables say.
    """
    voice, ids = Voice(), LaidIds()
    provider = TracerProvider(resource=_resource(), id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Heard(exporter or _otlp(), voice)))
    voice.setting_up = False
    return Tracing(provider, ids, base_url, now)


class Voice(logging.Handler):
    """Says of the export what people need to know, once when it begins and once when it is over.

    It takes the place of the library's own lines, which come with every batch and repeat the endpoint's
    words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setting_up = True
        self._away = Episode()
        self._full = Episode()
        library = logging.getLogger("opentelemetry")
        library.handlers = [self]
        library.propagate = False
        library.setLevel(logging.WARNING)  # whatever our own level is: it is how we hear of dropped spans

    def emit(self, record: logging.LogRecord) -> None:
        """Say which settings the library does not use, and that spans are dropped.

        The rest is told by the results of exports. Values are left out: headers may hold a key.
        """
        if self.setting_up:
            log.warning(
                "tracing_setting_not_used",
                detail=str(record.msg).replace("%s", "…").replace("%r", "…"),
                next="check the OTEL_ variables of this process",
            )
        elif str(record.msg).startswith("Queue full") and self._full.met():
            log.warning(
                "spans_dropped",
                detail="more spans than could be sent; see OTEL_BSP_MAX_QUEUE_SIZE and OTEL_TRACES_SAMPLER",
                next="retries go on; the oldest spans that wait are dropped",
            )

    def failed(self) -> None:
        """A batch could not be sent."""
        if self._away.met():
            log.warning(
                "tracing_unavailable",
                detail="spans cannot be sent; see OTEL_EXPORTER_OTLP_ENDPOINT",
                next="retries go on; spans are dropped until the endpoint takes them",
            )

    def sent(self) -> None:
        """A batch was sent."""
        self._full.well()
        if self._away.well():
            log.info("tracing_back")


class Heard(SpanExporter):
    """An exporter whose results are heard, and which never raises."""

    def __init__(self, exporter: SpanExporter, voice: Voice) -> None:
        self._exporter = exporter
        self._voice = voice

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch and return whether that worked."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001  # whatever it was, the batch is lost
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._voice.sent()
        else:
            self._voice.failed()
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return whether everything was sent within the time."""
        return self._exporter.force_flush(timeout_millis)


def _otlp() -> SpanExporter:
    asked = next(filter(None, (os.environ.get(name, "").strip() for name in _PROTOCOLS)), _OURS)
    if asked != _OURS:
        log.warning(
            "tracing_protocol_not_supported",
            detail=f"OTEL_EXPORTER_OTLP_PROTOCOL asks for another protocol than {_OURS}",
            next=f"spans are sent by {_OURS}, whose port is usually 4318",
        )
    return OTLPSpanExporter()


def _resource() -> Resource:
    """Return who we are, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` say otherwise."""
    try:
        ours = {SERVICE_NAME: _SERVICE, SERVICE_VERSION: version(_SERVICE)}
    except PackageNotFoundError:
        ours = {SERVICE_NAME: _SERVICE}
    told = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in told})
