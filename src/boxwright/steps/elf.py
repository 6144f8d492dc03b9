"""What an ELF file says of shared libraries (System V ABI, chapters 4 and 5; symbol versions: LSB Core, chapter 10)."""

from __future__ import annotations

import struct
from typing import NamedTuple

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 5, 14, 15, 29
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
LONGEST = 4096


class Elf(NamedTuple):
    """`versions` are those that it needs, as ``SONAME`` with ``VERSION``; `defines` those that it has."""

    machine: int
    bits: int
    soname: str
    needed: tuple[str, ...]
    interpreter: str
    search: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    defines: tuple[str, ...]


def read_elf(path: str) -> Elf | None:
    """The file's facts; None where it is no dynamic ELF file, or a damaged one."""
    with open(path, "rb", buffering=0) as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or len(head) < 52:
            return None
        data = head + file.read()
    try:
        return _Reader(data).read()
    except (struct.error, IndexError, ValueError):
        return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._wide = data[4] == 2
        self._order = "<" if data[5] == 1 else ">"
        self._loads: list[tuple[int, int, int]] = []
        self._strings = 0

    def _at(self, layout: str, offset: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + layout, self._data, offset)

    def read(self) -> Elf | None:
        machine = self._at("H", 18)[0]
        table = self._at("Q", 32)[0] if self._wide else self._at("I", 28)[0]
        size, count = self._at("HH", 54 if self._wide else 42)
        dynamic, interpreter = None, ""
        for number in range(count):
            kind, offset, address, length = self._segment(table + number * size)
            if kind == PT_LOAD:
                self._loads.append((address, offset, length))
            elif kind == PT_DYNAMIC:
                dynamic = (offset, length)
            elif kind == PT_INTERP:
                interpreter = self._data[offset : offset + length].rstrip(b"\0").decode("utf-8", "replace")
        if dynamic is None:
            return None
        tags = self._tags(*dynamic)
        self._strings = self._offset(tags[DT_STRTAB][0])
        search = [self._string(value) for tag in (DT_RPATH, DT_RUNPATH) for value in tags.get(tag, [])]
        return Elf(
            machine,
            64 if self._wide else 32,
            self._string(tags[DT_SONAME][0]) if DT_SONAME in tags else "",
            tuple(self._string(value) for value in tags.get(DT_NEEDED, [])),
            interpreter,
            tuple(search),
            tuple(self._needed_versions(tags)),
            tuple(self._defined_versions(tags)),
        )

    def _segment(self, at: int) -> tuple[int, int, int, int]:
        if self._wide:
            kind, _, offset, address, _, length = self._at("IIQQQQ", at)
        else:
            kind, offset, address, _, length = self._at("IIIII", at)
        return kind, offset, address, length

    def _tags(self, offset: int, length: int) -> dict[int, list[int]]:
        tags: dict[int, list[int]] = {}
        layout, size = ("qQ", 16) if self._wide else ("iI", 8)
        for at in range(offset, offset + length, size):
            tag, value = self._at(layout, at)
            if tag == 0:
                break
            tags.setdefault(tag, []).append(value)
        return tags

    def _offset(self, address: int) -> int:
        for start, offset, length in self._loads:
            if start <= address < start + length:
                return address - start + offset
        raise ValueError("an address in no segment")

    def _string(self, number: int) -> str:
        start = self._strings + number
        end = self._data.index(b"\0", start, start + LONGEST)
        return self._data[start:end].decode("utf-8", "replace")

    def _needed_versions(self, tags: dict[int, list[int]]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        if DT_VERNEED not in tags:
            return found
        at = self._offset(tags[DT_VERNEED][0])
        for _ in range(tags[DT_VERNEEDNUM][0]):
            _, count, file, first, following = self._at("HHIII", at)
            entry = at + first
            for _ in range(count):
                _, _, _, name, next_entry = self._at("IHHII", entry)
                found.append((self._string(file), self._string(name)))
                entry += next_entry
            at += following
        return found

    def _defined_versions(self, tags: dict[int, list[int]]) -> list[str]:
        found: list[str] = []
        if DT_VERDEF not in tags:
            return found
        at = self._offset(tags[DT_VERDEF][0])
        for _ in range(tags[DT_VERDEFNUM][0]):
            _, _, _, _, _, first, following = self._at("HHHHIII", at)
            found.append(self._string(self._at("I", at + first)[0]))
            at += following
        return found
