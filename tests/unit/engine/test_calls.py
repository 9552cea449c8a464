"""Calls are counted by how they ended; nothing about them changes."""

from __future__ import annotations

import pytest

from tests.support.examples import execution
from worker.domain.delivery import Accepted, Conflict, NotDelivered, Refused, Unclear
from worker.engine.calls import outcome_of
from worker.kinetic import KineticError
from worker.ledger.calls import BOUNDS_S, Counts, read_calls


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (Accepted(execution()), "ok"),
        (NotDelivered("connect_error"), "connect_error"),
        (NotDelivered("rate_limited", http_status=429), "http_429"),
        (Conflict(), "http_409"),
        (Refused("refused", "", 418), "http_4xx"),
        (Unclear("http_507", http_status=507), "http_5xx"),
        (Unclear("unreadable", http_status=201), "unreadable"),
        (KineticError("moved", http_status=301), "http_3xx"),
        (KineticError("What the server says: 'x'"), "other"),
    ],
)
def test_every_ending_has_one_of_a_few_names(ended: object, outcome: str) -> None:
    """Whatever an API answers: each name is a time series for ever."""
    assert outcome_of(ended) == outcome  # type: ignore[arg-type]  # mixed on purpose


def test_no_status_and_no_reason_makes_up_a_name() -> None:
    """A server that answers with every status there is costs a dozen names."""
    assert len({outcome_of(KineticError("x", http_status=status)) for status in range(100, 1000)}) < 25


def test_what_is_counted_is_what_is_read() -> None:
    """Each call falls under one bound, the last of which is open."""
    counts = Counts()
    assert not counts
    for took_s in (0.0, BOUNDS_S[0], BOUNDS_S[0] + 0.001, 1000.0):
        counts.note("get", "ok", took_s)
    report = read_calls({name: str(count) for name, count in counts.counted.items()})
    assert counts
    assert report.ended == {("get", "ok"): 4}
    within = report.took["get"].within
    assert (within[BOUNDS_S[0]], within[BOUNDS_S[1]], within[float("inf")]) == (2, 1, 1)
    assert sum(within.values()) == 4
    assert report.took["get"].spent_s == pytest.approx(1000.101)


def test_counts_of_another_version_are_passed_over() -> None:
    """Another set of bounds must not make the histogram lie about its own."""
    report = read_calls({"within\nget\n0.07": "3", "new\nget": "1", "within\nget\n0.1": "2", "": "1"})
    assert sum(report.took["get"].within.values()) == 2
