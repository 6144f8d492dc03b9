"""The first process of a build container whose tree has no init: a program that waits, in some hundred bytes.

An image may hold no shell at all, so the container brings its own: an ELF executable without sections that calls
pause(2) for ever (on arm64, which has no pause, ppoll(2) without descriptors). ELF: Tool Interface Standard 1.2.
"""

from __future__ import annotations

import struct

PATH = ".boxwright-pause"
_BASE = 0x400000
_HEADERS = 64 + 56
_X86_64 = bytes.fromhex("b8220000000f05ebf7")  # mov eax,34; syscall; jmp to the beginning
_AARCH64 = struct.pack(
    "<7I",
    0xD2800000,  # mov x0, #0
    0xD2800001,  # mov x1, #0
    0xD2800002,  # mov x2, #0
    0xD2800003,  # mov x3, #0
    0xD2800928,  # mov x8, #73
    0xD4000001,  # svc #0
    0x17FFFFFA,  # b to the beginning
)
_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64), "amd64": (62, _X86_64), "arm64": (183, _AARCH64)}


def pause_program(machine: str) -> bytes:
    """The program for this kind of machine, as uname(2) or an image names it. Raises KeyError for others."""
    number, code = _MACHINES[machine]
    size = _HEADERS + len(code)
    start = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = start + struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
