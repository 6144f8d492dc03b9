"""What the writers for system containers want to know of a tree."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field

from boxwright.images.tarstream import changed, open_content
from boxwright.model.image import Snapshot
from boxwright.model.tree import DIRECTORY, FILE
from boxwright.ports import TreeFile, TreeReader

_INIT = frozenset({"sbin/init", "usr/sbin/init", "bin/init", "usr/bin/init", "etc/init", "init"})
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_MOST = 64 << 10

LXC_ARCHITECTURES = {
    "amd64": "x86_64",
    "386": "i686",
    "arm64": "aarch64",
    "arm": "armv7l",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True)
class TreeFacts:
    """`init`: the path of the program that boots the system, empty for an application. `release`: os-release."""

    init: str
    release: dict[str, str] = field(default_factory=dict)
    paths: frozenset[str] = frozenset()

    @property
    def is_system(self) -> bool:
        """Whether there is something to boot."""
        return bool(self.init)


def facts_of(reader: TreeReader, snapshot: Snapshot) -> TreeFacts:
    """Look through the manifest of a tree; at most one small file is read."""
    init, releases, paths = "", dict[str, TreeFile](), set[str]()
    for file in reader.walk(snapshot):
        if file.path in _INIT and file.entry.kind != DIRECTORY and not init:
            init = "/" + file.path
        elif file.path in _OS_RELEASE and file.entry.kind == FILE and file.entry.size <= _MOST:
            releases[file.path] = file
        elif file.path.startswith("etc/") and file.path.count("/") == 1:
            paths.add(file.path)
    found = next((releases[path] for path in _OS_RELEASE if path in releases), None)
    return TreeFacts(init, _os_release(found) if found else {}, frozenset(paths))


def _os_release(file: TreeFile) -> dict[str, str]:
    """The fields of os-release(5); a line that can't be read is left out."""
    descriptor = open_content(file.path, file.entry.size, file.physical)
    with os.fdopen(descriptor, "rb") as stream:
        text = stream.read(file.entry.size).decode("utf-8", "replace")
    if len(text.encode("utf-8", "replace")) < file.entry.size:
        raise changed(file.path, "it became shorter while it was read")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.strip().partition("=")
        if found and name.isidentifier():
            fields[name] = _unquoted(value)
    return fields


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value
