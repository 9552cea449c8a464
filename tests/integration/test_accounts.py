"""Several accounts on one Redis: nothing of one is taken for another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.accounts import keep_apart, two_accounts
from tests.support.redis_server import redis_server


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_two_accounts_share_one_redis_and_nothing_else(tmp_path: Path) -> None:
    """A worker takes no ticks of another namespace's beat, and calls with its own key."""
    with redis_server(appendonly="yes", appendfsync="always") as server:
        client: Any = redis.Redis(port=server.port)
        shared = {"REDIS_URL": f"redis://127.0.0.1:{server.port}/0"}
        with two_accounts(tmp_path, shared) as (north, south):
            keep_apart(north, south, client.llen)
