"""What the ledger raises.

LedgerError
├── LedgerUnavailable   Redis cannot be reached or refuses to write: wait and try again
└── LedgerFormatError   a record that this version of the worker cannot read
"""

from __future__ import annotations


class LedgerError(Exception):
    """Anything the ledger raises; `str()` is one readable line without secrets."""


class LedgerUnavailable(LedgerError):
    """Redis is down, loading, out of memory, read-only or too slow. Nothing was lost; try again later."""


class LedgerFormatError(LedgerError):
    """A record was written by a newer worker, or is damaged. It is left as it is."""
