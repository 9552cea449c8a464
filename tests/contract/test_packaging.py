"""The files that bring the worker to a machine agree with each other and with the configuration.

Read as text; `make image-check` runs the image and the compose file for real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config.catalog import VARIABLES
from config.durations import parse_duration
from config.settings import load_settings

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")

NEEDED = {"KINETIC_BASE_URL": "https://kinetic.example.com", "KINETIC_API_KEY_FILE": "/secrets/key"}
ROLES = ("worker", "beat")
COMPOSE_ONLY = {"IMAGE", "REDIS_IMAGE", "STOP_GRACE_PERIOD"}


# --- Lock files ---


def locked(name: str) -> dict[str, str]:
    """Return package → version. Fails on a line that is neither a pinned package nor a hash."""
    versions: dict[str, str] = {}
    for entry in re.sub(r"\\\n\s*", "", (ROOT / name).read_text()).splitlines():
        pinned = re.fullmatch(
            r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(\S+)(?: ; [^\\]+?)?(?: --hash=sha256:[0-9a-f]{64})+", entry
        )
        assert pinned, f"{name}: {entry[:100]}"
        versions[pinned[1]] = pinned[2]
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_versions_by_hash_and_name_no_host(name: str) -> None:
    """Whatever index a machine uses, the same bytes are installed."""
    assert len(locked(name)) > 5
    assert "://" not in (ROOT / name).read_text()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-build.lock"])
def test_what_is_shipped_is_what_is_tested(name: str) -> None:
    """The development lock has the same version of every package that the image is made from."""
    tested = locked("requirements-dev.lock")
    assert {package: tested.get(package) for package in locked(name)} == locked(name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("requirements.lock", PYPROJECT["project"]["dependencies"]),
        ("requirements-build.lock", PYPROJECT["build-system"]["requires"]),
        ("requirements-dev.lock", PYPROJECT["project"]["optional-dependencies"]["demo"]),
        ("requirements-dev.lock", PYPROJECT["dependency-groups"]["dev"]),
    ],
)
def test_locks_satisfy_the_project(name: str, wanted: list[str]) -> None:
    """A dependency that is changed without `make lock` is noticed."""
    versions = locked(name)
    requirements = [Requirement(each) for each in wanted]
    unmet = [
        str(each)
        for each in requirements
        if versions.get(canonicalize_name(each.name), "-1") not in each.specifier
    ]
    assert unmet == []


# --- Dockerfile ---


class Instruction(NamedTuple):
    keyword: str
    value: str


def dockerfile() -> list[list[Instruction]]:
    """Return the stages; what stands before the first `FROM` is dropped."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword == "FROM":
            stages.append([])
        if keyword and stages:
            stages[-1].append(Instruction(keyword, value))
    return stages


def values(stage: list[Instruction], keyword: str) -> list[str]:
    return [each.value for each in stage if each.keyword == keyword]


def procfile() -> dict[str, list[str]]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {role: command.split() for role, _, command in (line.partition(": ") for line in lines)}


def test_both_stages_have_the_same_slim_base() -> None:
    """An environment only runs on the interpreter it was made with; the version is chosen once."""
    stages = dockerfile()
    assert [values(stage, "FROM")[0].split(" AS ")[0] for stage in stages] == [
        "python:${PYTHON_VERSION}-slim"
    ] * 2
    version = re.search(r"^ARG PYTHON_VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert version
    assert version[1] in PYPROJECT["project"]["requires-python"]


def test_the_image_installs_by_hash_only() -> None:
    """Nothing comes into the image that the lock files do not name."""
    installs = [
        part.strip()
        for value in values(dockerfile()[0], "RUN")
        for part in value.split("&&")
        if re.search(r"pip\b.* (install|wheel) ", part)
    ]
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command, command


def test_the_final_stage_takes_the_environment_and_nothing_else() -> None:
    """No pip setting, source tree or build tool ends up in the image."""
    final = dockerfile()[-1]
    assert [value.split()[0] for value in values(final, "COPY")] == ["--from=build"]
    assert values(final, "ADD") == []
    assert values(final, "ARG") == []
    text = " ".join(value for _, value in final)
    assert not re.search(r"PIP_|\bpip\b|apt-get", text)


def test_the_image_runs_as_a_fixed_unprivileged_user() -> None:
    """The user is a number, because only a number can be checked by what runs the image."""
    (user,) = values(dockerfile()[-1], "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_the_image_hears_signals_and_says_how_it_is() -> None:
    """Exec forms, so that SIGTERM reaches the worker and no shell stands between."""
    final = dockerfile()[-1]
    assert json.loads(values(final, "ENTRYPOINT")[0]) == ["kinetic-retry"]
    assert json.loads(values(final, "CMD")[0]) == ["worker"]
    assert values(final, "STOPSIGNAL") == ["SIGTERM"]
    (health,) = values(final, "HEALTHCHECK")
    assert json.loads(health[health.index("[") :]) == ["kinetic-retry", "health", "worker"]
    assert "PYTHONUNBUFFERED=1" in " ".join(values(final, "ENV"))


def test_the_build_sees_only_what_it_copies() -> None:
    """A secret, a history or a cache beside the Dockerfile is never sent to the builder."""
    copied = {
        name
        for value in values(dockerfile()[0], "COPY")
        for name in value.split()[:-1]
        if not name.startswith("-")
    }
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


# --- Compose file ---


def resolved(text: str, environ: Mapping[str, str]) -> str:
    """Replace `${NAME…}` as compose does; an empty variable counts as missing in all forms used here."""

    def value(found: re.Match[str]) -> str:
        name, operator, argument = found.groups()
        given = environ.get(name, "")
        if operator == ":?" and not given:
            raise KeyError(f"{name} {argument}")
        if operator == ":+":
            return argument if given else ""
        return given or (argument if operator == ":-" else "")

    return re.sub(r"\$\{(\w+)(:[-?+])?([^}]*)\}", value, text)


def compose(**environ: str) -> dict[str, Any]:
    """Return the compose file as it is with these variables set beside the needed ones."""

    def walk(node: Any) -> Any:
        match node:
            case dict():
                return {name: walk(value) for name, value in node.items()}
            case list():
                return [walk(value) for value in node]
            case str():
                return resolved(node, NEEDED | environ)
            case _:
                return node

    whole: dict[str, Any] = walk(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return whole


@pytest.mark.parametrize("missing", sorted(NEEDED))
def test_compose_says_what_it_needs(missing: str) -> None:
    """Without an address or a key nothing is started."""
    with pytest.raises(KeyError, match=f"{missing} is missing"):
        compose(**{missing: ""})


@pytest.mark.parametrize("role", ROLES)
def test_compose_runs_the_commands_of_the_procfile(role: str) -> None:
    """A role is started in the same way wherever it runs."""
    entrypoint = json.loads(values(dockerfile()[-1], "ENTRYPOINT")[0])
    service = compose()["services"][role]
    assert sorted(procfile()) == sorted(ROLES)
    assert "entrypoint" not in service
    # A shell that stayed between would keep the signals from Celery.
    assert ["exec", *entrypoint, *service["command"]] == procfile()[role]
    assert service["healthcheck"]["test"] == ["CMD", "kinetic-retry", "health", role]


@pytest.mark.parametrize("role", [*ROLES, "redis"])
def test_services_have_no_privileges(role: str) -> None:
    """Nothing can be written but what is meant to be, and no right can be gained."""
    service = compose()["services"][role]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") in (None, "redis")
    assert "privileged" not in service
    assert service["restart"] == "unless-stopped"
    assert "ports" not in service


def test_any_number_of_workers_can_run_beside_one_beat() -> None:
    """Nothing of a worker exists only once on its host."""
    services = compose()["services"]
    assert set(services) == {*ROLES, "redis", "serve"}
    assert services["serve"]["profiles"] == ["metrics"]
    assert not {"container_name", "hostname", "ports", "network_mode"} & set(services["worker"])
    for role in ROLES:
        assert services[role]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_a_stopped_worker_may_finish_its_calls() -> None:
    """The grace is longer than the longest batch, which the lease bounds, and can be made longer."""
    lease = parse_duration(VARIABLES["SUBMIT_LEASE"].default)
    assert parse_duration(compose()["services"]["worker"]["stop_grace_period"]) > lease
    assert compose(STOP_GRACE_PERIOD="10m")["services"]["worker"]["stop_grace_period"] == "10m"


def test_redis_keeps_what_it_was_told() -> None:
    """The intent is on disk before a call leaves, nothing is evicted, and no one else gets in."""
    whole = compose()
    redis = whole["services"]["redis"]
    for flag in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert flag in redis["command"]
    assert redis["volumes"] == ["ledger:/data"]
    assert "ledger" in whole["volumes"]
    assert redis["networks"] == ["ledger"]
    assert whole["networks"]["ledger"]["internal"] is True
    assert "redis-cli" in redis["healthcheck"]["test"]


def test_every_variable_can_be_set() -> None:
    """A new variable is not forgotten here. The broker is the ledger's Redis; the key comes as a file."""
    given = {name for name in compose()["x-settings"] if not name.startswith("OTEL_")}
    as_files = {"KINETIC_API_KEY", "ALERT_URLS"}
    fixed = {"CELERY_BROKER_URL", "SERVE_HOST", "SERVE_PORT"}
    assert given == {*VARIABLES} - as_files - fixed | {f"{name}_FILE" for name in as_files}
    assert {"SERVE_HOST", "SERVE_PORT"} <= set(compose()["services"]["serve"]["environment"])


def test_no_secret_is_in_an_environment() -> None:
    """An environment is shown by every inspection: the key is mounted as a file."""
    whole = compose()
    for role in ROLES:
        service = whole["services"][role]
        assert service["secrets"] == ["kinetic_api_key"]
        assert "KINETIC_API_KEY" not in service["environment"]
        assert service["environment"]["KINETIC_API_KEY_FILE"] == "/run/secrets/kinetic_api_key"
    assert whole["secrets"] == {"kinetic_api_key": {"file": NEEDED["KINETIC_API_KEY_FILE"]}}


def test_the_worker_starts_with_the_environment_it_is_given(tmp_path: Path) -> None:
    """The settings of a container are read without a complaint, and have what compose says."""
    environment = {name: value for name, value in compose()["x-settings"].items() if value is not None}
    key = tmp_path / "key"
    key.write_text("the-key\n")
    settings = load_settings(environment | {"KINETIC_API_KEY_FILE": str(key)}, env_file=None)
    assert settings.kinetic.api_key.get_secret_value() == "the-key"
    assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"
    assert settings.retry.policy_file is None


@pytest.mark.parametrize(
    ("variable", "inside"),
    [
        ("RETRY_POLICY_FILE", "/etc/kinetic-retry/policies.toml"),
        ("ALERT_URLS_FILE", "/run/secrets/alert_urls"),
    ],
)
def test_a_file_is_mounted_when_there_is_one(variable: str, inside: str) -> None:
    """The variable names the host's file; in the container it is always in the same place."""
    worker = compose(**{variable: "./mine"})["services"]["worker"]
    assert f"./mine:{inside}:ro" in worker["volumes"]
    assert worker["environment"][variable] == inside
    assert compose()["services"]["worker"]["environment"][variable] == ""


def test_one_env_file_serves_compose_and_the_command_line(tmp_path: Path) -> None:
    """What only compose reads is not taken for a misspelt setting."""
    text = (ROOT / "docker-compose.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used - set(compose()["x-settings"]) == COMPOSE_ONLY
    env_file = tmp_path / ".env"
    env_file.write_text("".join(f"{name}=anything\n" for name in COMPOSE_ONLY))
    load_settings({}, env_file=env_file, require_api=False)


# --- Makefile and CI ---


def make(*arguments: str, at: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=at,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_make_explains_every_target() -> None:
    """A target without a word about it is not found by anyone."""
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    explained = dict(re.findall(r"^  ([a-z-]+) +(\S.+)$", make().stdout, re.MULTILINE))
    assert set(explained) == set(phony[1].split())


@pytest.fixture
def clean_clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def old_python(directory: Path) -> Path:
    script = directory / "python3.9"
    script.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("interpreter", "said"),
    [
        (lambda _: "no-such-python", 'There is no "no-such-python" here. Python 3.11 or newer is needed'),
        (old_python, "is Python 3.9.2; 3.11 or newer is needed"),
    ],
)
def test_make_asks_for_a_python_that_is_new_enough(
    clean_clone: Path, interpreter: Callable[[Path], str | Path], said: str
) -> None:
    """The first obstacle of a newcomer is named, with the way around it."""
    done = make("test", f"PYTHON={interpreter(clean_clone)}", at=clean_clone)
    assert done.returncode != 0
    assert said in done.stderr
    assert "make PYTHON=/path/to/python3.11" in done.stderr
    assert not (clean_clone / ".venv").exists()


def test_ci_runs_every_check_in_order() -> None:
    """CI checks what `make check` checks and the wheel, stops at the first failure, ends with the tests."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "set -euo pipefail" in text
    steps = re.findall(r"^(?:exec )?make (.+)$", text, re.MULTILINE)
    checks = re.search(r"^check: (.+?) ##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert checks
    assert set(checks[1].split()) < set(" ".join(steps).split())
    assert steps[-1] == "test"
