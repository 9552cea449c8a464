"""Imports redis-py without OpenTelemetry's metrics SDK, which it loads wherever that is installed.

Its metrics are not used here, and every command would wait for them (65 ms). To be imported before anything
else imports redis-py; where something did, this changes nothing.
"""

from __future__ import annotations

import importlib
import sys

_UNUSED = "opentelemetry.sdk.metrics"

if "redis" not in sys.modules and _UNUSED not in sys.modules:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]  # None makes its import fail, as if it were absent
    try:
        importlib.import_module("redis.asyncio")
    finally:
        del sys.modules[_UNUSED]
