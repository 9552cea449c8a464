"""Recorded lineages under another policy: how it would have done, as far as the record tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from worker.domain.budget import Limits, WorkflowLimits
from worker.domain.lineage import Lineage
from worker.domain.policy import Policy, PolicyBook
from worker.replay.history import LeftOut, Record, RecordedWorld, read
from worker.replay.ours import Worker
from worker.replay.play import play
from worker.replay.score import Score, score
from worker.replay.world import Case

SEED = 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of some failures, as recorded and as another policy would have done.

    Attributes:
        name: of the workflow; "" for all.
        failing, completing: with every clone whose outcome cannot be known failing, and completing.
        unknown: how many such clones there were, in the one and in the other.
    """

    name: str
    recorded: Score
    failing: Score
    completing: Score
    unknown: tuple[int, int]

    @property
    def difference(self) -> tuple[int, int]:
        """By how much it recovers and wastes otherwise than recorded, at the most: the first counts most."""
        either = (self.failing, self.completing)
        return (
            max(abs(each.recovered - self.recorded.recovered) for each in either),
            max(abs(each.wasted - self.recorded.wasted) for each in either),
        )


@dataclass(frozen=True, slots=True)
class Backtest:
    """What came of it.

    Attributes:
        all: the figures of every failure that was replayed.
        workflows: those of each workflow, the greatest difference first.
        left_out: how many lineages were not replayed, by reason.
    """

    all: Comparison
    workflows: tuple[Comparison, ...]
    left_out: Mapping[LeftOut, int]


def backtest(lineages: Iterable[Lineage], policies: PolicyBook, limits: Limits) -> Backtest:
    """Replay recorded failures under other policies.

    Runs that completed by themselves are not on record: the budget and the pace, shares of them, are off.
    """
    records, left_out = read(lineages)
    book = without_shares(policies)
    alone = replace(limits, share=0, pace=0)
    failing, completing = (
        play(RecordedWorld(records, unknown_completes=ok), Worker(book, alone, SEED)) for ok in (False, True)
    )
    of = _by_workflow(records), _cases_by_workflow(failing), _cases_by_workflow(completing)
    single = [
        _compared(recorded[0].workflow_name or key, recorded, of[1][key], of[2][key])
        for key, recorded in of[0].items()
    ]
    single.sort(key=lambda each: (*(-size for size in each.difference), each.name))
    return Backtest(_compared("", records, failing, completing), tuple(single), left_out)


def without_shares(policies: PolicyBook) -> PolicyBook:
    """Return the policies without limits that are shares of runs which nobody recorded."""
    entries = tuple(replace(each, policy=_alone(each.policy)) for each in policies.entries)
    return PolicyBook(_alone(policies.default), entries)


def _alone(policy: Policy) -> Policy:
    return replace(policy, limits=WorkflowLimits(share=0, in_flight=policy.limits.in_flight))


def _compared(
    name: str, records: Sequence[Record], failing: Sequence[Case], completing: Sequence[Case]
) -> Comparison:
    recorded = score([each.case for each in records])
    return Comparison(
        name, recorded, score(failing), score(completing), (_unknown(failing), _unknown(completing))
    )


def _unknown(cases: Iterable[Case]) -> int:
    return sum(not clone.outcome.known for each in cases for clone in each.attempts)


def _by_workflow(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for each in records:
        found[each.workflow].append(each)
    return found


def _cases_by_workflow(cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: defaultdict[str, list[Case]] = defaultdict(list)
    for each in cases:
        found[each.original.workflow].append(each)
    return found
