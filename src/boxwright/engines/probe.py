"""Asks a port from inside a container, whatever its image holds: for engines whose containers are out of reach here.

The program reads once from its standard input: sixteen bytes of a socket address (ip(7)), and a request of up to 4,080
bytes. It connects, sends the request, and writes what comes back until the other side ends; without a request it ends
when it is connected. It exits with 1 where nobody listens. It sets itself no time limit: who starts it does.

    read(0, buffer, 4096); socket(AF_INET, SOCK_STREAM); connect(...); write(...); while read(...) > 0: write(1, ...)
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from boxwright.engines.elf import executable

PROBE = "/.boxwright-probe"
"""Where it is in a container."""

_X86_64 = bytes.fromhex(
    "4881ec0010000031c031ff4889e6ba001000000f054883f8107c714c8d60f0b829000000bf02000000be0100000031d20f0585c07856"
    "89c3b82a00000089df4889e6ba100000000f0585c0783f4d85e47436b80100000089df488d7424104c89e20f0531c089df4889e6ba00"
    "1000000f0585c07e1389c2b801000000bf010000004889e60f05ebdb31ffeb05bf01000000b83c0000000f05"
)
_AARCH64_WORDS = """
    D14007FF D2800000 910003E1 D2820002 D28007E8 D4000001 F1004014 5400044B D2800040 D2800021 D2800002 D28018C8
    D4000001 B7F80380 AA0003F3 910003E1 D2800202 D2801968 D4000001 B7F802C0 B4000274 AA1303E0 910043E1 AA1403E2
    D2800808 D4000001 AA1303E0 910003E1 D2820002 D28007E8 D4000001 F100001F 540000ED AA0003E2 D2800020 910003E1
    D2800808 D4000001 17FFFFF4 D2800000 14000002 D2800020 D2800BA8 D4000001
"""
_AARCH64 = b"".join(struct.pack("<I", int(word, 16)) for word in _AARCH64_WORDS.split())


def probe_program(machine: str) -> bytes:
    """The program for this kind of machine, as uname(2) or an image names it. Raises KeyError for others."""
    return executable({"x86_64": _X86_64, "aarch64": _AARCH64}, machine)


def probe_input(address: str, port: int, request: bytes = b"") -> bytes:
    """What the program reads."""
    packed = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + ipaddress.IPv4Address(address).packed
    return packed + bytes(8) + request
