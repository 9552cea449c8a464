"""The only place that speaks HTTP. Knows the domain; knows no settings, no ledger and no log."""

from worker.kinetic.client import KineticClient
from worker.kinetic.errors import (
    KineticError,
    NotFound,
    Throttled,
    Unauthorized,
    Unreachable,
    Unreadable,
)
from worker.kinetic.listing import Page
from worker.kinetic.options import Endpoint, ListContract

__all__ = [
    "Endpoint",
    "KineticClient",
    "KineticError",
    "ListContract",
    "NotFound",
    "Page",
    "Throttled",
    "Unauthorized",
    "Unreachable",
    "Unreadable",
]
