"""Masks: what is hidden, and that hiding cannot be talked out of it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.redaction import Redactor, clipped, mask_url, printable, url_secrets

passwords = st.text(min_size=4, max_size=30).filter(lambda text: not set(text) & set("*"))


@given(passwords, st.sampled_from(["redis", "rediss", "sentinel", "unix", "x"]))
def test_no_password_survives(password: str, scheme: str) -> None:
    """Whatever characters a password has, escaped or not, the shown URL does not depend on it."""
    for text in (password, quote(password, safe="")):
        assert mask_url(f"{scheme}://:{text}@host:6379/0").endswith(":***@host:6379/0")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host", "redis://***@host"),
        ("redis://:a;b@host", "redis://:***@host"),
        ("redis://:a;x://b@host", "redis://:a;x://***@host"),
        ("redis://h?password=x&db=1&ssl_password=y", "redis://h?password=***&db=1&ssl_password=***"),
        ("redis://h?db=1", "redis://h?db=1"),
        (":password@host", "***"),
        ("", "***"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    """Only credentials are hidden; text that is no URL is hidden whole."""
    assert mask_url(url) == shown


def test_secrets_of_a_url() -> None:
    """Passwords are found as written and decoded; a user name is no secret."""
    assert url_secrets("redis://default:p%2Fw@h?password=q") == ("p%2Fw", "p/w", "q")
    assert url_secrets("redis://default@h") == ()


@given(st.text(min_size=4, max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_redactor_finds_every_spelling(secret: str, before: str, after: str) -> None:
    """As it is, escaped for a URL, or inside a repr: the secret is replaced."""
    redact = Redactor([secret])
    for spelling in (secret, quote(secret, safe=""), repr([secret])):
        assert redact.text(before + spelling + after) != before + spelling + after or secret in "***"


def test_redactor_reaches_into_values() -> None:
    """Keys and elements of nested values are redacted; what is too short is not looked for."""
    redact = Redactor(["canary", "abc"])
    assert redact.value([{"canary": ["the canary", 1, None]}, "abc"]) == [
        {"***": ["the ***", 1, None]},
        "abc",
    ]
    assert "canary" not in repr(redact)


def test_the_longest_secret_counts() -> None:
    """Of two secrets that start alike nothing is left over."""
    assert Redactor(["canary", "canary-long"]).text("canary-long") == "***"


@given(st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Lu"])))
def test_printable_is_printable(text: str) -> None:
    """Nothing that acts on a terminal, or cannot be encoded, is left."""
    assert printable(text).isprintable()
    printable(text).encode("utf-8")


def test_clipped_says_how_long_it_was() -> None:
    """A cut value is recognised as one."""
    assert clipped("x" * 100, 3) == "xxx… (100 characters)"
