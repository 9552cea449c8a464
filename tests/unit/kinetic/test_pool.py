"""How connections are shared out among clients."""

from __future__ import annotations

import httpx
import pytest

from worker.kinetic.pool import CONNECTIONS_PER_CLIENT, ConnectionPool


@pytest.mark.parametrize("total", [1, 9, 10, 11, 50, 99, 100])
def test_the_shares_add_up_and_none_is_too_large(total: int) -> None:
    """No client holds more than the size at which httpx's pool is still fast."""
    pool = ConnectionPool(total, headers={}, timeout=httpx.Timeout(1))
    sizes = [shard.size for shard in pool._shards]
    assert sum(sizes) == total
    assert max(sizes) <= CONNECTIONS_PER_CLIENT
    assert max(sizes) - min(sizes) <= 1


def test_one_tls_context_for_all() -> None:
    """Building one costs 20 ms: clients and pools of a process share it."""
    pools = [ConnectionPool(30, headers={}, timeout=httpx.Timeout(1)) for _ in range(2)]
    contexts = {id(shard.client._transport._pool._ssl_context) for pool in pools for shard in pool._shards}  # type: ignore[attr-defined]  # looks inside httpx
    assert len(contexts) == 1
