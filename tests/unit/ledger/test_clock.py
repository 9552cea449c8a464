"""The clock follows the server and never makes a lease seem longer than it is."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from worker.ledger.clock import ServerClock, from_ms


class Uptime:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_it_follows_the_servers_time() -> None:
    """Whatever this machine's own clock says."""
    uptime = Uptime()
    clock = ServerClock(uptime)
    clock.hear(clock.mark(), 1_000_000)
    uptime.s += 5
    assert clock.now() == from_ms(1_005_000)


def test_a_stalled_process_sees_the_time_that_passed() -> None:
    """SIGSTOP, swap, a sleeping laptop: the uptime goes on."""
    uptime = Uptime()
    clock = ServerClock(uptime)
    clock.hear(clock.mark(), 1_000_000)
    uptime.s += 600
    assert clock.now() == from_ms(1_600_000)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1), st.floats(0, 20)), min_size=1, max_size=30))
def test_it_never_runs_behind_the_server(answers: list[tuple[float, float, float]]) -> None:
    """Requests take any time there and back; the lease check needs a clock that is not behind."""
    uptime = Uptime()
    clock = ServerClock(uptime)
    boot_ms = 1_000_000_000  # the server's time when our uptime was zero
    for round_trip_s, share, pause_s in answers:
        mark = clock.mark()
        server_ms = int(boot_ms + (uptime.s + round_trip_s * share) * 1000)
        uptime.s += round_trip_s
        clock.hear(mark, server_ms)
        uptime.s += pause_s
        behind = from_ms(boot_ms + uptime.s * 1000) - clock.now()
        assert behind <= timedelta(milliseconds=1.5)


def test_a_quick_answer_is_believed_over_a_slow_one() -> None:
    """A slow answer says less about now."""
    uptime = Uptime()
    clock = ServerClock(uptime)
    clock.hear(clock.mark(), 100_000)
    mark = clock.mark()
    uptime.s += 3
    clock.hear(mark, 103_000)  # taken three seconds after the mark: would put us three seconds ahead
    assert clock.now() == from_ms(103_000)
