"""Resolved definitions, kept between runs: a build with nothing to do reads no YAML.

An entry holds as long as every path that was looked at looks the same (time of change, size, inode), this program's
own frontend too. What can't be read is as if it weren't there.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from boxwright.app.packagefiles import DefinitionFiles, stamp
from boxwright.frontends.package.wanted import Found, Resolved

Entry = tuple[tuple[tuple[str, str], ...], Resolved]


class ResolvedCache:
    """The resolved definitions of one circumstance (`name`): trees, platform, pins, time."""

    def __init__(self, directory: str, name: str, files: DefinitionFiles) -> None:
        self._path = f"{directory}/{name}"
        self._files = files
        self._changed = False
        self._entries: dict[str, Entry] = {}
        try:
            with open(self._path, "rb") as file:
                self._entries = msgspec.msgpack.decode(file.read(), type=dict[str, Entry])
        except (OSError, msgspec.MsgspecError):
            self._entries = {}

    def resolve(self, found: Found, how: Callable[[Found], Resolved]) -> Resolved:
        """The resolved definition, by `how` where what was kept no longer holds."""
        key = f"{found.path}\0{found.version}"
        entry = self._entries.get(key)
        if entry is not None and all(self._files.look(path) == seen for path, seen in entry[0]):
            return entry[1]
        with self._files.noting() as noted:
            resolved = how(found)
        self._entries[key] = (tuple(noted.items()), resolved)
        self._changed = True
        return resolved

    def save(self) -> None:
        """Keep what is new; a store that can't be written is no reason to fail."""
        if not self._changed:
            return
        part = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o711, exist_ok=True)
            with open(part, "wb") as file:
                file.write(self._encoded())
            os.rename(part, self._path)
        except OSError:
            return

    def _encoded(self) -> bytes:
        """Without what looked at names of files that are no text: those are looked at anew each time."""
        try:
            return msgspec.msgpack.encode(self._entries)
        except UnicodeEncodeError:
            return msgspec.msgpack.encode({key: entry for key, entry in self._entries.items() if _is_text(key, entry)})


def _is_text(key: str, entry: Entry) -> bool:
    try:
        msgspec.msgpack.encode((key, entry))
    except UnicodeEncodeError:
        return False
    return True


def frontend_stamp() -> str:
    """Changes whenever the code that resolves definitions does."""
    from boxwright.frontends import package

    directory = os.path.dirname(package.__file__ or "")
    return "".join(stamp(f"{directory}/{name}") for name in sorted(os.listdir(directory)) if name.endswith(".py"))
