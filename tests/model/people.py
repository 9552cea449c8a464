"""People at a terminal: what they order and pause while workers are at work, and what that allows.

A word of theirs is one reading and one commit. Workers stand anywhere meanwhile: what they have read before
is out of date then, and so is what they were about to record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from tests.model.calls import Server, connection_to
from tests.model.clockwork import Clock
from tests.model.records import Records
from worker.domain import orders
from worker.domain.lineage import Lineage, State
from worker.domain.orders import RefusedError
from worker.domain.transitions import Change, by_person
from worker.ledger.clock import ServerClock
from worker.ledger.commits import Commits
from worker.ledger.scripts import Call, script

ANN = "ann@ops: the model wants it"
T = TypeVar("T")


class People:
    """Everybody who may decide.

    Attributes:
        ordered: retries that were ordered, by lineage: each allows one attempt more than the policy.
        paused: whether no retry call may leave.
    """

    def __init__(self, server: Server, ledger: Records, clock: Clock) -> None:
        self._server = server
        self._ledger = ledger
        self._clock = clock
        nowhere = connection_to(server, lambda _: None)  # type: ignore[arg-type, return-value]  # never used
        self._commits = Commits(nowhere, ledger.keys, ServerClock(), 1000)
        self.ordered: Counter[str] = Counter()
        self.paused = False
        self._calls_before_the_pause: set[tuple[str, str]] = set()

    def decide(self, which: int, how: int) -> str:
        """Order something about a lineage, as the record stands now; return what, "" for nothing."""
        lineages = sorted(self._ledger.lineages().values(), key=lambda each: each.root)
        if not lineages:
            return ""
        ended = [each for each in lineages if each.state in (State.EXHAUSTED, State.REJECTED)]
        lineage = _nth(ended if ended and which % 3 == 0 else lineages, which)
        wanted: Callable[..., Change] = _nth([orders.hold, orders.release, orders.retry, orders.cancel], how)
        if wanted is orders.cancel and lineage.is_in_doubt:
            return ""  # a clone that nobody knows of is nobody's then: a person said so
        try:
            change = wanted(lineage, detail=ANN, now=self._clock.now())
        except RefusedError:
            return f"{wanted.__name__} refused"
        if not self._commit(by_person(change, decision=wanted.__name__, by="ann@ops", why="the model")):
            raise AssertionError(f"{wanted.__name__} of {lineage.root} was not stored")
        if wanted is orders.retry:
            self.ordered[lineage.root] += 1
        return f"{wanted.__name__} of {lineage.state}"

    def pause(self) -> None:
        """Let no retry call leave any more; what has an intent on record may."""
        self._halt('{"by":"ann@ops","why":"the model","since":0,"until":null}', "retries_paused")
        self.paused = True
        found = self._ledger.lineages().values()
        self._calls_before_the_pause = {
            (each.root, each.intent.token) for each in found if each.intent and each.state is State.SUBMITTING
        }

    def resume(self) -> None:
        """Let retry calls leave again."""
        self._halt("", "retries_resumed")
        self.paused = False

    def objection(self, lineage: Lineage | None) -> str | None:
        """Return why a retry call that leaves at this moment must not, by what people said."""
        if lineage is None or lineage.intent is None:
            return None
        if self.paused and (lineage.root, lineage.intent.token) not in self._calls_before_the_pause:
            return f"a retry call for {lineage.root} left while everything was paused"
        return None

    def _commit(self, change: Change) -> bool:
        return self._run(self._commits._call(change, None, None))[0] == "committed"

    def _halt(self, text: str, event: str) -> None:
        keys = self._ledger.keys
        arguments: list[str | int] = [text, "", 1000, event, "{}"]
        self._run(Call(script("halt"), [keys.gate, keys.events, keys.counters], arguments))

    def _run(self, call: Call) -> list[object]:
        command = ("EVAL", call.script.source, len(call.keys), *call.keys, *call.arguments)
        (answer,) = self._server.run([command])
        if isinstance(answer, Exception):
            raise answer
        found: list[object] = answer
        return found


def _nth(choices: list[T], number: int) -> T:
    return choices[number % len(choices)]
