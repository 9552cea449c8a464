"""What the addresses answer: metrics in the format that was asked for, liveness and readiness.

Owns words and status codes; how they travel is `http`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as PrometheusCollector

from worker.serve.collector import Taken
from worker.serve.families import families
from worker.serve.shapes import gauge

TEXT = "text/plain; charset=utf-8"
INDEX = """\
kinetic-retry serve
/metrics  for Prometheus; docs/metrics.md explains them
/healthz  this process lives
/readyz   the ledger answers and can be read
"""


class Answer(NamedTuple):
    """What goes back over HTTP."""

    status: int
    body: bytes
    content_type: str = TEXT


def words(status: int, text: str) -> Answer:
    """Return an answer of one line."""
    return Answer(status, f"{text}\n".encode())


def metrics(taken: Taken, accept: str, *, most_workflows: int, version: str) -> Answer:
    """Return the metrics; without the ledger those of this process alone, and that it was not reached."""
    encode, content_type = choose_encoder(accept)
    return Answer(200, encode(_Exposition(taken, most_workflows, version)), content_type)


def ready(taken: Taken) -> Answer:
    """Return 200 when the ledger answers and can be read, else 503 with the reason."""
    return words(200, "ready") if taken.is_readable else words(503, taken.trouble)


class _Exposition(PrometheusCollector):
    """What one scrape shows."""

    def __init__(self, taken: Taken, most_workflows: int, version: str) -> None:
        self._taken = taken
        self._most_workflows = most_workflows
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Yield the families in their order."""
        taken = self._taken
        yield gauge("build_info", "1, with the version.", ["version"], [((self._version,), 1)])
        text = "1 when Redis answered this scrape."
        yield gauge("ledger_up", text, values=[((), float(taken.answered))])
        text = "1 when this version can read the ledger: no newer worker has written it."
        yield gauge("ledger_readable", text, values=[((), float(taken.is_readable))])
        text = "How long it took to ask the ledger for this scrape."
        yield gauge("collect_duration_seconds", text, values=[((), taken.took_s)])
        if taken.snapshot:
            yield from families(taken.snapshot, self._most_workflows)
        yield from _PROCESS.collect()


_PROCESS = ProcessCollector(registry=None)
