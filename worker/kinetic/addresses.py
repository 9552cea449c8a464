"""Where a URL leads, as it is asked for, and by which proxy. Pure, but for the environment's proxies."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

_NO_HTTP_PROXY = "the environment names a proxy that is not one for HTTP"
_PLAIN = re.compile(r"(https?://[A-Za-z0-9.:\-\[\]]+)(/[A-Za-z0-9._~!$&'()*+,;=:@/%?\-]*)", re.ASCII)
"""A URL that stands on the wire as it is written; dots that could climb are seen to below."""


def wire_address(url: str) -> tuple[httpcore.URL, bytes]:
    """Return a URL as httpcore takes it, and the value of its `Host` header.

    >>> wire_address("http://127.0.0.1:8080/api/executions?limit=1")[1]
    b'127.0.0.1:8080'
    >>> wire_address("https://kinetic.example:443/a b#c")[0].target
    b'/a%20b'

    Raises:
        httpx.InvalidURL: it is none.
    """
    plain = _PLAIN.fullmatch(url)
    # Taking a URL apart and putting it together costs as much as sending it: the part that is always the
    # same is remembered.
    if plain and "/." not in url:
        at, host = _origin(plain.group(1))
        target = plain.group(2).encode()
        return httpcore.URL(scheme=at.scheme, host=at.host, port=at.port, target=target), host
    parsed = httpx.URL(url)
    at, host = _origin(f"{parsed.scheme}://{parsed.netloc.decode()}")
    return httpcore.URL(scheme=at.scheme, host=at.host, port=at.port, target=parsed.raw_path), host


@lru_cache(maxsize=64)
def _origin(text: str) -> tuple[httpcore.URL, bytes]:
    parsed = httpx.URL(text)
    return (
        httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=b"/"),
        parsed.netloc,
    )


def proxy_for(scheme: str, host: str) -> httpx.Proxy | None:
    """Return the proxy that the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) names.

    Raises:
        httpcore.ProxyError: it is not one for HTTP.
    """
    proxies = getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or proxy_bypass(host):
        return None
    try:
        proxy = httpx.Proxy(named if "://" in named else f"http://{named}")
    except (ValueError, httpx.InvalidURL) as exc:
        raise httpcore.ProxyError(_NO_HTTP_PROXY) from exc
    if proxy.url.scheme not in ("http", "https"):  # SOCKS would be sent our request, key included
        raise httpcore.ProxyError(_NO_HTTP_PROXY)
    return proxy
