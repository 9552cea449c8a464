"""Signs of life: how worker, its pool processes and beat leave them. `worker.health` draws the conclusions.

The parent writes a small file every few seconds. A pool process has no file of its own: while it works, its
event loop notes the time in memory that it shares with the parent. Nothing here may stop the work, whatever
becomes of the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from worker.health import birth_of, path_of

WRITE_EVERY_S = 2.0
PULSE_EVERY_S = 1.0
SLOTS = 1024

# Made before the worker forks, and without a lock: a process that is killed while it holds one would hold up
# the others for ever. Each process has a slot of its own, and a number is written in one piece.
_pids = RawArray("q", SLOTS)
_pulses = RawArray("d", SLOTS)


class _Here:
    """What this process knows of itself: its slot, and what else is to be done at each pulse."""

    slot = 0
    writer: int | None = None
    write: Callable[[], None] | None = None


def take_slot(index: int) -> None:
    """Take a slot for this pool process, by its place in the pool."""
    _Here.slot = index % SLOTS


def at_each_pulse(write: Callable[[], None]) -> None:
    """Have something done at each pulse: where tasks run in the worker itself, its own timers stand still."""
    _Here.writer, _Here.write = os.getpid(), write


def pulse() -> None:
    """Note that this process's event loop turns."""
    _pulses[_Here.slot] = time.monotonic()
    _pids[_Here.slot] = os.getpid()
    if _Here.write and _Here.writer == os.getpid():  # a child must not write its parent's file
        _Here.write()


def pulse_of(pid: int) -> float:
    """Return when a process last gave a sign of life, 0 when it never did."""
    slots = (slot for slot in range(SLOTS) if _pids[slot] == pid)
    return max((float(_pulses[slot]) for slot in slots), default=0.0)


@contextlib.asynccontextmanager
async def pulsing() -> AsyncIterator[None]:
    """Give signs of life for as long as the block runs and the event loop turns."""

    async def beat() -> None:
        while True:
            pulse()
            await asyncio.sleep(PULSE_EVERY_S)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


def write(role: str, facts: dict[str, Any]) -> None:
    """Write a role's file, whole or not at all."""
    pid = os.getpid()
    path = Path(path_of(role))
    text = json.dumps({**facts, "role": role, "pid": pid, "birth": birth_of(pid), "at": time.monotonic()})
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError:
        _touch(path, new)


def _touch(path: Path, new: Path) -> None:
    """Show at least that this process runs: an empty file needs no space on a full disk."""
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.open("w").close()
        os.utime(path)
