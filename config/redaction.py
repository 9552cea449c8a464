"""Keeps secrets and terminal tricks out of everything that is shown: errors, `config` output, logs.

Owns what masked text looks like. Knows neither the settings nor the logging chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"

SHORTEST_SECRET = 4
"""Shorter values are left alone: replacing every "ab" would garble the lines and protect nothing."""

_NEXT_URL = re.compile(r";(?=[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_TELLING_OPTION = re.compile(r"([?&][^=&#]*(?:pass|secret|token|pwd|cred)[^=&#]*=)[^&#]*", re.IGNORECASE)


class Redactor:
    """Replaces known secret values in any text, as they are and as URLs and `repr` would spell them.

    It is the last line of defence: nothing is supposed to hand a secret to a log or an error.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            for spelling in (secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1])
            if len(secret) >= SHORTEST_SECRET
        }
        longest_first = sorted(spellings, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if spellings else None

    def __repr__(self) -> str:
        return "Redactor(***)"

    def text(self, text: str) -> str:
        """Return `text` with every known secret replaced by `***`."""
        return self._known.sub(MASK, text) if self._known else text

    def value(self, value: Any) -> Any:
        """Return `value`, made of JSON's types, with every string in it redacted: keys and elements too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        return value


def mask_url(url: str) -> str:
    """Return a URL that may be shown: passwords masked, whatever else is wrong with it.

    Everything up to the last `@` is taken for credentials, because an unescaped `/` or `@` in a
    password makes the parts of the URL unreliable. Text that is no URL is hidden whole.

    >>> mask_url("redis://:hunter2@host:6379/0"), mask_url("redis://app:p/w@rd@host"), mask_url("hunter2")
    ('redis://:***@host:6379/0', 'redis://app:***@host', '***')
    >>> mask_url("sentinel://:one@a:26379;sentinel://:two@b:26379?password=three&db=1")
    'sentinel://:***@a:26379;sentinel://:***@b:26379?password=***&db=1'
    """
    return ";".join(_mask_one(part) for part in _NEXT_URL.split(url))


def url_secrets(url: str) -> tuple[str, ...]:
    """Return the secret parts of a URL as written and as decoded, for a `Redactor`."""
    found: set[str] = set()
    for part in _NEXT_URL.split(url):
        credentials, at, _ = part.partition("://")[2].rpartition("@")
        if at:
            found.add(credentials.partition(":")[2])
        found.update(match[0].partition("=")[2] for match in _TELLING_OPTION.finditer(part))
    return tuple(sorted({form for secret in found for form in (secret, unquote(secret)) if form}))


def printable(text: str, *, keep: str = "") -> str:
    r"""Return `text` with control characters, terminal escapes, bidi marks and surrogates spelt out.

    >>> printable("a\x1b[31mb\n"), printable("one\ntwo", keep="\n")
    ('a\\x1b[31mb\\n', 'one\ntwo')
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


def clipped(text: str, limit: int) -> str:
    """Return `text`, cut with a note of its length when it is longer than `limit`.

    >>> clipped("abcdef", 6), clipped("abcdefg", 3)
    ('abcdef', 'abc… (7 characters)')
    """
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK
    credentials, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = credentials.partition(":")
        rest = f"{user}:{MASK}@{place}" if colon else f"{MASK}@{place}"
    return _TELLING_OPTION.sub(rf"\g<1>{MASK}", f"{scheme}://{rest}")
