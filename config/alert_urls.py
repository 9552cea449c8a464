"""Addresses of people for `ALERT_URLS`: how a list of them is read, and what in them is secret.

Knows how such an address is spelt, not what any service makes of it: that is Apprise's.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, SecretStr

from config.kinds import Takes

_NEXT = re.compile(r"[,\s]+(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
"""A comma may be part of an address; one before a scheme is between two."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s]+", re.IGNORECASE)
_PARTS = re.compile(r"[/:@?&=#,;]+")
_DOMAIN = re.compile(r"localhost|[0-9.]+|(?:[a-z0-9-]+\.)+[a-z]{2,}", re.IGNORECASE)
_TELLING = 8
"""Shorter parts are names of channels and the like, unless they stand where a password does."""
_MOST = 20


def split_alert_urls(text: str) -> tuple[str, ...]:
    """Return the addresses of a list separated by white space or commas.

    >>> split_alert_urls("mailto://u:p@example.com?to=a,b, slack://A/B/C json://host/x")
    ('mailto://u:p@example.com?to=a,b', 'slack://A/B/C', 'json://host/x')
    """
    return tuple(filter(None, (part.strip(" ,\t\r\n") for part in _NEXT.split(text.strip()))))


def alert_secrets(text: str) -> tuple[str, ...]:
    """Return what must not be shown of a list of addresses: they as a whole, and parts that may be tokens.

    >>> alert_secrets("json://b:pw12@example.com/T0KENT0KEN/x")
    ('T0KENT0KEN', 'b:pw12@example.com/T0KENT0KEN/x', 'json://b:pw12@example.com/T0KENT0KEN/x', 'pw12')
    """
    found: set[str] = set()
    for url in split_alert_urls(text):
        rest = url.partition("://")[2]
        credentials, at, _ = rest.rpartition("@")
        password = credentials.partition(":")[2] if at else ""
        parts = [part for part in _PARTS.split(rest) if len(part) >= _TELLING and not _DOMAIN.fullmatch(part)]
        found.update((url, rest, password, *parts, *map(unquote, parts), unquote(password)))
    return tuple(sorted(found - {""}))


def _check(secret: SecretStr) -> SecretStr:
    urls = split_alert_urls(secret.get_secret_value())
    if len(urls) > _MOST or not all(_ADDRESS.fullmatch(url) for url in urls):
        raise ValueError("not a list of addresses")
    return secret


AlertUrls = Annotated[
    SecretStr,
    AfterValidator(_check),
    Takes(
        "addresses as Apprise spells them, such as mailto://user:password@example.com or "
        f"slack://…, at most {_MOST}, separated by white space or commas"
    ),
]


def _check_link(text: str) -> str:
    names = set(re.findall(r"\{([^{}]*)\}", text))
    if not re.fullmatch(r"https?://[^\s/]\S*", text) or not names <= {"execution_uuid", "workflow_uuid"}:
        raise ValueError("no link")
    return text


AlertLink = Annotated[
    str,
    AfterValidator(_check_link),
    Takes("an http or https address; {execution_uuid} and {workflow_uuid} in it are replaced"),
]
