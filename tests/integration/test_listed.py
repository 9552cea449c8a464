"""Many clones are looked at by reading the list; what it cannot tell is asked for by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.integration.test_engine import failed, lineage_of, roots_in
from tests.integration.test_engine import watch as watch_all
from tests.support.examples import execution
from tests.support.scripted_api import ScriptedApi, clone_then_lose_the_answer
from worker.domain.delivery import Accepted, Delivery
from worker.domain.executions import Execution, Status
from worker.domain.lineage import State
from worker.domain.transitions import Change
from worker.engine import discover, resolve, submit, survey, watch
from worker.engine.clones import take_in_ended
from worker.engine.context import TURN_LEASE, Context
from worker.engine.listed import JOB
from worker.engine.watch import BATCHES
from worker.kinetic import KineticError, Page, Throttled, Unreadable
from worker.ledger.workflows import Length

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
MANY = 6


@pytest.fixture
def many(with_options: Callable[..., Context], api: ScriptedApi) -> Context:
    """Read the list for six looks; others' runs are on it as well."""
    others(api, 3, ago=5 * MINUTE)
    return with_options(many_looks=MANY)


def others(api: ScriptedApi, how_many: int, *, ago: timedelta = timedelta(0)) -> None:
    at = datetime.now(UTC) - ago
    for n in range(how_many):
        api.add(execution(f"other-{ago}-{n}", Status.COMPLETED, created_at=at, updated_at=at))


async def running(ctx: Context, api: ScriptedApi, how_many: int = MANY) -> list[str]:
    """Retry that many failures; return their clones, in order."""
    roots = [f"e{n}" for n in range(how_many)]
    api.add(*(failed(root, ago=10 * SECOND, n_steps=7) for root in roots))
    await discover(ctx)
    await submit(ctx)
    return [(await lineage_of(ctx, root)).newest.clone for root in roots]


async def states(ctx: Context) -> dict[str, int]:
    """Return how many lineages are in each state."""
    counts = {state.value: len(await roots_in(ctx, state)) for state in State}
    return {state: count for state, count in counts.items() if count}


async def next_look(ctx: Context, root: str) -> datetime:
    index = ctx.ledger.keys.state(State.RUNNING)
    at_ms = await ctx.ledger.connection.command("ZSCORE", index, root)
    return datetime.fromtimestamp(float(at_ms) / 1000, UTC)


async def grown_old(ctx: Context, root: str, age: timedelta) -> None:
    """Let a running clone have been there for longer."""
    before = await lineage_of(ctx, root)
    at = ctx.now() - age
    newest = replace(before.newest, submitted_at=at, accepted_at=at)
    after = replace(before, version=before.version + 1, attempts=(*before.attempts[:-1], newest))
    await ctx.ledger.commit(Change(before, after, ()))


def meeting(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, meet: Callable[[], Awaitable[object]]) -> None:
    """Let something happen when the first page has been fetched, before it is read."""
    pages = api.pages

    async def met(**wanted: Any) -> AsyncIterator[Page]:
        async for page in pages(**wanted):
            if page.executions:
                await meet()
            yield page

    monkeypatch.setattr(api, "pages", met)


def failing(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, error: KineticError) -> None:
    """Let the list of failures be read, and that of what completed fail."""
    pages = api.pages

    async def broken(*, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        if status is Status.COMPLETED:
            raise error
        async for page in pages(status=status, since=since):
            yield page

    monkeypatch.setattr(api, "pages", broken)


# --- what the list tells ----------------------------------------------------------------------------------


async def test_many_ends_are_learned_from_the_list(many: Context, api: ScriptedApi) -> None:
    """Two pages instead of six calls: who completed is recovered, who failed is scheduled again."""
    for n, clone in enumerate(await running(many, api)):
        api.end(clone, Status.FAILED if n == 0 else Status.COMPLETED)
    api.pages_read = 0
    await watch_all(many)
    assert await states(many) == {"scheduled": 1, "recovered": 5}
    assert (api.gets, api.pages_read) == (0, 2)
    assert (await lineage_of(many, "e0")).made == 1


async def test_few_are_asked_for_by_name(many: Context, api: ScriptedApi) -> None:
    """A list costs more than five looks."""
    await running(many, api, MANY - 1)
    api.pages_read = 0
    await watch_all(many)
    assert (api.gets, api.pages_read) == (MANY - 1, 0)


async def test_what_neither_list_shows_is_running_and_is_looked_at_later(
    with_options: Callable[..., Context], many: Context, api: ScriptedApi
) -> None:
    """Both lists were read back beyond their making: they have not ended, and no call is spent on them."""
    ctx = with_options(watch_interval=MINUTE)
    clones = await running(ctx, api)
    api.end(clones[0], Status.COMPLETED)
    await watch_all(ctx)
    assert await states(ctx) == {"running": 5, "recovered": 1}
    assert api.gets == 0
    assert await next_look(ctx, "e1") > ctx.now() + MINUTE / 2


async def test_a_list_that_shows_nothing_proves_nothing(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """No execution at all is listed as completed: perhaps this server calls it something else."""
    ctx = with_options(many_looks=MANY)
    await running(ctx, api)
    await watch_all(ctx)
    assert api.gets == MANY


async def test_absence_from_the_list_is_never_taken_for_not_found(many: Context, api: ScriptedApi) -> None:
    """The clones are gone: no list says so, and no verdict follows from what no list shows."""
    for clone in await running(many, api):
        del api.executions[clone]
    for _ in range(3):
        await watch_all(many)
    assert await states(many) == {"running": MANY}
    assert (await lineage_of(many, "e0")).missing_since is None


async def test_a_clone_that_runs_for_too_long_is_asked_for_by_name(many: Context, api: ScriptedApi) -> None:
    """Only a call about itself can say that it does not exist."""
    clones = await running(many, api)
    await grown_old(many, "e0", 11 * MINUTE)
    del api.executions[clones[0]]
    others(api, 1, ago=20 * MINUTE)
    api.add(failed("long-ago", ago=20 * MINUTE))
    await watch_all(many)
    assert (await lineage_of(many, "e0")).missing_since is not None
    assert (await lineage_of(many, "e1")).missing_since is None


async def test_a_clone_is_not_watched_for_longer_than_the_timeout(
    with_options: Callable[..., Context], many: Context, api: ScriptedApi
) -> None:
    """Other runs of its workflow take days: it is asked for by name all the same, and given to a person."""
    ctx = with_options(watch_timeout=30 * MINUTE)
    await known_to_take(ctx, *(3 * 86400,) * 3)
    await running(ctx, api)
    await grown_old(ctx, "e0", 31 * MINUTE)
    others(api, 1, ago=40 * MINUTE)
    api.add(failed("long-ago", ago=40 * MINUTE))
    await watch_all(ctx)
    ended = await lineage_of(ctx, "e0")
    assert (ended.state, ended.reason) == (State.EXHAUSTED, "watch_timeout")
    assert api.gets == 1


async def test_a_clone_that_was_missing_is_asked_for_by_name(many: Context, api: ScriptedApi) -> None:
    """Whether it is there again, or gone for good, no list of what has ended tells."""
    await running(many, api)
    before = await lineage_of(many, "e0")
    missing = replace(before, version=before.version + 1, missing_since=many.now())
    await many.ledger.commit(Change(before, missing, ()))
    await watch_all(many)
    assert api.gets == 1
    assert (await lineage_of(many, "e0")).missing_since is None


async def test_a_list_that_has_all_statuses_shows_who_is_alive(
    with_options: Callable[..., Context], many: Context, api: ScriptedApi
) -> None:
    """It cannot be asked for one status: it is read as a whole, and what is not on it is asked for."""
    ctx = with_options(filters=False)
    clones = await running(ctx, api)
    api.end(clones[0], Status.COMPLETED)
    del api.executions[clones[1]]
    await watch_all(ctx)
    assert await states(ctx) == {"running": 5, "recovered": 1}
    assert (await lineage_of(ctx, "e1")).missing_since is not None


async def test_ends_of_clones_that_are_not_due_are_taken_in_as_well(many: Context, api: ScriptedApi) -> None:
    """The page is paid for."""
    clones = await running(many, api, MANY + 1)
    for clone in clones:
        api.end(clone, Status.COMPLETED)
    soon = many.now() - SECOND
    later = many.now() + MINUTE
    await many.ledger.reschedule(State.RUNNING, {f"e{n}": soon for n in range(MANY)} | {f"e{MANY}": later})
    await watch(many)
    assert await states(many) == {"recovered": MANY + 1}


async def test_a_platform_without_failures_needs_no_look_by_name(
    with_options: Callable[..., Context], many: Context, api: ScriptedApi
) -> None:
    """Nothing is listed as failed, which is believed; what completed is listed, and these are not."""
    ctx = with_options(watch_interval=MINUTE)
    await running(ctx, api)
    for n in range(MANY):
        del api.executions[f"e{n}"]
    await watch_all(ctx)
    assert (api.gets, await states(ctx)) == (0, {"running": MANY})
    assert await next_look(ctx, "e1") > ctx.now() + MINUTE / 2


@pytest.mark.parametrize("left_out", ["n_steps", "updated_at"])
async def test_a_failure_that_the_list_tells_too_little_of_is_asked_for(
    many: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    """Where and when it failed decides what comes next; due or not, the list alone ends nothing."""
    clones = await running(many, api, MANY + 1)
    for clone in clones:
        api.end(clone, Status.FAILED)
    pages = api.pages
    blank: dict[str, Any] = {left_out: None}

    async def curt(**wanted: Any) -> AsyncIterator[Page]:
        async for page in pages(**wanted):
            shown = tuple(replace(each, **blank) for each in page.executions)
            yield replace(page, executions=shown)

    monkeypatch.setattr(api, "pages", curt)
    await many.ledger.reschedule(State.RUNNING, {f"e{MANY}": many.now() + MINUTE})
    await watch(many)
    assert (api.gets, await states(many)) == (MANY, {"scheduled": MANY, "running": 1})
    signature = (await lineage_of(many, "e0")).signature
    assert signature
    assert signature.n_steps == 7


# --- what may happen meanwhile ----------------------------------------------------------------------------


async def test_an_end_that_someone_else_put_on_record_meanwhile_counts_once(
    many: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record moved on after it was read for the look: what is made of the page is dropped."""
    for clone in await running(many, api):
        api.end(clone, Status.FAILED)

    async def someone_else_is_first() -> None:
        await take_in_ended(many, list(api.executions.values()))

    meeting(api, monkeypatch, someone_else_is_first)
    await watch_all(many)
    lineages = [await lineage_of(many, f"e{n}") for n in range(MANY)]
    assert {(each.state, each.made, each.attempts[0].outcome) for each in lineages} == {
        (State.SCHEDULED, 1, "failed")
    }
    failures = await many.ledger.connection.command("HGET", many.ledger.keys.counters, "attempt_failed")
    assert int(failures) == MANY


async def in_place(api: ScriptedApi, of: str) -> Delivery:
    """Run the failed execution itself again, which still shows its old failure."""
    return Accepted(api.executions[of])


async def test_in_place_the_old_failure_on_the_list_is_not_counted_again(
    many: Context, api: ScriptedApi
) -> None:
    """The list of failures shows each of them as it was before it was retried; the next failure counts."""
    api.answers.extend([in_place] * MANY)
    await running(many, api)
    await watch_all(many)
    assert await states(many) == {"running": MANY}
    api.end("e0", Status.FAILED)
    await many.ledger.connection.command("DEL", many.ledger.keys.job(JOB))
    await watch_all(many)
    assert await states(many) == {"running": MANY - 1, "scheduled": 1}


async def test_in_place_a_page_from_before_the_record_was_read_tells_nothing(
    many: Context, api: ScriptedApi
) -> None:
    """The page is older than the failure on record: it shows the one before, which was retried long ago."""
    [clone] = await running(many, api, 1)
    api.end(clone, Status.FAILED)
    page = api.executions[clone]
    await watch_all(many)
    api.end(clone, Status.FAILED)
    api.answers.append(in_place)
    await submit(many)
    before = await lineage_of(many, "e0")
    assert (before.state, before.newest.in_place) == (State.RUNNING, True)
    assert await take_in_ended(many, [replace(page, updated_at=datetime.now(UTC) - MINUTE)]) == 0
    assert await lineage_of(many, "e0") == before


# --- when the list is not read ----------------------------------------------------------------------------


async def test_a_list_that_fails_leaves_it_to_calls_by_name(
    many: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are asked for at once; and it is not tried again before a while."""
    await running(many, api)
    failing(api, monkeypatch, Unreadable("unreadable_list", "no list", 200))
    await watch_all(many)
    assert (api.gets, await states(many)) == (MANY, {"running": MANY})
    api.pages_read = 0
    await watch_all(many)
    assert (api.gets, api.pages_read) == (2 * MANY, 0)


async def test_a_gate_that_closes_midway_stops_the_looks(
    many: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API asks for a rest between two pages: nobody is asked for, and nobody is forgotten."""
    await running(many, api)
    failing(api, monkeypatch, Throttled("rate_limited", "slow down", 429, pause=MINUTE))
    await watch_all(many)
    assert (api.gets, await states(many)) == (0, {"running": MANY})
    assert max([await next_look(many, f"e{n}") for n in range(MANY)]) <= many.now()


async def test_a_gate_that_another_worker_closes_stops_the_reading(
    many: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is asked for, nobody is forgotten, and the list is not blamed for it."""
    monkeypatch.setattr("worker.engine.gatekeeper.LOOK_EVERY_S", 0)
    await running(many, api)
    api.page_size = 1
    api.pages_read = 0
    meeting(api, monkeypatch, partial(many.ledger.gate.pause, "rate_limited", MINUTE))
    await watch_all(many)
    assert (api.gets, api.pages_read, await states(many)) == (0, 1, {"running": MANY})
    assert max([await next_look(many, f"e{n}") for n in range(MANY)]) <= many.now()
    assert await many.ledger.connection.command("HGET", many.ledger.keys.job(JOB), "memory") is None


async def test_a_gate_that_another_worker_closes_stops_the_looks_by_name(
    with_options: Callable[..., Context], many: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the list did not show are asked for a few at a time."""
    ctx = with_options(submit_concurrency=1)
    monkeypatch.setattr("worker.engine.gatekeeper.LOOK_EVERY_S", 0)
    await running(ctx, api)
    api.cut_after_pages = 0  # nobody is shown, and nobody is taken for running
    get = api.get

    async def get_once(uuid: str) -> Execution:
        await ctx.ledger.gate.pause("rate_limited", MINUTE)
        return await get(uuid)

    monkeypatch.setattr(api, "get", get_once)
    await watch_all(ctx)
    assert 0 < api.gets <= BATCHES
    due = [n for n in range(MANY) if await next_look(ctx, f"e{n}") <= ctx.now()]
    assert len(due) >= MANY - BATCHES


@pytest.mark.parametrize("read", [survey, discover, resolve])
async def test_no_list_is_read_on_when_another_worker_has_closed_the_gate(
    many: Context,
    api: ScriptedApi,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Context], Awaitable[object]],
) -> None:
    """The next reading goes as far as this one should have gone."""
    monkeypatch.setattr("worker.engine.gatekeeper.LOOK_EVERY_S", 0)
    await running(many, api)
    api.answers.append(clone_then_lose_the_answer)
    api.add(failed("in-doubt"))
    await many.ledger.connection.command("DEL", many.ledger.keys.job("discover"))
    await discover(many)
    await submit(many)
    await many.ledger.connection.command("DEL", *map(many.ledger.keys.job, ("survey", "discover", "resolve")))
    api.page_size = 1
    api.pages_read = 0
    meeting(api, monkeypatch, partial(many.ledger.gate.pause, "rate_limited", MINUTE))
    await read(many)
    assert api.pages_read == 1
    [job] = await many.ledger.connection.command("KEYS", many.ledger.keys.job("*"))
    assert await many.ledger.connection.command("HGET", job, "memory") in (None, "{}")


async def test_a_list_of_others_is_given_up(many: Context, api: ScriptedApi) -> None:
    """Where hardly any run on the list is ours, a call for each costs less; that is remembered."""
    await running(many, api)
    others(api, 50, ago=timedelta(seconds=-1))
    api.page_size = 1
    api.pages_read = 0
    await watch_all(many)
    assert api.gets == MANY
    assert api.pages_read <= 10
    api.pages_read = 0
    await watch_all(many)
    assert (api.gets, api.pages_read) == (2 * MANY, 0)


async def test_one_worker_reads_and_the_others_leave_it_to_it(many: Context, api: ScriptedApi) -> None:
    """A call for each, beside the list that tells it all, would be in vain."""
    await running(many, api)
    turn = await many.ledger.jobs.begin(JOB, lease=TURN_LEASE, gap=timedelta(0), calls_api=True)
    assert not isinstance(turn, str)
    api.pages_read = 0
    await watch_all(many)
    assert (api.gets, api.pages_read) == (0, 0)
    await many.ledger.jobs.finish(turn)
    await watch_all(many)
    assert (api.gets, api.pages_read) == (0, 2)


async def test_what_falls_due_waits_until_the_list_is_worth_reading_again(
    with_options: Callable[..., Context], many: Context, api: ScriptedApi
) -> None:
    """A few looks that fall due between two readings are part of the next."""
    ctx = with_options(watch_interval=MINUTE)
    await running(ctx, api)
    await watch_all(ctx)
    api.pages_read = 0
    await watch_all(ctx)
    assert (api.gets, api.pages_read) == (0, 0)


async def test_a_reader_that_dies_costs_a_wait(many: Context, api: ScriptedApi) -> None:
    """What it had claimed is due again by itself, well within ten minutes."""
    clones = await running(many, api)

    def die(**_: object) -> AsyncIterator[Page]:
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "pages", die)
        with pytest.raises(SystemExit):
            await watch_all(many)
    assert many.now() < await next_look(many, "e0") < many.now() + 2 * MINUTE
    for clone in clones:
        api.end(clone, Status.COMPLETED)
    await watch_all(many)
    assert await states(many) == {"recovered": MANY}


# --- the survey, and when the first look is -----------------------------------------------------------------


async def test_the_survey_takes_in_ends_that_it_meets(many: Context, api: ScriptedApi) -> None:
    """It reads the list anyway: no look is needed any more."""
    clones = await running(many, api, 2)
    api.end(clones[0], Status.COMPLETED)
    await survey(many)
    assert await states(many) == {"running": 1, "recovered": 1}
    assert api.gets == 0


async def known_to_take(ctx: Context, *seconds: int) -> None:
    now = ctx.now()
    await ctx.ledger.workflows.note_lengths(
        Length("workflow-1", f"known-{n}", now - n * SECOND, each * SECOND) for n, each in enumerate(seconds)
    )


async def test_the_first_look_comes_when_runs_of_the_workflow_are_over(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Known runs took a minute or more: until then a look would be in vain."""
    ctx = with_options(watch_interval=5 * SECOND)
    await known_to_take(ctx, 60, 70, 80)
    await running(ctx, api, 1)
    sent_at = (await lineage_of(ctx, "e0")).newest.submitted_at
    assert abs(await next_look(ctx, "e0") - sent_at - MINUTE) < SECOND / 10


async def test_without_a_survey_the_first_look_comes_within_a_minute(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Nobody else would meet a run that fails at its first step."""
    ctx = with_options(watch_interval=5 * SECOND, survey=False)
    await known_to_take(ctx, 600, 700, 800)
    await running(ctx, api, 1)
    assert await next_look(ctx, "e0") < ctx.now() + MINUTE


async def test_in_place_the_first_look_is_early(
    with_options: Callable[..., Context], api: ScriptedApi
) -> None:
    """Whether it runs again has to be seen before it can fail again."""
    ctx = with_options(watch_interval=5 * SECOND)
    await known_to_take(ctx, 60, 70, 80)
    api.answers.append(in_place)
    await running(ctx, api, 1)
    assert await next_look(ctx, "e0") < ctx.now() + 6 * SECOND


async def lengths(ctx: Context) -> list[float]:
    known = await ctx.ledger.workflows.look(["workflow-1"], timedelta(hours=1))
    return sorted(each.total_seconds() for each in known["workflow-1"].lengths)


async def test_how_long_runs_take_is_learned_from_clones_and_from_the_survey(
    ctx: Context, api: ScriptedApi
) -> None:
    """Each run once, however often it is met."""
    [clone] = await running(ctx, api, 1)
    await grown_old(ctx, "e0", 40 * SECOND)
    api.end(clone, Status.COMPLETED)
    await watch_all(ctx)
    assert [round(each) for each in await lengths(ctx)] == [40]
    api.executions.clear()
    at = ctx.now()
    api.add(execution("other", Status.COMPLETED, created_at=at - 30 * SECOND, updated_at=at))
    for _ in range(2):
        await survey(ctx)
    assert [round(each) for each in await lengths(ctx)] == [30, 40]


async def test_only_the_newest_lengths_are_kept(ctx: Context) -> None:
    """So that a workflow that has changed is known again after twenty runs."""
    await known_to_take(ctx, *range(1, 31))  # the first is the newest
    assert await lengths(ctx) == list(range(1, 21))
