"""The answers to calls: on paper, where examples are cheap, and over a socket that sends what it likes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.contract.client_support import KEY, client_of
from tests.fuzz.hostile import bodies, executions, fuzz, headers, is_one_harmless_line, json_values, texts
from tests.fuzz.test_reading import is_usable
from worker.domain.delivery import Accepted, Delivery, NotDelivered, Refused, Unclear
from worker.domain.executions import Execution
from worker.kinetic import KineticClient, KineticError
from worker.kinetic.answers import delivery_of, json_of, raise_unless_ok
from worker.kinetic.exchange import REASONS, Answer
from worker.kinetic.headers import LONGEST_PAUSE, SHORTEST_PAUSE

T = TypeVar("T")
NOW = datetime(2026, 1, 6, 10, tzinfo=UTC)
statuses = st.sampled_from([200, 201, 204, 301, 307, 400, 401, 404, 409, 422, 429, 500, 503]) | st.integers(
    100, 999
)
problems = st.fixed_dictionaries(
    {
        "detail": texts
        | json_values
        | st.lists(
            st.fixed_dictionaries({}, optional={"loc": json_values, "msg": texts, "type": texts}), max_size=7
        )
    },
    optional={"message": texts, "error": texts | json_values},
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    lost = draw(st.sampled_from(["", "", "", *REASONS]))
    body = draw(bodies() | bodies(problems))
    return Answer(draw(statuses), draw(headers), NOW, NOW, b"" if lost else body, lost)


def names_a_clone(answer: Answer) -> bool:
    """Whether the body is JSON with two usable uuids, as a reader of the contract would say."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return True  # not for this reader to say
    uuids = (
        [body.get(each) for each in ("execution_uuid", "workflow_version_uuid")]
        if isinstance(body, dict)
        else [0]
    )
    return all(isinstance(each, str) and is_usable_or_odd(each) for each in uuids)


def is_usable_or_odd(uuid: str) -> bool:
    try:
        return is_usable(uuid)
    except UnicodeEncodeError:
        return False


def assert_sound(delivery: Delivery) -> None:
    """Its words are one harmless line, its pause is bounded, its clone can be named."""
    if isinstance(delivery, Accepted):
        assert is_usable(delivery.clone.uuid)
        return
    assert is_one_harmless_line(delivery.detail, 1200)
    assert KEY[:8] not in delivery.detail  # not half of it, either
    if isinstance(delivery, (NotDelivered, Refused, Unclear)):
        assert re.fullmatch("[a-z0-9_]{1,40}", delivery.reason)
    if isinstance(delivery, NotDelivered) and delivery.pause is not None:
        assert SHORTEST_PAUSE <= delivery.pause <= LONGEST_PAUSE


@fuzz(200)
@given(answers())
@example(
    Answer(422, {}, NOW, NOW, json.dumps({"detail": [{"loc": [KEY], "msg": KEY, "type": KEY}]}).encode())
)
@example(Answer(422, {}, NOW, NOW, json.dumps({"detail": [{"msg": f"{'x' * 190}{KEY}"}]}).encode()))
@example(Answer(500, {}, NOW, NOW, json.dumps({"detail": f"{'x' * 190}{KEY}"}).encode()))
@example(Answer(500, {}, NOW, NOW, json.dumps({"detail": f"{KEY[:5]}\u200b{KEY[5:]}"}).encode()))
@example(Answer(500, {}, NOW, NOW, f'{{"detail": "x \\u006{ord("k") - 0x60:x}{KEY[1:]}"}}'.encode()))
def test_a_retry_call_always_has_an_outcome(answer: Answer) -> None:
    """Never an exception; accepted only when the answer says 2xx and a usable uuid is there."""
    delivery = delivery_of(answer, now=NOW, secret=KEY)
    assert_sound(delivery)
    if isinstance(delivery, Accepted):
        assert 200 <= answer.status < 300
        assert not answer.lost or answer.lost in ("unknown_encoding", "broken_encoding")
        assert names_a_clone(answer)
    elif 200 <= answer.status < 300:
        assert isinstance(delivery, Unclear)  # the clone exists: to call it anything else would make another


@fuzz(150)
@given(answers())
def test_a_look_returns_or_raises_our_errors_alone(answer: Answer) -> None:
    """In words that are one harmless line."""
    try:
        raise_unless_ok(answer, subject="execution e-1", settings="KINETIC_BASE_URL", now=NOW, secret=KEY)
        json_of(answer, subject="execution e-1", settings="KINETIC_BASE_URL")
    except KineticError as error:
        said = str(error)
    else:
        said = ""
    assert is_one_harmless_line(said, 1200)
    assert KEY not in said


# --- over a socket ---------------------------------------------------------------------------------


@dataclass
class Socket:
    """A server that answers every request with the same bytes and closes."""

    reply: bytes = b""
    seen: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.seen.append(head.partition(b"\r\n")[0])
            writer.write(self.reply)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Border:
    """The real client in front of that server, on an event loop that lasts for many examples."""

    def __init__(self, runner: asyncio.Runner, socket: Socket, client: KineticClient) -> None:
        self._runner = runner
        self.socket = socket
        self.client = client

    def ask(self, call: Callable[[KineticClient], Coroutine[Any, Any, T]], reply: bytes) -> T:
        self.socket.reply, self.socket.seen = reply, []
        return self._runner.run(call(self.client))


@asynccontextmanager
async def border_of(socket: Socket) -> AsyncIterator[KineticClient]:
    server = await asyncio.start_server(socket, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}", timeout_s=2) as client:
        yield client
    server.close()


@pytest.fixture(scope="module")
def border() -> Iterator[Border]:
    socket = Socket()
    with asyncio.Runner() as runner:
        opened = border_of(socket)
        yield Border(runner, socket, runner.run(opened.__aenter__()))
        runner.run(opened.__aexit__(None, None, None))


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """HTTP answers, or what is no HTTP at all; the connection always ends after them."""
    body = draw(bodies() | bodies(st.lists(executions, max_size=3)))
    lines = [f"HTTP/1.1 {draw(statuses)} ".encode() + draw(st.binary(max_size=8))]
    for name, value in draw(headers).items():
        lines.append(f"{name}: ".encode() + value.encode("utf-8", "surrogatepass"))
    lines += draw(
        st.sampled_from(
            [
                [],
                [b"content-length: %d" % len(body)],
                [b"content-length: %d" % (len(body) + 5)],
                [b"content-length: -1"],
                [b"content-length: 1", b"content-length: 2"],
                [b"transfer-encoding: chunked"],
                [b"content-encoding: gzip"],
                [
                    b"set-cookie: a=b; domain=evil.example",
                    b"location: https://evil.example/",
                    b"x" * 70_000 + b": 1",
                ],
            ]
        )
    )
    reply = b"\r\n".join(lines) + b"\r\n\r\n" + body
    return draw(st.sampled_from([reply, reply, reply, reply[: len(reply) // 2], body, b""]))


@fuzz(150)
@given(replies())
def test_no_bytes_raise_out_of_a_retry_call(border: Border, reply: bytes) -> None:
    """One request leaves, once, and its outcome is a value: accepted, refused, or not known."""
    delivery = border.ask(lambda client: client.retry("e-1"), reply)
    assert_sound(delivery)
    assert border.socket.seen == [b"POST /api/executions/e-1/retry HTTP/1.1"]
    if isinstance(delivery, Accepted):
        assert b"execution_uuid" in reply or b"\x00" in reply


@fuzz(100)
@given(replies())
def test_no_bytes_raise_anything_but_our_errors_out_of_a_look_or_a_list(border: Border, reply: bytes) -> None:
    """Nor does a walk go on for ever."""

    async def look(client: KineticClient) -> Execution | str:
        try:
            return await client.get("e-1")
        except KineticError as error:
            return str(error)

    async def walk(client: KineticClient) -> int:
        pages = 0
        try:
            async for _ in client.pages(status=None):
                pages += 1
        except KineticError:
            pass
        return pages

    found = border.ask(look, reply)
    assert isinstance(found, Execution) or is_one_harmless_line(found, 1200)
    assert border.ask(walk, reply) <= 5
    assert abs(border.client.skew) <= timedelta(days=1)


@fuzz(100)
@given(
    texts
    | st.sampled_from(
        ["a/b", "../x", "..", ".", "%2f", "%2e%2e", "a?b=c", "a#b", "a\nb", "a\\b", "é", " ", ""]
    )
)
def test_a_uuid_is_one_segment_of_the_path_whatever_it_holds(border: Border, uuid: str) -> None:
    """It reaches the server as the same one segment, or nothing is sent."""
    reply = b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"
    delivery = border.ask(lambda client: client.retry(uuid), reply)
    assert_sound(delivery)
    if border.socket.seen:
        (line,) = border.socket.seen
        segment = re.fullmatch(rb"POST /api/executions/([A-Za-z0-9%._~-]+)/retry HTTP/1.1", line)
        assert segment, line
        assert segment[1] not in (b".", b"..")
        assert bytes_of(segment[1]) == uuid.encode()
    else:
        assert isinstance(delivery, Refused)


def bytes_of(segment: bytes) -> bytes:
    return re.sub(rb"%([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), segment)
