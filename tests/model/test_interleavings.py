"""Named interleavings: the races of the design and the crashes that matter, each made on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Literal

import pytest

from tests.model import laws
from tests.model.calls import Point, Server
from tests.model.cluster import Cluster
from tests.model.kinetic_world import Habits
from tests.model.process import OPTIONS, Deployment, Worker
from worker.domain.lineage import Lineage, State

PAST_THE_LEASE_S = OPTIONS.submit_lease.total_seconds() + 1
Deploy = Callable[..., Cluster]


@pytest.fixture
def deploy(server: Server) -> Iterator[Deploy]:
    """Return what builds a cluster in which one failure, `e2`, is known and due."""
    clusters: list[Cluster] = []

    def build(
        habits: Habits | None = None,
        payload: object = "own",
        unclear: Literal["hold", "adopt"] = "hold",
    ) -> Cluster:
        cluster = Cluster(server, Deployment(habits=habits or Habits(), unclear=unclear))
        clusters.append(cluster)
        cluster.world.add("failed", "v1", payload)
        cluster.run_to_end(cluster.workers[0], "discover")
        cluster.advance(6)
        return cluster

    yield build
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def cluster(deploy: Deploy) -> Cluster:
    return deploy()


def until(cluster: Cluster, worker: Worker, call: str) -> Point:
    """Move a worker on until a call stands still before its arrival; return it."""
    for _ in range(100):
        for point in worker.points:
            if point.call.what.startswith(call) and not point.arrived:
                return point
        assert worker.points, f"{worker.job} ended without {call}"
        cluster.go_on(worker, worker.points[0])
    raise AssertionError(f"{worker.job} did not get as far as {call}")


def submit_until(cluster: Cluster, worker: Worker, call: str) -> Point:
    cluster.start(worker, "submit")
    return until(cluster, worker, call)


def the_lineage(cluster: Cluster) -> Lineage:
    """Return the one lineage there is."""
    (lineage,) = cluster.ledger.lineages().values()
    return lineage


def settle(cluster: Cluster) -> None:
    """Let the workers finish: one lineage, with a verdict, and one clone of each of its failures."""
    laws.heal(cluster)
    laws.check(cluster)
    assert the_lineage(cluster).state in (State.RECOVERED, State.EXHAUSTED)
    assert set(cluster.world.clones.values()) == {1}


@pytest.mark.parametrize("moments", range(24))
def test_a_clone_fails_and_is_listed_before_its_201_is_processed(deploy: Deploy, moments: int) -> None:
    """Wherever in discover the 201 comes to be processed, the clone does not become a root of its own."""
    cluster = deploy(Habits(clone_status="failed"))
    submitter, reader = cluster.workers
    until_sent = submit_until(cluster, submitter, "retry e2")
    cluster.go_on(submitter, until_sent)
    cluster.world.habits.clone_status = "queued"
    cluster.start(reader, "discover")
    for _ in range(moments):
        if reader.points:
            cluster.go_on(reader, reader.points[0])
    cluster.finish(submitter)
    cluster.finish(reader)
    assert list(cluster.ledger.lineages()) == ["e2"]
    assert cluster.world.clones == {"e2": 1}
    settle(cluster)


@pytest.mark.parametrize("moments", range(24))
def test_a_clone_fails_and_is_listed_while_its_call_is_resolved(deploy: Deploy, moments: int) -> None:
    """The same while another worker finds the clone of an unclear call in the list."""
    cluster = deploy(Habits(clone_status="failed"))
    submitter, reader = cluster.workers
    call = submit_until(cluster, submitter, "retry e2")
    cluster.go_on(submitter, call)
    cluster.lose(submitter, call)
    cluster.finish(submitter)
    cluster.world.habits.clone_status = "queued"
    cluster.start(reader, "discover")
    for _ in range(moments):
        if reader.points:
            cluster.go_on(reader, reader.points[0])
    cluster.run_to_end(submitter, "resolve")
    cluster.finish(reader)
    assert list(cluster.ledger.lineages()) == ["e2"]
    settle(cluster)


def test_a_worker_that_stalls_between_intent_and_send_does_not_send(cluster: Cluster) -> None:
    """It looks at the lease when it goes on, not when it asked for it."""
    stalled, other = cluster.workers
    intent = submit_until(cluster, stalled, "commit")
    cluster.go_on(stalled, intent)
    cluster.advance(OPTIONS.submit_lease.total_seconds() - 9)  # a call may take ten
    cluster.run_to_end(other, "resolve")
    cluster.finish(stalled)
    assert not cluster.world.clones
    assert the_lineage(cluster).reason == "lease_too_short"
    settle(cluster)


def test_a_worker_that_stalls_past_its_lease_meets_what_others_made_of_it(cluster: Cluster) -> None:
    """The lease is taken for lost, no clone is found, another worker sends: the first one does not."""
    stalled, other = cluster.workers
    cluster.go_on(stalled, submit_until(cluster, stalled, "commit"))
    cluster.advance(PAST_THE_LEASE_S)
    laws.resolve_for_the_grace(cluster, other)
    assert the_lineage(cluster).reason == "no_clone_found"
    cluster.run_to_end(other, "submit")
    cluster.finish(stalled)
    assert cluster.world.clones == {"e2": 1}
    settle(cluster)


def test_a_worker_that_stalls_with_the_call_in_its_hands_does_not_send(cluster: Cluster) -> None:
    """Between the look at the lease and the first byte the client looks at the time once more."""
    stalled, other = cluster.workers
    submit_until(cluster, stalled, "retry e2")
    cluster.advance(PAST_THE_LEASE_S)
    laws.resolve_for_the_grace(cluster, other)
    cluster.run_to_end(other, "submit")
    cluster.finish(stalled)
    assert cluster.world.clones == {"e2": 1}
    settle(cluster)


def test_a_201_that_comes_after_the_clone_was_found_in_the_list(cluster: Cluster) -> None:
    """Two workers commit the same lineage: one wins, one attempt is counted."""
    stalled, other = cluster.workers
    cluster.go_on(stalled, submit_until(cluster, stalled, "retry e2"))
    cluster.advance(PAST_THE_LEASE_S)
    cluster.run_to_end(other, "resolve")
    assert the_lineage(cluster).state is State.RUNNING
    cluster.finish(stalled)
    assert len(the_lineage(cluster).attempts) == 1
    settle(cluster)


@pytest.mark.parametrize("moments", range(16))
def test_a_201_that_comes_while_the_call_is_resolved(cluster: Cluster, moments: int) -> None:
    """Wherever resolve stands when the answer is recorded, the clone is counted once."""
    stalled, other = cluster.workers
    cluster.go_on(stalled, submit_until(cluster, stalled, "retry e2"))
    cluster.advance(PAST_THE_LEASE_S)
    cluster.start(other, "resolve")
    for _ in range(moments):
        if other.points:
            cluster.go_on(other, other.points[0])
    cluster.finish(stalled)
    cluster.finish(other)
    lineage = the_lineage(cluster)
    assert (lineage.state, len(lineage.attempts)) == (State.RUNNING, 1)
    settle(cluster)


def test_two_workers_see_the_same_failure(cluster: Cluster) -> None:
    """A discovery that stalled past its turn and the next one begin one lineage."""
    stalled, other = cluster.workers
    cluster.world.add("failed", "v1", "another")
    cluster.start(stalled, "discover")
    begun = until(cluster, stalled, "commit")
    cluster.advance(60)
    cluster.run_to_end(other, "discover")
    cluster.run_to_end(other, "submit")
    before = cluster.ledger.lineages()["e3"]
    cluster.go_on(stalled, begun)
    cluster.finish(stalled)
    assert cluster.ledger.lineages()["e3"] == before
    assert cluster.tally["commit_dropped stale"] == 1


def test_two_workers_claim_the_same_lineage(cluster: Cluster) -> None:
    """A claim runs out while its worker stalls; both record an intent, one call leaves."""
    stalled, other = cluster.workers
    submit_until(cluster, stalled, "commit")
    cluster.advance(PAST_THE_LEASE_S)
    cluster.run_to_end(other, "submit")
    cluster.finish(stalled)
    assert cluster.world.clones == {"e2": 1}
    assert cluster.tally["commit_dropped stale"] == 1
    settle(cluster)


@pytest.mark.parametrize("late", [False, True], ids=["nothing arrives", "the call arrives"])
def test_a_crash_between_intent_and_call(cluster: Cluster, late: bool) -> None:
    """Whether the call left nobody knows: it is looked for before another one is sent."""
    worker, _ = cluster.workers
    submit_until(cluster, worker, "retry e2")
    cluster.crash(worker, late=late)
    if late:
        cluster.arrive_late(cluster.network[0])
    settle(cluster)


def test_a_crash_between_call_and_record(cluster: Cluster) -> None:
    """The clone is found by its payload, and counted as the attempt that it is."""
    worker, _ = cluster.workers
    call = submit_until(cluster, worker, "retry e2")
    cluster.go_on(worker, call)
    cluster.crash(worker)
    cluster.advance(PAST_THE_LEASE_S)
    cluster.run_to_end(cluster.workers[1], "resolve")
    lineage = the_lineage(cluster)
    assert (lineage.state, lineage.newest.clone) == (State.RUNNING, "e3")
    settle(cluster)


def test_a_call_that_arrives_after_its_caller_gave_up(cluster: Cluster) -> None:
    """Not seeing a clone right after a timeout proves nothing: it is waited for."""
    worker, other = cluster.workers
    call = submit_until(cluster, worker, "retry e2")
    cluster.lose(worker, call, late=True)
    cluster.finish(worker)
    cluster.run_to_end(other, "resolve")
    cluster.run_to_end(other, "submit")
    cluster.advance(8)
    cluster.arrive_late(cluster.network[0])
    settle(cluster)


def test_an_intent_whose_answer_is_lost_is_asked_for_again(cluster: Cluster) -> None:
    """The script that ran already recognises its own write: the call leaves at once, and once."""
    worker, _ = cluster.workers
    intent = submit_until(cluster, worker, "commit")
    cluster.go_on(worker, intent)
    cluster.send_again(worker, intent)
    cluster.finish(worker)
    assert cluster.world.clones == {"e2": 1}
    assert the_lineage(cluster).state is State.RUNNING
    settle(cluster)


def test_an_intent_whose_answer_never_comes_lets_no_call_leave(cluster: Cluster) -> None:
    """Whether it is on record is unknown, so nothing is sent; the lease that may be there runs out."""
    worker, _ = cluster.workers
    intent = submit_until(cluster, worker, "commit")
    cluster.go_on(worker, intent)
    cluster.lose(worker, intent)
    cluster.finish(worker)
    assert not cluster.world.clones
    settle(cluster)


def test_an_intent_that_arrives_after_its_caller_gave_up(cluster: Cluster) -> None:
    """Others may have sent a call meanwhile: the late intent changes nothing."""
    worker, other = cluster.workers
    intent = submit_until(cluster, worker, "commit")
    cluster.lose(worker, intent, late=True)
    cluster.finish(worker)
    cluster.advance(PAST_THE_LEASE_S)
    cluster.run_to_end(other, "submit")
    before = the_lineage(cluster)
    cluster.arrive_late(cluster.network[0])
    assert the_lineage(cluster) == before
    settle(cluster)


def test_a_clone_that_is_a_root_already_is_not_taken(deploy: Deploy) -> None:
    """Whatever led to it, an execution never belongs to two lineages."""
    cluster = deploy(Habits(clone_status="failed"))
    worker, other = cluster.workers
    call = submit_until(cluster, worker, "retry e2")
    cluster.go_on(worker, call)
    cluster.ledger.hide("e2", State.SUBMITTING)  # as if nobody had been in doubt
    cluster.run_to_end(other, "discover")
    cluster.finish(worker)
    lineages = cluster.ledger.lineages()
    assert lineages["e2"].reason == "clone_has_own_lineage"
    assert not lineages["e2"].attempts


def test_a_root_that_was_taken_as_a_clone_meanwhile_is_not_begun(deploy: Deploy) -> None:
    """The same the other way round: the clone's owner is recorded while its lineage is about to begin."""
    cluster = deploy(Habits(clone_status="failed"))
    worker, other = cluster.workers
    call = submit_until(cluster, worker, "retry e2")
    cluster.go_on(worker, call)
    cluster.ledger.hide("e2", State.SUBMITTING)
    cluster.start(other, "discover")
    until(cluster, other, "commit")
    cluster.finish(worker)
    cluster.finish(other)
    assert list(cluster.ledger.lineages()) == ["e2"]
    assert cluster.tally["commit_dropped taken"] == 1


def test_a_late_201_settles_what_was_held(deploy: Deploy) -> None:
    """Others could not tell and a person was asked; the answer itself can."""
    cluster = deploy(payload=None)
    stalled, other = cluster.workers
    call = submit_until(cluster, stalled, "retry e2")
    cluster.go_on(stalled, call)
    cluster.advance(PAST_THE_LEASE_S)
    laws.resolve_for_the_grace(cluster, other)
    assert the_lineage(cluster).state is State.HELD
    cluster.finish(stalled)
    assert the_lineage(cluster).newest.evidence == "201"
    settle(cluster)


def test_the_clone_of_a_call_under_way_is_no_proof_for_another(deploy: Deploy) -> None:
    """Two lineages with one payload whose roots the listing does not reach any more."""
    cluster = deploy(Habits(page_size=1))
    cluster.run_to_end(cluster.workers[0], "submit")
    roots = [cluster.world.add("running", "v1", "same", age=timedelta(hours=2)) for _ in range(2)]
    for root in roots:
        cluster.world.end(root, "failed")
    cluster.advance(60)
    worker, other = cluster.workers
    cluster.run_to_end(other, "discover")
    cluster.advance(6)
    mine = submit_until(cluster, worker, "retry")
    cluster.go_on(worker, mine)
    theirs = submit_until(cluster, other, "retry")
    assert mine.call.what != theirs.call.what
    cluster.lose(other, theirs)
    cluster.finish(other)
    laws.resolve_for_the_grace(cluster, other)
    cluster.finish(worker)
    laws.heal(cluster)
    laws.check(cluster)


def test_equal_payloads_share_one_clone(deploy: Deploy) -> None:
    """Two calls in doubt, one clone: it is nobody's on proof, and none of the two is repeated."""
    cluster = deploy(payload="same")
    worker, other = cluster.workers
    cluster.world.add("failed", "v1", "same")
    cluster.run_to_end(other, "discover")
    cluster.advance(6)
    cluster.go_on(worker, submit_until(cluster, worker, "retry e2"))
    cluster.crash(worker)
    submit_until(cluster, other, "retry e3")
    cluster.crash(other)
    cluster.advance(PAST_THE_LEASE_S)
    cluster.run_to_end(cluster.workers[0], "resolve")
    laws.heal(cluster)
    laws.check(cluster)
    assert cluster.world.clones == {"e2": 1}
    assert {each.state for each in cluster.ledger.lineages().values()} == {State.HELD}


@pytest.mark.parametrize("skew_s", [0, -2, 2])
def test_a_worker_whose_clock_runs_ahead_finds_its_clone_all_the_same(deploy: Deploy, skew_s: int) -> None:
    """Redis stood still for four seconds: until its next quick answer the worker is ahead by as much."""
    cluster = deploy(Habits(skew=timedelta(seconds=skew_s)))
    worker, other = cluster.workers
    cluster.advance(11)  # what it heard before is too old to be believed
    cluster.start(worker, "submit")
    claim = until(cluster, worker, "claim")
    cluster.advance(4)
    cluster.go_on(worker, claim)
    cluster.go_on(worker, until(cluster, worker, "retry e2"))
    cluster.crash(worker)
    cluster.advance(PAST_THE_LEASE_S)
    laws.resolve_for_the_grace(cluster, other)
    assert the_lineage(cluster).newest.clone == "e3"
    settle(cluster)


@pytest.mark.parametrize("skew_s", [-90, -7, 7, 90])
def test_a_slow_list_tells_the_clock_of_the_api_all_the_same(deploy: Deploy, skew_s: int) -> None:
    """A new worker has heard nothing else of that clock; "no clone" must not be concluded without it."""
    cluster = deploy(Habits(skew=timedelta(seconds=skew_s), page_size=50))
    worker, other = cluster.workers
    cluster.go_on(worker, submit_until(cluster, worker, "retry e2"))
    cluster.crash(worker)
    cluster.advance(PAST_THE_LEASE_S)
    cluster.world.habits.answer_takes_s = 4
    laws.resolve_for_the_grace(cluster, other)
    assert the_lineage(cluster).state is State.RUNNING
    settle(cluster)


def test_a_list_that_takes_long_to_read_proves_something_in_the_end(deploy: Deploy) -> None:
    """Reading it takes longer than the pause after which the API counts as having stood still."""
    cluster = deploy(Habits(page_size=1))
    worker, other = cluster.workers
    submit_until(cluster, worker, "retry e2")
    cluster.crash(worker)
    for _ in range(6):
        cluster.world.add("completed", "v2", None)
    cluster.advance(PAST_THE_LEASE_S)
    cluster.world.habits.answer_takes_s = 2
    laws.resolve_for_the_grace(cluster, other)
    assert the_lineage(cluster).reason == "no_clone_found"
    settle(cluster)


@pytest.mark.parametrize("skew_s", [-90, -7, 90])
def test_a_failure_is_not_left_alone_because_the_list_is_slow(deploy: Deploy, skew_s: int) -> None:
    """While the clock of the API is unknown, a failure after the first start can look older than that."""
    cluster = deploy(Habits(skew=timedelta(seconds=skew_s), answer_takes_s=4))
    settle(cluster)


def test_adopting_does_not_wait_for_ever(deploy: Deploy) -> None:
    """A run that may be the clone and cannot be adopted keeps the call in doubt: then a person decides."""
    cluster = deploy(unclear="adopt")
    worker, _ = cluster.workers
    cluster.world.add("completed", "v1", "own")
    cluster.advance(10)
    submit_until(cluster, worker, "retry e2")
    cluster.crash(worker)
    laws.heal(cluster)
    laws.check(cluster)


def test_scripts_that_are_lost_before_every_call_cost_nothing(cluster: Cluster) -> None:
    """A failover can take many steps: a script that is not there goes along with its own source."""
    worker, _ = cluster.workers
    cluster.start(worker, "submit")
    for _ in range(200):
        if not worker.points:
            break
        cluster.server.forget_scripts()
        cluster.go_on(worker, worker.points[0])
    cluster.judge()
    assert cluster.tally["task ended by LedgerUnavailable"] == 0
    settle(cluster)
