"""How many calls each recovered execution costs, with ten thousand clones running at once.

The real engine and ledger in a time of their own (`timelapse`): beat's ticks come when they are due, a call
takes 50 ms, twenty looks are under way at once. Five workflows whose runs take 20 s to 3 min, others' runs on
the same list, everything counted that is called from the first retry to the last recovery: also the polls for
failures and the surveys, which go on whatever fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median, quantiles

import structlog

from benchmarks.speed.busy_platform import BusyPlatform
from benchmarks.speed.figures import Figure
from benchmarks.speed.timelapse import Timelapse, scripts_in_timelapse, timelapse_of
from tests.support.examples import NO_LIMITS, alone
from tests.support.redis_server import redis_server
from worker.domain import transitions
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import History, Jitter, Policy, PolicyBook, decide
from worker.engine import discover, submit, survey, watch
from worker.engine.context import Context, Options
from worker.ledger import Connection, Ledger

_SILENT = structlog.make_filtering_bound_logger(logging.CRITICAL)
SECOND = timedelta(seconds=1)
MEDIANS_S = {"claims": 30, "eligibility": 50, "benefits": 75, "prior-auth": 105, "appeals": 130}
"""How long runs take, by workflow; one of them by a lognormal of a fifth: within 20 s and 3 min."""
SPREAD = 0.18
CLONES, OF_OTHERS_PER_S = 10_000, 25.0
BEFORE, LONGEST = timedelta(minutes=5), timedelta(minutes=15)
POLICY = alone(Policy(max_attempts=3, base_delay=timedelta(0), jitter=Jitter.NONE))
EVERY: dict[Callable[[Context], Awaitable[object]], timedelta] = {
    watch: timedelta(seconds=5),
    discover: timedelta(seconds=30),
    survey: timedelta(seconds=30),
    submit: SECOND,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What one scenario came to.

    Attributes:
        calls: by kind.
        running: clones at once, the most.
        late: from each end to when it was on record; as a share of the run as well.
    """

    calls: Counter[str]
    clones: int
    running: int
    late: tuple[timedelta, ...]
    shares: tuple[float, ...]

    @property
    def others(self) -> float:
        """Calls for each recovered execution besides its retry call."""
        return (self.calls.total() - self.calls["POST"]) / self.clones

    @property
    def in_words(self) -> str:
        """Return what it was made of."""
        late_s = [each.total_seconds() for each in self.late]
        return (
            f"{self.clones:,} clones, {self.running:,} at once: {self.calls['POST']:,} POST, "
            f"{self.calls['GET']:,} GET, {self.calls['page']:,} pages; an end is on record after "
            f"{median(late_s):.1f} s (p95 {quantiles(late_s, n=20)[-1]:.1f} s), "
            f"{median(self.shares):.0%} of the run (p95 {quantiles(self.shares, n=20)[-1]:.0%})"
        )


def measure(runs: int) -> Iterator[Figure]:
    """Measure it with the list, and tell it without one and on a platform that does mostly other things."""
    told = [_told(CLONES, OF_OTHERS_PER_S, lists=True, seed=seed) for seed in range(runs)]
    posts = tuple(each.calls["POST"] / each.clones for each in told)
    yield Figure("retry calls per recovered execution", posts, at_least=1, at_most=1, digits=3)
    others = tuple(each.others for each in told)
    yield Figure(
        "other calls per recovered execution", others, at_most=0.1, detail=told[-1].in_words, digits=3
    )
    without = _told(CLONES // 10, OF_OTHERS_PER_S / 10, lists=False, seed=0)
    yield Figure("the same without a list", (without.others,), detail=without.in_words)
    thin = _told(CLONES // 20, OF_OTHERS_PER_S * 10, lists=True, seed=0)
    yield Figure("the same where 1% of the runs are ours", (thin.others,), detail=thin.in_words)


def _told(clones: int, of_others_per_s: float, *, lists: bool, seed: int) -> Told:
    with redis_server() as server, scripts_in_timelapse():
        return asyncio.run(
            _Scenario(f"redis://127.0.0.1:{server.port}/0", clones, of_others_per_s, lists, seed).run()
        )


class _Scenario:
    """One platform with one worker process."""

    def __init__(self, url: str, clones: int, of_others_per_s: float, lists: bool, seed: int) -> None:
        self._url, self._clones, self._of_others_per_s, self._lists = url, clones, of_others_per_s, lists
        self._dice = random.Random(seed)

    async def run(self) -> Told:
        """Let all be retried and recover."""
        ledger = Ledger(Connection(self._url), "bench", events_maxlen=10_000)
        time = await timelapse_of(ledger)
        options = Options(lists=self._lists, limits=NO_LIMITS, batch_budget=5 * SECOND, submit_batch=500)
        platform = BusyPlatform(time, self._took, options.submit_concurrency)
        book, silent = (
            PolicyBook(POLICY),
            structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=_SILENT),
        )
        ctx = Context(ledger, platform, book, options, random=self._dice.random, log=silent)
        await ledger.begin(timedelta(0))
        self._add_others(platform, time.now)
        await time.go_on(BEFORE)
        await survey(ctx)
        await discover(ctx)
        await self._add_ours(ctx, platform, time.now)
        platform.calls.clear()
        running = await self._until_all_recovered(ctx, time)
        lateness = await self._lateness(ctx, platform)
        await ledger.aclose()
        late, shares = zip(*lateness, strict=True)
        return Told(Counter(platform.calls), self._clones, running, late, shares)

    async def _until_all_recovered(self, ctx: Context, time: Timelapse) -> int:
        """Do what beat has done when it is due; return how many clones were running at once."""
        due = {job: time.now + every * self._dice.random() for job, every in EVERY.items()}
        most = 0
        while await self._recovered(ctx) < self._clones:
            job = min(due, key=lambda each: due[each])
            if due[job] > time.now:
                await time.go_on(due[job] - time.now)
            await job(ctx)
            running = await ctx.ledger.connection.command("ZCARD", ctx.ledger.keys.state(State.RUNNING))
            most = max(most, int(running))
            due[job] = max(due[job] + EVERY[job], time.now)
        return most

    async def _recovered(self, ctx: Context) -> int:
        count = await ctx.ledger.connection.command("HGET", ctx.ledger.keys.groups, State.RECOVERED.value)
        return int(count or 0)

    async def _lateness(self, ctx: Context, platform: BusyPlatform) -> list[tuple[timedelta, float]]:
        roots = await ctx.ledger.ended_before(State.RECOVERED, ctx.now() + SECOND, self._clones)
        found = []
        for lineage in (await ctx.ledger.read(roots)).values():
            assert isinstance(lineage, Lineage)
            made = platform.made[lineage.newest.clone]
            late = lineage.since - made.ends_at
            found.append((late, late / (made.ends_at - made.created_at)))
        return found

    def _took(self, workflow: str) -> timedelta:
        took_s = self._dice.lognormvariate(0, SPREAD) * MEDIANS_S[workflow]
        return timedelta(seconds=min(max(took_s, 20), 180))

    def _run(self, uuid: str, status: Status) -> Execution:
        workflow = self._dice.choice(list(MEDIANS_S))
        return Execution(uuid, f"version-of-{workflow}", status, f"print-of-{uuid}", workflow, workflow)

    def _add_others(self, platform: BusyPlatform, now: datetime) -> None:
        for n in range(round((BEFORE + LONGEST).total_seconds() * self._of_others_per_s)):
            run = self._run(f"other-{n}", Status.RUNNING)
            created_at = now + n * SECOND / self._of_others_per_s
            platform.add(run, created_at, self._took(run.workflow_uuid), Status.COMPLETED)

    async def _add_ours(self, ctx: Context, platform: BusyPlatform, now: datetime) -> None:
        """Put failures on record that are all due now: the platform was in trouble, and is back."""
        failed_at = now - BEFORE / 2
        changes = []
        for n in range(self._clones):
            run = self._run(f"failed-{n}", Status.FAILED)
            made = platform.add(run, failed_at - timedelta(hours=1), timedelta(hours=1), Status.FAILED)
            decision = decide(History(0, failed_at, failed_at), POLICY, now, ctx.random)
            changes.append(
                transitions.discover(
                    made.at(now),
                    failed_at=failed_at,
                    seen_at=now,
                    source="list",
                    dated=True,
                    decision=decision,
                    policy=POLICY,
                    policy_name="default",
                )
            )
        await asyncio.gather(*(ctx.commit(change) for change in changes))
