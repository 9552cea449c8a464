"""Which execution in a listing is the clone: proof, hint, or nothing."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import NOW, discovered, execution, submitting
from worker.domain import transitions
from worker.domain.executions import Execution, Status
from worker.domain.resolving import Clarity, Doubt, match

CALLED = NOW
AFTER = NOW + timedelta(seconds=2)


def doubt(root: str = "root", fingerprint: str = "secret-1", at: timedelta = timedelta(0)) -> Doubt:
    sent = submitting(discovered(execution(root, fingerprint=fingerprint)).after, now=NOW + at).after
    lost = transitions.unresolve(sent, reason="read_timeout", detail="", now=NOW + at).after
    return Doubt(lost, CALLED + at, CALLED + at + timedelta(minutes=5))


def new(
    uuid: str, fingerprint: str = "secret-1", at: timedelta = timedelta(seconds=2), **changes: object
) -> Execution:
    facts = {"fingerprint": fingerprint, "created_at": NOW + at} | changes
    return execution(uuid, Status.QUEUED, **facts)


def test_the_only_one_with_a_distinctive_payload_is_the_clone() -> None:
    """Proof: same version, same payload, young enough, nobody's, and nobody else has that payload."""
    listing = [new("c"), new("other", "secret-2"), execution("root", fingerprint="secret-1")]
    finding = match([doubt()], listing, {"root": "root"})["root"]
    assert (finding.clarity, finding.candidate) == (Clarity.FOUND, listing[0])
    assert "c" in finding.evidence


def test_a_payload_is_distinctive_only_where_payloads_differ() -> None:
    """A workflow that is always started with the same payload shows no other: then time has to tell."""
    listing = [new("c"), execution("root", fingerprint="secret-1")]
    finding = match([doubt()], listing, {"root": "root"})["root"]
    assert (finding.clarity, finding.candidate) == (Clarity.LIKELY, listing[0])
    assert match([doubt(), doubt("b", "secret-2")], listing, {})["root"].clarity is Clarity.FOUND
    elsewhere = new("x", "secret-3", workflow_version_uuid="version-2")
    assert match([doubt()], [*listing, elsewhere], {})["root"].clarity is Clarity.LIKELY


def test_owned_old_or_different_executions_are_no_candidates() -> None:
    """A clone of another lineage, one from before the call, another version or payload."""
    listing = [
        new("owned"),
        new("old", at=timedelta(seconds=-60)),
        new("payload", "secret-2"),
        new("version", workflow_version_uuid="version-2"),
    ]
    assert match([doubt()], listing, {"owned": "elsewhere"})["root"].clarity is Clarity.NOTHING


def test_an_empty_payload_proves_nothing() -> None:
    """Any run of the workflow looks like that."""
    finding = match([doubt(fingerprint="")], [new("c", "")], {})["root"]
    assert finding.clarity is Clarity.UNCLEAR


def test_a_payload_that_the_list_leaves_out_proves_nothing() -> None:
    """The candidate may be anybody's."""
    finding = match([doubt()], [new("c", "")], {})["root"]
    assert finding.clarity is Clarity.UNCLEAR


def test_two_candidates_are_one_too_many() -> None:
    """At least one of them is a stranger."""
    finding = match([doubt()], [new("c"), new("d")], {})["root"]
    assert finding.clarity is Clarity.UNCLEAR


def test_a_payload_that_others_had_before_is_not_distinctive() -> None:
    """An older execution outside the lineage with the same payload: this workflow repeats itself."""
    finding = match([doubt()], [new("c"), new("old", at=timedelta(hours=-1))], {})["root"]
    assert finding.clarity is Clarity.UNCLEAR


def test_lineages_with_the_same_key_share_candidates_one_to_one() -> None:
    """Two lineages, one clone: only one of them may get it, and neither is said to have none."""
    findings = match([doubt("a"), doubt("b", at=timedelta(seconds=1))], [new("c")], {})
    assert {finding.clarity for finding in findings.values()} == {Clarity.UNCLEAR}
    assert [finding.candidate is None for finding in findings.values()].count(True) == 1
    findings = match([doubt("a"), doubt("b")], [new("c"), new("d")], {})
    assert {each.candidate.uuid for each in findings.values() if each.candidate} == {"c", "d"}


def test_a_candidate_without_a_date_is_only_a_last_resort() -> None:
    """It may be the clone: to say "nothing" would risk a second one."""
    finding = match([doubt(fingerprint="")], [new("c", "", created_at=None)], {})["root"]
    assert finding.clarity is Clarity.UNCLEAR


def test_an_execution_that_runs_again_was_retried_in_place() -> None:
    """The failed execution itself is alive: that was our call's doing or somebody's; nothing is sent."""
    again = execution("root", Status.RUNNING, fingerprint="secret-1")
    finding = match([doubt()], [again], {"root": "root"})["root"]
    assert (finding.clarity, finding.candidate) == (Clarity.FOUND, again)
    still = execution("root", fingerprint="secret-1")
    assert match([doubt()], [still], {"root": "root"})["root"].clarity is Clarity.NOTHING


def test_an_execution_that_was_touched_since_is_no_sign_of_nothing() -> None:
    """Retried in place it may have failed again already: the call had an effect."""
    touched = execution("root", fingerprint="secret-1", updated_at=NOW + timedelta(seconds=5))
    assert match([doubt()], [touched], {"root": "root"})["root"].clarity is Clarity.UNCLEAR


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=8),
    st.lists(st.none() | st.integers(0, 25), max_size=8),
)
def test_no_candidate_is_given_to_two_and_as_many_as_possible_get_one(
    calls: list[int], created: list[int | None]
) -> None:
    """One to one, and the most pairs there can be (checked against all ways for small numbers)."""
    doubts = [doubt(f"r{n}", at=timedelta(seconds=at)) for n, at in enumerate(calls)]
    listing = [
        new(f"c{n}", created_at=None if at is None else NOW + timedelta(seconds=at))
        for n, at in enumerate(created)
    ]
    findings = match(doubts, listing, {})
    given_out = [each.candidate.uuid for each in findings.values() if each.candidate]
    assert len(given_out) == len(set(given_out))
    assert len(given_out) == _most_pairs(sorted(calls), created)


def _most_pairs(calls: list[int], created: list[int | None]) -> int:
    """Count the most pairs by trying to seat each call (augmenting paths)."""
    seat: dict[int, int] = {}

    def place(call: int, tried: set[int]) -> bool:
        for n, at in enumerate(created):
            if n in tried or (at is not None and at < calls[call]):
                continue
            tried.add(n)
            if n not in seat or place(seat[n], tried):
                seat[n] = call
                return True
        return False

    return sum(place(call, set()) for call in range(len(calls)))
