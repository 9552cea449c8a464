"""The use cases against the real ledger: the main job, and the laws in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.examples import execution, submitting
from tests.support.scripted_api import (
    Script,
    ScriptedApi,
    accepting,
    answering,
    clone_then_lose_the_answer,
    gone,
)
from worker.domain import transitions
from worker.domain.delivery import Accepted, Conflict, Delivery, NotDelivered, Refused, Unclear
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import Policy, PolicyBook
from worker.engine import discover, prune, resolve, submit
from worker.engine import watch as look_at_what_is_due
from worker.engine.context import CLOCK_MARGIN, Context
from worker.engine.discover import QUICK_PAGES
from worker.engine.submit import _Submission
from worker.kinetic import Throttled, Unauthorized, Unreachable
from worker.ledger import Ledger, Turn


def failed(uuid: str, ago: timedelta = timedelta(seconds=1), **changes: Any) -> Execution:
    at = datetime.now(UTC) - ago
    return execution(uuid, Status.FAILED, **({"created_at": at, "updated_at": at} | changes))


async def lineage_of(ctx: Context, root: str) -> Lineage:
    found = (await ctx.ledger.read([root]))[root]
    assert isinstance(found, Lineage)
    return found


async def poll(ctx: Context) -> dict[str, int]:
    """Read the list, which must be our turn."""
    counts = await discover(ctx)
    assert counts is not None
    return counts


async def roots_in(ctx: Context, state: State) -> set[str]:
    indexes = await ctx.ledger.indexes(state)
    found = [await ctx.ledger.connection.command("ZRANGE", index, 0, -1) for index in indexes]
    return {root for roots in found for root in roots}


async def watch(ctx: Context) -> None:
    """Look at every running clone, whether or not its next look is due."""
    await ctx.ledger.reschedule(
        State.RUNNING, dict.fromkeys(await roots_in(ctx, State.RUNNING), datetime.fromtimestamp(0, UTC))
    )
    await look_at_what_is_due(ctx)


async def test_a_failure_is_noticed_retried_watched_and_recovered(ctx: Context, api: ScriptedApi) -> None:
    """The main job, end to end."""
    api.add(failed("a"))
    assert (await poll(ctx))["discovered"] == 1
    assert await submit(ctx) == {"accepted": 1}
    clone = (await lineage_of(ctx, "a")).newest.clone
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RUNNING
    api.end(clone, Status.COMPLETED)
    await watch(ctx)
    ended = await lineage_of(ctx, "a")
    assert (ended.state, ended.newest.outcome) == (State.RECOVERED, "completed")
    assert api.clones == {"a": 1}


async def test_attempts_never_exceed_the_maximum_and_the_end_has_a_reason(
    ctx: Context, api: ScriptedApi
) -> None:
    """Three clones, each of the one before, then `exhausted`."""
    api.add(failed("a"))
    await discover(ctx)
    for _ in range(5):
        await submit(ctx)
        for clone in [uuid for uuid, each in api.executions.items() if each.status is Status.QUEUED]:
            api.end(clone, Status.FAILED)
        await watch(ctx)
        await discover(ctx)  # the failed clones are on the list too
    ended = await lineage_of(ctx, "a")
    assert (ended.state, ended.reason) == (State.EXHAUSTED, "attempts_used_up")
    assert len(ended.attempts) == 3
    assert set(api.clones.values()) == {1}
    assert await roots_in(ctx, State.EXHAUSTED) == {"a"}


async def test_two_workers_and_two_beats_make_one_clone(ctx: Context, api: ScriptedApi) -> None:
    """Law 1: ticks in any number, at the same time, change nothing."""
    api.add(*(failed(f"e{n}") for n in range(50)))
    await asyncio.gather(*(discover(ctx) for _ in range(4)))
    await asyncio.gather(*(submit(ctx) for _ in range(4)))
    await asyncio.gather(*(discover(ctx) for _ in range(4)))
    await asyncio.gather(*(submit(ctx) for _ in range(4)))
    assert len(api.clones) == 50
    assert set(api.clones.values()) == {1}


async def test_a_worker_that_loses_the_race_for_the_intent_sends_nothing(
    ctx: Context, api: ScriptedApi
) -> None:
    """A claim ran out and two workers hold the same lineage in the same version."""
    api.add(failed("a"))
    await discover(ctx)
    lineage = await lineage_of(ctx, "a")
    workers = [_Submission(ctx, lambda _: None) for _ in range(3)]
    await asyncio.gather(*(each.work(lineage) for each in workers))
    assert api.calls == ["a"]


async def test_the_intent_is_on_record_before_the_call_leaves(ctx: Context, api: ScriptedApi) -> None:
    """Law 3: whatever the call meets, the ledger says `submitting` by then."""
    states: list[tuple[State, str]] = []

    async def look(api: ScriptedApi, of: str) -> Delivery:
        stored = await lineage_of(ctx, "a")
        states.append((stored.state, stored.intent.of if stored.intent else ""))
        return Accepted(api.make_clone(of))

    api.answers.append(look)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    assert states == [(State.SUBMITTING, "a")]


async def test_no_call_leaves_when_the_lease_is_too_short_for_it(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """A worker that was held up past its lease must not send."""
    ctx = with_options(submit_lease=timedelta(milliseconds=900))  # a call may take a second
    api.add(failed("a"))
    await discover(ctx)
    assert await submit(ctx) == {"notdelivered": 1}
    assert api.calls == []
    assert (await lineage_of(ctx, "a")).reason == "lease_too_short"


@pytest.mark.parametrize(
    ("delivery", "state", "reason"),
    [
        (NotDelivered("connect_error"), State.SCHEDULED, "connect_error"),
        (
            NotDelivered("rate_limited", http_status=429, pause=timedelta(seconds=5)),
            State.SCHEDULED,
            "rate_limited",
        ),
        (NotDelivered("unauthorized", http_status=401, suspend=True), State.SCHEDULED, "unauthorized"),
        (gone, State.REJECTED, "not_found"),
        (Refused("validation_error", "path → bad", 422), State.REJECTED, "validation_error"),
        (Conflict("not failed"), State.SCHEDULED, "conflict"),
        (Unclear("read_timeout"), State.UNRESOLVED, "read_timeout"),
    ],
)
async def test_what_the_end_of_a_call_means(
    ctx: Context, api: ScriptedApi, delivery: Delivery | Script, state: State, reason: str
) -> None:
    """The delivery table; and only a clone spends an attempt."""
    api.answers.append(delivery if callable(delivery) else answering(delivery))
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason, lineage.attempts) == (state, reason, ())


async def test_a_rejected_key_suspends_everyone_until_a_get_succeeds(ctx: Context, api: ScriptedApi) -> None:
    """401: no call leaves, no attempt is spent; the probe resumes the work by itself."""
    api.answers.append(answering(NotDelivered("unauthorized", http_status=401, suspend=True)))
    api.add(failed("a"), failed("b"))
    await discover(ctx)
    ctx.options = replace(ctx.options, submit_concurrency=1)
    await submit(ctx)
    assert (await ctx.ledger.gate.look()).reason == "unauthorized"
    assert await submit(ctx) == {}
    assert len(api.calls) == 1
    api.trouble = Unauthorized("unauthorized", "", 401)
    await ctx.ledger.connection.command("HSET", ctx.ledger.keys.gate, "probe_at", 0)
    await watch(ctx)
    assert (await ctx.ledger.gate.look()).closed
    api.trouble = None
    await ctx.ledger.connection.command("HSET", ctx.ledger.keys.gate, "probe_at", 0)
    await watch(ctx)
    assert not (await ctx.ledger.gate.look()).closed
    await ctx.ledger.reschedule(State.SCHEDULED, {"a": datetime.now(UTC), "b": datetime.now(UTC)})
    assert (await submit(ctx))["accepted"] >= 1


async def test_a_pause_holds_every_kind_of_call(ctx: Context, api: ScriptedApi) -> None:
    """Retry-After is honoured by polls, looks and retries of all workers."""
    api.add(failed("a"))
    await discover(ctx)
    api.trouble = Throttled("rate_limited", "", 429, timedelta(minutes=1))
    await discover(ctx)
    api.trouble = None
    pages = api.pages_read
    assert await submit(ctx) == {}
    assert await discover(ctx) is None
    assert await resolve(ctx) is None
    assert (api.calls, api.pages_read) == ([], pages)


async def test_a_gate_that_another_worker_closed_stops_the_rest_of_a_batch(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """The intent itself is refused: what was claimed before the gate closed is not sent, and not lost."""
    ctx = with_options(submit_concurrency=1)

    async def meanwhile(api: ScriptedApi, of: str) -> Delivery:
        await ctx.ledger.gate.pause("rate_limited", timedelta(minutes=1))
        return Accepted(api.make_clone(of))

    api.add(*(failed(f"e{n}") for n in range(5)))
    await discover(ctx)
    api.answers.extend([accepting, meanwhile])  # the first goes ahead, the others are claimed together
    await submit(ctx)
    assert len(api.calls) == 2
    assert len(await roots_in(ctx, State.SCHEDULED)) == 3


async def test_a_worker_that_stops_sends_nothing_that_waited_for_a_place(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """It was handed to the pool while a call was under way: it is given back, due as before."""
    ctx = with_options(submit_concurrency=1)

    async def meanwhile(api: ScriptedApi, of: str) -> Delivery:
        ctx.stopping = lambda: True
        return Accepted(api.make_clone(of))

    api.add(*(failed(f"e{n}") for n in range(5)))
    await discover(ctx)
    api.answers.extend([accepting, meanwhile])
    await submit(ctx)
    assert len(api.calls) == 2
    assert len(await roots_in(ctx, State.SCHEDULED)) == 3
    assert await ctx.ledger.count_due(State.SCHEDULED) == 3


async def test_the_policy_is_asked_again_right_before_the_call(ctx: Context, api: ScriptedApi) -> None:
    """A deploy that switches a workflow off stops what was scheduled before it."""
    api.add(failed("a"))
    await discover(ctx)
    ctx.policies = PolicyBook(Policy(enabled=False))
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason, api.calls) == (State.REJECTED, "policy_disabled", [])


async def test_trouble_with_the_list_loses_nothing(ctx: Context, api: ScriptedApi) -> None:
    """An unreachable list is tried again; the failures are found then."""
    api.add(failed("a"))
    api.trouble = Unreachable("connect_error", "")
    assert await discover(ctx) is None, "nothing was read: no tick says so"
    api.trouble = None
    assert (await poll(ctx))["discovered"] == 1


async def test_a_clone_that_failed_before_its_answer_was_processed_is_no_new_root(
    ctx: Context, api: ScriptedApi
) -> None:
    """Race 1: the list shows the failed clone while its 201 is still on the way."""

    async def fail_at_once(api: ScriptedApi, of: str) -> Delivery:
        clone = api.make_clone(of)
        api.end(clone.uuid, Status.FAILED)
        counts = await poll(ctx)
        assert counts["waiting"] == 1
        assert counts["discovered"] == 0
        return Accepted(clone)

    api.answers.append(fail_at_once)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    await discover(ctx)
    await watch(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, len(lineage.attempts)) == (State.SCHEDULED, 1)
    assert sum([len(await roots_in(ctx, state)) for state in State]) == 1


async def test_an_unrelated_failure_is_not_held_up_by_a_call_in_doubt(ctx: Context, api: ScriptedApi) -> None:
    """Another version, another payload, or one made before the call: a root at once."""

    async def meanwhile(api: ScriptedApi, of: str) -> Delivery:
        same = api.executions[of].fingerprint
        api.add(
            failed("other-payload", timedelta(0)),
            failed("other-version", timedelta(0), workflow_version_uuid="version-2", fingerprint=same),
            failed("older", timedelta(minutes=1), fingerprint=same),
            failed("may-be-it", timedelta(0), fingerprint=same),
        )
        counts = await poll(ctx)
        assert (counts["discovered"], counts["waiting"]) == (3, 1)
        return NotDelivered("connect_error")

    api.answers.append(meanwhile)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    assert (await poll(ctx))["discovered"] == 1  # the stranger's turn, now that nobody is in doubt


async def test_an_unclear_call_whose_clone_is_found_goes_on_with_it(ctx: Context, api: ScriptedApi) -> None:
    """The clone is adopted, the attempt is spent, the evidence kept; there is no second clone."""
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, len(lineage.attempts)) == (State.RUNNING, 1)
    assert "distinctive" in lineage.newest.evidence
    assert api.clones == {"a": 1}


async def test_an_unclear_call_without_a_clone_is_sent_again_after_the_grace(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Not before the grace is over; then it counts as not delivered and costs nothing."""
    ctx = with_options(resolve_grace=timedelta(hours=1))
    api.answers.append(answering(Unclear("read_timeout")))
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.UNRESOLVED
    ctx = with_options(resolve_grace=timedelta(0))
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason, lineage.attempts) == (State.SCHEDULED, "no_clone_found", ())
    assert lineage.due_at
    assert lineage.due_at - ctx.now() < timedelta(seconds=3)


@pytest.mark.parametrize(
    ("unclear", "state"), [("hold", State.HELD), ("adopt", State.RUNNING), ("retry", State.SCHEDULED)]
)
async def test_a_candidate_that_may_be_a_stranger_is_decided_by_the_setting(
    with_options: Callable[..., Context], api: ScriptedApi, unclear: str, state: State
) -> None:
    """With an empty payload a new execution proves nothing."""
    ctx = with_options(resolve_unclear=unclear)
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a", fingerprint=""))
    await discover(ctx)
    await submit(ctx)
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert lineage.state is state


async def test_the_failed_clone_of_a_held_lineage_does_not_begin_the_count_anew(
    ctx: Context, api: ScriptedApi
) -> None:
    """With an empty payload it cannot be told from a stranger: it is held; what came later is not."""
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a", fingerprint=""))
    await discover(ctx)
    await submit(ctx)
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.HELD
    clone = next(uuid for uuid in api.executions if uuid != "a")
    api.end(clone, Status.FAILED)
    later = ctx.now() + CLOCK_MARGIN + timedelta(seconds=1)
    api.add(execution("later", fingerprint="", created_at=later, updated_at=later))
    await discover(ctx)
    suspect = await lineage_of(ctx, clone)
    assert (suspect.state, suspect.reason) == (State.HELD, "may_be_a_clone")
    assert (await lineage_of(ctx, "later")).state is State.SCHEDULED
    await submit(ctx)
    assert clone not in api.clones


async def test_without_a_list_an_unclear_call_is_held(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Nobody can look for the clone, so a person decides."""
    api.answers.append(clone_then_lose_the_answer)
    ctx = with_options(lists=False)
    api.add(failed("a"))
    await ctx.ledger.track(["a"])
    await watch(ctx)
    await submit(ctx)
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.HELD, "no_listing")


async def test_a_worker_that_died_with_the_lease_leaves_nothing_behind(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Killed between intent and answer: the lease runs out, the clone is found, nothing is sent twice."""
    ctx = with_options(submit_lease=timedelta(seconds=1, milliseconds=100))

    async def die(api: ScriptedApi, of: str) -> Delivery:
        api.make_clone(of)
        raise asyncio.CancelledError

    api.answers.append(die)
    api.add(failed("a"))
    await discover(ctx)
    with pytest.raises(asyncio.CancelledError):
        await submit(ctx)
    assert (await lineage_of(ctx, "a")).state is State.SUBMITTING
    numbers = await resolve(ctx)
    assert numbers is not None
    assert numbers["lost_leases"] == 0  # the lease still runs
    await _until_the_lease_is_over(ctx, "a")
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert lineage.state is State.RUNNING
    assert api.clones == {"a": 1}


async def _until_the_lease_is_over(ctx: Context, root: str) -> None:
    intent = (await lineage_of(ctx, root)).intent
    assert intent is not None
    while ctx.now() <= intent.lease_until:
        await asyncio.sleep(0.02)


async def test_an_answer_that_comes_after_the_lease_still_counts(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Others took the call for lost and concluded "no clone"; the late 201 keeps them from a second one."""
    ctx = with_options(submit_lease=timedelta(seconds=1, milliseconds=50))

    async def late(api: ScriptedApi, of: str) -> Delivery:
        await _until_the_lease_is_over(ctx, "a")
        await resolve(ctx)
        await resolve(ctx)
        assert (await lineage_of(ctx, "a")).state is State.SCHEDULED
        return Accepted(api.make_clone(of))

    api.answers.append(late)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert lineage.state is State.RUNNING
    assert await submit(ctx) == {}
    assert api.clones == {"a": 1}


async def test_failures_older_than_the_first_start_are_left_alone(ctx: Context, api: ScriptedApi) -> None:
    """Law 8: turning it on is safe."""
    api.add(failed("old", timedelta(minutes=11)), failed("new"))
    counts = await poll(ctx)
    assert (counts["discovered"], counts["left_alone"]) == (1, 1)


async def test_a_lost_ledger_is_a_first_start(ctx: Context, api: ScriptedApi) -> None:
    """Law 8: what was retried before the loss is not retried again after it."""
    api.add(failed("a", timedelta(seconds=30)))
    await discover(ctx)
    await submit(ctx)
    keys = await ctx.ledger.connection.command("KEYS", "*" + ctx.ledger.keys.namespace + "*")
    await ctx.ledger.connection.command("DEL", *keys)
    counts = await poll(ctx)
    assert (counts["discovered"], counts["left_alone"]) == (0, 1)
    assert await submit(ctx) == {}
    assert api.clones == {"a": 1}


async def test_backfill_takes_older_failures_in(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """DISCOVERY_BACKFILL says otherwise."""
    ctx = with_options(discovery_backfill=timedelta(hours=1))
    api.add(failed("old", timedelta(minutes=50)))
    assert (await poll(ctx))["discovered"] == 1


async def test_failures_without_dates_from_before_the_first_start_are_left_alone(
    ctx: Context, api: ScriptedApi
) -> None:
    """Without dates the first complete reading decides: what it meets is old, what comes later is new."""
    api.add(failed("old", created_at=None, updated_at=None))
    assert (await poll(ctx))["left_alone"] == 1
    api.add(failed("new", created_at=None, updated_at=None))
    counts = await poll(ctx)
    assert (counts["discovered"], counts["left_alone"]) == (1, 0)


async def test_the_apis_clock_may_be_wrong(ctx: Context, api: ScriptedApi) -> None:
    """An API an hour behind ours does not make fresh failures look old."""
    api.skew = -timedelta(hours=1)
    api.add(failed("a", timedelta(hours=1, seconds=1)))
    assert (await poll(ctx))["discovered"] == 1
    assert ctx.now() - (await lineage_of(ctx, "a")).root_failed_at < timedelta(seconds=10)


async def test_a_retry_in_place_does_not_count_the_old_failure_again(ctx: Context, api: ScriptedApi) -> None:
    """201 with the same uuid: the failure it was retried for is not a new one; the next one is."""
    api.add(failed("a"))

    async def in_place(api: ScriptedApi, of: str) -> Delivery:
        return Accepted(api.executions[of])  # still shows the old failure

    api.answers.append(in_place)
    await discover(ctx)
    await submit(ctx)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RUNNING
    api.end("a", Status.FAILED)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.SCHEDULED
    await discover(ctx)
    assert sum([len(await roots_in(ctx, state)) for state in State]) == 1


async def test_a_conflict_is_looked_at_before_anything_else_is_sent(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """409, and the execution runs again: a retry would stop that run, so none is sent; it completes."""
    ctx = with_options(watch_interval=timedelta(seconds=1))
    api.answers.append(answering(Conflict("not failed")))
    api.add(failed("a"))
    await discover(ctx)
    api.end("a", Status.RUNNING)
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert lineage.reason == "conflict"
    await _due_now(ctx, lineage)
    await submit(ctx)
    assert api.calls == ["a"]
    api.end("a", Status.COMPLETED)
    await _due_now(ctx, lineage)
    await submit(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RECOVERED
    assert api.calls == ["a"]


async def _due_now(ctx: Context, lineage: Lineage) -> None:
    """Wait until a lineage's own due time has passed, then let the index say so."""
    while lineage.due_at and ctx.now() <= lineage.due_at:
        await asyncio.sleep(0.05)
    await ctx.ledger.reschedule(State.SCHEDULED, {lineage.root: ctx.now()})


async def test_a_clone_the_api_does_not_know_ends_with_a_reason(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """It is given the grace first: it may only be late to appear."""
    api.add(failed("a"))
    ctx = with_options(resolve_grace=timedelta(hours=1))
    await discover(ctx)
    await submit(ctx)
    del api.executions[(await lineage_of(ctx, "a")).newest.clone]
    await watch(ctx)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RUNNING
    ctx = with_options(resolve_grace=timedelta(0))
    await watch(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.REJECTED, "clone_not_found")


async def test_a_workflow_whose_policy_is_off_is_rejected_with_a_reason(
    ctx: Context, api: ScriptedApi
) -> None:
    """Nothing is dropped in silence."""
    ctx.policies = PolicyBook(Policy(enabled=False))
    api.add(failed("a"))
    await discover(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.REJECTED, "policy_disabled")


async def test_tracked_executions_are_retried_when_they_fail(ctx: Context, api: ScriptedApi) -> None:
    """Named executions need no list; one that completes or does not exist is let go."""
    api.add(failed("a", timedelta(days=3)), execution("b", Status.RUNNING), execution("c", Status.COMPLETED))
    assert await ctx.ledger.track(["a", "b", "c"]) == 3
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).source == "track"
    assert set(await ctx.ledger.connection.command("ZRANGE", ctx.ledger.keys.tracked, 0, -1)) == {"b"}
    api.end("b", Status.FAILED)
    await ctx.ledger.look_again({"b": ctx.now()})
    await watch(ctx)
    assert (await lineage_of(ctx, "b")).source == "track"


async def test_a_tracked_execution_that_was_written_otherwise_is_let_go(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person wrote ABC, the API says abc: the lineage is abc's, and ABC is looked at no more."""
    api.add(failed("abc"))
    get = api.get
    monkeypatch.setattr(api, "get", lambda uuid: get(uuid.casefold()))
    await ctx.ledger.track(["ABC"])
    await watch(ctx)
    assert (await lineage_of(ctx, "abc")).state is State.SCHEDULED
    assert await ctx.ledger.tracked_since("ABC") is None


async def test_a_large_backlog_wakes_siblings(with_options: Callable[..., Context], api: ScriptedApi) -> None:
    """Every container takes a share."""
    ctx = with_options(submit_batch=10)
    api.add(*(failed(f"e{n}") for n in range(35)))
    await discover(ctx)
    woken: list[int] = []
    await submit(ctx, woken.append)
    assert woken[0] == 3  # after the one that went ahead and a batch of 10, 24 more are due
    assert len(api.clones) == 35


async def test_a_reading_that_was_cut_short_is_made_up_for(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker died after the first page: the next poll finds what lay behind, not only the next sweep."""
    api.page_size = 10
    two_minutes_ago = ctx.now() - timedelta(minutes=2)
    with monkeypatch.context() as patched:
        patched.setattr(Context, "now", lambda _: two_minutes_ago)
        await poll(ctx)  # the first sweep is complete
    api.add(*(failed(f"e{n}", timedelta(seconds=30, milliseconds=n)) for n in range(60)))

    async def die(_: Turn) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(ctx.ledger.jobs, "extend", die)  # as if the process ended here
        with pytest.raises(ZeroDivisionError):
            await discover(ctx)
    assert len(await roots_in(ctx, State.SCHEDULED)) == 10
    await asyncio.sleep(0.01)
    assert (await poll(ctx))["discovered"] == 50


async def test_a_head_poll_stops_early_and_a_sweep_does_not(ctx: Context, api: ScriptedApi) -> None:
    """Known failures cost one page per poll."""
    api.page_size = 10
    api.add(*(failed(f"e{n}", timedelta(minutes=5, seconds=n)) for n in range(60)))
    assert (await poll(ctx))["pages"] == 6
    assert (await poll(ctx))["pages"] == 1
    api.add(failed("late", timedelta(seconds=0)))
    counts = await poll(ctx)
    assert (counts["pages"], counts["discovered"]) == (2, 1)


async def test_a_candidate_without_a_comparison_waits_for_the_grace(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """500 before the commit, and an ordinary run with the same payload begins: another one gives it away."""
    ctx = with_options(resolve_grace=timedelta(hours=1))
    api.answers.append(answering(Unclear("http_500", http_status=500)))
    api.add(failed("a", fingerprint="always-the-same"))
    await discover(ctx)
    await submit(ctx)
    stranger = execution("stranger-1", Status.COMPLETED, fingerprint="always-the-same")
    api.add(replace(stranger, created_at=datetime.now(UTC)))
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.UNRESOLVED
    api.add(replace(stranger, uuid="stranger-2", created_at=datetime.now(UTC)))
    with_options(resolve_grace=timedelta(0))
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.HELD


async def test_an_api_that_stood_still_gets_the_whole_grace_once_more(
    with_options: Callable[..., Context], api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen API takes the call in and makes the clone when it goes on, long after the call timed out."""
    ctx = with_options(resolve_grace=timedelta(seconds=60))
    late: list[str] = []

    async def taken_in(api: ScriptedApi, of: str) -> Delivery:
        late.append(of)
        return Unclear("read_timeout")

    api.answers.append(taken_in)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    await resolve(ctx)
    began = ctx.now()
    api.trouble = Unreachable("read_timeout")
    await resolve(ctx)
    api.trouble = None
    monkeypatch.setattr(Context, "now", lambda _: began + timedelta(minutes=5))
    await ctx.ledger.reschedule(State.UNRESOLVED, {"a": began})
    await resolve(ctx)  # the API answers again, and has not come to the call yet
    assert (await lineage_of(ctx, "a")).state is State.UNRESOLVED
    api.make_clone(late[0])
    await ctx.ledger.reschedule(State.UNRESOLVED, {"a": began})
    monkeypatch.setattr(Context, "now", lambda _: began + timedelta(minutes=7))
    with_options(resolve_grace=timedelta(0))
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RUNNING
    assert api.clones == {"a": 1}


async def test_a_turn_that_is_kept_up_outlives_its_lease(ctx: Context) -> None:
    """The lease is short, so that a worker that is killed does not hold up the job for long."""
    jobs = ctx.ledger.jobs
    lease = timedelta(milliseconds=60)
    turn = await jobs.begin("x", lease=lease, gap=timedelta(0), calls_api=False)
    assert not isinstance(turn, str)
    async with jobs.keeping(turn):
        await asyncio.sleep(0.3)
        assert await jobs.begin("x", lease=lease, gap=timedelta(0), calls_api=False) == "busy"
    while isinstance(await jobs.begin("x", lease=lease, gap=timedelta(0), calls_api=False), str):
        await asyncio.sleep(0.01)


async def test_a_list_that_was_cut_short_proves_nothing(ctx: Context, api: ScriptedApi) -> None:
    """The walk ended before it came back to the call: the clone may lie deeper, and a person decides."""
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    api.page_size = 1
    api.add(*(failed(f"other-{n}", timedelta(0), workflow_version_uuid="version-2") for n in range(3)))
    api.cut_after_pages = 1
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.HELD, "listing_incomplete")


async def test_clocks_that_disagree_make_no_second_clone(ctx: Context, api: ScriptedApi) -> None:
    """The clone has the API's date, the call ours: far apart as they may be, nobody says "no clone"."""
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a", timedelta(minutes=5)))
    await discover(ctx)
    await submit(ctx)
    clone = next(uuid for uuid in api.executions if uuid != "a")
    long_ago = datetime.now(UTC) - timedelta(minutes=1)  # a minute before the call, it seems
    api.executions[clone] = replace(api.executions[clone], created_at=long_ago, status=Status.FAILED)
    assert (await poll(ctx))["waiting"] == 1
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.HELD, "unclear")


@pytest.mark.parametrize("created", ["never", "an hour later"])
async def test_a_candidate_that_does_not_fit_in_time_is_no_proof(
    ctx: Context, api: ScriptedApi, created: str
) -> None:
    """Undated, or from long after the call: an ordinary run of the same payload."""
    api.answers.append(answering(Unclear("http_500", http_status=500)))
    api.add(failed("a"), failed("b", workflow_name="other payloads exist"))
    await discover(ctx)
    ctx.options = replace(ctx.options, submit_concurrency=1)
    await submit(ctx)
    root = (await roots_in(ctx, State.UNRESOLVED)).pop()
    created_at = None if created == "never" else datetime.now(UTC) + timedelta(hours=1)
    print_of_root = api.executions[root].fingerprint
    api.add(execution("stranger", Status.COMPLETED, fingerprint=print_of_root, created_at=created_at))
    await resolve(ctx)
    assert (await lineage_of(ctx, root)).state is State.HELD


async def test_an_unreadable_entry_may_be_the_clone(ctx: Context, api: ScriptedApi) -> None:
    """Nothing is sent again on a list that nobody can wholly read: a person decides."""
    api.answers.append(answering(Unclear("read_timeout")))
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    api.unreadable_per_page = 1
    await resolve(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.HELD, "listing_unreadable")


async def test_an_undelivered_call_spends_no_attempt(ctx: Context, api: ScriptedApi) -> None:
    """Also in the middle of a lineage: one clone was made, and one it stays."""
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    api.end(next(uuid for uuid in api.executions if uuid != "a"), Status.FAILED)
    await watch(ctx)
    api.answers.append(answering(NotDelivered("connect_error")))
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.reason, lineage.undelivered, len(lineage.attempts)) == ("connect_error", 1, 1)


@pytest.mark.parametrize("alike", [False, True])
async def test_payloads_that_the_list_leaves_out_are_asked_for(
    ctx: Context, api: ScriptedApi, alike: bool
) -> None:
    """The clone is found on proof by its payload; where two lineages share it, it is still held."""
    api.payload_in_list = False
    api.answers.extend([clone_then_lose_the_answer] * 2)
    api.add(failed("a", fingerprint="print-1"), failed("b", fingerprint="print-1" if alike else "print-2"))
    await discover(ctx)
    await submit(ctx)
    await resolve(ctx)
    for root in ("a", "b"):
        lineage = await lineage_of(ctx, root)
        assert lineage.state is (State.HELD if alike else State.RUNNING), lineage.detail
        assert not lineage.attempts or lineage.newest.clone.endswith(f"-of-{root}")
    gets = api.gets
    assert gets == 4  # two failures, two clones, each asked for once
    await resolve(ctx)
    assert api.gets == gets


async def test_payloads_that_the_api_will_not_show_now_leave_the_call_in_doubt(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown matches anything: a stranger of the same version is never taken for the clone."""
    api.payload_in_list = False
    api.answers.append(answering(Unclear("read_timeout")))
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    api.add(execution("stranger", Status.COMPLETED, created_at=datetime.now(UTC)))

    async def unreachable(uuid: str) -> Execution:
        raise Unreachable("http_500", "", 500)

    monkeypatch.setattr(api, "get", unreachable)
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.HELD


async def test_a_process_that_has_not_heard_the_apis_clock_yet_finds_the_clone(
    ctx: Context, api: ScriptedApi
) -> None:
    """The window is laid by the clock of the listing itself, not by what was known before it."""
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    behind = -timedelta(minutes=1)
    clone = next(each for uuid, each in api.executions.items() if uuid != "a")
    assert clone.created_at is not None
    api.add(replace(clone, created_at=clone.created_at + behind))
    api.skew_of_next_listing = behind
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RUNNING


async def test_a_tracked_execution_that_may_be_a_clone_in_doubt_waits(ctx: Context, api: ScriptedApi) -> None:
    """Someone names the failed clone of an unclear call: as a root it would let the call be repeated."""
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    clone = next(uuid for uuid in api.executions if uuid != "a")
    api.end(clone, Status.FAILED)
    await ctx.ledger.track([clone])
    await watch(ctx)
    assert clone not in await roots_in(ctx, State.SCHEDULED)
    await resolve(ctx)
    assert (await lineage_of(ctx, "a")).newest.clone == clone
    await ctx.ledger.look_again({clone: datetime.fromtimestamp(0, UTC)})
    await watch(ctx)
    assert await ctx.ledger.tracked_since(clone) is None
    await submit(ctx)
    assert api.clones["a"] == 1


async def test_lineages_that_are_not_this_ticks_turn_share_the_candidates_too(
    ctx: Context, api: ScriptedApi
) -> None:
    """Two unclear calls with the same payload, one clone: neither has it on proof, and none is repeated."""
    api.answers.extend([clone_then_lose_the_answer, answering(Unclear("read_timeout"))])
    ctx.options = replace(ctx.options, submit_concurrency=1, resolve_grace=timedelta(hours=1))
    api.add(failed("a", fingerprint="same"), failed("b", fingerprint="same"))
    await discover(ctx)
    await submit(ctx)
    (cloned,) = api.clones
    (other,) = {"a", "b"} - {cloned}
    # The listing ends before it shows the other root as a stranger; it shows that payloads differ.
    api.page_size = 1
    api.add(failed("c", timedelta(0), fingerprint="another"))
    for root, age in ((other, timedelta(minutes=20)), (cloned, timedelta(minutes=30))):
        api.add(replace(api.executions[root], created_at=ctx.now() - age))
    await ctx.ledger.reschedule(State.UNRESOLVED, {cloned: ctx.now() + timedelta(hours=1)})
    await resolve(ctx)
    assert (await lineage_of(ctx, other)).state is State.UNRESOLVED


async def test_a_look_that_failed_is_no_verdict(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """After a day's outage the first failed GET must not end what may have completed."""
    ctx = with_options(watch_timeout=timedelta(0))
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    await ctx.ledger.track(["t"])
    api.trouble = Unreachable("http_502", "", 502)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RUNNING
    assert await ctx.ledger.tracked_since("t") is not None


async def test_conflicts_are_counted_apart_from_an_outage(ctx: Context, api: ScriptedApi) -> None:
    """Four connect errors and one 409 are no five conflicts."""
    api.add(failed("a"))
    await discover(ctx)
    lineage = await lineage_of(ctx, "a")
    for n in range(4):
        sent = submitting(lineage, token=f"t{n}", now=ctx.now())
        lineage = transitions.not_delivered(
            sent.after, reason="connect_error", detail="", due_at=ctx.now(), now=ctx.now()
        ).after
        await ctx.ledger.commit(sent)
        await ctx.ledger.commit(_changed(sent.after, lineage))
    api.answers.append(answering(Conflict("not failed")))
    await submit(ctx)
    lineage = await lineage_of(ctx, "a")
    assert (lineage.state, lineage.conflicts, lineage.undelivered) == (State.SCHEDULED, 1, 5)


def _changed(before: Lineage, after: Lineage) -> transitions.Change:
    return transitions.Change(before, after, ())


async def test_looks_stop_when_the_api_asks_for_a_rest(ctx: Context, api: ScriptedApi) -> None:
    """Retry-After is for all calls, also for those of the batch that met it."""
    ctx.options = replace(ctx.options, submit_concurrency=1)
    api.add(*(failed(f"e{n}") for n in range(10)))
    await discover(ctx)
    await submit(ctx)
    api.trouble = Throttled("rate_limited", "", 429, timedelta(minutes=1))
    await watch(ctx)
    assert api.gets == 1


async def test_a_walk_stops_when_the_gate_is_closed_meanwhile(ctx: Context, api: ScriptedApi) -> None:
    """Another worker met a 401: no further page is asked for."""
    turn = await ctx.ledger.jobs.begin("x", lease=timedelta(minutes=1), gap=timedelta(0), calls_api=True)
    assert not isinstance(turn, str)
    assert await ctx.ledger.jobs.extend(turn)
    await ctx.ledger.gate.suspend("unauthorized", "", timedelta(minutes=1), timedelta(minutes=1))
    assert not await ctx.ledger.jobs.extend(turn)


async def test_a_sweep_over_known_failures_stops_when_the_gate_is_closed(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker met a 401 while pages were read: no further page is asked for."""
    api.add(*(failed(f"e{n}", timedelta(seconds=n)) for n in range(3 * QUICK_PAGES)))
    await discover(ctx)
    ctx.options = replace(ctx.options, discovery_sweep=timedelta(0))
    api.page_size, api.pages_read = 1, 0
    strangers = Ledger.strangers

    async def close_and_look(*arguments: Any) -> tuple[list[str], bool]:
        await ctx.ledger.gate.suspend("unauthorized", "", timedelta(minutes=1), timedelta(minutes=1))
        return await strangers(*arguments)

    monkeypatch.setattr(Ledger, "strangers", close_and_look)
    await discover(ctx)
    assert 1 <= api.pages_read <= QUICK_PAGES


async def test_a_sweep_over_known_failures_stops_when_another_has_the_turn(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This worker stood still for longer than its lease: who took the turn over reads the list alone."""
    api.add(*(failed(f"e{n}", timedelta(seconds=n)) for n in range(3 * QUICK_PAGES)))
    await discover(ctx)
    ctx.options = replace(ctx.options, discovery_sweep=timedelta(0))
    api.page_size, api.pages_read = 1, 0
    strangers = Ledger.strangers

    async def lose_and_look(ledger: Ledger, turn: Turn, uuids: list[str]) -> tuple[list[str], bool]:
        await ledger.jobs.finish(turn)
        await ledger.jobs.begin(turn.job, lease=turn.lease, gap=timedelta(0), calls_api=True)
        return await strangers(ledger, turn, uuids)

    monkeypatch.setattr(Ledger, "strangers", lose_and_look)
    await discover(ctx)
    assert 1 <= api.pages_read <= QUICK_PAGES


@pytest.mark.parametrize("broken", [1, 2, QUICK_PAGES + 2])
async def test_what_a_sweep_read_counts_although_the_list_breaks_further_on(
    ctx: Context, api: ScriptedApi, broken: int
) -> None:
    """A list that breaks at the same page each time is known up to there."""
    api.add(*(failed(f"e{n}", timedelta(seconds=n)) for n in range(3 * QUICK_PAGES)))
    api.page_size, api.break_after_pages = 1, broken
    assert (await poll(ctx))["discovered"] == broken
    assert await roots_in(ctx, State.SCHEDULED) == {f"e{n}" for n in range(broken)}


async def test_a_page_of_known_failures_costs_one_look_that_writes_nothing(
    ctx: Context, api: ScriptedApi
) -> None:
    """A sweep reads a thousand such pages every ten minutes."""
    api.add(*(failed(f"e{n}", timedelta(seconds=n)) for n in range(30)))
    await discover(ctx)
    ctx.options = replace(ctx.options, discovery_sweep=timedelta(0))
    turn = await ctx.ledger.jobs.begin("x", lease=timedelta(minutes=1), gap=timedelta(0), calls_api=True)
    assert not isinstance(turn, str)
    before = await ctx.ledger.connection.command("INFO", "commandstats")
    found = await ctx.ledger.strangers(turn, ["new", *(f"e{n}" for n in range(30)), "newer"])
    after = await ctx.ledger.connection.command("INFO", "commandstats")
    assert found == (["new", "newer"], True)
    writing = await ctx.ledger.connection.command("COMMAND LIST", "FILTERBY", "ACLCAT", "write")
    assert not {name for name in after if after[name] != before.get(name)} & {f"cmdstat_{w}" for w in writing}


async def test_strangers_are_told_from_clones_roots_and_what_was_left_alone(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick look-up says the same as the thorough one, however many are asked for."""
    monkeypatch.setattr("worker.ledger.ledger.PART", 3)
    api.add(failed("root"))
    await discover(ctx)
    await submit(ctx)
    await ctx.ledger.leave_alone(["undated"])
    uuids = ["a", "root", "b", (await lineage_of(ctx, "root")).newest.clone, "undated", "c", "d"]
    turn = await ctx.ledger.jobs.begin("x", lease=timedelta(minutes=1), gap=timedelta(0), calls_api=True)
    assert not isinstance(turn, str)
    owners = await ctx.ledger.owners(uuids)
    assert [each for each in uuids if each not in owners] == ["a", "b", "c", "d"]
    assert await ctx.ledger.strangers(turn, uuids) == (["a", "b", "c", "d"], True)
    assert await ctx.ledger.strangers(turn, []) == ([], True)
    await ctx.ledger.jobs.finish(turn)
    assert await ctx.ledger.strangers(turn, uuids[:1]) == (["a"], False)


async def test_a_sweep_finds_what_ran_for_longer_than_the_look_back(ctx: Context, api: ScriptedApi) -> None:
    """The look-back counts from the failure, not from the creation."""
    api.page_size = 1
    now = ctx.now()
    api.add(failed("new"), failed("long", created_at=now - timedelta(hours=26), updated_at=now))
    api.add(failed("between", created_at=now - timedelta(hours=25), updated_at=now))
    assert (await poll(ctx))["discovered"] == 3


async def test_old_verdicts_are_forgotten(with_options: Callable[..., Context], api: ScriptedApi) -> None:
    """Retention: record, index and ownership go; what is not final stays."""
    ctx = with_options(retention=timedelta(0))
    api.add(failed("a"), failed("b"))
    await discover(ctx)
    api.answers.append(gone)
    ctx.options = replace(ctx.options, submit_concurrency=1)
    await submit(ctx)
    assert await prune(ctx) == {"forgotten": 1}
    assert len(await roots_in(ctx, State.RUNNING)) == 1
    assert await prune(ctx) is None  # a minute has not passed
