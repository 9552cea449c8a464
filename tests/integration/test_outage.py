"""The use cases while the API is in trouble: what still leaves, what is spent, and how work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.test_engine import failed, lineage_of, roots_in
from tests.support.scripted_api import (
    Script,
    ScriptedApi,
    accepting,
    answering,
    clone_then_lose_the_answer,
    gone,
)
from worker.domain.delivery import Accepted, Delivery, NotDelivered, Refused, Unclear
from worker.domain.executions import Execution
from worker.domain.lineage import Lineage, State
from worker.domain.transitions import Change
from worker.engine import discover, resolve, submit, watch
from worker.engine.context import Context
from worker.kinetic import NotFound, Throttled, Unreachable, Unreadable
from worker.ledger import Admission, LedgerUnavailable, Outcome
from worker.ledger.gate import Closed

MANY = 300


async def let_probe(ctx: Context) -> None:
    """Let the time of the next probe come."""
    await ctx.ledger.connection.command("HSET", ctx.ledger.keys.gate, "probe_at", 0)


async def let_open(ctx: Context) -> None:
    """Let so much time pass since the gate began to open that only answers count."""
    long_ago = int((ctx.now() - timedelta(minutes=1)).timestamp() * 1000)
    await ctx.ledger.connection.command("HSET", ctx.ledger.keys.gate, "opening_since", long_ago)


async def all_due(ctx: Context) -> None:
    times = dict.fromkeys(await roots_in(ctx, State.SCHEDULED), datetime.fromtimestamp(0, UTC))
    await ctx.ledger.reschedule(State.SCHEDULED, times)
    for root in times:
        lineage = await lineage_of(ctx, root)
        if lineage.due_at and lineage.due_at > ctx.now():
            await _make_due(ctx, lineage)


async def _make_due(ctx: Context, lineage: Lineage) -> None:
    key = ctx.ledger.keys.lineage(lineage.root)
    record = await ctx.ledger.connection.command("GET", key)
    due_at = int(lineage.due_at.timestamp() * 1000) if lineage.due_at else 0
    await ctx.ledger.connection.command("SET", key, record.replace(f'"due_at":{due_at}', '"due_at":1'))


@pytest.fixture
async def backlog(ctx: Context, api: ScriptedApi) -> Context:
    """Many due lineages, and a while in which nothing was heard of the API."""
    api.add(*(failed(f"e{n}") for n in range(MANY)))
    await discover(ctx)
    await ctx.calls.flush()
    await ctx.ledger.connection.command("DEL", ctx.ledger.keys.gate)
    return ctx


@pytest.mark.parametrize(
    "end",
    [
        NotDelivered("connect_error"),
        NotDelivered("dns_error"),
        Unclear("http_500", http_status=500),
        Unclear("connection_lost"),
        NotDelivered("unavailable", http_status=503, pause=timedelta(milliseconds=1)),
    ],
)
async def test_an_outage_is_noticed_by_a_few_calls(
    backlog: Context, api: ScriptedApi, end: NotDelivered | Unclear
) -> None:
    """Of 300 due lineages five are tried, one at a time; no attempt is spent and the rest stay due."""
    ctx = backlog
    api.answers.extend([answering(end)] * MANY)
    api.trouble = Unreachable("connect_error")
    for _ in range(10):
        await submit(ctx)
    assert len(api.calls) == (2 if end.reason == "unavailable" else 5)  # a rest is followed by one call
    assert (await ctx.ledger.gate.look()).closed is Closed.DOWN
    lineages = list((await ctx.ledger.read([f"e{n}" for n in range(MANY)])).values())
    assert all(isinstance(each, Lineage) and not each.attempts for each in lineages)
    assert len(await roots_in(ctx, State.SCHEDULED)) >= MANY - 5
    assert await discover(ctx) is None
    assert await resolve(ctx) is None
    gets = api.gets
    await watch(ctx)
    assert api.gets == gets


async def test_after_an_outage_work_goes_on_by_steps(backlog: Context, api: ScriptedApi) -> None:
    """The probe opens the gate, one call goes first, and the rest follow as they are answered."""
    ctx = backlog
    api.answers.extend([answering(NotDelivered("connect_error"))] * 5)
    api.trouble = Unreachable("connect_error")
    while (await ctx.ledger.gate.look()).closed is None:
        await submit(ctx)
    api.trouble = None
    under_way = most = 0

    async def slowly(api: ScriptedApi, of: str) -> Delivery:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return Accepted(api.make_clone(of))

    api.answers.extend([slowly] * MANY)
    await let_probe(ctx)
    await submit(ctx)
    assert (await ctx.ledger.gate.look()).opening_since
    assert most == 0  # the probe was a GET, and nothing left behind it
    await submit(ctx)
    assert 1 <= most <= 2  # two once a second has passed
    await let_open(ctx)
    while len(api.clones) < MANY - 5:
        await all_due(ctx)
        await submit(ctx)
    assert most <= ctx.options.submit_concurrency
    assert set(api.clones.values()) == {1}


async def test_a_probe_that_fails_says_so_and_keeps_the_gate_closed(
    backlog: Context, api: ScriptedApi
) -> None:
    """And a probe that meets a refused key makes it a suspension."""
    ctx = backlog
    api.answers.extend([answering(NotDelivered("connect_error"))] * 5)
    api.trouble = Unreachable("connect_error")
    while (await ctx.ledger.gate.look()).closed is None:
        await submit(ctx)
    await let_probe(ctx)
    await watch(ctx)
    assert (await ctx.ledger.gate.look()).closed is Closed.DOWN


async def test_looks_that_fail_close_the_gate_and_stop(ctx: Context, api: ScriptedApi) -> None:
    """5xx for GETs: not one look for each of a thousand running clones."""
    api.add(*(failed(f"e{n}") for n in range(60)))
    await discover(ctx)
    await submit(ctx)
    assert len(await roots_in(ctx, State.RUNNING)) == 60
    await ctx.calls.flush()
    await ctx.ledger.connection.command("DEL", ctx.ledger.keys.gate)  # the good old days are over
    api.trouble = Unreachable("http_502", "", 502)
    await ctx.ledger.reschedule(State.RUNNING, {f"e{n}": datetime.fromtimestamp(0, UTC) for n in range(60)})
    await watch(ctx)
    assert (await ctx.ledger.gate.look()).closed is Closed.DOWN
    assert api.gets <= 5 + ctx.options.submit_concurrency
    assert len(await roots_in(ctx, State.RUNNING)) == 60


def accepting_after(answer: asyncio.Event) -> Script:
    """Make the clone and answer with it, once that is set."""

    async def script(api: ScriptedApi, of: str) -> Delivery:
        await answer.wait()
        return Accepted(api.make_clone(of))

    return script


async def test_a_process_that_heard_no_answer_lately_sends_one_call_first(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """The others wait for its end, and for no longer than the slow start says."""
    ctx = with_options(slow_start=timedelta(seconds=30))
    api.add(*(failed(f"e{n}") for n in range(30)))
    await discover(ctx)
    answer = asyncio.Event()

    api.answers.append(accepting_after(answer))
    working = asyncio.create_task(submit(ctx))
    while not api.calls:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert len(api.calls) == 1
    answer.set()
    await working
    assert len(api.calls) == 30


async def test_a_slow_first_call_does_not_hold_up_the_others_for_long(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """An API that takes ten seconds for each call is slow, not down."""
    ctx = with_options(slow_start=timedelta(milliseconds=10))
    api.add(*(failed(f"e{n}") for n in range(5)))
    await discover(ctx)
    answer = asyncio.Event()

    api.answers.extend([accepting_after(answer)] * 5)
    working = asyncio.create_task(submit(ctx))
    while len(api.calls) < 5:
        await asyncio.sleep(0.005)
    answer.set()
    await working


async def test_an_outcome_is_recorded_though_the_gate_could_not_be_told(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis fails between the answer and the report: the answer is what matters."""

    async def away(*_: Any) -> None:
        raise LedgerUnavailable("away")

    monkeypatch.setattr(ctx.ledger.gate, "report", away)
    api.answers.append(answering(Unclear("http_500", http_status=500)))
    api.add(failed("a"))
    await discover(ctx)
    with pytest.raises(LedgerUnavailable):
        await ctx.calls.flush()  # of the listing's page
    await submit(ctx)
    assert (await lineage_of(ctx, "a")).state is State.UNRESOLVED


async def test_an_intent_that_could_still_be_lost_sends_nothing(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 3: the replicas did not answer in time. No call leaves, nothing is spent, and it is due again."""
    api.add(failed("a"))
    await discover(ctx)
    commit = ctx.ledger.commit

    async def undurable(change: Change, *, admission: Admission | None = None, **more: Any) -> Outcome:
        outcome = await commit(change, admission=admission, **more)
        return outcome if admission is None else Outcome.NOT_DURABLE

    monkeypatch.setattr(ctx.ledger, "commit", undurable)
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (api.calls, lineage.state, lineage.reason) == ([], State.SCHEDULED, "not_durable")
    assert lineage.attempts == ()


async def test_what_a_closed_gate_turned_back_is_due_again_at_once(
    backlog: Context, api: ScriptedApi
) -> None:
    """A claim hides for minutes; when the gate opens, nothing of what was claimed waits for that."""
    ctx = backlog

    async def meanwhile(api: ScriptedApi, of: str) -> Delivery:
        await ctx.ledger.gate.pause("rate_limited", timedelta(milliseconds=1))
        return Accepted(api.make_clone(of))

    api.answers.extend([accepting, meanwhile])  # one goes first, the next belongs to a batch of a hundred
    await submit(ctx)
    waiting = await roots_in(ctx, State.SCHEDULED)
    now_ms = int(ctx.now().timestamp() * 1000)
    index = ctx.ledger.keys.state(State.SCHEDULED)
    hidden = await ctx.ledger.connection.command("ZRANGE", index, now_ms + 5000, "+inf", "BYSCORE")
    assert len(waiting) >= MANY - 30
    assert hidden == []


async def test_a_blip_of_redis_hides_nothing_for_long(
    backlog: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One commit of a batch fails: what was claimed with it is due again at once."""
    ctx = backlog
    await submit_one(ctx)
    commit = ctx.ledger.commit
    failed_once: list[Change] = []

    async def blip(change: Change, **more: Any) -> Outcome:
        if not failed_once:
            failed_once.append(change)
            raise LedgerUnavailable("away")
        return await commit(change, **more)

    monkeypatch.setattr(ctx.ledger, "commit", blip)
    with pytest.raises(LedgerUnavailable):
        await submit(ctx)
    now_ms = int(ctx.now().timestamp() * 1000)
    index = ctx.ledger.keys.state(State.SCHEDULED)
    hidden = await ctx.ledger.connection.command("ZRANGE", index, now_ms, "+inf", "BYSCORE")
    assert len(hidden) <= 1
    assert len(await roots_in(ctx, State.SCHEDULED)) > MANY / 2


async def submit_one(ctx: Context) -> None:
    """Let one call be answered, so that the next are claimed together."""
    await ctx.calls.retry("e0")


async def test_executions_that_our_key_may_not_retry_do_not_stop_the_others(
    backlog: Context, api: ScriptedApi
) -> None:
    """403 for a few while retry calls for others are answered: they wait longer and longer, alone."""
    ctx = backlog
    await submit_one(ctx)
    forbidden = NotDelivered("forbidden", http_status=403, suspend=True)
    api.answers.extend([answering(forbidden)] * 3)
    await submit(ctx)
    assert (await ctx.ledger.gate.look()).closed is None
    lineages = [await lineage_of(ctx, root) for root in await roots_in(ctx, State.SCHEDULED)]
    assert {each.reason for each in lineages if each.undelivered} == {"forbidden"}
    assert len(api.clones) >= MANY - 3


async def test_a_404_to_everything_is_an_outage_and_no_verdict(backlog: Context, api: ScriptedApi) -> None:
    """A proxy whose service is being rolled out: no failure is given up as unknown."""
    ctx = backlog
    api.answers.extend([answering(Refused("not_found", "default backend", 404))] * MANY)
    api.trouble = NotFound("not_found", "default backend", 404)
    for _ in range(10):
        await submit(ctx)
    assert len(api.calls) == 5
    gate = await ctx.ledger.gate.look()
    assert (gate.closed, gate.reason) == (Closed.DOWN, "api_absent")
    await let_probe(ctx)
    await watch(ctx)
    assert (await ctx.ledger.gate.look()).closed is Closed.DOWN
    assert len(await roots_in(ctx, State.SCHEDULED)) == MANY
    api.trouble = None
    await let_probe(ctx)
    await watch(ctx)
    assert (await ctx.ledger.gate.look()).closed is None


async def test_a_clone_is_not_given_up_while_everything_is_404(ctx: Context, api: ScriptedApi) -> None:
    """The same proxy, met by the looks at running clones: they stay watched."""
    api.add(*(failed(f"e{n}") for n in range(3)))
    await discover(ctx)
    await submit(ctx)
    api.trouble = NotFound("not_found", "default backend", 404)
    for _ in range(3):
        await ctx.ledger.reschedule(
            State.RUNNING, {f"e{n}": datetime.fromtimestamp(0, UTC) for n in range(3)}
        )
        await watch(ctx)
    assert len(await roots_in(ctx, State.RUNNING)) == 3
    assert (await lineage_of(ctx, "e0")).missing_since is None


async def test_without_a_list_a_404_is_believed_when_others_are_known(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Only documented calls are there to ask with: another execution that the API knew."""
    ctx = with_options(lists=False)
    api.add(failed("gone"), failed("there"))
    await ctx.ledger.track(["gone", "there"])
    await watch(ctx)
    del api.executions["gone"]
    await ctx.ledger.reschedule(State.SCHEDULED, {"there": datetime.now(UTC) + timedelta(minutes=1)})
    api.answers.append(answering(Refused("not_found", "no such execution", 404)))
    await submit(ctx)
    lineage = await lineage_of(ctx, "gone")
    assert (lineage.state, lineage.reason) == (State.REJECTED, "not_found")


async def test_a_404_that_cannot_be_looked_into_is_no_verdict(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is away and so, for a moment, is Redis: nothing is known of the execution."""
    ctx.options = replace(ctx.options, lists=True)
    api.add(failed("a"))
    await discover(ctx)

    async def away() -> list[str]:
        raise LedgerUnavailable("away")

    monkeypatch.setattr(ctx.ledger, "known_executions", away)
    api.answers.append(gone)
    await submit(ctx)
    assert (await lineage_of(ctx, "a")).state is State.SCHEDULED


async def test_a_404_of_the_retry_call_alone_is_no_verdict(ctx: Context, api: ScriptedApi) -> None:
    """A GET finds the execution: whatever answered, it did not speak of it."""
    api.add(failed("a"))
    await discover(ctx)
    api.answers.append(answering(Refused("not_found", "default backend", 404)))
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.SCHEDULED, "api_absent")


async def test_a_list_that_is_broken_by_itself_does_not_keep_the_gate_closed(
    backlog: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing endpoint answers 500 or nonsense, everything else works."""
    ctx = backlog
    api.answers.extend([answering(NotDelivered("connect_error"))] * 5)
    while (await ctx.ledger.gate.look()).closed is None:
        await submit(ctx)

    async def broken() -> None:
        raise Unreadable("unreadable_answer", "no list", 200)

    monkeypatch.setattr(api, "probe", broken)
    await let_probe(ctx)
    await watch(ctx)
    assert (await ctx.ledger.gate.look()).closed is None


async def test_one_payload_that_cannot_be_had_does_not_hide_the_others(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An execution that is gone stays unknown; those behind it are asked for all the same."""
    api.payload_in_list = False
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    api.add(failed("odd", workflow_version_uuid="version-1", created_at=datetime.now(UTC)))
    get = api.get

    async def without_odd(uuid: str) -> Execution:
        if uuid == "odd":
            raise Unreadable("unreadable_answer", "", 200)
        return await get(uuid)

    monkeypatch.setattr(api, "get", without_odd)
    await resolve(ctx)
    assert set(ctx.payloads.known) == set(api.executions)
    assert len([print_ for print_ in ctx.payloads.known.values() if print_]) == 2


async def test_a_rest_is_for_every_kind_of_call_and_is_bounded_by_its_reason(
    backlog: Context, api: ScriptedApi
) -> None:
    """429 met by the listing: no retry call leaves, and it is no outage."""
    ctx = backlog
    api.trouble = Throttled("rate_limited", "", 429, timedelta(minutes=1))
    await discover(ctx)
    assert await submit(ctx) == {}
    gate = await ctx.ledger.gate.look()
    assert (gate.closed, gate.pause_reason) == (None, "rate_limited")
    assert api.calls == []
