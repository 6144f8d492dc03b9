"""The first process of a build container whose tree has no init: a program that waits, in some hundred bytes.

An image may hold no shell at all, so the container brings its own, which calls pause(2) for ever (on arm64, which has
no pause, ppoll(2) without descriptors).
"""

from __future__ import annotations

import struct

from boxwright.engines.elf import executable

PATH = ".boxwright-pause"
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


def pause_program(machine: str) -> bytes:
    """The program for this kind of machine, as uname(2) or an image names it. Raises KeyError for others."""
    return executable({"x86_64": _X86_64, "aarch64": _AARCH64}, machine)
