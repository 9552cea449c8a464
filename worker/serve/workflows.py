"""Which workflows get a label value of their own: a bounded number, whatever the platform has. Pure.

A label value costs a time series for each state and reason, for as long as the monitoring keeps its data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from worker.domain.lineage import State
from worker.domain.text import clean_text
from worker.ledger.groups import Group

OTHER = "other"
UNKNOWN = "unknown"
LONGEST_NAME = 120
_LOST = frozenset({State.EXHAUSTED, State.REJECTED})


class Label(NamedTuple):
    """How a workflow is named in metrics: what it is counted under, and its name."""

    workflow: str
    workflow_name: str


OTHERS = Label(OTHER, OTHER)


def choose(groups: Mapping[Group, int], names: Mapping[str, str], most: int) -> dict[str, Label]:
    """Return the labels of up to `most` workflows: first those with most to do, then those with most losses.

    >>> groups = {Group(State.HELD, "a", "", 0): 1, Group(State.RUNNING, "b", "", 1): 2}
    >>> choose(groups, {"b": "Nightly"}, 1)
    {'b': Label(workflow='b', workflow_name='Nightly')}
    """
    ranks: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for group, count in groups.items():
        place = 0 if not group.state.is_final else 1 if group.state in _LOST else 2
        ranks[group.workflow][place] -= count
    first = sorted(ranks, key=lambda key: (ranks[key], key))[:most]
    return {key: label(key, names.get(key, "")) for key in first}


def label(key: str, name: str) -> Label:
    """Return a workflow's label."""
    shown = clean_text(key, LONGEST_NAME) or UNKNOWN
    return Label(shown, clean_text(name, LONGEST_NAME) or shown)


def common(counted: Mapping[str, int], most: int) -> frozenset[str]:
    """Return up to `most` words, those that were counted most."""
    return frozenset(word for word, _ in Counter(counted).most_common(most))
