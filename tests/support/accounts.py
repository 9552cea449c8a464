"""Two accounts on one Redis and one broker: each has a key, a namespace and processes of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemons import Daemons, daemons, wait_until
from tests.support.simulation import SimulatorHandle, start_simulator

NAMES = ("north", "south")
FAILURES = 12


@dataclass
class Account:
    """One customer's side of the API, and the processes that look after it."""

    name: str
    simulator: SimulatorHandle
    held: Daemons


@contextlib.contextmanager
def two_accounts(directory: Path, shared: Mapping[str, str]) -> Iterator[tuple[Account, Account]]:
    """Hold two accounts; nothing is started yet. `shared` says where Redis and the broker are."""
    with contextlib.ExitStack() as stack:
        accounts = []
        for name in NAMES:
            place = directory / name
            place.mkdir()
            simulator = stack.enter_context(start_simulator(api_key=f"key-of-{name}"))
            env = {
                **shared,
                "KINETIC_BASE_URL": simulator.url,
                "KINETIC_API_KEY": simulator.api_key,
                "LEDGER_NAMESPACE": name,
                "WORKER_CONCURRENCY": "1",
                "TMPDIR": str(place),
            }
            accounts.append(Account(name, simulator, stack.enter_context(daemons(place, **env))))
        north, south = accounts
        yield north, south


def keep_apart(north: Account, south: Account, waiting: Callable[[str], int]) -> None:
    """Fail unless neither takes a tick of the other, and both get their work done side by side.

    `waiting` says how many messages wait in a queue.
    """
    north.held.run_until_read()
    assert north.held.all.pop().stop() == 0  # its beat
    wait_until(lambda: not waiting("north") + waiting("north.looks"), "north's ticks are worked off")
    calls = len(north.simulator.record(full=True)["calls"])
    south.held.start("beat")
    for queue in ("south", "south.looks"):
        wait_until(lambda queue=queue: waiting(queue) >= 5, f"ticks wait in {queue}")  # type: ignore[misc]
    assert len(north.simulator.record(full=True)["calls"]) == calls, "north took ticks of south"
    south.held.start("worker")
    north.held.start("beat")
    wait_until(lambda: bool(south.held.events("list_read")), "south's first reading")
    for account in (north, south):
        workflow = account.simulator.add_workflow(f"Claims of {account.name}", "recovers_after", retries=2)
        account.simulator.fail(workflow, FAILURES)
    for account in (north, south):
        assert account.held.settle(FAILURES)["recovered"] == FAILURES
        record = account.simulator.record(full=True)
        assert (record["recovered"], record["duplicates"]) == (FAILURES, [])
        assert "401" not in {call["outcome"] for call in record["calls"]}, "a call with the other's key"
