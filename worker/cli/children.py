"""The processes that `up` starts: in sessions of their own, listened to, and ended whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from config.catalog import VARIABLES
from config.settings import DEFAULT_ENV_FILE
from config.sources import gather

END_WITHIN_S = 20.0
LONGEST_LINE = 1 << 20


@dataclass
class Child:
    """One process and what it said last.

    Attributes:
        group_ended: whether its process group was killed; from then on the number may be another's.
        listener: reads its output to the end; a pipe that nobody reads would block it.
    """

    name: str
    process: asyncio.subprocess.Process
    last_line: str = ""
    group_ended: bool = False
    listener: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def listen(self, hear: Callable[[str], None] | None) -> None:
        """Hand over its output line by line until it closes it."""
        stream = self.process.stdout
        while stream:
            try:
                raw = await stream.readline()
            except ValueError:  # a line beyond the limit: it is dropped
                continue
            if not raw:
                return
            self.last_line = raw.decode(errors="replace").rstrip()
            if hear:
                hear(self.last_line)


@dataclass
class Children:
    """All of them, in the order of their start."""

    all: list[Child] = field(default_factory=list)

    async def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        hear: Callable[[str], None] | None = None,
    ) -> Child:
        """Start `python COMMAND…`; `hear` gets each line that it writes."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "worker.cli.child", str(os.getpid()), sys.executable, *command),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes to us alone; we end them in order
            limit=LONGEST_LINE,
        )
        child = Child(name, process)
        self.all.append(child)
        child.listener = asyncio.create_task(child.listen(hear))
        return child

    @property
    def ended(self) -> Child | None:
        """The first child that is not alive any more."""
        return next((child for child in self.all if not child.alive), None)

    async def end(self, names: Collection[str] | None = None) -> None:
        """End those with these names, or all, and hear them out; return when none of them is left."""
        ending = [child for child in self.all if names is None or child.name in names]
        await _end(ending)
        await asyncio.gather(*(child.listener for child in ending if child.listener), return_exceptions=True)


def given_environment() -> dict[str, str]:
    """Return this process's environment with what `.env` and the `*_FILE` files give us spelt out.

    Worker and beat get everything from here and read no `.env` themselves: a variable that must not reach
    them has one place to be taken out of.
    """
    ours = {spelt for each in VARIABLES.values() for spelt in (each.name, each.file_name) if spelt}
    others = {variable: text for variable, text in os.environ.items() if variable.upper() not in ours}
    return others | gather(os.environ, DEFAULT_ENV_FILE).values


async def _end(children: Sequence[Child]) -> None:
    """Ask, wait, and kill whatever is left of their process groups."""
    try:
        for child in children:
            if child.alive:
                child.process.terminate()
        if children:
            waits = [asyncio.create_task(child.process.wait()) for child in children]
            await asyncio.wait(waits, timeout=END_WITHIN_S)
    finally:
        for child in children:
            if not child.group_ended:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process.pid, signal.SIGKILL)  # its own session: itself and its children
            child.group_ended = True
    for child in children:
        await child.process.wait()
