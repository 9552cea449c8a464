"""Reading logs over real HTTP: who is asked, who sees the key, how much is read, and what never gets out."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from tests.contract.client_support import KEY, Script, Wire, answering, client_of, serving, utc_now
from tests.support.simulation import start_simulator
from worker.domain.executions import Execution, Status
from worker.kinetic import Endpoint, logs
from worker.kinetic.logs import MAX_LOG_BYTES, TAIL_BYTES, LogReader, LogSource

LINE = b"2026-01-06 ERROR login failed: invalid credentials\n"
SIGNED = "?signature=SIGNED-4711"
GZIP = {"content-encoding": "gzip"}
TEXT: dict[str, Any] = {"kind": "text/plain"}


def failed(logs_url: str = "", uuid: str = "e-1") -> Execution:
    return Execution(uuid, "v-1", Status.FAILED, logs_url=logs_url)


@dataclass
class Reading:
    """A reader and what it told."""

    reader: LogReader
    told: list[tuple[str, str]] = field(default_factory=list)

    async def tail(self, logs_url: str = "", uuid: str = "e-1") -> str | None:
        return await self.reader.tail(failed(logs_url, uuid))

    @property
    def reason(self) -> str:
        """Why the one log that was asked for was not read; shows nothing of an address or a log."""
        ((uuid, reason),) = self.told
        assert uuid == "e-1"
        assert reason.isprintable()
        assert "4711" not in reason
        assert KEY not in reason
        return reason


@asynccontextmanager
async def reading(base: str, mode: Any = "url", **source: Any) -> AsyncIterator[Reading]:
    endpoint = Endpoint(base, KEY, timedelta(seconds=5), timedelta(seconds=2), 10)
    told: list[tuple[str, str]] = []
    reader = LogReader(
        endpoint,
        LogSource(mode, **source),
        now=utc_now,
        tell=lambda execution, reason: told.append((execution, reason)),
    )
    # The machine's own proxy, where there is one, must not stand between a test and its server.
    with patch.dict(os.environ, {"no_proxy": "127.0.0.1"}):
        yield Reading(reader, told)
    await reader.aclose()


def to(location: str, status: int = 302) -> Script:
    return answering(status, b"", headers={"location": location})


def in_turn(*answers: tuple[int, bytes, dict[str, str]]) -> Script:
    """Answer each request with the next, on however many connections they come."""
    left = list(answers)

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            status, body, headers = left.pop(0)
            await wire.answer(status, body, headers=headers, kind="text/plain")

    return script


async def test_the_apis_own_log_is_read_with_the_key_and_only_its_end_is_asked_for() -> None:
    """`logs_url` at the API's own origin: one GET, with the key and a range."""
    async with serving(answering(200, LINE, **TEXT)) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/logs/e-1{SIGNED}") == LINE.decode()
        (seen,) = api.seen
        assert (seen.method, seen.target) == ("GET", f"/logs/e-1{SIGNED}")
        assert seen.headers["x-kinetic-key"] == KEY
        assert seen.headers["range"] == f"bytes=-{TAIL_BYTES}"
        assert it.told == []


async def test_a_path_is_asked_for_below_the_base_url() -> None:
    """`path`: the uuid is put where it belongs and cannot leave its segment."""
    async with (
        serving(answering(200, LINE, **TEXT)) as api,
        reading(f"{api.url}/kinetic/", "path", path="/v2/{execution_uuid}/log.txt") as it,
    ):
        assert await it.tail(f"http://127.0.0.1:1/{SIGNED}", uuid="a/../b?c") == LINE.decode()
        (seen,) = api.seen
        assert seen.target == "/kinetic/v2/a%2F..%2Fb%3Fc/log.txt"
        assert seen.headers["x-kinetic-key"] == KEY


@pytest.mark.parametrize("mode", ["url", "path"])
async def test_an_execution_without_a_place_for_its_log(mode: str) -> None:
    """Nobody is asked when there is nothing to ask for."""
    async with serving(answering(200, LINE)) as api, reading(api.url, mode) as it:
        assert await it.reader.tail(failed(uuid="e-1" if mode == "url" else "..")) is None
        assert len(it.told) == 1
        assert api.connections == 0


async def test_another_host_that_is_allowed_never_sees_the_key() -> None:
    """A log store is asked without it."""
    async with serving(answering(200, LINE, **TEXT)) as store, serving(answering(500)) as api:
        async with reading(api.url, hosts=(f"127.0.0.1:{store.port}",)) as it:
            assert await it.tail(f"{store.url}/log{SIGNED}") == LINE.decode()
        (seen,) = store.seen
        assert "x-kinetic-key" not in seen.headers
        assert KEY not in str(seen)
        assert api.connections == 0


async def test_another_host_that_is_not_allowed_is_not_even_connected_to() -> None:
    """The same machine on another port is another host: what listens there may be a database."""
    async with serving(answering(200, LINE, **TEXT)) as other, serving(answering(500)) as api:
        async with reading(api.url) as it:
            assert await it.tail(f"{other.url}/log{SIGNED}") is None
            assert "KINETIC_LOGS_HOSTS" in it.reason
        assert (other.connections, api.connections) == (0, 0)


async def test_a_redirect_is_checked_and_drops_the_key_for_good() -> None:
    """From the API to a store and back: the store sees no key, and cannot choose what is asked with one."""

    async def api_script(wire: Wire) -> None:
        while True:
            seen = await wire.request()
            if seen.target.startswith("/log/"):
                await wire.answer(307, headers={"location": f"{store.url}/stored"})
            else:
                await wire.answer(200, LINE, kind="text/plain")

    async with serving(api_script) as api, serving(to(f"{api.url}/other")) as store:
        async with reading(api.url, hosts=(f"127.0.0.1:{store.port}",)) as it:
            assert await it.tail(f"{api.url}/log/1") == LINE.decode()
        first, last = api.seen
        (between,) = store.seen
        assert first.headers["x-kinetic-key"] == KEY
        assert "x-kinetic-key" not in between.headers
        assert last.target == "/other"
        assert "x-kinetic-key" not in last.headers


async def test_a_redirect_to_where_nobody_may_look_is_not_followed() -> None:
    """Not with the key and not without."""
    async with serving(answering(200, LINE, **TEXT)) as other, serving(to(f"{other.url}/{SIGNED}")) as api:
        async with reading(api.url) as it:
            assert await it.tail(f"{api.url}/log") is None
            assert "KINETIC_LOGS_HOSTS" in it.reason
        assert (other.connections, len(api.seen)) == (0, 1)


@pytest.mark.parametrize(("hops", "read"), [(3, True), (4, False)])
async def test_three_redirects_are_followed(hops: int, read: bool) -> None:
    """A server that sends us round in circles is left."""
    moved = (302, b"", {"location": f"/next{SIGNED}"})
    async with serving(in_turn(*[moved] * hops, (200, LINE, {}))) as api, reading(api.url) as it:
        assert (await it.tail(f"{api.url}/log") == LINE.decode()) is read
        assert len(api.seen) == 4
        if not read:
            assert it.reason == "too many redirects"


async def test_the_end_of_a_long_log_begins_with_a_whole_line() -> None:
    """Asked for the end, a server may start in the middle of a line; that piece is dropped."""
    partial = (206, b"valid credentials\n" + LINE, {"content-range": "bytes 1000-1067/1068"})
    whole = (206, LINE, {"content-range": f"bytes 0-{len(LINE) - 1}/{len(LINE)}"})
    async with serving(in_turn(partial, whole)) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/log") == LINE.decode()
        assert await it.tail(f"{api.url}/log") == LINE.decode()


async def test_a_server_that_ignores_the_range() -> None:
    """All of it is read, and only the end is kept."""
    body = LINE * (3 * 2**20 // len(LINE))
    async with serving(answering(200, body, **TEXT)) as api, reading(api.url) as it:
        text = await it.tail(f"{api.url}/log")
        assert text is not None
        assert TAIL_BYTES - len(LINE) <= len(text) <= TAIL_BYTES
        assert set(text.splitlines()) == {LINE.decode().rstrip()}


async def endless(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        await wire.send(LINE * 1000)


async def drip(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        await wire.send(b".")
        await asyncio.sleep(0.02)


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.until_client_leaves()


async def half(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nERROR 4711")


async def closed(wire: Wire) -> None:
    await wire.request()


async def nonsense(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"\x00\x01 patient 4711\r\n\r\n")


BOMB = gzip.compress(b"\0" * (MAX_LOG_BYTES + 1))
LOGIN_PAGE = b"<html>Invalid credentials, patient 4711</html>"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (endless, "answer_too_large"),
        (answering(200, BOMB, headers=GZIP), "answer_too_large"),
        (answering(200, b"no gzip 4711", headers=GZIP), "broken_encoding"),
        (answering(200, LINE, headers={"content-encoding": "br"}), "unknown_encoding"),
        (answering(200, LOGIN_PAGE, kind="Text/HTML; charset=utf-8"), "a web page instead of a log"),
        (answering(404, {"detail": "patient 4711"}), "http_404"),
        (answering(403), "http_403"),
        (answering(500), "http_500"),
        (answering(302), "http_302"),
        (to("http://127.0.0.1:x/"), "not a usable address"),
        (to("https://x.example\\@127.0.0.1/"), "not a usable address"),
        (to("file:///etc/passwd"), "not an http or https address"),
        (to("http://u:4711@127.0.0.1/"), "it carries credentials"),
        (half, "connection_lost"),
        (closed, "connection_lost"),
        (nonsense, "protocol_error"),
    ],
)
async def test_what_cannot_be_read_is_told_and_not_raised(script: Script, reason: str) -> None:
    """One word or sentence for people; None for the retry, which goes on without the log."""
    async with serving(script) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/log{SIGNED}") is None
        assert it.reason == reason


@pytest.mark.parametrize("script", [silent, drip])
async def test_a_reading_takes_a_bounded_time(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing, or a byte now and then for ever, holds nobody up."""
    monkeypatch.setattr(logs, "TOTAL_S", 0.3)
    async with serving(script) as api, reading(api.url) as it:
        began_s = time.monotonic()
        assert await it.tail(f"{api.url}/log{SIGNED}") is None
        assert time.monotonic() - began_s < 5
        assert it.reason in ("not within 0.3 s", "read_timeout")


async def test_redirects_share_the_time_of_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer comes in time, all of them together do not: that is late."""
    monkeypatch.setattr(logs, "TOTAL_S", 0.5)

    async def slow(wire: Wire) -> None:
        while True:
            seen = await wire.request()
            await asyncio.sleep(0.3)
            moved = {"location": "/moved"} if seen.target != "/moved" else {}
            await wire.answer(302 if moved else 200, LINE, headers=moved, kind="text/plain")

    async with serving(slow) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/log{SIGNED}") is None
        assert it.reason == "not within 0.5 s"


async def test_nobody_there() -> None:
    """A port that nobody listens on is a reason like others."""
    async with serving(silent) as api:
        url = api.url
    async with reading(url) as it:
        assert await it.tail(f"{url}/log{SIGNED}") is None
        assert it.reason == "connect_error"


async def test_a_bug_of_ours_does_not_hold_up_the_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised, the caller gets None and the reason does not quote it."""
    monkeypatch.setattr(logs, "log_text", lambda *_, **__: 1 / 0)
    async with serving(answering(200, LINE, **TEXT)) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/log{SIGNED}") is None
        assert it.reason == "unexpected ZeroDivisionError"


async def test_a_cancellation_is_obeyed() -> None:
    """A worker that is stopped does not wait for a log, and takes no cancellation for a failure."""
    async with serving(silent) as api, reading(api.url) as it:
        task = asyncio.create_task(it.tail(f"{api.url}/log"))
        while not api.seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert it.told == []


async def test_a_compressed_log() -> None:
    """Sent whole it is decoded; the end of a compressed one is of no use, so all of it is asked for."""
    packed = gzip.compress(LINE)
    answers = (200, packed, GZIP), (206, packed[-20:], GZIP), (200, packed, GZIP)
    async with serving(in_turn(*answers)) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/log") == LINE.decode()
        assert await it.tail(f"{api.url}/log") == LINE.decode()
        assert [seen.headers.get("range", "") for seen in api.seen] == [f"bytes=-{TAIL_BYTES}"] * 2 + [""]
        assert [seen.headers["accept-encoding"] for seen in api.seen] == ["identity", "identity", "gzip"]


async def test_a_server_that_cannot_give_the_end() -> None:
    """Some refuse the range of an empty log, some every range of this kind: they are asked without."""
    refused = (416, b"", {"content-range": "bytes */0"})
    async with serving(in_turn(refused, (200, LINE, {}), refused, refused)) as api, reading(api.url) as it:
        assert await it.tail(f"{api.url}/log") == LINE.decode()
        assert await it.tail(f"{api.url}/log") == ""
        assert len(api.seen) == 4
        assert it.told == []


async def test_any_bytes_are_a_log() -> None:
    """What is no text is replaced, so that the lines beside it can still be searched."""
    async with serving(answering(200, b"\xff\xfe\x00\n" + LINE, **TEXT)) as api, reading(api.url) as it:
        text = await it.tail(f"{api.url}/log")
        assert text is not None
        assert text.endswith(LINE.decode())


async def test_the_simulators_logs_are_read_both_ways() -> None:
    """Against a live API: what a GET says of the log leads to it, and so does the path; the key is needed."""
    with start_simulator(api_key=KEY) as simulator:
        workflow = simulator.add_workflow("Claims", failure_log="login failed: invalid credentials")
        (uuid,) = simulator.fail(workflow)
        async with (
            client_of(simulator.url) as client,
            reading(simulator.url) as by_url,
            reading(simulator.url, "path") as by_path,
        ):
            execution = await client.get(uuid)
            for text in (await by_url.reader.tail(execution), await by_path.reader.tail(execution)):
                assert text is not None
                assert text.endswith("ERROR login failed: invalid credentials\n")
            answer = await asyncio.to_thread(httpx.get, execution.logs_url, trust_env=False)
            assert answer.status_code == 401, "the key was needed"
            simulator.options(has_logs=False)
            assert (await client.get(uuid)).logs_url == ""
            assert await by_path.reader.tail(execution) is None
            assert by_path.told == [(uuid, "http_404")]
