"""Calls that leave a worker's process, cut into the two moments at which the world can interfere.

A call *arrives* (takes effect at the other side) and is then *answered*. Between the two, and before the
first, it stands still until the test lets it go on. What it can lose is therefore lost exactly as in life:
the request, the answer, or the process that waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import TimeoutError  # noqa: A004  # redis-py's name

from worker import ledger
from worker.ledger import Connection
from worker.ledger.scripts import script

TIME = "redis.call('TIME')"
SCRIPTS = [path.stem for path in (Path(ledger.__file__).parent / "lua").glob("*.lua")]
CLOCK_KEY = "model-clock"
_MODEL_TIME = f"redis.call('HMGET', '{CLOCK_KEY}', 'seconds', 'micros')"


class Call:
    """One call of one worker."""

    what = ""

    def arrive(self) -> None:
        """Take effect at the other side."""
        raise NotImplementedError

    def answer(self) -> Any:
        """Return, or raise, what the caller gets when the answer comes through."""
        raise NotImplementedError

    def lost(self) -> Any:
        """Return, or raise, what the caller gets when it never comes."""
        raise NotImplementedError


@dataclass(eq=False)
class Point:
    """A call that stands still: on its way there, or (`arrived`) on its way back."""

    call: Call
    future: asyncio.Future[Any]
    arrived: bool = False

    def go_on(self) -> None:
        if self.arrived:
            self.deliver(self.call.answer)
        else:
            self.arrived = True
            self.call.arrive()

    def lose(self) -> None:
        self.deliver(self.call.lost)

    def deliver(self, outcome: Callable[[], Any]) -> None:
        """Wake the caller with an outcome; a caller whose timer was faster does not listen any more."""
        if self.future.done():
            return
        try:
            self.future.set_result(outcome())
        except Exception as exc:  # noqa: BLE001  # the caller gets what the product's own code raised
            self.future.set_exception(exc)


class Server:
    """The real server with the real scripts; only the time they see is the model's.

    A script is replaced when its source is sent: `TIME` becomes the reading of a key. Its digest is looked up
    here, so a server without scripts answers NOSCRIPT and gets them again, as always.
    """

    def __init__(self, url: str) -> None:
        self._client = Redis.from_url(url, decode_responses=True)
        self._digests: dict[str, str] = {}
        self._names = {script(name).digest: name for name in SCRIPTS}
        self._names |= {script(name).source: name for name in SCRIPTS}

    def begin_anew(self, now_us: int) -> None:
        self._client.flushdb()
        self.set_time(now_us)

    def set_time(self, now_us: int) -> None:
        seconds, micros = divmod(now_us, 1_000_000)
        self._client.hset(CLOCK_KEY, mapping={"seconds": seconds, "micros": micros})

    def forget_scripts(self) -> None:
        self._client.script_flush()

    def run(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands in one round trip and return an answer or an exception for each."""
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*self._translated(command))  # type: ignore[no-untyped-call]
        answers: list[Any] = pipe.execute(raise_on_error=False)
        return answers

    def close(self) -> None:
        self._client.close()

    def name_of(self, command: Sequence[Any]) -> str:
        """Return the name of the script that a command runs, or of the command."""
        return self._names.get(str(command[1]), str(command[0]).lower())

    def _translated(self, command: Sequence[Any]) -> Sequence[Any]:
        if command[0] == "EVALSHA":
            return (command[0], self._digests.get(command[1], command[1]), *command[2:])
        if command[0] == "EVAL":
            return (command[0], self._with_model_time(command[1]), *command[2:])
        assert command[0] != "TIME", "the model's time is not the server's"
        return command

    def _with_model_time(self, source: str) -> str:
        replaced = source.replace(TIME, _MODEL_TIME)
        assert TIME in source, "every script gets its time from the prelude"
        assert "'TIME'" not in replaced, "a script asks for the time in a way that the model does not know"
        asked_for, sent = (hashlib.sha1(text.encode()).hexdigest() for text in (source, replaced))
        self._digests[asked_for] = sent
        return replaced


class RedisCall(Call):
    """One round trip to Redis, with one command or many. Other workers' commands can run between them."""

    def __init__(self, server: Server, commands: Sequence[Sequence[Any]]) -> None:
        self._server = server
        self._commands = commands
        self._answers: list[Any] = []
        self.what = "+".join(server.name_of(command) for command in commands[:3])

    @property
    def can_be_halved(self) -> bool:
        return len(self._commands) > 1 and not self._answers

    def arrive(self) -> None:
        rest = self._commands[len(self._answers) :]
        self._answers += self._server.run(rest) if rest else []

    def arrive_half(self) -> None:
        self._answers = self._server.run(self._commands[: len(self._commands) // 2])

    def arrive_again(self) -> None:
        """Do what redis-py does when an answer does not come: send all of it once more."""
        self._answers = self._server.run(self._commands)

    def answer(self) -> list[Any]:
        return self._answers

    def lost(self) -> list[Any]:
        raise TimeoutError("the model lost the answer")


class ModelRedis:
    """What a worker's connection has instead of redis-py: every round trip stands still at both ends."""

    def __init__(self, server: Server, perform: Callable[[Call], asyncio.Future[Any]]) -> None:
        self._server = server
        self._perform = perform

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)

    async def execute_command(self, *command: Any) -> Any:
        (answer,) = await self.run([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        answers: list[Any] = await self._perform(RedisCall(self._server, commands))
        return list(answers)

    async def aclose(self) -> None:
        """Nothing is open."""


class Pipeline:
    """Collects commands, as redis-py's pipeline does."""

    def __init__(self, client: ModelRedis) -> None:
        self._client = client
        self._commands: list[Sequence[Any]] = []

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._commands = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return await self._client.run(self._commands)


def connection_to(server: Server, perform: Callable[[Call], asyncio.Future[Any]]) -> Connection:
    """Return a real connection of the ledger over the model's wire."""
    connection = Connection("redis://nowhere.invalid")  # connects when it is first used: never
    connection._client = ModelRedis(server, perform)  # type: ignore[assignment]
    return connection
