"""Carries messages to people, through Apprise. The only module that knows it, and sees the addresses.

An address is called by its position and its kind ("2 (mailto)"). What Apprise itself says is not shown: its
log lines and errors quote addresses, and those hold passwords and tokens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from worker.domain.alerts import Message

SEND_WITHIN_S = 8.0
_TALKATIVE = ("apprise", "requests", "urllib3", "slixmpp", "paho")
"""Their lines quote addresses, at warning level too."""
_BUSY = "is still busy with an earlier message"


class Courier:
    """Sends messages to some addresses.

    Sending happens in a thread of its own, for libraries that block; one that hangs holds up nothing, neither
    the event loop nor the end of the process.
    """

    def __init__(self, urls: Sequence[str], *, within_s: float = SEND_WITHIN_S) -> None:
        self._urls = tuple(urls)
        self._within_s = within_s
        self._busy: set[int] = set()
        self._senders: dict[int, Any] = {}
        self._taken: set[tuple[int, Message]] = set()

    @property
    def positions(self) -> range:
        """The addresses, counted from 1."""
        return range(1, len(self._urls) + 1)

    def name(self, position: int) -> str:
        """Return how an address is called where people read it."""
        scheme = self._urls[position - 1].partition("://")[0]
        return f"the address at position {position} ({scheme[:20]})"

    async def send(self, position: int, message: Message) -> str | None:
        """Send a message to one address; return why it was not taken, in words; None when it was."""
        if position in self._busy:
            return f"{self.name(position)} {_BUSY}"
        if self._was_taken(position, message):
            return None  # an earlier try got through after all, when nobody waited for it any more
        self._busy.add(position)
        try:
            async with asyncio.timeout(self._within_s):
                complaint = await _in_thread(lambda: self._send(position, message))
        except TimeoutError:
            return f"{self.name(position)} did not answer within {self._within_s:.0f} s"
        self._was_taken(position, message)
        return complaint and f"{self.name(position)} {complaint}"

    def _was_taken(self, position: int, message: Message) -> bool:
        taken = (position, message) in self._taken
        self._taken.discard((position, message))
        return taken

    def _send(self, position: int, message: Message) -> str | None:
        """Send it from this thread; return what went wrong."""
        try:
            sender = self._sender(position)
            if sender is None:
                return "is none that Apprise can use: check ALERT_URLS"
            sent = sender.notify(
                title=message.title,
                body=message.body,
                notify_type=message.severity.value,
                body_format="text",
            )
        except Exception as exc:  # noqa: BLE001  # a plugin's; its words may quote the address
            return f"failed ({type(exc).__name__})"
        else:
            if not sent:
                return "refused it, or could not be reached"
            self._taken.add((position, message))
            return None
        finally:
            self._busy.discard(position)

    def _sender(self, position: int) -> Any:
        if position not in self._senders:
            _mute()
            import apprise

            _mute()  # again: importing may have set levels
            asset = apprise.AppriseAsset(secure_logging=True)
            one = apprise.Apprise(asset=asset)
            plugin = apprise.Apprise.instantiate(self._urls[position - 1], asset=asset)
            self._senders[position] = one if plugin and one.add(plugin) else None
        return self._senders[position]


async def _in_thread(work: Callable[[], str | None]) -> str | None:
    """Run it in a thread that nobody waits for: asyncio's own threads hold up the end of a process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str | None] = loop.create_future()

    def tell(result: str | None) -> None:
        if not done.done():
            done.set_result(result)

    def body() -> None:
        result = work()
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=body, name="alert", daemon=True).start()
    return await done


def _mute() -> None:
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
