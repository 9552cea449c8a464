"""`retry`, `hold`, `release` and `cancel`: a person's word over a real ledger, and against workers."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.test_engine import failed, lineage_of, watch
from tests.support.commands import Command
from tests.support.examples import NO_LIMITS, discovered, execution, running, submitting
from tests.support.scripted_api import ScriptedApi, accepting, answering
from worker.cli.ordering import Came, Item, Ordering, Wanted
from worker.cli.person import Person
from worker.domain import orders, transitions
from worker.domain.breaker import Rule
from worker.domain.budget import WorkflowLimits
from worker.domain.calendar import Calendar, parse_span
from worker.domain.delivery import Delivery, NotDelivered
from worker.domain.executions import Execution, Status
from worker.domain.lineage import HELD_BY_PERSON, Lineage, State, Wish
from worker.domain.policy import Jitter, Policy, PolicyBook
from worker.domain.transitions import Change
from worker.engine import discover, submit
from worker.engine.context import Context
from worker.ledger import Ledger, LedgerUnavailable, Outcome
from worker.ledger.reports import Reports, StoredEvent

WHY = ("--reason", "the payer fixed it")
ANN, BOB = Person("ann@ops", "asked the payer"), Person("bob@ops", "done by hand")
NO_POLICIES = PolicyBook(Policy())
REFUSES_ALL = Policy(
    max_attempts=0,
    base_delay=timedelta(0),
    jitter=Jitter.NONE,
    strikes=2,
    breaker=Rule(failures=1),
    limits=WorkflowLimits(share=0.001, floor=0),
    calendar=Calendar(quiet=(parse_span("mon-sun 00:00-24:00"),)),
)


async def events_of(ledger: Ledger, root: str) -> list[StoredEvent]:
    return await Reports(ledger).story(await the(ledger, root))


async def the(ledger: Ledger, root: str) -> Lineage:
    found = (await ledger.read([root]))[root]
    assert isinstance(found, Lineage)
    return found


async def put(ledger: Ledger, *changes: Change) -> Lineage:
    for change in changes:
        assert await ledger.commit(change) is Outcome.COMMITTED
    return changes[-1].after


async def dead_letter(ledger: Ledger, root: str = "a") -> Lineage:
    """Store a lineage whose one clone failed, and with it the last attempt."""
    now = datetime.now(UTC)
    found = discovered(execution(root, created_at=now, updated_at=now), now=now)
    alive = running(found.after, f"clone-of-{root}", now=now)
    ended = transitions.stop_watching(alive.after, reason="attempts_used_up", detail="1 of 1", now=now)
    newest = replace(ended.after.newest, outcome="failed")
    ended = replace(ended, after=replace(ended.after, attempts=(newest,), failing=newest.clone))
    sent = submitting(found.after, now=now)
    return await put(ledger, found, sent, replace(alive, before=sent.after), ended)


async def submit_until(ctx: Context, api: ScriptedApi, calls: list[str]) -> None:
    """Let workers work until these calls have left: what is due now may be due in a moment by the server."""
    ends_at_s = time.monotonic() + 15
    while api.calls != calls:
        assert time.monotonic() < ends_at_s, api.calls
        await submit(ctx)


def results(out: str) -> dict[str, dict[str, Any]]:
    return {item["uuid"]: item for item in map(json.loads, out.splitlines())}


# --- one at a time -------------------------------------------------------------------------------------


async def test_a_dead_letter_is_retried_once_more_and_the_record_says_who_wanted_it(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """Any execution of it names it; the clone leaves at the next tick, and then the policy decides again."""
    ctx.policies = PolicyBook(replace(ctx.policies.default, max_attempts=1))
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    clone = next(iter(api.executions.keys() - {"a"}))
    api.end(clone, Status.FAILED)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).reason == "attempts_used_up"
    answer = await command("retry", clone, *WHY, "--by", "Ann")
    assert answer.code == 0, answer.err
    assert "attempt 2 goes now" in answer.out
    assert "1 done (on record: Ann (" in answer.out
    decided, scheduled = (await events_of(ctx.ledger, "a"))[-2:]
    assert (decided.name, decided.facts["decision"], decided.facts["why"]) == (
        "person_decided",
        "retry",
        "the payer fixed it",
    )
    assert (scheduled.name, scheduled.facts["rule"]) == ("retry_scheduled", "decided_by_person")
    story = (await command("show", "a", "--no-links")).out
    assert "decided that it is retried now, whatever its policy says: the payer fixed it" in story
    assert "a person wants this attempt now" in story
    await submit_until(ctx, api, ["a", clone])
    again = await lineage_of(ctx, "a")
    assert (again.state, again.order, again.made) == (State.RUNNING, None, 2)
    api.end(again.newest.clone, Status.FAILED)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).reason == "attempts_used_up"


@pytest.mark.parametrize("policy", [REFUSES_ALL, replace(REFUSES_ALL, enabled=False)])
async def test_an_ordered_retry_goes_whatever_policy_breaker_calendar_and_budgets_say(
    command: Command, ctx: Context, api: ScriptedApi, policy: Policy
) -> None:
    """Report only, switched off, in trouble, at night and without budget: a person said so."""
    ctx.policies = PolicyBook(policy)
    api.add(failed("a"), failed("b"))
    await discover(ctx)
    await submit(ctx)
    assert api.calls == []
    assert (await command("retry", "a", *WHY)).code == 0
    await submit_until(ctx, api, ["a"])
    known = await ctx.ledger.workflows.look(["workflow-1"], timedelta(hours=6))
    assert (known["workflow-1"].usage.made, known["workflow-1"].usage.all_made) == (0, 0), (
        "it uses no budget up"
    )


async def test_a_retry_beside_a_clone_that_may_live_has_to_be_asked_for(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """The refusal names the clone; with `--beside-clone` there are two."""
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    alive = await lineage_of(ctx, "a")
    lost = transitions.stop_watching(alive, reason="watch_timeout", detail="24 h", now=ctx.now())
    assert await ctx.ledger.commit(lost) is Outcome.COMMITTED
    refused = await command("retry", "a", *WHY)
    assert refused.code == 1
    assert f"its clone {alive.newest.clone} was never seen to end" in refused.out
    assert (await command("retry", "a", *WHY, "--beside-clone")).code == 0
    await submit_until(ctx, api, ["a", "a"])
    assert api.clones == {"a": 2}


async def test_a_held_failure_is_not_retried_before_it_is_released(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """`list` and `show` say who holds it; nothing is lost by waiting."""
    api.add(failed("a"))
    await discover(ctx)
    assert "held until someone releases it" in (await command("hold", "a", *WHY)).out
    await submit(ctx)
    assert api.calls == []
    held = await lineage_of(ctx, "a")
    assert (held.state, held.reason) == (State.HELD, HELD_BY_PERSON)
    story = (await command("show", "a", "--no-links")).out
    assert "decided that it is held: the payer fixed it" in story
    again = await command("hold", "a", *WHY)
    assert again.code == 1
    assert "it is held already (held_by_person)" in again.out
    assert "attempt 1 is due now" in (await command("release", "a", *WHY)).out
    await submit_until(ctx, api, ["a"])


async def test_what_is_asked_for_while_a_clone_runs_is_done_when_it_has_ended(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """It is followed to its end; then there is no further attempt."""
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    clone = (await lineage_of(ctx, "a")).newest.clone
    answer = await command("cancel", "a", *WHY)
    assert f"cancelled, unless it completes, when its attempt has ended: its clone {clone}" in answer.out
    assert (
        "a person wants it cancelled when its attempt has ended"
        in (await command("show", "a", "--no-links")).out
    )
    (decided,) = (await events_of(ctx.ledger, "a"))[-1:]
    assert (decided.name, decided.facts["decision"]) == ("person_decided", "cancel")
    api.end(clone, Status.FAILED)
    await watch(ctx)
    ended = await lineage_of(ctx, "a")
    assert (ended.state, ended.reason) == (State.CANCELLED, "cancelled_by_person")
    await discover(ctx)
    await submit(ctx)
    assert api.calls == ["a"]
    names = [event.name for event in await events_of(ctx.ledger, "a")]
    assert names[-2:] == ["attempt_failed", "retry_cancelled"]
    assert "cancelled" in (await command("show", "a", "--no-links")).out


async def test_an_order_while_the_call_is_in_the_air_is_kept_with_its_answer(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """The worker's record of the answer does not overwrite what a person said meanwhile."""

    async def held_meanwhile(api: ScriptedApi, of: str) -> Delivery:
        answer = await command("hold", of, *WHY)
        assert "held when its attempt has ended: its retry call is under way" in answer.out
        return await accepting(api, of)

    async def cancelled_meanwhile(api: ScriptedApi, of: str) -> Delivery:
        assert (await command("cancel", of, *WHY)).code == 0
        return NotDelivered("connect_error")

    api.answers += [held_meanwhile, cancelled_meanwhile]
    api.add(failed("a", timedelta(seconds=2)))
    await discover(ctx)
    await submit(ctx)
    flying = await lineage_of(ctx, "a")
    assert flying.order is not None
    assert (flying.state, flying.order.wish) == (State.RUNNING, Wish.HOLD)
    api.end(flying.newest.clone, Status.FAILED)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.HELD
    assert (await command("release", "a", *WHY)).code == 0
    await submit_until(ctx, api, ["a", flying.newest.clone])
    ended = await lineage_of(ctx, "a")
    assert (ended.state, ended.made, ended.order) == (State.CANCELLED, 1, None)


async def test_resolving_what_is_in_no_doubt_is_a_release(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """Two words for one thing."""
    api.add(failed("a"))
    await discover(ctx)
    await command("hold", "a", *WHY)
    answer = await command("resolve", "a", "--not-delivered", *WHY, "--json")
    assert (answer.value["state"], answer.value["decision"]) == ("scheduled", "release")


async def test_words_that_nobody_can_read_and_names_that_nobody_has_are_wrong_usage(
    command: Command, ledger: Ledger
) -> None:
    """Nothing is done; the exit code says which kind of wrong."""
    assert (await command("retry", "a")).code == 2
    assert (await command("retry", "a", "--reason", "\x1b[0m ")).code == 2
    assert (await command("retry", "x" * 300, *WHY)).code == 2
    unknown = await command("retry", "nobody", *WHY)
    assert (unknown.code, "no lineage has this execution" in unknown.out) == (1, True)


# --- many at once --------------------------------------------------------------------------------------


async def test_thousands_are_held_and_released_from_standard_input(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says first what it would do; then it does it in seconds, with a result for each."""
    await ledger.begin(timedelta(minutes=10))
    many = [f"e{n:04}" for n in range(2000)]
    now = datetime.now(UTC)
    made = [execution(each, created_at=now, updated_at=now) for each in many]
    await asyncio.gather(*(ledger.commit(discovered(each, now=now)) for each in made))
    await dead_letter(ledger, "dead")

    def piped(*uuids: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(uuids) + "\n"))

    piped(*many, "dead")
    asked = await command("hold", "-", *WHY)
    assert asked.code == 2
    assert "about to hold until someone releases them: 2000 failures" in asked.err
    assert "2000 of Prior authorisation" in asked.err
    assert "not 1: exhausted (attempts_used_up)" in asked.err
    assert "nothing is done yet: add --yes" in asked.err
    assert (await Reports(ledger).summary()).states[State.HELD] == 0
    piped(*many, "dead", many[0], "nobody")
    began_s = time.monotonic()
    done = await command("hold", "-", *WHY, "--yes", "--json")
    spent_s = time.monotonic() - began_s
    assert done.code == 1
    assert "2000 done, 1 refused, 1 not known" in done.err
    came = results(done.out)
    assert len(came) == 2002
    assert {came[each]["result"] for each in many} == {"done"}
    assert (came["dead"]["result"], came["nobody"]["result"]) == ("refused", "unknown")
    assert (await Reports(ledger).summary()).states[State.HELD] == 2000
    assert spent_s < 20
    piped("clone-of-dead", *many[:30])
    released = await command("release", "-", "dead", *WHY, "--yes")
    assert released.code == 1
    lines = released.out.splitlines()
    assert len(lines) == 33
    assert "same" in next(line for line in lines if line.startswith("dead "))
    assert lines[-1].startswith("30 done, 1 of the same lineages, 1 refused")


async def test_many_that_are_done_are_counted_and_the_others_are_named(
    command: Command, ledger: Ledger
) -> None:
    """Sixty lines would hide the one that matters."""
    await ledger.begin(timedelta(minutes=10))
    now = datetime.now(UTC)
    many = [f"e{n}" for n in range(60)]
    await asyncio.gather(
        *(ledger.commit(discovered(execution(each, updated_at=now), now=now)) for each in many)
    )
    answer = await command("cancel", *many, "nobody", *WHY, "--yes")
    assert [line.split()[0] for line in answer.out.splitlines()] == ["nobody", "60"]


async def test_what_was_done_is_told_when_redis_goes_away_meanwhile(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each it is said whether it is on record, may be, or was not tried; the exit code says why."""
    await ledger.begin(timedelta(minutes=10))
    now = datetime.now(UTC)
    many = [f"e{n}" for n in range(6)]
    await asyncio.gather(
        *(ledger.commit(discovered(execution(each, updated_at=now), now=now)) for each in many)
    )
    commit = Ledger.commit

    async def goes_away(self: Ledger, change: Change, **options: Any) -> Outcome:
        if change.after.root == "e2":
            raise LedgerUnavailable("gone")
        return await commit(self, change, **options)

    monkeypatch.setattr("worker.cli.ordering.CHUNK", 3)
    monkeypatch.setattr(Ledger, "commit", goes_away)
    answer = await command("hold", *many, *WHY, "--json")
    assert answer.code == 3
    assert {uuid: item["result"] for uuid, item in results(answer.out).items()} == {
        "e0": "done",
        "e1": "done",
        "e2": "unclear",
    }
    assert "2 done, 1 without an answer from Redis, 3 not tried" in answer.err


# --- at the same time ----------------------------------------------------------------------------------


async def one(ledger: Ledger, wanted: Wanted, person: Person, root: str = "root") -> Item:
    await Reports(ledger).summary()
    (item,) = [each async for each in Ordering(ledger, wanted, person, NO_POLICIES).carry_out([root])]
    return item


def just_before_the_first_commit(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, first: Callable[[Lineage], Change]
) -> None:
    """Let somebody else change the lineage after it was read and before its change arrives."""
    commit, todo = ledger.commit, [first]

    async def slower(change: Change, **options: Any) -> Outcome:
        if todo:
            before = change.before
            assert before is not None
            assert await commit(todo.pop()(before)) is Outcome.COMMITTED
        return await commit(change, **options)

    monkeypatch.setattr(ledger, "commit", slower)


def by_bob(order: Wanted) -> Callable[[Lineage], Change]:
    def change(lineage: Lineage) -> Change:
        do = {Wanted.RETRY: orders.retry, Wanted.HOLD: orders.hold, Wanted.CANCEL: orders.cancel}[order]
        return do(lineage, detail=str(BOB), now=datetime.now(UTC))

    return change


@pytest.mark.parametrize("bobs", [Wanted.RETRY, Wanted.HOLD, Wanted.CANCEL])
@pytest.mark.parametrize("anns", [Wanted.RETRY, Wanted.HOLD, Wanted.CANCEL])
async def test_of_two_people_one_wins_and_the_other_is_told(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, anns: Wanted, bobs: Wanted
) -> None:
    """Ann decided by what she saw: Bob's word stands, and she learns what he said and why."""
    await put(ledger, discovered())
    just_before_the_first_commit(monkeypatch, ledger, by_bob(bobs))
    item = await one(ledger, anns, ANN)
    assert item.came is Came.BEATEN
    assert "bob@ops: done by hand" in item.why
    assert str(BOB) in (await the(ledger, "root")).detail
    names = [event.name for event in await events_of(ledger, "root")]
    assert "person_decided" not in names  # Ann's: it did not happen


async def test_of_two_people_about_a_running_clone_one_wins_and_the_other_is_told(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be done counts as well."""
    sent = submitting(discovered().after)
    made = execution("clone-1", Status.QUEUED, fingerprint="print-of-root")
    await put(
        ledger, discovered(), sent, transitions.accept(sent.after, made, now=datetime.now(UTC), evidence="")
    )
    just_before_the_first_commit(monkeypatch, ledger, by_bob(Wanted.HOLD))
    item = await one(ledger, Wanted.CANCEL, ANN)
    assert (item.came, "running, by bob@ops" in item.why) == (Came.BEATEN, True)


def a_clone(uuid: str = "clone-1") -> Execution:
    return execution(uuid, Status.QUEUED, fingerprint="print-of-root")


def accepted(lineage: Lineage) -> Change:
    return transitions.accept(lineage, a_clone(), now=datetime.now(UTC), evidence="201")


def looked_at(lineage: Lineage) -> Change:
    return transitions.observe(lineage, missing_since=datetime.now(UTC))


def made_unclear(lineage: Lineage) -> Change:
    return transitions.unresolve(lineage, reason="read_timeout", detail="", now=datetime.now(UTC))


def deferred(lineage: Lineage) -> Change:
    return transitions.defer(
        lineage, reason="calendar", detail="", now=datetime.now(UTC), due_at=datetime.now(UTC)
    )


@pytest.mark.parametrize(
    ("steps", "worker", "state"),
    [
        ([], submitting, State.SUBMITTING),
        ([], deferred, State.HELD),
        ([submitting], accepted, State.RUNNING),
        ([submitting], made_unclear, State.UNRESOLVED),
        ([submitting, accepted], looked_at, State.RUNNING),
    ],
)
async def test_a_person_is_not_refused_because_a_worker_was_faster(
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Callable[[Lineage], Change]],
    worker: Callable[[Lineage], Change],
    state: State,
) -> None:
    """What a worker did meanwhile is read, and the word counts for what it is now."""
    lineage = await put(ledger, discovered())
    for step in steps:
        lineage = await put(ledger, step(lineage))
    just_before_the_first_commit(monkeypatch, ledger, worker)
    assert (await one(ledger, Wanted.HOLD, ANN)).came is Came.DONE
    now_is = await the(ledger, "root")
    assert now_is.state is state
    assert now_is.state is State.HELD or (now_is.order and now_is.order.wish is Wish.HOLD)


async def test_a_worker_that_is_about_to_send_is_stopped_by_a_person_who_was_faster(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed and read as scheduled, then cancelled: its intent is refused, and no call leaves."""
    api.add(failed("a"))
    await discover(ctx)
    await Reports(ctx.ledger).summary()
    just_before_the_first_commit(monkeypatch, ctx.ledger, by_bob(Wanted.CANCEL))
    await submit(ctx)
    assert api.calls == []
    assert (await lineage_of(ctx, "a")).state is State.CANCELLED


async def test_an_ordered_retry_that_was_not_delivered_goes_again(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """The order is carried out by a clone and by nothing else."""
    ctx.policies = PolicyBook(REFUSES_ALL)
    ctx.options = replace(ctx.options, limits=NO_LIMITS)
    api.answers.append(answering(NotDelivered("connect_error")))
    api.add(failed("a"))
    await discover(ctx)
    await command("retry", "a", *WHY)
    await submit_until(ctx, api, ["a"])
    put_back = await lineage_of(ctx, "a")
    assert (put_back.state, put_back.is_ordered) == (State.SCHEDULED, True)
    assert (await command("retry", "a", *WHY)).code == 0  # brought forward
    await submit_until(ctx, api, ["a", "a"])
    assert api.clones == {"a": 1}
