"""Text from untrusted answers, made safe to store, log and print on one line of a terminal.

Owns the cleaning of names and explanations. Knows nothing about where they came from.
"""

from __future__ import annotations

import re
import unicodedata

_TERMINAL_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor moves, screen clears
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC: window titles, hyperlinks, clipboards
)
"""Whole sequences: without this, dropping the escape character alone would leave `[31m` in the text.

Both branches consume each character once, so that hostile text costs linear time.
"""

_DROPPED = frozenset({"Cc", "Cf", "Cs"})
"""Controls, formats (bidi overrides, zero-width characters), and lone surrogates, which no encoder takes."""

_READ_AHEAD = 16
"""Characters looked at per character kept: enough for heavy markup, and ten megabytes cost nothing."""


def clean_text(value: object, limit: int) -> str:
    r"""Return `value` as one printable line of at most `limit` characters; "" when it is no text.

    Terminal sequences, control characters and bidi controls are removed, white space is folded to
    single blanks. A cut is shown by a final `…`.

    >>> clean_text("Prior\tauth \x1b[31mred\x1b[0m \u202egnp.exe", 40)
    'Prior auth red gnp.exe'
    >>> clean_text("a" * 50, 5), clean_text(None, 5)
    ('aaaa…', '')
    """
    if not isinstance(value, str) or limit < 1:
        return ""
    head = value[: limit * _READ_AHEAD]
    # Printable text holds nothing of what is removed, and no white space but blanks. Almost all is printable.
    text = " ".join((head if head.isprintable() else _printable(head)).split())
    if len(text) > limit or len(value) > len(head):
        return text[: limit - 1].rstrip() + "…"
    return text


def _printable(text: str) -> str:
    return "".join(
        " " if char.isspace() else char
        for char in _TERMINAL_SEQUENCE.sub("", text)
        if char.isspace() or unicodedata.category(char) not in _DROPPED
    )
