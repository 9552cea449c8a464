"""GETs: one execution, the listing over real HTTP, the probe, and the errors they raise."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.contract.client_support import KEY, Script, Wire, answering, client_of, clone, serving
from worker.domain.executions import Status
from worker.kinetic import KineticError, NotFound, Page, Throttled, Unauthorized, Unreachable, Unreadable

HTML = b"<html>Sign in: PATIENT-4711</html>"


async def lost(wire: Wire) -> None:
    await wire.request()


async def half(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")


GET_ERRORS = [
    (answering(404, {"detail": "gone"}), NotFound, "not_found", "gone"),
    (answering(401), Unauthorized, "unauthorized", "KINETIC_API_KEY"),
    (answering(403), Unauthorized, "forbidden", "KINETIC_API_KEY"),
    (answering(429), Throttled, "rate_limited", ""),
    (answering(503), Throttled, "unavailable", ""),
    (answering(500), Unreachable, "http_500", ""),
    (answering(408), Unreachable, "http_408", ""),
    (answering(302, headers={"location": "/login"}), Unreadable, "redirected", "KINETIC_BASE_URL"),
    (answering(422, {"detail": "limit too large"}), Unreadable, "refused", "limit too large"),
    (answering(200, HTML, kind="text/html"), Unreadable, "unreadable_answer", "text/html"),
    (answering(200, b"{"), Unreadable, "unreadable_answer", "KINETIC_"),
    (answering(200, b"[" * 10**5), Unreadable, "unreadable_answer", "KINETIC_"),
    (lost, Unreachable, "connection_lost", ""),
    (half, Unreachable, "connection_lost", ""),
]


@pytest.mark.parametrize(("script", "kind", "reason", "hint"), GET_ERRORS)
@pytest.mark.parametrize("call", ["get", "probe", "pages"])
async def test_every_error_is_one_readable_line(
    script: Script, kind: type[KineticError], reason: str, hint: str, call: str
) -> None:
    """The class tells the engine what to do, the line tells a person, and neither tells a secret."""
    async with serving(script) as server, client_of(server.url) as client:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "get": lambda: client.get("e-1"),
            "probe": client.probe,
            "pages": lambda: anext(client.pages(status=None)),
        }
        with pytest.raises(KineticError) as caught:
            await calls[call]()
        error = caught.value
        assert type(error) is kind
        assert error.reason == reason
        line = str(error)
        assert hint in line
        assert ("e-1" if call == "get" else "list") in line
        assert "\n" not in line
        assert KEY not in line
        assert "PATIENT" not in line
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == line
        assert len(server.seen) == 1


async def test_nobody_there_is_unreachable() -> None:
    """The cause is kept for those who debug; the line does not need it."""
    async with client_of("http://nonexistent.invalid") as client:
        with pytest.raises(Unreachable) as caught:
            await client.get("e-1")
        assert caught.value.http_status is None
        assert caught.value.__cause__ is not None


async def test_get_reads_an_execution() -> None:
    """The documented GET, at the documented place."""
    async with (
        serving(answering(200, clone("e-1", status="failed"))) as server,
        client_of(server.url) as client,
    ):
        assert (await client.get("e-1")).status is Status.FAILED
        assert (server.seen[0].method, server.seen[0].target) == ("GET", "/api/executions/e-1")


async def test_an_answer_about_another_execution_is_not_believed() -> None:
    """A clone's verdict must not come from somebody else's run."""
    async with serving(answering(200, clone("e-2"))) as server, client_of(server.url) as client:
        with pytest.raises(Unreadable) as caught:
            await client.get("e-1")
        assert caught.value.reason == "another_execution"


async def test_an_unusable_uuid_is_not_found_without_a_call() -> None:
    """No path can name it."""
    async with serving(answering(200, clone())) as server, client_of(server.url) as client:
        with pytest.raises(NotFound):
            await client.get("..")
        assert server.connections == 0


async def test_a_throttled_get_carries_the_pause() -> None:
    """All calls rest as long as the server asked."""
    async with (
        serving(answering(429, headers={"retry-after": "30"})) as server,
        client_of(server.url) as client,
    ):
        with pytest.raises(Throttled) as caught:
            await client.probe()
        assert caught.value.pause == timedelta(seconds=30)


async def test_a_page_that_is_too_large_is_not_read_to_the_end() -> None:
    """Reading stops at the bound and the connection is closed."""
    async with serving(answering(200, bytes(40 * 2**20))) as server, client_of(server.url) as client:
        with pytest.raises(Unreadable) as caught:
            await client.probe()
        assert caught.value.reason == "answer_too_large"
        assert len(server.seen) == 1


async def collect(
    script: Script, *, status: Status | None = None, **listing: Any
) -> tuple[list[Page], list[str]]:
    async with serving(script) as server, client_of(server.url + "/v1", **listing) as client:
        pages = [page async for page in client.pages(status=status, since=datetime(2026, 1, 6, tzinfo=UTC))]
        return pages, [seen.target for seen in server.seen]


def listing_of(count: int, cap: int) -> Script:
    """A server with `count` executions, by offset, that never sends more than `cap`."""

    async def script(wire: Wire) -> None:
        while True:
            query = parse_qs(urlsplit((await wire.request()).target).query)
            start, size = int(query["offset"][0]), min(cap, int(query["limit"][0]))
            rows = [clone(f"e-{n}", status="failed") for n in range(count)][start : start + size]
            await wire.answer(200, {"items": rows})

    return script


async def test_a_listing_is_read_page_by_page() -> None:
    """A server that caps the page below what was asked for hides nothing."""
    pages, targets = await collect(listing_of(7, cap=3), status=Status.FAILED)
    assert [each.uuid for page in pages for each in page.executions] == [f"e-{n}" for n in range(7)]
    assert [page.received for page in pages] == [3, 3, 1, 0]
    assert [page.last for page in pages] == [False, False, False, True]
    assert targets[0] == "/v1/api/executions?status=failed&limit=100&offset=0"
    assert targets[1].endswith("&offset=3")


async def test_the_caller_stops_when_it_has_enough() -> None:
    """Pages are asked for one at a time: leaving early asks for no more."""
    async with serving(listing_of(1000, cap=10)) as server, client_of(server.url) as client:
        async for page in client.pages(status=None):
            assert page.received == 10
            break
        assert len(server.seen) == 1


async def test_since_is_sent_where_the_server_has_such_a_filter() -> None:
    """ISO 8601 in UTC, quoted."""
    _, targets = await collect(
        answering(200, []), since_param="created_after", limit_param="", status_param=""
    )
    assert targets == ["/v1/api/executions?created_after=2026-01-06T00%3A00%3A00Z&offset=0"]


async def test_a_path_of_its_own_with_a_query() -> None:
    """`KINETIC_LIST_PATH` may carry a fixed query; ours is appended."""
    _, targets = await collect(answering(200, []), path="api/runs?tenant=7", pagination="none")
    assert targets == ["/v1/api/runs?tenant=7&limit=100"]


async def test_a_404_after_the_first_page_is_the_end() -> None:
    """Some servers have no page beyond the last; a 404 on the first page is still an error."""

    async def script(wire: Wire) -> None:
        while True:
            first = "page=1" in (await wire.request()).target
            await wire.answer(200 if first else 404, [clone()] if first else {"detail": "Invalid page."})

    pages, targets = await collect(script, pagination="page")
    assert [(page.received, page.last) for page in pages] == [(1, False), (0, True)]
    assert len(targets) == 2


async def test_a_next_url_cannot_lead_the_key_to_another_host() -> None:
    """Of a cursor that is a URL only the query is used."""

    async def script(wire: Wire) -> None:
        while True:
            more = "after=9" not in (await wire.request()).target
            await wire.answer(
                200,
                {
                    "data": [clone("a" if more else "b")],
                    "next": "http://evil.invalid/x?after=9" if more else None,
                },
            )

    pages, targets = await collect(script, pagination="cursor", next_field="next")
    assert [each.uuid for page in pages for each in page.executions] == ["a", "b"]
    assert targets[1] == "/v1/api/executions?after=9"


async def test_the_probe_is_cheap() -> None:
    """One item is enough to know that the key works."""
    async with serving(answering(200, [])) as server, client_of(server.url) as client:
        await client.probe()
        assert server.seen[0].target == "/api/executions?limit=1&offset=0"
