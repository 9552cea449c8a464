"""What failures of one workflow mean for each other: breaker, strikes, budget, pace, rate, calendar."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from tests.integration.test_engine import failed, lineage_of, roots_in, watch
from tests.support.examples import NO_LIMITS, discovered, execution, submitting
from tests.support.scripted_api import ScriptedApi, answering
from worker.domain import transitions
from worker.domain.breaker import Forced, Mode, Rule, force
from worker.domain.budget import Caps, Limits, Usage, WorkflowLimits
from worker.domain.calendar import Calendar, parse_span
from worker.domain.delivery import Conflict, NotDelivered
from worker.domain.executions import Execution, Status
from worker.domain.health import Ended
from worker.domain.lineage import State
from worker.domain.policy import Jitter, Policy, PolicyBook
from worker.engine import discover, submit, survey
from worker.engine.context import Context
from worker.engine.desk import Workflow
from worker.engine.release import release
from worker.ledger import Admission, Ledger, Outcome
from worker.ledger.clock import to_ms

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
QUICK_RULE = Rule(first_pause=timedelta(milliseconds=200), longest_pause=timedelta(seconds=1))
NO_SHARE = WorkflowLimits(share=0, floor=0)
GUARDED = Policy(
    max_attempts=5,
    base_delay=timedelta(0),
    jitter=Jitter.NONE,
    prompt=False,
    strikes=0,
    breaker=QUICK_RULE,
    limits=NO_SHARE,
)
ONE = Workflow("workflow-1", "workflow-1", "Prior authorisation")


def completed(uuid: str, ago: timedelta = timedelta(seconds=1), **changes: Any) -> Execution:
    at = datetime.now(UTC) - ago
    times = {"created_at": at - SECOND, "updated_at": at}
    return execution(uuid, Status.COMPLETED, **(times | changes))


@pytest.fixture
def guarded(ctx: Context) -> Context:
    ctx.policies = PolicyBook(GUARDED)
    ctx.options = replace(ctx.options, release_interval=timedelta(0))
    return ctx


async def eventually(what: Callable[[], Awaitable[bool]], within_s: float = 10) -> None:
    """Wait for a condition."""
    ends_at = asyncio.get_running_loop().time() + within_s
    while not await what():
        assert asyncio.get_running_loop().time() < ends_at, "it did not come about"
        await asyncio.sleep(0.02)


async def mode_of(ctx: Context, workflow: str = "workflow-1") -> Mode:
    return (await ctx.ledger.workflows.look([workflow], timedelta(hours=6)))[workflow].breaker.mode


async def in_flight(ctx: Context, workflow: str = "workflow-1") -> int:
    return (await ctx.ledger.workflows.look([workflow], timedelta(hours=6)))[workflow].usage.in_flight


async def end_all(ctx: Context, api: ScriptedApi, status: Status) -> None:
    """Let every clone that is under way end, and look at it."""
    for uuid in [uuid for uuid, each in api.executions.items() if each.status is Status.QUEUED]:
        api.end(uuid, status)
    await watch(ctx)


# --- the breaker -------------------------------------------------------------------------------------


async def test_a_broken_workflow_costs_one_clone_at_a_time_and_no_attempts(
    guarded: Context, api: ScriptedApi
) -> None:
    """Ten failures: one clone goes as a canary, nine wait with all their attempts and a reason."""
    api.add(*(failed(f"e{n}") for n in range(10)))
    await discover(guarded)

    async def a_canary_went() -> bool:
        await submit(guarded)
        return len(api.calls) == 1

    await eventually(a_canary_went)
    for _ in range(5):
        await submit(guarded)
    assert len(api.calls) == 1
    assert await mode_of(guarded) is Mode.OPEN
    waiting = [await lineage_of(guarded, root) for root in await roots_in(guarded, State.SCHEDULED)]
    assert len(waiting) == 9
    assert {(each.reason, each.made) for each in waiting} == {("workflow_failing", 0)}
    assert all("all of the last 10 runs failed" in each.detail for each in waiting)
    assert await guarded.ledger.workflows.count_waiting() == 9


async def test_a_canary_that_fails_makes_the_next_one_wait_longer_and_be_another(
    guarded: Context, api: ScriptedApi
) -> None:
    """The same lineage must not spend all its attempts on finding out about the workflow."""
    api.add(*(failed(f"e{n}") for n in range(4)))
    await discover(guarded)
    for canaries in (1, 2, 3):

        async def another_went(canaries: int = canaries) -> bool:
            await submit(guarded)
            return len(api.calls) == canaries

        await eventually(another_went)
        await end_all(guarded, api, Status.FAILED)
    tried = [await lineage_of(guarded, f"e{n}") for n in range(4)]
    assert sorted(each.made for each in tried) == [0, 1, 1, 1]


async def test_a_success_lets_the_others_go_by_steps(guarded: Context, api: ScriptedApi) -> None:
    """One canary, then twice as many with each round: a ramp, and no stampede."""
    api.add(*(failed(f"e{n}") for n in range(15)))
    await discover(guarded)

    async def a_canary_went() -> bool:
        await submit(guarded)
        return len(api.calls) == 1

    await eventually(a_canary_went)
    rounds, before = [], 1
    for _ in range(4):
        await end_all(guarded, api, Status.COMPLETED)
        await submit(guarded)
        await submit(guarded)
        rounds.append(len(api.calls) - before)
        before = len(api.calls)
    assert rounds == [2, 4, 8, 0]
    assert await mode_of(guarded) in (Mode.CLOSING, Mode.CLOSED)
    await end_all(guarded, api, Status.COMPLETED)
    assert await roots_in(guarded, State.RECOVERED) == {f"e{n}" for n in range(15)}
    assert set(api.clones.values()) == {1}


async def test_an_original_that_completes_is_as_good_as_a_canary(guarded: Context, api: ScriptedApi) -> None:
    """Others find out for us that the workflow works again: nothing has to be risked."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(first_pause=MINUTE)))
    api.add(*(failed(f"e{n}") for n in range(5)))
    await discover(guarded)
    await submit(guarded)
    assert (await mode_of(guarded), api.calls) == (Mode.OPEN, [])
    api.add(completed("fine", ago=-SECOND / 2))  # after it opened
    await survey(guarded)
    assert await mode_of(guarded) is Mode.CLOSING
    await submit(guarded)
    assert 0 < len(api.calls) <= 2


async def test_a_healthy_workflow_does_not_wait_for_a_broken_one(guarded: Context, api: ScriptedApi) -> None:
    """A flood of failures is put aside; the one failure of another workflow is retried in the same batch."""
    api.add(*(failed(f"e{n}", ago=2 * SECOND) for n in range(300)))
    api.add(failed("other", workflow_uuid="workflow-2", workflow_version_uuid="version-2"))
    await discover(guarded)

    async def it_was_retried() -> bool:
        await submit(guarded)
        return "other" in api.calls

    await eventually(it_was_retried)
    assert len(api.calls) <= 2


async def test_who_waits_is_not_claimed_again_and_again(guarded: Context, api: ScriptedApi) -> None:
    """Waiting costs nothing: it is out of the way of what is due until it is released, or for ten minutes."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(first_pause=MINUTE)))
    api.add(*(failed(f"e{n}") for n in range(20)))
    await discover(guarded)
    await submit(guarded)
    waiting = await roots_in(guarded, State.SCHEDULED)
    versions = {root: (await lineage_of(guarded, root)).version for root in waiting}
    claim = await guarded.ledger.claim(State.SCHEDULED, limit=100, hide_for=SECOND)
    assert claim.members == ()
    await submit(guarded)
    assert versions == {root: (await lineage_of(guarded, root)).version for root in versions}


async def test_a_wait_that_is_over_is_looked_at_again(guarded: Context, api: ScriptedApi) -> None:
    """A failure never forgotten: even if nobody ever released it, a lineage comes up by itself."""
    guarded.options = replace(guarded.options, look_again=timedelta(0), release_interval=MINUTE)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(first_pause=MINUTE)))
    api.add(*(failed(f"e{n}") for n in range(3)))
    await discover(guarded)
    await submit(guarded)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    await submit(guarded)
    assert sorted(api.calls) == ["e0", "e1", "e2"]
    assert await guarded.ledger.workflows.count_waiting() == 0


async def test_one_who_waits_ends_at_the_deadline(guarded: Context, api: ScriptedApi) -> None:
    """Waiting for a workflow is no way to live for ever."""
    policy = replace(GUARDED, breaker=Rule(first_pause=MINUTE), deadline=timedelta(seconds=3))
    guarded.policies = PolicyBook(policy)
    api.add(*(failed(f"e{n}") for n in range(3)))
    await discover(guarded)

    async def all_ended() -> bool:
        await submit(guarded)
        return len(await roots_in(guarded, State.EXHAUSTED)) == 3

    await eventually(all_ended)
    assert (await lineage_of(guarded, "e0")).reason == "deadline_passed"
    assert await guarded.ledger.workflows.count_waiting() == 0
    assert api.calls == []


async def test_a_person_forces_it_open_and_closed(guarded: Context, api: ScriptedApi) -> None:
    """The effect is there with the next intent, whatever a process believed a moment ago."""
    api.add(failed("a"), failed("b"))
    await discover(guarded)
    await guarded.desk.look([ONE])  # believes for a second that it is closed
    before = (await guarded.ledger.workflows.look(["workflow-1"], MINUTE))["workflow-1"].breaker
    held_open = force(before, Forced.OPEN, "bad deploy", guarded.now())
    assert await guarded.desk.tell(ONE, before, held_open)
    await submit(guarded)
    assert api.calls == []
    assert (await lineage_of(guarded, "a")).reason == "workflow_paused"
    assert await guarded.desk.tell(ONE, held_open, force(held_open, Forced.CLOSED, "go", guarded.now()))
    await submit(guarded)
    await submit(guarded)
    assert sorted(api.calls) == ["a", "b"]


async def test_the_breaker_can_be_switched_off(guarded: Context, api: ScriptedApi) -> None:
    """`BREAKER_FAILURES=0`: every failure is retried by its own policy."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    api.add(*(failed(f"e{n}") for n in range(10)))
    await discover(guarded)
    await submit(guarded)
    await submit(guarded)
    assert len(api.calls) == 10


# --- what is decided in the same step in which it is recorded ----------------------------------------


async def commit_at_once(ctx: Context, api: ScriptedApi, roots: list[str]) -> list[Outcome]:
    """Let as many workers as there are failures record an intent each, all by what they knew before."""
    workers = [Context(ctx.ledger, api, ctx.policies, ctx.options, random=lambda: 0.0) for _ in roots]
    await asyncio.gather(*(each.desk.look([ONE], fresh=True) for each in workers))
    intents = [submitting(await lineage_of(ctx, root), now=ctx.now(), token=root) for root in roots]
    assert {each.desk.view(ONE).objection for each in workers} == {None}
    limits = [each.desk.admission(ONE, each.desk.view(ONE), None) for each in workers]
    return list(
        await asyncio.gather(
            *(ctx.ledger.commit(each, admission=limit) for each, limit in zip(intents, limits, strict=True))
        )
    )


async def test_many_workers_send_one_canary(guarded: Context, api: ScriptedApi) -> None:
    """Each believes that there is a place; the ledger counts."""
    api.add(*(failed(f"e{n}") for n in range(6)))
    await discover(guarded)
    await asyncio.sleep(QUICK_RULE.first_pause.total_seconds() * 1.5)
    outcomes = await commit_at_once(guarded, api, [f"e{n}" for n in range(6)])
    assert sorted(outcomes) == [Outcome.COMMITTED, *[Outcome.LIMITED] * 5]
    assert await in_flight(guarded) == 1


async def test_many_workers_keep_the_budget(guarded: Context, api: ScriptedApi) -> None:
    """A floor of seven and a share of next to nothing: seven clones, and the others say why they wait."""
    limits = WorkflowLimits(share=0.001, floor=7)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0), limits=limits))
    api.add(*(failed(f"e{n}") for n in range(20)))
    await discover(guarded)
    outcomes = await commit_at_once(guarded, api, [f"e{n}" for n in range(12)])
    assert (outcomes.count(Outcome.COMMITTED), outcomes.count(Outcome.LIMITED)) == (7, 5)
    await submit(guarded)
    assert api.calls == []
    waiting = await lineage_of(guarded, min(await roots_in(guarded, State.SCHEDULED)))
    assert waiting.reason == "workflow_budget"
    assert waiting.detail == "7 of 7 clones were made in 6 h, in which the workflow had 20 runs"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (replace(NO_LIMITS, share=0.1, floor=4), "budget"),
        (replace(NO_LIMITS, pace=0.0001, pace_floor=4), "pace"),
        (replace(NO_LIMITS, in_flight=4), "in_flight"),
    ],
)
async def test_limits_of_all_workflows_together(
    guarded: Context, api: ScriptedApi, limits: Limits, reason: str
) -> None:
    """Four clones, of whichever workflow, and the others say what they wait for."""
    guarded.options = replace(guarded.options, limits=limits)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    for n in range(20):
        api.add(failed(f"e{n}", workflow_uuid=f"workflow-{n % 4}"))
    await discover(guarded)
    for _ in range(3):
        await submit(guarded)
    assert len(api.calls) == 4
    waiting = [await lineage_of(guarded, root) for root in await roots_in(guarded, State.SCHEDULED)]
    assert {each.reason for each in waiting} == {reason}


async def test_a_small_workflow_has_its_floor_whatever_the_others_spend(
    guarded: Context, api: ScriptedApi
) -> None:
    """The budget of all is used up by a flood; two failures elsewhere are retried all the same."""
    guarded.options = replace(guarded.options, limits=replace(NO_LIMITS, share=0.1, floor=4))
    policy = replace(GUARDED, breaker=Rule(failures=0), limits=WorkflowLimits(share=0, floor=2))
    guarded.policies = PolicyBook(policy)
    api.add(*(failed(f"e{n}") for n in range(40)))
    await discover(guarded)
    await submit(guarded)
    assert len(api.calls) == 4
    api.add(failed("x", workflow_uuid="small"), failed("y", workflow_uuid="small"))
    await discover(guarded)
    await submit(guarded)
    assert api.calls[4:] in (["x", "y"], ["y", "x"])


async def test_a_call_that_made_no_clone_costs_no_budget(guarded: Context, api: ScriptedApi) -> None:
    """Law 5: the place and the share come back when the call is known to have made nothing."""
    limits = WorkflowLimits(share=0.001, floor=1, in_flight=1)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0), limits=limits))
    api.add(failed("a"))
    turned_away = NotDelivered("rate_limited", http_status=429, pause=timedelta(milliseconds=1))
    api.answers.append(answering(turned_away))
    await discover(guarded)
    await submit(guarded)
    assert (api.clones, await in_flight(guarded)) == ({}, 0)

    async def it_was_cloned() -> bool:
        await submit(guarded)
        return bool(api.clones)

    await eventually(it_was_cloned)
    assert await in_flight(guarded) == 1
    await end_all(guarded, api, Status.COMPLETED)
    assert await in_flight(guarded) == 0


async def test_a_place_in_flight_comes_free_with_every_end(guarded: Context, api: ScriptedApi) -> None:
    """Two at once of a workflow: the others follow as clones end, whichever way they end."""
    limits = WorkflowLimits(share=0, floor=0, in_flight=2)
    guarded.policies = PolicyBook(replace(GUARDED, max_attempts=1, breaker=Rule(failures=0), limits=limits))
    api.add(*(failed(f"e{n}") for n in range(6)))
    await discover(guarded)
    for rounds in (1, 2, 3):
        await submit(guarded)
        await submit(guarded)
        assert len(api.calls) == 2 * rounds
        await end_all(guarded, api, Status.FAILED if rounds == 2 else Status.COMPLETED)


async def test_an_intent_by_yesterdays_knowledge_is_refused(guarded: Context, api: ScriptedApi) -> None:
    """Between a look and an intent the breaker opened: the intent names the version it was judged by."""
    api.add(failed("a"))
    await discover(guarded)
    await guarded.desk.look([ONE])
    seen = guarded.desk.view(ONE)
    opened = replace(seen.breaker, mode=Mode.OPEN, since=guarded.now(), version=1)
    assert await guarded.desk.tell(ONE, seen.breaker, opened)
    intent = submitting(await lineage_of(guarded, "a"), now=guarded.now())
    limits = guarded.desk.admission(ONE, seen, None)
    assert await guarded.ledger.commit(intent, admission=limits) is Outcome.LIMITED
    assert (await lineage_of(guarded, "a")).state is State.SCHEDULED


async def test_calls_leave_no_faster_than_the_rate(guarded: Context, api: ScriptedApi) -> None:
    """A bucket of five, refilled very slowly, for all workers together: five calls, and the rest is due."""
    guarded.options = replace(guarded.options, rate=0.01, burst=5)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    api.add(*(failed(f"e{n}") for n in range(40)))
    await discover(guarded)
    workers = [
        Context(guarded.ledger, api, guarded.policies, guarded.options, random=lambda: 0.0) for _ in range(4)
    ]
    for _ in range(2):
        await asyncio.gather(*(submit(each) for each in workers))
    assert len(api.calls) == 5
    assert len(await roots_in(guarded, State.SCHEDULED)) == 35


# --- evidence ----------------------------------------------------------------------------------------


async def test_completed_runs_count_once_and_clones_do_not(guarded: Context, api: ScriptedApi) -> None:
    """The survey reads the same list again and again; our own clones are no load that others make."""
    api.add(failed("a"), *(completed(f"c{n}") for n in range(230)))  # more than are kept as evidence
    await discover(guarded)
    await submit(guarded)
    await end_all(guarded, api, Status.COMPLETED)
    for _ in range(3):
        await survey(guarded)
    known = (await guarded.ledger.workflows.look(["workflow-1"], timedelta(hours=6)))["workflow-1"]
    assert (known.usage.runs, known.usage.all_runs, known.usage.busiest) == (231, 231, 231)
    assert known.runs[-1].ended is Ended.CLONE_COMPLETED  # as evidence it counts all the same


async def test_old_runs_are_not_counted(guarded: Context, api: ScriptedApi) -> None:
    """A worker that was away for two hours does not take yesterday for today."""
    api.add(completed("old", ago=timedelta(hours=2)), completed("new"))
    await survey(guarded)
    assert (await guarded.ledger.workflows.look(["workflow-1"], MINUTE))["workflow-1"].usage.runs == 1


async def test_a_single_failure_of_a_healthy_workflow_is_retried_at_once(
    guarded: Context, api: ScriptedApi
) -> None:
    """Others complete: there is nothing to wait for. The reason is on record."""
    guarded.policies = PolicyBook(replace(GUARDED, prompt=True, base_delay=MINUTE))
    api.add(*(completed(f"c{n}", ago=MINUTE) for n in range(5)))
    await survey(guarded)
    api.add(failed("a"))
    await discover(guarded)
    assert (await lineage_of(guarded, "a")).reason == "prompt"
    await submit(guarded)
    assert api.calls == ["a"]


async def test_without_evidence_the_backoff_counts(guarded: Context, api: ScriptedApi) -> None:
    """Nothing is known of the workflow: the first attempt waits as the policy says."""
    guarded.policies = PolicyBook(replace(GUARDED, prompt=True, base_delay=MINUTE))
    api.add(failed("a"))
    await discover(guarded)
    scheduled = await lineage_of(guarded, "a")
    assert scheduled.reason == "backoff"
    assert scheduled.due_at is not None
    assert scheduled.due_at - scheduled.last_failed_at == MINUTE


async def test_the_same_failure_three_times_ends_it_and_names_the_step(
    guarded: Context, api: ScriptedApi
) -> None:
    """Two clones and not five: it gets stuck at step 7 whatever is done."""
    guarded.policies = PolicyBook(replace(GUARDED, strikes=3, breaker=Rule(failures=0)))
    api.add(failed("a", n_steps=7, n_agent_actions=21, duration_ms=60_000))
    await discover(guarded)
    for _ in range(4):
        await submit(guarded)
        await end_all(guarded, api, Status.FAILED)
    ended = await lineage_of(guarded, "a")
    assert (ended.state, ended.reason, ended.made) == (State.EXHAUSTED, "deterministic", 2)
    assert ended.detail == "the same failure 3 times in a row: step 7, 21 actions, 60 s"


async def test_different_failures_are_no_strikes(guarded: Context, api: ScriptedApi) -> None:
    """It fails elsewhere each time: that may pass, and all attempts are made."""
    guarded.policies = PolicyBook(replace(GUARDED, strikes=3, max_attempts=4, breaker=Rule(failures=0)))
    api.add(failed("a", n_steps=7))
    await discover(guarded)
    for step in range(5):
        await submit(guarded)
        for uuid, each in list(api.executions.items()):
            if each.status is Status.QUEUED:
                api.executions[uuid] = replace(each, n_steps=10 + step)
        await end_all(guarded, api, Status.FAILED)
    ended = await lineage_of(guarded, "a")
    assert (ended.reason, ended.made) == ("attempts_used_up", 4)


async def test_strikes_are_not_counted_while_the_workflow_is_in_trouble(
    guarded: Context, api: ScriptedApi
) -> None:
    """Every canary of a broken workflow fails the same way: that says nothing about its input."""
    guarded.policies = PolicyBook(replace(GUARDED, strikes=2))
    api.add(*(failed(f"e{n}", n_steps=1) for n in range(3)))
    await discover(guarded)
    for canaries in (1, 2):

        async def another_went(canaries: int = canaries) -> bool:
            await submit(guarded)
            return len(api.calls) == canaries

        await eventually(another_went)
        await end_all(guarded, api, Status.FAILED)
    assert await roots_in(guarded, State.SCHEDULED) == {"e0", "e1", "e2"}


# --- the calendar ------------------------------------------------------------------------------------


async def test_quiet_hours_are_kept_when_it_is_scheduled(guarded: Context, api: ScriptedApi) -> None:
    """What fails in quiet hours is due after them, and says so."""
    now = datetime.now(UTC)
    quiet = parse_span(f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}")
    guarded.policies = PolicyBook(replace(GUARDED, calendar=Calendar(quiet=(quiet,))))
    api.add(failed("a"))
    await discover(guarded)
    scheduled = await lineage_of(guarded, "a")
    assert scheduled.reason == "calendar"
    assert "quiet hours" in scheduled.detail
    assert scheduled.due_at is not None
    assert scheduled.due_at > now + timedelta(minutes=58)


async def test_quiet_hours_that_begin_meanwhile_are_kept_as_well(guarded: Context, api: ScriptedApi) -> None:
    """It was due, and the policy file changed before the call: asked again right before it."""
    api.add(failed("a"))
    await discover(guarded)
    now = datetime.now(UTC)
    quiet = parse_span(f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}")
    guarded.policies = PolicyBook(replace(GUARDED, calendar=Calendar(quiet=(quiet,))))
    await submit(guarded)
    deferred = await lineage_of(guarded, "a")
    assert (api.calls, deferred.reason) == ([], "calendar")
    assert deferred.due_at is not None
    assert deferred.due_at > now + timedelta(minutes=58)


async def test_a_retry_that_would_come_too_late_to_be_of_use_is_not_made(
    guarded: Context, api: ScriptedApi
) -> None:
    """`useless_after` ends it with a reason of its own."""
    calendar = Calendar(useless_after=timedelta(seconds=30))
    guarded.policies = PolicyBook(replace(GUARDED, base_delay=MINUTE, calendar=calendar))
    api.add(failed("a"))
    await discover(guarded)
    ended = await lineage_of(guarded, "a")
    assert (ended.state, ended.reason) == (State.EXHAUSTED, "useless")


def test_a_time_of_day_is_one_way_to_say_it() -> None:
    """`18:00` in the workflow's own zone."""
    assert Calendar(useless_after=time(18)).useless_from(datetime(2026, 3, 2, 12, tzinfo=UTC)) == datetime(
        2026, 3, 2, 18, tzinfo=UTC
    )


async def test_release_is_one_workers_work(guarded: Context, api: ScriptedApi) -> None:
    """Several workers look at the same time: nobody is released twice, and nothing breaks."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(first_pause=MINUTE)))
    api.add(*(failed(f"e{n}") for n in range(10)))
    await discover(guarded)
    await submit(guarded)
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    released = await asyncio.gather(*(release(guarded) for _ in range(5)))
    assert sum(released) == 10


# --- what waits in between must not be forgotten -----------------------------------------------------


async def test_an_execution_that_someone_restarted_meanwhile_is_not_called_for(
    guarded: Context, api: ScriptedApi
) -> None:
    """A conflict, then a wait for a place: the look before the next call is not forgotten over it."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    api.add(failed("a"))
    api.answers.append(answering(Conflict("it is not failed")))
    await discover(guarded)
    await submit(guarded)
    lineage = await lineage_of(guarded, "a")
    held_up = transitions.defer(lineage, reason="pace", detail="", now=guarded.now(), due_at=guarded.now())
    assert await guarded.ledger.commit(held_up) is Outcome.COMMITTED
    api.executions["a"] = replace(api.executions["a"], status=Status.RUNNING)
    await submit(guarded)
    assert (api.calls, api.clones) == (["a"], {})


async def test_many_may_look_at_one_workflow_at_once(guarded: Context, api: ScriptedApi) -> None:
    """Twenty calls under way look at a breaker that has just to be opened: one opens it, and all know."""
    api.add(*(failed(f"e{n}") for n in range(3)))
    await discover(guarded)
    guarded.desk._read_at_s.clear()
    await asyncio.gather(*(guarded.desk.look([ONE]) for _ in range(20)))
    assert guarded.desk.view(ONE).standing.mode is Mode.OPEN


async def test_every_workflow_gets_its_turn_to_be_released(guarded: Context, api: ScriptedApi) -> None:
    """More workflows wait than are looked at in one turn; the last one by name is let go as well."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(first_pause=MINUTE)))
    names = [f"workflow-{n:03d}" for n in range(130)]
    for name in names:
        api.add(*(failed(f"{name}-{n}", workflow_uuid=name) for n in range(3)))
    await discover(guarded)
    await submit(guarded)
    last = Workflow(names[-1], names[-1], "Prior authorisation")
    before = (await guarded.ledger.workflows.look([last.key], MINUTE))[last.key].breaker
    assert await guarded.desk.tell(last, before, force(before, Forced.CLOSED, "go", guarded.now()))
    assert [await release(guarded) for _ in range(3)].count(3) == 1


async def test_a_flood_ahead_is_put_aside_in_batches(guarded: Context, api: ScriptedApi) -> None:
    """No call was answered lately, so one goes first; what cannot go anyhow is not claimed one by one."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(first_pause=MINUTE)))
    api.add(*(failed(f"e{n}", ago=2 * SECOND) for n in range(300)))
    await discover(guarded)
    claims = 0
    claim = guarded.ledger.claim

    async def counted(*args: Any, **more: Any) -> Any:
        nonlocal claims
        claims += 1
        return await claim(*args, **more)

    guarded.ledger.claim = counted  # type: ignore[method-assign]
    await submit(guarded)
    assert await guarded.ledger.workflows.count_waiting() == 300
    assert claims < 10


async def test_without_a_survey_no_share_of_runs_is_counted(guarded: Context, api: ScriptedApi) -> None:
    """Only what fails is known then: half of that would leave failures without a single attempt."""
    policy = replace(GUARDED, breaker=Rule(failures=0), limits=WorkflowLimits(share=0.1, floor=1))
    guarded.policies = PolicyBook(policy)
    guarded.options = replace(guarded.options, survey=False, limits=replace(NO_LIMITS, share=0.1, floor=1))
    api.add(*(failed(f"e{n}") for n in range(30)))
    await discover(guarded)
    await submit(guarded)
    await submit(guarded)
    assert len(api.calls) == 30


async def test_who_has_moved_on_does_not_wait(guarded: Context, api: ScriptedApi) -> None:
    """Between a look and the parking another worker took it: it is not put among those that wait."""
    api.add(failed("a"))
    await discover(guarded)
    lineage = await lineage_of(guarded, "a")
    await submit(guarded)
    await guarded.ledger.workflows.park([lineage], {"a": guarded.now()})
    assert await guarded.ledger.workflows.count_waiting() == 0


async def test_a_clone_that_shows_up_late_counts_against_the_budget(
    guarded: Context, api: ScriptedApi
) -> None:
    """It was given back when no clone was found; then the answer came after all."""
    guarded.policies = PolicyBook(replace(GUARDED, breaker=Rule(failures=0)))
    api.add(failed("a"))
    await discover(guarded)
    intent = submitting(await lineage_of(guarded, "a"), now=guarded.now()).after
    for change in (
        submitting(await lineage_of(guarded, "a"), now=guarded.now()),
        transitions.not_delivered(intent, reason="x", detail="", due_at=guarded.now(), now=guarded.now()),
    ):
        assert await guarded.ledger.commit(change) is Outcome.COMMITTED
    known = (await guarded.ledger.workflows.look(["workflow-1"], timedelta(hours=6)))["workflow-1"]
    assert known.usage.made == 0
    late = transitions.accept(
        await lineage_of(guarded, "a"), execution("c", Status.RUNNING), now=guarded.now(), evidence="201"
    )
    assert await guarded.ledger.commit(late) is Outcome.COMMITTED
    known = (await guarded.ledger.workflows.look(["workflow-1"], timedelta(hours=6)))["workflow-1"]
    assert (known.usage.made, known.usage.in_flight) == (1, 1)


async def usage_of(ledger: Ledger) -> Usage:
    return (await ledger.workflows.look(["workflow-1"], timedelta(hours=6)))["workflow-1"].usage


async def clone(ledger: Ledger, root: str) -> None:
    """Let a lineage be found and its first clone be made."""
    found = discovered(execution(root))
    sent = submitting(found.after)
    made = transitions.accept(
        sent.after, execution(f"{root}-clone", Status.QUEUED), now=ledger.clock.now(), evidence="201"
    )
    for change in (found, sent, made):
        assert await ledger.commit(change) is Outcome.COMMITTED


async def sums(ledger: Ledger) -> dict[str, list[str]]:
    """Return how many clones there were ever, at the end of each span: of the workflow, and of all."""
    keys = {"of one": ledger.keys.made_sums_of("workflow-1"), "of all": ledger.keys.made_sums}
    return {name: await ledger.connection.command("ZRANGE", key, 0, -1) for name, key in keys.items()}


async def move_back(ledger: Ledger, key: str, by: timedelta) -> None:
    """Let what was counted have been counted so long ago."""
    for member in await ledger.connection.command("ZRANGE", key, 0, -1):
        await ledger.connection.command("ZINCRBY", key, -by // timedelta(milliseconds=1), member)


async def test_clones_are_summed_up_and_counted_over_a_window(ledger: Ledger) -> None:
    """What is made takes no place of its own; the intent after it is held against the same count."""
    for root in ("a", "b", "c"):
        await clone(ledger, root)
    assert await sums(ledger) == {"of one": ["3"], "of all": ["3"]}
    assert await ledger.connection.command("EXISTS", ledger.keys.made, ledger.keys.made_of("workflow-1")) == 0
    usage = await usage_of(ledger)
    assert (usage.made, usage.all_made, usage.made_lately) == (3, 3, 3)
    found = discovered(execution("d"))
    await ledger.commit(found)
    caps = Caps(None, None, 3, None, None, 0)
    limits = Admission("workflow-1", caps=caps, window=timedelta(hours=6))
    intent = submitting(found.after)
    assert await ledger.commit(intent, admission=limits) is Outcome.LIMITED
    for key in (ledger.keys.made_sums, ledger.keys.made_sums_of("workflow-1")):
        await move_back(ledger, key, timedelta(minutes=10))
    usage = await usage_of(ledger)
    assert (usage.made, usage.all_made, usage.made_lately) == (3, 3, 0)
    assert await ledger.commit(intent, admission=limits) is Outcome.LIMITED
    for key in (ledger.keys.made_sums, ledger.keys.made_sums_of("workflow-1")):
        await move_back(ledger, key, timedelta(hours=6))
    assert await ledger.commit(intent, admission=limits) is Outcome.COMMITTED
    usage = await usage_of(ledger)
    assert (usage.made, usage.all_made, usage.made_lately) == (1, 1, 1), "the one whose call is under way"


async def test_sums_go_on_from_the_newest_that_is_too_old_to_count(ledger: Ledger) -> None:
    """Days later the first clone counts as one, and what lies further back is gone."""
    one, of_all = ledger.keys.made_sums_of("workflow-1"), ledger.keys.made_sums
    now_ms = to_ms(ledger.clock.now())
    for key in (one, of_all):
        for days, total in ((4, 7), (3, 9), (2, 12)):
            await ledger.connection.command("ZADD", key, now_ms - days * 86_400_000, total)
    await clone(ledger, "a")
    assert await sums(ledger) == {"of one": ["12", "13"], "of all": ["12", "13"]}
    await clone(ledger, "b")
    assert await sums(ledger) == {"of one": ["12", "14"], "of all": ["12", "14"]}
    usage = await usage_of(ledger)
    assert (usage.made, usage.all_made, usage.made_lately) == (2, 2, 2)


async def test_a_held_call_that_did_make_a_clone_counts_once(ledger: Ledger) -> None:
    """It was counted while nobody knew: a person who names its clone does not count it again."""
    found = discovered(execution("a"))
    sent = submitting(found.after)
    unclear = transitions.unresolve(sent.after, reason="read_timeout", detail="", now=ledger.clock.now())
    held = transitions.hold(unclear.after, reason="unclear", detail="", now=ledger.clock.now())
    made = transitions.accept(
        held.after, execution("c", Status.RUNNING), now=ledger.clock.now(), evidence="ann@ops"
    )
    for change in (found, sent, unclear, held, made):
        assert await ledger.commit(change) is Outcome.COMMITTED
        usage = await usage_of(ledger)
        assert usage.made == usage.all_made == int(change is not found)
