"""A bare loop: httpx and nothing else: `python -m benchmarks.speed.bare URL COUNT AT_ONCE`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid

import httpx

AT_ONCE = (1, 2, 5, 10)
"""Its speed falls with more: its pool walks all connections several times per request."""


def best_of_bare(url: str, count: int) -> float:
    """Return the requests per second of a bare loop at its best concurrency, each in a process of its own."""
    return max(_run(url, count, at_once) for at_once in AT_ONCE)


def _run(url: str, count: int, at_once: int) -> float:
    words = [sys.executable, "-m", "benchmarks.speed.bare", url, str(count), str(at_once)]
    return float(subprocess.check_output(words, text=True))


async def _loop(url: str, count: int, at_once: int) -> float:
    limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    executions = iter([str(uuid.uuid4()) for _ in range(count)])
    async with httpx.AsyncClient(limits=limits, headers={"X-Kinetic-Key": "bench"}) as client:

        async def send() -> None:
            for execution in executions:
                answer = await client.post(f"{url}/api/executions/{execution}/retry")
                answer.raise_for_status()
                answer.json()

        began_s = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(at_once)))
        return count / (time.perf_counter() - began_s)


if __name__ == "__main__":
    print(asyncio.run(_loop(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
