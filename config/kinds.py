"""The kinds of value a variable can take: how each is read from text, and how that is put in words.

Owns single values; what several of them must be together is `config.checks`. A kind never reads the
environment. Validators raise `ValueError`; the person sees the kind's `Takes` instead of its text,
unless the validator raises `not_this` to be more exact.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from annotated_types import Ge, Le
from pydantic import AfterValidator, AllowInfNan, BeforeValidator, InstanceOf, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from config.durations import DurationRangeError, parse_duration
from config.problems import one_of, quoted
from config.zones import ZoneNameError, parse_zone
from worker.domain.spans import Span, parse_span, parse_time_of_day


@dataclass(frozen=True, slots=True)
class Takes:
    """What a value may be, in words that finish the sentence "takes …".

    Attributes:
        text: the words.
        blank: an empty value means something of its own; elsewhere it means "not set".
    """

    text: str
    blank: bool = False


NOT_THIS = "takes"
"""Type of the validation errors whose message replaces the kind's own words."""

_T = TypeVar("_T")


def not_this(takes: str) -> PydanticCustomError:
    """Return the error to raise when a value needs other words than its kind's `Takes`."""
    return PydanticCustomError(NOT_THIS, "{takes}", {"takes": takes})


def takes_of(field: FieldInfo) -> str:
    """Return what a field takes, from its `Takes`, its choices or its bounds."""
    kind = field.annotation
    low, high = _bound(field, Ge), _bound(field, Le)
    if takes := _takes(field):
        return takes.text
    if kind is bool:
        return "true or false"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return one_of(member.value for member in kind)
    if get_args(kind):
        return one_of(get_args(kind))
    if kind is int and low is not None and high is not None:
        return f"a whole number from {low.ge} to {high.le}"
    raise TypeError(f"no words for {kind}: give the field a Takes(…)")


def takes_blank(field: FieldInfo) -> bool:
    """Whether an empty value means something of its own, instead of "not set"."""
    takes = _takes(field)
    return takes is not None and takes.blank


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine, so that unencrypted HTTP stays inside it."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


# --- durations ---------------------------------------------------------------------------------------

_DURATION = "a duration such as 30s, 5m or 1h30m"


def _read_duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except DurationRangeError as exc:
        raise not_this(f"{_DURATION}; this one {exc}") from None


def _above_zero(duration: timedelta) -> timedelta:
    if duration <= timedelta(0):
        raise not_this(f"{_DURATION}, longer than zero")
    return duration


Duration = Annotated[timedelta, BeforeValidator(_read_duration), Takes(_DURATION)]
PositiveDuration = Annotated[Duration, AfterValidator(_above_zero)]


def _minutes_to_a_day(duration: timedelta) -> timedelta:
    if not timedelta(minutes=5) <= duration <= timedelta(hours=24):
        raise ValueError("out of range")
    return duration


Window = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    AfterValidator(_minutes_to_a_day),
    Takes("a duration from 5m to 24h"),
]

# --- the calendar ------------------------------------------------------------------------------------

MOST_SPANS = 50
"""In one value. Each is looked at whenever an attempt is due."""

_ZONE = "the IANA name of a time zone, such as America/New_York, Europe/London or UTC"
_SPANS = (
    "spans such as 22:00-06:00, mon-fri 08:00-18:00, sat,sun or fri 18:00-mon 08:00, separated by semicolons"
)
_USELESS = "a time of day such as 18:00, or a duration with its unit, such as 6h"


def _read_zone(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_zone(value)
    except ZoneNameError as exc:
        hint = f"; did you mean {one_of(exc.near)}?" if exc.near else ""
        raise not_this(f"{_ZONE}{hint}") from None


def _read_spans(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    texts = [text.strip() for text in value.split(";") if text.strip()]
    if len(texts) > MOST_SPANS:
        raise not_this(f"{_SPANS}; at most {MOST_SPANS}")
    return tuple(map(_read_span, texts))


def _read_span(text: str) -> Span:
    try:
        return parse_span(text)
    except ValueError as exc:
        raise not_this(f"{_SPANS}; {quoted(text)} {exc}") from None


def _read_useless_after(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if ":" in text:
        return parse_time_of_day(text)
    # A bare number is seconds elsewhere; here somebody may mean an hour of the day by 18.
    if text.replace(".", "", 1).isdecimal():
        raise ValueError("has no unit")
    return _above_zero(parse_duration(text)) if text else None


TimeZone = Annotated[InstanceOf[ZoneInfo], BeforeValidator(_read_zone), Takes(_ZONE)]
Spans = Annotated[tuple[InstanceOf[Span], ...], BeforeValidator(_read_spans), Takes(_SPANS, blank=True)]
UselessAfter = Annotated[
    time | timedelta | None, BeforeValidator(_read_useless_after), Takes(_USELESS, blank=True)
]

# --- choices and numbers -----------------------------------------------------------------------------


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


AnyCase = BeforeValidator(_lower)
"""Choices are written in lower case; people and their YAML write `Equal` and `JSON` as well."""

LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]
Multiplier = Annotated[
    float, AllowInfNan(allow_inf_nan=False), Ge(1), Takes("a number of at least 1, such as 2 or 4")
]
Attempts = Annotated[int, Ge(0), Le(1000)]
Count = Annotated[int, Ge(0), Le(1_000_000)]
Share = Annotated[
    float,
    AllowInfNan(allow_inf_nan=False),
    Ge(0),
    Le(1000),
    Takes("a number from 0 to 1000, such as 0.5 or 2"),
]


def _at_least_two(strikes: int) -> int:
    if strikes == 1:
        raise ValueError("a first failure is equal to none")
    return strikes


def _not_for_ever(rate: float) -> float:
    if 0 < rate < _SLOWEST_RATE:
        raise ValueError("less than a call in a quarter of an hour")
    return rate


Strikes = Annotated[
    int, Ge(0), Le(100), AfterValidator(_at_least_two), Takes("0, or a whole number from 2 to 100")
]
_SLOWEST_RATE = 0.001
Rate = Annotated[
    float,
    AllowInfNan(allow_inf_nan=False),
    Ge(0),
    Le(10_000),
    AfterValidator(_not_for_ever),
    Takes("0, or a number from 0.001 to 10000, such as 0.5 or 20"),
]

# --- names -------------------------------------------------------------------------------------------

_NAME = re.compile(r"[^\s&=?#]{1,100}")
_ADDRESS = re.compile(r"[0-9A-Za-z.-]{1,253}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{0,40}", re.ASCII)
_NAMESPACE = re.compile(r"[^\s{}:](?:[^\s{}]{0,98}[^\s{}:])?")


def _matching(pattern: re.Pattern[str], *, blank: bool = False) -> AfterValidator:
    def check(value: str | None) -> str | None:
        if value is None or (blank and not value) or (pattern.fullmatch(value) and value.isprintable()):
            return value
        raise ValueError("does not match")

    return AfterValidator(check)


ParameterName = Annotated[str, _matching(_NAME), Takes("the name of a query parameter")]
OptionalParameterName = Annotated[
    str,
    _matching(_NAME, blank=True),
    Takes("the name of a query parameter, or nothing when the server has none", blank=True),
]
_FIELD_PATH = Takes("the name of a JSON field; dots lead into objects, as in meta.next")
FieldPath = Annotated[str, _matching(_NAME), _FIELD_PATH]
OptionalFieldPath = Annotated[str | None, _matching(_NAME), _FIELD_PATH]
Namespace = Annotated[
    str,
    _matching(_NAMESPACE),
    Takes("up to 100 characters without spaces or braces, and without a colon at either end"),
]
ListenAddress = Annotated[
    str,
    _matching(_ADDRESS),
    Takes("an address of this machine, such as 127.0.0.1, 0.0.0.0 or ::, without a port"),
]
UrlPath = Annotated[
    str,
    _matching(re.compile(r"/[^\s?#]{0,499}")),
    Takes("a path such as /api/executions, without query or fragment"),
]
LogsPath = Annotated[
    str,
    _matching(re.compile(r"/[^\s?#{}]{0,300}\{execution_uuid\}[^\s?#{}]{0,300}")),
    Takes("a path such as /api/executions/{execution_uuid}/logs, with {execution_uuid} in it once"),
]
OptionalTomlFile = Annotated[Path | None, Takes("the path of a TOML file that can be read")]

# --- addresses and keys ------------------------------------------------------------------------------

SCHEMES = ("redis", "rediss", "unix", "sentinel")
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps")
"""What the broker library calls them: a socket file is `redis+socket://` there, not `unix://`."""


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; ValueError when they cannot be told apart or the port is none."""
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("white space or control characters")
    parts = urlsplit(url)
    _ = parts.port  # a port that is no number, or too large, shows itself only when it is asked for
    return parts


def _check_base_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not an address of ours")
    if "?" in url or "#" in url:
        raise ValueError("has a query or a fragment")
    return url


def _check_api_key(key: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", key.get_secret_value()):  # anything else breaks the header it is sent in
        raise ValueError("not usable in a header")
    return key


def _url_of(schemes: tuple[str, ...]) -> AfterValidator:
    def check(secret: SecretStr) -> SecretStr:
        url = secret.get_secret_value()
        scheme, separator, rest = url.partition("://")
        if scheme.lower() not in schemes or not separator or not rest:
            raise ValueError("another scheme")
        if scheme.lower() in ("redis", "rediss"):
            _check_redis_url(split_url(url))
        elif any(char.isspace() for char in url):
            raise ValueError("white space")
        return secret

    return AfterValidator(check)


def _check_redis_url(parts: SplitResult) -> None:
    if not parts.hostname:
        raise ValueError("no host")
    if not re.fullmatch(r"/?[0-9]*", parts.path):  # the client library would silently use database 0
        raise not_this("a database number after the host and port, as in redis://host:6379/0")


_HOST = re.compile(r"(?=.{1,253}(?::|$))[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*(?::[1-9][0-9]{0,4})?")
_BELOW = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*(?::[1-9][0-9]{0,4})?")
"""What may follow `*.`: at least two labels, or `*.com` would be half the internet; and no number."""


def _check_hosts(text: str) -> str:
    hosts = [host.strip().lower() for host in text.split(",")]
    for host in hosts:
        below = host.startswith("*.")
        if not (_BELOW if below else _HOST).fullmatch(host.removeprefix("*.")):
            raise ValueError("not a host name")
        _ = split_url(f"https://{host}").port
    return ",".join(hosts)


LogsHosts = Annotated[
    str,
    AfterValidator(_check_hosts),
    Takes("host names such as logs.example.com or *.example.com:8443, separated by commas"),
]
BaseUrl = Annotated[
    str,
    AfterValidator(_check_base_url),
    Takes("an address such as https://kinetic.example.com, without credentials, query or fragment"),
]
ApiKey = Annotated[
    SecretStr, AfterValidator(_check_api_key), Takes("the API key: printable ASCII characters without spaces")
]
RedisUrl = Annotated[
    SecretStr,
    _url_of(SCHEMES),
    Takes(f"an address such as redis://host:6379/0; the schemes are {one_of(SCHEMES)}"),
]
BrokerUrl = Annotated[
    SecretStr,
    _url_of(BROKER_SCHEMES),
    Takes(f"an address such as redis://host:6379/1; the schemes are {one_of(BROKER_SCHEMES)}"),
]


def _takes(field: FieldInfo) -> Takes | None:
    return next((entry for entry in field.metadata if isinstance(entry, Takes)), None)


def _bound(field: FieldInfo, kind: type[_T]) -> _T | None:
    return next((entry for entry in field.metadata if isinstance(entry, kind)), None)
