"""The generated documents are in step with the fields, and what they show works."""

from __future__ import annotations

import re
from pathlib import Path

from config.catalog import VARIABLES
from config.reference import configuration_page, env_example
from config.settings import load_settings

ROOT = Path(__file__).parents[3]


def test_configuration_page_is_in_step() -> None:
    """docs/configuration.md is what `python -m config.reference` prints."""
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == configuration_page()


def test_env_example_is_in_step() -> None:
    """.env.example is what `python -m config.reference --env-example` prints."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == env_example()


def test_page_has_a_row_for_every_variable() -> None:
    """Every variable has exactly one row, with what it takes and what it does."""
    rows = [line for line in configuration_page().splitlines() if re.match(r"\| `[A-Z]", line)]
    assert [re.findall(r"`([A-Z_]+)`", row)[0] for row in rows] == list(VARIABLES)
    assert all(len(row.split(" | ")) == 4 for row in rows)


def test_example_with_everything_switched_on_is_the_default(tmp_path: Path) -> None:
    """Taking the comment signs away changes nothing: the defaults shown are the defaults in force."""
    switched_on = re.sub(r"^# (?=[A-Z_]+=)", "", env_example(), flags=re.MULTILINE)
    env_file = tmp_path / ".env"
    env_file.write_text(switched_on, encoding="utf-8")
    names = re.findall(r"^([A-Z_]+)=", switched_on, flags=re.MULTILINE)
    assert names[:3] == ["KINETIC_BASE_URL", "KINETIC_API_KEY", "REDIS_URL"]
    assert sorted(names) == sorted(VARIABLES)
    environ = {"KINETIC_BASE_URL": "https://h", "KINETIC_API_KEY": "k"}
    shown, default = (load_settings(environ, env_file=file) for file in (env_file, None))
    assert shown.model_copy(update={"origins": {}}) == default.model_copy(update={"origins": {}})


def test_the_policy_file_shown_works(tmp_path: Path) -> None:
    """The example in the page loads and does what its comments say."""
    (example,) = re.findall(r"```toml\n(.*?)```", configuration_page(), flags=re.DOTALL)
    path = tmp_path / "policies.toml"
    path.write_text(example, encoding="utf-8")
    environ = {"RETRY_POLICY_FILE": str(path)}
    policies = load_settings(environ, env_file=None, require_api=False).policies
    assert policies.for_workflow("u", "Eligibility of a member")[0].max_attempts == 8
    assert policies.for_workflow("wf-7f3c", "")[0].enabled is False
