"""Reads the end of a failed run's log, wherever it is kept, within narrow bounds.

Owns what may be asked, how much is read, and who sees the key. A log is an extra: whatever goes wrong here
must not hold up a retry, so nothing is raised and each reading ends within ten seconds. The text may hold
patient data: it is handed to the caller and to nobody else; what is told of a reading is a reason, and never
an address, since those may carry signatures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote

import httpx
from httpx import codes

from worker.domain.executions import Execution
from worker.domain.logs import log_text
from worker.kinetic.body import ACCEPT_ENCODING
from worker.kinetic.exchange import Answer, NoAnswerError, Patience, exchange
from worker.kinetic.log_places import LogPlaces, RefusedPlaceError
from worker.kinetic.options import Endpoint
from worker.kinetic.pool import ConnectionPool
from worker.kinetic.wire import usable_uuid

TAIL_BYTES = 256 * 2**10
MAX_LOG_BYTES = 4 * 2**20
"""Of a log whose end alone cannot be had; decoded bytes, so a small answer cannot inflate to a large one."""
MAX_REDIRECTS = 3
TOTAL_S = 10.0
_CONNECTIONS = 10
_LEAKED_S = 0.25
_UUID = "{execution_uuid}"
_PAGES = ("text/html", "application/xhtml+xml")

Tell = Callable[[str, str], None]
"""Takes an execution's uuid and why its log was not read."""


@dataclass(frozen=True, slots=True)
class LogSource:
    """Where this deployment keeps logs.

    Attributes:
        mode: `url` follows the execution's `logs_url`; `path` asks the API itself.
        path: for `path`: below the base URL, with `{execution_uuid}` in it.
        hosts: for `url`: where an address may point to besides the API, see `KINETIC_LOGS_HOSTS`.

    Raises:
        ValueError: the path has no place for the uuid.
    """

    mode: Literal["url", "path"]
    path: str = "/api/executions/{execution_uuid}/logs"
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if _UUID not in self.path:
            raise ValueError(f"path must hold {_UUID}")


class _NotReadError(Exception):
    """There is no log to be had; `str()` is the reason."""


class LogReader:
    """Reads logs of one deployment. Belongs to one event loop; safe for concurrent use there.

    Args:
        endpoint: where the API is, and the key, which is sent to its own origin only.
        source: see `LogSource`.
        now: the worker's clock, aware UTC.
        tell: called once for each log that was not read.
    """

    def __init__(
        self, endpoint: Endpoint, source: LogSource, *, now: Callable[[], datetime], tell: Tell
    ) -> None:
        self._base = endpoint.base_url.rstrip("/")
        self._key = endpoint.api_key
        self._source = source
        self._places = LogPlaces(endpoint.base_url, source.hosts)
        self._now = now
        self._tell = tell
        self._timeout = httpx.Timeout(
            TOTAL_S, connect=endpoint.connect_timeout.total_seconds(), pool=_LEAKED_S
        )
        self._pools: dict[tuple[bool, bool], ConnectionPool] = {}

    async def tail(self, execution: Execution) -> str | None:
        """Return the last part of an execution's log, or None when there is none to be had. Raises nothing.

        Returns:
            Text with one line per line; see `worker.domain.logs.log_text`. Not to be kept, logged or shown.
        """
        try:
            async with asyncio.timeout(TOTAL_S):
                return await self._read(execution)
        except (_NotReadError, RefusedPlaceError) as refusal:
            reason = str(refusal)
        except NoAnswerError as failure:
            reason = failure.reason
        except TimeoutError:
            reason = f"not within {TOTAL_S:g} s"
        except Exception as error:  # noqa: BLE001  # strangers' answers: the retry must go on without the log
            reason = f"unexpected {type(error).__name__}"  # its text could quote an address
        self._tell(execution.uuid, reason)
        return None

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()

    async def _read(self, execution: Execution) -> str:
        answer = await self._fetch(self._address_of(execution))
        if answer.status == codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return ""  # there is no byte to be had: the log is empty
        if not codes.is_success(answer.status):
            raise _NotReadError(f"http_{answer.status}")
        if answer.lost:
            raise _NotReadError(answer.lost)
        # A sign-in page speaks of credentials, too: it would pass for the log of a run that failed to log in.
        if answer.headers.get("content-type", "").partition(";")[0].strip().lower() in _PAGES:
            raise _NotReadError("a web page instead of a log")
        return log_text(answer.body[-TAIL_BYTES:], cut=_is_cut(answer))

    def _address_of(self, execution: Execution) -> str:
        if self._source.mode == "url":
            if not execution.logs_url:
                raise _NotReadError("the execution has no logs_url")
            return execution.logs_url
        if not usable_uuid(execution.uuid):
            raise _NotReadError("the execution's uuid cannot be put into a URL")
        path = self._source.path.replace(_UUID, quote(execution.uuid, safe=""))
        return f"{self._base}/{path.lstrip('/')}"

    async def _fetch(self, address: str) -> Answer:
        """Return the answer at the end of at most three redirects, each checked as the first address was."""
        url = self._places.check(address)
        keyed = True
        for _ in range(MAX_REDIRECTS + 1):
            # Once dropped, the key stays dropped: another host must not choose what we ask with it.
            keyed = keyed and self._places.is_own(url)
            answer = await self._ask(url, keyed=keyed)
            location = answer.headers.get("location", "")
            if not codes.is_redirect(answer.status) or not location:
                return answer
            url = self._places.check(location, url)
        raise _NotReadError("too many redirects")

    async def _ask(self, url: httpx.URL, *, keyed: bool) -> Answer:
        """Ask for the end of a log; for all of it where the server cannot cut, or cut what it compressed."""
        answer = await self._get(url, keyed=keyed, end_only=True)
        cut_in_vain = answer.status == codes.PARTIAL_CONTENT and "content-encoding" in answer.headers
        if cut_in_vain or answer.status == codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            answer = await self._get(url, keyed=keyed, end_only=False)
        return answer

    async def _get(self, url: httpx.URL, *, keyed: bool, end_only: bool) -> Answer:
        return await exchange(
            self._pool(keyed=keyed, end_only=end_only),
            "GET",
            str(url),
            patience=Patience(to_send=TOTAL_S, after_sent=TOTAL_S, total=TOTAL_S),
            max_body_bytes=MAX_LOG_BYTES,
            now=self._now,
        )

    def _pool(self, *, keyed: bool, end_only: bool) -> ConnectionPool:
        """Return the connections for one kind of question: a pool sends the same headers each time."""
        kind = (keyed, end_only)
        if kind not in self._pools:
            headers = {"User-Agent": "kinetic-retry-worker", "Accept": "*/*"}
            # A range is of the encoded bytes, and the end of a gzip stream cannot be read without its start.
            headers |= (
                {"Accept-Encoding": "identity", "Range": f"bytes=-{TAIL_BYTES}"}
                if end_only
                else {"Accept-Encoding": ACCEPT_ENCODING}
            )
            headers |= {"X-Kinetic-Key": self._key} if keyed else {}
            self._pools[kind] = ConnectionPool(_CONNECTIONS, headers=headers, timeout=self._timeout)
        return self._pools[kind]


def _is_cut(answer: Answer) -> bool:
    """Whether something came before what we keep."""
    starts_at_zero = answer.headers.get("content-range", "").replace(" ", "").lower().startswith("bytes0-")
    partial = answer.status == codes.PARTIAL_CONTENT and not starts_at_zero
    return partial or len(answer.body) > TAIL_BYTES
