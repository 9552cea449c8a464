"""Parses JSON from strangers so that one odd value costs that value, and not the page that it came on.

A payload is whatever somebody started a workflow with. Python's parser gives up the whole document over
nesting that exhausts the stack, an integer of thousands of digits, or bytes that are not UTF-8; in a list of
executions that would hide every failure beside the odd one. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 100
"""Levels that are kept of a document that is nested too deeply for the parser."""
LONGEST_INTEGER = 1_000
"""Digits. Longer ones are kept as text: as good for telling payloads apart, and no count has so many."""

_TOKENS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)
"""Strings as a whole, so that a bracket inside one does not count. Possessive: linear, whatever comes."""


class NotJsonError(ValueError):
    """The bytes are not JSON that we are willing to read."""


class TooDeep:
    """Stands for what was nested too deeply.

    It cannot be written out, so a payload that holds one has no fingerprint and matches any: from the list
    and alone the same payload may be cut at different places, and a difference would license a second clone.
    """

    def __str__(self) -> str:
        raise ValueError("nested too deeply to be read")

    def __repr__(self) -> str:
        return "TooDeep()"


def parse_json(body: bytes) -> Any:
    """Return the JSON value in `body`.

    Lone surrogates, NaN and Infinity are let through, as `json.loads` does. Bytes that are not UTF-8 become
    lone surrogates, which no uuid may hold and no name keeps.

    Raises:
        NotJsonError: it is none.
    """
    try:
        text = _decoded(body)
        try:
            return json.loads(text, parse_int=_integer)
        except RecursionError:
            return json.loads(_shallow(text), parse_int=_integer, parse_constant=lambda _: TooDeep())
    except (ValueError, RecursionError) as exc:  # ValueError covers JSON and encodings
        raise NotJsonError(type(exc).__name__) from exc


def _decoded(body: bytes) -> str:
    encoding = json.detect_encoding(body)
    return body.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "surrogatepass")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def _shallow(text: str) -> str:
    """Return JSON text with `NaN`, which is then read as `TooDeep`, for what is deeper than `DEEPEST`.

    A true NaN in the same document reads as `TooDeep` as well: that delays, and never doubles.
    """
    kept, start, depth = [], 0, 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                kept += [text[start : token.start()], "NaN"]
        elif first in "]}":
            if depth == DEEPEST + 1:
                start = token.end()
            depth -= 1
    return "".join([*kept, text[start:]] if depth <= DEEPEST else kept)
