"""What a look at a running clone means for its lineage, whoever looked and by whatever call.

`watch` asks for clones by name or reads the list for many at once; `survey` meets some on its way. All act
here, on the version of the record that they read: whoever comes second changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from worker.domain import transitions
from worker.domain.executions import Execution, Status
from worker.domain.failures import Signature
from worker.domain.health import Ended, Run
from worker.domain.lineage import Lineage
from worker.domain.logs import Then
from worker.domain.policy import Policy, decide, strikes_after
from worker.domain.transitions import Change
from worker.domain.watching import next_look_in
from worker.engine.context import Context
from worker.engine.desk import Workflow
from worker.engine.gatekeeper import GateClosed
from worker.engine.log_rules import read_rules
from worker.kinetic import NotFound
from worker.ledger import Outcome

T = TypeVar("T")


async def take_in(ctx: Context, lineage: Lineage, found: Execution | NotFound | None) -> datetime | None:
    """Act on what a look showed; return when to look again, None when the clone's end is on record.

    Args:
        ctx: the world.
        lineage: running, and read before the look if its run is in place.
        found: its newest run; None when the API gave no usable answer.
    """
    now = ctx.now()
    if isinstance(found, Execution) and found.status is Status.FAILED:
        await ctx.desk.look([Workflow.of(lineage)])
    next_at = next_look_at(ctx, lineage)
    try:
        change = await _change(ctx, lineage, found, now)
    except GateClosed:  # its log has to be read before it is decided what comes next
        return next_at
    if change is None:
        return next_at
    outcome = await ctx.commit(change, next_at=None if change.events else next_at)
    if not change.events or outcome is not Outcome.COMMITTED:
        return next_at
    if isinstance(found, Execution) and found.status.is_final:
        _note_length(ctx, lineage, found, now)
    return None


async def take_in_ended(ctx: Context, runs: Iterable[Execution]) -> int:
    """Let lineages go on whose running clone is among executions that a list showed, and has ended.

    The list was read first, and then the records. So a run that is in place is left out: the list may show
    how it was before it was retried.
    """
    ended = {each.uuid: each for each in runs if tells_enough(each) and each.status.is_final}
    watched = await ctx.ledger.watched(list(ended))
    looks = [take_in(ctx, lineage, ended[uuid]) for uuid, lineage in watched.items()]
    return (await all_of(looks)).count(None)


def tells_enough(run: Execution) -> bool:
    """Whether a run that a list showed is judged by that; a failure without its step or time is asked for."""
    return run.status is not Status.FAILED or None not in (run.n_steps, run.updated_at)


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for all of it, and only then raise what the first of it raised that failed."""
    results = await asyncio.gather(*work, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


def next_look_at(ctx: Context, lineage: Lineage) -> datetime:
    """Return when a clone is looked at again that was running a moment ago."""
    now = ctx.now()
    return now + next_look_in(now - lineage.newest.accepted_at, ctx.options.watch_interval)


async def _change(
    ctx: Context, lineage: Lineage, found: Execution | NotFound | None, now: datetime
) -> Change | None:
    """Return what the look means for the lineage; None when there is nothing to record."""
    if isinstance(found, NotFound):
        return await _missing(ctx, lineage, now)
    if found and found.status is Status.COMPLETED:
        return transitions.recover(lineage, now=now, ended_at=_ended_at(ctx, found, lineage, now))
    if found and found.status is Status.FAILED and not _is_the_old_failure(lineage, found):
        return await _failed_again(ctx, lineage, found, now)
    if found and now - lineage.newest.accepted_at > ctx.options.watch_timeout:
        detail = f"the clone had not ended after {ctx.options.watch_timeout}; look at it before a retry"
        return transitions.stop_watching(lineage, reason="watch_timeout", detail=detail, now=now)
    newly_alive = found and not found.status.is_final and lineage.newest.in_place and not lineage.newest.alive
    if newly_alive or (found and lineage.missing_since):
        return transitions.observe(lineage, alive=bool(newly_alive))
    return None


async def _missing(ctx: Context, lineage: Lineage, now: datetime) -> Change | None:
    """A clone the API does not know may only be late to appear: it is given the grace."""
    if lineage.missing_since is None:
        return transitions.observe(lineage, missing_since=now)
    if now - lineage.missing_since < ctx.options.resolve_grace:
        return None
    if lineage.newest.joined:
        return await _joined_is_gone(ctx, lineage, now)
    detail = f"the API accepted the retry but does not know its clone {lineage.newest.clone}"
    return transitions.reject(lineage, reason="clone_not_found", detail=detail, now=now, http_status=404)


async def _joined_is_gone(ctx: Context, lineage: Lineage, now: datetime) -> Change:
    """Someone deleted the run that they had made: what it was a retry of is still failed, and ours."""
    policy, name = ctx.policy_for(lineage)
    workflow = Workflow.of(lineage)
    await ctx.desk.look([workflow])
    climate = ctx.desk.climate(workflow, lineage.last_failed_at, lineage.struck_since)
    before = lineage.attempts[:-1]
    history = replace(lineage.history, last_delay=before[-1].delay if before else None)
    decision = decide(history, policy, now, ctx.random, climate)
    return transitions.run_is_gone(lineage, decision, now=now, policy=policy, policy_name=name)


def _is_the_old_failure(lineage: Lineage, found: Execution) -> bool:
    """In place, the execution still shows the failure it was retried for until it runs again."""
    if not lineage.newest.in_place or lineage.newest.alive:
        return False
    old, shown = lineage.failure_stamp, found.updated_at
    return shown is None or (old is not None and abs(shown - old) < timedelta(milliseconds=1))


async def _failed_again(ctx: Context, lineage: Lineage, found: Execution, now: datetime) -> Change:
    policy, name = ctx.policy_for(lineage)
    failed_at = _ended_at(ctx, found, lineage, now)
    workflow = Workflow.of(lineage)
    ended = Ended.FAILED if lineage.newest.joined else Ended.CLONE_FAILED
    ctx.desk.expect(workflow, Run(failed_at, ended))
    since = transitions.struck_since(lineage, found)
    climate = ctx.desk.climate(workflow, failed_at, since)
    strikes = strikes_after(lineage.strikes, climate, same=since is not None)
    if strikes >= policy.strikes > 0 and await _known_to_pass(ctx, found, policy):
        strikes = 1
    history = replace(
        lineage.history,
        last_failed_at=failed_at,
        last_delay=lineage.newest.delay,
        strikes=strikes,
        signature=Signature.of(found),
        struck_since=since,
    )
    decision = decide(history, policy, now, ctx.random, climate)
    return transitions.fail_again(
        lineage,
        found,
        decision,
        failed_at=failed_at,
        now=now,
        policy=policy,
        policy_name=name,
        strikes=strikes,
    )


async def _known_to_pass(ctx: Context, found: Execution, policy: Policy) -> bool:
    """Whether a rule says of the run's log that such a failure passes, however often it comes again."""
    rule = await read_rules(ctx, found.uuid, policy.log_rules, failed_at=found.updated_at)
    return rule is not None and rule.then is Then.RETRY


def _ended_at(ctx: Context, found: Execution, lineage: Lineage, now: datetime) -> datetime:
    """Return when the clone ended by our clock: not before it was asked for, not after now."""
    stamp = found.updated_at
    ended_at = stamp - ctx.calls.skew if stamp else now
    return min(max(ended_at, lineage.newest.submitted_at), now)


def _note_length(ctx: Context, lineage: Lineage, found: Execution, now: datetime) -> None:
    """Learn how long the run took, where the API says when it ended."""
    if found.updated_at:
        ended_at = _ended_at(ctx, found, lineage, now)
        ctx.desk.took(Workflow.of(lineage), found.uuid, ended_at, ended_at - lineage.newest.submitted_at)
