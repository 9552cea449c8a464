"""What recent runs say of a workflow: the score at its edges, and what must hold for any runs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.domain.worlds import MINUTE, NOON, runs, runs_of
from worker.domain.health import WEIGHTS, Ended, Run, Tally, tally

SEVERAL = runs(NOON)


@given(SEVERAL, st.randoms(use_true_random=False))
def test_the_order_in_which_runs_are_heard_of_does_not_matter(
    heard: Sequence[Run], dice: random.Random
) -> None:
    """Workers hear of runs in different orders, some ended at the same time, and must come to one answer."""
    shuffled = list(heard)
    dice.shuffle(shuffled)
    assert tally(shuffled) == tally(heard)


@given(SEVERAL)
def test_the_figures_add_up(heard: Sequence[Run]) -> None:
    """The score is neither negative nor above what failures could add; a run fails or it completes."""
    found = tally(heard)
    assert found.runs == len(heard) == found.failures + found.successes
    assert 0 <= found.score <= sum(max(0, WEIGHTS[run.ended]) for run in heard)
    assert found.clones_failed <= found.failures
    assert found.clones_completed <= found.successes
    assert (found.last_failure_at is None) == (found.failures == 0)
    assert (found.first_success_at is None) == (found.successes == 0)
    assert (found.last_clone_failure_at is None) == (found.clones_failed == 0)


@given(SEVERAL, st.sampled_from(Ended))
def test_one_more_run_moves_the_score_by_its_weight(heard: Sequence[Run], how: Ended) -> None:
    """A failure never lowers it, a success never raises it."""
    before, after = tally(heard).score, tally([*heard, Run(NOON, how)]).score
    assert after == max(0, before + WEIGHTS[how])


@given(SEVERAL, st.integers(0, 200))
def test_what_ended_earlier_says_nothing(heard: Sequence[Run], minutes: int) -> None:
    """Runs before `since` count as if they had not been; one exactly then counts."""
    since = NOON - minutes * MINUTE
    assert tally(heard, since) == tally([run for run in heard if run.ended_at >= since])
    assert tally([Run(since, Ended.FAILED)], since).failures == 1


@pytest.mark.parametrize(
    ("letters", "score"),
    [
        ("", 0),
        ("cccccccc", 0),
        ("fff", 6),
        ("cccccccccccccccccccccccfff", 6),  # a long good time before is no credit
        ("ggg", 3),
        ("fcfcfc", 3),
        ("ffcc" * 10, 20),
        ("fcc" * 30, 0),
        ("fddgd", 0),
    ],
)
def test_the_score_of_typical_times(letters: str, score: int) -> None:
    """Three failures in a row reach 6; a third of failures does not add up, a half does."""
    assert tally(runs_of(letters)).score == score


@pytest.mark.parametrize(
    ("letters", "words"),
    [
        ("f", "the last run failed"),
        ("ff", "all of the last 2 runs failed"),
        ("fcg", "2 of the last 3 runs failed"),
        ("cc", "0 of the last 2 runs failed"),
    ],
)
def test_in_words(letters: str, words: str) -> None:
    """People read how many of how many."""
    assert tally(runs_of(letters)).in_words == words


def test_nothing_is_known_of_no_runs() -> None:
    """Everything is zero or None."""
    assert tally([]) == Tally()
