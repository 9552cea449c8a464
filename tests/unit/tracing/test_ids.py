"""The names of traces and spans."""

from __future__ import annotations

from uuid import UUID

from worker.tracing.ids import span_of, trace_of

ROOTS = [str(UUID(int=n << 76 | 4 << 76 | 8 << 60 | n, version=4)) for n in range(2000)]


def test_the_same_is_named_the_same_and_nothing_else_is() -> None:
    """Other roots, other parts and other cuts between parts give other ids, none of them zero."""
    traces = {trace_of(root) for root in ROOTS}
    spans = {span_of(root, "attempt", n) for root in ROOTS[:200] for n in (1, 2, 12)}
    assert (len(traces), len(spans)) == (2000, 600)
    assert span_of("a", "bc") != span_of("ab", "c")
    assert trace_of("a") == trace_of("a")
    assert all(0 < each < 1 << 128 for each in traces)
    assert all(0 < each < 1 << 64 for each in spans)


def test_sampling_by_ratio_takes_its_share_of_uuids() -> None:
    """Samplers go by the last 64 bits, which begin the same in every uuid: of those it would take none."""
    quarter = (1 << 64) // 4
    taken = sum(trace_of(root) % (1 << 64) < quarter for root in ROOTS)
    assert 400 < taken < 600
    assert sum(UUID(root).int % (1 << 64) < quarter for root in ROOTS) == 0


def test_any_text_has_a_name() -> None:
    """What an API gives for a uuid may be no text that can be encoded."""
    assert trace_of("\ud800") != trace_of("\ud801")
