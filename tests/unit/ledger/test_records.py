"""Records: what is written is read back, and what cannot be read is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import discovered, running, submitting
from worker.domain.lineage import Attempt, Intent, Lineage, State
from worker.ledger import LedgerFormatError, records
from worker.ledger.clock import from_ms, to_ms

moments = st.integers(0, 4_000_000_000_000).map(from_ms)
durations = st.integers(0, 10**11).map(lambda ms: timedelta(milliseconds=ms))
words = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
PACKED_ONCE = (
    '{"format":3,"version":4,"token":"w","packed":"tHvA6Mg|53#K$z0rE7>9;V>qOI4t4=iZb(y6cS5IGV+Un1qsMy7-<1'
    'a>*lBFf>Hoc3B%mT*v!n>(h}@^L>d8e(UXM%MyfEtkto14*cXUM0GVlkkvza+s0jotM065?C?}i-pw?p~gjxU"}'
)


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    root = draw(names)
    clones = draw(st.lists(names, max_size=3))
    retried = [root, *clones]
    attempts = tuple(
        Attempt(
            clone=clone,
            of=of,
            delay=draw(durations),
            submitted_at=draw(moments),
            accepted_at=draw(moments),
            evidence=draw(words),
            alive=draw(st.booleans()),
            ended_at=draw(st.none() | moments),
            outcome=draw(st.sampled_from(["", "completed", "failed", "unknown"])),
        )
        for of, clone in zip(retried, clones, strict=False)
    )
    return Lineage(
        root=root,
        state=draw(st.sampled_from(State)),
        version=draw(st.integers(1, 10**6)),
        workflow_version_uuid=draw(words),
        workflow_uuid=draw(words),
        workflow_name=draw(words),
        fingerprint=draw(words),
        source=draw(st.sampled_from(["list", "track"])),
        dated=draw(st.booleans()),
        root_failed_at=draw(moments),
        seen_at=draw(moments),
        since=draw(moments),
        failing=draw(st.sampled_from(retried)),
        last_failed_at=draw(moments),
        failure_stamp=draw(st.none() | moments),
        attempts=attempts,
        due_at=draw(st.none() | moments),
        delay=draw(st.none() | durations),
        intent=draw(st.none() | st.builds(Intent, names, names, moments, moments)),
        undelivered=draw(st.integers(0, 1000)),
        conflicts=draw(st.integers(0, 1000)),
        missing_since=draw(st.none() | moments),
        reason=draw(words),
        detail=draw(words),
        policy=draw(names),
    )


@given(lineages())
def test_what_is_written_is_read_back(lineage: Lineage) -> None:
    """Nothing is lost between the domain and the record, whatever the text."""
    again = records.load(lineage.root, records.dump(lineage, "w"))
    assert again == lineage


@given(lineages())
def test_what_is_stored_is_read_back(lineage: Lineage) -> None:
    """Packed or not: what has ended is, and nobody who reads it notices."""
    text = records.stored(lineage, "w")
    assert records.load(lineage.root, text) == lineage
    record = json.loads(text)
    assert ("packed" in record) == lineage.state.is_final
    assert (record["format"], record["version"], record["token"]) == (records.FORMAT, lineage.version, "w")


def test_what_was_packed_once_can_be_read_for_ever() -> None:
    """By a version whose words and fields are others, too: this text is never to be changed."""
    lineage = records.load("root", PACKED_ONCE)
    assert (lineage.state, lineage.reason, lineage.made) == (State.RECOVERED, "completed", 1)
    assert lineage.newest.ended_at == from_ms(1772366410000)
    assert lineage.root_failed_at == from_ms(1772366399000)


@pytest.mark.parametrize("cut", [lambda packed: packed[:-5], lambda packed: packed[5:], lambda _: "~~~~~"])
def test_a_packed_record_that_is_damaged_is_left_alone(cut: Callable[[str], str]) -> None:
    """It is one line in the log, like any damaged record."""
    record = json.loads(PACKED_ONCE)
    with pytest.raises(LedgerFormatError, match="lineage root"):
        records.load("root", json.dumps(record | {"packed": cut(record["packed"])}))


def test_a_newer_format_is_refused_and_left_alone() -> None:
    """Half-way through a deploy the old worker keeps its hands off what the new one wrote."""
    record = json.loads(records.dump(discovered().after, "w"))
    record["format"] = records.FORMAT + 1
    with pytest.raises(LedgerFormatError, match="newer version"):
        records.load("root", json.dumps(record))


@pytest.mark.parametrize(
    "raw", ["", "null", "[]", "{}", '{"format":1}', '{"format":1,"state":"nowhere"}', "\x00"]
)
def test_a_damaged_record_is_an_error_that_names_the_lineage(raw: str) -> None:
    """One bad record is one line in the log, not a crash."""
    with pytest.raises(LedgerFormatError, match="lineage root"):
        records.load("root", raw)


def test_a_newer_worker_may_add_fields_within_a_format() -> None:
    """Unknown fields are ignored."""
    record = json.loads(records.dump(discovered().after, "w")) | {"mood": "good"}
    assert records.load("root", json.dumps(record)) == discovered().after


def test_no_payload_and_no_link_is_in_a_record() -> None:
    """Law 6: the record holds a fingerprint, never what it was made of."""
    alive = running(discovered().after).after
    keys = set(json.loads(records.dump(alive, "w")))
    assert keys <= {
        "format", "version", "token", "state", "since", "reason", "detail", "workflow_version", "workflow",
        "workflow_name", "fingerprint", "source", "undated", "root_failed_at", "seen_at", "failing",
        "last_failed_at", "failure_stamp", "attempts", "due_at", "delay_ms", "undelivered", "conflicts",
        "missing_since", "policy", "intent",
    }  # fmt: skip
    assert "intent" in json.loads(records.dump(submitting(discovered().after).after, "w"))


def test_times_are_aware_utc() -> None:
    """A moment read back is the same moment."""
    at = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
    assert to_ms(at) == 1772366400123
    assert from_ms(1772366400123) == at
