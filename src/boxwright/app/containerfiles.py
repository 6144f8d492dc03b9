"""What a container definition asks of the disk."""

from __future__ import annotations

import os
import stat
from typing import Protocol

from boxwright.frontends.container.wanted import LocalFile
from boxwright.frontends.package.wanted import Found
from boxwright.model.span import Span

LARGEST_TEMPLATE = 16 << 20


class Definitions(Protocol):
    """Finds definitions of packages."""

    def find(self, reference: str, near: str, where: Span | None) -> Found:
        """The definition that a reference names."""
        ...

    def debian_package(self, package: str, where: Span | None) -> str:
        """What a distribution's package is pinned to."""
        ...


class DirectoryFiles:
    """Files below the definition's directory."""

    def __init__(self, directory: str, definitions: Definitions) -> None:
        self._directory = directory
        self.find = definitions.find
        self.debian_package = definitions.debian_package

    def kind(self, path: str) -> str:
        """``directory``, ``file`` or nothing."""
        whole = os.path.join(self._directory, path)
        if os.path.isdir(whole):
            return "directory"
        return "file" if os.path.lexists(whole) else ""

    def is_inside(self, path: str) -> bool:
        """Whether what it stands for, also by links, is below the definition's directory."""
        top = os.path.realpath(self._directory)
        return f"{os.path.realpath(os.path.join(top, path))}/".startswith(f"{top.rstrip('/')}/")

    def files(self, path: str) -> tuple[LocalFile, ...]:
        """Every file and every empty directory below a directory, or the file itself."""
        whole = os.path.join(self._directory, path)
        if not os.path.isdir(whole):
            return (self._file(whole, ""),)
        found: list[LocalFile] = []
        for parent, directories, names in os.walk(whole):
            directories.sort()
            links = [name for name in directories if os.path.islink(f"{parent}/{name}")]
            found += [
                self._file(f"{parent}/{name}", os.path.relpath(f"{parent}/{name}", whole)) for name in (*names, *links)
            ]
            if not directories and not names:
                found.append(self._file(parent, os.path.relpath(parent, whole) if parent != whole else ""))
        return tuple(sorted(found))

    @staticmethod
    def _file(whole: str, path: str) -> LocalFile:
        status = os.lstat(whole)
        text = None
        if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_TEMPLATE:
            with open(whole, "rb") as file:
                data = file.read()
            try:
                text = data.decode("utf-8") if b"\0" not in data else None
            except UnicodeDecodeError:
                text = None
        return LocalFile(path, stat.S_IMODE(status.st_mode), text)
