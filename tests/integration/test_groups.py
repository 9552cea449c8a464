"""Groups, verdicts and returns: what is counted beside the records is what the records say."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.domain import orders, transitions
from worker.domain.executions import Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason, RetryAt
from worker.domain.transitions import Change
from worker.engine import prune
from worker.engine.context import Context
from worker.engine.regroup import regroup
from worker.ledger import Ledger, LedgerUnavailable, Outcome, records
from worker.ledger.clock import to_ms
from worker.ledger.gate import as_mapping
from worker.ledger.groups import Group, Verdict
from worker.ledger.reports import Reports
from worker.ledger.returns import KEEP_RETURNS_MS, Returned, end_of, hour_of, step_of

GIVEN_UP = GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "3 of 3 attempts were made")
ANN = "ann@ops: asked the payer"


async def lineages(ledger: Ledger) -> list[Lineage]:
    """Read every record there is, past all indexes."""
    keys = await ledger.connection.command("KEYS", ledger.keys.lineage("*"))
    found = await ledger.read([key.rpartition(":lineage:")[2] for key in keys])
    return [each for each in found.values() if isinstance(each, Lineage)]


async def counted(ledger: Ledger) -> dict[Group, int]:
    stored = as_mapping(await ledger.connection.command("HGETALL", ledger.keys.groups))
    by_state = {State(name): int(count) for name, count in stored.items() if name in list(State)}
    groups = {Group.parse(field): int(count) for field, count in stored.items() if field not in by_state}
    ended = Counter[State]()
    for group, count in groups.items():
        ended[group.state] += count if group.state.is_final else 0
    assert by_state == +ended
    return groups


async def assert_grouped(ledger: Ledger) -> None:
    """The counts are those of the records, each index holds its members since when they are, and no other."""
    found = await lineages(ledger)
    assert await counted(ledger) == Counter(map(Group.of, found))
    indexes = await ledger.connection.command("KEYS", ledger.keys.group("*"))
    assert sorted(indexes) == sorted({ledger.keys.group(Group.of(each).field) for each in found})
    for index in indexes:
        flat = await ledger.connection.command("ZRANGE", index, 0, -1)
        assert set(flat) == {each.root for each in found if ledger.keys.group(Group.of(each).field) == index}
    for each in found:
        since = await ledger.connection.command("ZSCORE", ledger.keys.group(Group.of(each).field), each.root)
        assert abs(float(since) / 1000 - each.since.timestamp()) < 1


async def returns(ledger: Ledger) -> dict[Returned, int]:
    stored = as_mapping(
        await ledger.connection.command("HGETALL", ledger.keys.returns(hour_of(ledger.clock.now())))
    )
    return {Returned.parse(field): int(count) for field, count in stored.items()}


async def verdicts(ledger: Ledger) -> dict[Verdict, int]:
    stored = as_mapping(await ledger.connection.command("HGETALL", ledger.keys.verdicts))
    return {Verdict.parse(field): int(count) for field, count in stored.items()}


async def put(ledger: Ledger, change: Change) -> Lineage:
    assert await ledger.commit(change) is Outcome.COMMITTED
    return change.after


def fails(lineage: Lineage, decision: RetryAt | GiveUp) -> Change:
    failed = execution(lineage.newest.clone, updated_at=NOW, workflow_uuid=lineage.workflow_uuid)
    return transitions.fail_again(
        lineage, failed, decision, failed_at=NOW, now=NOW, policy=PLAIN, policy_name="default"
    )


def a_step(lineage: Lineage, dice: random.Random) -> Change | None:
    """Return something that may happen to a lineage next; None when nothing does."""
    soon = RetryAt(lineage.next_attempt, NOW, timedelta(0))
    clone = execution(f"{lineage.root}-clone-{lineage.version}", Status.QUEUED)
    in_the_air: list[Callable[[], Change]] = [
        lambda: transitions.accept(lineage, clone, now=NOW, evidence="201"),
        lambda: transitions.not_delivered(lineage, reason="connect_error", detail="", due_at=NOW, now=NOW),
        lambda: transitions.reject(lineage, reason="validation_error", detail="", now=NOW),
    ]
    steps: dict[State, list[Callable[[], Change]]] = {
        State.SCHEDULED: [
            lambda: submitting(lineage, token=f"{lineage.version}"),
            lambda: transitions.defer(lineage, reason="calendar", detail="", now=NOW, due_at=NOW),
            lambda: orders.hold(lineage, detail=ANN, now=NOW),
            lambda: orders.cancel(lineage, detail=ANN, now=NOW),
        ],
        State.SUBMITTING: [
            *in_the_air,
            lambda: transitions.unresolve(lineage, reason="read_timeout", detail="", now=NOW),
        ],
        State.UNRESOLVED: in_the_air,
        State.RUNNING: [
            lambda: fails(lineage, soon),
            lambda: fails(lineage, GIVEN_UP),
            lambda: transitions.recover(lineage, now=NOW, ended_at=NOW),
            lambda: transitions.observe(lineage, missing_since=NOW),
        ],
        State.HELD: [lambda: orders.release(lineage, detail=ANN, now=NOW)],
        State.EXHAUSTED: [lambda: orders.retry(lineage, detail=ANN, now=NOW)],
        State.CANCELLED: [lambda: orders.retry(lineage, detail=ANN, now=NOW)],
    }
    chosen = steps.get(lineage.state)
    return dice.choice(chosen)() if chosen else None


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_walk_of_commits_groups_are_what_the_records_say(ledger: Ledger, seed: int) -> None:
    """A hundred and fifty steps of a dozen lineages of three workflows; then some are forgotten."""
    dice = random.Random(seed)
    given: Counter[Verdict] = Counter()
    alive: dict[str, Lineage] = {}
    for number in range(12):
        workflow = dice.choice(["", "workflow-1", "workflow-2"])
        found = execution(f"e{number}", workflow_uuid=workflow)
        alive[found.uuid] = await put(ledger, discovered(found))
    for _ in range(150):
        before = alive[dice.choice(list(alive))]
        change = a_step(before, dice)
        if change is None:
            continue
        alive[before.root] = after = await put(ledger, change)
        if after.state.is_final and before.state is not after.state:
            given[Verdict(after.state, after.workflow, after.reason)] += 1
    await assert_grouped(ledger)
    assert await verdicts(ledger) == given
    made = sum(count for field, count in (await returns(ledger)).items() if field.what == "made")
    assert made == sum(each.made for each in alive.values())
    gone = [each for each in alive.values() if each.state.is_final]
    assert await ledger.forget(gone) == len(gone) > 0
    await assert_grouped(ledger)
    assert await verdicts(ledger) == given  # a verdict that was given stays given


async def test_the_loser_of_a_race_and_a_write_sent_twice_count_nothing(ledger: Ledger) -> None:
    """Compare-and-set comes before every count, and so does the token."""
    found = await put(ledger, discovered())
    await put(ledger, submitting(found))
    assert await ledger.commit(orders.cancel(found, detail=ANN, now=NOW)) is Outcome.STALE
    assert await verdicts(ledger) == {}
    held = await put(ledger, discovered(execution("b")))
    change = orders.cancel(held, detail=ANN, now=NOW)
    call = ledger._commits._call(change, None, None)
    for _ in range(3):
        command = ["EVAL", call.script.source, len(call.keys), *call.keys, *call.arguments]
        assert (await ledger.connection.command(*command))[0] == "committed"
    assert set((await verdicts(ledger)).values()) == {1}
    await assert_grouped(ledger)


async def test_an_hour_tells_what_became_of_its_clones(ledger: Ledger) -> None:
    """By workflow and number of the attempt: made, failed, lost, recovered, and how long that took."""
    first = running(discovered().after)
    await put(ledger, discovered())
    await put(ledger, submitting(discovered().after))
    alive = await put(ledger, first)
    again = await put(ledger, fails(alive, RetryAt(2, NOW, timedelta(0))))
    sent = await put(ledger, submitting(again, token="call-2"))
    second = execution("clone-2", Status.QUEUED)
    alive = await put(ledger, transitions.accept(sent, second, now=NOW, evidence="201"))
    ended_at = alive.root_failed_at + timedelta(minutes=1)
    await put(ledger, transitions.recover(alive, now=ended_at, ended_at=ended_at))
    lost = running(discovered(execution("b")).after, "clone-b")
    await put(ledger, discovered(execution("b")))
    await put(ledger, submitting(discovered(execution("b")).after))
    alive = await put(ledger, lost)
    await put(ledger, transitions.stop_watching(alive, reason="watch_timeout", detail="", now=NOW))
    minute = step_of(timedelta(minutes=1))
    assert await returns(ledger) == {
        Returned("workflow-1", 1, "made"): 2,
        Returned("workflow-1", 1, "failed"): 1,
        Returned("workflow-1", 1, "lost"): 1,
        Returned("workflow-1", 2, "made"): 1,
        Returned("workflow-1", 2, "recovered"): 1,
        Returned("workflow-1", 2, f"t{minute}"): 1,
    }
    assert end_of(minute - 1) < timedelta(minutes=1) <= end_of(minute)
    left_ms = await ledger.connection.command("PTTL", ledger.keys.returns(hour_of(ledger.clock.now())))
    assert 0 < left_ms <= KEEP_RETURNS_MS


async def test_what_someone_else_retried_is_no_clone_of_ours(ledger: Ledger) -> None:
    """It recovered without one: attempt 0. What the run of someone else costs or loses is not ours."""
    found = await put(ledger, discovered())
    run = execution("theirs", Status.RUNNING)
    joined = await put(ledger, transitions.join(found, run, made_at=NOW, now=NOW, evidence="same payload"))
    ended_at = joined.root_failed_at + timedelta(seconds=1)
    await put(ledger, transitions.recover(joined, now=NOW, ended_at=ended_at))
    assert await returns(ledger) == {
        Returned("workflow-1", 0, "recovered"): 1,
        Returned("workflow-1", 0, "t0"): 1,
    }


async def make_old(ledger: Ledger) -> None:
    """Make the ledger look as a worker of format 2 left it: whole records, and no groups."""
    for each in await lineages(ledger):
        record = json.loads(records.dump(each, "token")) | {"format": 2}
        await ledger.connection.command("SET", ledger.keys.lineage(each.root), json.dumps(record))
        index, since_ms = ledger.keys.state(each.state), to_ms(each.since)
        await ledger.connection.command("ZADD", index, "NX", since_ms, each.root)
    indexes = await ledger.connection.command("KEYS", ledger.keys.group("*"))
    await ledger.connection.command("DEL", *indexes, ledger.keys.groups, ledger.keys.names)
    await ledger.connection.command("HDEL", ledger.keys.facts, "grouped")


async def make_it_of_early_format_3(ledger: Ledger) -> None:
    """Make the ledger look as before format 4: what has ended is in its state's index, counted by that."""
    for each in await lineages(ledger):
        record = json.loads(records.dump(each, "token")) | {"format": 3}
        await ledger.connection.command("SET", ledger.keys.lineage(each.root), json.dumps(record))
        await ledger.connection.command("ZADD", ledger.keys.state(each.state), to_ms(each.since), each.root)
    await ledger.connection.command("HDEL", ledger.keys.groups, *State)
    await ledger.connection.command("HSET", ledger.keys.facts, "grouped", 3)


async def test_what_was_grouped_and_not_counted_by_state_is_counted_once(ctx: Context) -> None:
    """However often it is met, and whatever of it was forgotten before."""
    for number in range(8):
        found = await put(ctx.ledger, discovered(execution(f"e{number}")))
        if number % 2:
            await put(ctx.ledger, orders.cancel(found, detail=ANN, now=NOW))
    await make_it_of_early_format_3(ctx.ledger)
    gone = (await ctx.ledger.read(["e7"]))["e7"]
    assert isinstance(gone, Lineage)
    assert await ctx.ledger.forget([gone]) == 1
    for _ in range(2):
        await regroup(ctx)
        await assert_grouped(ctx.ledger)
        assert (await Reports(ctx.ledger).summary()).states[State.CANCELLED] == 3
        assert await roots_of(ctx.ledger, State.CANCELLED) == []


async def forty(ledger: Ledger) -> dict[str, Lineage]:
    """Store forty lineages of four workflows, every other one in flight or held."""
    found = {}
    for number in range(40):
        root = execution(f"e{number}", workflow_uuid=f"workflow-{number % 4}")
        lineage = await put(ledger, discovered(root))
        if number % 3 == 0:
            lineage = await put(ledger, submitting(lineage))
        elif number % 3 == 1:
            lineage = await put(ledger, orders.hold(lineage, detail=ANN, now=NOW))
        found[root.uuid] = lineage
    return found


async def test_an_older_ledger_is_regrouped_once(ctx: Context) -> None:
    """The first prune of the new version does it; lineages that move meanwhile put themselves in order."""
    ledger = ctx.ledger
    found = await forty(ledger)
    await make_old(ledger)
    moved = await put(ledger, submitting(found["e2"]))  # by a new worker, before anybody regrouped
    assert not await ledger.is_grouped()
    assert await prune(ctx) is not None
    assert await ledger.is_grouped()
    await assert_grouped(ledger)
    names = as_mapping(await ledger.connection.command("HGETALL", ledger.keys.names))
    assert names == dict.fromkeys((f"workflow-{number}" for number in range(4)), "Prior authorisation")
    assert await regroup(ctx) == 0
    again = (await ledger.read([moved.root]))[moved.root]
    assert isinstance(again, Lineage)
    await put(ledger, transitions.unresolve(again, reason="read_timeout", detail="", now=NOW))
    await assert_grouped(ledger)


async def test_what_an_older_worker_still_holds_cannot_be_stored_any_more(ctx: Context) -> None:
    """It read a record before it was put into its group: what it makes of it would leave the group untrue."""
    ledger = ctx.ledger
    held = await put(ledger, discovered())
    await make_old(ledger)
    assert await regroup(ctx) == 1
    assert await ledger.commit(orders.cancel(held, detail=ANN, now=NOW)) is Outcome.STALE
    record = json.loads(await ledger.connection.command("GET", ledger.keys.lineage(held.root)))
    assert (record["format"], record["version"]) == (records.FORMAT, held.version + 1)
    await assert_grouped(ledger)


async def test_what_an_older_worker_writes_after_the_first_pass_is_met_by_a_later_one(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done for good only when a pass, well after the first, found nothing left to do."""
    ledger = ctx.ledger
    await put(ledger, discovered(execution("early")))
    await make_old(ledger)
    assert await regroup(ctx) == 1
    await put(ledger, discovered(execution("late")))
    await make_old(ledger)
    monkeypatch.setattr("worker.engine.regroup.AGAIN_AFTER", timedelta(0))
    assert await regroup(ctx) == 2
    assert await regroup(ctx) == 0
    await make_old(ledger)
    await ledger.grouped()
    assert await regroup(ctx) == 0, "it is over"


async def test_what_was_settled_in_an_older_format_is_not_in_this_one(ctx: Context) -> None:
    """A ledger that went through an upgrade before gets its second pass all the same."""
    ledger = ctx.ledger
    before = {"passed_at": to_ms(ctx.now() - timedelta(days=30)), "settled": 3}
    await ledger.connection.command("HSET", ledger.keys.job("regroup"), "memory", json.dumps(before))
    await make_old(ledger)
    assert await regroup(ctx) == 0
    await put(ledger, discovered(execution("late")))
    await make_old(ledger)
    assert await regroup(ctx) == 1


async def test_a_regrouping_that_is_cut_short_is_done_again(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis goes away in the middle: it is not called done, and doing it twice changes nothing."""
    ledger = ctx.ledger
    await forty(ledger)
    await make_old(ledger)
    whole, pages = ledger.regroup, 0

    async def goes_away(found: list[Lineage]) -> int:
        nonlocal pages
        pages += 1
        if pages > 2:
            raise LedgerUnavailable("gone")
        return await whole(found)

    monkeypatch.setattr(ledger, "regroup", goes_away)
    with pytest.raises(LedgerUnavailable):
        await regroup(ctx)
    assert not await ledger.is_grouped()
    monkeypatch.undo()
    assert 0 < await regroup(ctx) < 40
    await assert_grouped(ledger)


async def test_a_lineage_that_moved_on_while_it_was_read_is_not_put_where_it_was(ledger: Ledger) -> None:
    """Regrouping compares the version as every commit does."""
    found = await put(ledger, discovered())
    await make_old(ledger)
    await put(ledger, submitting(found))
    await ledger.regroup([found])
    await assert_grouped(ledger)


async def test_a_reason_with_a_line_break_keeps_its_group(ledger: Ledger) -> None:
    """What separates the parts of a name is in none of them."""
    found = await put(ledger, discovered())
    strange = transitions.hold(found, reason="two\nlines", detail="", now=NOW)
    await put(ledger, strange)
    group = Group.of(strange.after)
    assert Group.parse(group.field).reason == "two lines"
    assert await counted(ledger) == {Group.parse(group.field): 1}


def test_records_of_the_format_before_are_read_and_written_in_this_one() -> None:
    """An order is kept; what has none looks as before."""
    lineage = orders.retry(
        transitions.hold(discovered().after, reason="log_rule", detail="", now=NOW).after, detail=ANN, now=NOW
    ).after
    text = records.dump(lineage, "token")
    assert records.load("root", text) == replace(lineage)
    old = {key: value for key, value in json.loads(text).items() if key != "order"} | {"format": 2}
    assert records.load("root", json.dumps(old)).order is None


async def test_what_has_ended_is_in_its_group_alone(ledger: Ledger) -> None:
    """It is counted, listed, asked for and forgotten from there, until it lives on."""
    found = await put(ledger, discovered())
    ended = await put(ledger, orders.cancel(found, detail=ANN, now=ledger.clock.now()))
    assert await ledger.connection.command("EXISTS", *map(ledger.keys.state, State)) == 0
    reports = Reports(ledger)
    assert (await reports.summary()).states[State.CANCELLED] == 1
    assert [each.root async for each in reports.lineages((State.CANCELLED,))] == ["root"]
    assert await ledger.known_executions() == ["root"]
    later = ledger.clock.now() + timedelta(seconds=1)
    assert await ledger.ended_before(State.CANCELLED, later, 10) == ["root"]
    assert await ledger.ended_before(State.EXHAUSTED, later, 10) == []
    await put(ledger, orders.retry(ended, detail=ANN, now=ledger.clock.now()))
    assert await ledger.indexes(State.CANCELLED) == [ledger.keys.state(State.CANCELLED)]
    assert await roots_of(ledger, State.SCHEDULED) == ["root"]
    assert (await reports.summary()).states[State.CANCELLED] == 0
    await assert_grouped(ledger)


async def roots_of(ledger: Ledger, state: State) -> list[str]:
    found: list[str] = await ledger.connection.command("ZRANGE", ledger.keys.state(state), 0, -1)
    return found


async def test_what_ended_under_an_older_worker_is_never_out_of_sight(ctx: Context) -> None:
    """It is in the index of its state until it is regrouped: counted and found once, before and after."""
    ledger, reports = ctx.ledger, Reports(ctx.ledger)
    long_ago = ctx.now() - timedelta(days=90)
    for number in range(6):
        found = await put(ledger, discovered(execution(f"e{number}"), now=long_ago))
        await put(ledger, orders.cancel(found, detail=ANN, now=long_ago))
    await make_old(ledger)
    moved = (await ledger.read(["e0"]))["e0"]
    assert isinstance(moved, Lineage)
    back = await put(ledger, orders.retry(moved, detail=ANN, now=ctx.now()))  # before anybody regrouped
    await put(ledger, orders.cancel(back, detail=ANN, now=ctx.now()))
    for _ in range(2):
        assert (await reports.summary()).states[State.CANCELLED] == 6
        listed = [each.root async for each in reports.lineages((State.CANCELLED,))]
        assert sorted(listed) == [f"e{number}" for number in range(6)]
        assert len(await ledger.ended_before(State.CANCELLED, ctx.now() - timedelta(days=30), 10)) == 5
        await regroup(ctx)
    assert await roots_of(ledger, State.CANCELLED) == []
    await assert_grouped(ledger)
    assert await prune(ctx) == {"forgotten": 5}
    assert [each.root for each in await lineages(ledger)] == ["e0"]
