"""Trouble is said once when it begins and once when it is over."""

from __future__ import annotations

from worker.episodes import SETTLED_AFTER_S, Episode


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_episode_has_one_beginning_and_one_end() -> None:
    """However often it is met, and however often all is well before and afterwards."""
    clock = Clock()
    episode = Episode(clock)
    assert not episode.well()
    assert [episode.met() for _ in range(3)] == [True, False, False]
    assert not episode.well()
    clock.now_s += SETTLED_AFTER_S
    assert [episode.well() for _ in range(3)] == [True, False, False]
    assert episode.met()


def test_trouble_that_comes_and_goes_is_one_episode() -> None:
    """A server that restarts three times in a row is not back each time."""
    clock = Clock()
    episode = Episode(clock)
    assert episode.met()
    for _ in range(5):
        assert not episode.well()
        clock.now_s += SETTLED_AFTER_S / 2
        assert not episode.well()
        assert not episode.met()
        clock.now_s += SETTLED_AFTER_S
