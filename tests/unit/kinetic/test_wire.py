"""Reading untrusted JSON: the two uuids are required, nothing else may hurt."""

from __future__ import annotations

import gc
import json
import weakref
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.executions import Status, fingerprint_of
from worker.domain.text import clean_text
from worker.kinetic.parsing import NotJsonError, parse_json
from worker.kinetic.wire import read_execution, shape_of, usable_uuid

NOW = datetime(2026, 1, 6, 10, tzinfo=UTC)
MINIMAL = {"execution_uuid": "e-1", "workflow_version_uuid": "v-1"}

FULL = {
    **MINIMAL,
    "workflow_uuid": "w-1",
    "workflow_name": "Prior authorisation",
    "status": "failed",
    "created_at": "2026-01-06T09:00:00+02:00",
    "updated_at": "2026-01-06T09:30:00.123456789Z",
    "input_payload": {"member": 1},
    "duration_ms": 90_000,
    "n_steps": 12,
    "n_agent_actions": 0,
    "n_screenshots": 3,
    "output_url": "https://example.test/out",
    "video_url": "https://example.test/video?sig=1",
    "logs_url": "http://example.test/logs",
    "a_field_of_the_future": [1],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_a_full_answer_is_read() -> None:
    """Every field that the worker acts on or shows arrives, in UTC."""
    execution = read_execution(FULL, NOW)
    assert execution is not None
    assert (execution.uuid, execution.workflow_version_uuid, execution.workflow_uuid) == ("e-1", "v-1", "w-1")
    assert execution.status is Status.FAILED
    assert execution.created_at == datetime(2026, 1, 6, 7, tzinfo=UTC)
    assert execution.updated_at == datetime(2026, 1, 6, 9, 30, 0, 123456, tzinfo=UTC)
    assert execution.fingerprint == fingerprint_of({"member": 1})
    assert (execution.duration_ms, execution.n_steps, execution.n_agent_actions) == (90_000, 12, 0)
    assert (execution.video_url, execution.logs_url) == (FULL["video_url"], FULL["logs_url"])


def test_two_uuids_are_enough() -> None:
    """Everything else may be absent."""
    execution = read_execution(MINIMAL, NOW)
    assert execution is not None
    assert execution.status is Status.UNKNOWN
    assert (execution.fingerprint, execution.created_at, execution.n_steps) == ("", None, None)


@pytest.mark.parametrize("field", ["execution_uuid", "workflow_version_uuid"])
@pytest.mark.parametrize("value", [None, 5, "", ".", "..", "a\x00b", "a\u202eb", "x" * 201, ["e"], {}])
def test_without_usable_uuids_there_is_no_execution(field: str, value: object) -> None:
    """An execution that cannot be named cannot be acted on."""
    assert read_execution({**MINIMAL, field: value}, NOW) is None


@pytest.mark.parametrize("raw", [None, [], "e-1", 5, True, [MINIMAL], {}])
def test_what_is_no_object_is_no_execution(raw: object) -> None:
    """Nor does it raise."""
    assert read_execution(raw, NOW) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "0001-01-01T00:00:00+14:00"),
        ("created_at", "9999-12-31T23:59:59-12:00"),
        ("created_at", "1970-01-01T00:00:00Z"),
        ("created_at", "2026-01-08T10:00:00Z"),
        ("created_at", 1767690000),
        ("created_at", "yesterday"),
        ("created_at", "2" * 10**6),
        ("updated_at", {"at": 1}),
        ("video_url", "javascript:alert(1)"),
        ("video_url", "file:///etc/passwd"),
        ("logs_url", "https://x/" + "y" * 2000),
        ("logs_url", "https://x/\x1b[2J"),
        ("n_steps", -1),
        ("n_steps", True),
        ("n_steps", 1.5),
        ("n_steps", "7"),
        ("duration_ms", 2**53),
        ("n_agent_actions", float("nan")),
        ("workflow_name", 5),
        ("workflow_uuid", ".."),
        ("input_payload", {}),
    ],
)
def test_absurd_values_read_as_absent(field: str, value: object) -> None:
    """One bad field costs that field and nothing more."""
    assert read_execution({**MINIMAL, field: value}, NOW) == read_execution(MINIMAL, NOW)


@pytest.mark.parametrize("value", ["hibernating", 5, None, "x" * 10**6, ["failed"]])
def test_a_status_of_the_future_is_unknown(value: object) -> None:
    """Never an error, never mistaken for a final one."""
    execution = read_execution({**MINIMAL, "status": value}, NOW)
    assert execution is not None
    assert execution.status is Status.UNKNOWN


def test_a_hostile_name_becomes_one_short_line() -> None:
    """Ten megabytes with escapes cost little and print as a line."""
    execution = read_execution({**MINIMAL, "workflow_name": "\x1b[2J<b>\n" * 1_500_000}, NOW)
    assert execution is not None
    assert len(execution.workflow_name) <= 200
    assert execution.workflow_name.isprintable()


@given(st.dictionaries(st.sampled_from(list(FULL)), json_values))
def test_no_json_makes_it_raise(raw: dict[str, Any]) -> None:
    """Whatever parses as JSON is read or is not an execution."""
    execution = read_execution(raw, NOW)
    if execution is not None:
        assert usable_uuid(execution.uuid)
        assert execution.created_at is None or execution.created_at <= NOW + timedelta(days=1)


@given(json_values)
def test_every_payload_has_a_fingerprint_that_survives_the_wire(payload: Any) -> None:
    """NaN, infinities, lone surrogates: it never raises, and a payload that comes back has the same one."""
    assert fingerprint_of(json.loads(json.dumps(payload))) == fingerprint_of(payload)


def test_a_payload_nested_beyond_writing_reads_as_absent() -> None:
    """It then matches any, which delays and never doubles."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert fingerprint_of(nested) == ""
    while nested:  # taken apart by hand: its own destructor would recurse
        nested = nested.pop()  # type: ignore[assignment]  # the innermost is an empty list


def test_the_payload_is_not_kept() -> None:
    """Patient data goes with the answer it came in."""

    class Payload(dict[str, object]):
        """A dict that can be watched."""

    payload = Payload(member="PATIENT-4711")
    watch = weakref.ref(payload)
    execution = read_execution({**MINIMAL, "input_payload": payload}, NOW)
    del payload
    gc.collect()
    assert watch() is None
    assert "PATIENT" not in repr(execution)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"\xff\xfe{", b"[" * 10**6, b'{"a":' * 10**5, b"{'a': 1}", b"\x1f\x8b"],
)
def test_what_is_no_json_is_told_as_such(body: bytes) -> None:
    """Broken, deep, huge or in another encoding: one kind of error."""
    with pytest.raises(NotJsonError):
        parse_json(body)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parser(body: bytes) -> None:
    """The only way out besides a value is `NotJsonError`."""
    with suppress(NotJsonError):
        parse_json(body)


@pytest.mark.parametrize(
    "body", [b'{"a": NaN}', b'{"a": 1e999}', b"1" * 5000, b'"\\ud800"', b'{"a": 1, "a": 2}']
)
def test_json_beyond_the_standard_is_read(body: bytes) -> None:
    """Servers send it; it must break nothing further on."""
    value = parse_json(body)
    fingerprint_of(value)
    shape_of(value)


@given(json_values)
def test_a_shape_tells_names_and_no_values(value: Any) -> None:
    """One short clean line, whatever the JSON."""
    line = shape_of(value)
    assert clean_text(line, 600) == line
    assert len(line) < 600
    assert "PATIENT" not in shape_of({"rows": "PATIENT-4711"})
