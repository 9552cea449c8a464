"""Whatever comes, reading it never raises, and what is read keeps its documented shape."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.hostile import (
    bodies,
    deep,
    executions,
    fuzz,
    header_values,
    headers,
    in_bytes,
    is_one_harmless_line,
    json_values,
    odd,
    texts,
)
from worker.domain.executions import (
    EARLIEST_BELIEVABLE,
    LATEST_BELIEVABLE_AHEAD,
    Execution,
    Status,
    fingerprint_of,
)
from worker.domain.text import clean_text
from worker.kinetic.headers import LARGEST_SKEW, LONGEST_PAUSE, SHORTEST_PAUSE, http_date, pause_of, skew_of
from worker.kinetic.parsing import NotJsonError, parse_json
from worker.kinetic.wire import read_execution, shape_of

NOW = datetime(2026, 1, 6, 10, tzinfo=UTC)
GOOD = {"execution_uuid": "good", "workflow_version_uuid": "v-1", "status": "failed"}


def flaws(execution: Execution) -> list[str]:
    """Return what breaks the shape that `Execution` documents; written from its docstring, not its reader."""
    uuids = {"uuid": execution.uuid, "workflow_version_uuid": execution.workflow_version_uuid}
    if execution.workflow_uuid:
        uuids["workflow_uuid"] = execution.workflow_uuid
    dates = {"created_at": execution.created_at, "updated_at": execution.updated_at}
    links = {"video_url": execution.video_url, "logs_url": execution.logs_url}
    counts = {name: getattr(execution, name) for name in ("n_steps", "n_agent_actions", "duration_ms")}
    right = {
        **{name: is_usable(value) for name, value in uuids.items()},
        **{name: moment is None or is_believable(moment) for name, moment in dates.items()},
        **{name: link == "" or is_link(link) for name, link in links.items()},
        **{name: count is None or is_count(count) for name, count in counts.items()},
        "workflow_name": is_one_harmless_line(execution.workflow_name, 200),
        "fingerprint": re.fullmatch("([0-9a-f]{22})?", execution.fingerprint) is not None,
        "status": execution.status in list(Status),
    }
    return [name for name, holds in right.items() if not holds]


def is_usable(uuid: str) -> bool:
    return 0 < len(uuid) <= 200 and uuid.isprintable() and uuid not in (".", "..") and bool(uuid.encode())


def is_believable(moment: datetime) -> bool:
    bounds = EARLIEST_BELIEVABLE <= moment <= NOW + LATEST_BELIEVABLE_AHEAD
    return moment.utcoffset() == timedelta(0) and bounds


def is_link(link: str) -> bool:
    return link.isprintable() and len(link) <= 2000 and link.lower().startswith(("http://", "https://"))


def is_count(count: object) -> bool:
    return type(count) is int and 0 <= count < 2**53


@fuzz(300)
@given(executions | json_values)
def test_what_is_read_has_its_documented_shape(raw: Any) -> None:
    """Wrong types, huge numbers, escapes, surrogates, absurd dates: a field is lost, or the execution is."""
    execution = read_execution(parse_json(in_bytes(raw)), NOW)
    assert execution is None or flaws(execution) == []


@fuzz(200)
@given(bodies())
def test_bytes_are_read_or_refused(body: bytes) -> None:
    """The only way out besides a value is `NotJsonError`; and every value can be described in a line."""
    try:
        value = parse_json(body)
    except NotJsonError:
        return
    read_execution(value, NOW)
    assert is_one_harmless_line(shape_of(value), 600)


@fuzz(60)
@given(odd | deep)
@example(b"[" * 200_000 + b"]" * 200_000)
@example(b"[" * 990 + b"]" * 990)
@example(b'{"' + b"a" * 100 + b'":' + b"8" * 100_000 + b"}")
@example(b'"\\"[[[[[[{{\\\\"')
def test_one_odd_payload_does_not_hide_the_executions_beside_it(payload: bytes) -> None:
    """A payload is anybody's: it must not stop the reading of the list for everyone."""
    good = in_bytes(GOOD)
    one = b'{"execution_uuid": "odd", "workflow_version_uuid": "v-1", "input_payload": ' + payload + b"}"
    page = parse_json(b'{"items": [' + one + b", " + good + b"]}")["items"]
    read = [read_execution(item, NOW) for item in page]
    assert [each.uuid for each in read if each] == ["odd", "good"]


@fuzz(60)
@given(deep, st.integers(1, 40))
def test_a_payload_too_deep_to_read_never_tells_two_executions_apart(payload: bytes, levels: int) -> None:
    """Seen from the list and alone, at another depth: equal or absent, for a difference licenses a clone."""
    around = b'[{"items":' * levels, b"}]" * levels
    alone, listed = fingerprint_of_first(payload), fingerprint_of_first(payload, *around)
    assert alone == listed or "" in (alone, listed)


def fingerprint_of_first(payload: bytes, before: bytes = b"", after: bytes = b"") -> str:
    value = parse_json(before + b'{"input_payload": ' + payload + b"}" + after)
    while not (isinstance(value, dict) and "input_payload" in value):
        value = value[0]["items"]
    return fingerprint_of(value["input_payload"])


@fuzz(200)
@given(texts, st.integers(1, 60))
def test_cleaned_text_is_one_harmless_line(text: str, limit: int) -> None:
    """For every terminal, log and file; cleaning twice changes nothing."""
    clean = clean_text(text, limit)
    assert is_one_harmless_line(clean, limit)
    assert clean_text(clean, limit) == clean
    clean.encode()


@fuzz(300)
@given(headers, header_values)
def test_headers_of_time_are_bounded(given_headers: dict[str, str], retry_after: str) -> None:
    """No absurd `Retry-After` or `Date` rests the workers for a year or moves the clock by one."""
    sent = given_headers | {"retry-after": retry_after}
    assert SHORTEST_PAUSE <= pause_of(sent, NOW) <= LONGEST_PAUSE
    skew = skew_of(sent, NOW, NOW + timedelta(milliseconds=30))
    assert skew is None or abs(skew) <= LARGEST_SKEW
    moment = http_date(retry_after)
    assert moment is None or moment.utcoffset() == timedelta(0)
