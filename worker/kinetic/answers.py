"""What an answer means: as a `Delivery` for a retry call, as an error for a GET. Pure.

Owns the table from status to meaning. Explanations are taken from answers only in bounded, cleaned
pieces: a validation error's place, message and type, never its input; of free text only what comes
before the first brace, bracket or quote, for services like to quote what they were given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from httpx import codes

from worker.domain.delivery import Accepted, Conflict, Delivery, NotDelivered, Refused, Unclear
from worker.domain.text import clean_text
from worker.kinetic.errors import NotFound, Throttled, Unauthorized, Unreachable, Unreadable
from worker.kinetic.exchange import REASONS, Answer, NoAnswerError
from worker.kinetic.headers import pause_of
from worker.kinetic.parsing import NotJsonError, parse_json
from worker.kinetic.wire import read_execution, shape_of

MAX_DETAIL_CHARS = 400
_SHOWN_PROBLEMS = 5
_SHORTEST_KEY = 8
"""Shorter keys exist in tests only, and blotting them out would garble words."""
_TURNED_AWAY: dict[int, str] = {
    codes.TEMPORARY_REDIRECT: "redirected",
    codes.PERMANENT_REDIRECT: "redirected",
    codes.TOO_EARLY: "too_early",
}
_RATE: dict[int, str] = {codes.TOO_MANY_REQUESTS: "rate_limited", codes.SERVICE_UNAVAILABLE: "unavailable"}
_KEY: dict[int, str] = {codes.UNAUTHORIZED: "unauthorized", codes.FORBIDDEN: "forbidden"}
_REFUSALS: dict[int, str] = {codes.NOT_FOUND: "not_found", codes.UNPROCESSABLE_ENTITY: "validation_error"}
_KEY_CURE = "Kinetic turned the key down; check KINETIC_API_KEY and its permissions"
_URL_CURE = "check KINETIC_BASE_URL"
_UNREADABLE_BODY = frozenset({"unknown_encoding", "broken_encoding"})


_QUOTING = re.compile(r"""[{\["`]|(?<!\w)'""")


def delivery_of(answer: Answer, *, now: datetime, secret: str) -> Delivery:
    """Return what the answer to a retry call says about the clone.

    A status that settles it does so even when the body was lost.

    Args:
        answer: to the POST.
        now: by the API's clock, to judge the clone's dates.
        secret: the API key, blotted out of explanations.
    """
    if codes.is_success(answer.status):
        return _clone_of(answer, now)
    return _turned_away(answer, now, secret) or _settled_or_unclear(answer, secret)


def delivery_without_answer(failure: NoAnswerError) -> NotDelivered | Unclear:
    """Return what it means for the clone that no answer came."""
    if failure.sent:
        return Unclear(failure.reason, f"{failure}; whether Kinetic made a clone is not known")
    return NotDelivered(failure.reason, f"{failure}; nothing was sent")


def raise_unless_ok(answer: Answer, *, subject: str, settings: str, now: datetime, secret: str) -> None:
    """Return when a GET succeeded and its body is whole.

    Args:
        answer: to the GET.
        subject: what was asked for, e.g. `execution 123`; begins each error's detail.
        settings: the variables to look at when the answer makes no sense.
        now: by the API's clock.
        secret: the API key, blotted out of explanations.

    Raises:
        NotFound, Unauthorized, Throttled, Unreachable, Unreadable: see `worker.kinetic.errors`.
    """
    status = answer.status
    if codes.is_success(status):
        _raise_if_lost(answer, subject, settings)
        return
    if status in _KEY:
        raise Unauthorized(_KEY[status], f"{subject}: {_KEY_CURE}", status)
    if codes.is_redirect(status):
        raise Unreadable("redirected", f"{subject}: Kinetic points elsewhere; {_URL_CURE}", status)
    said = f"{subject}: {explanation(answer, secret)}"
    if status == codes.NOT_FOUND:
        raise NotFound("not_found", f"{said}; if it should be there, check {settings}", status)
    if status in _RATE:
        raise Throttled(_RATE[status], said, status, pause_of(answer.headers, now))
    if codes.is_client_error(status) and status not in (codes.REQUEST_TIMEOUT, codes.TOO_EARLY):
        raise Unreadable("refused", f"{said}; check {settings}", status)
    raise Unreachable(f"http_{status}", said, status)


def json_of(answer: Answer, *, subject: str, settings: str) -> Any:
    """Return the JSON of a successful GET.

    Raises:
        Unreadable: it is none.
    """
    try:
        return parse_json(answer.body)
    except NotJsonError as exc:
        detail = f"{subject}: expected JSON, got {what_came(answer)}; check {settings}"
        raise Unreadable("unreadable_answer", detail, answer.status) from exc


def what_came(answer: Answer) -> str:
    """Describe a body without quoting it: its declared type, its size, the names at its top."""
    declared = clean_text(answer.headers.get("content-type"), 80) or "an unnamed type"
    try:
        return f"{shape_of(parse_json(answer.body))} ({declared})"
    except NotJsonError:
        return f"{len(answer.body)} bytes of {declared}"


def explanation(answer: Answer, secret: str) -> str:
    """Return the API's own words about an error, on one line; else a description of what came."""
    if answer.lost:
        return REASONS[answer.lost]
    blot = _blotter(secret)
    try:
        said = _words(parse_json(answer.body), blot)
    except NotJsonError:
        said = ""
    # Once more: cleaning can join what was written with invisible characters in between.
    return blot(clean_text(said, MAX_DETAIL_CHARS)) or f"it answered {what_came(answer)}"


def without_key(answer: Answer, secret: str) -> Answer:
    """Return the answer with the key blotted out, for some servers echo what they were sent."""
    blot = _blotter(secret)
    headers = {name: blot(value) for name, value in answer.headers.items()}
    body = answer.body if len(secret) < _SHORTEST_KEY else answer.body.replace(secret.encode(), b"[key]")
    return replace(answer, headers=headers, body=body)


def _blotter(secret: str) -> Callable[[str], str]:
    """Return what blots the key out of text. To be used before a cut, which could leave half of it."""
    if len(secret) < _SHORTEST_KEY:
        return lambda text: text
    return lambda text: text.replace(secret, "[key]")


def _raise_if_lost(answer: Answer, subject: str, settings: str) -> None:
    if not answer.lost:
        return
    detail = f"{subject}: {REASONS[answer.lost]}"
    if answer.lost in _UNREADABLE_BODY or answer.lost == "answer_too_large":
        raise Unreadable(answer.lost, f"{detail}; check {settings}", answer.status)
    raise Unreachable(answer.lost, detail, answer.status)


def _clone_of(answer: Answer, now: datetime) -> Accepted | Unclear:
    if answer.lost and answer.lost not in _UNREADABLE_BODY:
        return Unclear(answer.lost, f"Kinetic accepted the retry, but {REASONS[answer.lost]}", answer.status)
    try:
        clone = read_execution(parse_json(answer.body), now)
    except NotJsonError:
        clone = None
    if clone is not None:
        return Accepted(clone)
    detail = f"Kinetic accepted the retry, but its answer names no clone: {what_came(answer)}; {_URL_CURE}"
    return Unclear("unreadable_answer", detail, answer.status)


def _turned_away(answer: Answer, now: datetime, secret: str) -> NotDelivered | None:
    """Return the statuses that a server sends before it has done anything."""
    status = answer.status
    if status in _KEY:
        return NotDelivered(_KEY[status], _KEY_CURE, status, suspend=True)
    said = explanation(answer, secret)
    if status in _RATE:
        return NotDelivered(_RATE[status], said, status, pause=pause_of(answer.headers, now))
    if status in _TURNED_AWAY:
        cure = f"Kinetic asks to send it elsewhere; {_URL_CURE}" if codes.is_redirect(status) else said
        return NotDelivered(_TURNED_AWAY[status], cure, status)
    return None


def _settled_or_unclear(answer: Answer, secret: str) -> Conflict | Refused | Unclear:
    status, said = answer.status, explanation(answer, secret)
    if status == codes.CONFLICT:
        return Conflict(said)
    if codes.is_client_error(status) and status != codes.REQUEST_TIMEOUT:
        return Refused(_REFUSALS.get(status, "refused"), said, status)
    return Unclear(f"http_{status}", said, status)


def _words(value: object, blot: Callable[[str], str]) -> str:
    if not isinstance(value, dict):
        return ""
    detail = value.get("detail")
    if isinstance(detail, list):
        return _problems(detail, blot)
    nested = value.get("error")
    candidates = (
        detail,
        value.get("message"),
        nested,
        nested.get("message") if isinstance(nested, dict) else None,
    )
    return next((_text(_before_quotes(blot(each))) for each in candidates if isinstance(each, str)), "")


def _before_quotes(text: str) -> str:
    """Return free text up to where it may begin to quote a payload.

    >>> _before_quotes('cannot start with input {"patient": "J"}'), _before_quotes("it can't")
    ('cannot start with input', "it can't")
    """
    return _QUOTING.split(text, maxsplit=1)[0].strip()


def _problems(items: list[Any], blot: Callable[[str], str]) -> str:
    """Return a validation error's problems: `body.n_steps: Field required (missing)`."""
    lines = []
    for item in items[:_SHOWN_PROBLEMS]:
        if isinstance(item, dict):
            loc = item.get("loc")
            places = loc if isinstance(loc, list) else []
            place = ".".join(_text(blot(str(each))) for each in places[:8] if isinstance(each, str | int))
            message, kind = (
                _text(blot(said)) if isinstance(said := item.get(name), str) else ""
                for name in ("msg", "type")
            )
            line = ": ".join(part for part in (place, message) if part)
            lines.append(f"{line} ({kind})" if kind else line)
    more = len(items) - _SHOWN_PROBLEMS
    return "; ".join(line for line in lines if line) + (f"; and {more} more" if more > 0 else "")


def _text(value: str) -> str:
    return clean_text(value, 200)
