"""What an answer means: a delivery for a retry call, an error or a body for a GET. Pure functions."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from worker.domain.delivery import Accepted, Conflict, Delivery, NotDelivered, Refused, Unclear
from worker.domain.text import clean_text
from worker.kinetic.errors import KineticError, NotFound, Throttled, Unauthorized, Unreachable, Unreadable
from worker.kinetic.exchange import Answer, Lost, http_date
from worker.kinetic.wire import NotJson, parse_json, read_execution

MAX_DETAIL_CHARS = 300
SHORTEST_PAUSE = timedelta(seconds=1)
DEFAULT_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)

_AUTH = {401: "unauthorized", 403: "forbidden"}
_BUSY = {429: "rate_limited", 503: "unavailable"}
_WORDS = {
    "connect_error": "nothing answers at KINETIC_BASE_URL",
    "connect_timeout": "no connection within KINETIC_CONNECT_TIMEOUT",
    "dns_error": "the host of KINETIC_BASE_URL has no address",
    "tls_error": "the certificate or TLS of KINETIC_BASE_URL was not accepted",
    "pool_timeout": "all KINETIC_MAX_CONNECTIONS connections were busy",
    "read_timeout": "no answer within KINETIC_TIMEOUT",
    "write_timeout": "the request was not taken within KINETIC_TIMEOUT",
    "timeout": "no complete answer within KINETIC_CONNECT_TIMEOUT + KINETIC_TIMEOUT",
    "connection_lost": "the connection ended without an answer",
    "write_error": "the connection broke while the request was sent",
}


def delivery_of(answer: Answer, now: datetime) -> Delivery:  # noqa: PLR0911  # a row of the table each
    """Return what became of a retry call that was answered.

    Where a status does not say for certain that nothing was done, the call is unclear.
    """
    status = answer.status
    if 200 <= status < 300:
        return _accepted(answer, now)
    if status in _AUTH:
        return NotDelivered(_AUTH[status], detail_of(answer), status, suspend=True)
    if status in _BUSY:
        return NotDelivered(_BUSY[status], detail_of(answer), status, pause=pause_of(answer, now))
    if status in (307, 308):  # says: send the same request elsewhere
        return NotDelivered("redirected", "the API redirects: check KINETIC_BASE_URL", status)
    if status == 425:
        return NotDelivered("too_early", detail_of(answer), status)
    if status == 404:
        return Refused("not_found", detail_of(answer), status)
    if status == 409:
        return Conflict(detail_of(answer), status)
    if status == 422:
        return Refused("validation_error", detail_of(answer), status)
    if 400 <= status < 500 and status != 408:
        return Refused("refused", detail_of(answer), status)
    return Unclear(f"http_{status}", detail_of(answer), status)


def delivery_of_lost(lost: Lost) -> Delivery:
    """Return what became of a retry call that was not answered."""
    words = _WORDS.get(lost.reason, "")
    return Unclear(lost.reason, words) if lost.sent else NotDelivered(lost.reason, words)


def error_of_lost(lost: Lost) -> KineticError:
    """Return the error of a GET that was not answered."""
    return Unreachable(lost.reason, _WORDS.get(lost.reason, ""))


def body_of(answer: Answer, now: datetime, setting: str) -> Any:
    """Return the JSON of a GET's answer.

    `setting` is the variable to look at when the answer is not what was asked for.

    Raises:
        KineticError: of the class that the status means; `Unreadable` for a body that is not JSON.
    """
    status = answer.status
    if status == 404:
        raise NotFound("not_found", detail_of(answer) or f"404: check {setting}", status)
    if status in _AUTH:
        raise Unauthorized(_AUTH[status], detail_of(answer), status)
    if status in _BUSY:
        raise Throttled(_BUSY[status], detail_of(answer), status, pause_of(answer, now))
    if status >= 500 or status == 408:
        raise Unreachable(f"http_{status}", detail_of(answer), status)
    if not 200 <= status < 300:
        raise Unreadable(f"http_{status}", f"{detail_of(answer)} (check {setting})".strip(), status)
    if answer.body is None:
        if answer.cut == "answer_too_large":
            raise Unreadable(answer.cut, f"the answer was too large (check {setting})", status)
        raise Unreachable(answer.cut, "the answer broke off", status)
    try:
        return parse_json(answer.body)
    except NotJson as exc:
        raise Unreadable(
            "not_json", f"{_kind(answer)} came instead of JSON: check {setting}", status
        ) from exc


def pause_of(answer: Answer, now: datetime) -> timedelta:
    """Return how long a 429 or 503 asks everybody to rest, between a second and an hour.

    `Retry-After` is a number of seconds or an HTTP date, which is read against the answer's own clock.
    What cannot be meant (a negative or endless number, prose) is the default.
    """
    asked = answer.headers.get("retry-after", "").strip()[:100]
    until = http_date(asked)
    if until:
        pause = until - (answer.served_at or now)
    else:
        try:
            seconds = float(asked)
        except ValueError:
            return DEFAULT_PAUSE
        if not math.isfinite(seconds) or seconds < 0:
            return DEFAULT_PAUSE
        pause = timedelta(seconds=min(seconds, LONGEST_PAUSE.total_seconds()))
    return min(max(pause, SHORTEST_PAUSE), LONGEST_PAUSE)


def detail_of(answer: Answer) -> str:
    """Return the API's own explanation as one clean, bounded line; "" when it gave none.

    Of a validation error only place, message and type are taken: its `input` may hold a payload.
    """
    try:
        said = parse_json(answer.body or b"")
    except NotJson:
        return f"{_kind(answer)} came instead of JSON" if answer.body else ""
    detail = said.get("detail") if isinstance(said, dict) else None
    if isinstance(detail, list):
        detail = "; ".join(_problem(each) for each in detail[:5] if isinstance(each, dict))
    return clean_text(detail, MAX_DETAIL_CHARS)


def _problem(problem: dict[str, Any]) -> str:
    loc = problem.get("loc")
    place = ".".join(clean_text(str(step)[:50], 50) for step in loc[:8]) if isinstance(loc, list) else ""
    message, kind = clean_text(problem.get("msg"), 100), clean_text(problem.get("type"), 50)
    return f"{place}: {message} ({kind})"


def _accepted(answer: Answer, now: datetime) -> Delivery:
    if answer.body is None:
        words = "Kinetic accepted the retry, but its answer was not complete"
        return Unclear(answer.cut or "connection_lost", words, answer.status)
    try:
        clone = read_execution(parse_json(answer.body), now)
    except NotJson:
        clone = None
    if clone is None:
        words = f"Kinetic accepted the retry, but its answer names no execution ({_kind(answer)})"
        return Unclear("unreadable_answer", words, answer.status)
    return Accepted(clone)


def _kind(answer: Answer) -> str:
    return clean_text(answer.headers.get("content-type", ""), 60) or "an answer without a content type"
