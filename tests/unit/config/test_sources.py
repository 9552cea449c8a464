"""Where values come from: precedence, secret files, `.env`, and names that are not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.schema import Settings

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]


def test_environment_wins_over_env_file(load: Load, tmp_path: Path) -> None:
    """The environment wins, `.env` comes second, the default last; the origins say so."""
    env_file = tmp_path / ".env"
    env_file.write_text("SUBMIT_BATCH=7\nWORKER_CONCURRENCY=3\n# a comment\nexport LOG_LEVEL='debug'\n")
    settings = load(env_file=env_file, SUBMIT_BATCH="9")
    assert (settings.submit.batch, settings.worker.concurrency, settings.log.level) == (9, 3, "DEBUG")
    origins = settings.origins
    assert [origins[name] for name in ("SUBMIT_BATCH", "WORKER_CONCURRENCY", "LOG_FORMAT")] == [
        "environment",
        ".env",
        "default",
    ]


def test_empty_in_the_environment_lets_env_file_through(load: Load, tmp_path: Path) -> None:
    """An empty value counts as not given, unless the empty name of a parameter means "there is none"."""
    env_file = tmp_path / ".env"
    env_file.write_text("SUBMIT_BATCH=7\nKINETIC_LIST_STATUS_PARAM=state\n")
    settings = load(env_file=env_file, SUBMIT_BATCH=" ", KINETIC_LIST_STATUS_PARAM="")
    assert settings.submit.batch == 7
    assert settings.kinetic.listing.status_param == ""


def test_names_in_any_case(load: Load) -> None:
    """Names are found in any case; of two spellings the upper-case one counts."""
    assert load(submit_batch="7").submit.batch == 7
    assert load(submit_batch="7", SUBMIT_BATCH="8", Submit_Batch="9").submit.batch == 8


@pytest.mark.parametrize("name", [".env", "absent.env"])
def test_env_file_may_be_absent(name: str, load: Load, tmp_path: Path) -> None:
    """No file is fine, and so is a directory of that name, as virtual environments have."""
    (tmp_path / ".env").mkdir()
    load(env_file=tmp_path / name)


def test_env_file_is_read_as_it_stands(load: Load, tmp_path: Path) -> None:
    """A key may hold `${…}`, `#` and `=`; nothing is replaced."""
    env_file = tmp_path / ".env"
    env_file.write_text("\ufeffSUBMIT_BATCH=7\r\nKINETIC_API_KEY='a${HOME}#b=c'\r\n", encoding="utf-8")
    settings = load(env_file=env_file, KINETIC_API_KEY=None)
    assert settings.kinetic.api_key.get_secret_value() == "a${HOME}#b=c"
    assert settings.submit.batch == 7


def test_broken_line_in_env_file(lines: Lines, tmp_path: Path) -> None:
    """A line that is no assignment is a problem with its number, and its content is not shown."""
    env_file = tmp_path / ".env"
    env_file.write_text("SUBMIT_BATCH=7\nKINETIC_API_KEY canary\nWATCH_INTERVAL\n")
    assert lines(env_file=env_file) == [
        ".env, line 2: is not NAME=value",
        ".env, line 3: is not NAME=value",
    ]


def test_env_file_that_is_not_text(lines: Lines, tmp_path: Path) -> None:
    """A binary file is one line."""
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert lines(env_file=tmp_path / ".env") == [".env: cannot be read: it is not UTF-8 text"]


def test_wrong_value_in_env_file_says_where(lines: Lines, tmp_path: Path) -> None:
    """The line leads to the file when the value came from it."""
    (tmp_path / ".env").write_text("LOG_FORMAT=xml\n")
    assert lines(env_file=tmp_path / ".env") == ['LOG_FORMAT: got "xml" from .env, takes json or console']


# --- secrets from files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["KINETIC_API_KEY", "REDIS_URL", "CELERY_BROKER_URL"])
def test_secret_from_file(name: str, load: Load, tmp_path: Path) -> None:
    """Each secret can come from a file; the newline at its end does not belong to it."""
    file = tmp_path / "secret"
    file.write_text("redis://:pw@host/1\n")
    settings = load(**{name: None, f"{name}_FILE": str(file)})
    secrets = (settings.kinetic.api_key, settings.redis_url, settings.broker_url)
    assert "redis://:pw@host/1" in [secret.get_secret_value() for secret in secrets]
    assert settings.origins[name] == "file"


def test_secret_given_twice(lines: Lines, tmp_path: Path) -> None:
    """Value and file exclude each other, wherever they are; one line says where both are."""
    (tmp_path / ".env").write_text("KINETIC_API_KEY_FILE=key.txt\n")
    (line,) = lines(env_file=tmp_path / ".env", KINETIC_API_KEY="canary")
    assert line.startswith("KINETIC_API_KEY: KINETIC_API_KEY_FILE is set as well")
    assert "the environment" in line
    assert ".env" in line
    assert "canary" not in line


def test_empty_value_beside_a_file(load: Load, tmp_path: Path) -> None:
    """Compose files hand on empty variables: they do not get in a file's way."""
    (tmp_path / "key").write_text("abc-def")
    settings = load(KINETIC_API_KEY="", KINETIC_API_KEY_FILE=str(tmp_path / "key"))
    assert settings.kinetic.api_key.get_secret_value() == "abc-def"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe canary", "directory"])
def test_unusable_secret_file(content: bytes | str | None, lines: Lines, tmp_path: Path) -> None:
    """A file that cannot be used is one line that names its path, never its content."""
    path = tmp_path / "secret"
    if content == "directory":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    (line,) = lines(KINETIC_API_KEY=None, KINETIC_API_KEY_FILE=str(path))
    assert line.startswith("KINETIC_API_KEY_FILE: ")
    assert str(path) in line
    assert "canary" not in line


def test_wrong_secret_from_file(lines: Lines, tmp_path: Path) -> None:
    """A key with a line break inside is refused without being shown."""
    (tmp_path / "key").write_text("canary\ncanary\n")
    (line,) = lines(KINETIC_API_KEY=None, KINETIC_API_KEY_FILE=str(tmp_path / "key"))
    assert line == "KINETIC_API_KEY: got ***, takes the API key: printable ASCII characters without spaces"


def test_file_name_is_only_for_secrets(lines: Lines) -> None:
    """Other variables have no file; such a name is unknown."""
    assert len(lines(SUBMIT_BATCH_FILE="x")) == 1


# --- names that are not ours -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("KINETIC_TIMOUT", "KINETIC_TIMEOUT"),
        ("KINETIC_APIKEY", "KINETIC_API_KEY"),
        ("KINETIC_API_KEY_FIEL", "KINETIC_API_KEY_FILE"),
        ("RETRY_JITER", "RETRY_JITTER"),
        ("retry_max_attempt", "RETRY_MAX_ATTEMPTS"),
        ("LEDGER_NAMESPACES", "LEDGER_NAMESPACE"),
        ("WORKER_CONCURENCY", "WORKER_CONCURRENCY"),
        ("LOG_LEVL", "LOG_LEVEL"),
    ],
)
def test_misspelt_name(name: str, near: str, lines: Lines) -> None:
    """A near miss is a problem that names the real one; its value, perhaps a secret, is not shown."""
    assert lines(**{name: "canary"}) == [f"{name.upper()}: no variable has this name; did you mean {near}?"]


def test_unknown_name_far_from_all(lines: Lines) -> None:
    """A name under one of our own prefixes is a problem even when nothing is near."""
    (line,) = lines(WATCH_XYZZY_PLUGH_FROTZ="1")
    assert line.startswith("WATCH_XYZZY_PLUGH_FROTZ: no variable has this name")
    assert "did you mean" not in line


@pytest.mark.parametrize(
    "name",
    [
        "LOG_DIR",
        "WORKER_CLASS",
        "WORKER_ID",
        "CELERY_RESULT_BACKEND",
        "REDIS_PASSWORD",
        "PATH",
        "KINETIC_SERVICE_HOST",
        "KINETIC_RETRY_SERVICE_PORT_HTTP",
        "KINETIC_RETRY_PORT",
        "WATCH_PORT_6379_TCP_ADDR",
        "",
    ],
)
def test_names_that_are_left_alone(name: str, load: Load) -> None:
    """Other programs' variables, and those that Kubernetes sets for services, are nobody's mistake."""
    load(**{name: "x"})
