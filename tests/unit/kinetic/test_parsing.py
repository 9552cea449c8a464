"""JSON from strangers: one odd value costs that value, and not what came with it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from worker.domain.executions import fingerprint_of
from worker.kinetic.parsing import DEEPEST, LONGEST_INTEGER, NotJsonError, TooDeep, parse_json


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


@pytest.mark.parametrize("body", [b"[1, 2]", b'{"a": {"b": null}}', b'"x"', nested(300), b"\xef\xbb\xbf{}"])
def test_ordinary_json_is_read_as_it_is(body: bytes) -> None:
    """However deep, as long as the parser takes it."""
    assert not isinstance(parse_json(body), TooDeep)
    assert depth_of(parse_json(nested(300))) == 300


def test_what_is_too_deep_is_cut_and_the_rest_is_there() -> None:
    """Brackets inside strings do not count, escaped quotes do not end them."""
    body = b'{"deep": ' + nested(100_000) + b', "text": "\\"[[{{\\\\", "after": [[1]]}'
    value = parse_json(body)
    assert (value["text"], value["after"]) == ('"[[{{\\', [[1]])
    assert depth_of(value["deep"]) == DEEPEST - 1


def test_a_payload_that_was_cut_has_no_fingerprint() -> None:
    """Cut at another place it would be another one, and a difference licenses a second clone."""
    assert fingerprint_of(parse_json(b'{"case": 1, "more": ' + nested(100_000) + b"}")) == ""


@pytest.mark.parametrize("body", [nested(100_000)[:-1], b"[" * 100_000, b'{"a": ' + b"[" * 100_000 + b'"'])
def test_what_is_deep_and_broken_is_no_json(body: bytes) -> None:
    """A cut must not make it whole."""
    with pytest.raises(NotJsonError):
        parse_json(body)


def test_an_endless_integer_is_kept_as_text() -> None:
    """It tells payloads apart as well as a number would."""
    digits = "7" * (LONGEST_INTEGER + 1)
    assert parse_json(f'{{"a": {digits}, "b": {digits[1:]}}}'.encode()) == {"a": digits, "b": int(digits[1:])}


def test_bytes_that_are_no_utf_8_cost_their_text_alone() -> None:
    """They become lone surrogates, which no uuid may hold."""
    value = parse_json(b'{"a": "caf\xe9", "b": "caf\xc3\xa9"}')
    assert value == {"a": "caf\udce9", "b": "café"}


@pytest.mark.parametrize(
    "body", [b'["' + b"\\u0041" * 10**6 + b'", ' + nested(10**5) + b"x", b"[" * 10**6 + b'"' + b'\\"' * 10**6]
)
def test_megabytes_of_it_cost_little(body: bytes) -> None:
    """The cut is linear, and its memory bounded."""
    started = time.perf_counter()
    with pytest.raises(NotJsonError):
        parse_json(body)
    assert time.perf_counter() - started < 5
