"""Retries that someone else makes, with the real ledger: they join; nothing is cloned twice or forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.examples import execution
from tests.support.scripted_api import ScriptedApi, answering, clone_then_lose_the_answer
from worker.domain import transitions
from worker.domain.delivery import Accepted, Delivery, Refused
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import Policy, PolicyBook
from worker.domain.transitions import Change
from worker.engine import discover, joining, prune, resolve, submit, survey
from worker.engine import watch as look_at_what_is_due
from worker.engine.context import Context
from worker.engine.desk import Workflow
from worker.kinetic import Unreachable
from worker.ledger.gate import as_mapping

SOON = timedelta(seconds=1)


def change_policy(ctx: Context, **changes: Any) -> None:
    ctx.policies = PolicyBook(replace(ctx.policies.default, **changes))


@pytest.fixture(autouse=True)
def joins(ctx: Context, api: ScriptedApi) -> None:
    """Someone else's retries join, ours come an hour later, and the list shows that payloads differ."""
    change_policy(ctx, join=True, base_delay=timedelta(hours=1))
    api.add(stranger("another-payload", fingerprint="another"))


def run(uuid: str, status: Status, ago: timedelta = timedelta(0), **changes: Any) -> Execution:
    at = datetime.now(UTC) - ago
    return execution(uuid, status, **({"fingerprint": "print", "created_at": at, "updated_at": at} | changes))


def stranger(uuid: str, ago: timedelta = timedelta(hours=2), **changes: Any) -> Execution:
    return run(uuid, Status.COMPLETED, ago, **changes)


def failed(uuid: str = "a", ago: timedelta = SOON, **changes: Any) -> Execution:
    return run(uuid, Status.FAILED, ago, **changes)


async def lineage_of(ctx: Context, root: str = "a") -> Lineage:
    found = (await ctx.ledger.read([root]))[root]
    assert isinstance(found, Lineage)
    return found


async def roots(ctx: Context) -> set[str]:
    indexes = await ctx.ledger.indexes(*State)
    found = [await ctx.ledger.connection.command("ZRANGE", index, 0, -1) for index in indexes]
    return {root for roots in found for root in roots}


async def poll(ctx: Context) -> dict[str, int]:
    counts = await discover(ctx)
    assert counts is not None
    return counts


async def joined(ctx: Context) -> int:
    counts = await survey(ctx)
    assert counts is not None
    return counts["joined"]


async def make_due(ctx: Context, root: str = "a") -> None:
    """Let the next attempt be due now."""
    change_policy(ctx, base_delay=timedelta(0))
    lineage = await lineage_of(ctx, root)
    due = replace(lineage, version=lineage.version + 1, due_at=ctx.now())
    await ctx.ledger.commit(Change(lineage, due, ()))


async def watch(ctx: Context, root: str = "a") -> Lineage:
    await ctx.ledger.reschedule(State.RUNNING, {root: datetime.fromtimestamp(0, UTC)})
    await look_at_what_is_due(ctx)
    return await lineage_of(ctx, root)


async def exhausted(ctx: Context, api: ScriptedApi) -> Lineage:
    """Return a lineage whose one attempt failed."""
    change_policy(ctx, max_attempts=1, base_delay=timedelta(0))
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    api.end((await lineage_of(ctx)).newest.clone, Status.FAILED)
    ended = await watch(ctx)
    assert (ended.state, ended.reason) == (State.EXHAUSTED, "attempts_used_up")
    return ended


async def test_a_retry_that_someone_else_made_takes_the_place_of_ours(ctx: Context, api: ScriptedApi) -> None:
    """What was scheduled is dropped; that run is watched; no attempt is spent and no call leaves."""
    api.add(failed())
    await poll(ctx)
    api.add(run("theirs", Status.RUNNING))
    assert await joined(ctx) == 1
    lineage = await lineage_of(ctx)
    assert (lineage.state, lineage.newest.clone, lineage.made) == (State.RUNNING, "theirs", 0)
    assert "only one" in lineage.newest.evidence
    assert await joined(ctx) == 0  # it is owned now
    assert await submit(ctx) == {}
    api.end("theirs", Status.COMPLETED)
    assert (await watch(ctx)).state is State.RECOVERED
    assert api.calls == []


async def test_one_that_has_completed_is_the_verdict(ctx: Context, api: ScriptedApi) -> None:
    """In one step, by a run that nobody has to look at again."""
    api.add(failed())
    await poll(ctx)
    api.add(run("theirs", Status.COMPLETED))
    assert await joined(ctx) == 1
    lineage = await lineage_of(ctx)
    assert (lineage.state, lineage.newest.outcome) == (State.RECOVERED, "completed")
    assert (await ctx.ledger.owners(["theirs"])) == {"theirs": "a"}
    assert api.gets == 0


async def test_its_failure_is_no_new_root_and_the_lineage_goes_on_from_it(
    ctx: Context, api: ScriptedApi
) -> None:
    """The next attempt is a retry of that run, with all attempts left."""
    api.add(failed())
    await poll(ctx)
    api.add(failed("theirs", timedelta(0)))
    assert (await poll(ctx))["joined"] == 1
    await look_at_what_is_due(ctx)
    lineage = await lineage_of(ctx)
    assert (lineage.state, lineage.failing, lineage.made) == (State.SCHEDULED, "theirs", 0)
    assert await roots(ctx) == {"a"}
    await make_due(ctx)
    await submit(ctx)
    assert api.calls == ["theirs"]


async def test_a_person_may_retry_again_and_again(ctx: Context, api: ScriptedApi) -> None:
    """Each run follows the one before; two at once are taken in one after the other."""
    api.add(failed())
    await poll(ctx)
    api.add(failed("first", timedelta(milliseconds=20)), run("second", Status.RUNNING))
    assert await joined(ctx) == 1
    assert (await lineage_of(ctx)).newest.clone == "first"
    await watch(ctx)
    assert await joined(ctx) == 1
    lineage = await lineage_of(ctx)
    assert (lineage.state, [each.clone for each in lineage.attempts]) == (State.RUNNING, ["first", "second"])
    assert api.calls == []


@pytest.mark.parametrize("seen", [Status.RUNNING, Status.COMPLETED, Status.FAILED])
async def test_a_dead_letter_that_someone_retries_can_still_be_recovered(
    ctx: Context, api: ScriptedApi, seen: Status
) -> None:
    """And when that fails it is a dead letter again, for the same reason, and no new root."""
    before = await exhausted(ctx, api)
    calls = list(api.calls)
    api.add(run("theirs", seen))
    await (survey(ctx) if seen is not Status.FAILED else discover(ctx))
    if seen is Status.RUNNING:
        assert (await lineage_of(ctx)).state is State.RUNNING
        api.end("theirs", Status.FAILED)
    after = await watch(ctx)
    expected = State.RECOVERED if seen is Status.COMPLETED else State.EXHAUSTED
    assert (after.state, after.made, "theirs" in after.members) == (expected, 1, True)
    if expected is State.EXHAUSTED:
        assert (after.reason, after.detail) == (before.reason, before.detail)
    await poll(ctx)
    await submit(ctx)
    assert (await roots(ctx), api.calls) == ({"a"}, calls)


async def test_a_rejected_one_stays_rejected_when_someone_elses_retry_fails(
    ctx: Context, api: ScriptedApi
) -> None:
    """The policy would allow attempts; the verdict stays what it was all the same."""
    change_policy(ctx, base_delay=timedelta(0))
    api.add(failed())
    api.answers.append(answering(Refused("validation_error", "no", 422)))
    await poll(ctx)
    await submit(ctx)
    api.add(failed("theirs", timedelta(0)))
    await poll(ctx)
    after = await watch(ctx)
    assert (after.state, after.reason, after.members) == (State.REJECTED, "validation_error", ("a", "theirs"))
    assert await roots(ctx) == {"a"}


async def test_a_failure_beside_our_clone_belongs_to_the_lineage(ctx: Context, api: ScriptedApi) -> None:
    """What is watched is not changed, and the failure gets no lineage of its own."""
    change_policy(ctx, base_delay=timedelta(0))
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    ours = (await lineage_of(ctx)).newest.clone
    api.add(run("theirs", Status.RUNNING))
    assert await joined(ctx) == 0
    assert (await lineage_of(ctx)).members == ("a", ours)
    api.end("theirs", Status.FAILED)
    assert (await poll(ctx))["joined"] == 1
    lineage = await lineage_of(ctx)
    assert (lineage.state, lineage.newest.clone, lineage.made) == (State.RUNNING, ours, 1)
    api.end(ours, Status.COMPLETED)
    assert (await watch(ctx)).state is State.RECOVERED
    assert await roots(ctx) == {"a"}


async def test_a_run_that_is_alive_when_our_clone_fails_is_waited_for(ctx: Context, api: ScriptedApi) -> None:
    """Left while our clone ran, judged by the same rule afterwards: no third run is made beside it."""
    change_policy(ctx, base_delay=timedelta(0))
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    api.add(run("theirs", Status.RUNNING))
    change_policy(ctx, base_delay=timedelta(hours=1))
    api.end((await lineage_of(ctx)).newest.clone, Status.FAILED)
    assert (await watch(ctx)).state is State.SCHEDULED
    assert await joined(ctx) == 1
    assert (await lineage_of(ctx)).newest.clone == "theirs"
    assert api.calls == ["a"]


async def test_a_failure_beside_a_success_is_no_new_root_and_one_after_it_is(
    ctx: Context, api: ScriptedApi
) -> None:
    """The work is done: what someone made before that needs no retry. What comes later is new work."""
    change_policy(ctx, base_delay=timedelta(0))
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    api.add(run("beside", Status.RUNNING))
    api.end((await lineage_of(ctx)).newest.clone, Status.COMPLETED)
    assert (await watch(ctx)).state is State.RECOVERED
    api.end("beside", Status.FAILED)
    await poll(ctx)
    assert (await lineage_of(ctx)).state is State.RECOVERED
    assert await roots(ctx) == {"a"}
    api.add(failed("later", timedelta(seconds=-3)))
    await poll(ctx)
    assert await roots(ctx) == {"a", "later"}


async def test_a_cancelled_lineage_stays_cancelled(ctx: Context, api: ScriptedApi) -> None:
    """A person ended it: their own failed retry is not begun anew."""
    api.add(failed())
    await poll(ctx)
    lineage = await lineage_of(ctx)
    ended = replace(lineage, state=State.CANCELLED, version=lineage.version + 1, since=ctx.now())
    await ctx.ledger.commit(Change(lineage, ended, ()))
    api.add(failed("theirs", timedelta(0)))
    await poll(ctx)
    after = await lineage_of(ctx)
    assert (after.state, after.members) == (State.CANCELLED, ("a", "theirs"))
    assert await roots(ctx) == {"a"}


async def test_an_ordinary_run_with_the_same_payload_is_left_alone(ctx: Context, api: ScriptedApi) -> None:
    """An hourly run with the same payload: its failures are roots as ever, and cost one listing."""
    api.add(failed(), stranger("last-hour", fingerprint="print"))
    await poll(ctx)
    api.add(run("this-hour", Status.COMPLETED))
    assert await joined(ctx) == 0
    assert (await lineage_of(ctx)).state is State.SCHEDULED
    api.add(failed("next-hour", timedelta(0)))
    before = api.pages_read
    assert (await poll(ctx))["discovered"] == 1
    assert api.pages_read - before == 1  # the list of failures alone
    assert await roots(ctx) == {"a", "next-hour"}


async def test_where_no_payload_differs_the_list_has_to_be_read_to_its_end(
    ctx: Context, api: ScriptedApi
) -> None:
    """One that goes on behind what was read may hold an ordinary run with the same payload."""
    api.executions.clear()
    api.add(failed(), stranger("of-another-version", workflow_version_uuid="version-2"))
    api.page_size, api.cut_after_pages = 2, 1  # it ends without saying so
    await poll(ctx)
    api.add(run("theirs", Status.RUNNING))
    assert await joined(ctx) == 0
    ctx.shared_keys.found_at.clear()
    api.cut_after_pages = None
    assert await joined(ctx) == 1


async def test_a_row_of_ordinary_failures_does_not_hide_in_one_lineage(
    ctx: Context, api: ScriptedApi
) -> None:
    """The very first runs of a workflow that always has the same payload, and always fails."""
    api.executions.clear()
    for number in range(6):
        api.add(failed(f"e{number}", timedelta(0)))
        await poll(ctx)
        await look_at_what_is_due(ctx)
    assert len(await roots(ctx)) >= 2


async def test_nothing_joins_while_a_call_of_ours_is_in_doubt(ctx: Context, api: ScriptedApi) -> None:
    """It may be our own clone: resolving settles that first, and the attempt is spent."""
    change_policy(ctx, base_delay=timedelta(0))
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    clone = next(uuid for uuid in api.executions if uuid.startswith("clone"))
    assert await joined(ctx) == 0
    api.end(clone, Status.FAILED)
    assert (await poll(ctx))["waiting"] == 1
    assert (await lineage_of(ctx)).state is State.UNRESOLVED
    await resolve(ctx)
    lineage = await lineage_of(ctx)
    assert (lineage.newest.clone, lineage.newest.joined, lineage.made) == (clone, False, 1)


async def test_nothing_joins_while_our_call_is_in_the_air(ctx: Context, api: ScriptedApi) -> None:
    """The clone is in the list before its 201 is processed; both readers meet it then."""

    async def meanwhile(api: ScriptedApi, of: str) -> Delivery:
        clone = api.make_clone(of)
        assert await joined(ctx) == 0
        api.end(clone.uuid, Status.FAILED)
        assert (await poll(ctx))["joined"] == 0
        return Accepted(clone)

    change_policy(ctx, base_delay=timedelta(0))
    api.answers.append(meanwhile)
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    lineage = await lineage_of(ctx)
    assert (lineage.state, lineage.newest.joined, await roots(ctx)) == (State.RUNNING, False, {"a"})


async def test_our_own_clone_that_shows_up_late_spends_its_attempt(ctx: Context, api: ScriptedApi) -> None:
    """It was concluded that there was none; as someone else's it would allow one clone too many."""

    async def lose(api: ScriptedApi, of: str) -> Delivery:
        found = await clone_then_lose_the_answer(api, of)
        late.update({uuid: api.executions.pop(uuid) for uuid in list(api.executions) if "clone" in uuid})
        return found

    late: dict[str, Execution] = {}
    change_policy(ctx, base_delay=timedelta(0))
    api.answers.append(lose)
    api.add(failed())
    await poll(ctx)
    await submit(ctx)
    for _ in range(2):
        await resolve(ctx)
    assert (await lineage_of(ctx)).reason == "no_clone_found"
    api.executions |= late
    assert await joined(ctx) == 1
    lineage = await lineage_of(ctx)
    assert (lineage.state, lineage.newest.joined, lineage.made) == (State.RUNNING, False, 1)


async def two_with_one_key(ctx: Context, api: ScriptedApi) -> None:
    """Let "a" and the newer "b" have lineages with the same key; the attempt of "a" is due."""
    change_policy(ctx, join=False)
    for root in ("a", "b"):
        api.add(failed(root, timedelta(0)))
        await poll(ctx)
    await make_due(ctx)
    change_policy(ctx, join=True)


async def test_a_clone_that_another_lineage_owns_is_no_question(ctx: Context, api: ScriptedApi) -> None:
    """It costs no reading of the list, and says nothing about the payload."""
    await two_with_one_key(ctx, api)
    await submit(ctx)
    pages = api.pages_read
    assert await joined(ctx) == 0
    assert (api.pages_read - pages, ctx.shared_keys.found_at) == (1, {})


async def test_the_clone_of_an_older_lineage_in_doubt_joins_no_newer_one(
    ctx: Context, api: ScriptedApi
) -> None:
    """The key names the newest lineage only; whose call is in doubt is asked of all."""
    await two_with_one_key(ctx, api)
    api.answers.append(clone_then_lose_the_answer)
    await submit(ctx)
    del api.executions["a"]  # it is too far back to be seen
    assert await joined(ctx) == 0
    assert (await lineage_of(ctx, "b")).state is State.SCHEDULED
    assert ctx.shared_keys.found_at == {}


async def test_a_key_is_found_again_when_its_newest_lineage_was_a_clone(
    ctx: Context, api: ScriptedApi
) -> None:
    """A person gives a held failure to the lineage whose clone it is: from then on the key names that one."""
    await two_with_one_key(ctx, api)
    api.answers.append(clone_then_lose_the_answer)
    await submit(ctx)
    key, clone = ("version-1", "print"), api.executions["b"]
    await ctx.ledger.forget([await lineage_of(ctx, "b")])
    assert await ctx.ledger.roots_by_key([key]) == {}
    await ctx.commit(transitions.accept(await lineage_of(ctx), clone, now=ctx.now(), evidence="a person"))
    assert await ctx.ledger.roots_by_key([key]) == {key: "a"}


async def test_an_intent_and_a_join_exclude_each_other(ctx: Context, api: ScriptedApi) -> None:
    """Both are compare-and-set on the same version: here the intent comes between the look and the record."""
    change_policy(ctx, base_delay=timedelta(0))
    api.add(failed())
    await poll(ctx)
    theirs = run("theirs", Status.RUNNING)
    api.add(theirs)
    joins = await joining.look(ctx, [theirs])
    await submit(ctx)
    outcome = await joining.record(ctx, joins.changes["theirs"])
    assert outcome.value == "stale"
    assert (await lineage_of(ctx)).made == 1
    assert await ctx.ledger.owners(["theirs"]) == {}


@pytest.mark.parametrize("off", ["policy", "survey", "order"])
async def test_it_can_be_switched_off(
    ctx: Context, api: ScriptedApi, with_options: Callable[..., Context], off: str
) -> None:
    """Then everything is as if nobody retried: two lineages."""
    if off == "policy":
        change_policy(ctx, join=False)
    if off == "survey":
        with_options(survey=False)
    if off == "order":
        with_options(newest_first=False)
    api.add(failed())
    await poll(ctx)
    api.add(failed("theirs", timedelta(0)))
    await survey(ctx)
    await poll(ctx)
    assert await roots(ctx) == {"a", "theirs"}


async def test_a_failure_and_its_retry_that_are_noticed_together_are_one_lineage(
    ctx: Context, api: ScriptedApi
) -> None:
    """The older one begins; the other is judged when that has its lineage."""
    api.add(failed(), failed("theirs", timedelta(0)))
    assert (await poll(ctx))["waiting"] == 1
    assert (await poll(ctx))["joined"] == 1
    assert await roots(ctx) == {"a"}


async def test_one_whose_original_is_none_of_ours_is_a_root(ctx: Context, api: ScriptedApi) -> None:
    """A failure from before the first start is left alone for ever: its retry must not wait for it."""
    api.add(failed("old", timedelta(hours=1)), failed("theirs", timedelta(0)))
    assert (await poll(ctx))["discovered"] == 1
    assert await roots(ctx) == {"theirs"}


async def test_a_tracked_execution_that_is_someones_retry_joins(ctx: Context, api: ScriptedApi) -> None:
    """Watched by name it is met by a GET, not in the list of failures."""
    api.add(failed())
    await poll(ctx)
    api.add(failed("theirs", timedelta(0)))
    await ctx.ledger.track(["theirs"])
    await look_at_what_is_due(ctx)
    assert await roots(ctx) == {"a"}
    assert "theirs" in (await lineage_of(ctx)).members
    await ctx.ledger.look_again({"theirs": datetime.fromtimestamp(0, UTC)})
    await look_at_what_is_due(ctx)
    assert await ctx.ledger.tracked_since("theirs") is None


@pytest.mark.parametrize("lately", [True, False])
async def test_a_list_that_cannot_be_read_holds_a_failure_up_for_a_while_only(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, lately: bool
) -> None:
    """It waits to be judged; where the list is broken for good it becomes a root: nothing is forgotten."""
    ago = timedelta(0) if lately else timedelta(minutes=11)
    await ctx.ledger.connection.command("HINCRBY", ctx.ledger.keys.facts, "started_at", -3_600_000)
    await ctx.ledger.begin(timedelta(0))
    api.add(failed(ago=timedelta(minutes=12)))
    await poll(ctx)
    api.add(failed("theirs", ago))
    real = api.pages

    def pages(*, status: Status | None, since: datetime | None = None) -> Any:
        if status is None:
            raise Unreachable("http_500", "broken", 500)
        return real(status=status, since=since)

    monkeypatch.setattr(api, "pages", pages)
    counts = await poll(ctx)
    assert (counts["waiting"], counts["discovered"]) == ((1, 0) if lately else (0, 1))


async def test_a_forgotten_lineage_takes_its_key_along(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """The index of keys does not grow for ever, and a newer lineage's entry is not taken away."""
    ctx = with_options(retention=timedelta(0))
    change_policy(ctx, max_attempts=0, join=False)
    key = ("version-1", "print")
    api.add(failed(), failed("b", timedelta(0)))
    await poll(ctx)
    newest = (await ctx.ledger.roots_by_key([key]))[key]
    oldest = ({"a", "b"} - {newest}).pop()
    await ctx.ledger.forget([await lineage_of(ctx, oldest)])
    assert await ctx.ledger.roots_by_key([key, ("version-1", "")]) == {key: newest}
    await prune(ctx)
    assert await ctx.ledger.roots_by_key([key]) == {}


async def test_a_retry_of_a_failure_from_before_an_upgrade_joins_too(ctx: Context, api: ScriptedApi) -> None:
    """An older worker named keys by what they are made of; its names are gone afterwards."""
    api.add(failed())
    await poll(ctx)
    keys, command = ctx.ledger.keys, ctx.ledger.connection.command
    await command("DEL", keys.keys)
    await command("HSET", keys.keys, "version-1\nprint", "a")
    await command("HDEL", keys.facts, "keyed")
    await ctx.ledger.begin(timedelta(0))  # as every new process does
    api.add(run("theirs", Status.RUNNING))
    assert await joined(ctx) == 1
    assert (await lineage_of(ctx)).newest.clone == "theirs"
    assert as_mapping(await command("HGETALL", keys.keys)) == {keys.key("version-1", "print"): "a"}


async def test_an_older_workers_name_of_a_key_does_not_displace_the_newest_lineage(ctx: Context) -> None:
    """What it still wrote after the first new worker came is met when lineages are grouped, page by page."""
    keys, command = ctx.ledger.keys, ctx.ledger.connection.command
    await ctx.ledger.begin(timedelta(0))
    await command("HSET", keys.keys, keys.key("v", "p0"), "newer")
    for number in range(1200):
        await command("HSET", keys.keys, f"v\np{number}", f"older-{number}")
    await prune(ctx)
    stored = as_mapping(await command("HGETALL", keys.keys))
    wanted = {keys.key("v", f"p{number}"): f"older-{number}" for number in range(1, 1200)}
    assert stored == wanted | {keys.key("v", "p0"): "newer"}


def test_the_defaults_join() -> None:
    """Switched on unless someone says otherwise."""
    assert Policy().join


async def test_what_was_noticed_late_waits_for_one_look(ctx: Context, api: ScriptedApi) -> None:
    """The worker was away, and a person retried the failure: its attempt, long due, is not made first."""
    change_policy(ctx, base_delay=timedelta(0))
    api.add(failed(ago=timedelta(minutes=1)), run("theirs", Status.COMPLETED))
    await poll(ctx)
    scheduled = await lineage_of(ctx)
    assert scheduled.due_at is not None
    assert scheduled.due_at > ctx.now()
    assert "noticed late" in scheduled.detail
    assert await submit(ctx) == {}
    assert await joined(ctx) == 1
    assert (await lineage_of(ctx)).state is State.RECOVERED
    assert api.calls == []


async def test_after_a_downtime_nothing_is_sent_before_someone_looked(
    ctx: Context, api: ScriptedApi, with_options: Callable[..., Context]
) -> None:
    """People retry by hand while all workers are away: what fell due meanwhile waits for the first survey."""
    api.add(failed("a"), failed("b", fingerprint="other print"))
    await poll(ctx)
    await make_due(ctx, "a")
    await make_due(ctx, "b")
    with_options(survey_patience=timedelta(minutes=10), discovery_interval=timedelta(seconds=3))
    api.add(run("by-hand", Status.RUNNING, fingerprint="print"))
    assert (await submit(ctx)).get("unsurveyed") == 2
    assert api.calls == []
    assert await joined(ctx) == 1
    await make_due(ctx, "b")
    await ctx.desk.look([Workflow.of(await lineage_of(ctx, "b"))], fresh=True)
    await submit(ctx)
    assert api.calls == ["b"]
    assert (await lineage_of(ctx, "a")).newest.clone == "by-hand"


async def test_a_list_that_cannot_be_read_holds_up_no_due_failure_for_ever(
    ctx: Context, api: ScriptedApi, with_options: Callable[..., Context]
) -> None:
    """Without a survey it goes when the patience is over."""
    api.add(failed("a"))
    await poll(ctx)
    await make_due(ctx)
    with_options(survey_patience=timedelta(minutes=10), discovery_interval=timedelta(seconds=3))
    await submit(ctx)
    assert api.calls == []
    assert ctx.unsurveyed_since is not None
    ctx.unsurveyed_since -= timedelta(minutes=10)
    await make_due(ctx)
    await submit(ctx)
    assert api.calls == ["a"]


async def test_the_first_survey_reads_as_far_back_as_failures_are_taken_in(
    ctx: Context, api: ScriptedApi
) -> None:
    """A backfill takes in yesterday's failures: those that people retried yesterday are not retried again."""
    ctx.options = replace(ctx.options, discovery_backfill=timedelta(hours=24))
    at = datetime.now(UTC) - timedelta(hours=5)
    api.add(failed(ago=timedelta(hours=6)), run("theirs", Status.COMPLETED, created_at=at, updated_at=at))
    await poll(ctx)
    assert await joined(ctx) == 1
    assert (await lineage_of(ctx)).state is State.RECOVERED


async def test_a_payload_that_nobody_can_compare_has_to_stay_alone_for_the_grace(
    ctx: Context, api: ScriptedApi
) -> None:
    """A new workflow with one payload for all: its second run is no retry of the first. Ours waits."""
    api.executions.clear()
    change_policy(ctx, base_delay=timedelta(0))
    ctx.options = replace(ctx.options, resolve_grace=timedelta(seconds=30))
    api.add(failed())
    await poll(ctx)
    api.add(run("theirs", Status.COMPLETED))
    assert await joined(ctx) == 0
    assert (await lineage_of(ctx)).reason == "may_be_retried"
    assert await submit(ctx) == {}
    api.add(run("another", Status.COMPLETED))
    assert await joined(ctx) == 0
    assert (await lineage_of(ctx)).state is State.SCHEDULED
    ctx.options = replace(ctx.options, resolve_grace=timedelta(0))
    ctx.shared_keys.found_at.clear()
    del api.executions["another"]
    assert await joined(ctx) == 1
