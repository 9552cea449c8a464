"""What most commands need: the settings, and the ledger inside an event loop, with their errors in words.

Opens the ledger by itself instead of through `worker.runtime`, which brings the HTTP client and the engine
along: `status` would take twice as long to start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from config.settings import Settings, SettingsError, load_settings
from worker.cli.errors import AWAY, NO, WRONG, CommandError
from worker.ledger import Connection, Ledger, LedgerError, LedgerFormatError, LedgerUnavailable

T = TypeVar("T")


def settings(*, require_api: bool = False) -> Settings:
    """Return the settings; bad ones end the command with a line each."""
    try:
        return load_settings(require_api=require_api)
    except SettingsError as error:
        raise CommandError(str(error), WRONG) from None


def open_ledger(config: Settings) -> Ledger:
    """Return the same ledger as the worker's; to be made inside the event loop that uses it."""
    connection = Connection(config.redis_url.get_secret_value())
    return Ledger(connection, config.ledger.namespace, events_maxlen=config.ledger.events_maxlen)


def with_ledger(work: Callable[[Ledger], Awaitable[T]], config: Settings | None = None) -> T:
    """Run `work` with the ledger and return what it returns; trouble with Redis ends the command in words."""
    chosen = config or settings()

    async def session() -> T:
        ledger = open_ledger(chosen)
        try:
            return await work(ledger)
        finally:
            await ledger.aclose()

    try:
        return asyncio.run(session())
    except LedgerUnavailable as error:
        raise CommandError(
            f"{error}\nCheck REDIS_URL and that Redis is up: kinetic-retry check", AWAY
        ) from None
    except LedgerFormatError as error:
        raise CommandError(str(error), NO) from None
    except LedgerError as error:
        raise CommandError(str(error), AWAY) from None
