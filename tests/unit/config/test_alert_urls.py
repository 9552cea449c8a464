"""`ALERT_URLS`: what it takes, and that nothing of it is ever shown."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from config import checks
from config.catalog import rows
from config.logging import configure_logging
from config.schema import Settings

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]
SLACK, MAIL = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "mailto://me:s3cret!@example.com"


def test_several_addresses_also_from_a_file(load: Load, tmp_path: Path) -> None:
    """Separated by commas, blanks or lines; a file of secrets does as well."""
    assert load().alert.addresses == ()
    assert load(ALERT_URLS=f"{SLACK}, {MAIL}").alert.addresses == (SLACK, MAIL)
    file = tmp_path / "urls"
    file.write_text(f"{SLACK}\n{MAIL}\n")
    assert load(ALERT_URLS_FILE=str(file)).alert.addresses == (SLACK, MAIL)


@pytest.mark.parametrize("text", ["ops@example.com", "opsroom", f"{SLACK} nonsense"])
def test_what_is_no_address_is_refused_without_being_shown(text: str, lines: Lines) -> None:
    """The complaint names the variable and what it takes, and nothing of what it got."""
    (line,) = lines(ALERT_URLS=text)
    assert line.startswith("ALERT_URLS: got ***, takes addresses as Apprise spells them")
    assert text not in line


@pytest.mark.parametrize("text", ["kinetic.example.com", "https://k/{uuid}", "javascript:x", "https://k/{0}"])
def test_what_is_no_link_is_refused(text: str, lines: Lines) -> None:
    """A placeholder that nobody fills would be a dead link in the middle of a night."""
    (line,) = lines(ALERT_LINK=text)
    assert line.startswith("ALERT_LINK: ")


def test_nothing_of_an_address_is_shown(load: Load) -> None:
    """Neither by `config`, nor by a log line that quotes an address or a part of it."""
    settings = load(ALERT_URLS=f"{SLACK} {MAIL}")
    shown = {row.variable: row.value for row in rows(settings)}["ALERT_URLS"]
    assert shown == "***"
    out = io.StringIO()
    configure_logging("INFO", "json", out, secrets=settings.secrets)
    for text in (SLACK, MAIL, "/T1JJ3T3L2/A1BRTD4JD/", "TIiajkdnlazkcOXrIdevi7FQ", "password s3cret!"):
        logging.getLogger("x").error("it was %s", text)
    for secret in ("T1JJ3T3L2", "A1BRTD4JD", "TIiajkd", "s3cret"):
        assert secret not in out.getvalue()


def test_without_apprise_the_start_is_refused_in_words(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who set addresses expects to be told: silence would be the worst answer."""
    monkeypatch.setattr(checks, "_is_installed", lambda module: module != "apprise")
    (line,) = lines(ALERT_URLS=SLACK)
    assert "ALERT_URLS" in line
    assert "kinetic-retry-worker[alerts]" in line
    assert "T1JJ3T3L2" not in line
    assert lines() == []
