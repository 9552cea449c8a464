"""What people write first: a Celery task for each failed execution, a sync httpx client, the result in Redis.

It keeps no record of what it is about to do and cannot tell a lost answer from a lost call: a worker that is
killed sends again, or never. One client per process, as the guides advise. Run by `benchmarks.speed.retries`:
`celery -A benchmarks.baseline worker`, with `BASELINE_API` and `BASELINE_REDIS` in its environment.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import httpx
from celery import Celery

REDIS = os.environ.get("BASELINE_REDIS", "redis://127.0.0.1:6379/0")
API = os.environ.get("BASELINE_API", "http://127.0.0.1:8000")

app = Celery("baseline", broker=REDIS, backend=REDIS)
app.conf.update(worker_prefetch_multiplier=4, task_serializer="json", result_serializer="json")


@cache
def client() -> httpx.Client:
    """Return this process's client."""
    return httpx.Client(base_url=API, headers={"X-Kinetic-Key": "bench"}, timeout=30)


@app.task(autoretry_for=(httpx.HTTPError,), retry_backoff=True, max_retries=5)  # type: ignore[untyped-decorator]  # Celery has no types
def retry(execution: str) -> Any:
    """Retry one execution; the clone is the result."""
    answer = client().post(f"/api/executions/{execution}/retry")
    answer.raise_for_status()
    return answer.json()
