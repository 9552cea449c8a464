"""Names of time zones as people write them, and the nearest ones to a name that is none.

Owns the way from text to a zone of the IANA database, which comes with the `tzdata` package where the system
has none.
"""

from __future__ import annotations

from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

_LONGEST_NAME = 100
_SUGGESTIONS = 3


class ZoneNameError(ValueError):
    """There is no zone of that name.

    Attributes:
        near: the nearest names, best first; may be empty.
    """

    def __init__(self, near: tuple[str, ...]) -> None:
        super().__init__("is not a time zone")
        self.near = near


def parse_zone(text: str) -> ZoneInfo:
    """Return the zone of an IANA name, in any case.

    Raises:
        ZoneNameError: with the nearest names.

    >>> str(parse_zone("america/new_york"))
    'America/New_York'
    """
    # Looked up in the list, never opened as given: `ZoneInfo` takes a name for the path of a file.
    name = "_".join(text[:_LONGEST_NAME].split()).casefold()
    known = {each.casefold(): each for each in available_timezones()}
    if name not in known:
        raise ZoneNameError(_near(name, known))
    return ZoneInfo(known[name])


def _near(name: str, known: dict[str, str]) -> tuple[str, ...]:
    """Return the names that are spelt alike; people also leave out the region, and write only the city."""
    cities: dict[str, list[str]] = {}
    for each in sorted(known):
        cities.setdefault(each.rpartition("/")[2], []).append(each)
    of_a_city = cities.get(name.rpartition("/")[2], [])
    alike = get_close_matches(name, known, n=_SUGGESTIONS, cutoff=0.75)
    alike += [full for city in get_close_matches(name, cities, n=1, cutoff=0.75) for full in cities[city]]
    return tuple(known[each] for each in dict.fromkeys([*of_a_city, *alike]))[:_SUGGESTIONS]
