"""Which addresses a log may be read from. Pure: an address in, a checked one or a refusal out.

A `logs_url` is untrusted, and whoever can write one could otherwise make the worker ask addresses that only
the worker reaches: a cloud's metadata service, a database on the loopback, a neighbour in the same network.
So nothing is looked for that is bad; what is allowed is listed, and everything else is refused. Addresses are
taken apart by `httpx.URL` alone, because that is what is sent: two parsers that disagree are the classic
hole.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx

from worker.domain.text import clean_text

MAX_URL_CHARS = 8_000
_DEFAULT_PORTS = {"https": 443, "http": 80}
_ENTRY = re.compile(r"(\*\.)?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::([1-9][0-9]{0,4}))?")


class RefusedPlaceError(Exception):
    """The address is not one that logs may be read from. `str()` says why, without its path or query."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what has to be equal for two addresses to be of one server."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin | None:
        """Return the origin of an http(s) address; None for others."""
        # The raw host: decoding an internationalised one can raise, and is not what is connected to.
        host = url.raw_host.decode("ascii", "replace").lower()
        if url.scheme not in _DEFAULT_PORTS or not host:
            return None
        port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
        return cls(url.scheme, host, port)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, so that unencrypted HTTP stays inside it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """One entry of `KINETIC_LOGS_HOSTS`.

    Attributes:
        name: as in addresses, lower case; with `any_below` the end that the names share.
        any_below: whether it was written `*.name`: every name below it, but not itself.
        port: None for the scheme's own.
    """

    name: str
    any_below: bool
    port: int | None

    @classmethod
    def read(cls, text: str) -> AllowedHost:
        """Return the entry that a text stands for: `name`, `*.name`, either with `:port`.

        Raises:
            ValueError: it is none; `*.com` is none either, nor is a pattern for addresses by number.
        """
        entry = _ENTRY.fullmatch(text.lower())
        if not entry:
            raise ValueError("not a host name")
        below, name, port = entry.groups()
        if below and ("." not in name or name.rpartition(".")[2].isdigit()):
            raise ValueError("a pattern that is too wide")
        return cls(name, bool(below), int(port) if port else None)

    def matches(self, origin: Origin) -> bool:
        """Whether it allows that server: encrypted, or on this machine."""
        named = origin.host.endswith(f".{self.name}") if self.any_below else origin.host == self.name
        port = _DEFAULT_PORTS[origin.scheme] if self.port is None else self.port
        return named and origin.port == port and (origin.scheme == "https" or origin.is_loopback)


class LogPlaces:
    """The places that logs may be read from: the API's own origin, and the hosts that were named.

    Args:
        base_url: of the API. Only its own scheme, host and port count as its own.
        hosts: entries of `KINETIC_LOGS_HOSTS`.

    Raises:
        ValueError: an entry is none.
    """

    def __init__(self, base_url: str, hosts: Iterable[str] = ()) -> None:
        self._own = Origin.of(httpx.URL(base_url))
        self._allowed = tuple(AllowedHost.read(host) for host in hosts)

    def check(self, address: str, relative_to: httpx.URL | None = None) -> httpx.URL:
        """Return the address to ask.

        Args:
            address: untrusted.
            relative_to: where a redirect came from; None where a full address is needed.

        Raises:
            RefusedPlaceError: it must not be asked.
        """
        if len(address) > MAX_URL_CHARS or "\\" in address:
            raise RefusedPlaceError("not a usable address")
        try:
            url = relative_to.join(address) if relative_to else httpx.URL(address)
            origin = Origin.of(url)
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise RefusedPlaceError("not a usable address") from exc
        if origin is None:
            raise RefusedPlaceError("not an http or https address")
        if url.userinfo:
            raise RefusedPlaceError("it carries credentials")
        if origin != self._own and not any(each.matches(origin) for each in self._allowed):
            shown = clean_text(f"{origin.scheme}://{origin.host}:{origin.port}", 120)
            raise RefusedPlaceError(f"{shown} is neither the API's own nor allowed by KINETIC_LOGS_HOSTS")
        return url

    def is_own(self, url: httpx.URL) -> bool:
        """Whether an address is of the API's own origin, the only one that may see the key."""
        return self._own is not None and Origin.of(url) == self._own
