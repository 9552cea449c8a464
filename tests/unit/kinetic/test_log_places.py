"""Which addresses logs may be read from: what is allowed is listed, and everything else is refused."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.kinetic.log_places import AllowedHost, LogPlaces, RefusedPlaceError

BASE = "https://kinetic.example.com:8443/kinetic"
PLACES = LogPlaces(
    BASE, ("logs.example.net", "*.storage.example.org", "minio.internal:9000", "127.0.0.1:9001")
)

ALLOWED = [
    "https://kinetic.example.com:8443/logs/1",
    "HTTPS://KINETIC.example.com:8443/",
    "https://logs.example.net/a?X-Amz-Signature=1",
    "https://logs.example.net:443/",
    "https://a.storage.example.org/",
    "https://a.b.storage.example.org/",
    "https://minio.internal:9000/",
    "http://127.0.0.1:9001/log",
]
REFUSED = [
    # Another scheme, host or port than what was named.
    "http://kinetic.example.com:8443/",
    "https://kinetic.example.com/",
    "http://logs.example.net/",
    "http://logs.example.net:443/",
    "https://logs.example.net:8443/",
    "https://storage.example.org/",
    "https://xstorage.example.org/",
    "https://a.storage.example.org.evil.example/",
    "https://evil.example/?logs.example.net",
    "https://logs.example.net.evil.example/",
    "https://logs.example.net./",
    "https://minio.internal/",
    "http://minio.internal:9000/",
    # This machine, its neighbours, the cloud's metadata, in any spelling.
    "http://127.0.0.1/",
    "http://127.0.0.1:6379/",
    "http://localhost:9001/",
    "https://localhost/",
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/",
    "https://10.0.0.1/",
    "http://2130706433:9001/",
    "http://0x7f.1:9001/",
    "http://0177.0.0.1:9001/",
    "http://127.1:9001/",
    "http://[::1]:9001/",
    "http://[::ffff:127.0.0.1]:9001/",
    "https://[fd00::1]/",
    # Two readings of one address.
    "https://user:pass@logs.example.net/",
    "https://logs.example.net@evil.example/",
    "https://:@logs.example.net/",
    "https://u@logs.example.net/",
    "https://logs.example.net:443@evil.example/",
    "https://evil.example\\@logs.example.net/",
    "https://logs.example.net\\.evil.example/",
    "https://logs.example.net%2f.evil.example/",
    "https://logs.example.net\t/",
    "https://logs.example.net\r\nHost: evil/",
    "https://logs\u3002example\u3002net.evil.example/",
    # Not http at all.
    "file:///etc/passwd",
    "ftp://logs.example.net/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "//logs.example.net/",
    "/logs/1",
    "logs.example.net/1",
    "https://",
    "https:///x",
    "https://logs.example.net:99999/",
    "https://logs.example.net:x/",
    "https://[::1/",
    "https://xn--/",
    "",
    "https://logs.example.net/" + "x" * 8000,
]


@pytest.mark.parametrize("address", ALLOWED)
def test_allowed(address: str) -> None:
    """The API's own origin and the named hosts, encrypted or on this machine."""
    assert PLACES.check(address) == httpx.URL(address)


@pytest.mark.parametrize("address", REFUSED)
def test_refused(address: str) -> None:
    """Everything else, with a reason that shows neither path nor query nor credentials."""
    with pytest.raises(RefusedPlaceError) as caught:
        PLACES.check(address)
    reason = str(caught.value)
    assert reason.isprintable()
    assert "pass" not in reason
    assert "meta-data" not in reason


@pytest.mark.parametrize("address", [*ALLOWED, *REFUSED])
def test_nothing_named_allows_the_api_alone(address: str) -> None:
    """Without KINETIC_LOGS_HOSTS only the API's own scheme, host and port are left."""
    try:
        url = LogPlaces(BASE).check(address)
    except RefusedPlaceError:
        return
    assert (url.scheme, url.host, url.port) == ("https", "kinetic.example.com", 8443)


def test_own_is_scheme_host_and_port() -> None:
    """The key goes to the API itself, and not to whatever else answers on its host."""
    own = {
        "https://kinetic.example.com:8443/x": True,
        "https://KINETIC.EXAMPLE.COM:8443/x": True,
        "http://kinetic.example.com:8443/x": False,
        "https://kinetic.example.com/x": False,
        "https://logs.example.net/x": False,
    }
    assert {address: PLACES.is_own(httpx.URL(address)) for address in own} == own


def test_a_port_that_is_the_default_may_be_written_or_not() -> None:
    """`https://host` and `https://host:443` are one origin; port 0 is another one, and none."""
    places = LogPlaces("http://kinetic.example.com")
    assert places.is_own(places.check("http://kinetic.example.com:80/x"))
    with pytest.raises(RefusedPlaceError):
        places.check("http://kinetic.example.com:0/x")


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/other?x=1", "https://logs.example.net/other?x=1"),
        ("next", "https://logs.example.net/a/next"),
        ("//a.storage.example.org/x", "https://a.storage.example.org/x"),
        ("//evil.example/x", None),
        ("http://logs.example.net/x", None),
        ("file:///etc/passwd", None),
        ("https://169.254.169.254/", None),
    ],
)
def test_redirects_are_checked_where_they_lead(location: str, leads_to: str | None) -> None:
    """A relative one is taken from where it stood; each is judged as the first address was."""
    here = PLACES.check("https://logs.example.net/a/b")
    if leads_to is None:
        with pytest.raises(RefusedPlaceError):
            PLACES.check(location, here)
    else:
        assert str(PLACES.check(location, here)) == leads_to


@pytest.mark.parametrize(
    "text", ["", "*", "*.com", "*.0.0.1", "a/b", "a?b", "u@a", "a#b", "a b", "*.*.com", "a:0", "a:x"]
)
def test_what_is_no_entry(text: str) -> None:
    """An entry that says something else, or nearly anything, is an error and not a hole."""
    with pytest.raises(ValueError, match=r"not a host name|too wide"):
        AllowedHost.read(text)


@given(st.text(max_size=60) | st.builds("https://{}/x".format, st.text(max_size=40)))
def test_any_text_is_judged(address: str) -> None:
    """What comes from strangers is allowed or refused, and raises nothing else."""
    try:
        url = PLACES.check(address)
    except RefusedPlaceError:
        return
    assert url.host in ("kinetic.example.com", "logs.example.net", "minio.internal", "127.0.0.1") or (
        url.host.endswith(".storage.example.org")
    )
