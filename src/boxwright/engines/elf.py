"""Programs of some hundred bytes for containers that may hold nothing: ELF executables without sections.

ELF: Tool Interface Standard 1.2.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_BASE = 0x400000
_HEADERS = 64 + 56
_NUMBERS = {"x86_64": 62, "aarch64": 183}
_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}


def executable(codes: Mapping[str, bytes], machine: str) -> bytes:
    """The code for this kind of machine, as uname(2) or an image names it, ready to run. Raises KeyError for others."""
    name = _NAMES.get(machine, machine)
    code = codes[name]
    size = _HEADERS + len(code)
    start = b"\x7fELF\x02\x01\x01" + bytes(9)
    numbers = (2, _NUMBERS[name], 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    header = start + struct.pack("<HHIQQQIHHHHHH", *numbers)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
