"""When two failures are the same failure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.failures import Signature

STUCK = Signature("v1", 7, 21, 60_000)
unknown_or = st.none() | st.integers(0, 10**9)
signatures = st.builds(Signature, st.sampled_from(["v1", "v2"]), st.integers(0, 3), unknown_or, unknown_or)


@given(signatures, signatures)
def test_it_is_the_same_from_both_sides(one: Signature, other: Signature) -> None:
    """Equal to itself; who is compared with whom does not matter."""
    assert one.same_as(one)
    assert one.same_as(other) == other.same_as(one)
    assert not one.same_as(None)


@given(signatures, signatures)
def test_the_step_and_the_version_must_agree(one: Signature, other: Signature) -> None:
    """Another version of the workflow, or another step, is another failure whatever else agrees."""
    if (one.version, one.n_steps) != (other.version, other.n_steps):
        assert not one.same_as(other)


@given(signatures, unknown_or, unknown_or)
def test_what_is_not_told_is_no_difference(one: Signature, actions: int | None, duration: int | None) -> None:
    """A deployment that leaves out actions or durations is judged by the rest."""
    silent = replace(one, n_agent_actions=None, duration_ms=None)
    assert silent.same_as(replace(one, n_agent_actions=actions, duration_ms=duration))


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"duration_ms": 45_000}, True),
        ({"duration_ms": 44_999}, False),
        ({"duration_ms": 80_000}, True),
        ({"duration_ms": 80_001}, False),
        ({"n_agent_actions": 23}, True),
        ({"n_agent_actions": 26}, True),
        ({"n_agent_actions": 27}, False),
        ({"n_steps": 8}, False),
        ({"version": "v2"}, False),
    ],
)
def test_a_quarter_of_the_time_and_a_fifth_of_the_actions(changes: dict[str, int], same: bool) -> None:
    """Of the larger of the two: as long as machines differ, no longer."""
    assert STUCK.same_as(replace(STUCK, **changes)) is same  # type: ignore[arg-type]  # versions are text


def test_short_runs_may_differ_by_seconds_and_a_few_actions() -> None:
    """A quarter of two seconds would tell nothing: 5 s and 2 actions are never a difference."""
    quick = Signature("v1", 1, 1, 500)
    assert quick.same_as(Signature("v1", 1, 3, 5_500))
    assert not quick.same_as(Signature("v1", 1, 4, 5_500))
    assert not quick.same_as(Signature("v1", 1, 3, 7_000))


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (STUCK, "step 7, 21 actions, 60 s"),
        (Signature("v1", 7), "step 7"),
        (Signature("v1", 0, 0, 400), "step 0, 0 actions, 0 s"),
    ],
)
def test_in_words(signature: Signature, words: str) -> None:
    """The step is named, and what else is known."""
    assert signature.in_words == words
