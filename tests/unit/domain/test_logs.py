"""Log rules: which counts, and what becomes of a log's bytes before it is searched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.logs import LogRule, Then, first_match, log_text


def rule(pattern: str, then: Then = Then.STOP) -> LogRule:
    return LogRule(pattern, re.compile(pattern, re.IGNORECASE | re.MULTILINE), then)


CREDENTIALS, TIMEOUT, ANY_ERROR = (
    rule("invalid credentials", Then.HOLD),
    rule("timeout$", Then.RETRY),
    rule("^error"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INFO\nERROR login: invalid credentials\nERROR", CREDENTIALS),
        ("ERROR Timeout\nERROR invalid credentials\n", CREDENTIALS),
        ("ERROR timeout\nmore\n", TIMEOUT),
        ("ERROR timeout of 3 s\n", ANY_ERROR),
        ("INFO no error here\n", None),
        ("", None),
    ],
)
def test_the_first_rule_in_order_counts(text: str, expected: LogRule | None) -> None:
    """The order of the rules decides, wherever in the log their lines stand."""
    assert first_match((CREDENTIALS, TIMEOUT, ANY_ERROR), text) is expected


def test_no_rules_match_nothing() -> None:
    """Without rules a log says nothing."""
    assert first_match((), "ERROR") is None


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"one\r\ntwo\rthree\n", ["one", "two", "three", ""]),
        (b"caf\xe9 \xff\n", ["caf\ufffd \ufffd", ""]),
        ("\ufeffone\n".encode(), ["one", ""]),
        (b'["one\\ntwo", "three"]', ['["one', 'two", "three"]']),
        (b'{"log": "one\\r\\ntwo"}\n', ['{"log": "one', 'two"}', ""]),
        (b'{"a": "one\\ntwo"}\n{"a": "x"}\n', ['{"a": "one\\ntwo"}', '{"a": "x"}', ""]),
        (b"", [""]),
    ],
)
def test_lines(body: bytes, lines: list[str]) -> None:
    """Any line end is one, bytes that are no text do not hide the rest, one JSON text is split inside."""
    assert log_text(body, cut=False).split("\n") == lines


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"ogin failed\nERROR late\n", "ERROR late\n"),
        (b'ogin\\nERROR late"}', 'ERROR late"}'),
        (b"all of one line", "all of one line"),
        (b"all of one line\n", "all of one line\n"),
        (b"\xa9 half a letter\nwhole\n", "whole\n"),
    ],
)
def test_what_a_cut_left_of_a_line_is_dropped(body: bytes, text: str) -> None:
    """`^login` must not match where `nologin` was cut; but a log of one line is not thrown away."""
    assert log_text(body, cut=True) == text


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_can_be_read(body: bytes, cut: bool) -> None:
    """Whatever a log holds becomes text that can be encoded again, never an error."""
    text = log_text(body, cut=cut)
    assert "\r" not in text
    text.encode()
