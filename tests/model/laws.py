"""The laws, checked on the API's record and the ledger once everything has come to rest."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.model.cluster import Cluster
from tests.model.kinetic_world import FINAL, Run
from tests.model.process import OPTIONS, Worker
from worker.domain.lineage import Lineage, State
from worker.ledger.groups import Group

MOST_ROUNDS = 60
UNFINISHED = (State.SCHEDULED, State.SUBMITTING, State.UNRESOLVED, State.RUNNING)


def heal(cluster: Cluster) -> None:
    """End every trouble and let the workers work until nothing is left to do."""
    world = cluster.world
    world.habits.trouble, world.habits.clone_status = "", "queued"
    cluster.people.resume()
    for worker in cluster.workers:
        cluster.finish(worker)
    cluster.network.clear()
    at_rest_since = None
    for round_number in range(MOST_ROUNDS):
        end_all_runs(cluster)
        worker = cluster.workers[round_number % len(cluster.workers)]
        for job in ("discover", "submit", "watch"):
            cluster.run_to_end(worker, job)
        resolve_for_the_grace(cluster, worker)
        if not at_rest(cluster):
            at_rest_since = None
        elif at_rest_since is None:
            at_rest_since = cluster.clock.now()
        elif looked_at(cluster) > at_rest_since:
            return
        cluster.advance_quietly(31)
    left = {
        root: each.state.value for root, each in cluster.ledger.lineages().items() if each.state in UNFINISHED
    }
    raise AssertionError(f"still at work after {MOST_ROUNDS} rounds: {left}")


def resolve_for_the_grace(cluster: Cluster, worker: Worker) -> None:
    """Let a worker resolve as often as it would, until the grace has passed or nothing is in doubt."""
    for _ in range(8):
        if not cluster.ledger.in_doubt():
            return
        cluster.run_to_end(worker, "resolve")
        cluster.advance_quietly(OPTIONS.resolve_interval.total_seconds())


def at_rest(cluster: Cluster) -> bool:
    return all(run.ended for run in cluster.world.runs.values()) and not any(
        each.state in UNFINISHED for each in cluster.ledger.lineages().values()
    )


def looked_at(cluster: Cluster) -> datetime:
    """Return since when the workers know of everything: when the whole list was read last.

    Where there is no list: now, once nothing is watched by name any more.
    """
    if cluster.deployment.lists:
        return cluster.ledger.swept_at()
    return cluster.started_at if cluster.ledger.tracked() else cluster.clock.now()


def end_all_runs(cluster: Cluster) -> None:
    """End what runs: every second execution fails."""
    for number, run in enumerate(cluster.world.runs.values()):
        if not run.ended:
            cluster.world.end(run, FINAL[number % 2])


def check(cluster: Cluster) -> None:
    """Hold the record of the API and the ledger against the laws."""
    lineages = cluster.ledger.lineages()
    wrong = [
        *cluster.complaints,
        *(each for lineage in lineages.values() for each in _wrong_with(cluster, lineage)),
        *_lost(cluster, lineages),
        *_in_the_wrong_group(cluster, lineages),
        *_clones_that_nobody_counts(cluster, lineages),
    ]
    assert not wrong, "\n".join(wrong)


def _wrong_with(cluster: Cluster, lineage: Lineage) -> list[str]:
    """Laws 2 and 5 for one lineage: a verdict with a reason, and attempts that are what the API did."""
    runs, wrong = cluster.world.runs, []
    if not lineage.state.is_final and lineage.state is not State.HELD:
        wrong.append(f"{lineage.root} is stuck in {lineage.state.value}")
    if not lineage.reason:
        wrong.append(f"{lineage.root} is {lineage.state.value} for no reason")
    if len(lineage.attempts) > cluster.deployment.policy.max_attempts + cluster.people.ordered[lineage.root]:
        wrong.append(f"{lineage.root} has {len(lineage.attempts)} attempts")
    for attempt in lineage.attempts:
        ours = attempt.in_place or runs[attempt.clone].parent == attempt.of
        if not ours and not attempt.evidence.startswith("adopted"):
            wrong.append(f"{attempt.clone} is no clone of {attempt.of}, but: {attempt.evidence}")
    newest = lineage.attempts[-1].clone if lineage.attempts else lineage.root
    if lineage.state is State.RECOVERED and runs[newest].status != "completed":
        wrong.append(f"{lineage.root} is called recovered, but {newest} is {runs[newest].status}")
    return wrong


def _in_the_wrong_group(cluster: Cluster, lineages: dict[str, Lineage]) -> list[str]:
    """What is counted and listed by groups is what the records say."""
    should = {root: Group.of(each).field for root, each in lineages.items()}
    found = {root: field for field, roots in cluster.ledger.groups().items() for root in roots}
    return [
        f"{root} is in the group {found.get(root)!r} instead of {should.get(root)!r}"
        for root in sorted(should.keys() | found.keys())
        if found.get(root) != should.get(root)
    ]


def _lost(cluster: Cluster, lineages: dict[str, Lineage]) -> list[str]:
    """Law 2: every failure after the first start belongs to a lineage; law 8: no earlier one does."""
    owned = {member: root for root, each in lineages.items() for member in each.members}
    lists = cluster.deployment.lists
    seen = (run for run in cluster.world.runs.values() if lists or not run.parent)  # else: those tracked
    wrong = [
        f"nobody knows of the failure of {run.uuid}"
        for run in seen
        if run.status == "failed" and run is not cluster.old_failure and run.uuid not in owned
    ]
    if cluster.old_failure.uuid in owned:
        wrong.append("a failure from before the first start was taken on")
    return wrong


def _clones_that_nobody_counts(cluster: Cluster, lineages: dict[str, Lineage]) -> list[str]:
    """Laws 1 and 5: whatever the API made for a lineage is an attempt of it, or a person is asked."""
    if cluster.deployment.unclear != "hold":
        return []  # what was adopted or sent again on a guess may be anybody's
    wrong = []
    owners = {member: each for each in lineages.values() for member in each.members}
    for run in (each for each in cluster.world.runs.values() if each.parent):
        owner = owners.get(run.parent)
        counted = owner and any((each.of, each.clone) == (run.parent, run.uuid) for each in owner.attempts)
        if not counted and not (owner and _given_to_a_person(owner, run, owners.get(run.uuid))):
            wrong.append(f"{run.uuid} was made of {run.parent} and nobody counts it: {owner}")
        allowed = cluster.deployment.policy.max_attempts + cluster.people.ordered.total()
        if cluster.world.origin(run)[1] > allowed:
            wrong.append(f"{run.uuid} is one clone too many in its chain")
    for lineage in lineages.values():
        reruns, known = cluster.world.runs[lineage.root].reruns, len(lineage.attempts)
        if cluster.deployment.habits.in_place and reruns != known and lineage.state is not State.HELD:
            wrong.append(f"{lineage.root} was run again {reruns} times, and {known} are counted")
    return wrong


def _given_to_a_person(owner: Lineage, clone: Run, clones_own: Lineage | None) -> bool:
    """Whether a person decides: about the lineage, or about its clone, which failed and was held as well."""
    if owner.failing != clone.parent:
        return False
    return owner.state is State.HELD or bool(
        owner.reason == "clone_has_own_lineage" and clones_own and clones_own.state is State.HELD
    )


def nothing_comes_back(cluster: Cluster) -> None:
    """Long after, when all verdicts are forgotten, nothing that is over begins anew."""
    held = {root for root, each in cluster.ledger.lineages().items() if each.state is State.HELD}
    calls = cluster.world.clones.total()
    cluster.advance_quietly(timedelta(days=31).total_seconds())
    for job in ("prune", "discover", "submit"):
        cluster.run_to_end(cluster.workers[0], job)
    assert set(cluster.ledger.lineages()) == held
    assert cluster.world.clones.total() == calls
