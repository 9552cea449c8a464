"""The state machine that hypothesis drives: it draws a deployment, then one move after the other."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model import laws
from tests.model.calls import Server
from tests.model.cluster import Cluster
from tests.model.kinetic_world import Habits
from tests.model.moves import WEIGHTS, Moves
from tests.model.process import GUARDED, POLICY, Deployment

NUMBER = st.integers(0, 11)
MIXTURES = [["own"], ["own", "own", "same"], ["own", "same", "null"]]
"""Payloads of an example. Beside one that is empty none is distinctive, for what is not shown may be any."""
HABITS = st.builds(
    Habits,
    skew=st.sampled_from([0, 0, -90, -7, 3, 90]).map(lambda seconds: timedelta(seconds=seconds)),
    in_place=st.sampled_from([False, False, False, False, True]),
    page_size=st.sampled_from([3, 2, 8]),
    answer_takes_s=st.sampled_from([0, 0, 0, 0.3, 3]),
)
DEPLOYMENT = st.builds(
    Deployment,
    workers=st.sampled_from([2, 2, 3]),
    lists=st.sampled_from([True, True, True, True, True, True, False]),
    unclear=st.sampled_from(["hold", "hold", "hold", "adopt"]),
    policy=st.sampled_from([POLICY, POLICY, GUARDED]),
    habits=HABITS,
)


class Machine(RuleBasedStateMachine):
    """Random interleavings of several workers.

    What no worker may do is looked for at every step, the rest at the end.
    """

    def __init__(self, server: Server, tally: Counter[str]) -> None:
        super().__init__()
        self._server = server
        self._tally = tally
        self._cluster: Cluster | None = None
        self._moves: Moves | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster
        return self._cluster

    @initialize(
        deployment=DEPLOYMENT,
        payloads=st.sampled_from(MIXTURES),
        failures=st.integers(1, 4),
    )
    def deploy(self, deployment: Deployment, payloads: list[str], failures: int) -> None:
        """Begin with a few failures that are known and due, so that retry calls are near."""
        self._cluster = Cluster(self._server, deployment, self._tally)
        self._tally["examples"] += 1
        self._moves = Moves(self._cluster, payloads)
        for number in range(failures):
            self._moves.add("failed", number)
        if deployment.lists:
            self.cluster.run_to_end(self.cluster.workers[0], "discover")
        else:
            self.cluster.run_to_end(self.cluster.workers[0], "watch")
        self.cluster.advance(6)

    @rule(
        what=st.sampled_from([name for name, weight in WEIGHTS.items() for _ in range(weight)]),
        which=NUMBER,
        how=NUMBER,
    )
    def move(self, what: str, which: int, how: int) -> None:
        """Make one move."""
        getattr(self._moves, what)(which, how)

    def teardown(self) -> None:
        if self._cluster is None:
            return
        self._tally["steps"] += self.cluster.steps
        try:
            if not self.cluster.complaints:
                laws.heal(self.cluster)
                laws.check(self.cluster)
                self._count_verdicts()
                laws.nothing_comes_back(self.cluster)
        finally:
            note("\n".join(["The steps:", *self.cluster.story]))
            note("\n".join(["The ledger's events:", *self.cluster.ledger.chronicle()]))
            self.cluster.close()

    def _count_verdicts(self) -> None:
        for lineage in self.cluster.ledger.lineages().values():
            self._tally[f"lineage {lineage.state.value}: {lineage.reason}"] += 1
            for attempt in lineage.attempts:
                how = "201" if attempt.evidence == "201" else attempt.evidence.partition(":")[0]
                self._tally[f"attempt known by {how}"] += 1
