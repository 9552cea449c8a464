"""What of a trace goes over the wire to the API."""

from __future__ import annotations

from datetime import timedelta

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.contract.client_support import KEY, answering, clone, serving, utc_now
from tests.support.examples import discovered, submitting
from worker.domain.delivery import Accepted, Unclear
from worker.kinetic import Endpoint, KineticClient, ListContract
from worker.tracing.exporting import Tracing, open_tracing

created = answering(201, clone())


def client(url: str, tracing: Tracing | None) -> KineticClient:
    second = timedelta(seconds=1)
    return KineticClient(Endpoint(url, KEY, second, second, 1), ListContract(), now=utc_now, witness=tracing)


async def test_only_a_retry_call_carries_traceparent_and_its_status_is_drawn() -> None:
    """The header names the call's own span; a GET has none, and the key is in no span."""
    exporter = InMemorySpanExporter()
    lineage = submitting(discovered().after).after
    async with serving(created) as server:
        tracing = open_tracing(server.url, utc_now, exporter)
        api = client(server.url, tracing)
        with tracing.sending(lineage) as sending:
            delivery = await api.retry("root")
            sending.ended(delivery)
        await api.get("clone-1")
        await api.aclose()
    tracing.close()
    assert isinstance(delivery, Accepted)
    (span,) = exporter.get_finished_spans()
    context = span.get_span_context()
    assert context is not None
    post, get = server.seen
    assert post.headers["traceparent"] == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert post.headers["x-kinetic-key"] == KEY
    assert "traceparent" not in get.headers
    assert span.attributes
    assert span.attributes["http.response.status_code"] == 201
    assert KEY not in span.to_json()


@pytest.mark.parametrize("traced", [True, False])
async def test_without_tracing_or_a_call_under_way_nothing_is_added(traced: bool) -> None:
    """The request is what it was before there was any tracing."""
    async with serving(created) as server:
        tracing = open_tracing(server.url, utc_now, InMemorySpanExporter()) if traced else None
        api = client(server.url, tracing)
        assert not isinstance(await api.retry("root"), Unclear)
        await api.aclose()
    if tracing:
        tracing.close()
    assert set(server.seen[0].headers) == {
        *("host", "x-kinetic-key", "user-agent", "accept", "accept-encoding", "connection", "content-length")
    }
