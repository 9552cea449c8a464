"""The ledger: the only place that speaks Redis. Knows the domain, nothing else of the worker."""

from worker.ledger import _redis_py  # noqa: F401  # first: see there
from worker.ledger.commits import ANY, Admission, Outcome, Rate
from worker.ledger.connection import Connection
from worker.ledger.errors import LedgerError, LedgerFormatError, LedgerUnavailable
from worker.ledger.gate import GateState
from worker.ledger.jobs import Turn
from worker.ledger.ledger import Claim, Ledger

__all__ = [
    "ANY",
    "Admission",
    "Claim",
    "Connection",
    "GateState",
    "Ledger",
    "LedgerError",
    "LedgerFormatError",
    "LedgerUnavailable",
    "Outcome",
    "Rate",
    "Turn",
]
