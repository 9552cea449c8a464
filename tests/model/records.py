"""What the ledger holds, read past all workers."""

from __future__ import annotations

import json
from datetime import datetime

from tests.model.calls import Server
from tests.model.clockwork import Clock
from worker.domain.lineage import DOUBTFUL_STATES, FINAL_STATES, Lineage, State
from worker.ledger import records
from worker.ledger.clock import from_ms
from worker.ledger.keys import Keys


class Records:
    """Reads the ledger of one namespace without a worker's help."""

    def __init__(self, server: Server, namespace: str, clock: Clock) -> None:
        self.keys = Keys(namespace)
        self._server = server
        self._clock = clock

    def lineage_of(self, uuid: str) -> Lineage | None:
        """Return the lineage that an execution belongs to, past all workers."""
        (root,) = self._server.run([("HGET", self.keys.clones, uuid)])
        (text,) = self._server.run([("GET", self.keys.lineage(root or uuid))])
        return records.load(root or uuid, text) if text else None

    def in_doubt(self) -> bool:
        counts = self._server.run([("ZCARD", self.keys.state(state)) for state in DOUBTFUL_STATES])
        return any(counts)

    def something_is_due(self) -> bool:
        due = ("ZCOUNT", self.keys.state(State.SCHEDULED), "-inf", self._clock.now_us() // 1000)
        return self._server.run([due]) != [0]

    def lineages(self) -> dict[str, Lineage]:
        """Return every lineage by its root, past all workers."""
        (keys,) = self._server.run([("KEYS", self.keys.lineage("*"))])
        texts = self._server.run([("GET", key) for key in sorted(keys)])
        roots = [key.rpartition(":")[2] for key in sorted(keys)]
        return {root: records.load(root, text) for root, text in zip(roots, texts, strict=True)}

    def groups(self) -> dict[str, set[str]]:
        """Return who is in each group by its index; check that the hash counts as many, by state as well."""
        (counts,) = self._server.run([("HGETALL", self.keys.groups)])
        ended = {state.value: int(counts.pop(state, 0)) for state in FINAL_STATES}
        fields = sorted(counts)
        found = self._server.run([("ZRANGE", self.keys.group(field), 0, -1) for field in fields])
        members = {field: set(each) for field, each in zip(fields, found, strict=True)}
        assert {field: len(each) for field, each in members.items()} == {
            field: int(count) for field, count in counts.items()
        }
        for state, count in ended.items():
            assert count == sum(
                len(each) for field, each in members.items() if field.startswith(f"{state}\n")
            )
        return members

    def chronicle(self) -> list[str]:
        """Return the ledger's own story, one line for each event."""
        (entries,) = self._server.run([("XRANGE", self.keys.events, "-", "+")])
        return [f"{each['root']}: {each['event']} {each['data']}" for _, each in entries]

    def swept_at(self) -> datetime:
        """Return when a worker last read the whole list."""
        (memory,) = self._server.run([("HGET", self.keys.job("discover"), "memory")])
        return from_ms(json.loads(memory or "{}").get("swept_at") or 0)

    def tracked(self) -> int:
        """Return how many executions are watched by name."""
        (count,) = self._server.run([("ZCARD", self.keys.tracked)])
        return int(count)

    def track(self, uuids: list[str]) -> None:
        """Put executions under watch by name, as a person does where there is no list."""
        since = [("HSETNX", self.keys.tracked_since, uuid, self._clock.now_us() // 1000) for uuid in uuids]
        self._server.run([*since, *(("ZADD", self.keys.tracked, "NX", 0, uuid) for uuid in uuids)])

    def hide(self, root: str, state: State) -> None:
        """Take a lineage out of the index of a state, as no worker does."""
        self._server.run([("ZREM", self.keys.state(state), root)])
