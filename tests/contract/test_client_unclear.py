"""After the first byte: whatever goes wrong, a clone may exist, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import gzip
import socket

import pytest

from tests.contract.client_support import Script, Wire, answering, client_of, clone, serving
from worker.domain.delivery import Accepted, Unclear

CHUNKED = b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n"
MIB = 2**20
BOMB = gzip.compress(bytes(16 * MIB))


async def reset_after_reading(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def close_after_reading(wire: Wire) -> None:
    await wire.request()


async def close_before_reading(wire: Wire) -> None:
    wire.reset()


async def hang_after_reading(wire: Wire) -> None:
    await wire.request()
    await wire.until_client_leaves()


async def half_a_head(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 201 Crea")


async def half_a_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(b'HTTP/1.1 201 Created\r\ncontent-length: 100\r\n\r\n{"execution_uuid": "clo')


async def garbage(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"\x15\x03\x01\x00\x02\x02\x28 not http\r\n\r\n")


async def endless_head(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 201 Created\r\n")
    while True:
        await wire.send(b"x-more: " + b"y" * 1000 + b"\r\n")


async def dripping_body(wire: Wire) -> None:
    await wire.request()
    await wire.send(CHUNKED)
    while True:
        await wire.send(b"1\r\n \r\n")
        await asyncio.sleep(0.01)


async def dripping_head(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 201 Created\r\nx: ")
    while True:
        await wire.send(b"a")
        await asyncio.sleep(0.01)


async def gzip_bomb(wire: Wire) -> None:
    await wire.request()
    await wire.answer(201, BOMB, headers={"content-encoding": "gzip"})


async def truncated_gzip(wire: Wire) -> None:
    await wire.request()
    await wire.answer(201, gzip.compress(b'{"a": 1}' * 100)[:-12], headers={"content-encoding": "gzip"})


async def unasked_encoding(wire: Wire) -> None:
    await wire.request()
    await wire.answer(201, b"\x8b\x02\x80{}\x03", headers={"content-encoding": "br"})


@pytest.mark.parametrize(
    ("script", "reason", "status"),
    [
        (reset_after_reading, "connection_lost", None),
        (close_after_reading, "connection_lost", None),
        (hang_after_reading, "read_timeout", None),
        (half_a_head, "connection_lost", None),
        (half_a_body, "connection_lost", 201),
        (garbage, "protocol_error", None),
        (endless_head, "protocol_error", None),
        (dripping_body, "read_timeout", 201),
        (dripping_head, "read_timeout", None),
        (answering(201, b"x" * 10 * MIB), "answer_too_large", 201),
        (gzip_bomb, "answer_too_large", 201),
        (truncated_gzip, "unreadable_answer", 201),
        (unasked_encoding, "unreadable_answer", 201),
        (answering(201, b"<html>Hello</html>", kind="text/html"), "unreadable_answer", 201),
        (answering(201, b'{"execution_uuid": "clo'), "unreadable_answer", 201),
        (answering(201, b"[" * 100_000), "unreadable_answer", 201),
        (answering(201, b"9" * 5000), "unreadable_answer", 201),
        (answering(201, b"\xff\xfe\x00"), "unreadable_answer", 201),
        (answering(201, {"execution_uuid": "clone-1"}), "unreadable_answer", 201),
        (answering(201, clone("..")), "unreadable_answer", 201),
        (answering(204), "unreadable_answer", 204),
        (answering(200, b"null"), "unreadable_answer", 200),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_whatever_goes_wrong_after_sending_is_unclear(
    script: Script, reason: str, status: int | None
) -> None:
    """A clone may exist: never *not delivered*, and the server saw exactly one request."""
    timeout_s = 0.3 if reason == "read_timeout" else 10.0
    async with serving(script) as server, client_of(server.url, timeout_s=timeout_s) as client:
        delivery = await client.retry("root")
        assert isinstance(delivery, Unclear), delivery
        assert (delivery.reason, delivery.http_status) == (reason, status)
        assert delivery.detail
        assert [seen.method for seen in server.seen] == ["POST"]


async def test_a_connection_reset_while_sending_is_unclear() -> None:
    """The server resets at once: it may still have read the request, so it counts as sent."""
    async with serving(close_before_reading) as server, client_of(server.url) as client:
        delivery = await client.retry("root")
        assert isinstance(delivery, Unclear), delivery
        assert delivery.reason in ("connection_lost", "write_error")
        assert server.connections == 1


@pytest.mark.parametrize("status", [301, 302, 303, 304, 408, 500, 501, 502, 504, 599])
async def test_statuses_that_settle_nothing_are_unclear(status: int) -> None:
    """The request may have been processed before this was said. Redirects are not followed."""
    script = answering(status, {"detail": "hm"}, headers={"location": "/elsewhere"} if status < 304 else {})
    async with serving(script) as server, client_of(server.url) as client:
        delivery = await client.retry("root")
        assert isinstance(delivery, Unclear)
        assert (delivery.reason, delivery.http_status) == (f"http_{status}", status)
        assert len(server.seen) == 1


async def test_a_stale_connection_is_noticed_before_it_is_used() -> None:
    """The server closed an idle connection: the next retry opens another and is delivered once."""
    closed = asyncio.Event()

    async def one_each(wire: Wire) -> None:
        await wire.request()
        await wire.answer(201, clone())
        wire.writer.close()
        await wire.writer.wait_closed()
        closed.set()

    async with serving(one_each) as server, client_of(server.url, connections=1) as client:
        assert isinstance(await client.retry("a"), Accepted)
        await closed.wait()
        closed.clear()
        assert isinstance(await client.retry("b"), Accepted)
        assert len(server.seen) == 2
        assert server.connections == 2


async def test_a_connection_that_was_closed_while_this_process_was_busy_is_not_used() -> None:
    """The end has arrived, and the event loop has not come round to it: no POST is lost on it."""
    wires: list[Wire] = []

    async def keeps_open(wire: Wire) -> None:
        wires.append(wire)
        while True:
            await wire.request()
            await wire.answer(201, clone())

    async with serving(keeps_open) as server, client_of(server.url, connections=1) as client:
        assert isinstance(await client.retry("a"), Accepted)
        wires[0].writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        assert isinstance(await client.retry("b"), Accepted)
        assert server.connections == 2


async def test_a_kept_connection_that_dies_on_the_next_request_is_unclear_and_not_repeated() -> None:
    """The server read the second request and closed: nobody may send it again on a fresh connection."""

    async def second_dies(wire: Wire) -> None:
        await wire.request()
        await wire.answer(201, clone())
        await wire.request()

    async with serving(second_dies) as server, client_of(server.url, connections=1) as client:
        assert isinstance(await client.retry("a"), Accepted)
        delivery = await client.retry("b")
        assert isinstance(delivery, Unclear)
        assert delivery.reason == "connection_lost"
        assert (len(server.seen), server.connections) == (2, 1)


async def test_a_cancelled_retry_is_not_sent_again_and_frees_its_connection() -> None:
    """Cancellation passes through (the intent is on record); the next call still has a connection."""
    asked = asyncio.Event()

    async def hang_once(wire: Wire) -> None:
        seen = await wire.request()
        if "first" in seen.target:
            asked.set()
            await wire.until_client_leaves()
        await wire.answer(201, clone())

    async with serving(hang_once) as server, client_of(server.url, connections=1) as client:
        task = asyncio.create_task(client.retry("first"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await client.retry("second"), Accepted)
        assert [seen.target.split("/")[3] for seen in server.seen] == ["first", "second"]


async def test_a_sent_request_gets_its_whole_time_to_be_answered() -> None:
    """Time spent on connecting is not taken from the wait for the answer, which would make it unclear."""
    free = asyncio.Event()

    async def slow(wire: Wire) -> None:
        while True:
            seen = await wire.request()
            if "busy" in seen.target:
                free.set()
                await asyncio.sleep(0.25)
                await wire.answer(404)
            else:
                await asyncio.sleep(0.35)
                await wire.answer(201, clone())

    async with (
        serving(slow) as server,
        client_of(server.url, timeout_s=0.5, connect_s=0.5, connections=1) as client,
    ):
        busy = asyncio.create_task(client.get("busy"))
        await free.wait()
        assert isinstance(await client.retry("root"), Accepted)
        await asyncio.gather(busy, return_exceptions=True)
