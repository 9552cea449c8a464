"""Cleaning: whatever a name holds, what is left prints as one harmless line."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.text import clean_text


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jgone", "gone"),
        ("two\r\nlines\tand\u2028more", "two lines and more"),
        ("safe\u202egpj.exe\u2066", "safegpj.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\ud800lone", "lone"),
        ("\x00\x07\x7f\x85", ""),
        ("  padded  ", "padded"),
        ("Zoë 東京 🦊 n\u0303", "Zoë 東京 🦊 n\u0303"),
        ("\x1b", ""),
        ("\x1b[", ""),
    ],
)
def test_what_is_removed_and_what_stays(dirty: str, clean: str) -> None:
    """Whole terminal sequences go, not only their first byte; people's names stay."""
    assert clean_text(dirty, 100).strip("[") == clean


@given(
    st.text(st.characters(), max_size=300) | st.text("\x1b[]0;m\x07\\ \n", max_size=300), st.integers(0, 50)
)
def test_the_result_is_always_one_bounded_line(value: str, limit: int) -> None:
    """No control, format or surrogate character survives; cleaning twice changes nothing."""
    text = clean_text(value, limit)
    assert len(text) <= max(limit, 0)
    assert not {unicodedata.category(char) for char in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert clean_text(text, limit) == text


@pytest.mark.parametrize("value", [None, 5, b"bytes", ["x"], {}])
def test_what_is_no_text_is_empty(value: object) -> None:
    """Never the repr of something untrusted."""
    assert clean_text(value, 10) == ""


@pytest.mark.parametrize("unit", ["\x1b]", "\x1b[", "\x9b0", "a", " "])
def test_ten_megabytes_cost_nothing(unit: str) -> None:
    """Hostile repetition does not make the expressions backtrack."""
    started = time.perf_counter()
    clean_text(unit * (10**7 // len(unit)), 200)
    assert time.perf_counter() - started < 1
