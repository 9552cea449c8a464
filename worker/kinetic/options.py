"""How to reach one Kinetic deployment and how it lists executions: values, checked when built.

Knows nothing of environment variables: `worker.runtime` builds these from the settings. Messages
name the fields and never repeat the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import httpx

Pagination = Literal["offset", "page", "cursor", "none"]
Order = Literal["desc", "asc", "unknown"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Kinetic deployment and the patience we have with it.

    Attributes:
        base_url: http or https; may carry a path prefix and a trailing slash.
        api_key: sent as `X-Kinetic-Key`; left out of the repr.
        timeout: from the first byte sent to the last byte read; also bounds each read and write.
        connect_timeout: for the name look-up, TCP and TLS together. A retry must also get hold of a
            connection within it: so no retry call outlasts `connect_timeout + timeout`.
        max_connections: per worker process.

    Raises:
        ValueError: a value that could never work; the text does not show the key.
    """

    base_url: str
    api_key: str = field(repr=False)
    timeout: timedelta
    connect_timeout: timedelta
    max_connections: int

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as exc:
            raise ValueError("base_url is not a URL") from exc
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("base_url must begin with https:// or http:// and name a host")
        if url.query or url.fragment or url.userinfo:
            raise ValueError("base_url must not carry a query, a fragment, or a user name")
        # A line break in a header would be an injection, and h11's complaint would print the key.
        if not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable():
            raise ValueError("api_key must be printable ASCII and not empty")
        if self.api_key != self.api_key.strip():
            raise ValueError("api_key begins or ends with white space")
        if self.timeout <= timedelta(0) or self.connect_timeout <= timedelta(0):
            raise ValueError("timeout and connect_timeout must be longer than zero")
        if self.max_connections < 1:
            raise ValueError("max_connections must be at least 1")


@dataclass(frozen=True, slots=True)
class ListContract:
    """How this deployment lists executions: nothing of it is published, so all of it is settable.

    Attributes:
        path: below the base URL; may carry a fixed query.
        status_param: "" = the server has no such filter and is not asked to filter.
        pagination: how to ask for what follows; `page` counts from 1.
        limit_param: "" = the page size is not sent.
        next_field: where an answer names the next cursor, dots descend (`pagination.next`); a
            cursor or a full URL. Absent, null or empty there means the end.
        items_field: where an answer holds its items, dots descend; None = a bare array or one of
            `items`, `executions`, `data`, `results`.
        page_size: what is asked for; a server may send less.
        order: of creation, as the server sends it.
        since_param: takes an ISO 8601 time; "" = the server has none.

    Raises:
        ValueError: a name that the chosen pagination needs is empty, or a size below 1.
    """

    path: str = "/api/executions"
    status_param: str = "status"
    pagination: Pagination = "offset"
    limit_param: str = "limit"
    offset_param: str = "offset"
    page_param: str = "page"
    cursor_param: str = "cursor"
    next_field: str = "next_cursor"
    items_field: str | None = None
    page_size: int = 100
    order: Order = "desc"
    since_param: str = ""

    def __post_init__(self) -> None:
        if self.page_size < 1:
            raise ValueError("page_size must be at least 1")
        needed = {
            "offset": {"offset_param": self.offset_param},
            "page": {"page_param": self.page_param},
            "cursor": {"cursor_param": self.cursor_param, "next_field": self.next_field},
            "none": {},
        }[self.pagination]
        for name, value in needed.items():
            if not value:
                raise ValueError(f"{self.pagination} pagination needs {name}")
