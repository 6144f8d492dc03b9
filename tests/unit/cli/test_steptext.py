from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.cli.steptext import KEPT_LINES, LONGEST_LINE, StepText, clean


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("10%\r20%\r100%", "100%"),
        ("done\r", "done"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("bell\x07 back\x08", "bell back"),
        ("\x9b31mC1", "31mC1"),
        ("a\tb", "a       b"),
        ("\u202eabc", "abc"),
        ("\x1b", ""),
        ("größe", "größe"),
    ],
)
def test_clean_leaves_what_a_terminal_would_show(written: str, shown: str) -> None:
    assert clean(written) == shown


@given(st.text())
def test_clean_leaves_no_control_character(text: str) -> None:
    assert not {char for char in clean(text) if ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0}


@given(st.binary(max_size=200), st.integers(1, 50))
def test_lines_do_not_depend_on_how_the_bytes_came(data: bytes, size: int) -> None:
    whole, pieces = StepText(), StepText()
    expected = whole.feed(data) + whole.end()
    got = [line for at in range(0, len(data), size) for line in pieces.feed(data[at : at + size])] + pieces.end()
    assert got == expected


def test_the_tail_is_the_last_lines_and_the_open_one() -> None:
    text = StepText()
    text.feed("".join(f"{n}\n" for n in range(100)).encode() + b"open")
    assert text.tail(3) == ["98", "99", "open"]
    assert len(text.tail()) == KEPT_LINES


def test_a_line_without_end_is_cut() -> None:
    text = StepText()
    assert text.feed(b"x" * (LONGEST_LINE + 1)) == ["x" * (LONGEST_LINE + 1)]
    assert text.end() == []
