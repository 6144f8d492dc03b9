from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.steps.redaction import SHOWN, Redactor


def redacted(secrets: list[bytes], pieces: list[bytes]) -> bytes:
    said: list[bytes] = []
    redactor = Redactor(secrets, said.append)
    for piece in pieces:
        redactor.write(piece)
    redactor.flush()
    return b"".join(said)


@pytest.mark.parametrize(
    ("secrets", "pieces", "shown"),
    [
        ([b"secret"], [b"a secret b"], b"a *** b"),
        ([b"secret\n"], [b"a sec", b"ret b"], b"a *** b"),
        ([b"secret"], [b"s", b"e", b"c", b"r", b"e", b"t"], b"***"),
        ([b"secret"], [b"sec"], b"sec"),
        ([b"abab"], [b"aba", b"bab"], b"***ab"),
        ([b"abc", b""], [b"abc"], b"abc"),
        ([b"first line\nsecond line\n"], [b"x first line\r\ny second line"], b"x ***\r\ny ***"),
        ([b"long-secret", b"long"], [b"long-secret long"], b"*** ***"),
        ([], [b"any", b"thing"], b"anything"),
    ],
)
def test_cases(secrets: list[bytes], pieces: list[bytes], shown: bytes) -> None:
    assert redacted(secrets, pieces) == shown


PIECES = st.lists(st.binary(max_size=6))


@given(st.binary(min_size=4, max_size=8), PIECES, PIECES, st.integers(1, 7))
def test_never_shown_however_it_comes(secret: bytes, before: list[bytes], after: list[bytes], cut: int) -> None:
    lines = [line.strip() for line in secret.splitlines() if len(line.strip()) >= 4]
    said = redacted([secret], [*before, secret[:cut], secret[cut:], *after])
    if SHOWN not in secret:
        assert all(line not in said for line in lines)
    if not lines:
        assert said == b"".join([*before, secret, *after])
