"""Redrives: the real engine over the real ledger, with a worker that may die between any two steps."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.test_engine import lineage_of, roots_in, watch
from tests.support.examples import alone, discovered, execution
from tests.support.scripted_api import ScriptedApi
from worker.cli import redriving
from worker.cli.errors import CommandError
from worker.cli.person import Person
from worker.domain import orders
from worker.domain.breaker import UNTOUCHED, Forced, force
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason, Jitter, Policy, PolicyBook
from worker.domain.redrive import Outcome, Phase
from worker.domain.redrive import Status as Standing
from worker.domain.redrive_plan import Plan
from worker.domain.redriven import Result
from worker.engine import prune, redrive, submit
from worker.engine.context import Context
from worker.ledger import Ledger, LedgerUnavailable
from worker.ledger.gate import Halt
from worker.ledger.listing import Filter
from worker.ledger.redrive_records import Redrive
from worker.ledger.redrives import Redrives
from worker.ledger.reports import Reports
from worker.ledger.workflows import BreakerTold

ANN, BOB = Person("ann@ops", "the payer site is back"), Person("bob@ops", "wait for the payer")
DEAD = Filter(states=(State.EXHAUSTED,))
TERMS = Plan("", ANN.by, ANN.why, "exhausted", 0, datetime.now(UTC), canary=2, rate=1000.0, in_flight=50)
ONE_ATTEMPT = alone(Policy(max_attempts=1, base_delay=timedelta(0), jitter=Jitter.NONE))
ENDED = GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "1 of 1 attempts were made")


@pytest.fixture
def worker(ctx: Context) -> Context:
    ctx.policies = PolicyBook(ONE_ATTEMPT)
    ctx.options = replace(ctx.options, release_interval=timedelta(0))
    return ctx


def failed(uuid: str, number: int = 0, workflow: str = "workflow-1") -> Execution:
    at = datetime.now(UTC) - timedelta(minutes=9) + timedelta(milliseconds=10 * number)
    return execution(
        uuid, created_at=at, updated_at=at, workflow_uuid=workflow, workflow_name=f"Name of {workflow}"
    )


async def dead_letters(
    ctx: Context, api: ScriptedApi, count: int, workflow: str = "workflow-1", name: str = "e"
) -> list[str]:
    """Let failures be exhausted, in order."""
    failures = [failed(f"{name}{n}", n, workflow) for n in range(count)]
    api.add(*failures)
    now = ctx.now()
    changes = [
        discovered(each, now=now - timedelta(minutes=1) + timedelta(milliseconds=n), decision=ENDED)
        for n, each in enumerate(failures)
    ]
    await asyncio.gather(*(ctx.ledger.commit(change) for change in changes))
    return [each.uuid for each in failures]


async def start(ctx: Context, **terms: Any) -> str:
    return (await redriving.start(ctx.ledger, DEAD, replace(TERMS, **terms))).plan.id


async def look(ctx: Context, redrive_id: str) -> Redrive:
    return (await Redrives(ctx.ledger).load([redrive_id]))[0]


async def results(ctx: Context, redrive_id: str) -> dict[str, tuple[Outcome, str]]:
    found = await Redrives(ctx.ledger).results(redrive_id, 0, 100_000)
    assert len({each.root for _, each in found}) == len(found), "an item has two results"
    return {each.root: (each.outcome, each.why) for _, each in found}


async def carry_on(ctx: Context, api: ScriptedApi, end_as: Status | None = Status.COMPLETED) -> None:
    """Let a worker have its turn, send what is due, and let what runs end."""
    await redrive(ctx)
    await submit(ctx)
    if end_as:
        for uuid in [uuid for uuid, each in api.executions.items() if each.status is Status.QUEUED]:
            api.end(uuid, end_as)
        await watch(ctx)


async def to_its_end(ctx: Context, api: ScriptedApi, redrive_id: str, turns: int = 60) -> Redrive:
    for _ in range(turns):
        if (await look(ctx, redrive_id)).standing.status is not Standing.RUNNING:
            break
        await carry_on(ctx, api)
    one = await look(ctx, redrive_id)
    assert one.standing.status is not Standing.RUNNING, one.counts
    return one


async def events(ctx: Context) -> list[str]:
    return [each.name for _, each in await Reports(ctx.ledger).events_since("-") if not each.root]


async def test_a_canary_goes_first_and_the_rest_when_it_recovered(worker: Context, api: ScriptedApi) -> None:
    """Nothing beyond the canary is released before all of it has ended; then everything is, once."""
    await dead_letters(worker, api, 7)
    one = await start(worker)
    for _ in range(3):
        await carry_on(worker, api, end_as=None)
    assert len(api.calls) == 2
    ended = await to_its_end(worker, api, one)
    assert ended.standing.status is Standing.FINISHED
    assert ended.counts["recovered"] == 7
    assert set(api.clones.values()) == {1}
    assert {outcome for outcome, _ in (await results(worker, one)).values()} == {Outcome.RECOVERED}
    assert await events(worker) == ["redrive_started", "redrive_canary_passed", "redrive_finished"]
    assert await Redrives(worker.ledger).open() == []
    assert await redrive(worker) is None


async def test_the_canary_is_spread_over_the_workflows_and_the_oldest_go_first(
    worker: Context, api: ScriptedApi
) -> None:
    """One workflow with many dead letters does not make up the whole canary."""
    await dead_letters(worker, api, 5, "workflow-1", "old")
    await dead_letters(worker, api, 5, "workflow-2", "new")
    await start(worker)
    await carry_on(worker, api, end_as=None)
    assert set(api.calls) == {"old0", "new0"}


async def test_a_canary_that_failed_stops_it_and_everything_else_stays_as_it_was(
    worker: Context, api: ScriptedApi
) -> None:
    """It says how many failed, and not one lineage more is touched, however many turns pass."""
    dead = await dead_letters(worker, api, 6)
    one = await start(worker)
    for _ in range(4):
        await carry_on(worker, api, Status.FAILED)
    stopped = await look(worker, one)
    assert stopped.standing.status is Standing.STOPPED
    assert "2 of 2 canaries failed again" in stopped.standing.why
    assert stopped.counts["failed"] == 2
    assert set(api.clones) == set(dead[:2])
    assert [(await lineage_of(worker, root)).version for root in dead[2:]] == [1] * 4
    assert all("failed again" in why for _, why in (await results(worker, one)).values())


async def test_a_long_canary_is_judged_whole(worker: Context, api: ScriptedApi) -> None:
    """Longer than what is judged later: whoever is more careful does not get everything retried for it."""
    await dead_letters(worker, api, 60)
    one = await start(worker, canary=45, in_flight=15)
    for _ in range(8):
        await carry_on(worker, api, Status.FAILED)
    stopped = await look(worker, one)
    assert stopped.standing.status is Standing.STOPPED
    assert len(api.calls) <= 45
    assert stopped.counts["pending"] >= 15


async def test_it_stops_later_when_too_many_of_the_newest_fail_again(
    worker: Context, api: ScriptedApi
) -> None:
    """A workflow that breaks after the canary costs a bounded number of clones."""
    await dead_letters(worker, api, 60)
    one = await start(worker, in_flight=5)
    for end_as in [Status.COMPLETED] * 4 + [Status.FAILED] * 10:
        await carry_on(worker, api, end_as)
    stopped = await look(worker, one)
    assert stopped.standing.status is Standing.STOPPED
    assert "failed again, more than 50%" in stopped.standing.why
    assert sum(api.clones.values()) < 40
    assert stopped.counts["pending"] > 20


async def test_a_person_resumes_what_stopped_with_a_new_canary(worker: Context, api: ScriptedApi) -> None:
    """What failed before the person mended it says nothing; nothing is released twice."""
    await dead_letters(worker, api, 6)
    one = await start(worker)
    for _ in range(2):
        await carry_on(worker, api, Status.FAILED)
    assert (await look(worker, one)).standing.status is Standing.STOPPED
    await redriving.resume(worker.ledger, one, BOB)
    assert (await look(worker, one)).standing.phase is Phase.CANARY
    ended = await to_its_end(worker, api, one)
    assert (ended.counts["failed"], ended.counts["recovered"]) == (2, 4)
    assert set(api.clones.values()) == {1}
    assert "redrive_resumed" in await events(worker)


async def test_a_paused_redrive_releases_nothing_and_follows_what_is_under_way(
    worker: Context, api: ScriptedApi
) -> None:
    """Paused by one, resumed by another: each is on record, and the second to pause is told."""
    await dead_letters(worker, api, 6)
    one = await start(worker, canary=0, in_flight=3)
    await carry_on(worker, api, end_as=None)
    await redriving.pause(worker.ledger, one, BOB)
    with pytest.raises(CommandError, match=r"paused since .* by bob@ops: wait for the payer"):
        await redriving.pause(worker.ledger, one, ANN)
    for _ in range(3):
        await carry_on(worker, api)
    paused = await look(worker, one)
    assert (len(api.calls), paused.counts["recovered"], paused.counts["pending"]) == (3, 3, 3)
    await redriving.resume(worker.ledger, one, ANN)
    assert (await to_its_end(worker, api, one)).counts["recovered"] == 6


async def test_a_cancelled_redrive_is_over_and_the_rest_stays_dead(worker: Context, api: ScriptedApi) -> None:
    """It cannot be resumed; what was under way is still followed, then workers leave it alone."""
    dead = await dead_letters(worker, api, 6)
    one = await start(worker, canary=0, in_flight=2)
    await carry_on(worker, api, end_as=None)
    await redriving.cancel(worker.ledger, one, BOB)
    with pytest.raises(CommandError, match="cancelled since"):
        await redriving.resume(worker.ledger, one, ANN)
    for _ in range(3):
        await carry_on(worker, api)
    ended = await look(worker, one)
    assert (ended.counts["recovered"], ended.counts["pending"]) == (2, 4)
    assert await roots_in(worker, State.EXHAUSTED) == set(dead[2:])
    assert await Redrives(worker.ledger).open() == []


async def test_of_two_people_the_slower_one_is_told(
    worker: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked at it while it ran; one pauses it, and the other learns who that was."""
    await dead_letters(worker, api, 3)
    one = await start(worker)
    real = redriving.find

    async def slowly(ledger: Ledger, wanted: str | None) -> Redrive:
        found = await real(ledger, wanted)
        monkeypatch.setattr(redriving, "find", real)
        await redriving.pause(ledger, one, ANN)
        return found

    monkeypatch.setattr(redriving, "find", slowly)
    with pytest.raises(CommandError, match=r"somebody else was faster, nothing is changed: .* by ann@ops"):
        await redriving.pause(worker.ledger, one, BOB)
    assert (await look(worker, one)).standing.by == ANN.by


# --- what moved on ---------------------------------------------------------------------------------------


async def test_what_moved_on_since_is_skipped_with_the_reason(worker: Context, api: ScriptedApi) -> None:
    """Somebody retried one, cancelled one, and one was forgotten: none of them is released."""
    await dead_letters(worker, api, 5)
    one = await start(worker, canary=0)
    now = worker.now()
    e0, e1, e2 = [await lineage_of(worker, root) for root in ("e0", "e1", "e2")]
    await worker.ledger.commit(orders.retry(e0, detail="bob: now", now=now))
    await worker.ledger.commit(orders.cancel(e1, detail="bob: no", now=now))
    await worker.ledger.forget([e2])
    ended = await to_its_end(worker, api, one)
    assert (ended.counts["skipped"], ended.counts["recovered"]) == (3, 2)
    told = await results(worker, one)
    assert "moved on" in told["e0"][1]
    assert "cancelled" in told["e1"][1]
    assert "not on record" in told["e2"][1]
    assert api.clones == {"e0": 1, "e3": 1, "e4": 1}


async def test_two_redrives_of_the_same_lineages_make_one_clone_of_each(
    worker: Context, api: ScriptedApi
) -> None:
    """Whichever comes to a lineage first has it; the other one skips it."""
    await dead_letters(worker, api, 8)
    ids = [await start(worker, canary=0, in_flight=3) for _ in range(2)]
    for each in ids:
        await to_its_end(worker, api, each)
    both = [(await look(worker, each)).counts for each in ids]
    assert sum(each["recovered"] for each in both) == 8
    assert sum(each["skipped"] for each in both) == 8
    assert set(api.clones.values()) == {1}


async def test_a_workflow_that_is_paused_meanwhile_is_skipped_and_holds_nobody_up(
    worker: Context, api: ScriptedApi
) -> None:
    """The others go on; one that was paused before is not even chosen."""
    await dead_letters(worker, api, 3, "workflow-1", "a")
    await dead_letters(worker, api, 3, "workflow-2", "b")
    one = await start(worker, canary=0)
    paused = force(UNTOUCHED, Forced.OPEN, "bob: the site is down", worker.now())
    assert await worker.ledger.workflows.store(BreakerTold("workflow-1", UNTOUCHED, paused, "said", {}))
    ended = await to_its_end(worker, api, one)
    assert (ended.counts["skipped"], ended.counts["recovered"]) == (3, 3)
    assert "paused (bob: the site is down)" in (await results(worker, one))["a0"][1]
    with pytest.raises(CommandError, match="nothing to redrive"):
        await start(worker)


async def test_nothing_is_released_while_no_call_may_leave(worker: Context, api: ScriptedApi) -> None:
    """While a person paused everything, lineages stay what they are instead of lying about."""
    dead = await dead_letters(worker, api, 3)
    one = await start(worker)
    await worker.ledger.gate.halt(Halt("bob", "maintenance", worker.now(), None), "retries_paused", {})
    await carry_on(worker, api)
    assert await roots_in(worker, State.EXHAUSTED) == set(dead)
    await worker.ledger.gate.halt(None, "retries_resumed", {})
    assert (await to_its_end(worker, api, one)).counts["recovered"] == 3


# --- workers in trouble ----------------------------------------------------------------------------------

STEPS = ("end", "note", "confirm", "put_back", "move", "close")


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, verb: str, after: bool) -> Iterator[list[str]]:
    """Let the worker die when it comes to a step: just before it is stored, or just after."""
    died: list[str] = []
    real = getattr(Redrives, verb)

    async def die(self: Redrives, *args: Any, **kwargs: Any) -> Any:
        if died:
            return await real(self, *args, **kwargs)
        if after:
            await real(self, *args, **kwargs)
        died.append(verb)
        raise LedgerUnavailable("died here")

    with monkeypatch.context() as patch:
        patch.setattr(Redrives, verb, die)
        yield died


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verb", STEPS)
async def test_a_worker_that_dies_at_any_step_loses_and_repeats_nothing(
    worker: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, verb: str, after: bool
) -> None:
    """Every item has one result and every released lineage one clone, whatever step was the last one."""
    await dead_letters(worker, api, 6)
    one = await start(worker, in_flight=3)
    cancelled = await lineage_of(worker, "e4")
    await worker.ledger.commit(orders.cancel(cancelled, detail="bob: no", now=worker.now()))
    with dying(monkeypatch, verb, after) as died:
        for _ in range(20):
            try:
                await redrive(worker)
            except LedgerUnavailable:
                # The next one comes when the call is long under way.
                await submit(worker)
                await carry_on(worker, api)
            await carry_on(worker, api)
            if (await look(worker, one)).standing.status is Standing.FINISHED:
                break
    await redrive(worker)
    if verb != "put_back":
        assert died, "it never came to that step"
    ended = await look(worker, one)
    assert ended.standing.status is Standing.FINISHED
    assert (ended.counts["recovered"], ended.counts["skipped"]) == (5, 1)
    assert len(await results(worker, one)) == 6
    assert set(api.clones.values()) == {1}
    assert await Redrives(worker.ledger).open() == []


async def test_a_worker_that_dies_between_two_orders_is_made_up_for(
    worker: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some orders are stored and others are not: the next worker tells them apart and stores the rest."""
    await dead_letters(worker, api, 6)
    one = await start(worker, canary=0)
    real, stored = Context.commit, list[str]()

    async def some(self: Context, change: Any, **kwargs: Any) -> Any:
        if len(stored) == 3:
            raise LedgerUnavailable("died here")
        stored.append(change.after.root)
        return await real(self, change, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Context, "commit", some)
        patch.setattr(Redrives, "confirm", lambda *_: asyncio.sleep(0))
        with pytest.raises(LedgerUnavailable):
            await redrive(worker)
    await submit(worker)
    half_done = (await look(worker, one)).flying
    assert (len(half_done), any(each.released for each in half_done.values())) == (6, False)
    ended = await to_its_end(worker, api, one)
    assert ended.counts["recovered"] == 6
    assert set(api.clones.values()) == {1}


async def test_what_was_half_done_waits_when_a_person_paused_it_meanwhile(
    worker: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker died before it stored the orders, and then somebody paused: nothing leaves."""
    await dead_letters(worker, api, 3)
    one = await start(worker, canary=0)
    with monkeypatch.context() as patch:

        async def die(*_: object, **__: object) -> None:
            raise LedgerUnavailable("died here")

        patch.setattr(Context, "commit", die)
        with pytest.raises(LedgerUnavailable):
            await redrive(worker)
    await redriving.pause(worker.ledger, one, BOB)
    await carry_on(worker, api)
    paused = await look(worker, one)
    assert (api.calls, paused.counts["pending"], paused.counts["under_way"]) == ([], 3, 0)
    await redriving.resume(worker.ledger, one, ANN)
    assert (await to_its_end(worker, api, one)).counts["recovered"] == 3


async def test_any_number_of_workers_release_no_more_than_one_would(
    worker: Context, api: ScriptedApi
) -> None:
    """Turns at the same time, and one whose turn was taken from it: the canary stays a canary."""
    await dead_letters(worker, api, 20)
    one = await start(worker, canary=3)
    await asyncio.gather(*(redrive(worker) for _ in range(6)))
    slow = await look(worker, one)
    turn = await worker.ledger.jobs.begin(
        "redrive", lease=timedelta(seconds=10), gap=timedelta(0), calls_api=False
    )
    assert not isinstance(turn, str)
    await worker.ledger.jobs.finish(turn)
    item = next(iter(slow.flying.values()))
    items = [replace(item, chosen=each) for each in await Redrives(worker.ledger).next(one, 10)]
    assert await Redrives(worker.ledger).note(slow, turn, items) == set()
    assert (await look(worker, one)).tally.flying == 3


async def test_a_pause_that_comes_while_a_worker_chooses_counts(
    worker: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment the person is told that it is paused nothing more is released."""
    dead = await dead_letters(worker, api, 3)
    one = await start(worker, canary=0)
    real = Redrives.next

    async def meanwhile(self: Redrives, *args: Any) -> Any:
        await redriving.pause(worker.ledger, one, BOB)
        return await real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Redrives, "next", meanwhile)
        await redrive(worker)
    assert await roots_in(worker, State.EXHAUSTED) == set(dead)
    assert (await look(worker, one)).tally.pending == 3


async def test_what_is_known_to_be_released_is_never_put_back(worker: Context, api: ScriptedApi) -> None:
    """A worker that stood still and wakes up does not undo what others found out meanwhile."""
    await dead_letters(worker, api, 2)
    one = await start(worker, canary=1)
    await redrive(worker)
    redrives, released = Redrives(worker.ledger), (await look(worker, one)).flying
    await redrives.put_back(one, list(released.values()))
    assert (await look(worker, one)).flying == released
    assert len(await redrives.next(one, 5)) == 1


async def test_a_result_that_is_told_twice_counts_once(worker: Context, api: ScriptedApi) -> None:
    """A command that is sent again after its answer was lost changes nothing."""
    await dead_letters(worker, api, 2)
    one = await start(worker)
    redrives = Redrives(worker.ledger)
    first = (await redrives.next(one, 1))[0]
    told = [(first, Result(first.root, Outcome.SKIPPED, "it moved on"))]
    assert [await redrives.end(one, told), await redrives.end(one, told)] == [1, 0]
    assert (await look(worker, one)).counts["skipped"] == 1
    assert len(await results(worker, one)) == 1


async def test_the_rate_holds_however_often_workers_look(worker: Context, api: ScriptedApi) -> None:
    """Two at once and one each second: a hundred turns within a moment release no more than that."""
    await dead_letters(worker, api, 20)
    one = await start(worker, canary=0, rate=0.5)
    for _ in range(100):
        await redrive(worker)
    assert (await look(worker, one)).tally.flying == 1


async def test_three_thousand_items_are_worked_off_in_bounded_time(worker: Context, api: ScriptedApi) -> None:
    """Most of them moved on meanwhile: they are skipped in batches, and the rest goes."""
    dead = await dead_letters(worker, api, 3000)
    one = await start(worker, canary=5, in_flight=1000, rate=10_000)
    found = (await worker.ledger.read(dead[20:2990])).values()
    await worker.ledger.forget([each for each in found if isinstance(each, Lineage)])
    began = asyncio.get_running_loop().time()
    ended = await to_its_end(worker, api, one)
    assert (ended.counts["skipped"], ended.counts["recovered"]) == (2970, 30)
    assert asyncio.get_running_loop().time() - began < 30


async def test_no_redrive_is_meant_by_nothing(worker: Context, api: ScriptedApi) -> None:
    """An unset variable of a shell cancels nobody's redrive; a whole id comes before a beginning."""
    await dead_letters(worker, api, 6)
    one = await start(worker)
    with pytest.raises(CommandError, match="no redrive ''"):
        await redriving.cancel(worker.ledger, "", BOB)
    assert (await look(worker, one)).standing.status is Standing.RUNNING
    assert (await redriving.find(worker.ledger, one[:4])).plan.id == one


async def test_a_redrive_is_forgotten_with_the_retention(worker: Context, api: ScriptedApi) -> None:
    """Nothing of it is left; one that goes on is kept however old it is."""
    await dead_letters(worker, api, 2)
    done = await start(worker)
    await to_its_end(worker, api, done)
    await redrive(worker)
    await dead_letters(worker, api, 2, name="f")
    going = await start(worker)
    worker.options = replace(worker.options, retention=timedelta(0))
    await prune(worker)
    assert await Redrives(worker.ledger).ids() == [going]
    left = await worker.ledger.connection.command("KEYS", f"*{worker.ledger.keys.namespace}*:{done}")
    assert left == []


def test_the_tick_of_submit_carries_on_what_is_redriven() -> None:
    """There is no tick of its own, and no worker without it."""
    code = "from worker import runtime, tasks; runtime.perform = lambda job, _: print(job); tasks.submit()"
    env = {**os.environ, "KINETIC_BASE_URL": "http://127.0.0.1:9", "KINETIC_API_KEY": "a-key-0123456789"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["submit", "redrive"], done.stderr
