"""The API as the use cases call it: every answer is heeded for everyone before it is handed on.

Owns what an answer means for the gate: a rest that the API asked for, a key that it turns down, an outage.
What it means for the one lineage is the caller's business. Answers and errors are handed on unchanged, but
for a 404 while everything is 404: that is a proxy without its service, and no word about an execution.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from worker.domain import outage
from worker.domain.delivery import Delivery, NotDelivered, Refused, Unclear
from worker.domain.executions import Execution, Status
from worker.engine.calls import Api, CountedApi
from worker.kinetic import KineticError, NotFound, Page, Throttled, Unauthorized, Unreachable
from worker.ledger import Ledger, LedgerError
from worker.ledger.gate import Answers, Closed, ClosingRule, Failure, GateState, Heard

KEY_FIRST_PROBE_IN = timedelta(seconds=5)
KEY_LONGEST_PAUSE = timedelta(seconds=20)
_ABSENT = outage.ABSENT
_ABSENT_DETAIL = (
    "404, but not about the execution: a GET finds it, or nothing else is answered; check KINETIC_BASE_URL"
)
_FORBIDDEN, _NOT_FOUND = 403, 404
_ALLOWED_LATELY = timedelta(minutes=5)
LOOK_EVERY_S = 0.05
"""How often the gate is looked at while a list is read or many executions are asked for by name."""
_RULE = ClosingRule(outage.MEMORY, outage.FIRST_PROBE_IN, outage.LONGEST_PROBE_PAUSE)


class GateClosed(KineticError):
    """The gate is closed, perhaps by another worker: a call of a row of them is not made."""


class Gatekeeper:
    """An `Api` that closes and opens the gate by what the API answers.

    Attributes:
        closings: how often this process closed the gate, or found it closed: work that sees it grow starts
            nothing more.
        opening: whether the gate was opening by steps when this process last asked; while it is, every
            answered retry call is reported at once.
    """

    def __init__(self, api: Api, ledger: Ledger, log: Any, *, lists: Callable[[], bool]) -> None:
        self._api = CountedApi(api, ledger)
        self._ledger = ledger
        self._log = log
        self._lists = lists
        self._answers = Answers()
        self._answered_at_s = float("-inf")
        self._found_open_at_s = float("-inf")
        self.closings = 0
        self.opening = False

    @property
    def skew(self) -> timedelta:
        """The API's clock minus ours."""
        return self._api.skew

    @property
    def answers_lately(self) -> bool:
        """Whether a retry call of this process was answered a moment ago."""
        return time.monotonic() - self._answered_at_s < outage.SLOW_START_AFTER.total_seconds()

    async def retry(self, execution_uuid: str) -> Delivery:
        """Ask for a retry; never raises, whatever becomes of what the answer means for others."""
        begun_at = self._ledger.clock.now()
        delivery = await self._api.retry(execution_uuid)
        try:
            if _is_not_found(delivery) and not await self._is_gone(execution_uuid):
                delivery = NotDelivered(_ABSENT, _ABSENT_DETAIL, _NOT_FOUND)
            await self._heed_delivery(delivery, begun_at)
        except Exception as error:  # noqa: BLE001  # the outcome comes first: the caller has yet to record it
            self._log.warning(
                "gate_not_told", detail=str(error) if isinstance(error, LedgerError) else repr(error)
            )
        return delivery

    async def get(self, execution_uuid: str) -> Execution:
        """Return an execution; raises `KineticError`."""
        begun_at = self._ledger.clock.now()
        try:
            execution = await self._api.get(execution_uuid)
        except NotFound as error:
            if await self._is_there(execution_uuid, if_nothing_else=True):
                self._heard(begun_at)
                raise
            absent = Unreachable(_ABSENT, f"execution {execution_uuid}: {_ABSENT_DETAIL}", error.http_status)
            await self._heed(absent, begun_at)
            raise absent from error
        except KineticError as error:
            await self._heed(error, begun_at)
            raise
        self._heard(begun_at)
        return execution

    async def pages(self, *, status: Status | None, since: datetime | None = None) -> AsyncIterator[Page]:
        """Yield the listing page by page; raises `KineticError`, `GateClosed` among them."""
        await self.pass_gate()
        begun_at = self._ledger.clock.now()
        try:
            async for page in self._api.pages(status=status, since=since):
                self._heard(begun_at)
                yield page
                if not page.last:
                    await self.pass_gate()
                begun_at = self._ledger.clock.now()
        except KineticError as error:
            await self._heed(error, begun_at)
            raise

    async def pass_gate(self) -> None:
        """Raise `GateClosed` where calls may not go on."""
        if not await self.is_open():
            raise GateClosed("gate_closed", "no call may be made now; what is left is asked for later")

    async def is_open(self) -> bool:
        """Return whether calls may go on; that another worker closed the gate is seen within a moment."""
        if time.monotonic() - self._found_open_at_s < LOOK_EVERY_S:
            return True
        gate = await self._ledger.gate.look()
        if gate.closed or gate.paused_until:
            self._note_closing()
            return False
        self._found_open_at_s = time.monotonic()
        return True

    async def flush(self) -> None:
        """Report the answers that were not reported yet, and add the calls to those that are counted."""
        if self._answers.calls:
            await self._report(None)
        await self._api.add()

    async def probe(self, gate: GateState) -> None:
        """Try a GET when the gate is closed and it is this worker's turn; open the gate if it is answered."""
        longest = outage.LONGEST_PROBE_PAUSE if gate.closed is Closed.DOWN else KEY_LONGEST_PAUSE
        if not await self._ledger.gate.claim_probe(longest):
            return
        try:
            await self._ask_anything()
        except KineticError as error:
            await self._heed(error, self._ledger.clock.now())
            self._log.info(
                "probe_failed", reason=error.reason, detail=error.detail, http_status=error.http_status
            )
            return
        match await self._ledger.gate.open():
            case (Closed.DOWN, lasted):
                self._log.info("api_back", duration=round(lasted.total_seconds(), 3))
            case (Closed.SUSPENDED, lasted):
                self._log.info("worker_resumed", duration=round(lasted.total_seconds(), 3))

    async def _is_gone(self, execution_uuid: str) -> bool:
        """Whether the 404 of a retry call is about the execution, which a GET then does not find either."""
        try:
            await self._api.get(execution_uuid)
        except NotFound:
            return await self._is_there(execution_uuid, if_nothing_else=False)
        except KineticError:
            pass
        return False

    async def _is_there(self, but_for: str, *, if_nothing_else: bool) -> bool:
        """Whether a 404 can be believed: whether the API, asked now, answers anything else.

        Args:
            but_for: the execution that the 404 was about.
            if_nothing_else: what to believe when there is nothing else to ask for.
        """
        try:
            return await self._ask_anything(but_for) or if_nothing_else
        except (KineticError, LedgerError):
            return False  # what cannot be asked now is not believed now

    async def _ask_anything(self, but_for: str = "") -> bool:
        """Ask for the list, else for executions that the API once knew; return at the first answer.

        A list that is broken by itself does not count against the API; a refused key or a request
        to rest does.

        Returns:
            whether there was anything to ask for.

        Raises:
            KineticError: the API answers nothing; `NotFound` when it says so of everything.
        """
        questions: list[Callable[[], Awaitable[object]]] = [self._api.probe] if self._lists() else []
        known = await self._ledger.known_executions()
        questions += [partial(self._api.get, uuid) for uuid in known if uuid != but_for]
        trouble: KineticError | None = None
        for ask in questions:
            try:
                await ask()
            except (Unauthorized, Throttled):
                raise
            except KineticError as error:
                trouble = trouble or error
            else:
                return True
        if trouble:
            raise trouble
        return False

    async def _heed_delivery(self, delivery: Delivery, begun_at: datetime) -> None:
        if isinstance(delivery, NotDelivered) and delivery.suspend:
            if delivery.http_status != _FORBIDDEN or not await self._retries_are_answered():
                await self._suspend(delivery.reason, delivery.detail, delivery.http_status)
        elif isinstance(delivery, (NotDelivered, Unclear)) and outage.speaks_of_outage(delivery):
            await self._failed(Failure(begun_at, True, delivery.reason, delivery.detail))
        elif not isinstance(delivery, NotDelivered):
            self._heard(begun_at, retry=True)
            self._answered_at_s = time.monotonic()
            if self.opening:
                await self._report(None)
        if isinstance(delivery, NotDelivered) and delivery.pause:
            await self._pause(delivery.reason, delivery.pause, delivery.http_status)

    async def _retries_are_answered(self) -> bool:
        """Whether a 403 is about one execution only, since retry calls for others were answered lately."""
        at = self._answers.retry_begun_at or (await self._ledger.gate.look()).retry_answered_at
        return at is not None and self._ledger.clock.now() - at < _ALLOWED_LATELY

    async def _heed(self, error: KineticError, begun_at: datetime) -> None:
        """Close the gate for everyone when an error says that nobody should call now."""
        if isinstance(error, Unauthorized):
            await self._suspend(error.reason, error.detail, error.http_status)
        if isinstance(error, Unreachable) or error.http_status == outage.SERVICE_UNAVAILABLE:
            await self._failed(Failure(begun_at, False, error.reason, error.detail))
        if isinstance(error, Throttled):
            await self._pause(error.reason, error.pause, error.http_status)

    def _heard(self, begun_at: datetime, *, retry: bool = False) -> None:
        """Count a call that was answered."""
        so_far = self._answers
        self._answers = Answers(
            so_far.calls + 1,
            so_far.retries + retry,
            max(begun_at, so_far.begun_at or begun_at),
            max(begun_at, so_far.retry_begun_at or begun_at) if retry else so_far.retry_begun_at,
        )

    def _note_closing(self) -> None:
        self.closings += 1
        self._found_open_at_s = float("-inf")

    async def _failed(self, failure: Failure) -> None:
        newest = self._answers.retry_begun_at if failure.retry else self._answers.begun_at
        if newest and failure.begun_at < newest:
            return  # it hung for a while, and the API has answered since: old news
        heard = await self._report(failure)
        if heard is not Heard.OPEN:
            self._note_closing()
        if heard is Heard.CLOSED:
            self._log.error(
                "api_down",
                reason=failure.reason,
                detail=failure.detail,
                next="no retry is sent and no attempt is spent; the API is probed until it answers",
            )

    async def _report(self, failure: Failure | None) -> Heard:
        told = self._answers
        self._answers = replace(told, calls=0, retries=0)
        try:
            return await self._ledger.gate.report(told, failure, _RULE)
        except LedgerError:
            so_far = self._answers
            self._answers = replace(
                so_far, calls=so_far.calls + told.calls, retries=so_far.retries + told.retries
            )
            raise

    async def _suspend(self, reason: str, detail: str, http_status: int | None) -> None:
        self._note_closing()
        if await self._ledger.gate.suspend(reason, detail, KEY_FIRST_PROBE_IN, KEY_LONGEST_PAUSE):
            self._log.error(
                "worker_suspended",
                reason=reason,
                detail=detail,
                http_status=http_status,
                next="no retry is sent and no attempt is spent; the API is probed until it accepts the key",
                cure="check KINETIC_API_KEY and its permissions",
            )

    async def _pause(self, reason: str, duration: timedelta, http_status: int | None) -> None:
        self._note_closing()
        if await self._ledger.gate.pause(reason, duration):
            self._log.warning(
                "calls_paused", reason=reason, http_status=http_status, duration=duration.total_seconds()
            )


def _is_not_found(delivery: Delivery) -> bool:
    return isinstance(delivery, Refused) and delivery.http_status == _NOT_FOUND
