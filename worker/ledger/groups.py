"""Groups of lineages: how many are alike, and which, without reading a record.

A group is a state, a workflow, a reason and a number of attempts made. Every commit moves its lineage from
one group to another in the same step (`lua/commit.lua`), so that lists, plans and metrics cost what they show
and not what the ledger holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from worker.domain.lineage import FINAL_STATES, Lineage, State

_SEPARATOR = "\n"


class Group(NamedTuple):
    """What lineages of a group have in common.

    Attributes:
        workflow: what it is counted under (`Lineage.workflow`).
        attempts: clones that we made.
    """

    state: State
    workflow: str
    reason: str
    attempts: int

    @classmethod
    def of(cls, lineage: Lineage) -> Group:
        """Return the group of a lineage."""
        return cls(lineage.state, lineage.workflow, lineage.reason, lineage.made)

    @classmethod
    def parse(cls, field: str) -> Group:
        """Return a group from its field.

        Raises:
            ValueError: it is none that this version knows.
        """
        state, rest = field.split(_SEPARATOR, 1)
        workflow, reason, attempts = rest.rsplit(_SEPARATOR, 2)
        return cls(State(state), workflow, reason, int(attempts))

    @property
    def field(self) -> str:
        r"""How it is named in the hash of groups, and in the name of its index.

        >>> Group(State.HELD, "w1", "unclear", 2).field
        'held\nw1\nunclear\n2'
        """
        words = (self.state.value, self.workflow, self.reason.replace(_SEPARATOR, " "), str(self.attempts))
        return _SEPARATOR.join(words)


def final_state(field: str) -> State | None:
    r"""Return the final state of a group, by its field; None where its lineages have not ended.

    >>> final_state("exhausted\nw1\ndeterministic\n2"), final_state("running\nw1\n\n1")
    (<State.EXHAUSTED: 'exhausted'>, None)
    """
    state, separator, _ = field.partition(_SEPARATOR)
    return _FINAL.get(state) if separator else None


_FINAL = {state.value: state for state in FINAL_STATES}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A kind of verdict, as it is counted: never taken back, so that counts only grow."""

    state: State
    workflow: str
    reason: str

    @classmethod
    def parse(cls, field: str) -> Verdict:
        """Return a verdict from its field; raises ValueError for one that this version does not know."""
        state, rest = field.split(_SEPARATOR, 1)
        workflow, reason = rest.rsplit(_SEPARATOR, 1)
        return cls(State(state), workflow, reason)


def verdict_field(before: Lineage | None, after: Lineage) -> str:
    """Return what a change adds to the verdicts that were given; "" for none."""
    if not after.state.is_final or (before and before.state is after.state):
        return ""
    return _SEPARATOR.join((after.state.value, after.workflow, after.reason.replace(_SEPARATOR, " ")))
