"""A figure, what it has to be, and the table of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        what: named for people.
        values: one from each repeated run.
        unit: behind the figure, such as ` ms`; "" for a ratio.
        at_least, at_most: what it has to be; neither for a figure that is only told.
        detail: what it was made of: the raw figures of the last run.
        digits: behind the point.
    """

    what: str
    values: tuple[float, ...]
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""
    digits: int = 2

    @property
    def middle(self) -> float:
        """The median over the runs: what is held against the target."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether it is what it has to be; None when it does not have to be anything."""
        if self.at_least is None and self.at_most is None:
            return None
        enough = self.at_least is None or self.middle >= self.at_least
        return enough and (self.at_most is None or self.middle <= self.at_most)

    def text(self, value: float) -> str:
        """Return a value as it is shown.

        >>> Figure("of memory", (1234.5,), " bytes", digits=0).text(1234.5)
        '1,234 bytes'
        """
        return f"{value:,.{self.digits}f}{self.unit}"

    @property
    def spread(self) -> str:
        """The least and the most of the runs; "" when there was one."""
        if len(self.values) == 1:
            return ""
        return f"{min(self.values):,.{self.digits}f}-{max(self.values):,.{self.digits}f}"

    @property
    def target(self) -> str:
        """What it has to be, in words."""
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        return " ".join(f"{sign} {bound:,g}{self.unit}" for sign, bound in bounds if bound is not None)

    def as_object(self) -> dict[str, object]:
        """Return it for JSON."""
        bounds = {"at_least": self.at_least, "at_most": self.at_most}
        return {
            "what": self.what,
            "unit": self.unit.strip(),
            "figure": self.middle,
            "values": list(self.values),
            **{name: bound for name, bound in bounds.items() if bound is not None},
            "met": self.met,
            "detail": self.detail,
        }


TITLES = ("what", "target", "figure", "spread", "", "made of")
_MARKS = {True: "✓", False: "✗", None: ""}


def table(figures: Iterable[Figure]) -> list[str]:
    r"""Return the lines of a table of figures.

    >>> print(*table([Figure("idle", (0.4, 0.5, 0.45), "%", at_most=1, detail="0.4 s of 90 s")]), sep="\n")
    what  target  figure  spread        made of
    idle  ≤ 1%    0.45%   0.40-0.50  ✓  0.4 s of 90 s
    """
    rows: list[Sequence[str]] = [TITLES]
    rows += [(f.what, f.target, f.text(f.middle), f.spread, _MARKS[f.met], f.detail) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
