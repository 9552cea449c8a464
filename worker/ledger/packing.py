"""How what is stored is made small.

Everything is JSON without blanks. The record of a lineage that has ended is packed as well: most records are
of such, and are kept for weeks. Ids and times are all that differs from one to the next. So it is deflated
with the words that every record has, and written in letters: what is stored stays JSON, and `docs/ledger.md`
shows how to read it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

WORDS = (
    b'"state":"cancelled","reason":"cancelled_by_person","state":"rejected","reason":"validation_error","r'
    b'eason":"policy_disabled","reason":"log_rule","reason":"not_found","undated":true,"order":{"wish":"re'
    b'try","ended_before":"intent":{"token":"","of":"","at":1,"lease_until":1,"doubted":true},"due_at":1,"'
    b'undelivered":1,"conflicts":1,"missing_since":1,"strikes":2,"struck_since":1,"overruled":"","source":'
    b'"track","outcome":"unknown","joined":true,"state":"exhausted","since":1,"reason":"deadline_passed","'
    b'reason":"deterministic","reason":"attempts_used_up","detail":" of  attempts were made","state":"reco'
    b'vered","since":17,"reason":"completed","workflow_version":"-4","workflow":"-4","workflow_name":"","f'
    b'ingerprint":"","source":"list","root_failed_at":17,"seen_at":17,"failing":"-4","last_failed_at":17,"'
    b'failure_stamp":17,"attempts":[{"clone":"-4","delay_ms":,"submitted_at":17,"accepted_at":17,"evidence'
    b'":"201","alive":true,"ended_at":17,"outcome":"failed"},{"clone":"-4","outcome":"completed"}],"delay_'
    b'ms":,"policy":"default","failed_as":{"steps":,"actions":,"duration_ms":}}'
)
"""Never to be changed: what was packed with them cannot be read without. Other words need another field."""


compact = json.JSONEncoder(separators=(",", ":")).encode
"""Return a value as JSON without blanks."""


def compact_fields(fields: Mapping[str, Any]) -> str:
    """Return fields as `compact` does, those that are absent or empty left out; a zero is a value."""
    return compact({name: value for name, value in fields.items() if value not in (None, "")})


def pack(text: str) -> str:
    """Return a text in fewer letters, none of which JSON would escape."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS, zdict=WORDS)
    return base64.b85encode(deflate.compress(text.encode()) + deflate.flush()).decode()


def unpack(packed: str) -> str:
    """Return the text that was packed.

    Raises:
        ValueError: it is damaged.
    """
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=WORDS)
    try:
        text = inflate.decompress(base64.b85decode(packed))
    except zlib.error as exc:
        raise ValueError("a packed record is damaged") from exc
    if not inflate.eof:
        raise ValueError("a packed record is cut off")
    return text.decode()
