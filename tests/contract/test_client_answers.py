"""What whole answers mean, and what exactly reaches the server."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import unquote

import pytest

from tests.contract.client_support import KEY, Script, Wire, answering, client_of, clone, serving
from worker.domain.delivery import Accepted, Conflict, Delivery, NotDelivered, Refused
from worker.domain.executions import Status, fingerprint_of

VALIDATION = {
    "detail": [
        {
            "loc": ["path", "execution_uuid", 0],
            "msg": "Input should be a valid UUID\x1b[31m",
            "type": "uuid_parsing",
            "input": "PATIENT-4711",
            "ctx": {"error": "PATIENT-4711"},
        },
        "PATIENT-4711",
        {"msg": 7},
    ]
}


async def delivery_from(script: Script, prefix: str = "") -> Delivery:
    async with serving(script) as server, client_of(server.url + prefix) as client:
        delivery = await client.retry("root")
        assert len(server.seen) == 1
        return delivery


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_readable_success_is_accepted(status: int) -> None:
    """The clone is read with everything the API said about it."""
    payload = {"member": 1}
    body = clone(
        workflow_name="Prior auth", input_payload=payload, created_at="2026-01-06T10:00:00Z", n_steps=3
    )
    delivery = await delivery_from(answering(status, body))
    assert isinstance(delivery, Accepted)
    assert delivery.clone.uuid == "clone-1"
    assert delivery.clone.status is Status.QUEUED
    assert delivery.clone.fingerprint == fingerprint_of(payload)
    assert (delivery.clone.workflow_name, delivery.clone.n_steps) == ("Prior auth", 3)


async def test_the_failed_executions_own_uuid_is_accepted_too() -> None:
    """A deployment that retries in place answers with the uuid it was asked about."""
    delivery = await delivery_from(answering(201, clone("root")))
    assert isinstance(delivery, Accepted)
    assert delivery.clone.uuid == "root"


async def test_gzip_is_understood() -> None:
    """It is asked for, so it must be read."""
    packed = gzip.compress(json.dumps(clone()).encode())
    assert isinstance(
        await delivery_from(answering(201, packed, headers={"content-encoding": "gzip"})), Accepted
    )


async def test_a_chunked_answer_is_understood() -> None:
    """Slow pieces are fine as long as they come in time."""

    async def chunks(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n")
        for byte in json.dumps(clone()).encode():
            await wire.send(b"1\r\n" + bytes([byte]) + b"\r\n")
        await wire.send(b"0\r\n\r\n")

    assert isinstance(await delivery_from(chunks), Accepted)


@pytest.mark.parametrize(("status", "reason"), [(401, "unauthorized"), (403, "forbidden")])
async def test_a_key_turned_down_suspends(status: int, reason: str) -> None:
    """No attempt is spent, everybody stops, and the text says which setting to look at."""
    delivery = await delivery_from(answering(status, {"detail": f"bad key {KEY}"}))
    assert isinstance(delivery, NotDelivered)
    assert (delivery.reason, delivery.http_status, delivery.suspend) == (reason, status, True)
    assert "KINETIC_API_KEY" in delivery.detail
    assert KEY not in repr(delivery)


@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (503, "unavailable")])
async def test_a_request_for_rest_is_honoured(status: int, reason: str) -> None:
    """Not delivered, with the pause the server asked for."""
    delivery = await delivery_from(answering(status, {"detail": "slow down"}, headers={"retry-after": "17"}))
    assert delivery == NotDelivered(reason, "slow down", status, pause=timedelta(seconds=17))


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_that_keeps_the_method_was_not_processed(status: int) -> None:
    """Not followed: the key must not go to another host. The text names the setting."""
    delivery = await delivery_from(answering(status, headers={"location": "http://127.0.0.1:9/evil"}))
    assert isinstance(delivery, NotDelivered)
    assert delivery.reason == "redirected"
    assert "KINETIC_BASE_URL" in delivery.detail


async def test_too_early_is_not_delivered() -> None:
    """425 says by its meaning that nothing was processed."""
    delivery = await delivery_from(answering(425))
    assert isinstance(delivery, NotDelivered)
    assert (delivery.reason, delivery.http_status, delivery.pause) == ("too_early", 425, None)


async def test_409_is_a_conflict() -> None:
    """The caller looks at the execution and decides again."""
    assert await delivery_from(answering(409, {"detail": "still running"})) == Conflict("still running")


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "not_found"), (400, "refused"), (405, "refused"), (410, "refused"), (451, "refused")],
)
async def test_other_4xx_are_final(status: int, reason: str) -> None:
    """Refused, with the API's own words."""
    delivery = await delivery_from(answering(status, {"detail": "no\nsuch \x1b]0;x\x07thing"}))
    assert delivery == Refused(reason, "no such thing", status)


async def test_a_validation_error_is_explained_without_its_input() -> None:
    """Place, message and type are told; `input` and `ctx` may hold a payload and are not."""
    delivery = await delivery_from(answering(422, VALIDATION))
    assert isinstance(delivery, Refused)
    assert delivery.reason == "validation_error"
    assert delivery.detail == "path.execution_uuid.0: Input should be a valid UUID (uuid_parsing)"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"detail": null}',
        b'{"detail": [[]]}',
        b'{"detail": [{"loc": 5, "type": []}]}',
    ],
)
async def test_an_unexplained_422_is_refused_all_the_same(body: bytes) -> None:
    """The status settles it; the text then says what came."""
    delivery = await delivery_from(answering(422, body))
    assert isinstance(delivery, Refused)
    assert delivery.reason == "validation_error"
    assert delivery.detail


async def test_a_hundred_problems_stay_one_bounded_line() -> None:
    """Explanations are cut, and say how much more there was."""
    many = {"detail": [{"loc": ["a"], "msg": f"bad {n}", "type": "t"} for n in range(100)]}
    delivery = await delivery_from(answering(422, many))
    assert isinstance(delivery, Refused)
    assert delivery.detail.endswith("and 95 more")
    huge = {"detail": [{"loc": ["a" * 10**6], "msg": "b" * 10**6, "type": "t"}] * 9}
    delivery = await delivery_from(answering(422, huge))
    assert isinstance(delivery, Refused)
    assert len(delivery.detail) <= 400


async def test_a_settling_status_settles_even_when_its_body_is_lost() -> None:
    """404 with half a body is still 404: nothing about the clone is unclear."""

    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\n{")

    delivery = await delivery_from(half)
    assert isinstance(delivery, Refused)
    assert delivery.reason == "not_found"


async def test_an_echoed_key_is_blotted_out() -> None:
    """A server that repeats our key in its answer does not bring it into logs, cut or whole."""
    for padding in range(380, 400, 3):
        delivery = await delivery_from(answering(400, {"detail": "x" * padding + f" {KEY}"}))
        assert KEY[:8] not in repr(delivery)


@pytest.mark.parametrize(
    "uuid",
    [
        "plain-1",
        "a/b",
        "../../admin",
        "a?b=c",
        "a#b",
        "a%2Fb",
        "a%b",
        "ü ñ",
        "a;b:c@d",
        "a\\b",
        "...",
        "~",
        "x" * 200,
    ],
)
async def test_a_uuid_stays_one_path_segment(uuid: str) -> None:
    """What reaches the server decodes to exactly the uuid, whatever is in it, below the prefix."""
    async with serving(answering(201, clone())) as server, client_of(server.url + "/pre/fix/") as client:
        await client.retry(uuid)
        segments = server.seen[0].target.split("/")
        assert segments[:5] == ["", "pre", "fix", "api", "executions"]
        assert segments[6:] == ["retry"]
        assert unquote(segments[5]) == uuid
        assert "?" not in server.seen[0].target


async def test_what_every_call_carries() -> None:
    """The key, a name, and no body; no cookies come back to a server that set some."""
    script = answering(201, clone(), headers={"set-cookie": "session=1; Path=/"})
    async with serving(script) as server, client_of(server.url) as client:
        await client.retry("failed-1")
        await client.retry("failed-1")
        first, second = server.seen
        assert (first.method, first.target) == ("POST", "/api/executions/failed-1/retry")
        assert first.headers["x-kinetic-key"] == KEY
        assert first.headers["user-agent"].startswith("kinetic-retry-worker/")
        assert first.headers["content-length"] == "0"
        assert "cookie" not in second.headers
        assert server.connections == 1
        assert KEY not in repr(client)


async def test_skew_is_learnt_from_the_date_header() -> None:
    """The API's clock minus ours, within a second; nonsense, caches and proxies' errors teach nothing."""
    ahead = datetime.now(UTC) + timedelta(minutes=10)
    stamp = format_datetime(ahead, usegmt=True)
    answers = [
        (201, {"date": "soon"}),
        (201, {"date": "Fri, 31 Dec 9999 23:59:59 GMT"}),
        (201, {"date": stamp, "age": "60"}),
        (502, {"date": stamp}),
        (201, {"date": stamp}),
    ]

    async def script(wire: Wire) -> None:
        for status, headers in answers:
            await wire.request()
            await wire.answer(status, clone(), headers=headers)

    async with serving(script) as server, client_of(server.url) as client:
        for _ in answers[:-1]:
            await client.retry("failed-1")
            assert client.skew == timedelta(0)
        delivery = await client.retry("failed-1")
        assert isinstance(delivery, Accepted)
        assert abs(client.skew - timedelta(minutes=10)) <= timedelta(seconds=1)
        assert len(server.seen) == len(answers)
