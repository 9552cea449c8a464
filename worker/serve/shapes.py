"""How a metric family is written here: its prefix, and values by labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

PREFIX = "kinetic_retry"
WORD = re.compile(r"[a-z0-9_]{1,60}", re.ASCII)
"""What a label value must look like that is meant to be one of a few words of ours."""


def gauge(
    name: str, text: str, labels: Sequence[str] = (), values: Iterable[tuple[Sequence[str], float]] = ()
) -> GaugeMetricFamily:
    """Return a gauge with a value for each combination of labels."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def counter(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> CounterMetricFamily:
    """Return a counter; `_total` is put behind its name."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family
