"""A million lineages in a minute: copies of some that lived through the worker's own commits.

Whatever the ledger keeps that names a lineage or one of its clones is copied under new names: its record, its
places in the indexes, its entries in the maps. Groups are counted. The stream, the newest runs and what is
counted by the hour are bounded, whatever the ledger holds, and stay as the templates left them.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from redis import Redis

from worker.domain.lineage import Lineage
from worker.ledger import Ledger
from worker.ledger.gate import as_mapping
from worker.ledger.groups import Group
from worker.ledger.keys import Keys
from worker.ledger.ledger import pairs_in
from worker.ledger.packing import pack, unpack

AT_ONCE = 500
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BOUNDED = ("events", "runs:")


@dataclass(frozen=True, slots=True)
class Names:
    """Whatever is different in every lineage, in fixed lengths: copies are as long as their templates."""

    root: str
    clones: tuple[str, ...]
    fingerprint: str
    key: str

    @classmethod
    def of(cls, lineage: Lineage) -> Names:
        """Return the names of a lineage."""
        key = Keys.key(lineage.workflow_version_uuid, lineage.fingerprint)
        return cls(lineage.root, lineage.members[1:], lineage.fingerprint, key)

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, in the same order for all lineages of one kind."""
        return (self.root, *self.clones, self.fingerprint, self.key)


@dataclass(frozen=True, slots=True)
class Traces:
    """What a lineage leaves in Redis.

    Attributes:
        record: without what is packed.
        packed: of the record, unpacked; "" where nothing is.
        places: the commands that write the rest.
    """

    record: str
    packed: str
    places: tuple[tuple[str, ...], ...]

    def renamed(self, names: Names) -> frozenset[str]:
        """Return them with numbers for names: equal for lineages that differ in nothing else."""
        texts = [self.record, self.packed, *("\t".join(each) for each in self.places)]
        for number, name in enumerate(names.all):
            texts = [text.replace(name, f"<{number}>") for text in texts]
        return frozenset(texts)


async def traces_of(ledger: Ledger, lineages: Iterable[Lineage]) -> dict[str, Traces]:
    """Return everything in the ledger that names one of these lineages, by root."""
    owner = {name: each.root for each in lineages for name in Names.of(each).all if name != each.fingerprint}
    places: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    records: dict[str, str] = {}
    prefix = ledger.keys.lineage("")
    for key in sorted(await ledger.connection.command("KEYS", f"{prefix.rpartition('lineage:')[0]}*")):
        if key.startswith(prefix):
            records[key.removeprefix(prefix)] = key
        elif not key.rpartition("}:")[2].startswith(_BOUNDED):
            for place in await _places(ledger, key):
                for name in {place[-2], place[-1], *_UUID.findall(" ".join(place[-2:]))} & owner.keys():
                    places[owner[name]].append(place)
    texts = await ledger.connection.pipelined([("GET", key) for key in records.values()])
    read = dict(zip(records, texts, strict=True))
    return {root: Traces(*_opened(read[root]), tuple(dict.fromkeys(places[root]))) for root in owner.values()}


async def _places(ledger: Ledger, key: str) -> list[tuple[str, ...]]:
    match await ledger.connection.command("TYPE", key):
        case "zset":
            answer = await ledger.connection.command("ZRANGE", key, 0, -1, "WITHSCORES")
            return [("ZADD", key, f"{score:.0f}", member) for member, score in pairs_in(answer)]
        case "hash":
            answer = as_mapping(await ledger.connection.command("HGETALL", key))
            return [("HSET", key, field, value) for field, value in answer.items()]
    return []


def _opened(text: str) -> tuple[str, str]:
    record = json.loads(text)
    packed = record.pop("packed", "")
    return (json.dumps(record, separators=(",", ":")), unpack(packed)) if packed else (text, "")


async def multiply(
    ledger: Ledger, url: str, lineages: Sequence[Lineage], count: int, dice: random.Random
) -> None:
    """Put so many copies of lineages into the ledger that they live in, each as often as the others."""
    found = await traces_of(ledger, lineages)
    templates = [_Template(ledger.keys, each, found[each.root]) for each in lineages]
    before = await ledger.connection.command("DBSIZE")
    await asyncio.to_thread(_send, url, (each.copy(dice) for each in islice(cycle(templates), count)))
    lived = Counter(islice(cycle(lineages), count))
    groups = Counter[str]()
    for each, copies in lived.items():
        groups.update({Group.of(each).field: copies} | ({each.state: copies} if each.state.is_final else {}))
    await ledger.connection.pipelined([("HINCRBY", ledger.keys.groups, *each) for each in groups.items()])
    assert (
        await ledger.connection.command("DBSIZE") == before + count
    )  # each has a record, and nothing else of its own


class _Template:
    """A lineage as the commands that would write it, to be copied by putting other names in."""

    def __init__(self, keys: Keys, lineage: Lineage, traces: Traces) -> None:
        self._names = [name.encode() for name in Names.of(lineage).all if name]
        self._version = lineage.workflow_version_uuid
        self._traces = traces
        self._record_key = keys.lineage(lineage.root)
        commands = (
            [*traces.places] if traces.packed else [("SET", self._record_key, traces.record), *traces.places]
        )
        self._commands = b"".join(map(_command, commands))
        head = traces.record.removesuffix("}")
        self._packed = (
            f'{self._record_key}\0{head},"packed":"\0{traces.packed}'.encode() if traces.packed else b""
        )

    def copy(self, dice: random.Random) -> bytes:
        """Return the commands for a new lineage like it."""
        commands, packed = self._commands, self._packed
        *uuids, _, _ = self._names
        fingerprint = f"{dice.getrandbits(88):022x}"
        key = Keys.key(self._version, fingerprint).encode()
        new = [*(_uuid(dice) for _ in uuids), fingerprint.encode(), key]
        for old, name in zip(self._names, new, strict=True):
            commands, packed = commands.replace(old, name), packed.replace(old, name)
        if packed:
            record_key, head, body = packed.decode().split("\0")
            commands += _command(("SET", record_key, f'{head}{pack(body)}"}}'))
        return commands


def _uuid(dice: random.Random) -> bytes:
    digits = b"%032x" % dice.getrandbits(128)
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _command(words: Sequence[str]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _send(url: str, commands: Iterator[bytes]) -> None:
    """Send commands whose answers nobody reads."""
    with Redis.from_url(url) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("CLIENT", "REPLY", "OFF")
        while batch := b"".join(islice(commands, AT_ONCE)):
            connection.send_packed_command([batch])
        connection.send_command("CLIENT", "REPLY", "ON")
        assert connection.read_response() in (b"OK", "OK")
        client.connection_pool.release(connection)
