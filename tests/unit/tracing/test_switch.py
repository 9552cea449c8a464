"""The switch: nothing is loaded without it, and with it what is missing is said in words."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config import checks
from config.settings import Settings, SettingsError, load_settings
from worker import runtime

ROOT = Path(__file__).parents[3]
ENVIRON = {"KINETIC_BASE_URL": "http://127.0.0.1", "KINETIC_API_KEY": "k"}


def load(**environ: str) -> Settings:
    return load_settings(ENVIRON | environ, env_file=None)


def now() -> datetime:
    return datetime.now(UTC)


def test_without_it_nothing_of_tracing_is_imported() -> None:
    """A worker that does not trace pays nothing, and needs nothing installed.

    (redis-py looks for OpenTelemetry's metrics by itself where that is installed.)
    """
    program = (
        "import sys; from worker import runtime; from config.settings import load_settings; "
        f"config = load_settings({ENVIRON!r}, env_file=None); "
        "assert runtime.tracing(config, None) is None; import worker.engine; "
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'worker.tracing'); "
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_switched_on_without_the_library_the_start_is_refused_with_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line that names the variable and what to install; without the switch nobody asks for it."""
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert load().tracing.enabled is False
    with pytest.raises(SettingsError) as caught:
        load(TRACING_ENABLED="true")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("TRACING_ENABLED: ")
    assert "pip install 'kinetic-retry-worker[tracing]'" in line


def test_a_library_that_is_not_there_at_all_is_missing() -> None:
    """Looking for a module below a missing package raises instead of finding nothing."""
    assert not checks._is_installed("no_such_package.below.it")
    assert checks._is_installed("opentelemetry.exporter.otlp.proto.http")


def test_a_wrong_variable_of_the_library_does_not_stop_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library raises on some; the worker then goes on without spans."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999")
    assert runtime.tracing(load(TRACING_ENABLED="true"), now) is None
