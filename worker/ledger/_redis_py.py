"""Imports redis-py without OpenTelemetry's metrics, which it loads wherever those are installed.

They are not used here, and every command would wait for them (70 ms). To be imported before anything
else imports redis-py; where something did, this changes nothing.
"""

from __future__ import annotations

import importlib
import sys

_UNUSED = "opentelemetry.metrics"

if "redis" not in sys.modules and _UNUSED not in sys.modules:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]  # None makes its import fail, as if it were absent
    try:
        importlib.import_module("redis.asyncio")
    finally:
        del sys.modules[_UNUSED]
