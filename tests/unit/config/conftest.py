"""What the tests of the configuration share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.schema import Settings
from config.settings import SettingsError, load_settings

GOOD = {"KINETIC_BASE_URL": "https://kinetic.example.com", "KINETIC_API_KEY": "key-of-the-tests"}


@pytest.fixture
def load() -> Callable[..., Settings]:
    """Loads settings from a good environment, changed by the given variables; None takes one away."""

    def load_with(env_file: Path | None = None, require_api: bool = True, **changes: str | None) -> Settings:
        environ = {name: text for name, text in (GOOD | changes).items() if text is not None}
        return load_settings(environ, env_file=env_file, require_api=require_api)

    return load_with


@pytest.fixture
def lines(load: Callable[..., Settings]) -> Callable[..., list[str]]:
    """Like `load`, but returns the lines of the error; no lines when there is none."""

    def lines_with(
        env_file: Path | None = None, require_api: bool = True, **changes: str | None
    ) -> list[str]:
        try:
            load(env_file=env_file, require_api=require_api, **changes)
        except SettingsError as error:
            return str(error).split("\n")
        return []

    return lines_with
