"""Hostile data: texts, JSON, executions, listings and headers as nobody should send them.

`fuzz` gives a property its share of CI; `FUZZ_EXAMPLES=20000 pytest tests/fuzz` looks much longer, and at
random instead of at the same examples every time.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Test = TypeVar("Test", bound=Callable[..., Any])

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
LONGEST_S = 3600

FRAGMENTS = (
    *(
        "\x1b[31m",
        "\x1b[2J",
        "\x1b]0;title\x07",
        "\x1b]8;;https://evil.example\x1b\\",
        "\x9b2J",
        "\x1bc",
        "\x1b",
    ),
    *("\x00", "\x07", "\x08", "\x7f", "\x85", "\r", "\n", "\r\n", "\t", "\v", "\u2028", "\u2029"),
    *("\u202e", "\u2066", "\u2069", "\u200b", "\ufeff", "\U000e0041", "\xad", "\u061c"),
    *("\ud800", "\udfff", "\ufffd", "\uffff", "\U0010ffff", "e\u0301\u0301", "\U0001f98a"),
    *(
        "[bold red]",
        "[/]",
        "[link=https://evil.example]x[/link]",
        "\\",
        '"',
        "'",
        "{",
        "}",
        "%s",
        "%(x)s",
        "{0}",
    ),
    *("/", "..", "../", "%2f", "%2e%2e", "?", "#", "&", ";", "@", ":", " ", "-", "--help", "*", "$(id)"),
    *("<b>", "failed", "PATIENT", "0"),
)
"""What acts on terminals, logs, paths, URLs, formats and markup."""

texts: SearchStrategy[str] = (
    st.text(max_size=30)
    | st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
    | st.builds(lambda piece, times: piece * times, st.sampled_from(FRAGMENTS), st.integers(2, 5000))
)

numbers: SearchStrategy[Any] = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 2**53, 2**63, -(2**63), 10**400, float("nan"), float("inf"), -0.0, 5e-324])
)

json_values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

dates: SearchStrategy[Any] = st.datetimes().map(lambda moment: moment.isoformat()) | st.sampled_from(
    [
        *(
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59.999999-23:59",
            "2026-02-30T00:00:00Z",
            "2026-W01-1",
        ),
        *("20260101T000000Z", "2026-01-06T09:00:00", "-2026-01-01T00:00:00Z", "2026-01-06T09:00:00+99:99"),
    ]
)

uuids: SearchStrategy[Any] = (
    st.uuids().map(str)
    | st.sampled_from(["e-1", ".", "..", "a/b", "../x", "%2f", "a?b", "a#b", " ", "\\", "a\nb", "x" * 201])
    | texts
)

FIELDS: dict[str, SearchStrategy[Any]] = {
    "execution_uuid": uuids,
    "workflow_version_uuid": uuids,
    "workflow_uuid": uuids,
    "workflow_name": texts,
    "status": st.sampled_from(["failed", "FAILED ", "queued", "completed", "hibernating"]) | texts,
    "created_at": dates | texts,
    "updated_at": dates | texts,
    "input_payload": json_values,
    "video_url": texts | texts.map(lambda text: f"https://x/{text}"),
    "logs_url": texts | texts.map(lambda text: f"HTTP://x/{text}"),
    "n_steps": numbers,
    "n_agent_actions": numbers,
    "duration_ms": numbers,
}
_executions: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {name: FIELDS[name] for name in ("execution_uuid", "workflow_version_uuid")},
    optional={name: value | json_values for name, value in FIELDS.items() if not name.endswith("n_uuid")},
) | st.dictionaries(st.sampled_from(list(FIELDS)), json_values)
executions = st.deferred(lambda: _executions)
"""Objects with the fields of an execution. Deferred, or its repr alone would be 42 kB."""


def in_bytes(value: Any) -> bytes:
    """Return a value as JSON, NaN and lone surrogates included."""
    return json.dumps(value).encode()


def _nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    return opening * depth + b"null" + closing * depth


deep: SearchStrategy[bytes] = st.builds(
    lambda depth, brackets: _nested(depth, *brackets),
    st.integers(100, 20_000),
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]),
)
odd: SearchStrategy[bytes] = (
    deep
    | st.just(b"9").map(lambda digit: digit * 5000)
    | st.sampled_from([b"-1e999", b"NaN", b'"\xff\xfe"', b'"\xed\xa0\x80"'])
)
"""JSON values that a parser may refuse, and a page of good executions with them."""


@st.composite
def bodies(draw: st.DrawFn, values: SearchStrategy[Any] = executions) -> bytes:
    """Bodies: mostly JSON of `values`, some of it spoilt as servers, proxies and crashes spoil it."""
    body = in_bytes(draw(values))
    spoilt: dict[int, Callable[[], bytes]] = {
        0: lambda: draw(st.binary(max_size=60)),
        1: lambda: body[: draw(st.integers(0, len(body)))],
        2: lambda: body.decode().encode(draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]))),
        3: lambda: body.replace(b'"', b"\xff", 1),
        4: lambda: body.replace(b"{", b'{"execution_uuid": 7, "input_payload": ' + draw(odd) + b", ", 1),
        5: lambda: draw(odd),
    }
    return spoilt.get(draw(st.integers(0, 9)), lambda: body)()


header_values: SearchStrategy[str] = texts | st.sampled_from(
    [
        *("0", "-1", "1e9", "9" * 400, "99999999999", "NaN", "inf", "Infinity", "1.5", "\u0663", "0x10", ""),
        *("Wed, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Thu, 32 Foo 2026 99:99:99 GMT"),
        *(
            "Tue, 06 Jan 2026 10:00:00 +9999",
            "Tue, 06 Jan 99999 10:00:00 GMT",
            "6 Jan 2026",
            "Tue, 06 Jan 2026",
        ),
    ]
)
headers: SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(["retry-after", "date", "age", "content-type", "content-encoding", "location"]),
    header_values,
)


def fuzz(share: int) -> Callable[[Test], Test]:
    """Run a property on `share` examples, or on `FUZZ_EXAMPLES`."""
    chosen = settings(
        max_examples=EXAMPLES or share,
        deadline=None,
        derandomize=not EXAMPLES,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
            HealthCheck.function_scoped_fixture,
        ],
    )

    def decorate(test: Test) -> Test:
        test = chosen(test)
        return pytest.mark.timeout(LONGEST_S)(test) if EXAMPLES else test

    return decorate


def is_one_harmless_line(text: str, limit: int) -> bool:
    """Whether nothing in a text acts on a terminal or breaks a line, nor makes it longer than `limit`."""
    kinds = {unicodedata.category(char) for char in text}
    return len(text) <= limit and not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
